#include "coordinator/supervise/host_watch.h"

#include <algorithm>
#include <csignal>
#include <utility>

namespace lockstep {
namespace {

constexpr size_t kAtOnce = 32;
constexpr absl::Duration kLate = absl::Seconds(1);

}  // namespace

HostWatch::HostWatch(Options options, Awaited awaited) : options_(std::move(options)), awaited_(std::move(awaited)) {}

void HostWatch::Start(absl::Time now) {
  if (options_.question) next_round_ = now + options_.patience;
}

void HostWatch::Stop() {
  for (const Question& one : asked_) kill(-one.pid, SIGKILL);
  asked_.clear();
  to_ask_.clear();
  next_round_ = absl::InfiniteFuture();
}

absl::Time HostWatch::due() const {
  if (asked_.empty()) return next_round_;
  const auto sooner = [](const Question& a, const Question& b) { return a.until < b.until; };
  return std::min_element(asked_.begin(), asked_.end(), sooner)->until;
}

void HostWatch::OnExit(pid_t pid) {
  const auto is_it = [&](const Question& one) { return one.pid == pid; };
  asked_.erase(std::remove_if(asked_.begin(), asked_.end(), is_it), asked_.end());
}

std::optional<std::string> HostWatch::Look(absl::Time now) {
  // Whoever stopped this process for a while stopped its children, too.
  const bool was_away = now >= due() + kLate;
  for (Question& one : asked_) {
    if (was_away) one.until = std::max(one.until, now + options_.patience);
    if (now < one.until) continue;
    const std::vector<std::string> awaited = awaited_();
    if (std::find(awaited.begin(), awaited.end(), one.host) != awaited.end()) {
      std::string host = one.host;
      Stop();
      return host;
    }
    kill(-one.pid, SIGKILL);
    one.until = absl::InfiniteFuture();
  }
  if (asked_.empty() && to_ask_.empty() && now >= next_round_) {
    const std::vector<std::string> awaited = awaited_();
    to_ask_.assign(awaited.begin(), awaited.end());
    next_round_ = awaited.empty() ? absl::InfiniteFuture() : now + options_.patience;
  }
  while (!to_ask_.empty() && asked_.size() < kAtOnce) Ask(now);
  return std::nullopt;
}

void HostWatch::Ask(absl::Time now) {
  Question one;
  one.host = std::move(to_ask_.front());
  to_ask_.pop_front();
  const absl::StatusOr<pid_t> pid = StartChild(options_.question(one.host));
  if (!pid.ok()) return;  // that it cannot be asked is no news of the host
  one.pid = *pid;
  one.until = now + options_.patience;
  asked_.push_back(std::move(one));
}

}  // namespace lockstep
