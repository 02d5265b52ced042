#include "common/data/dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/data/decode.h"
#include "common/data/idx.h"

namespace lockstep {
namespace {

ArraySpec SpecOf(const IdxArray& array) { return {array.type, {array.dims.begin() + 1, array.dims.end()}}; }

class IdxDataset : public Dataset {
 public:
  IdxDataset(IdxArray inputs, IdxArray targets)
      : inputs_(std::move(inputs)), targets_(std::move(targets)), input_(SpecOf(inputs_)), target_(SpecOf(targets_)) {}

  int64_t size() const override { return inputs_.dims[0]; }
  const ArraySpec& input() const override { return input_; }
  const ArraySpec& target() const override { return target_; }
  RawSample Get(int64_t id) const override {
    const int64_t input_bytes = input_.bytes(), target_bytes = target_.bytes();
    return {absl::MakeConstSpan(inputs_.values.get() + id * input_bytes, input_bytes),
            absl::MakeConstSpan(targets_.values.get() + id * target_bytes, target_bytes)};
  }

 private:
  const IdxArray inputs_, targets_;
  const ArraySpec input_, target_;
};

std::string SpecText(const ArraySpec& spec) {
  return absl::StrCat(static_cast<int>(spec.type), "[", absl::StrJoin(spec.shape, ","), "]");
}

// What a name begins with, in the order of preference.
std::vector<std::string> Prefixes(Split split) {
  if (split == Split::kTrain) return {"train"};
  return {"val", "t10k", "test"};
}

// The one file of `names` that begins with <prefix>-<kind> for one of `kinds`; "" if there is none. A file beside its
// own .gz is preferred to it.
absl::StatusOr<std::string> FindOne(const std::string& folder, const std::vector<std::string>& names,
                                    const std::string& prefix, std::initializer_list<absl::string_view> kinds) {
  std::string found;
  for (const std::string& name : names) {
    const bool fits = std::any_of(kinds.begin(), kinds.end(),
                                  [&](auto kind) { return absl::StartsWith(name, absl::StrCat(prefix, "-", kind)); });
    if (!fits || absl::EndsWith(name, ".new") || name == found + ".gz") continue;
    if (!found.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, ": both ", found, " and ", name, " could be meant; remove or rename one of them"));
    }
    found = name;
  }
  return found;
}

struct Files {
  std::string inputs, targets;
};

absl::StatusOr<Files> FindFiles(const std::string& folder, Split split) {
  const auto listed = FileSystem::Real()->List(folder);
  if (!listed.ok()) {
    return absl::NotFoundError(absl::StrCat(listed.status().message(), "; name a folder with train-… and val-… files"));
  }
  const std::vector<std::string>& names = *listed;
  std::vector<std::string> looked_for;
  for (const std::string& prefix : Prefixes(split)) {
    ASSIGN_OR_RETURN(const std::string inputs, FindOne(folder, names, prefix, {"images", "inputs"}));
    ASSIGN_OR_RETURN(const std::string targets, FindOne(folder, names, prefix, {"labels", "targets"}));
    if (!inputs.empty() && !targets.empty()) return Files{JoinPath(folder, inputs), JoinPath(folder, targets)};
    if (!inputs.empty() || !targets.empty()) {
      return absl::NotFoundError(absl::StrCat(
          folder, ": ", inputs, targets, " has no ", prefix, inputs.empty() ? "-images* or " : "-labels* or ", prefix,
          inputs.empty() ? "-inputs*" : "-targets*", " beside it; put the file there"));
    }
    looked_for.push_back(absl::StrCat(prefix, "-images* and ", prefix, "-labels*"));
  }
  return absl::NotFoundError(
      absl::StrCat(folder, ": no ", split == Split::kTrain ? "training" : "validation", " data; looked for ",
                   absl::StrJoin(looked_for, ", "),
                   " (IDX, plain or gzip; also -inputs* and -targets*); name a folder that has them, or make one: "
                   "lockstep dataset make digits"));
}

template <typename T>
int64_t Largest(const Dataset& dataset) {
  int64_t largest = std::numeric_limits<int64_t>::min();
  for (int64_t id = 0; id < dataset.size(); ++id) {
    T value;
    memcpy(&value, dataset.Get(id).target.data(), sizeof value);
    largest = std::max<int64_t>(largest, value);
  }
  return largest;
}

}  // namespace

int ElementSize(ElementType type) {
  switch (type) {
    case ElementType::kU8:
    case ElementType::kI8:
      return 1;
    case ElementType::kI16:
      return 2;
    case ElementType::kI32:
    case ElementType::kF32:
      return 4;
    case ElementType::kI64:
    case ElementType::kF64:
      return 8;
  }
  return 0;
}

int64_t ArraySpec::elements() const {
  int64_t product = 1;
  for (int64_t dim : shape) product *= dim;
  return product;
}

absl::StatusOr<std::unique_ptr<Dataset>> OpenDataset(const Data& data, Split split) {
  ASSIGN_OR_RETURN(const Files files, FindFiles(data.path(), split));
  ASSIGN_OR_RETURN(IdxArray inputs, ReadIdx(files.inputs));
  ASSIGN_OR_RETURN(IdxArray targets, ReadIdx(files.targets));
  if (inputs.dims[0] != targets.dims[0]) {
    return absl::InvalidArgumentError(absl::StrCat(files.inputs, ": byte 4: ", inputs.dims[0], " samples, but ",
                                                   files.targets, " has ", targets.dims[0],
                                                   "; give two files that belong together"));
  }
  RETURN_IF_ERROR(Annotate(CheckDecoding(data, SpecOf(inputs)), files.inputs));
  return std::make_unique<IdxDataset>(std::move(inputs), std::move(targets));
}

int64_t CountOutputs(const Dataset& dataset) {
  if (!dataset.target().shape.empty()) return dataset.target().elements();
  switch (dataset.target().type) {
    case ElementType::kU8:
      return Largest<uint8_t>(dataset) + 1;
    case ElementType::kI8:
      return Largest<int8_t>(dataset) + 1;
    case ElementType::kI16:
      return Largest<int16_t>(dataset) + 1;
    case ElementType::kI32:
      return Largest<int32_t>(dataset) + 1;
    case ElementType::kI64:
      return Largest<int64_t>(dataset) + 1;
    case ElementType::kF32:
    case ElementType::kF64:
      break;
  }
  return 1;
}

std::string DataDigest(const Dataset& train, const Dataset& validation) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const Dataset* dataset : {&train, &validation}) {
    const std::string head =
        absl::StrCat(dataset->size(), " ", SpecText(dataset->input()), " ", SpecText(dataset->target()), "\n");
    XXH3_64bits_update(state.get(), head.data(), head.size());
    for (int64_t id = 0; id < dataset->size(); ++id) {
      const RawSample sample = dataset->Get(id);
      XXH3_64bits_update(state.get(), sample.input.data(), sample.input.size());
      XXH3_64bits_update(state.get(), sample.target.data(), sample.target.size());
    }
  }
  return absl::StrFormat("%016x", XXH3_64bits_digest(state.get()));
}

}  // namespace lockstep
