#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/json.h"
#include "common/checkpoint/names.h"

namespace lockstep {
namespace {

absl::Status WriteFile(FileSystem* files, const std::string& path, absl::string_view content) {
  ASSIGN_OR_RETURN(const auto file, files->Create(path));
  RETURN_IF_ERROR(file->Append(content));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

std::string ParentOf(const std::string& folder) {
  const size_t slash = folder.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : folder.substr(0, slash);
}

// Puts `temporary` in the place of `folder`. What is there already stays until the new one is in place and synced.
absl::Status MoveIntoPlace(FileSystem* files, const std::string& checkpoints_folder, const std::string& temporary,
                           int64_t step) {
  const std::string folder = JoinPath(checkpoints_folder, CheckpointName(step));
  const std::string old = HiddenPath(checkpoints_folder, step, kReplacedSuffix);
  const bool replaces = files->Exists(folder);
  if (replaces) RETURN_IF_ERROR(files->Rename(folder, old));
  if (const absl::Status renamed = files->Rename(temporary, folder); !renamed.ok()) {
    // If this fails too, FindLastCheckpoint still reads the old one under its other name.
    if (replaces) files->Rename(old, folder).IgnoreError();
    return renamed;
  }
  RETURN_IF_ERROR(files->SyncFolder(checkpoints_folder));
  // A leftover; the next writer or PruneCheckpoints removes it if this one can't.
  if (replaces) files->RemoveAll(old).IgnoreError();
  return absl::OkStatus();
}

}  // namespace

struct CheckpointWriter::OpenFile {
  std::string name;
  std::unique_ptr<WritableFile> file;
  int64_t bytes = 0;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash{XXH3_createState(), XXH3_freeState};
};

CheckpointWriter::CheckpointWriter(FileSystem* files, std::string folder, int64_t step)
    : files_(files),
      checkpoints_folder_(std::move(folder)),
      temporary_(HiddenPath(checkpoints_folder_, step, kTemporarySuffix)),
      step_(step) {
  manifest_.set_schema_version(1);
  manifest_.set_step(step);
}

CheckpointWriter::~CheckpointWriter() {
  open_.reset();
  if (!committed_) files_->RemoveAll(temporary_).IgnoreError();
}

absl::StatusOr<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(FileSystem* files,
                                                                           const std::string& checkpoints_folder,
                                                                           int64_t step) {
  if (step < 0) return absl::InvalidArgumentError(absl::StrCat("a checkpoint of step ", step, ": steps begin at 0"));
  if (!files->Exists(checkpoints_folder)) {
    RETURN_IF_ERROR(files->MakeFolders(checkpoints_folder));
    RETURN_IF_ERROR(files->SyncFolder(ParentOf(checkpoints_folder)));
  }
  RETURN_IF_ERROR(FinishReplacement(files, checkpoints_folder, step));
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(files, checkpoints_folder, step));
  RETURN_IF_ERROR(files->RemoveAll(writer->temporary_));
  RETURN_IF_ERROR(files->MakeFolders(writer->temporary_));
  return writer;
}

absl::Status CheckpointWriter::Keep(absl::Status status) {
  if (failed_.ok()) failed_ = status;
  return status;
}

absl::Status CheckpointWriter::BeginFile(const std::string& name) {
  RETURN_IF_ERROR(EndFile());
  if (!IsContentName(name)) {
    return Keep(absl::InvalidArgumentError(absl::StrCat("a checkpoint holds no file '", absl::CHexEscape(name),
                                                        "', only ", kModelFile, ", ", kOptimizerFile, ", ", kRanksFile,
                                                        " and ", kStateFile)));
  }
  for (const Manifest::File& file : manifest_.files()) {
    if (file.name() != name) continue;
    return Keep(
        absl::InvalidArgumentError(absl::StrCat("the checkpoint of step ", step_, " has its ", name, " already")));
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> file = files_->Create(JoinPath(temporary_, name));
  RETURN_IF_ERROR(Keep(file.status()));
  open_ = std::make_unique<OpenFile>();
  open_->name = name;
  open_->file = *std::move(file);
  XXH3_64bits_reset(open_->hash.get());
  return absl::OkStatus();
}

absl::Status CheckpointWriter::Append(absl::string_view data) {
  RETURN_IF_ERROR(failed_);
  if (open_ == nullptr) return Keep(absl::FailedPreconditionError("Append before BeginFile"));
  RETURN_IF_ERROR(Keep(open_->file->Append(data)));
  XXH3_64bits_update(open_->hash.get(), data.data(), data.size());
  open_->bytes += static_cast<int64_t>(data.size());
  return absl::OkStatus();
}

absl::Status CheckpointWriter::AddFile(const std::string& name, absl::string_view content) {
  RETURN_IF_ERROR(BeginFile(name));
  RETURN_IF_ERROR(Append(content));
  return EndFile();
}

absl::Status CheckpointWriter::EndFile() {
  RETURN_IF_ERROR(failed_);
  if (open_ == nullptr) return absl::OkStatus();
  const std::unique_ptr<OpenFile> ended = std::move(open_);
  RETURN_IF_ERROR(Keep(ended->file->Sync()));
  RETURN_IF_ERROR(Keep(ended->file->Close()));
  Manifest::File* file = manifest_.add_files();
  file->set_name(ended->name);
  file->set_bytes(ended->bytes);
  file->set_xxh3(absl::StrFormat("%016x", XXH3_64bits_digest(ended->hash.get())));
  return absl::OkStatus();
}

absl::StatusOr<CheckpointWriter::Committed> CheckpointWriter::Commit() {
  RETURN_IF_ERROR(EndFile());
  if (committed_) return absl::FailedPreconditionError(absl::StrCat("the checkpoint of step ", step_, " is committed"));
  RETURN_IF_ERROR(Keep(CheckManifest(manifest_)));
  const std::string manifest = MessageToJson(manifest_);
  RETURN_IF_ERROR(Keep(WriteFile(files_, JoinPath(temporary_, kManifestFile), manifest)));
  RETURN_IF_ERROR(Keep(files_->SyncFolder(temporary_)));
  RETURN_IF_ERROR(Keep(MoveIntoPlace(files_, checkpoints_folder_, temporary_, step_)));
  committed_ = true;
  Committed result{JoinPath(checkpoints_folder_, CheckpointName(step_)), static_cast<int64_t>(manifest.size()),
                   ManifestDigest(manifest_)};
  for (const Manifest::File& file : manifest_.files()) result.bytes += file.bytes();
  return result;
}

std::string ManifestDigest(const Manifest& manifest) {
  const std::string text = MessageToJson(manifest);
  return absl::StrFormat("%016x", XXH3_64bits(text.data(), text.size()));
}

}  // namespace lockstep
