// Top-k sparsification with error feedback (Aji and Heafield 2017; Stich, Cordonnier and Jaggi 2018): of the gradients
// and what was held back of them each rank sends the k largest magnitudes of a range, as values and an IndexCode, all
// in messages of one size, and everyone adds them up in rank order. Of two alike the one that comes first is sent.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "worker/comm/compressors.h"
#include "worker/comm/index_code.h"
#include "worker/comm/magnitude_selection.h"

namespace lockstep {
namespace {

// Of one Poll: a fraction of a millisecond.
constexpr int64_t kPieceElements = 128 << 10;

// At least one. A ratio is a decimal number, and 7% of 100 are 7 though the float next to 0.07 makes it a little more.
int64_t CountToSend(double ratio, int64_t elements) {
  constexpr double kRounding = 1e-9;
  const auto count = static_cast<int64_t>(std::ceil(ratio * static_cast<double>(elements) * (1 - kRounding)));
  return std::clamp<int64_t>(count, 1, elements);
}

// What is needed for a range, kept from step to step.
struct Range {
  Range(int64_t elements, int64_t k) : elements(elements), k(k), code(k, elements), indices(k) {}
  int64_t message_bytes() const { return k * static_cast<int64_t>(sizeof(float)) + code.bytes(); }
  const int64_t elements, k;
  const IndexCode code;
  std::vector<uint32_t> indices;
  std::vector<std::byte> own, all;  // messages: k values, then the code
};

class TopKOperation : public Operation {
 public:
  // `held`: the range's part of the residual.
  TopKOperation(Collectives* collectives, Range* range, float* gradients, float* held)
      : collectives_(collectives),
        range_(range),
        gradients_(gradients),
        held_(held),
        selection_(range->elements, range->k) {}

  absl::StatusOr<bool> Poll() override {
    if (selection_.pass() < MagnitudeSelection::kPasses) {
      Select();
    } else if (taken_ < range_->elements) {
      Take();
      if (taken_ == range_->elements) RETURN_IF_ERROR(Send());
    } else if (!came_) {
      ASSIGN_OR_RETURN(came_, gather_->Poll());
    } else {
      RETURN_IF_ERROR(Add(added_++));
    }
    return added_ == collectives_->world();
  }

  int64_t wire_bytes() const override { return gather_ == nullptr ? 0 : gather_->wire_bytes(); }
  absl::string_view algorithm() const override {
    return gather_ == nullptr ? absl::string_view() : gather_->algorithm();
  }
  bool starts_more() const override { return gather_ == nullptr; }

 private:
  // Gradients are added to what is held back in the first pass.
  void Select() {
    const int64_t begin = selection_.next(), count = std::min(kPieceElements, range_->elements - begin);
    if (selection_.pass() == 0) {
      for (int64_t i = begin; i < begin + count; ++i) held_[i] += gradients_[i];
    }
    selection_.Look(held_ + begin, count);
    if (selection_.pass() == MagnitudeSelection::kPasses) ties_ = selection_.ties();
  }

  // Takes what is selected out of what is held back, in order. Gradients become 0, for everyone's to be added.
  void Take() {
    constexpr int64_t kBlock = 32;  // passed over at once if nothing of it is selected
    const int64_t end = std::min(range_->elements, taken_ + kPieceElements);
    std::fill(gradients_ + taken_, gradients_ + end, 0.0F);
    for (; taken_ < end; taken_ += kBlock) {
      const int64_t block_end = std::min(end, taken_ + kBlock);
      uint32_t most = 0;
      for (int64_t i = taken_; i < block_end; ++i) most = std::max(most, MagnitudeSelection::Magnitude(held_[i]));
      if (most < selection_.threshold()) continue;
      for (int64_t i = taken_; i < block_end; ++i) TakeOne(i);
    }
    taken_ = end;
  }

  void TakeOne(int64_t i) {
    const uint32_t magnitude = MagnitudeSelection::Magnitude(held_[i]);
    if (magnitude < selection_.threshold() || (magnitude == selection_.threshold() && ties_-- <= 0)) return;
    std::memcpy(range_->own.data() + chosen_ * sizeof(float), held_ + i, sizeof(float));
    range_->indices[chosen_++] = static_cast<uint32_t>(i);
    held_[i] = 0;
  }

  absl::Status Send() {
    range_->code.Encode(range_->indices.data(), range_->own.data() + range_->k * sizeof(float));
    ASSIGN_OR_RETURN(gather_, collectives_->AllGather(range_->own, absl::MakeSpan(range_->all)));
    return absl::OkStatus();
  }

  absl::Status Add(int rank) {
    const std::byte* const values = range_->all.data() + rank * range_->message_bytes();
    if (!range_->code.Decode(values + range_->k * sizeof(float), range_->indices.data())) {
      return absl::InternalError(absl::StrCat("what rank ", collectives_->JobRank(rank),
                                              " sent of its top-k gradients is no code of ", range_->k,
                                              " indices; check that all ranks have the same build"));
    }
    float value = 0;
    for (int64_t i = 0; i < range_->k; ++i) {
      std::memcpy(&value, values + i * sizeof(float), sizeof(float));
      gradients_[range_->indices[i]] += value;
    }
    return absl::OkStatus();
  }

  Collectives* const collectives_;
  Range* const range_;
  float* const gradients_;
  float* const held_;
  MagnitudeSelection selection_;
  int64_t ties_ = 0;    // on the threshold, still to be taken
  int64_t taken_ = 0;   // elements gone through
  int64_t chosen_ = 0;  // of them taken
  std::unique_ptr<Operation> gather_;
  bool came_ = false;
  int added_ = 0;  // ranks
};

class TopK : public Compressor {
 public:
  TopK(double ratio, int64_t elements) : ratio_(ratio), residual_(elements) {}

  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(Collectives* collectives, absl::Span<float> gradients,
                                                       int64_t first) override {
    const auto elements = static_cast<int64_t>(gradients.size());
    if (elements == 0) return collectives->AllReduce({}, DType::kF32, ReduceOp::kSum);
    residual_.Use();
    auto found = ranges_.find({first, elements});
    if (found == ranges_.end()) {
      const std::pair<int64_t, int64_t> key(first, elements);
      found = ranges_.try_emplace(key, elements, CountToSend(ratio_, elements)).first;
      found->second.own.resize(found->second.message_bytes());
      found->second.all.resize(found->second.message_bytes() * collectives->world());
    }
    return std::make_unique<TopKOperation>(collectives, &found->second, gradients.data(), residual_.at(first));
  }

  void Release(absl::Span<float> gradients, int64_t first) override { residual_.Release(gradients, first); }
  std::vector<RankState> states() override { return {residual_.state()}; }

 private:
  const double ratio_;
  Residual residual_;
  std::map<std::pair<int64_t, int64_t>, Range> ranges_;  // by first element and size
};

}  // namespace

std::unique_ptr<Compressor> NewTopK(double ratio, int64_t elements) { return std::make_unique<TopK>(ratio, elements); }

}  // namespace lockstep
