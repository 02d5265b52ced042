#pragma once

#include <sys/types.h>

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

// Asks hosts whether they are there, for as long as ranks of theirs have yet to join: a host that is cut off before it
// has connected is missed by nobody else. One that takes its time but answers is there.
//
// A question is a child, some of them at once. Not thread-safe; of the thread that reaps children.
class HostWatch {
 public:
  struct Options {
    std::function<ChildOptions(const std::string& host)> question;  // ends once the host has answered; none: no watch
    absl::Duration patience;  // until the first round of questions, with each of them, and from round to round
  };
  // Names those whose ranks are still to join. None: no more rounds.
  using Awaited = std::function<std::vector<std::string>()>;

  HostWatch(Options options, Awaited awaited);
  ~HostWatch() { Stop(); }
  void Start(absl::Time now);
  // Kills the questions under way.
  void Stop();
  // When Look has something to do; InfiniteFuture: not before a question has ended.
  absl::Time due() const;
  // A child, a question or another, has been reaped.
  void OnExit(pid_t pid);
  // Asks what is to be asked by now. Returns a host that is awaited and has given no answer; the watch then stops.
  std::optional<std::string> Look(absl::Time now);

 private:
  struct Question {
    pid_t pid = 0;
    std::string host;
    absl::Time until;  // InfiniteFuture: the answer does not matter any more
  };
  void Ask(absl::Time now);

  const Options options_;
  const Awaited awaited_;
  absl::Time next_round_ = absl::InfiniteFuture();
  std::deque<std::string> to_ask_;  // of this round
  std::vector<Question> asked_;
};

}  // namespace lockstep
