#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/train/gradient_exchange.h"

namespace lockstep {

// What exchanges by operations of the communication thread have in common. A bucket goes in pieces, one operation each,
// so that of a large parameter too the first is updated while the next are still on their way: once the tail is known
// nothing speaks against the update, and each piece is updated as soon as it is there. A compressor that looks at more
// than single elements gets buckets whole.
class PiecewiseExchange : public GradientExchange {
 public:
  // `comm` null: alone. `compressor` null: exact.
  PiecewiseExchange(const ParameterLayout* layout, CommThread* comm, Compressor* compressor)
      : layout_(layout), comm_(comm), compressor_(compressor) {}

  void StartBucket(int bucket, const BucketRange& range) override;
  void StartTail(StepTail* tail) override;
  absl::Status Wait() override;
  absl::StatusOr<double> SquaredNorm() override;
  absl::Status Update(const ParallelFor& parallel, const SpanFn& apply) override;
  int64_t late_comm_ns() const override { return late_comm_ns_; }
  std::vector<RankState> rank_states() override;
  void TakeSpans(std::vector<Span>* spans) override;

 protected:
  struct Range {
    int64_t first = 0, count = 0;  // elements
  };
  void DoBeginStep() override;

  // Hands over the reduction of a piece; its number.
  virtual int64_t StartPiece(const std::string& name, const Range& piece) = 0;
  // What of a piece this rank has the sum of, and updates.
  virtual Range OwnPart(const Range& piece) const { return piece; }
  // The sum over those who have parts of the gradient, the same bits on all ranks.
  virtual absl::StatusOr<double> AddUpSquares(double own) { return own; }
  // This rank has updated its parts of all pieces.
  virtual absl::Status EndUpdate() { return absl::OkStatus(); }

  const ParameterLayout* const layout_;
  CommThread* const comm_;
  Compressor* const compressor_;

 private:
  struct Piece {
    Range range;
    int64_t number = 0;  // of its operation
  };
  // Runs `body`, whose time is communication that comes late.
  template <typename Body>
  absl::Status Late(Body body);

  std::vector<Piece> pieces_;  // of the step under way
  StepTail* tail_ = nullptr;
  int64_t tail_number_ = 0;
  int64_t late_comm_ns_ = 0;
};

}  // namespace lockstep
