#include "coordinator/supervise/lifeline.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"

namespace lockstep {
namespace {

bool HasCode(absl::string_view word) { return word == "refused" || word == "ended"; }

bool IsWord(absl::string_view word) {
  return HasCode(word) || word == "ready" || word == "stop" || word == "abort" || word == "done";
}

}  // namespace

std::string FormatLifelineMessage(const LifelineMessage& message) {
  const std::string text = absl::StrReplaceAll(message.text, {{"\n", " "}});
  if (HasCode(message.word)) return absl::StrCat(message.word, " ", message.code, " ", text, "\n");
  return absl::StrCat(message.word, " ", text, "\n");
}

std::optional<LifelineMessage> ParseLifelineMessage(absl::string_view line) {
  LifelineMessage message;
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
  if (!IsWord(parts.first)) return std::nullopt;
  message.word = std::string(parts.first);
  message.text = std::string(parts.second);
  if (!HasCode(message.word)) return message;
  const std::pair<absl::string_view, absl::string_view> rest = absl::StrSplit(parts.second, absl::MaxSplits(' ', 1));
  if (!absl::SimpleAtoi(rest.first, &message.code)) return std::nullopt;
  message.text = std::string(rest.second);
  return message;
}

LifelineReader::LifelineReader(UniqueFd fd) : fd_(std::move(fd)) {
  fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
  fcntl(fd_.get(), F_SETFD, FD_CLOEXEC);
}

std::vector<LifelineMessage> LifelineReader::Read() {
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd_.get(), buffer, sizeof(buffer));
    if (n > 0) {
      pending_.append(buffer, n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    closed_ = n == 0 || errno != EAGAIN;
    break;
  }
  std::vector<LifelineMessage> messages;
  size_t begin = 0;
  for (size_t end; (end = pending_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    std::optional<LifelineMessage> message =
        ParseLifelineMessage(absl::string_view(pending_).substr(begin, end - begin));
    if (message.has_value()) messages.push_back(*std::move(message));
  }
  pending_.erase(0, begin);
  return messages;
}

absl::Status WriteLifelineMessage(int fd, const LifelineMessage& message) {
  const std::string line = FormatLifelineMessage(message);
  // Lines are short and few: a pipe's 64 KiB hold them all, so this never blocks for long.
  ssize_t n;
  while ((n = write(fd, line.data(), line.size())) < 0 && errno == EINTR) continue;
  return n < 0 ? ErrnoStatus(errno, "lifeline") : absl::OkStatus();
}

}  // namespace lockstep
