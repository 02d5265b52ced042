#include "coordinator/service/download.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr int64_t kChunk = 1 << 20;

}  // namespace

CheckpointDownload::CheckpointDownload(int incarnation, const std::optional<FoundCheckpoint>* from)
    : incarnation_(incarnation), from_(from) {}

absl::Status CheckpointDownload::Begin(CheckpointChunk::Header* header) {
  begun_ = true;
  if (!from_->has_value()) return absl::NotFoundError("the run starts from its initial weights");
  header_.set_incarnation(incarnation_);
  *header_.mutable_cursor() = (*from_)->state.cursor();
  *header_.mutable_state() = (*from_)->state;
  for (const char* name : {kModelFile, kOptimizerFile, kRanksFile}) {
    for (const Manifest::File& file : (*from_)->manifest.files()) {
      if (file.name() == name) *header_.add_files() = file;
    }
  }
  *header = header_;
  return absl::OkStatus();
}

absl::StatusOr<bool> CheckpointDownload::Next(CheckpointChunk* chunk) {
  chunk->Clear();
  if (!begun_) {
    RETURN_IF_ERROR(Begin(chunk->mutable_header()));
    return true;
  }
  while (left_ == 0) {
    if (++file_ >= header_.files_size()) return false;
    left_ = header_.files(file_).bytes();
    open_.reset(std::fopen(JoinPath((*from_)->folder, header_.files(file_).name()).c_str(), "rbe"));
  }
  const int64_t size = std::min(left_, kChunk);
  std::string* data = chunk->mutable_data();
  data->resize(size);
  if (open_ == nullptr || std::fread(data->data(), 1, size, open_.get()) != static_cast<size_t>(size)) {
    return absl::DataLossError(absl::StrCat((*from_)->folder, "/", header_.files(file_).name(),
                                            ": it was whole when the run started, and cannot be read now"));
  }
  left_ -= size;
  return true;
}

}  // namespace lockstep
