#include "worker/train/gradient_exchange.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/train/piecewise_exchange.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

// Large enough that a link is used in full, small enough that the update of the last one hardly shows.
constexpr int64_t kMostPiece = int64_t{8} << 20;  // bytes
constexpr int64_t kPieceAlignment = 64;           // elements

class ReplicatedExchange : public PiecewiseExchange {
 public:
  ReplicatedExchange(const ParameterLayout* layout, CommThread* comm)
      : PiecewiseExchange(layout, comm), gradients_(layout->elements()) {}

  float* gradients() override { return gradients_.values().data(); }

 protected:
  int64_t StartPiece(const std::string& name, const Range& piece) override {
    auto* const bytes = reinterpret_cast<std::byte*>(gradients() + piece.first);
    return comm_->StartAllReduce(name, absl::MakeSpan(bytes, piece.count * sizeof(float)), DType::kF32, ReduceOp::kSum);
  }

 private:
  FlatMemory gradients_;
};

}  // namespace

// --- PiecewiseExchange

void PiecewiseExchange::DoBeginStep() {
  pieces_.clear();
  late_comm_ns_ = 0;
}

void PiecewiseExchange::StartBucket(int bucket, const BucketRange& range) {
  if (comm_ == nullptr) return;
  const int64_t most = kMostPiece / static_cast<int64_t>(sizeof(float));
  const int64_t pieces = (range.count + most - 1) / most;
  const auto begin = [&](int64_t piece) {
    return piece == pieces ? range.count : range.count * piece / pieces / kPieceAlignment * kPieceAlignment;
  };
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const Range part = {range.first + begin(piece), begin(piece + 1) - begin(piece)};
    const std::string name =
        pieces == 1 ? absl::StrCat("bucket.", bucket) : absl::StrCat("bucket.", bucket, ".", piece);
    pieces_.push_back({part, StartPiece(name, part)});
  }
}

void PiecewiseExchange::StartTail(StepTail* tail) {
  if (comm_ != nullptr) tail_number_ = comm_->StartTail(tail);
}

absl::Status PiecewiseExchange::Wait() { return comm_ != nullptr ? comm_->Wait(tail_number_) : absl::OkStatus(); }

template <typename Body>
absl::Status PiecewiseExchange::Late(Body body) {
  const int64_t start_ns = MonotonicNanos();
  const absl::Status status = body();
  late_comm_ns_ += MonotonicNanos() - start_ns;
  return status;
}

absl::StatusOr<double> PiecewiseExchange::SquaredNorm() {
  if (comm_ == nullptr) return lockstep::SquaredNorm(gradients(), layout_->elements());
  RETURN_IF_ERROR(Late([this] { return comm_->Wait(); }));
  double squares = 0;
  for (const Piece& piece : pieces_) {
    const Range own = OwnPart(piece.range);
    squares += lockstep::SquaredNorm(gradients() + own.first, own.count);
  }
  RETURN_IF_ERROR(Late([this, &squares]() -> absl::Status {
    ASSIGN_OR_RETURN(squares, AddUpSquares(squares));
    return absl::OkStatus();
  }));
  return squares;
}

absl::Status PiecewiseExchange::Update(const ParallelFor& parallel, const SpanFn& apply) {
  const auto update = [&](const Range& range) {
    parallel(range.first, range.first + range.count,
             [&](int64_t begin, int64_t end) { apply(gradients(), begin, end - begin); });
  };
  if (comm_ == nullptr) update({0, layout_->elements()});
  for (const Piece& piece : pieces_) {
    RETURN_IF_ERROR(Late([&] { return comm_->Wait(piece.number); }));
    update(OwnPart(piece.range));
  }
  return Late([this] { return EndUpdate(); });
}

void PiecewiseExchange::TakeSpans(std::vector<Span>* spans) {
  if (comm_ != nullptr) comm_->TakeSpans(spans);
}

std::unique_ptr<GradientExchange> NewReplicatedExchange(const ParameterLayout* layout, CommThread* comm) {
  return std::make_unique<ReplicatedExchange>(layout, comm);
}

}  // namespace lockstep
