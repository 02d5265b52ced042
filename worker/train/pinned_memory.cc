#include "worker/train/pinned_memory.h"

#include <c10/core/DeviceGuard.h>
#include <dlfcn.h>

namespace lockstep {
namespace {

constexpr unsigned kPortable = 1;  // cudaHostRegisterPortable: for every GPU

// A function of CUDA's runtime, which LibTorch brings along where it knows CUDA: this is built without. Null: no CUDA.
template <typename Function>
Function* Runtime(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

}  // namespace

PinnedMemory::PinnedMemory(c10::Device device, void* memory, size_t bytes) {
  if (!device.is_cuda() || bytes == 0) return;
  const auto pin = Runtime<int(void*, size_t, unsigned)>("cudaHostRegister");
  const auto take_error = Runtime<int()>("cudaGetLastError");
  if (pin == nullptr || take_error == nullptr) return;
  const c10::DeviceGuard guard(device);  // else the first GPU would get a context of this process too
  if (pin(memory, bytes, kPortable) == 0) {
    memory_ = memory;
  } else {
    take_error();  // LibTorch would take it for an error of its own
  }
}

PinnedMemory::~PinnedMemory() {
  if (memory_ == nullptr) return;
  if (const auto unpin = Runtime<int(void*)>("cudaHostUnregister")) unpin(memory_);
}

}  // namespace lockstep
