#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "common/data/dataset.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// Turns raw samples into what the model takes. Immutable, any number of threads.
class Decoder {
 public:
  Decoder(const Data& data, const ArraySpec& input, const ArraySpec& target, uint64_t seed);

  // float32, or as_is: int64 for the integer types, float32 for the floating ones.
  bool input_is_float() const { return input_is_float_; }
  // Integer scalars (class labels) become int64; everything else float32.
  bool target_is_integer() const { return target_is_integer_; }
  int64_t input_elements() const { return input_.elements(); }
  int64_t target_elements() const { return target_.elements(); }
  // Per sample: data.shape, else the file's.
  const std::vector<int64_t>& input_shape() const { return input_shape_; }
  const std::vector<int64_t>& target_shape() const { return target_.shape; }

  // Writes input_elements() values at `out` (float or int64_t, as input_is_float says), normalised. `augment`: with the
  // random transforms of (seed, epoch, id).
  void DecodeInput(const RawSample& sample, int64_t id, int32_t epoch, bool augment, void* out) const;
  void DecodeTarget(const RawSample& sample, void* out) const;

 private:
  Data data_;
  ArraySpec input_, target_;
  uint64_t seed_;
  bool input_is_float_, target_is_integer_;
  double scale_, shift_;
  std::vector<int64_t> input_shape_;
};

}  // namespace lockstep
