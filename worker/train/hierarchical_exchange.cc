#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/status.h"
#include "worker/train/piecewise_exchange.h"

namespace lockstep {
namespace {

class HierarchicalExchange : public PiecewiseExchange {
 public:
  HierarchicalExchange(const ParameterLayout* layout, HostWindow* window, HostCollectives* host, CommThread* comm)
      : PiecewiseExchange(layout, comm), window_(window), host_(host) {}

  float* gradients() override { return reinterpret_cast<float*>(window_->of(window_->index()).data()); }

 protected:
  int64_t StartPiece(const std::string& name, const Range& piece) override {
    const absl::Span<float> data(gradients() + piece.first, piece.count);
    return comm_->StartOperation(name, piece.count * static_cast<int64_t>(sizeof(float)),
                                 [this, data](Collectives*) { return host_->ReduceToSlice(data, nullptr); });
  }

  Range OwnPart(const Range& piece) const override {
    const HostCollectives::Slice slice = host_->SliceOf(piece.first, piece.count);
    return {slice.first, slice.count};
  }

  // The parts of a host's ranks are the whole gradient, and the same on every host.
  absl::StatusOr<double> AddUpSquares(double own) override {
    window_->number(window_->index()) = own;
    RETURN_IF_ERROR(comm_->Explain(window_->Barrier(absl::StrCat("the gradient's norm of step ", step_))));
    double squares = 0;
    for (int index = 0; index < window_->count(); ++index) squares += window_->number(index);
    return squares;
  }

  absl::Status EndUpdate() override { return comm_->Explain(window_->Barrier(absl::StrCat("the update of step ", step_))); }

 private:
  HostWindow* const window_;
  HostCollectives* const host_;
};

}  // namespace

std::unique_ptr<GradientExchange> NewHierarchicalExchange(const ParameterLayout* layout, HostWindow* window,
                                                          HostCollectives* host, CommThread* comm) {
  return std::make_unique<HierarchicalExchange>(layout, window, host, comm);
}

}  // namespace lockstep
