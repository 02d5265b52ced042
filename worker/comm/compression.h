#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/comm/collectives.h"
#include "worker/comm/rank_state.h"

namespace lockstep {

// A sum of gradients over the ranks for which less is sent than what they are. What a lossy one does not send it holds
// back and adds to the same elements the next time (error feedback, Karimireddy et al. 2019), so that what is applied
// over the steps and what is held back at the end, summed over the ranks, are the sum of all gradients.
//
// AllReduce and its operations belong to the communication thread. The rest is the trainer's: Release of elements of
// which no operation is under way, states() while none is.
class Compressor {
 public:
  virtual ~Compressor() = default;
  // Sums `gradients` over `collectives`' ranks, in place, the same bits on all of them. They lie from `first` on in the
  // flat array; a step has the same ranges as the one before, which do not overlap and may cut parameters. Several may
  // be under way. The compressor and `gradients` outlive the operation.
  virtual absl::StatusOr<std::unique_ptr<Operation>> AllReduce(Collectives* collectives, absl::Span<float> gradients,
                                                               int64_t first) = 0;
  // Whether an element's sum follows from that element alone, so that ranges may be cut anywhere at no loss.
  virtual bool elementwise() const { return false; }
  // Where this rank does not reduce a range (alone, or with another division of the work than before a resume): adds
  // to `gradients` what is held back of them, and holds nothing back any more.
  virtual void Release(absl::Span<float> gradients, int64_t first) {}
  // What a run goes on with: may be overwritten before the first AllReduce.
  virtual std::vector<RankState> states() { return {}; }
};

enum class CompressionKind { kF16, kBF16, kTopK, kPowerSgd };

struct CompressionOptions {
  CompressionKind kind = CompressionKind::kBF16;
  double topk_ratio = 0.01;
  int powersgd_rank = 4;
  uint64_t seed = 1;
  // Ranks reduce different ranges, as slices: PowerSGD's Q is then each rank's own.
  bool own_ranges = false;
};

// A parameter of two or more dimensions, or what is taken for one: the first dimension times the rest, row by row.
struct GradientMatrix {
  int64_t first = 0;  // element of the flat array
  int64_t rows = 0, columns = 0;
};

// For a flat array of `elements`. `matrices` ascend and do not overlap.
std::unique_ptr<Compressor> NewCompressor(const CompressionOptions& options, int64_t elements,
                                          const std::vector<GradientMatrix>& matrices);

}  // namespace lockstep
