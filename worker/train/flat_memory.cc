#include "worker/train/flat_memory.h"

#include <sys/mman.h>

#include <new>

namespace lockstep {

FlatMemory::FlatMemory(int64_t elements) {
  if (elements == 0) return;
  const size_t bytes = elements * sizeof(float);
  void* const base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  madvise(base, bytes, MADV_HUGEPAGE);  // a wish
  values_ = {static_cast<float*>(base), static_cast<size_t>(elements)};
}

FlatMemory::~FlatMemory() {
  if (!values_.empty()) munmap(values_.data(), values_.size() * sizeof(float));
}

}  // namespace lockstep
