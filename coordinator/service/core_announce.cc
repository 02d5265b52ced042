// What the workers are told, and the run's end.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/service/core.h"

namespace lockstep {
namespace {

// After a loss the other workers have so long to leave.
constexpr absl::Duration kLeaveTimeout = absl::Seconds(3);

}  // namespace

void Core::Broadcast(CoordinatorMessage message) {
  const auto shared = std::make_shared<const CoordinatorMessage>(std::move(message));
  for (const Place& place : places_) {
    if (place.link != nullptr) place.link->Send(shared);
  }
}

void Core::Announce() {
  for (; directives_sent_ < state_.directives().size(); ++directives_sent_) {
    CoordinatorMessage message;
    *message.mutable_directive() = state_.directives()[directives_sent_];
    Broadcast(std::move(message));
  }
  AnnounceVerdict();
  if (state_.failed()) AnnounceAbort(state_.stop()->reason());
  AnswerGrantRequests();
}

void Core::AnnounceVerdict() {
  if (state_.evaluations().empty()) return;
  const int64_t step = state_.evaluations().back().step();
  if (step <= state_.start_step() || (last_verdict_ && last_verdict_->step() == step)) return;
  const absl::StatusOr<Verdict> verdict = state_.VerdictAt(step);
  if (!verdict.ok()) return;
  last_verdict_ = *verdict;
  SendLastVerdict();
}

void Core::SendLastVerdict() {
  WorkerLink* const link = places_[0].link;
  if (link == nullptr || !last_verdict_) return;
  CoordinatorMessage message;
  *message.mutable_verdict() = *last_verdict_;
  link->Send(std::make_shared<const CoordinatorMessage>(std::move(message)));
}

void Core::AnnounceAbort(const std::string& reason) {
  if (aborted_) return;
  aborted_ = options_.clock->Monotonic();
  CoordinatorMessage message;
  message.mutable_abort()->set_reason(reason);
  Broadcast(std::move(message));
}

void Core::AnswerGrantRequests() {
  for (auto it = grant_requests_.begin(); it != grant_requests_.end();) {
    const auto [rank, held] = *it;
    WorkerLink* const link = places_[rank].link;
    if (link == nullptr || held >= state_.granted_through()) {
      ++it;
      continue;
    }
    CoordinatorMessage message;
    *message.mutable_grant() = GrantAfter(held);
    link->Send(std::make_shared<const CoordinatorMessage>(std::move(message)));
    it = grant_requests_.erase(it);
  }
}

const Grant& Core::GrantAfter(int64_t after) {
  if (grant_reached_ != state_.granted_through() || grant_.first_step() != after + 1) {
    grant_ = state_.MakeGrant(after);
    grant_reached_ = state_.granted_through();
  }
  return grant_;
}

absl::Status Core::MaybeEnd() {
  if (ended_ || !state_.stop()) return absl::OkStatus();
  const bool failed = state_.failed();
  const bool waited = failed && aborted_ && options_.clock->Monotonic() - *aborted_ >= kLeaveTimeout;
  // For who was missed already nobody waits again.
  const bool all_gone = failed ? state_.OnlyMissingArePresent() : state_.present() == 0 && !uploading_;
  if (!all_gone && !waited) return absl::OkStatus();
  RunEnded ended;
  ended.set_exit_code(state_.ExitCode());
  ended.set_why(state_.stop()->reason());
  ended.set_seconds(absl::ToDoubleSeconds(options_.clock->Monotonic() - begun_));
  Update update;
  *update.mutable_run_ended() = ended;
  RETURN_IF_ERROR(Record(std::move(update)));
  End(std::move(ended));
  return absl::OkStatus();
}

void Core::End(RunEnded ended) {
  if (epoch_line_) EmitEpochLine(nullptr);
  ended_ = std::move(ended);
  backlog_.clear();
  options_.wake();
}

}  // namespace lockstep
