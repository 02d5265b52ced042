#pragma once

#include <vector>

#include "coordinator/report/step_model.h"

namespace lockstep {

// A rank that is later by this share of a step is noticeably late, and none to compare others with.
constexpr double kNoticeableLate = 0.08;

// A rank that comes late, beyond what varies from step to step, in all of the steps or in a part of them. Pure.
//
// How late a rank is in a step is its work less the median of the other ranks', but for those that are much later
// still; an update for which others wait is looked at in the same way, by itself. Late is a rank in the steps in which
// the level of that is above its noise (levels.h), and that is late in more of those steps than other ranks are, beyond
// chance: of ranks that are late at random one is the unlucky one for a while. It takes 16 steps where others have
// none, 9 where they are half of all or more, or several shorter rows that are a fifth of all together. By how much is
// then counted against the ranks that are not late. Of two halves that differ the slower one is late; where most are
// late alike, that is how fast ranks are. Late as well is a rank in single steps, as in every tenth, if they stand out
// from its other steps and it has more of them than ranks have.
struct LateRank {
  int rank = 0;
  // By step of the model: typical of the steps around it; 0: not late there.
  std::vector<double> late_s;
  std::vector<double> update_late_s;  // … in the update, where others wait for it
  Parts by_part = {};                 // but for that: sums over the steps, its own less the mean of those not late

  double total() const;  // seconds
  // In which it is most late.
  Part part() const;
};

// The latest first. A rank without a row in a step is taken not to be late in it: the last is always recorded. Of fewer
// than 6 steps those that are later than the others in every one.
std::vector<LateRank> FindLateRanks(const std::vector<ModelStep>& model);

// Whether the two are late in about the same steps, so that removing the later one alone may save nothing.
bool AreLateTogether(const LateRank& later, const LateRank& other);

}  // namespace lockstep
