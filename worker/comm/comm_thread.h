#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "worker/comm/collectives.h"

namespace lockstep {

// What a collective did, for the step's record. Nanoseconds of MonotonicNanos.
struct Span {
  int32_t seq = 0;
  std::string name;
  int64_t bytes = 0, wire_bytes = 0;
  int64_t start_ns = 0;  // handed over by the trainer
  int64_t begin_ns = 0;  // started
  int64_t end_ns = 0;    // done
};

// The one thread that calls the collectives. The trainer hands over operations in the order on which all ranks agree;
// the thread starts each at once and drives all of them forward while the trainer computes. Polling costs the trainer
// a core's time where there are no spare cores, so it naps between polls while the trainer computes and spins only
// while the trainer stands still for it (Wait).
//
// Start… and Wait are called by the trainer alone. Any error (a peer that does not come within the deadline:
// DeadlineExceeded, names the operation and how long) is final: every later Wait returns it.
class CommThread {
 public:
  CommThread(Collectives* collectives, absl::Duration timeout);
  ~CommThread();

  void StartAllReduce(std::string name, absl::Span<std::byte> data, DType dtype, ReduceOp op);
  void StartReduceAndApply(std::string name, absl::Span<std::byte> data, DType dtype, ApplyFn apply);
  void StartTail(StepTail* tail);
  void StartBroadcast(std::string name, absl::Span<std::byte> data, int root);
  void StartBarrier(std::string name);

  // Until everything handed over so far is done.
  absl::Status Wait();
  // The spans of what was done since the last call, in order. After Wait.
  std::vector<Span> TakeSpans();

 private:
  struct Item;
  // laid out by the author
};

}  // namespace lockstep
