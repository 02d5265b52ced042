#pragma once

#include <cstdint>
#include <string>

namespace lockstep {

// Is told when a network's layers compute, in a step that is looked at closely. Nanoseconds of MonotonicNanos.
class LayerWatch {
 public:
  virtual ~LayerWatch() = default;
  // `flops`: floating-point operations, a multiplication and an addition being two; 0: not counted.
  virtual void Forward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) = 0;
  virtual void Backward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) = 0;
};

}  // namespace lockstep
