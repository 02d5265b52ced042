#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/status.h"
#include "worker/train/piecewise_exchange.h"

namespace lockstep {
namespace {

class HierarchicalExchange : public PiecewiseExchange {
 public:
  HierarchicalExchange(const ParameterLayout* layout, HostWindow* window, HostCollectives* host, CommThread* comm,
                       Compressor* compressor)
      : PiecewiseExchange(layout, comm, compressor), window_(window), host_(host) {}

  float* gradients() override { return reinterpret_cast<float*>(window_->of(window_->index()).data()); }
  int64_t awaited_ns() const override { return awaited_ns_; }

 protected:
  int64_t StartPiece(const std::string& name, const Range& piece) override {
    if (compressor_ != nullptr && !released_) ReleaseOthersParts(piece);
    return comm_->StartOperation(name, piece.count * static_cast<int64_t>(sizeof(float)),
                                 [this, piece](Collectives*) { return Reduce(piece); });
  }

  Range OwnPart(const Range& piece) const override {
    const HostCollectives::Slice slice = host_->SliceOf(piece.first, piece.count);
    return {slice.first, slice.count};
  }

  // The parts of a host's ranks are the whole gradient, and the same on every host.
  absl::StatusOr<double> AddUpSquares(double own) override {
    window_->number(window_->index()) = own;
    RETURN_IF_ERROR(Meet("the gradient's norm"));
    double squares = 0;
    for (int index = 0; index < window_->count(); ++index) squares += window_->number(index);
    return squares;
  }

  absl::Status EndUpdate() override {
    released_ = true;
    return Meet("the update");
  }

  void DoBeginStep() override {
    PiecewiseExchange::DoBeginStep();
    awaited_ns_ = 0;
  }

 private:
  absl::Status Meet(absl::string_view what) {
    const absl::Status status = window_->Barrier(absl::StrCat(what, " of step ", step_));
    if (status.ok()) awaited_ns_ += window_->waited_ns();
    return comm_->Explain(status);
  }

  absl::StatusOr<std::unique_ptr<Operation>> Reduce(const Range& piece) {
    HostCollectives::BetweenFn between;
    if (compressor_ != nullptr) {
      between = [this, first = OwnPart(piece).first](Collectives* peers, absl::Span<float> slice) {
        return compressor_->AllReduce(peers, slice, first);
      };
    }
    return host_->ReduceToSlice(absl::MakeSpan(gradients() + piece.first, piece.count), std::move(between));
  }

  // What this rank held back, before a resume, of what is now another's part.
  void ReleaseOthersParts(const Range& piece) {
    const Range own = OwnPart(piece);
    const int64_t end = piece.first + piece.count, own_end = own.first + own.count;
    compressor_->Release(absl::MakeSpan(gradients() + piece.first, own.first - piece.first), piece.first);
    compressor_->Release(absl::MakeSpan(gradients() + own_end, end - own_end), own_end);
  }

  HostWindow* const window_;
  HostCollectives* const host_;
  bool released_ = false;
  int64_t awaited_ns_ = 0;  // in the step under way
};

}  // namespace

std::unique_ptr<GradientExchange> NewHierarchicalExchange(const ParameterLayout* layout, HostWindow* window,
                                                          HostCollectives* host, CommThread* comm,
                                                          Compressor* compressor) {
  return std::make_unique<HierarchicalExchange>(layout, window, host, comm, compressor);
}

}  // namespace lockstep
