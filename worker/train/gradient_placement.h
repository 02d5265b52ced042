#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lockstep {

// Lets backward write gradients straight to where they are to be reduced, whatever the model: while it runs, the
// allocations that will become gradients are given their place in the flat array in place of fresh memory. Which ones
// those are is learned: a backward pass makes the same allocations in the same order every time, so the n-th one of the
// last pass, if it became the gradient of a parameter, is given that parameter's place in the next. A guess that turns
// out wrong (the graph has changed) costs a copy and never a wrong value: the owner looks where each gradient lies.
//
// CPU memory only. Not thread-safe, but for the allocations of other threads, which are left alone: autograd runs the
// CPU's backward functions on the thread that calls backward.
class GradientPlacement {
 public:
  // Places are [places[i], places[i] + bytes[i]); the memory outlives all tensors that were placed.
  GradientPlacement(std::vector<std::byte*> places, std::vector<size_t> bytes);
  ~GradientPlacement();
  GradientPlacement(const GradientPlacement&) = delete;
  GradientPlacement& operator=(const GradientPlacement&) = delete;

  // From Begin to End this thread's allocations are counted and placed. At Begin no tensor may lie in a place still.
  void Begin();
  void End();
  // The gradient of place `i` has come and begins at `data`; between Begin and End.
  void Came(size_t i, const void* data);
  // Whether place `i` has been given to an allocation since Begin.
  bool Given(size_t i) const { return given_[i]; }

 private:
  friend class PlacingAllocator;
  // The place for the next allocation of this thread; null: none.
  void* Place(size_t bytes);
  // It has got `data`.
  void Record(const void* data);

  static constexpr size_t kNowhere = static_cast<size_t>(-1);
  const std::vector<std::byte*> places_;
  const std::vector<size_t> bytes_;
  std::vector<bool> given_;
  std::vector<const void*> allocations_;  // of this pass, in order; reused memory stands there more than once
  std::vector<size_t> learned_;           // by number of the allocation: the place that it became, or kNowhere
  std::vector<size_t> next_learned_;
};

}  // namespace lockstep
