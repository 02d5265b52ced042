#include "common/data/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "common/base/file.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr unsigned char kGzipMagic[] = {0x1F, 0x8B};
// deflate makes at most 1032 bytes of one (zlib.net/zlib_tech.html, "Maximum Compression Factor").
constexpr int64_t kMostInflation = 1032;
constexpr char kCopyAgain[] = "; copy or download the file again";

// Reads the file itself.
class PlainFile : public InputFile {
 public:
  PlainFile(int fd, int64_t file_bytes, std::string path) : fd_(fd), file_bytes_(file_bytes), path_(std::move(path)) {}
  ~PlainFile() override { close(fd_); }

  absl::StatusOr<int64_t> Read(std::byte* out, int64_t size) override {
    int64_t got = 0;
    while (got < size) {
      const ssize_t n = read(fd_, out + got, size - got);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, path_);
      if (n == 0) break;
      got += n;
    }
    return got;
  }

  int64_t MostBytes() const override { return file_bytes_; }
  const std::string& path() const { return path_; }

 private:
  const int fd_;
  const int64_t file_bytes_;
  const std::string path_;
};

// Inflates what it reads; several gzip members one after another are one stream, as gunzip has it.
class GzipFile : public InputFile {
 public:
  explicit GzipFile(std::unique_ptr<PlainFile> file) : file_(std::move(file)), buffer_(1 << 16) {}
  ~GzipFile() override { inflateEnd(&stream_); }

  absl::Status Init() {
    if (inflateInit2(&stream_, 15 + 16) == Z_OK) return absl::OkStatus();  // 15: any window; 16: gzip, not zlib
    return absl::ResourceExhaustedError(absl::StrCat(file_->path(), ": no memory to inflate gzip; free some"));
  }

  absl::StatusOr<int64_t> Read(std::byte* out, int64_t size) override {
    int64_t got = 0;
    while (got < size && !ended_) {
      ASSIGN_OR_RETURN(const bool more, Refill());
      if (!more) return Damaged("the gzip stream is cut off");
      const uInt room = static_cast<uInt>(std::min<int64_t>(size - got, 1 << 30));
      stream_.next_out = reinterpret_cast<Bytef*>(out + got);
      stream_.avail_out = room;
      const int result = inflate(&stream_, Z_NO_FLUSH);
      got += room - stream_.avail_out;
      if (result == Z_STREAM_END) {
        RETURN_IF_ERROR(EndMember());
      } else if (result != Z_OK) {
        return Damaged(
            absl::StrCat("the gzip stream is damaged", stream_.msg ? ": " : "", stream_.msg ? stream_.msg : ""));
      }
    }
    return got;
  }

  int64_t MostBytes() const override { return file_->MostBytes() * kMostInflation; }

 private:
  // False: the file is at its end.
  absl::StatusOr<bool> Refill() {
    if (stream_.avail_in > 0) return true;
    ASSIGN_OR_RETURN(const int64_t n, file_->Read(reinterpret_cast<std::byte*>(buffer_.data()), buffer_.size()));
    stream_.next_in = buffer_.data();
    stream_.avail_in = static_cast<uInt>(n);
    read_ += n;
    return n > 0;
  }

  absl::Status EndMember() {
    ASSIGN_OR_RETURN(const bool more, Refill());
    ended_ = !more;
    if (ended_) return absl::OkStatus();
    if (*stream_.next_in != kGzipMagic[0]) return Damaged("other bytes follow the gzip stream");
    inflateReset(&stream_);
    return absl::OkStatus();
  }

  absl::Status Damaged(absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(file_->path(), ": byte ", read_ - stream_.avail_in, ": ", what, kCopyAgain));
  }

  const std::unique_ptr<PlainFile> file_;
  std::vector<Bytef> buffer_;
  z_stream stream_{};
  int64_t read_ = 0;
  bool ended_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<InputFile>> InputFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a FIFO must not hold us up
  if (fd < 0) return ErrnoStatus(errno, path);
  struct stat info;
  const bool known = fstat(fd, &info) == 0;
  auto plain = std::make_unique<PlainFile>(fd, known ? info.st_size : 0, path);
  if (!known || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file; give a file"));
  }
  unsigned char magic[2];
  if (pread(fd, magic, sizeof magic, 0) != sizeof magic || !std::equal(magic, magic + 2, kGzipMagic)) return plain;
  auto gzip = std::make_unique<GzipFile>(std::move(plain));
  RETURN_IF_ERROR(gzip->Init());
  return gzip;
}

}  // namespace lockstep
