#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

enum class ElementType { kU8, kI8, kI16, kI32, kI64, kF32, kF64 };
int ElementSize(ElementType type);

// One array of a sample: its type and shape are the same for all samples of a dataset.
struct ArraySpec {
  ElementType type = ElementType::kU8;
  std::vector<int64_t> shape;  // of one sample; empty: a scalar
  int64_t elements() const;
  int64_t bytes() const { return elements() * ElementSize(type); }
};

// A sample as it lies in the file, in the machine's byte order. Points into memory that the dataset owns.
struct RawSample {
  absl::Span<const std::byte> input;
  absl::Span<const std::byte> target;
};

// A set of samples with ids [0, size). Immutable after Open, so any number of threads may call Get.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual const ArraySpec& input() const = 0;
  virtual const ArraySpec& target() const = 0;
  // `id` in [0, size).
  virtual RawSample Get(int64_t id) const = 0;
};

enum class Split { kTrain, kValidation };

// Opens a split of `data.path`: train-…, or the first there is of val-…, t10k-… and test-…; of a split the two files
// that begin with -images or -inputs, and -labels or -targets. NotFound says which names were looked for;
// InvalidArgument names file, offset and what is wrong with it, or what of `data` does not fit it (CheckDecoding).
// Holds the data in memory.
absl::StatusOr<std::unique_ptr<Dataset>> OpenDataset(const Data& data, Split split);

// Classes: largest label + 1 over the dataset where a target is one integer; else the values of one target.
int64_t CountOutputs(const Dataset& dataset);

// XXH3-64 of every sample of both, with their types, shapes and counts: 16 hexadecimal digits. The same for the same
// samples, whatever their files are called and whether they are compressed.
std::string DataDigest(const Dataset& train, const Dataset& validation);

}  // namespace lockstep
