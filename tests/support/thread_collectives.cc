#include "tests/support/thread_collectives.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "worker/comm/half.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

class ThreadOperation : public Operation {
 public:
  ThreadOperation(ThreadGroup* group, int64_t number, int64_t wire_bytes)
      : group_(group), number_(number), wire_bytes_(wire_bytes) {}
  absl::StatusOr<bool> Poll() override { return group_->Done(number_); }
  int64_t wire_bytes() const override { return wire_bytes_; }

 private:
  ThreadGroup* const group_;
  const int64_t number_, wire_bytes_;
};

class ThreadCollectives : public Collectives {
 public:
  ThreadCollectives(ThreadGroup* group, int rank) : group_(group), rank_(rank) {}
  int rank() const override { return rank_; }
  int world() const override { return group_->world(); }
  std::string algorithm() const override { return "threads"; }

  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op,
                                                       Wire wire) override {
    ThreadGroup::Part part{absl::StrCat("all-reduce of ", data.size()), data, dtype, op};
    part.wire = wire;
    const auto bytes = static_cast<int64_t>(data.size()) / (wire == Wire::kExact ? 1 : 2);
    return Start(std::move(part), 2 * bytes * (world() - 1) / world());
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
    return Start(std::move(part), static_cast<int64_t>(own.size()) * (world() - 1));
  }
  absl::StatusOr<std::unique_ptr<Operation>> Transfer(absl::Span<std::byte> data, int from, int to) override {
    ThreadGroup::Part part{absl::StrCat("transfer from ", from, " to ", to), data};
    part.root = from;
    part.to = to;
    return Start(std::move(part), rank_ == from && from != to ? static_cast<int64_t>(data.size()) : 0);
  }
  absl::StatusOr<std::unique_ptr<Operation>> Barrier() override { return Start({"barrier"}); }
  absl::Status Tell(int rank, const RollWord& word) override {
    group_->Tell(rank_, rank, word);
    return absl::OkStatus();
  }
  absl::StatusOr<int> Hear(RollWord* word) override { return group_->Hear(rank_, word); }

 private:
  std::unique_ptr<Operation> Start(ThreadGroup::Part part, int64_t wire_bytes = 0) {
    // Tails may overtake the others.
    const int64_t number = part.tail != nullptr ? -next_tail_++ : next_++;
    group_->Arrive(number, rank_, std::move(part));
    return std::make_unique<ThreadOperation>(group_, number, wire_bytes);
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
  if (first.to >= 0) {
    Part& to = parts[first.to];
    if (to.data.size() == first.data.size()) {
      std::copy(first.data.begin(), first.data.end(), to.data.begin());
    } else {
      meeting->status = absl::FailedPreconditionError(
          absl::StrCat("a ", first.what, " of ", first.data.size(), " bytes into ", to.data.size()));
    }
    return;
  }
  const auto round = [](Part& part) {
    if (part.wire == Wire::kExact) return;
    HalfFormatOf(part.wire).round(reinterpret_cast<float*>(part.data.data()),
                                  static_cast<int64_t>(part.data.size() / sizeof(float)));
  };
  for (Part& part : parts) round(part);
  const int64_t count = static_cast<int64_t>(first.data.size()) / DTypeSize(first.dtype);
  if (first.root < 0) {
    for (size_t i = 1; i < parts.size(); ++i) {
      if (first.tail != nullptr) MergeTail(*parts[i].tail, first.tail);
      Reduce(first.data.data(), parts[i].data.data(), count, first.dtype, first.op);
    }
    round(first);
  }
  for (Part& part : parts) {
    if (&part == &first) continue;
    if (first.tail != nullptr) *part.tail = *first.tail;
    std::copy(first.data.begin(), first.data.end(), part.data.begin());
  }
}

}  // namespace lockstep
