#include "worker/comm/compression.h"

#include <cstddef>
#include <utility>

#include "worker/comm/compressors.h"

namespace lockstep {
namespace {

// Nothing is held back: what rounding loses is as often above as below.
class ShorterFormat : public Compressor {
 public:
  explicit ShorterFormat(Wire wire) : wire_(wire) {}
  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(Collectives* collectives, absl::Span<float> gradients,
                                                       int64_t first) override {
    auto* const bytes = reinterpret_cast<std::byte*>(gradients.data());
    return collectives->AllReduce(absl::MakeSpan(bytes, gradients.size() * sizeof(float)), DType::kF32, ReduceOp::kSum,
                                  wire_);
  }
  bool elementwise() const override { return true; }

 private:
  const Wire wire_;
};

}  // namespace

std::unique_ptr<Compressor> NewCompressor(const CompressionOptions& options, int64_t elements,
                                          const std::vector<GradientMatrix>& matrices) {
  switch (options.kind) {
    case CompressionKind::kF16:
      return std::make_unique<ShorterFormat>(Wire::kF16);
    case CompressionKind::kBF16:
      return std::make_unique<ShorterFormat>(Wire::kBF16);
    case CompressionKind::kTopK:
      return NewTopK(options.topk_ratio, elements);
    case CompressionKind::kPowerSgd:
      return NewPowerSgd(options, elements, matrices);
  }
  return nullptr;
}

void Residual::Release(absl::Span<float> gradients, int64_t first) {
  if (used_.exchange(false, std::memory_order_relaxed)) released_ = 0;
  if (released_ >= static_cast<int64_t>(values_.size())) return;
  float* const held = at(first);
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (held[i] != 0) gradients[i] += std::exchange(held[i], 0.0F);  // -0 stays what it is
  }
  released_ += static_cast<int64_t>(gradients.size());
}

}  // namespace lockstep
