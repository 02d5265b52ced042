#include "tests/support/thread_collectives.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

class ThreadOperation : public Operation {
 public:
  ThreadOperation(ThreadGroup* group, int64_t number) : group_(group), number_(number) {}
  absl::StatusOr<bool> Poll() override { return group_->Done(number_); }

 private:
  ThreadGroup* const group_;
  const int64_t number_;
};

class ThreadCollectives : public Collectives {
 public:
  ThreadCollectives(ThreadGroup* group, int rank) : group_(group), rank_(rank) {}
  int rank() const override { return rank_; }
  int world() const override { return group_->world(); }
  std::string algorithm() const override { return "threads"; }

  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op,
                                                       Wire wire) override {
    return Start({absl::StrCat("all-reduce of ", data.size()), data, dtype, op});
  }
  absl::StatusOr<std::unique_ptr<Operation>> AllReduceTail(StepTail* tail) override {
    ThreadGroup::Part part{"tail"};
    part.tail = tail;
    return Start(std::move(part));
  }
  absl::StatusOr<std::unique_ptr<Operation>> Broadcast(absl::Span<std::byte> data, int root) override {
    ThreadGroup::Part part{absl::StrCat("broadcast of ", data.size()), data};
    part.root = root;
    return Start(std::move(part));
  }
  absl::StatusOr<std::unique_ptr<Operation>> AllGather(absl::Span<const std::byte> own,
                                                       absl::Span<std::byte> all) override {
    ThreadGroup::Part part{absl::StrCat("all-gather of ", own.size()), all};
    part.own = own;
    return Start(std::move(part));
  }
  absl::StatusOr<std::unique_ptr<Operation>> Barrier() override { return Start({"barrier"}); }
  absl::Status Tell(int rank, const RollWord& word) override {
    group_->Tell(rank_, rank, word);
    return absl::OkStatus();
  }
  absl::StatusOr<int> Hear(RollWord* word) override { return group_->Hear(rank_, word); }

 private:
  std::unique_ptr<Operation> Start(ThreadGroup::Part part) {
    // Tails may overtake the others.
    const int64_t number = part.tail != nullptr ? -next_tail_++ : next_++;
    group_->Arrive(number, rank_, std::move(part));
    return std::make_unique<ThreadOperation>(group_, number);
  }

  ThreadGroup* const group_;
  const int rank_;
  int64_t next_ = 0, next_tail_ = 1;
};

}  // namespace

std::unique_ptr<Collectives> ThreadGroup::Rank(int rank) { return std::make_unique<ThreadCollectives>(this, rank); }

void ThreadGroup::Arrive(int64_t number, int rank, Part part) {
  MutexLock lock(&mutex_);
  Meeting& meeting = meetings_[number];
  meeting.parts.resize(world_);
  meeting.parts[rank] = std::move(part);
  if (++meeting.arrived < world_) return;
  Carry(&meeting);
  meeting.parts.clear();
  meeting.done = true;
}

absl::StatusOr<bool> ThreadGroup::Done(int64_t number) {
  MutexLock lock(&mutex_);
  const Meeting& meeting = meetings_[number];
  if (!meeting.status.ok()) return meeting.status;
  return meeting.done;
}

void ThreadGroup::Tell(int from, int to, const RollWord& word) {
  MutexLock lock(&mutex_);
  words_[to].emplace_back(from, word);
}

int ThreadGroup::Hear(int rank, RollWord* word) {
  MutexLock lock(&mutex_);
  std::deque<std::pair<int, RollWord>>& words = words_[rank];
  if (words.empty()) return -1;
  const int from = words.front().first;
  *word = words.front().second;
  words.pop_front();
  return from;
}

void ThreadGroup::Carry(Meeting* meeting) {
  std::vector<Part>& parts = meeting->parts;
  for (const Part& part : parts) {
    if (part.what == parts[0].what) continue;
    meeting->status = absl::FailedPreconditionError(
        absl::StrCat("ranks differ in what they start: ", parts[0].what, " and ", part.what));
    return;
  }
  if (!parts[0].own.empty()) {
    for (Part& to : parts) {
      for (size_t i = 0; i < parts.size(); ++i) {
        std::copy(parts[i].own.begin(), parts[i].own.end(), to.data.begin() + i * parts[i].own.size());
      }
    }
    return;
  }
  Part& first = parts[std::max(0, parts[0].root)];
  const int64_t count = static_cast<int64_t>(first.data.size()) / DTypeSize(first.dtype);
  if (first.root < 0) {
    for (size_t i = 1; i < parts.size(); ++i) {
      if (first.tail != nullptr) MergeTail(*parts[i].tail, first.tail);
      Reduce(first.data.data(), parts[i].data.data(), count, first.dtype, first.op);
    }
  }
  for (Part& part : parts) {
    if (&part == &first) continue;
    if (first.tail != nullptr) *part.tail = *first.tail;
    std::copy(first.data.begin(), first.data.end(), part.data.begin());
  }
}

}  // namespace lockstep
