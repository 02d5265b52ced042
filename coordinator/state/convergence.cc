#include "coordinator/state/convergence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/config/config.h"

namespace lockstep {
namespace {

std::optional<Decision> StopByTarget(const EvaluationResult& last, const Convergence& convergence) {
  if (!convergence.has_target()) return std::nullopt;
  const double value = MetricOf(last, convergence.metric());
  const bool reached =
      LessIsBetter(convergence.metric()) ? value <= convergence.target() : value >= convergence.target();
  if (!reached) return std::nullopt;
  Decision stop;
  stop.set_kind("stop");
  stop.set_rule("target");
  stop.set_step(last.step());
  stop.set_reason(absl::StrCat(MetricWord(convergence.metric()), " ", FormatFigure(value), " at step ", last.step(),
                               " reached the target ", FormatFigure(convergence.target())));
  return stop;
}

std::optional<Decision> StopByPatience(absl::Span<const EvaluationResult> evaluations, const Convergence& convergence) {
  const int patience = convergence.patience();
  const int count = static_cast<int>(evaluations.size());
  // Without one number yet, the first evaluation is what the others had to better.
  const int best = std::max(0, BestEvaluation(evaluations, convergence.metric()));
  if (patience == 0 || count - 1 - best < patience) return std::nullopt;
  std::vector<std::string> after;
  for (int i = count - patience; i < count; ++i) {
    after.push_back(FormatFigure(MetricOf(evaluations[i], convergence.metric())));
  }
  Decision stop;
  stop.set_kind("stop");
  stop.set_rule("patience");
  stop.set_step(evaluations.back().step());
  stop.set_reason(absl::StrCat(
      MetricWord(convergence.metric()), " ", FormatFigure(MetricOf(evaluations[best], convergence.metric())),
      " at step ", evaluations[best].step(), " was not bettered in the ", count - 1 - best == patience ? "" : "last ",
      patience == 1 ? "evaluation" : absl::StrCat(patience, " evaluations"), " after it (", absl::StrJoin(after, ", "),
      ")"));
  return stop;
}

}  // namespace

bool LessIsBetter(Metric metric) {
  return metric == METRIC_LOSS || metric == METRIC_PERPLEXITY || metric == METRIC_MAE;
}

double MetricOf(const EvaluationResult& evaluation, Metric metric) {
  const auto found = evaluation.metrics().find(MetricWord(metric));
  return found == evaluation.metrics().end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

double SignedMetricOf(const EvaluationResult& evaluation, Metric metric) {
  const double value = MetricOf(evaluation, metric);
  if (std::isnan(value)) return -std::numeric_limits<double>::infinity();
  return LessIsBetter(metric) ? -value : value;
}

int BestEvaluation(absl::Span<const EvaluationResult> evaluations, Metric metric) {
  int best = -1;
  double best_value = -std::numeric_limits<double>::infinity();
  for (int i = 0; i < static_cast<int>(evaluations.size()); ++i) {
    const double value = SignedMetricOf(evaluations[i], metric);
    if (value > best_value) {
      best = i;
      best_value = value;
    }
  }
  return best;
}

bool LastIsBest(absl::Span<const EvaluationResult> evaluations, Metric metric) {
  return !evaluations.empty() && BestEvaluation(evaluations, metric) == static_cast<int>(evaluations.size()) - 1;
}

std::optional<Decision> StopByEvaluations(absl::Span<const EvaluationResult> evaluations,
                                          const Convergence& convergence) {
  if (evaluations.empty()) return std::nullopt;
  if (auto stop = StopByTarget(evaluations.back(), convergence)) return stop;
  return StopByPatience(evaluations, convergence);
}

std::string MetricWord(Metric metric) { return EnumWord(Metric_descriptor(), metric); }

std::string FormatFigure(double value) {
  const double size = std::abs(value);
  // Four places as people quote an accuracy; a figure that would lose itself in them, or needs none, by significance.
  return size != 0 && (size < 1e-2 || size >= 1e5) ? absl::StrFormat("%.4g", value) : absl::StrFormat("%.4f", value);
}

}  // namespace lockstep
