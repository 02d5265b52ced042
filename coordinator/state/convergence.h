#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/types/span.h"
#include "lockstep/journal.pb.h"
#include "lockstep/run_config.pb.h"
#include "lockstep/telemetry.pb.h"

namespace lockstep {

// The stop rules that look at evaluations: functions of the evaluations so far, in order of their steps.

// Of loss, perplexity and mean absolute error, less is better.
bool LessIsBetter(Metric metric);

// An evaluation's value of `metric` as it was measured; NaN if it has none.
double MetricOf(const EvaluationResult& evaluation, Metric metric);

// The same, signed so that more is better; what is not a number is worse than every number.
double SignedMetricOf(const EvaluationResult& evaluation, Metric metric);

// The first of the best evaluations, since a tie is no improvement; -1: there is none with a number.
int BestEvaluation(absl::Span<const EvaluationResult> evaluations, Metric metric);

// Whether the last evaluation is strictly better than all before it.
bool LastIsBest(absl::Span<const EvaluationResult> evaluations, Metric metric);

// Stop by `target` or `patience`, the first of these that holds; step and reason filled in.
//   target:   the last evaluation is as good as convergence.target, or better.
//   patience: M(n) ≥ max(M(n+1) … M(n+k)), n being the best evaluation and k convergence.patience.
std::optional<Decision> StopByEvaluations(absl::Span<const EvaluationResult> evaluations,
                                          const Convergence& convergence);

// "accuracy", and "0.9791": as people read them in reasons.
std::string MetricWord(Metric metric);
std::string FormatFigure(double value);

}  // namespace lockstep
