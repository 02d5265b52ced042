#include "common/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr size_t kPieceBytes = 1 << 18;

class RealWritableFile : public WritableFile {
 public:
  RealWritableFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~RealWritableFile() override {
    if (fd_ >= 0) close(fd_);
  }

  absl::Status Append(absl::string_view data) override {
    while (!data.empty()) {
      const ssize_t n = write(fd_, data.data(), data.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, path_);
      data.remove_prefix(n);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override { return fsync(fd_) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path_); }

  absl::Status Close() override {
    const int fd = std::exchange(fd_, -1);
    return close(fd) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path_);
  }

 private:
  int fd_;
  const std::string path_;
};

class RealFileSystem : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, int mode) override {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) return ErrnoStatus(errno, path);
    return std::make_unique<RealWritableFile>(fd, path);
  }

  absl::Status ForEachPiece(const std::string& path, int64_t max_bytes,
                            absl::FunctionRef<void(absl::string_view)> take) override {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus(errno, path);
    const auto piece = std::make_unique<char[]>(kPieceBytes);
    absl::Status status;
    for (int64_t had = 0;;) {
      const ssize_t n = read(fd, piece.get(), kPieceBytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) status = ErrnoStatus(errno, path);
      had += std::max<ssize_t>(n, 0);
      if (had > max_bytes) {
        status = absl::InvalidArgumentError(absl::StrCat(path, ": larger than ", max_bytes, " bytes"));
      }
      if (n <= 0 || !status.ok()) break;
      take({piece.get(), static_cast<size_t>(n)});
    }
    close(fd);
    return status;
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    return rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : ErrnoStatus(errno, absl::StrCat(from, " → ", to));
  }

  absl::Status SyncFolder(const std::string& path) override {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus(errno, path);
    const int result = fsync(fd), error = errno;
    close(fd);
    return result == 0 ? absl::OkStatus() : ErrnoStatus(error, path);
  }

  absl::Status MakeFolders(const std::string& path, int mode) override {
    for (size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
      const std::string part = path.substr(0, at);
      if (mkdir(part.c_str(), at == std::string::npos ? mode : 0755) != 0 && errno != EEXIST)
        return ErrnoStatus(errno, part);
      if (at == std::string::npos) break;
    }
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
    return S_ISDIR(info.st_mode) ? absl::OkStatus() : ErrnoStatus(ENOTDIR, path);
  }

  absl::Status RemoveAll(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    return error ? ErrnoStatus(error.value(), path) : absl::OkStatus();
  }

  absl::Status ReplaceLink(const std::string& target, const std::string& link) override {
    const std::string temporary = link + ".new";
    unlink(temporary.c_str());
    if (symlink(target.c_str(), temporary.c_str()) != 0) return ErrnoStatus(errno, temporary);
    return Rename(temporary, link);
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override {
    DIR* dir = opendir(folder.c_str());
    if (dir == nullptr) return ErrnoStatus(errno, folder);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(dir)) {
      if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) names.push_back(entry->d_name);
    }
    closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool Exists(const std::string& path) override { return access(path.c_str(), F_OK) == 0; }
};

}  // namespace

FileSystem* FileSystem::Real() {
  static RealFileSystem* const files = new RealFileSystem;
  return files;
}

absl::StatusOr<std::string> FileSystem::Read(const std::string& path, int64_t max_bytes) {
  std::string content;
  RETURN_IF_ERROR(ForEachPiece(path, max_bytes,
                               [&content](absl::string_view piece) { content.append(piece.data(), piece.size()); }));
  return content;
}

absl::Status WriteFileAtomically(FileSystem* files, const std::string& path, absl::string_view data, int mode) {
  const std::string temporary = path + ".new";
  auto created = files->Create(temporary, mode);
  if (!created.ok()) {  // nobody asked for the temporary one
    const absl::Status& status = created.status();
    return absl::Status(status.code(), absl::StrReplaceAll(status.message(), {{temporary, path}}));
  }
  const std::unique_ptr<WritableFile> file = *std::move(created);
  RETURN_IF_ERROR(file->Append(data));
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  if (const absl::Status renamed = files->Rename(temporary, path); !renamed.ok()) {
    files->RemoveAll(temporary).IgnoreError();
    return renamed;
  }
  const size_t slash = path.rfind('/');
  return files->SyncFolder(slash == std::string::npos ? "." : path.substr(0, slash + 1));
}

absl::Status WriteOutput(const std::string& path, absl::string_view data) {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::weakly_canonical(path, error);
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is a folder; give a file"));
  }
  if (std::filesystem::is_regular_file(status) || !std::filesystem::exists(status)) {
    return WriteFileAtomically(FileSystem::Real(), target.empty() ? path : target.string(), data);
  }
  std::ofstream stream(path, std::ios::binary);
  if (stream << data << std::flush) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
}

std::string JoinPath(absl::string_view folder, absl::string_view name) {
  if (folder.empty() || name.substr(0, 1) == "/") return std::string(name);
  return absl::StrCat(folder, folder.back() == '/' ? "" : "/", name);
}

absl::Status ErrnoStatus(int error, absl::string_view where) {
  const std::string message = absl::StrCat(where, ": ", strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

}  // namespace lockstep
