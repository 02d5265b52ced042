#pragma once

#include <memory>

#include "worker/model/layer_watch.h"

namespace lockstep {

// Tells a LayerWatch of every operator of LibTorch that this thread runs while it lives: the outermost ones, in a
// backward pass the nodes of its graph, with the operations of the matrix products and convolutions inside. By what
// LibTorch's own profiler is made of (at::RecordFunction). One at a time on a thread.
class OperatorWatch {
 public:
  explicit OperatorWatch(LayerWatch* watch);
  ~OperatorWatch();

 private:
  struct Recording;
  const std::unique_ptr<Recording> recording_;
};

}  // namespace lockstep
