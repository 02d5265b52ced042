#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "worker/comm/collectives.h"

namespace lockstep {

// Collectives among the threads of one process, so that whatever sits on Collectives is tested without MPI and under
// tsan. Rank(r) is used by one thread at a time; the group outlives what it gives out. Each rank's bytes on the wire
// are reckoned as those of a direct all-reduce, where a shorter format rounds what every rank sends, and the sum.
class ThreadGroup {
 public:
  explicit ThreadGroup(int world) : world_(world) {}
  std::unique_ptr<Collectives> Rank(int rank);
  int world() const { return world_; }

  // One rank's side of one operation.
  struct Part {
    std::string what;  // kind and size: has to be the same on every rank
    absl::Span<std::byte> data;
    DType dtype = DType::kU8;
    ReduceOp op = ReduceOp::kSum;
    StepTail* tail = nullptr;
    int root = -1;
    int to = -1;  // of a transfer
    Wire wire = Wire::kExact;
    absl::Span<const std::byte> own;  // of an all-gather
  };
  // Rank `rank`'s `number`-th operation is this one; tails are numbered by themselves, downwards from -1.
  void Arrive(int64_t number, int rank, Part part);
  // True: the results are in every rank's buffers.
  absl::StatusOr<bool> Done(int64_t number);
  // A rank that was never asked for by Rank, or whose thread has ended, hears nothing and says nothing.
  void Tell(int from, int to, const RollWord& word);
  int Hear(int rank, RollWord* word);

 private:
  struct Meeting {
    std::vector<Part> parts;
    int arrived = 0;
    bool done = false;
    absl::Status status;
  };
  static void Carry(Meeting* meeting);

  const int world_;
  Mutex mutex_;
  std::map<int64_t, Meeting> meetings_ ABSL_GUARDED_BY(mutex_);
  std::map<int, std::deque<std::pair<int, RollWord>>> words_ ABSL_GUARDED_BY(mutex_);  // by receiver, with the sender
};

}  // namespace lockstep
