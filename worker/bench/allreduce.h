#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/bench/bench_algorithms.h"
#include "worker/bench/call_watch.h"
#include "worker/bench/statistics.h"
#include "worker/comm/mpi.h"

namespace lockstep {

struct AllReduceBench {
  std::vector<BenchAlgorithmKind> algorithms;  // beside the reference; empty: the usual ones that are to be had
  std::vector<int64_t> counts;                 // of float32
  double seconds = 0.5;                        // of calls, for each algorithm and size
  double timeout = 60;                         // of a call, in seconds
  MpiOptions mpi;
  int64_t copy_bytes = 64 << 20;  // that a rank copies to find the memory's limit: more than caches hold
  bool json = false;
  std::function<void(const std::string& text)> print;  // rank 0's results
  std::function<void(const std::string& line)> note;   // what else is to be said, on rank 0
};

// One algorithm at one size. Times are in seconds, of the slowest rank: of each call for the quantiles; for `call_s` of
// a batch of calls back to back, over their number, as nccl-tests take it. Where the ranks leave a call one after the
// other, the first of them waits in the next one: the quantiles count that wait once more.
struct AllReduceFigures {
  std::string algorithm;
  int64_t bytes = 0;
  int64_t calls = 0;  // that were timed
  double call_s = 0;  // the median over the batches
  double p10_s = 0, p50_s = 0, p90_s = 0;
  double algbw = 0, busbw = 0;  // bytes/s, of p50; as nccl-tests defines them
  double of_limit = 0;          // the time at the limit over p50
  Ratio to_reference;           // of call_s, to MPI_Allreduce's, batch by batch
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

// Measures the limit, then each algorithm at each size, and says what it found. All ranks run it with the same, but for
// print and note. The algorithms take turns, a batch of calls back to back each.
//
// Every call's sums are checked against exact values, between batches: the calls of a batch each sum what the one
// before left, in small whole numbers, so that an element which any call got wrong on some rank is wrong in the end,
// unless the ranks' errors in it add up to nothing. DataLoss names size, algorithm, element, both values, on the first
// rank that has found one; Aborted on the others. `watch` knows what is under way.
absl::Status RunAllReduceBench(const AllReduceBench& bench, MpiSession* session, CallWatch* watch);

// What rank 0 prints: as lines of at most 100 columns, or as JSON.
std::string LimitText(const BenchLimit& limit);
std::string TableHeader();
std::string TableRow(const AllReduceFigures& figures);
std::string BenchJson(const BenchLimit& limit, const std::vector<AllReduceFigures>& figures);

}  // namespace lockstep
