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
  ReplicatedExchange(const ParameterLayout* layout, CommThread* comm, Compressor* compressor)
      : PiecewiseExchange(layout, comm, compressor), gradients_(layout->elements()) {}

  float* gradients() override { return gradients_.values().data(); }

 protected:
  int64_t StartPiece(const std::string& name, const Range& piece) override {
    const absl::Span<float> values = gradients_.values().subspan(piece.first, piece.count);
    if (compressor_ == nullptr) {
      auto* const bytes = reinterpret_cast<std::byte*>(values.data());
      return comm_->StartAllReduce(name, absl::MakeSpan(bytes, values.size() * sizeof(float)), DType::kF32,
                                   ReduceOp::kSum);
    }
    return comm_->StartOperation(name, piece.count * static_cast<int64_t>(sizeof(float)),
                                 [compressor = compressor_, values, first = piece.first](Collectives* collectives) {
                                   return compressor->AllReduce(collectives, values, first);
                                 });
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
  if (comm_ == nullptr) {
    // Ranks of an earlier launch may have held something back.
    if (compressor_ != nullptr) {
      compressor_->Release(absl::MakeSpan(gradients() + range.first, range.count), range.first);
    }
    return;
  }
  const bool cut = compressor_ == nullptr || compressor_->elementwise();
  const int64_t most = kMostPiece / static_cast<int64_t>(sizeof(float));
  const int64_t pieces = cut ? (range.count + most - 1) / most : 1;
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
  tail_ = tail;
  if (comm_ != nullptr) tail_number_ = comm_->StartTail(tail);
}

absl::Status PiecewiseExchange::Wait() {
  if (comm_ == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(comm_->Wait(tail_number_));
  // Nobody updates, so nobody would wait for the gradients that are on their way.
  return tail_->non_finite_rank >= 0 ? comm_->Wait() : absl::OkStatus();
}

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

std::vector<RankState> PiecewiseExchange::rank_states() {
  return compressor_ != nullptr ? compressor_->states() : std::vector<RankState>();
}

void PiecewiseExchange::TakeSpans(std::vector<Span>* spans) {
  if (comm_ != nullptr) comm_->TakeSpans(spans);
}

std::unique_ptr<GradientExchange> NewReplicatedExchange(const ParameterLayout* layout, CommThread* comm,
                                                        Compressor* compressor) {
  return std::make_unique<ReplicatedExchange>(layout, comm, compressor);
}

std::unique_ptr<Compressor> CreateCompressor(const RunConfig& config, const ParameterLayout& layout, bool own_ranges) {
  const Communication& communication = config.communication();
  CompressionOptions options;
  switch (communication.compression()) {
    case COMPRESSION_FP16:
      options.kind = CompressionKind::kF16;
      break;
    case COMPRESSION_BF16:
      options.kind = CompressionKind::kBF16;
      break;
    case COMPRESSION_TOPK:
      options.kind = CompressionKind::kTopK;
      break;
    case COMPRESSION_POWERSGD:
      options.kind = CompressionKind::kPowerSgd;
      break;
    default:
      return nullptr;
  }
  options.topk_ratio = communication.topk_ratio();
  options.powersgd_rank = communication.powersgd_rank();
  options.seed = config.run().seed();
  options.own_ranges = own_ranges;
  std::vector<GradientMatrix> matrices;
  for (const ParameterSegment& segment : layout.segments()) {
    if (segment.shape.size() < 2 || segment.count == 0) continue;
    matrices.push_back({segment.first, segment.shape[0], segment.count / segment.shape[0]});
  }
  return NewCompressor(options, layout.elements(), matrices);
}

}  // namespace lockstep
