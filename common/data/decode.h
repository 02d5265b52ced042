#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "common/base/stable_random.h"
#include "common/data/dataset.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// InvalidArgument if `data` asks for what samples of this type and shape do not allow: a data.shape of another size, a
// shift or mirror image of what is no image, noise on integers. A Decoder needs it to be OK.
absl::Status CheckDecoding(const Data& data, const ArraySpec& input);

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

  // Writes input_elements() values at `out` (float or int64_t, as input_is_float says), normalised unless as_is.
  // `augment`: with the random transforms of (seed, epoch, id). An image is moved and mirrored along its last two
  // dimensions, height and width, all channels alike; what comes in from outside is the file's 0.
  void DecodeInput(const RawSample& sample, int64_t id, int32_t epoch, bool augment, void* out) const;
  void DecodeTarget(const RawSample& sample, void* out) const;

 private:
  template <typename Out>
  void DecodeImage(const std::byte* raw, int64_t id, int32_t epoch, bool augment, Out* out) const;
  template <typename Out>
  void Move(StableRandom* random, Out* out) const;

  const ArraySpec input_, target_;
  const uint64_t seed_;
  const Augment augment_;
  const bool input_is_float_, target_is_integer_;
  float factor_ = 1, offset_ = 0;  // of a raw value
  std::vector<int64_t> input_shape_;
  int64_t height_ = 1, width_ = 1;  // of an image in the sample
};

}  // namespace lockstep
