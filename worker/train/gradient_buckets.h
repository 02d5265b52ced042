#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/comm/comm_thread.h"
#include "worker/train/flat_parameters.h"

namespace torch::autograd {
struct Node;
}

namespace lockstep {

// Gradients on their way from backward to the optimizer.
//
// With other ranks: a hook behind each parameter's accumulation copies its gradient, times this rank's share of the
// step's samples, into a flat array, and counts the parameter's bucket down. A full bucket goes to the communication
// thread while backward goes on, bucket k only after 0 … k-1, so that all ranks start the same operations in the same
// order. Alone: no hooks and no copies, the gradients are read where backward left them.
//
// A parameter that got no gradient counts as one whose gradient is 0. Begin, Finish and ForEachSpan are the trainer's;
// the hooks run inside its call of backward.
class GradientBuckets {
 public:
  // `comm` null: alone. Both outlive this.
  GradientBuckets(FlatParameters* parameters, CommThread* comm, double bucket_mb);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  // Before backward. `share`: this rank's samples over all ranks', 0 if it has none.
  void Begin(double share);
  // After backward (or instead of it, where there are no samples): starts what has not been started.
  void Finish();

  // After communication: calls `use(gradients, first, count)` on spans that cover all parameters, in a fixed order.
  // `gradients` is to be indexed by the flat array's elements.
  using SpanFn = std::function<void(const float* gradients, int64_t first, int64_t count)>;
  void ForEachSpan(const SpanFn& use);
  // Frees the gradients, so that the next backward need not add to them.
  void Release();

  int buckets() const { return static_cast<int>(buckets_.size()); }

 private:
  class Hook;
  struct Bucket {
    BucketRange range;
    int pending = 0;  // parameters without a gradient yet
  };
  void Arrived(size_t segment);
  void StartFullBuckets();
  float* gradients() { return gradients_.data_ptr<float>(); }

  FlatParameters* const parameters_;
  CommThread* const comm_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;     // by segment
  std::vector<bool> arrived_;         // by segment
  size_t next_ = 0;                   // bucket to be started
  torch::Tensor share_;               // a scalar
  torch::Tensor gradients_;           // flat, host; with other ranks, or once a gradient was missing
  std::vector<torch::Tensor> views_;  // of gradients_, by segment
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;  // by segment; kept, else autograd makes new ones
  std::vector<uintptr_t> hooks_;
};

}  // namespace lockstep
