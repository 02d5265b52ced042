#include "tests/common/checkpoint/faulty_files.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

std::string FolderOf(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

void RemoveOneFile(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::filesystem::remove_all(entry.path(), error);
    return;
  }
}

}  // namespace

class FaultyFiles::File : public WritableFile {
 public:
  File(FaultyFiles* files, std::string path, std::unique_ptr<WritableFile> file)
      : files_(files), path_(std::move(path)), file_(std::move(file)) {}

  absl::Status Append(absl::string_view data) override {
    RETURN_IF_ERROR(
        files_->Operate(true, path_, [&] { file_->Append(data.substr(0, data.size() / 2)).IgnoreError(); }));
    files_->unsynced_content_.push_back(path_);
    return file_->Append(data);
  }
  absl::Status Sync() override {
    RETURN_IF_ERROR(files_->Operate(true, path_));
    auto& content = files_->unsynced_content_;
    content.erase(std::remove(content.begin(), content.end(), path_), content.end());
    return absl::OkStatus();
  }
  absl::Status Close() override {
    RETURN_IF_ERROR(files_->Operate(true, path_));
    return file_->Close();
  }

 private:
  FaultyFiles* const files_;
  const std::string path_;
  const std::unique_ptr<WritableFile> file_;
};

absl::Status FaultyFiles::Operate(bool writes, const std::string& path, const std::function<void()>& half) {
  if (dead_) return absl::AbortedError("the process is dead");
  const int number = ++operations_;
  if (fault_ == Fault::kOneError && number == at_) return ErrnoStatus(EIO, path);
  if (fault_ == Fault::kDiskFull && number >= at_ && writes) return ErrnoStatus(ENOSPC, path);
  if ((fault_ != Fault::kCrash && fault_ != Fault::kPowerCut) || number != at_) return absl::OkStatus();
  half();
  Die();
  return absl::AbortedError("the process is dead");
}

void FaultyFiles::Die() {
  dead_ = true;
  if (fault_ != Fault::kPowerCut) return;
  std::error_code error;
  for (const std::string& path : unsynced_content_) std::filesystem::resize_file(path, 0, error);
  while (!unsynced_.empty()) {
    const Unsynced change = unsynced_.back();
    unsynced_.pop_back();
    if (!change.target.empty()) {
      Real()->ReplaceLink(change.target, change.to).IgnoreError();
    } else if (change.from.empty()) {
      Real()->RemoveAll(change.to).IgnoreError();
    } else {
      Real()->Rename(change.to, change.from).IgnoreError();
      Moved(change.to, change.from);
    }
  }
}

void FaultyFiles::Moved(const std::string& from, const std::string& to) {
  const auto move = [&](std::string* path) {
    if (absl::StartsWith(*path, from + "/")) path->replace(0, from.size(), to);
  };
  for (std::string& path : unsynced_content_) move(&path);
  for (Unsynced& change : unsynced_) {
    move(&change.from);
    move(&change.to);
  }
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultyFiles::Create(const std::string& path, int mode) {
  RETURN_IF_ERROR(Operate(true, path));
  ASSIGN_OR_RETURN(auto file, Real()->Create(path, mode));
  unsynced_.push_back({"", path, ""});
  return std::make_unique<File>(this, path, std::move(file));
}

absl::Status FaultyFiles::ForEachPiece(const std::string& path, int64_t max_bytes,
                                       absl::FunctionRef<void(absl::string_view)> take) {
  if (dead_) return absl::AbortedError("the process is dead");
  return Real()->ForEachPiece(path, max_bytes, take);
}

absl::Status FaultyFiles::Rename(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(Operate(false, from));
  RETURN_IF_ERROR(Real()->Rename(from, to));
  Moved(from, to);
  unsynced_.push_back({from, to, ""});
  return absl::OkStatus();
}

absl::Status FaultyFiles::SyncFolder(const std::string& path) {
  RETURN_IF_ERROR(Operate(false, path));
  std::vector<Unsynced> rest;
  for (Unsynced& change : unsynced_) {
    if (FolderOf(change.to) != path) rest.push_back(std::move(change));
  }
  unsynced_ = std::move(rest);
  return absl::OkStatus();
}

absl::Status FaultyFiles::MakeFolders(const std::string& path, int mode) {
  RETURN_IF_ERROR(Operate(true, path));
  return Real()->MakeFolders(path, mode);
}

absl::Status FaultyFiles::RemoveAll(const std::string& path) {
  RETURN_IF_ERROR(Operate(false, path, [&] { RemoveOneFile(path); }));
  return Real()->RemoveAll(path);
}

absl::Status FaultyFiles::ReplaceLink(const std::string& target, const std::string& link) {
  RETURN_IF_ERROR(Operate(true, link));
  std::error_code error;
  const std::string before = std::filesystem::read_symlink(link, error).string();
  RETURN_IF_ERROR(Real()->ReplaceLink(target, link));
  unsynced_.push_back({"", link, before});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FaultyFiles::List(const std::string& folder) {
  if (dead_) return absl::AbortedError("the process is dead");
  return Real()->List(folder);
}

bool FaultyFiles::Exists(const std::string& path) { return !dead_ && Real()->Exists(path); }

}  // namespace lockstep
