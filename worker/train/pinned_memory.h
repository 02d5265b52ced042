#pragma once

#include <c10/core/Device.h>

#include <cstddef>

namespace lockstep {

// Pins host memory while this lives, so that a GPU copies from and to it without a detour through the driver's own
// buffer. Nothing happens for a device that is no GPU; where the driver refuses, copies go on taking the detour.
class PinnedMemory {
 public:
  PinnedMemory(c10::Device device, void* memory, size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

 private:
  void* memory_ = nullptr;  // null: not pinned
};

}  // namespace lockstep
