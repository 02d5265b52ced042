#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/reduce.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

// A block's sum stays in the first-level cache until the optimizer has read it.
constexpr int64_t kBlock = 4096;  // elements
// Slices begin on cache lines, so that no line has two owners.
constexpr int64_t kLineElements = 16;

constexpr const char* kAlgorithm = "shared";

class WindowExchange : public GradientExchange {
 public:
  WindowExchange(const ParameterLayout* layout, HostWindow* window, CommThread* comm,
                 std::unique_ptr<Compressor> held_back)
      : layout_(layout), window_(window), comm_(comm), held_back_(std::move(held_back)) {
    for (int index = 0; index < window->count(); ++index) {
      sources_.push_back(reinterpret_cast<const float*>(window->of(index).data()));
    }
    const int64_t lines = (layout->elements() + kLineElements - 1) / kLineElements;
    const auto begin_of = [&](int64_t index) {
      return std::min(layout->elements(), lines * index / window->count() * kLineElements);
    };
    begin_ = begin_of(window->index());
    end_ = begin_of(window->index() + 1);
  }

  float* gradients() override { return reinterpret_cast<float*>(window_->of(window_->index()).data()); }

  void StartBucket(int bucket, const BucketRange& range) override {
    if (held_back_ == nullptr) return;
    held_back_->Release(absl::MakeSpan(gradients() + range.first, range.count), range.first);
  }

  void StartTail(StepTail* tail) override {
    tail_ = tail;
    comm_->StampTail(tail);
    window_->tail(window_->index()) = *tail;
    start_ns_ = MonotonicNanos();
  }

  absl::Status Wait() override {
    RETURN_IF_ERROR(comm_->Wait());
    RETURN_IF_ERROR(comm_->Explain(window_->Barrier(absl::StrCat("the reduction of step ", step_))));
    *tail_ = window_->tail(0);
    for (int index = 1; index < window_->count(); ++index) MergeTail(window_->tail(index), tail_);
    met_ns_ = MonotonicNanos();
    return CheckTail(*tail_);
  }

  absl::StatusOr<double> SquaredNorm() override {
    const int64_t start_ns = MonotonicNanos();
    for (int64_t at = begin_; at < end_; at += kBlock) Sum(at, std::min(kBlock, end_ - at), gradients() + at);
    reduced_ = true;
    reduce_ns_ += MonotonicNanos() - start_ns;
    window_->number(window_->index()) = lockstep::SquaredNorm(gradients() + begin_, end_ - begin_);
    RETURN_IF_ERROR(Meet("the gradient's norm"));
    double squares = 0;
    for (int index = 0; index < window_->count(); ++index) squares += window_->number(index);
    return squares;
  }

  absl::Status Update(const ParallelFor& parallel, const SpanFn& apply) override {
    const int64_t start_ns = MonotonicNanos();
    std::atomic<int64_t> reducing_ns{0}, applying_ns{0};
    parallel(begin_, end_, [&](int64_t begin, int64_t end) {
      if (reduced_) return apply(gradients(), begin, end - begin);
      int64_t reducing = 0, applying = 0, now = MonotonicNanos();
      for (int64_t at = begin; at < end; at += kBlock) {
        const int64_t count = std::min(kBlock, end - at);
        Sum(at, count, gradients() + at);  // nobody else reads this rank's part of its own slice
        const int64_t reduced = MonotonicNanos();
        apply(gradients(), at, count);
        const int64_t applied = MonotonicNanos();
        reducing += reduced - now;
        applying += applied - reduced;
        now = applied;
      }
      reducing_ns += reducing;
      applying_ns += applying;
    });
    // Threads share the pass; it is divided as their work was.
    const int64_t both = std::max<int64_t>(1, reducing_ns + applying_ns);
    const double part = static_cast<double>(reducing_ns) / static_cast<double>(both);
    reduce_ns_ += static_cast<int64_t>(part * static_cast<double>(MonotonicNanos() - start_ns));
    held_back_.reset();
    return Meet("the update");
  }

  std::vector<RankState> rank_states() override {
    return held_back_ != nullptr ? held_back_->states() : std::vector<RankState>();
  }

  int64_t met_ns() const override { return met_ns_; }
  int64_t late_comm_ns() const override { return reduce_ns_ + meeting_ns_; }
  int64_t awaited_ns() const override { return awaited_ns_; }

  void TakeSpans(std::vector<Span>* spans) override {
    comm_->TakeSpans(spans);
    if (tail_ == nullptr) return;
    Span reduced;
    reduced.seq = static_cast<int32_t>(spans->size());
    reduced.name = "bucket.window";
    reduced.algorithm = kAlgorithm;
    reduced.bytes = layout_->elements() * static_cast<int64_t>(sizeof(float));
    reduced.wire_bytes = (end_ - begin_) * static_cast<int64_t>(sizeof(float)) * (window_->count() - 1);
    reduced.start_ns = start_ns_;
    reduced.begin_ns = met_ns_;
    reduced.end_ns = met_ns_ + late_comm_ns() - awaited_ns_;
    spans->push_back(reduced);
    Span met;
    met.seq = reduced.seq + 1;
    met.name = "tail";
    met.algorithm = kAlgorithm;
    met.bytes = sizeof(StepTail);
    met.start_ns = met.begin_ns = start_ns_;
    met.end_ns = met_ns_;
    spans->push_back(met);
  }

 protected:
  void DoBeginStep() override {
    tail_ = nullptr;
    reduced_ = false;
    reduce_ns_ = meeting_ns_ = awaited_ns_ = 0;
  }

 private:
  void Sum(int64_t first, int64_t count, float* into) const { AddUp(sources_, first, count, into); }

  absl::Status Meet(absl::string_view what) {
    const int64_t start_ns = MonotonicNanos();
    const absl::Status status = window_->Barrier(absl::StrCat(what, " of step ", step_));
    meeting_ns_ += MonotonicNanos() - start_ns;
    if (status.ok()) awaited_ns_ += window_->waited_ns();
    return comm_->Explain(status);
  }

  const ParameterLayout* const layout_;
  HostWindow* const window_;
  CommThread* const comm_;
  std::unique_ptr<Compressor> held_back_;  // until its residual has gone into the first step's gradients
  std::vector<const float*> sources_;      // everyone's gradients, in rank order
  int64_t begin_ = 0, end_ = 0;            // the own slice, in elements
  // Of the step under way.
  StepTail* tail_ = nullptr;
  bool reduced_ = false;  // the slice's sum stands in gradients()
  int64_t start_ns_ = 0, met_ns_ = 0, reduce_ns_ = 0, meeting_ns_ = 0, awaited_ns_ = 0;
};

}  // namespace

std::unique_ptr<GradientExchange> NewWindowExchange(const ParameterLayout* layout, HostWindow* window, CommThread* comm,
                                                    std::unique_ptr<Compressor> held_back) {
  return std::make_unique<WindowExchange>(layout, window, comm, std::move(held_back));
}

}  // namespace lockstep
