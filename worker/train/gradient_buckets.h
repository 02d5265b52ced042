#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "worker/train/flat_parameters.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/gradient_placement.h"
#include "worker/train/pinned_memory.h"

namespace torch::autograd {
struct Node;
}

namespace lockstep {

// Gradients on their way from backward to their exchange. A hook behind each parameter's accumulation sees to it that
// the gradient stands in the exchange's flat array, where backward mostly has written it at once (GradientPlacement),
// and counts the parameter's bucket down. A full bucket is started while backward goes on, bucket k only after 0 … k-1,
// so that all ranks start the same operations in the same order.
//
// A parameter that got no gradient counts as one whose gradient is 0. Begin and Finish are the trainer's; the hooks run
// inside its call of backward, between the two.
class GradientBuckets {
 public:
  // Both outlive this.
  GradientBuckets(FlatParameters* parameters, GradientExchange* exchange, double bucket_mb);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  // Cuts anew; between steps, on all ranks between the same.
  void Cut(double bucket_mb);
  // Before backward, or the first of the `passes` that a step's samples are cut into: their gradients are added up, and
  // only the last lets buckets go.
  void Begin(int passes = 1);
  // After a pass that is not the last.
  void NextPass();
  // After backward (or instead of it, where there are no samples): starts what has not been started.
  void Finish();

  int buckets() const { return static_cast<int>(buckets_.size()); }

 private:
  class Hook;
  struct Bucket {
    BucketRange range;
    int pending = 0;  // parameters without a gradient yet
  };
  void Arrived(size_t segment);
  // The segment's part of the flat array gets its first gradient of the step. False: something holds the place still.
  bool Put(size_t segment, const torch::Tensor& gradient);
  void EndPlacing();
  void StartFullBuckets();

  FlatParameters* const parameters_;
  GradientExchange* const exchange_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;  // by segment
  std::vector<bool> arrived_;      // by segment: in this pass
  std::vector<bool> has_;          // by segment: in this step
  int pass_ = 0, passes_ = 1;
  size_t next_ = 0;                               // bucket to be started
  std::vector<torch::Tensor> views_;              // of the exchange's gradients, by segment
  std::unique_ptr<GradientPlacement> placement_;  // null: the gradients come to be on another device …
  std::unique_ptr<PinnedMemory> pinned_;          // … which copies them here
  // Gradients whose place something else held when they came, until Finish.
  std::vector<std::pair<size_t, torch::Tensor>> displaced_;
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;  // by segment; kept, else autograd makes new ones
  std::vector<uintptr_t> hooks_;
};

}  // namespace lockstep
