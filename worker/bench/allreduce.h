#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/bench/statistics.h"
#include "worker/comm/mpi.h"

namespace lockstep {

struct AllReduceBench {
  std::vector<std::string> algorithms;  // beside the reference; empty: all that are to be had
  std::vector<int64_t> counts;          // of float32
  double seconds = 0.5;                 // of calls, for each algorithm and size
  double timeout = 60;                  // of a call, in seconds
  MpiOptions mpi;
  bool json = false;
  bool break_sum = false;  // adds 1 to one element after one call: the check has to notice
};

// One algorithm at one size. Times are of the slowest rank, in seconds.
struct AllReduceFigures {
  std::string algorithm;
  int64_t bytes = 0;
  int64_t calls = 0;  // that were timed
  double p10_s = 0, p50_s = 0, p90_s = 0;
  double algbw = 0, busbw = 0;  // bytes/s, of p50; as nccl-tests defines them
  double of_limit = 0;          // the time at the limit over p50
  Ratio to_reference;           // time over MPI_Allreduce's, batch by batch
};

// What bounds an all-reduce here.
struct BenchLimit {
  int world = 1, hosts = 1;
  double link = 0;        // bytes/s one way between two hosts, while both send; 0: one host
  double link_alone = 0;  // … while one sends
  double copy = 0;        // bytes/s read and written by memory copies of all ranks of a host at once
  // Seconds that an all-reduce of `bytes` takes at least: each host sends and receives 2(h-1)/h of it, or, on one
  // host, each rank reads and writes it.
  double Seconds(int64_t bytes) const;
};

// All ranks run it. Every call's sums are checked against exact values: DataLoss names size, algorithm and element.
absl::Status RunAllReduceBench(const AllReduceBench& bench, MpiSession* session);

// What rank 0 prints: as lines of at most 100 columns, or as JSON.
std::string LimitText(const BenchLimit& limit);
std::string TableHeader();
std::string TableRow(const AllReduceFigures& figures);
std::string BenchJson(const BenchLimit& limit, const std::vector<AllReduceFigures>& figures);

}  // namespace lockstep
