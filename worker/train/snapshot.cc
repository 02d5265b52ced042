#include "worker/train/snapshot.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "worker/model/weights.h"

namespace lockstep {
namespace {

constexpr size_t kChunkBytes = 1 << 20;
const std::map<std::string, std::string>& Metadata() {
  static const auto* const metadata = new std::map<std::string, std::string>{{"format", "pt"}};
  return *metadata;
}

// Header and tensors, whose bytes `bytes_of` gives by index, into `file`'s memory.
absl::Status Write(std::vector<TensorInfo> tensors, const std::function<absl::string_view(size_t)>& bytes_of,
                   std::string* file) {
  ASSIGN_OR_RETURN(const std::string header, MakeSafetensorsHeader(&tensors, Metadata()));
  const size_t data_bytes = tensors.empty() ? 0 : static_cast<size_t>(tensors.back().end);
  file->resize(header.size() + data_bytes);
  std::memcpy(file->data(), header.data(), header.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const absl::string_view bytes = bytes_of(i);
    if (!bytes.empty()) std::memcpy(file->data() + header.size() + tensors[i].begin, bytes.data(), bytes.size());
  }
  return absl::OkStatus();
}

std::string StateName(const SpanOptimizer::State& state, const ParameterSegment& segment) {
  return absl::StrCat(state.name, "/", segment.name);
}

absl::Status RestoreOptimizer(const SafetensorsFile& file, const ParameterLayout& layout, SpanOptimizer* optimizer) {
  size_t taken = 0;
  for (const SpanOptimizer::State& state : optimizer->states()) {
    for (const ParameterSegment& segment : layout.segments()) {
      const std::string name = StateName(state, segment);
      const TensorInfo* const tensor = file.Find(name);
      if (tensor == nullptr) return absl::DataLossError(absl::StrCat(kOptimizerFile, ": no tensor '", name, "'"));
      if (tensor->dtype != "F32" || tensor->shape != segment.shape) {
        return absl::DataLossError(absl::StrCat(kOptimizerFile, ": '", name, "' is ", tensor->dtype, " [",
                                                absl::StrJoin(tensor->shape, ", "), "], the parameter is F32 [",
                                                absl::StrJoin(segment.shape, ", "), "]"));
      }
      const absl::string_view bytes = file.data(*tensor);
      if (!bytes.empty()) std::memcpy(state.values.data() + segment.first, bytes.data(), bytes.size());
      ++taken;
    }
  }
  if (taken == file.header.tensors.size()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(kOptimizerFile, ": ", file.header.tensors.size(),
                                          " tensors, the optimizer has ", taken, ": it belongs to another one"));
}

}  // namespace

absl::Status Snapshot::Take() {
  Rewind();
  RETURN_IF_ERROR(TakeModel(&files_[kModel]));
  return TakeOptimizer(&files_[kOptimizer]);
}

absl::Status Snapshot::TakeModel(File* file) {
  const SavedWeights weights = SaveWeights(*network_, /*copy=*/false);
  return Write(
      weights.tensors, [&](size_t i) { return weights.bytes(i); }, &file->bytes);
}

absl::Status Snapshot::TakeOptimizer(File* file) {
  std::vector<TensorInfo> tensors;
  std::vector<absl::string_view> values;
  std::vector<const ParameterSegment*> segments(parameters_->layout().segments().size());  // in order of registration
  for (const ParameterSegment& segment : parameters_->layout().segments()) segments[segment.number] = &segment;
  for (const SpanOptimizer::State& state : optimizer_->states()) {
    for (const ParameterSegment* segment : segments) {
      tensors.push_back({StateName(state, *segment), "F32", segment->shape});
      values.emplace_back(reinterpret_cast<const char*>(state.values.data() + segment->first),
                          segment->count * sizeof(float));
    }
  }
  return Write(
      std::move(tensors), [&](size_t i) { return values[i]; }, &file->bytes);
}

std::vector<Manifest::File> Snapshot::files() const {
  std::vector<Manifest::File> files;
  for (const File& file : files_) {
    if (file.bytes.empty()) continue;
    files.emplace_back();
    files.back().set_name(file.name);
    files.back().set_bytes(static_cast<int64_t>(file.bytes.size()));
  }
  return files;
}

absl::string_view Snapshot::NextChunk() {
  while (file_ < files_.size() && position_ == files_[file_].bytes.size()) ++file_, position_ = 0;
  if (file_ == files_.size()) return "";
  const absl::string_view chunk = absl::string_view(files_[file_].bytes).substr(position_, kChunkBytes);
  position_ += chunk.size();
  return chunk;
}

absl::StatusOr<SafetensorsFile> TakeRanksFile(CoordinatorLink::Downloaded* checkpoint) {
  for (int i = 0; i < checkpoint->header.files_size() && i < static_cast<int>(checkpoint->files.size()); ++i) {
    if (checkpoint->header.files(i).name() != kRanksFile) continue;
    absl::StatusOr<SafetensorsFile> file = ParseSafetensors(std::move(checkpoint->files[i]));
    if (!file.ok()) return Annotate(absl::DataLossError(file.status().message()), kRanksFile);
    return file;
  }
  return SafetensorsFile();
}

absl::Status RestoreTensors(CoordinatorLink::Downloaded checkpoint, Network* network, FlatParameters* parameters,
                            SpanOptimizer* optimizer) {
  bool has_model = false, has_optimizer = false;
  for (int i = 0; i < checkpoint.header.files_size() && i < static_cast<int>(checkpoint.files.size()); ++i) {
    const std::string& name = checkpoint.header.files(i).name();
    if (name != kModelFile && name != kOptimizerFile) continue;
    absl::StatusOr<SafetensorsFile> file = ParseSafetensors(std::move(checkpoint.files[i]));
    if (!file.ok()) return Annotate(file.status(), name);
    if (name == kOptimizerFile) {
      RETURN_IF_ERROR(RestoreOptimizer(*file, parameters->layout(), optimizer));
      has_optimizer = true;
      continue;
    }
    absl::StatusOr<LoadReport> report = LoadCheckpointWeights(*file, network);
    if (!report.ok()) return Annotate(report.status(), name);
    if (!report->missing.empty()) return absl::DataLossError(absl::StrCat(name, ": ", report->Summary()));
    parameters->Fetch();
    has_model = true;
  }
  if (has_model && has_optimizer) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the checkpoint has no ", has_model ? kOptimizerFile : kModelFile));
}

}  // namespace lockstep
