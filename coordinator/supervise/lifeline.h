#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

// What supervisor and coordinator say to each other over two pipes, a line each: a word, a space, the rest.
//
// Up, over the report pipe:
//   ready HOST:PORT     the coordinator answers calls
//   refused CODE WHY    it could not start; CODE is the exit code to hand on
//   ended CODE WHY      the run is over; the coordinator still answers calls. Without a `ready`: it was so before
// After either of the last two it stays until the lifeline closes, so that one of the two is there to remove what the
// run leaves. Down, over the lifeline:
//   stop BY             stop after a checkpoint, for a signal
//   abort WHY           end the run at once, without a checkpoint
//   done                the supervisor has removed what the run left, and closes the lifeline next
// The lifeline closed without `done`: the supervisor is gone, and the coordinator removes it.
struct LifelineMessage {
  std::string word;
  int code = 0;  // of refused and ended
  std::string text;
};

std::string FormatLifelineMessage(const LifelineMessage& message);
// Nothing: no such message.
std::optional<LifelineMessage> ParseLifelineMessage(absl::string_view line);

// Reads messages from a pipe without blocking. Lines that are no message are dropped. Not thread-safe.
class LifelineReader {
 public:
  // Owns `fd` and makes it non-blocking.
  explicit LifelineReader(UniqueFd fd);
  int fd() const { return fd_.get(); }
  // Everything that has arrived since the last call. closed() may become true.
  std::vector<LifelineMessage> Read();
  bool closed() const { return closed_; }

 private:
  UniqueFd fd_;
  std::string pending_;
  bool closed_ = false;
};

// Unavailable: the other end is gone.
absl::Status WriteLifelineMessage(int fd, const LifelineMessage& message);

}  // namespace lockstep
