#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/train/flat_memory.h"
#include "worker/train/gradient_exchange.h"

namespace lockstep {
namespace {

constexpr int64_t kPiece = int64_t{2} << 20;  // elements of one operation

class LocalExchange : public GradientExchange {
 public:
  LocalExchange(const ParameterLayout* layout, LocalReplica replica, CommThread* comm)
      : layout_(layout), replica_(std::move(replica)), comm_(comm), gradients_(layout->elements()) {}

  float* gradients() override { return gradients_.values().data(); }
  double WeightOf(int64_t own, int64_t all) const override { return own > 0 ? 1 : 0; }
  bool local() const override { return true; }
  void StartBucket(int bucket, const BucketRange& range) override {}

  // Between synchronisations nobody hears of it: what it says is added up until then.
  void StartTail(StepTail* tail) override {
    period_.loss_sum += tail->loss_sum;
    period_.samples += tail->samples;
    period_.fingerprint += tail->fingerprint;
    if (period_.non_finite_rank < 0) period_.non_finite_rank = tail->non_finite_rank;
    tail->loss_sum = period_.loss_sum;
    tail->samples = own_samples_ = period_.samples;
    tail->fingerprint = period_.fingerprint;
    tail->non_finite_rank = period_.non_finite_rank;
    tail_ = tail;
    if (synchronises_) {
      number_ = comm_->StartTail(tail);
      return;
    }
    tail->loss_sum = 0;
    tail->samples = 0;
    tail->fingerprint = 0;
    tail->control = 0;
    tail->non_finite_rank = -1;
  }

  absl::Status Wait() override {
    if (!synchronises_) return absl::OkStatus();
    RETURN_IF_ERROR(comm_->Wait(number_));
    all_samples_ = tail_->samples;
    period_ = StepTail();
    return absl::OkStatus();
  }

  // Of this rank's own gradient: each clips for itself.
  absl::StatusOr<double> SquaredNorm() override { return lockstep::SquaredNorm(gradients(), layout_->elements()); }

  absl::Status Update(const ParallelFor& parallel, const SpanFn& apply) override {
    // What is not finite would spoil the parameters before anybody hears of it.
    if (period_.non_finite_rank >= 0) return absl::OkStatus();
    parallel(0, layout_->elements(), [&](int64_t begin, int64_t end) { apply(gradients(), begin, end - begin); });
    return synchronises_ ? Average() : absl::OkStatus();
  }

  int64_t late_comm_ns() const override { return late_comm_ns_; }
  void TakeSpans(std::vector<Span>* spans) override { comm_->TakeSpans(spans); }

  std::vector<RankState> rank_states() override {
    if (replica_.average_states) return {};
    std::vector<RankState> states;
    for (const SpanOptimizer::State& state : replica_.states) {
      states.push_back({state.name, state.values, RankState::Share::kMean});
    }
    return states;
  }

 protected:
  void DoBeginStep() override { late_comm_ns_ = 0; }

 private:
  // Weighted by the samples of the period: a rank that had none takes part with nothing.
  absl::Status Average() {
    const int64_t start_ns = MonotonicNanos();
    StartMean("parameters", absl::MakeSpan(replica_.parameters, layout_->elements()));
    if (replica_.average_states) {
      for (const SpanOptimizer::State& state : replica_.states) StartMean(state.name, state.values);
    }
    const absl::Status status = comm_->Wait();
    late_comm_ns_ += MonotonicNanos() - start_ns;
    return status;
  }

  void StartMean(const std::string& name, absl::Span<float> values) {
    const auto weight = static_cast<float>(static_cast<double>(own_samples_) / static_cast<double>(all_samples_));
    const auto size = static_cast<int64_t>(values.size());
    for (int64_t first = 0; first < size; first += kPiece) {
      const absl::Span<float> piece = values.subspan(first, std::min(kPiece, size - first));
      for (float& value : piece) value *= weight;
      comm_->StartAllReduce(absl::StrCat("bucket.", name, ".", first / kPiece),
                            absl::MakeSpan(reinterpret_cast<std::byte*>(piece.data()), piece.size() * sizeof(float)),
                            DType::kF32, ReduceOp::kSum);
    }
  }

  const ParameterLayout* const layout_;
  const LocalReplica replica_;
  CommThread* const comm_;
  FlatMemory gradients_;
  StepTail period_;  // of this rank's steps since the last synchronisation
  StepTail* tail_ = nullptr;
  int64_t number_ = 0;                         // of the tail
  int64_t own_samples_ = 0, all_samples_ = 0;  // of the period that ends
  int64_t late_comm_ns_ = 0;
};

}  // namespace

std::unique_ptr<GradientExchange> NewLocalExchange(const ParameterLayout* layout, LocalReplica replica,
                                                   CommThread* comm) {
  return std::make_unique<LocalExchange>(layout, std::move(replica), comm);
}

}  // namespace lockstep
