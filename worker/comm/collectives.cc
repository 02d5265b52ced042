#include "worker/comm/collectives.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

class DoneOperation : public Operation {
 public:
  absl::StatusOr<bool> Poll() override { return true; }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> Collectives::ExchangeClocks(ClockExchange* exchange) {
  return std::make_unique<DoneOperation>();
}

int DTypeSize(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF64:
    case DType::kI64:
    case DType::kU64:
      return 8;
    case DType::kU8:
      return 1;
  }
  return 0;
}

void MergeTail(const StepTail& from, StepTail* into) {
  into->loss_sum += from.loss_sum;
  into->samples += from.samples;
  into->fingerprint += from.fingerprint;
  into->control = std::min(into->control, from.control);
  if (from.non_finite_rank >= 0 && (into->non_finite_rank < 0 || from.non_finite_rank < into->non_finite_rank)) {
    into->non_finite_rank = from.non_finite_rank;
  }
  if (from.last_arrival > into->last_arrival) {
    into->last_arrival = from.last_arrival;
    into->last_rank = from.last_rank;
  }
  into->first_arrival = std::min(into->first_arrival, from.first_arrival);
  into->stop_signal = std::max(into->stop_signal, from.stop_signal);
  into->clocks_due = std::max(into->clocks_due, from.clocks_due);
  if (into->mismatch_rank < 0 && (from.number != into->number || from.digest != into->digest)) {
    into->mismatch_rank = from.rank;
    into->mismatch_number = from.number;
  }
}

absl::Status CheckTail(const StepTail& tail) {
  if (tail.mismatch_rank < 0) return absl::OkStatus();
  const absl::Status different = absl::FailedPreconditionError(absl::StrCat(
      "ranks ", tail.rank, " and ", tail.mismatch_rank, " do not run the same collectives: the tail of rank ",
      tail.rank, " is operation ", tail.number, ", that of rank ", tail.mismatch_rank, " is operation ",
      tail.mismatch_number, tail.number == tail.mismatch_number ? ", with other names or sizes before it" : "",
      "; check that both have the same build, config and model"));
  return WithRanks(different, {static_cast<int>(tail.rank), static_cast<int>(tail.mismatch_rank)});
}

}  // namespace lockstep
