#include "coordinator/state/explain.h"

#include <google/protobuf/util/message_differencer.h>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/state/run_state.h"

namespace lockstep {
namespace {

std::string Describe(const Decision& decision) {
  return absl::StrCat(decision.kind(), " by ", decision.rule(), " at step ", decision.step(), " (", decision.reason(),
                      ")");
}

class Explainer {
 public:
  absl::Status Take(const Update& update) {
    const std::vector<Decision> follows = state_.Decide();
    if (update.has_decision()) {
      Compare(update, follows);
    } else if (!follows.empty() && !update.has_run_started()) {
      Complain(update, absl::StrCat("stands where a decision is due: ", Describe(follows.front())));
    }
    return state_.Apply(update);
  }

  std::vector<std::string> complaints() && { return std::move(complaints_); }

 private:
  void Compare(const Update& update, const std::vector<Decision>& follows) {
    const Decision& made = update.decision();
    if (follows.empty()) {
      Complain(update, absl::StrCat("decides ", Describe(made), ", and nothing before it says so"));
    } else if (!google::protobuf::util::MessageDifferencer::Equals(made, follows.front())) {
      Complain(update,
               absl::StrCat("decides ", Describe(made), ", where what is before it says ", Describe(follows.front())));
    }
  }
  void Complain(const Update& update, const std::string& what) {
    complaints_.push_back(absl::StrCat("update ", update.seq(), " ", what));
  }

  RunState state_;
  std::vector<std::string> complaints_;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> UnexplainedDecisions(const UpdateSource& replay) {
  Explainer explainer;
  RETURN_IF_ERROR(replay([&](const Update& update) { return explainer.Take(update); }));
  return std::move(explainer).complaints();
}

absl::StatusOr<std::vector<std::string>> UnexplainedDecisions(const std::vector<Update>& updates) {
  return UnexplainedDecisions([&](const EachUpdate& each) {
    for (const Update& update : updates) RETURN_IF_ERROR(each(update));
    return absl::OkStatus();
  });
}

}  // namespace lockstep
