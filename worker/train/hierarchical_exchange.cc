#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

class HierarchicalExchange : public GradientExchange {
 public:
  HierarchicalExchange(const ParameterLayout* layout, HostWindow* window, HostCollectives* host, CommThread* comm)
      : layout_(layout), window_(window), host_(host), comm_(comm) {}

  float* gradients() override { return reinterpret_cast<float*>(window_->of(window_->index()).data()); }

  void StartBucket(int bucket, const BucketRange& range) override {
    if (static_cast<int>(ranges_.size()) <= bucket) ranges_.resize(bucket + 1);
    ranges_[bucket] = {range.first, range.count};
    comm_->StartOperation(absl::StrCat("bucket.", bucket), range.count * static_cast<int64_t>(sizeof(float)),
                          [this, bucket](Collectives*) { return Reduce(ranges_[bucket]); });
  }

  void StartTail(StepTail* tail) override { comm_->StartTail(tail); }
  absl::Status Wait() override { return comm_->Wait(); }

  // The slices of a host's ranks are the whole gradient, and the same on every host.
  absl::StatusOr<double> SquaredNorm() override {
    double own = 0;
    for (const HostCollectives::Slice& slice : Slices()) {
      own += lockstep::SquaredNorm(gradients() + slice.first, slice.count);
    }
    window_->number(window_->index()) = own;
    RETURN_IF_ERROR(Meet("the gradient's norm"));
    double squares = 0;
    for (int index = 0; index < window_->count(); ++index) squares += window_->number(index);
    return squares;
  }

  absl::Status Update(const ParallelFor& parallel, const SpanFn& apply) override {
    for (const HostCollectives::Slice& slice : Slices()) {
      parallel(slice.first, slice.first + slice.count,
               [&](int64_t begin, int64_t end) { apply(gradients(), begin, end - begin); });
    }
    return Meet("the update");
  }

  int64_t late_comm_ns() const override { return meeting_ns_; }
  void TakeSpans(std::vector<Span>* spans) override { comm_->TakeSpans(spans); }

 protected:
  void DoBeginStep() override { meeting_ns_ = 0; }

 private:
  struct Range {
    int64_t first = 0, count = 0;
  };

  absl::StatusOr<std::unique_ptr<Operation>> Reduce(const Range& range) {
    return host_->ReduceToSlice(absl::MakeSpan(gradients() + range.first, range.count), /*between=*/nullptr);
  }

  // What this rank has the sum of.
  std::vector<HostCollectives::Slice> Slices() const {
    std::vector<HostCollectives::Slice> slices;
    for (const Range& range : ranges_) slices.push_back(host_->SliceOf(range.first, range.count));
    return slices;
  }

  absl::Status Meet(absl::string_view what) {
    const int64_t start_ns = MonotonicNanos();
    const absl::Status status = window_->Barrier(absl::StrCat(what, " of step ", step_));
    meeting_ns_ += MonotonicNanos() - start_ns;
    return status;
  }

  const ParameterLayout* const layout_;
  HostWindow* const window_;
  HostCollectives* const host_;
  CommThread* const comm_;
  std::vector<Range> ranges_;  // by bucket; written before its operation is handed over
  int64_t meeting_ns_ = 0;
};

}  // namespace

std::unique_ptr<GradientExchange> NewHierarchicalExchange(const ParameterLayout* layout, HostWindow* window,
                                                          HostCollectives* host, CommThread* comm) {
  return std::make_unique<HierarchicalExchange>(layout, window, host, comm);
}

}  // namespace lockstep
