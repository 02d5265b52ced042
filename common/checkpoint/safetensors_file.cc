#include <utility>

#include "common/base/file.h"
#include "common/base/status.h"
#include "common/checkpoint/safetensors.h"

namespace lockstep {

const TensorInfo* SafetensorsFile::Find(absl::string_view name) const {
  for (const TensorInfo& tensor : header.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

absl::StatusOr<SafetensorsFile> ParseSafetensors(std::string bytes) {
  SafetensorsFile file;
  ASSIGN_OR_RETURN(file.header, ParseSafetensorsHeader(bytes, static_cast<int64_t>(bytes.size())));
  file.bytes = std::move(bytes);
  return file;
}

absl::StatusOr<SafetensorsFile> ReadSafetensors(const std::string& path) {
  ASSIGN_OR_RETURN(std::string bytes, FileSystem::Real()->Read(path));
  absl::StatusOr<SafetensorsFile> file = ParseSafetensors(std::move(bytes));
  if (!file.ok()) return Annotate(file.status(), path);
  return file;
}

}  // namespace lockstep
