#include "worker/model/weights.h"

#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

struct DTypeName {
  torch::ScalarType type;
  const char* name;
};
constexpr DTypeName kDTypes[] = {
    {torch::kFloat64, "F64"}, {torch::kFloat32, "F32"}, {torch::kFloat16, "F16"}, {torch::kBFloat16, "BF16"},
    {torch::kInt64, "I64"},   {torch::kInt32, "I32"},   {torch::kInt16, "I16"},   {torch::kInt8, "I8"},
    {torch::kUInt8, "U8"},    {torch::kBool, "BOOL"},
};

const char* NameOf(torch::ScalarType type) {
  for (const DTypeName& dtype : kDTypes) {
    if (dtype.type == type) return dtype.name;
  }
  return "";  // LoadTorchScriptModel lets no such tensor in
}

std::optional<torch::ScalarType> TypeOf(const std::string& name) {
  for (const DTypeName& dtype : kDTypes) {
    if (name == dtype.name) return dtype.type;
  }
  return std::nullopt;
}

std::vector<NamedTensor> AllTensors(const Network& network) {
  std::vector<NamedTensor> all = network.parameters();
  all.insert(all.end(), network.frozen().begin(), network.frozen().end());
  all.insert(all.end(), network.buffers().begin(), network.buffers().end());
  return all;
}

std::string Describe(absl::string_view dtype, const std::vector<int64_t>& shape) {
  return absl::StrCat(dtype, " [", absl::StrJoin(shape, ", "), "]");
}

bool Fits(const TensorInfo& info, const torch::Tensor& tensor) {
  const std::optional<torch::ScalarType> type = TypeOf(info.dtype);
  if (!type.has_value() || torch::IntArrayRef(info.shape) != tensor.sizes()) return false;
  return *type == tensor.scalar_type() || (torch::isFloatingType(*type) && tensor.is_floating_point());
}

struct Match {
  torch::Tensor tensor;
  const TensorInfo* info;
};

// One of the network's tensors with all its names, the first one first.
struct Wanted {
  torch::Tensor tensor;
  std::vector<std::string> names;
};

std::vector<Wanted> WantedOf(const Network& network) {
  std::vector<Wanted> wanted;
  for (const NamedTensor& named : AllTensors(network)) {
    wanted.push_back({named.tensor, {named.name}});
    for (const auto& [alias, name] : network.tied()) {
      if (name == named.name) wanted.back().names.push_back(alias);
    }
  }
  return wanted;
}

// Looks the tensor up under each of its names.
void FindMatch(const SafetensorsFile& file, const Wanted& wanted, std::vector<Match>* matches, LoadReport* report) {
  const TensorInfo* info = nullptr;
  for (const std::string& name : wanted.names) {
    const TensorInfo* const found = file.Find(name);
    if (found == nullptr) continue;
    if (info != nullptr && file.data(*info) != file.data(*found)) {
      report->unfit.push_back(
          absl::StrCat(name, " (one tensor with ", info->name, " in the model, another in the file)"));
      return;
    }
    if (info == nullptr) info = found;
  }
  if (info == nullptr) {
    report->missing.push_back(wanted.names.front());
  } else if (!Fits(*info, wanted.tensor)) {
    report->unfit.push_back(absl::StrCat(info->name, " (", Describe(info->dtype, info->shape), " in the file, ",
                                         Describe(NameOf(wanted.tensor.scalar_type()), wanted.tensor.sizes().vec()),
                                         " in the model)"));
  } else {
    report->taken.push_back(wanted.names.front());
    matches->push_back({wanted.tensor, info});
  }
}

void FindExtra(const SafetensorsFile& file, const std::vector<Wanted>& wanted, LoadReport* report) {
  std::map<std::string, bool> known;
  for (const Wanted& one : wanted) {
    for (const std::string& name : one.names) known[name] = true;
  }
  for (const TensorInfo& info : file.header.tensors) {
    if (known.count(info.name) == 0) report->extra.push_back(info.name);
  }
}

void Copy(const SafetensorsFile& file, const Match& match) {
  const absl::string_view bytes = file.data(*match.info);
  torch::Tensor value = torch::empty(match.info->shape, *TypeOf(match.info->dtype));
  if (!bytes.empty()) std::memcpy(value.data_ptr(), bytes.data(), bytes.size());
  const torch::NoGradGuard no_grad;
  torch::Tensor target = match.tensor;
  target.copy_(value);
}

bool HasEveryParameter(const LoadReport& report, const Network& network) {
  if (!report.unfit.empty()) return false;
  for (const std::string& missing : report.missing) {
    for (const auto* tensors : {&network.parameters(), &network.frozen()}) {
      for (const NamedTensor& parameter : *tensors) {
        if (parameter.name == missing) return false;
      }
    }
  }
  return true;
}

std::string FirstFew(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  if (names.size() <= kShown) return absl::StrJoin(names, ", ");
  return absl::StrCat(absl::StrJoin(names.begin(), names.begin() + kShown, ", "), " and ", names.size() - kShown,
                      " more");
}

}  // namespace

absl::string_view SavedWeights::bytes(size_t index) const {
  return {static_cast<const char*>(values[index].data_ptr()), static_cast<size_t>(values[index].nbytes())};
}

SavedWeights SaveWeights(const Network& network, bool copy) {
  SavedWeights saved;
  std::map<std::string, size_t> index;
  for (const NamedTensor& named : AllTensors(network)) {
    const torch::Tensor here = named.tensor.detach().to(torch::kCPU).contiguous();
    index[named.name] = saved.values.size();
    saved.tensors.push_back({named.name, NameOf(here.scalar_type()), here.sizes().vec()});
    saved.values.push_back(copy && here.is_alias_of(named.tensor) ? here.clone() : here);
  }
  for (const auto& [alias, name] : network.tied()) {
    const size_t first = index.at(name);
    TensorInfo info = saved.tensors[first];
    info.name = alias;
    saved.tensors.push_back(std::move(info));
    saved.values.push_back(saved.values[first]);
  }
  return saved;
}

std::string LoadReport::Summary() const {
  std::string text = absl::StrCat(taken.size(), " of ", taken.size() + missing.size() + unfit.size(), " tensors taken");
  if (!missing.empty()) absl::StrAppend(&text, "; missing: ", FirstFew(missing));
  if (!unfit.empty()) absl::StrAppend(&text, "; unlike the model's: ", FirstFew(unfit));
  if (!extra.empty()) absl::StrAppend(&text, "; not in the model: ", FirstFew(extra));
  return text;
}

absl::StatusOr<LoadReport> LoadWeights(const SafetensorsFile& file, InitMatch match, Network* network) {
  LoadReport report;
  std::vector<Match> matches;
  const std::vector<Wanted> wanted = WantedOf(*network);
  for (const Wanted& one : wanted) FindMatch(file, one, &matches, &report);
  FindExtra(file, wanted, &report);
  if (match == INIT_MATCH_ALL && !HasEveryParameter(report, *network)) {
    return absl::InvalidArgumentError(absl::StrCat("the weights are not this model's: ", report.Summary()));
  }
  if (matches.empty()) return absl::InvalidArgumentError(absl::StrCat("no tensor fits the model: ", report.Summary()));
  try {
    for (const Match& found : matches) Copy(file, found);
  } catch (const std::exception& error) {
    return TorchStatus(error, "taking weights");
  }
  return report;
}

absl::StatusOr<LoadReport> LoadCheckpointWeights(const SafetensorsFile& file, Network* network) {
  absl::StatusOr<LoadReport> report = LoadWeights(file, INIT_MATCH_ALL, network);
  if (report.ok()) return report;
  return absl::Status(
      report.status().code(),
      absl::StrCat(report.status().message(), "; put model.torchscript back as it was when the run began"));
}

}  // namespace lockstep
