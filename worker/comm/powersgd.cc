// PowerSGD (Vogels, Karimireddy and Jaggi 2019): a matrix M of gradients, summed over the ranks, is sent as P Qᵀ of low
// rank, by one round of subspace iteration that begins with the last step's Q:
//
//   M_w = gradients + what was held back     each rank w
//   P = Σ M_w Q                              an all-reduce; then made orthonormal
//   Q_w = M_wᵀ P, Q = Σ Q_w                  another
//   P Qᵀ stands for Σ M_w                    M_w - P Q_wᵀ is held back
//
// Gradients come times their rank's share of the samples, so that their sum is what is wanted, not their mean; and
// since the parts that are held back add up to Σ M_w - P Qᵀ, nothing gets lost. Each rank holds back its own part
// outside of P's span and no more, where an n-th of P Qᵀ taken off everywhere would let the ranks' differences pile up.
//
// Matrices for which P and Q are no less than they are themselves, what is no matrix, and rows that a range cuts go
// exact, beside the Ps. All matrices of a range share the two messages.
#include <algorithm>
#include <map>
#include <utility>

#include "common/base/stable_random.h"
#include "common/base/status.h"
#include "worker/comm/compressors.h"
#include "worker/comm/low_rank.h"

namespace lockstep {
namespace {

constexpr uint64_t kQKey = 0x706f77657273;     // "powers"
constexpr int64_t kPieceElements = 128 << 10;  // of one Poll: a fraction of a millisecond
constexpr int64_t kPieceRows = 4;              // pieces have a multiple of it

bool Pays(int64_t rows, int64_t columns, int rank) { return (rows + columns) * rank < rows * columns; }

// Rows of a matrix that lie wholly in a range.
struct Block {
  int64_t at = 0;  // first element, in the range
  int64_t rows = 0, columns = 0;
  int64_t p_at = 0, q_at = 0;  // of its factors, in the messages
  uint64_t key = 0;            // of Q's random beginning
  float* warm_q = nullptr;     // where Q stays from step to step; null: it begins anew
};

// Elements that go exact.
struct Part {
  int64_t at = 0, count = 0;  // in the range
};

// A range, what is needed for it kept from step to step.
struct Range {
  std::vector<Block> blocks;
  std::vector<Part> exact;
  std::vector<float> p;         // Ps, then what goes exact
  std::vector<float> q, own_q;  // Σ Q_w, Q_w
  int64_t exact_at = 0;         // in p
};

absl::Span<std::byte> Bytes(std::vector<float>* values) {
  return absl::MakeSpan(reinterpret_cast<std::byte*>(values->data()), values->size() * sizeof(float));
}

// Uniform in [-1, 1), the same bits on every machine.
void FillRandom(uint64_t key, absl::Span<float> values) {
  StableRandom random(key);
  for (float& value : values) value = static_cast<float>(static_cast<int32_t>(random.Next32())) * 0x1p-31F;
}

class PowerSgdOperation : public Operation {
 public:
  // `held`: the range's part of the residual.
  PowerSgdOperation(Collectives* collectives, Range* range, int rank, float* gradients, float* held)
      : collectives_(collectives), range_(range), rank_(rank), gradients_(gradients), held_(held) {
    for (const Block& block : range_->blocks) BeginQ(block);
  }

  absl::StatusOr<bool> Poll() override {
    switch (phase_) {
      case Phase::kProject:
        Project();
        break;
      case Phase::kReduceP:
        RETURN_IF_ERROR(Reduce(&range_->p));
        break;
      case Phase::kOrthonormalise:
        OrthonormaliseOne();
        break;
      case Phase::kProjectBack:
        ProjectBackPiece();
        break;
      case Phase::kReduceQ:
        RETURN_IF_ERROR(Reduce(&range_->q));
        break;
      case Phase::kRebuild:
        RebuildPiece();
        break;
      case Phase::kDone:
        break;
    }
    return phase_ == Phase::kDone;
  }

  int64_t wire_bytes() const override { return wire_bytes_; }
  absl::string_view algorithm() const override { return algorithm_; }
  bool starts_more() const override {
    return phase_ < Phase::kReduceQ || (phase_ == Phase::kReduceQ && reduction_ == nullptr);
  }

 private:
  enum class Phase { kProject, kReduceP, kOrthonormalise, kProjectBack, kReduceQ, kRebuild, kDone };

  // Goes on by some rows of a block; true once all blocks have been gone through.
  template <typename Body>
  bool DoPiece(Body body) {
    const Block& block = range_->blocks[block_];
    const int64_t most = std::max<int64_t>(1, kPieceElements / block.columns / kPieceRows) * kPieceRows;
    const int64_t rows = std::min(most, block.rows - row_);
    body(block, row_, rows);
    row_ += rows;
    if (row_ == block.rows) ++block_, row_ = 0;
    if (block_ < range_->blocks.size()) return false;
    block_ = 0;
    return true;
  }

  void NextPhase() { phase_ = static_cast<Phase>(static_cast<int>(phase_) + 1); }

  // The last step's, but for a column that has become 0 and would stay so: what M had in that direction was in others.
  void BeginQ(const Block& block) {
    for (int k = 0; k < rank_; ++k) {
      const absl::Span<float> q = absl::MakeSpan(range_->q).subspan(block.q_at + k * block.columns, block.columns);
      if (block.warm_q != nullptr) std::copy_n(block.warm_q + k * block.columns, block.columns, q.begin());
      const bool none = std::all_of(q.begin(), q.end(), [](float value) { return value == 0; });
      if (block.warm_q == nullptr || none) FillRandom(Mix({block.key, static_cast<uint64_t>(k)}), q);
    }
  }

  void Project() {
    const bool done = DoPiece([this](const Block& block, int64_t row, int64_t rows) {
      const int64_t at = block.at + row * block.columns;
      AddAndProject(gradients_ + at, rows, block.columns, range_->q.data() + block.q_at, rank_, held_ + at,
                    range_->p.data() + block.p_at + row, block.rows);
    });
    if (!done) return;
    float* to = range_->p.data() + range_->exact_at;
    for (const Part& part : range_->exact) to = std::copy_n(gradients_ + part.at, part.count, to);
    NextPhase();
  }

  absl::Status Reduce(std::vector<float>* message) {
    if (reduction_ == nullptr) {
      ASSIGN_OR_RETURN(reduction_, collectives_->AllReduce(Bytes(message), DType::kF32, ReduceOp::kSum));
    }
    ASSIGN_OR_RETURN(const bool done, reduction_->Poll());
    if (!done) return absl::OkStatus();
    wire_bytes_ += reduction_->wire_bytes();
    if (phase_ == Phase::kReduceP) algorithm_ = reduction_->algorithm();
    reduction_.reset();
    NextPhase();
    return absl::OkStatus();
  }

  void OrthonormaliseOne() {
    const Block& block = range_->blocks[block_];
    Orthonormalise(block.rows, rank_, range_->p.data() + block.p_at);
    if (++block_ < range_->blocks.size()) return;
    block_ = 0;
    std::fill(range_->q.begin(), range_->q.end(), 0.0F);
    NextPhase();
  }

  void ProjectBackPiece() {
    const bool done = DoPiece([this](const Block& block, int64_t row, int64_t rows) {
      ProjectBack(held_ + block.at + row * block.columns, rows, block.columns, range_->p.data() + block.p_at + row,
                  block.rows, rank_, range_->q.data() + block.q_at);
    });
    if (!done) return;
    range_->own_q = range_->q;
    NextPhase();
  }

  void RebuildPiece() {
    const bool done = DoPiece([this](const Block& block, int64_t row, int64_t rows) {
      const int64_t at = block.at + row * block.columns;
      Rebuild(range_->p.data() + block.p_at + row, block.rows, rows, block.columns, range_->q.data() + block.q_at,
              range_->own_q.data() + block.q_at, rank_, gradients_ + at, held_ + at);
    });
    if (!done) return;
    const float* from = range_->p.data() + range_->exact_at;
    for (const Part& part : range_->exact) {
      std::copy_n(from, part.count, gradients_ + part.at);
      from += part.count;
    }
    for (const Block& block : range_->blocks) {
      if (block.warm_q != nullptr) std::copy_n(range_->q.data() + block.q_at, block.columns * rank_, block.warm_q);
    }
    NextPhase();
  }

  Collectives* const collectives_;
  Range* const range_;
  const int rank_;  // of the factors
  float* const gradients_;
  float* const held_;
  Phase phase_ = Phase::kProject;
  size_t block_ = 0;  // where the phase stands
  int64_t row_ = 0;
  std::unique_ptr<Operation> reduction_;
  int64_t wire_bytes_ = 0;
  absl::string_view algorithm_;  // of the first message, which has what goes exact too
};

class PowerSgd : public Compressor {
 public:
  PowerSgd(const CompressionOptions& options, int64_t elements, const std::vector<GradientMatrix>& matrices)
      : rank_(options.powersgd_rank), own_ranges_(options.own_ranges), residual_(elements) {
    int64_t q_elements = 0;
    for (const GradientMatrix& matrix : matrices) {
      if (!Pays(matrix.rows, matrix.columns, rank_)) continue;
      const uint64_t key = Mix({options.seed, kQKey, static_cast<uint64_t>(matrix.first)});
      matrices_.push_back({matrix, key, q_elements});
      q_elements += matrix.columns * rank_;
    }
    q_.resize(q_elements);
  }

  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(Collectives* collectives, absl::Span<float> gradients,
                                                       int64_t first) override {
    const auto count = static_cast<int64_t>(gradients.size());
    const auto [found, is_new] = ranges_.try_emplace({first, count});
    Range* const range = &found->second;
    if (is_new) {
      Plan(first, count, range);
      GiveBack(*range, gradients, residual_.at(first));
    }
    if (range->blocks.empty()) {
      auto* const bytes = reinterpret_cast<std::byte*>(gradients.data());
      return collectives->AllReduce(absl::MakeSpan(bytes, count * sizeof(float)), DType::kF32, ReduceOp::kSum);
    }
    residual_.Use();
    return std::make_unique<PowerSgdOperation>(collectives, range, rank_, gradients.data(), residual_.at(first));
  }

  void Release(absl::Span<float> gradients, int64_t first) override { residual_.Release(gradients, first); }

  std::vector<RankState> states() override {
    const RankState::Share share = own_ranges_ ? RankState::Share::kMean : RankState::Share::kSame;
    return {residual_.state(), {"powersgd_q", absl::MakeSpan(q_), share}};
  }

 private:
  // A matrix that is worth it, with room for one Q.
  struct Slot {
    GradientMatrix matrix;
    uint64_t key = 0;
    int64_t q_at = 0;
    bool taken = false;  // by a range: another one with rows of this matrix begins anew every step
  };

  // Where ranges were others before a resume, something may be held back of what is exact now.
  static void GiveBack(const Range& range, absl::Span<float> gradients, float* held) {
    for (const Part& part : range.exact) {
      for (int64_t i = part.at; i < part.at + part.count; ++i) {
        if (held[i] != 0) gradients[i] += std::exchange(held[i], 0.0F);
      }
    }
  }

  void Plan(int64_t first, int64_t count, Range* range) {
    int64_t exact_from = first, p_at = 0, q_at = 0, exact_count = 0;
    const auto add_exact = [&](int64_t end) {
      if (end > exact_from) range->exact.push_back({exact_from - first, end - exact_from});
      exact_count += end - exact_from;
    };
    for (Slot& slot : matrices_) {
      const GradientMatrix& matrix = slot.matrix;
      const int64_t from = std::max<int64_t>(0, first - matrix.first);
      const int64_t row = (from + matrix.columns - 1) / matrix.columns;
      const int64_t end_row = std::min(matrix.rows, (first + count - matrix.first) / matrix.columns);
      if (first + count < matrix.first || end_row <= row || !Pays(end_row - row, matrix.columns, rank_)) continue;
      const int64_t begin = matrix.first + row * matrix.columns;
      add_exact(begin);
      exact_from = matrix.first + end_row * matrix.columns;
      float* const warm_q = slot.taken ? nullptr : q_.data() + slot.q_at;
      slot.taken = true;
      range->blocks.push_back({begin - first, end_row - row, matrix.columns, p_at, q_at, slot.key, warm_q});
      p_at += (end_row - row) * rank_;
      q_at += matrix.columns * rank_;
    }
    add_exact(first + count);
    if (range->blocks.empty()) return;  // all of it exact
    range->exact_at = p_at;
    range->p.resize(p_at + exact_count);
    range->q.resize(q_at);
  }

  const int rank_;
  const bool own_ranges_;
  Residual residual_;
  std::vector<float> q_;  // of all matrices; 0: random, at the first step
  std::vector<Slot> matrices_;
  std::map<std::pair<int64_t, int64_t>, Range> ranges_;  // by first element and size
};

}  // namespace

std::unique_ptr<Compressor> NewPowerSgd(const CompressionOptions& options, int64_t elements,
                                        const std::vector<GradientMatrix>& matrices) {
  return std::make_unique<PowerSgd>(options, elements, matrices);
}

}  // namespace lockstep
