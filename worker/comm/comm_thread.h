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
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "worker/comm/collectives.h"
#include "worker/comm/roll_call.h"

namespace lockstep {

// What a collective did, for the step's record. Nanoseconds of MonotonicNanos.
struct Span {
  int32_t seq = 0;  // from 0, counted anew after each TakeSpans
  std::string name;
  std::string algorithm;
  int64_t bytes = 0, wire_bytes = 0;
  int64_t start_ns = 0;  // handed over by the trainer
  int64_t begin_ns = 0;  // started
  int64_t end_ns = 0;    // done
  std::vector<Message> messages;
};

// The one thread that calls the collectives. The trainer hands over operations in the order on which all ranks agree;
// the thread drives them forward while the trainer computes. It has kMostUnderWay of them under way at a time, begun in
// their order, each once the one before has started all that it consists of: so the first to be handed over are the
// first to be done, and the next fills the link while one winds down. Tails are begun at once: a step may go on when
// everybody's tail is there. Polling costs the trainer a core's time where there are no spare cores, so the thread naps
// between polls while the trainer computes and spins only while the trainer stands still for it (Wait).
//
// Start… return the operation's number, for Wait. They and Wait are called by the trainer alone, and do not allocate
// once names have had their usual length for a while. Any error is final: every later Wait returns it, and every later
// Start… does nothing. DeadlineExceeded: a peer has not come; names the operation, how long it has waited, and who is
// missing (RollCall, which listens on this thread also while it has no operation). FailedPrecondition: ranks do not
// start the same operations; names both sides. An operation's deadline counts from when this rank handed it over, and
// those before it were done. What is under way when an error comes or the thread is destroyed is never freed, since
// peers may still write there; its data has to live until the process leaves.
class CommThread {
 public:
  CommThread(Collectives* collectives, absl::Duration timeout);
  // Ends the thread; what is under way is abandoned, so Wait first. After an error of a broken job leave by _exit.
  ~CommThread();

  int64_t StartAllReduce(absl::string_view name, absl::Span<std::byte> data, DType dtype, ReduceOp op);
  // Any operation, as one of several collectives one after the other. `bytes`: what it stands for. `start` runs on the
  // communication thread; it does not allocate here if it is two pointers large.
  using StartFn = std::function<absl::StatusOr<std::unique_ptr<Operation>>(Collectives* collectives)>;
  int64_t StartOperation(absl::string_view name, int64_t bytes, StartFn start);
  // Fills in the tail's own rank, number and digest; ranks that do not do the same get FailedPrecondition from Wait.
  int64_t StartTail(StepTail* tail);
  // Fills in the same of a tail that travels another way.
  void StampTail(StepTail* tail);
  int64_t StartBroadcast(absl::string_view name, absl::Span<std::byte> data, int root);
  int64_t StartBarrier(absl::string_view name);

  // Until everything handed over so far is done.
  absl::Status Wait();
  // Until this one is, whatever else is under way. It is one of the last kQueueItems handed over.
  absl::Status Wait(int64_t number);
  // `error`, of what the ranks do together in another way, as in a window; with what the others say to it, see
  // RollCall::Explain. OK stays OK.
  absl::Status Explain(const absl::Status& error);
  // The spans of what was done since the last call, in order; at most kMostSpans. After Wait.
  std::vector<Span> TakeSpans();
  // The same without allocating in the long run: `spans` is overwritten and its memory used again.
  void TakeSpans(std::vector<Span>* spans);

  static constexpr int kQueueItems = 256;  // Start… waits for room beyond
  static constexpr size_t kMostSpans = 4096;
  static constexpr int kMostUnderWay = 2;

 private:
  enum class Kind { kAllReduce, kTail, kBroadcast, kBarrier, kOperation };
  // A slot of the ring. The trainer writes it before `handed_over_` passes it, the thread reads it until `finished_`
  // does.
  struct Item {
    Kind kind = Kind::kBarrier;
    std::string name;
    int64_t number = 0;
    int64_t bytes = 0;
    uint64_t trail = 0;
    absl::Span<std::byte> data;
    DType dtype = DType::kU8;
    ReduceOp op = ReduceOp::kSum;
    StartFn start;
    StepTail* tail = nullptr;
    int root = 0;
    int64_t start_ns = 0, begin_ns = 0, end_ns = 0;
    int64_t wire_bytes = 0;
    absl::string_view algorithm;
    std::vector<Message> messages;
    bool begun = false;                    // thread
    bool done = false;                     // under mutex_: the trainer may know
    std::unique_ptr<Operation> operation;  // null before it is begun, and once done
  };

  static const char* KindName(Kind kind);
  // The next slot, once there is room; null after an error.
  Item* NewItem(Kind kind, absl::string_view name, int64_t bytes);
  int64_t HandOver(const Item& item);
  template <typename Done>
  absl::Status WaitUntil(Done done);
  Item& At(int64_t number) { return items_[number % kQueueItems]; }

  // The thread's side.
  void Loop();
  absl::Status Begin(Item* item);
  absl::Status BeginNext();
  // The last that was begun, tails left out, has collectives to start before anything else is begun.
  bool StartsMore() {
    if (last_begun_ < first_open_) return false;
    const Item& item = At(last_begun_);
    return item.operation != nullptr && item.operation->starts_more();
  }
  absl::Status PollAll(bool* moved);
  absl::Status Finish(Item* item);
  absl::Status CheckDeadline(const Item& item, int64_t now_ns);
  RollCall::Standing Standing() const;
  absl::Status Describe(const Item& item, const absl::Status& status);
  void Publish();
  void ExplainIfAsked();
  void Abandon();
  // Between two polls, the last of which moved nothing or (`moved`) something.
  void Rest(bool moved);

  Collectives* const collectives_;
  const std::string algorithm_;
  const absl::Duration timeout_;
  std::vector<Item> items_;
  int64_t next_ = 0;           // trainer: items made
  uint64_t digest_ = 0;        // trainer: of the items since the last tail
  uint64_t trail_ = 0;         // trainer: of all items
  int64_t seen_ = 0;           // thread: items handed over, as far as it knows
  int64_t begun_ = 0;          // thread: every item before it has been begun
  int64_t under_way_ = 0;      // thread: begun and not done, tails left out
  int64_t last_begun_ = -1;    // thread: of those, the last
  int64_t first_open_ = 0;     // thread: every item before it is done …
  int64_t open_since_ns_ = 0;  // … since then
  int64_t idle_polls_ = 0;     // thread: polls in a row that moved nothing
  RollCall roll_call_;         // thread

  Mutex mutex_;
  CondVar for_thread_, for_trainer_;
  int64_t handed_over_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  absl::Status to_explain_ ABSL_GUARDED_BY(mutex_);  // not OK: the trainer asks what the other ranks say to it
  std::vector<Span> spans_ ABSL_GUARDED_BY(mutex_);
  size_t span_count_ ABSL_GUARDED_BY(mutex_) = 0;  // spans_ keeps the slots beyond, for their memory
  std::thread thread_;
};

}  // namespace lockstep
