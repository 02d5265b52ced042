#include "worker/train/gradient_placement.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/mutex.h"

namespace lockstep {
namespace {

thread_local GradientPlacement* placing = nullptr;

// Where places are, for whoever frees by address alone.
class PlacedMemory {
 public:
  void Add(const std::byte* begin, size_t bytes) {
    MutexLock lock(&mutex_);
    ranges_.emplace_back(begin, begin + bytes);
  }
  bool Holds(const void* data) {
    const auto* const at = static_cast<const std::byte*>(data);
    MutexLock lock(&mutex_);
    return std::any_of(ranges_.begin(), ranges_.end(), [at](const auto& r) { return r.first <= at && at < r.second; });
  }

 private:
  Mutex mutex_;
  std::vector<std::pair<const std::byte*, const std::byte*>> ranges_ ABSL_GUARDED_BY(mutex_);
};

PlacedMemory& Placed() {
  static auto* const placed = new PlacedMemory;
  return *placed;
}

}  // namespace

// In place of the CPU's allocator from the first placement on, for good: tensors that it has made may outlive all else.
class PlacingAllocator : public c10::Allocator {
 public:
  static void Install() {
    static PlacingAllocator* const allocator = new PlacingAllocator(c10::GetCPUAllocator());
    if (c10::GetCPUAllocator() != allocator) c10::SetCPUAllocator(allocator, /*priority=*/255);
    base = allocator->base_;
  }

  // LibTorch 1 asks for the first, 2 for the second and the third: so none says override.
  c10::DataPtr allocate(size_t bytes) const { return Allocate(bytes); }
  c10::DataPtr allocate(size_t bytes) { return Allocate(bytes); }
  void copy_data(void* to, const void* from, size_t bytes) const { std::memcpy(to, from, bytes); }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }

 private:
  explicit PlacingAllocator(c10::Allocator* base) : base_(base) {}
  c10::DataPtr Allocate(size_t bytes) const {
    if (placing == nullptr) return base_->allocate(bytes);
    if (void* const place = placing->Place(bytes)) {
      placing->Record(place);
      return {place, place, &LeaveAlone, c10::Device(c10::kCPU)};
    }
    c10::DataPtr data = base_->allocate(bytes);
    placing->Record(data.get());
    return data;
  }
  static void LeaveAlone(void*) {}
  static void Free(void* data) {
    if (!Placed().Holds(data)) base->raw_deallocate(data);
  }
  static inline c10::Allocator* base = nullptr;
  c10::Allocator* const base_;
};

GradientPlacement::GradientPlacement(std::vector<std::byte*> places, std::vector<size_t> bytes)
    : places_(std::move(places)), bytes_(std::move(bytes)), given_(places_.size()) {
  for (size_t i = 0; i < places_.size(); ++i) Placed().Add(places_[i], bytes_[i]);
  PlacingAllocator::Install();
}

GradientPlacement::~GradientPlacement() { End(); }

void GradientPlacement::Begin() {
  allocations_.clear();
  next_learned_.clear();
  std::fill(given_.begin(), given_.end(), false);
  placing = this;
}

void GradientPlacement::End() {
  if (placing != this) return;
  placing = nullptr;
  learned_.swap(next_learned_);
}

void* GradientPlacement::Place(size_t bytes) {
  const size_t number = allocations_.size();
  const size_t place = number < learned_.size() ? learned_[number] : kNowhere;
  if (place == kNowhere || given_[place] || bytes_[place] != bytes) return nullptr;
  given_[place] = true;
  return places_[place];
}

void GradientPlacement::Record(const void* data) { allocations_.push_back(data); }

void GradientPlacement::Came(size_t i, const void* data) {
  // The latest allocation at this address is the one that is alive.
  const auto found = std::find(allocations_.rbegin(), allocations_.rend(), data);
  if (found == allocations_.rend()) return;
  const size_t number = allocations_.rend() - found - 1;
  if (next_learned_.size() <= number) next_learned_.resize(number + 1, kNowhere);
  next_learned_[number] = i;
}

}  // namespace lockstep
