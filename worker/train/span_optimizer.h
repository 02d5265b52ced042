#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "lockstep/run_config.pb.h"
#include "worker/train/flat_memory.h"
#include "worker/train/layout.h"

namespace lockstep {

// An optimizer as a function over spans of flat arrays: Apply may be called on any cut of [0, elements), each element
// once a step, by whichever thread holds that span; the result does not depend on the cut, nor on the machine, so that
// replicas on unlike hosts keep the same bits. The arithmetic is that of torch::optim to the last few ulp.
// SGD: Sutskever et al. 2013 in PyTorch's form; AdamW: Loshchilov and Hutter 2019. Knows no tensor.
class SpanOptimizer {
 public:
  virtual ~SpanOptimizer() = default;
  // Before the step's first Apply: its number (from 1), its learning rate, and a factor for every gradient (clipping).
  virtual void BeginStep(int64_t step, double lr, double grad_scale) = 0;
  // `parameters` and `gradients` are the flat arrays' beginnings. Padding between parameters is left alone.
  virtual void Apply(float* parameters, const float* gradients, int64_t first, int64_t count) = 0;
  // Arrays of the same shape as the parameters that are part of a checkpoint: {"momentum"} or {"exp_avg",
  // "exp_avg_sq"}.
  struct State {
    std::string name;
    absl::Span<float> values;  // owned by the optimizer
  };
  virtual std::vector<State> states() = 0;
};

// How many arrays of the parameters' shape it keeps.
int OptimizerStates(const Optimizer& config);

// `layout` outlives the optimizer, and so does `memory`, where its states are to lie, zeros at first:
// OptimizerStates times `layout.elements()`. Empty: in memory of its own.
std::unique_ptr<SpanOptimizer> CreateOptimizer(const Optimizer& config, const ParameterLayout* layout,
                                               absl::Span<float> memory = {});

// Learning rate of step (from 1), by the schedule: warm-up to `lr`, then from step warmup_steps + 1 on the decay, which
// is at min_lr once decay_epochs are over (counted from the start of training, as are the drops of `step`).
double LearningRate(const RunConfig& config, int64_t steps_per_epoch, int64_t step);

// Sum of squares in double, in an order that depends on `count` alone.
double SquaredNorm(const float* values, int64_t count);

}  // namespace lockstep
