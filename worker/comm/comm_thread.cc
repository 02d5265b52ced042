#include "worker/comm/comm_thread.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/stable_random.h"
#include "common/base/status.h"
#include "worker/comm/poll_pace.h"

namespace lockstep {
namespace {

constexpr absl::Duration kShortestNap = absl::Microseconds(20);
constexpr absl::Duration kLongestNap = absl::Microseconds(100);
// Linux rounds a nap up by the thread's timer slack, 50 us unless told otherwise.
constexpr unsigned long kTimerSlackNanos = 1'000;
constexpr int64_t kNone = -1;
// How much longer than an operation's deadline the trainer waits for the thread to notice it.
constexpr absl::Duration kStuck = absl::Seconds(3);

// Never destroyed: see the class comment.
void KeepForever(std::unique_ptr<Operation> operation) {
  static Mutex* const mutex = new Mutex;
  static auto* const kept = new std::vector<std::unique_ptr<Operation>>;
  MutexLock lock(mutex);
  kept->push_back(std::move(operation));
}

uint64_t DigestText(uint64_t digest, absl::string_view text) {
  for (const char c : text) digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;  // FNV-1a
  return digest;
}

}  // namespace

CommThread::CommThread(Collectives* collectives, absl::Duration timeout)
    : collectives_(collectives),
      algorithm_(collectives->algorithm()),
      timeout_(timeout),
      items_(kQueueItems),
      roll_call_(collectives, timeout),
      thread_([this] { Loop(); }) {}

CommThread::~CommThread() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    for_thread_.NotifyOne();
  }
  thread_.join();
}

// --- the trainer's side

const char* CommThread::KindName(Kind kind) {
  switch (kind) {
    case Kind::kAllReduce:
      return "all-reduce";
    case Kind::kTail:
      return "step tail";
    case Kind::kBroadcast:
      return "broadcast";
    case Kind::kBarrier:
      return "barrier";
    case Kind::kOperation:
      return "operation";
  }
  return "operation";
}

CommThread::Item* CommThread::NewItem(Kind kind, absl::string_view name, int64_t bytes) {
  {
    MutexLock lock(&mutex_);
    while (status_.ok() && next_ - finished_ >= kQueueItems) for_trainer_.WaitFor(&mutex_, timeout_);
    if (!status_.ok()) return nullptr;
  }
  Item& item = At(next_);
  item.kind = kind;
  item.name.assign(name.data(), name.size());
  item.number = next_++;
  item.bytes = bytes;
  item.begun = item.done = false;
  item.start_ns = MonotonicNanos();
  const uint64_t what = Mix({DigestText(0, name), static_cast<uint64_t>(bytes), static_cast<uint64_t>(kind)});
  digest_ = Mix({digest_, what});
  item.trail = trail_ = Mix({trail_, what});
  return &item;
}

int64_t CommThread::HandOver(const Item& item) {
  MutexLock lock(&mutex_);
  handed_over_ = next_;
  for_thread_.NotifyOne();
  return item.number;
}

int64_t CommThread::StartAllReduce(absl::string_view name, absl::Span<std::byte> data, DType dtype, ReduceOp op) {
  Item* const item = NewItem(Kind::kAllReduce, name, static_cast<int64_t>(data.size()));
  if (item == nullptr) return kNone;
  item->data = data;
  item->dtype = dtype;
  item->op = op;
  return HandOver(*item);
}

int64_t CommThread::StartTail(StepTail* tail) {
  Item* const item = NewItem(Kind::kTail, "tail", sizeof(StepTail));
  if (item == nullptr) return kNone;
  StampTail(tail);
  item->tail = tail;
  return HandOver(*item);
}

void CommThread::StampTail(StepTail* tail) {
  tail->rank = collectives_->JobRank(collectives_->rank());
  tail->number = next_;
  tail->digest = std::exchange(digest_, 0);
  tail->mismatch_rank = -1;
}

int64_t CommThread::StartBroadcast(absl::string_view name, absl::Span<std::byte> data, int root) {
  Item* const item = NewItem(Kind::kBroadcast, name, static_cast<int64_t>(data.size()));
  if (item == nullptr) return kNone;
  item->data = data;
  item->root = root;
  return HandOver(*item);
}

int64_t CommThread::StartBarrier(absl::string_view name) {
  Item* const item = NewItem(Kind::kBarrier, name, 0);
  return item != nullptr ? HandOver(*item) : kNone;
}

int64_t CommThread::StartOperation(absl::string_view name, int64_t bytes, StartFn start) {
  Item* const item = NewItem(Kind::kOperation, name, bytes);
  if (item == nullptr) return kNone;
  item->start = std::move(start);
  return HandOver(*item);
}

absl::Status CommThread::Wait() {
  return WaitUntil([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return finished_ == next_; });
}

absl::Status CommThread::Wait(int64_t number) {
  if (number == kNone) return Wait();  // there was an error
  return WaitUntil([this, number]()
                       ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return number < finished_ || At(number).done; });
}

template <typename Done>
absl::Status CommThread::WaitUntil(Done done) {
  MutexLock lock(&mutex_);
  if (status_.ok() && done()) return absl::OkStatus();
  waiting_ = true;
  for_thread_.NotifyOne();
  int64_t last = finished_, give_up_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(timeout_ + kStuck);
  while (status_.ok() && !done()) {
    if (finished_ != last) {
      last = finished_;
      give_up_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(timeout_ + kStuck);
    }
    const int64_t left_ns = give_up_ns - MonotonicNanos();
    if (left_ns > 0) {
      for_trainer_.WaitFor(&mutex_, absl::Nanoseconds(left_ns));
      continue;
    }
    const Item& item = At(finished_);
    status_ = absl::DeadlineExceededError(absl::StrCat("the communication thread is stuck inside a call of the ",
                                                       collectives_->algorithm(), " library, at ", KindName(item.kind),
                                                       " '", item.name, "' (number ", item.number, ")"));
  }
  waiting_ = false;
  return status_;
}

absl::Status CommThread::Explain(const absl::Status& error) {
  if (error.ok()) return error;
  const int64_t give_up_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(kStuck);
  MutexLock lock(&mutex_);
  if (!status_.ok()) return error;
  to_explain_ = error;
  for_thread_.NotifyOne();
  while (status_.ok() && MonotonicNanos() < give_up_ns) {
    for_trainer_.WaitFor(&mutex_, absl::Nanoseconds(give_up_ns - MonotonicNanos()));
  }
  return status_.ok() ? error : status_;
}

std::vector<Span> CommThread::TakeSpans() {
  std::vector<Span> spans;
  TakeSpans(&spans);
  return spans;
}

void CommThread::TakeSpans(std::vector<Span>* spans) {
  MutexLock lock(&mutex_);
  spans_.resize(span_count_);
  spans->swap(spans_);
  span_count_ = 0;
}

// --- the thread's side

void CommThread::Loop() {
  pthread_setname_np(pthread_self(), "communication");
  prctl(PR_SET_TIMERSLACK, kTimerSlackNanos, 0, 0, 0);
  absl::Status status;
  while (status.ok()) {
    {
      MutexLock lock(&mutex_);
      // One sleep: if there is no work afterwards, there may be a question from another rank.
      if (handed_over_ == first_open_ && to_explain_.ok() && !stopped_) {
        for_thread_.WaitFor(&mutex_, roll_call_.period());
      }
      if (stopped_) break;
      seen_ = handed_over_;
    }
    status = BeginNext();
    bool moved = false;
    if (status.ok()) status = PollAll(&moved);
    Publish();
    if (status.ok()) ExplainIfAsked();
    if (status.ok()) Rest(moved);
  }
  if (!status.ok()) roll_call_.SayLast(Standing());
  Abandon();
  MutexLock lock(&mutex_);
  if (status_.ok()) status_ = status.ok() ? absl::CancelledError("the communication thread was ended") : status;
  for_trainer_.NotifyOne();
}

absl::Status CommThread::BeginNext() {
  for (int64_t number = begun_; number < seen_; ++number) {
    Item& item = At(number);
    const bool tail = item.kind == Kind::kTail;
    // In their order: whatever comes first of those that have to wait keeps the others waiting.
    if (item.begun || (!tail && (under_way_ == kMostUnderWay || number > begun_ || StartsMore()))) continue;
    RETURN_IF_ERROR(Begin(&item));
    if (!tail) {
      ++under_way_;
      last_begun_ = number;
    }
    while (begun_ < seen_ && At(begun_).begun) ++begun_;
  }
  return absl::OkStatus();
}

absl::Status CommThread::Begin(Item* item) {
  item->begun = true;
  item->begin_ns = MonotonicNanos();
  roll_call_.Begun(item->number, KindName(item->kind), item->name, item->bytes, item->trail);
  absl::StatusOr<std::unique_ptr<Operation>> operation;
  switch (item->kind) {
    case Kind::kAllReduce:
      operation = collectives_->AllReduce(item->data, item->dtype, item->op);
      break;
    case Kind::kTail:
      operation = collectives_->AllReduceTail(item->tail);
      break;
    case Kind::kBroadcast:
      operation = collectives_->Broadcast(item->data, item->root);
      break;
    case Kind::kBarrier:
      operation = collectives_->Barrier();
      break;
    case Kind::kOperation:
      operation = item->start(collectives_);
      break;
  }
  if (!operation.ok()) return Describe(*item, operation.status());
  item->operation = *std::move(operation);
  return absl::OkStatus();
}

absl::Status CommThread::PollAll(bool* moved) {
  const int64_t before_ns = MonotonicNanos();
  for (int64_t number = first_open_; number < seen_; ++number) {
    Item& item = At(number);
    if (item.operation == nullptr) continue;
    const absl::StatusOr<bool> done = item.operation->Poll();
    if (!done.ok()) return Describe(item, done.status());
    if (*done) {
      *moved = true;
      RETURN_IF_ERROR(Finish(&item));
    }
  }
  const int64_t now_ns = MonotonicNanos();
  *moved = *moved || now_ns - before_ns > kBusyPollNanos;
  for (; first_open_ < begun_ && At(first_open_).operation == nullptr; ++first_open_) open_since_ns_ = now_ns;
  RETURN_IF_ERROR(roll_call_.Listen(Standing(), now_ns));
  if (first_open_ == seen_) return absl::OkStatus();
  // The first is the oldest: handed over before all others.
  return CheckDeadline(At(first_open_), now_ns);
}

RollCall::Standing CommThread::Standing() const {
  return first_open_ < begun_ ? RollCall::Standing{first_open_, false} : RollCall::Standing{begun_ - 1, true};
}

absl::Status CommThread::Finish(Item* item) {
  item->wire_bytes = item->operation->wire_bytes();
  item->algorithm = item->operation->algorithm();
  if (item->algorithm.empty()) item->algorithm = algorithm_;
  item->messages.assign(item->operation->messages().begin(), item->operation->messages().end());
  item->operation.reset();
  item->end_ns = MonotonicNanos();
  if (item->kind != Kind::kTail) --under_way_;
  return item->kind == Kind::kTail ? CheckTail(*item->tail) : absl::OkStatus();
}

absl::Status CommThread::CheckDeadline(const Item& item, int64_t now_ns) {
  const absl::Duration waited = absl::Nanoseconds(now_ns - std::max(item.start_ns, open_since_ns_));
  if (waited > timeout_) return roll_call_.Missing(Standing(), waited, now_ns);
  return roll_call_.AskIfLong(Standing(), waited, now_ns);
}

absl::Status CommThread::Describe(const Item& item, const absl::Status& status) {
  return Annotate(roll_call_.Explain(Standing(), status),
                  absl::StrCat(KindName(item.kind), " '", item.name, "' (number ", item.number, ")"));
}

void CommThread::ExplainIfAsked() {
  absl::Status error;
  {
    MutexLock lock(&mutex_);
    error = to_explain_;
  }
  if (error.ok()) return;
  error = roll_call_.Explain(Standing(), error);
  MutexLock lock(&mutex_);
  status_ = error;
  to_explain_ = absl::OkStatus();
  for_trainer_.NotifyOne();
}

void CommThread::Publish() {
  MutexLock lock(&mutex_);
  bool news = finished_ < first_open_;
  for (int64_t number = first_open_; number < seen_; ++number) {
    Item& item = At(number);
    if (item.done || !item.begun || item.operation != nullptr) continue;
    item.done = news = true;  // before others that were handed over before it
  }
  if (!news) return;
  for (; finished_ < first_open_; ++finished_) {
    Item& item = At(finished_);
    if (span_count_ == kMostSpans) continue;
    if (spans_.size() == span_count_) spans_.emplace_back();
    Span& span = spans_[span_count_];
    span.seq = static_cast<int32_t>(span_count_++);
    span.name.assign(item.name);
    span.algorithm.assign(item.algorithm.data(), item.algorithm.size());
    span.bytes = item.bytes;
    span.wire_bytes = item.wire_bytes;
    span.start_ns = item.start_ns;
    span.begin_ns = item.begin_ns;
    span.end_ns = item.end_ns;
    span.messages.swap(item.messages);
  }
  for_trainer_.NotifyOne();
}

void CommThread::Abandon() {
  for (int64_t number = first_open_; number < seen_; ++number) {
    if (At(number).operation != nullptr) KeepForever(std::move(At(number).operation));
  }
}

void CommThread::Rest(bool moved) {
  idle_polls_ = moved ? 0 : idle_polls_ + 1;
  if (moved || first_open_ == seen_) return;
  {
    MutexLock lock(&mutex_);
    if (handed_over_ > seen_ || stopped_) return;
    if (!waiting_) {
      for_thread_.WaitFor(&mutex_, std::min(kLongestNap, kShortestNap * (1 + idle_polls_ / 8)));
      return;
    }
  }
  PauseBetweenPolls(idle_polls_);
}

}  // namespace lockstep
