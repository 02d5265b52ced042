#include "worker/comm/host_collectives.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

// Slices begin on cache lines, so that no line has two owners.
constexpr int64_t kLineElements = 16;
// What is added up at a time stays in the first-level cache until it has been written where it belongs.
constexpr int64_t kBlock = 4096;  // elements
// What one poll adds up at most: other operations' messages wait meanwhile.
constexpr int64_t kPiece = 1 << 16;  // elements

// The `number`-th operation over the window. It begins once every rank of the host has come to it, and a rank says in
// order of the numbers that it has done its part, so that one counter a rank tells of all operations. What goes between
// hosts is begun in order of the numbers too: `between` counts how many operations have.
class WindowOperation : public Operation {
 public:
  WindowOperation(HostWindow* window, uint64_t number, uint64_t* between)
      : window_(window), number_(number), between_(between) {
    window->counter(window->index(), HostWindow::kCame).store(number + 1);
  }

 protected:
  bool AllHaveCome() const { return window_->AllAbove(HostWindow::kCame, number_); }
  // False: an earlier operation of this rank is not done yet.
  bool SayDone() {
    std::atomic<uint64_t>& done = window_->counter(window_->index(), HostWindow::kDone);
    if (done.load() < number_) return false;
    done.store(number_ + 1);
    return true;
  }
  bool MayGoBetween() const { return *between_ == number_; }
  void HasGoneBetween() { ++*between_; }
  bool AllAreDone() const { return window_->AllAbove(HostWindow::kDone, number_); }

  HostWindow* const window_;
  const uint64_t number_;

 private:
  uint64_t* const between_;
};

// What is to be reduced: `slice` of the data at the same place of every rank's memory.
struct Task {
  std::vector<float*> ranks;  // where slice.first is 0, by rank of the host
  HostCollectives::Slice slice;
  bool whole = false;      // all ranks get the slice, not its owner alone
  bool one_host = false;   // what the host's ranks have is all there is
  int64_t wire_bytes = 0;  // of what is read in other ranks' memory
};

class WindowReduction : public WindowOperation {
 public:
  using StartFn = std::function<absl::StatusOr<std::unique_ptr<Operation>>(absl::Span<float> slice)>;
  // `between`: starts what is left once the host's sum stands in the own memory; null: nothing.
  WindowReduction(HostWindow* window, uint64_t number, uint64_t* order, Task task, StartFn between)
      : WindowOperation(window, number, order), task_(std::move(task)), between_(std::move(between)) {}

  int64_t wire_bytes() const override { return wire_bytes_; }
  absl::Span<const Message> messages() const override { return messages_; }

  absl::StatusOr<bool> Poll() override {
    for (bool moved = true; moved;) {
      ASSIGN_OR_RETURN(moved, Move());
      if (stage_ == Stage::kOver) return true;
      if (stage_ == Stage::kAddUp) return false;  // a piece at a time
    }
    return false;
  }

 private:
  enum class Stage { kCome, kAddUp, kGoBetween, kBetween, kGiveOut, kSayDone, kAllDone, kOver };

  // One look, or one piece of work. True: the stage is another.
  absl::StatusOr<bool> Move() {
    const Stage before = stage_;
    switch (stage_) {
      case Stage::kCome:
        if (AllHaveCome()) stage_ = Stage::kAddUp;
        break;
      case Stage::kAddUp:
        AddUpPiece();
        break;
      case Stage::kGoBetween:
        if (MayGoBetween()) RETURN_IF_ERROR(GoBetween());
        break;
      case Stage::kBetween: {
        ASSIGN_OR_RETURN(const bool done, operation_->Poll());
        LetOthersGo(done);
        if (!done) break;
        wire_bytes_ += operation_->wire_bytes();
        messages_.assign(operation_->messages().begin(), operation_->messages().end());
        operation_.reset();
        stage_ = Stage::kGiveOut;
        break;
      }
      case Stage::kGiveOut:
        GiveOut();
        stage_ = Stage::kSayDone;
        break;
      case Stage::kSayDone:
        if (SayDone()) stage_ = task_.whole ? Stage::kAllDone : Stage::kOver;
        break;
      case Stage::kAllDone:
        if (AllAreDone()) stage_ = Stage::kOver;
        break;
      case Stage::kOver:
        break;
    }
    return stage_ != before;
  }

  // Into everyone's memory at once where the host's sum is the result for all, while it is in the cache.
  void AddUpPiece() {
    const std::vector<const float*> sources(task_.ranks.begin(), task_.ranks.end());
    const int64_t end = std::min(task_.slice.count, added_ + kPiece);
    for (; added_ < end; added_ = std::min(end, added_ + kBlock)) {
      const int64_t first = task_.slice.first + added_, count = std::min(kBlock, end - added_);
      if (!task_.whole || !task_.one_host) {
        AddUp(sources, first, count, own() + first);
        continue;
      }
      alignas(64) float block[kBlock];
      AddUp(sources, first, count, block);
      for (float* rank : task_.ranks) std::copy(block, block + count, rank + first);
    }
    if (added_ < task_.slice.count) return;
    wire_bytes_ += task_.wire_bytes;
    stage_ = Stage::kGoBetween;
  }

  absl::Status GoBetween() {
    if (between_ == nullptr || task_.slice.count == 0) {
      HasGoneBetween();
      stage_ = Stage::kSayDone;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(operation_, between_(absl::MakeSpan(own() + task_.slice.first, task_.slice.count)));
    stage_ = Stage::kBetween;
    LetOthersGo(/*done=*/false);
    return absl::OkStatus();
  }

  // The next operation may go between hosts once this one has started all that it consists of.
  void LetOthersGo(bool done) {
    if (gone_ || (!done && operation_->starts_more())) return;
    gone_ = true;
    HasGoneBetween();
  }

  void GiveOut() {
    if (!task_.whole) return;
    const float* const from = own() + task_.slice.first;
    for (float* rank : task_.ranks) {
      if (rank != own()) std::copy(from, from + task_.slice.count, rank + task_.slice.first);
    }
  }

  float* own() const { return task_.ranks[window_->index()]; }

  const Task task_;
  const StartFn between_;
  Stage stage_ = Stage::kCome;
  bool gone_ = false;
  int64_t added_ = 0;  // elements of the slice
  int64_t wire_bytes_ = 0;
  std::vector<Message> messages_;
  std::unique_ptr<Operation> operation_;
};

// The first host's ranks have written; each slice goes to the other hosts; nobody reads before all slices are there.
class SharedBroadcast : public WindowOperation {
 public:
  SharedBroadcast(HostWindow* window, uint64_t number, uint64_t* order, Collectives* peers, absl::Span<std::byte> slice)
      : WindowOperation(window, number, order), peers_(peers), slice_(slice) {}

  int64_t wire_bytes() const override { return wire_bytes_; }

  absl::StatusOr<bool> Poll() override {
    if (!begun_) {
      if (!AllHaveCome() || !MayGoBetween()) return false;
      HasGoneBetween();
      begun_ = true;
      if (peers_ != nullptr && !slice_.empty()) {
        ASSIGN_OR_RETURN(operation_, peers_->Broadcast(slice_, /*root=*/0));
      }
    }
    if (operation_ != nullptr) {
      ASSIGN_OR_RETURN(const bool done, operation_->Poll());
      if (!done) return false;
      wire_bytes_ = operation_->wire_bytes();
      operation_.reset();
    }
    said_ = said_ || SayDone();
    return said_ && AllAreDone();
  }

 private:
  Collectives* const peers_;
  const absl::Span<std::byte> slice_;
  bool begun_ = false, said_ = false;
  int64_t wire_bytes_ = 0;
  std::unique_ptr<Operation> operation_;
};

}  // namespace

HostCollectives::HostCollectives(HostWindow* window, Collectives* all, Collectives* peers, int hosts, int slices)
    : window_(window), all_(all), peers_(peers), hosts_(hosts), slices_(slices) {}

HostCollectives::Slice HostCollectives::SliceOf(int64_t first, int64_t count) const {
  const int64_t lines = (count + kLineElements - 1) / kLineElements;
  const auto begin = [&](int64_t slice) { return std::min(count, lines * slice / slices_ * kLineElements); };
  const int64_t slice = std::min(window_->index(), slices_);
  const int64_t end = slice < slices_ ? begin(slice + 1) : count;
  return {first + begin(slice), end - begin(slice)};
}

bool HostCollectives::InWindow(absl::Span<const std::byte> data) const {
  const absl::Span<std::byte> own = window_->of(window_->index());
  return data.data() >= own.data() && data.data() + data.size() <= own.data() + own.size();
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::StartReduction(absl::Span<float> data, bool whole,
                                                                           BetweenFn between) {
  const std::byte* const bytes = reinterpret_cast<const std::byte*>(data.data());
  const std::ptrdiff_t place = bytes - window_->of(window_->index()).data();
  Task task;
  for (int index = 0; index < window_->count(); ++index) {
    task.ranks.push_back(reinterpret_cast<float*>(window_->of(index).data() + place));
  }
  task.slice = SliceOf(0, static_cast<int64_t>(data.size()));
  task.whole = whole;
  task.one_host = hosts_ == 1;
  const int64_t read = task.slice.count * static_cast<int64_t>(sizeof(float)) * (window_->count() - 1);
  if (task.one_host) task.wire_bytes = whole ? 2 * read : read;
  WindowReduction::StartFn start;
  if (peers_ != nullptr) {
    start = [peers = peers_, between = std::move(between)](absl::Span<float> slice) {
      if (between != nullptr) return between(peers, slice);
      auto* const first = reinterpret_cast<std::byte*>(slice.data());
      return peers->AllReduce(absl::MakeSpan(first, slice.size() * sizeof(float)), DType::kF32, ReduceOp::kSum);
    };
  }
  return std::make_unique<WindowReduction>(window_, started_++, &between_, std::move(task), std::move(start));
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::AllReduce(absl::Span<std::byte> data, DType dtype,
                                                                      ReduceOp op, Wire wire) {
  if (dtype != DType::kF32 || op != ReduceOp::kSum || !InWindow(data)) return all_->AllReduce(data, dtype, op, wire);
  BetweenFn between;
  if (wire != Wire::kExact) {
    between = [wire](Collectives* peers, absl::Span<float> slice) {
      auto* const first = reinterpret_cast<std::byte*>(slice.data());
      return peers->AllReduce(absl::MakeSpan(first, slice.size() * sizeof(float)), DType::kF32, ReduceOp::kSum, wire);
    };
  }
  return StartReduction(absl::MakeSpan(reinterpret_cast<float*>(data.data()), data.size() / sizeof(float)),
                        /*whole=*/true, std::move(between));
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::ReduceToSlice(absl::Span<float> data, BetweenFn between) {
  return StartReduction(data, /*whole=*/false, std::move(between));
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::BroadcastShared(absl::Span<std::byte> shared) {
  const Slice slice = SliceOf(0, static_cast<int64_t>(shared.size()));
  return std::make_unique<SharedBroadcast>(window_, started_++, &between_, peers_,
                                           shared.subspan(slice.first, slice.count));
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::AllReduceTail(StepTail* tail) {
  return all_->AllReduceTail(tail);
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::Broadcast(absl::Span<std::byte> data, int root) {
  return all_->Broadcast(data, root);
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::AllGather(absl::Span<const std::byte> own,
                                                                      absl::Span<std::byte> all) {
  return all_->AllGather(own, all);
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::Transfer(absl::Span<std::byte> data, int from, int to) {
  return all_->Transfer(data, from, to);
}

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::Barrier() { return all_->Barrier(); }

absl::StatusOr<std::unique_ptr<Operation>> HostCollectives::ExchangeClocks(ClockExchange* exchange) {
  return all_->ExchangeClocks(exchange);
}

}  // namespace lockstep
