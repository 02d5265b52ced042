#include "coordinator/observe/summary.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/observe/proto_json.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

using nlohmann::ordered_json;

// The decision that ended the run; null: none did.
const Decision* StopOf(const RunFigures& figures, const SummaryContext& context) {
  if (context.stop.has_value()) return &*context.stop;
  const auto& all = figures.decisions;
  const auto last = std::find_if(all.rbegin(), all.rend(), [](const Decision& d) { return d.kind() == "stop"; });
  return last == all.rend() ? nullptr : &*last;
}

std::string RuleInWords(const Decision& stop, const std::string& metric) {
  const std::string rule = stop.rule();
  if (rule == "patience")
    return absl::StrCat("converged: no better ", metric.empty() ? "evaluation" : metric, " (patience)");
  if (rule == "target") return "reached its target (target)";
  if (rule == "max_epochs") return "all epochs done (max_epochs)";
  if (rule == "max_steps") return "all steps done (max_steps)";
  if (rule == "max_time") return "time used up (max_time)";
  if (rule == "signal") return "stopped by a signal";
  if (rule == "request") return "stopped on request";
  if (rule == "non_finite") return "failed: the loss is not finite";
  if (stop.failure()) return "failed";
  return absl::StrCat("stopped (", rule, ")");
}

std::string StepNumber(int64_t step) { return CountText(static_cast<double>(step)); }

// Two accounts of one thing, where one may hold the other.
std::string Both(const std::string& reason, const std::string& why) {
  if (absl::StrContains(reason, why)) return reason;
  return absl::StrContains(why, reason) ? why : absl::StrCat(reason, "; ", why);
}

std::string WhyText(const RunFigures& figures, const SummaryContext& context) {
  const Decision* stop = StopOf(figures, context);
  std::string head, reason;
  if (stop != nullptr) {
    head = RuleInWords(*stop, context.metric);
    reason = context.exit_code == 0 ? stop->reason() : Both(stop->reason(), context.why);
  } else {
    head = "ended without a decision to stop";
    reason = context.why;
  }
  std::string text = Wrap(absl::StrCat(head, ", exit code ", context.exit_code), kPageColumns,
                          absl::StrCat("Run", context.name.empty() ? "" : " ", context.name, ": "), "  ");
  if (!reason.empty()) absl::StrAppend(&text, "\n", Wrap(reason, kPageColumns, "  ", "  "));
  return text + "\n\n";
}

std::string TargetText(const RunFigures& figures, const SummaryContext& context) {
  const std::string what = absl::StrCat(context.metric.empty() ? "" : context.metric + " ",
                                        context.target.has_value() ? FigureText(*context.target) : "");
  if (!figures.time_to_target_s.has_value()) return what + " not reached";
  return absl::StrCat(what, what.empty() ? "" : " ", "reached after ", DurationText(*figures.time_to_target_s));
}

std::string GoodputText(const RunFigures& figures) {
  const double all = figures.step_time_s + figures.rolled_back_time_s;
  const std::string share = all > 0 ? PercentText(figures.step_time_s / all) : "?%";
  return absl::StrCat(share, " of the time inside steps survives; ", CountText(figures.rolled_back_steps, "step"), " (",
                      DurationText(figures.rolled_back_time_s), ") ", figures.rolled_back_steps == 1 ? "was" : "were",
                      " rolled back");
}

std::string SlowestText(const RunFigures& figures) {
  const std::string host = figures.slowest_host.empty() ? "" : absl::StrCat(" on ", figures.slowest_host);
  return absl::StrCat("rank ", figures.slowest_rank, host, " came last in ", PercentText(figures.slowest_share),
                      " of the steps (an even share is ", PercentText(1.0 / figures.ranks), ")");
}

std::string StepsText(const RunFigures& figures) {
  std::string text = CountText(figures.steps, "step");
  if (!figures.epochs.empty()) {
    absl::StrAppend(&text, ", ", CountText(static_cast<int64_t>(figures.epochs.size()), "epoch"), " completed");
  }
  if (figures.steps > 0) absl::StrAppend(&text, ", ", CountText(figures.samples_per_s), " samples/s inside steps");
  return text;
}

std::string TimeText(const RunFigures& figures, const SummaryContext& context) {
  return absl::StrCat(DurationText(context.elapsed_s), ", ", PercentText(figures.step_time_s / context.elapsed_s),
                      " of it inside steps",
                      figures.incarnations > 1 ? absl::StrCat(", in ", figures.incarnations, " launches") : "");
}

bool OverlapPossible(const RunFigures& figures) { return figures.ranks > 1 && figures.steps > 0; }

std::string FactsText(const RunFigures& figures, const SummaryContext& context) {
  std::string text;
  if (context.best_step >= 0) {
    text += Field("Best", absl::StrCat(context.metric.empty() ? "" : context.metric + " ",
                                       FigureText(context.best_value), " at step ", StepNumber(context.best_step)));
  }
  if (context.target.has_value() || figures.time_to_target_s.has_value()) {
    text += Field("Target", TargetText(figures, context));
  }
  text += Field("Trained", StepsText(figures));
  if (context.elapsed_s > 0) text += Field("Time", TimeText(figures, context));
  if (figures.rolled_back_steps > 0) text += Field("Goodput", GoodputText(figures));
  if (OverlapPossible(figures)) {
    text += Field("Overlap", PercentText(figures.overlap_ratio) + " of communication ran behind computing");
  }
  if (figures.slowest_rank >= 0 && figures.ranks > 1) text += Field("Slowest rank", SlowestText(figures));
  return text;
}

std::string Milliseconds(double seconds) {
  return std::isfinite(seconds) ? absl::StrFormat("%.3f", 1e3 * seconds) : "?";
}

std::string PartsText(const RunFigures& figures) {
  if (figures.steps == 0) return "";
  TextTable table({"part of a step", "mean ms", "p50 ms", "p95 ms", "share"}, {true, false, false, false, false});
  for (const PartSummary& part : figures.parts) {
    table.Add({part.part, Milliseconds(part.mean_s), Milliseconds(part.p50_s), Milliseconds(part.p95_s),
               PercentText(part.share)});
  }
  const std::string over = absl::StrCat("Where the time went, over ", CountText(std::max(figures.ranks, 1), "rank"),
                                        " and ", CountText(figures.steps, "step"), ":");
  return absl::StrCat("\n", over, "\n", table.Text("  "));
}

// Stopped by it, a run goes on only once it is changed.
bool IsSettingOfConvergence(const std::string& rule) {
  for (const char* name : {"patience", "target", "max_epochs", "max_steps", "max_time"}) {
    if (rule == name) return true;
  }
  return false;
}

std::string FoldersText(const RunFigures& figures, const SummaryContext& context) {
  const std::string folder = context.folder.empty() ? "." : context.folder;
  std::string text = "\n" + Field("Folder", folder);
  if (context.last_checkpoint < 0) return text + Field("Checkpoints", "none was committed; a new run starts afresh");
  text += Field("Checkpoints",
                absl::StrCat(folder, "/checkpoints, the last of step ", StepNumber(context.last_checkpoint)));
  const bool best = context.best_step >= 0;
  text += Field("The model", absl::StrCat(folder, "/checkpoints/", best ? "best" : "latest", "/model.safetensors"));
  text += Field("To use it", absl::StrCat("lockstep evaluate ", ShellWord(folder)));
  const Decision* stop = StopOf(figures, context);
  const bool by_rule = stop != nullptr && IsSettingOfConvergence(stop->rule());
  const std::string more = by_rule ? absl::StrCat(" --set convergence.", stop->rule(), "=…") : "";
  return text + Field("To go on", absl::StrCat("lockstep run --resume ", ShellWord(folder), more));
}

ordered_json Finite(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

ordered_json PartsJson(const RunFigures& figures) {
  ordered_json parts = ordered_json::object();
  for (const PartSummary& part : figures.parts) {
    parts[part.part] = {{"mean_s", Finite(part.mean_s)},
                        {"p50_s", Finite(part.p50_s)},
                        {"p95_s", Finite(part.p95_s)},
                        {"share", Finite(part.share)}};
  }
  return parts;
}

ordered_json SlowestJson(const RunFigures& figures) {
  if (figures.slowest_rank < 0) return nullptr;
  return {{"rank", figures.slowest_rank},
          {"host", figures.slowest_host},
          {"share_of_steps", Finite(figures.slowest_share)}};
}

ordered_json BestJson(const SummaryContext& context) {
  if (context.best_step < 0) return nullptr;
  return {{"metric", context.metric}, {"value", Finite(context.best_value)}, {"step", context.best_step}};
}

ordered_json EpochsJson(const RunFigures& figures) {
  ordered_json epochs = ordered_json::array();
  for (const EpochRow& row : figures.epochs) {
    ordered_json epoch = ToJson(row.done);
    epoch["expected_fingerprint"] = absl::StrFormat("%016x", row.expected_fingerprint);
    epochs.push_back(std::move(epoch));
  }
  return epochs;
}

template <typename Messages>
ordered_json ListJson(const Messages& messages) {
  ordered_json list = ordered_json::array();
  for (const auto& message : messages) list.push_back(ToJson(message));
  return list;
}

}  // namespace

std::string FormatSummary(const RunFigures& figures, const SummaryContext& context) {
  return absl::StrCat(WhyText(figures, context), FactsText(figures, context), PartsText(figures),
                      FoldersText(figures, context));
}

std::string SummaryToJson(const RunFigures& figures, const SummaryContext& context) {
  const Decision* stop = StopOf(figures, context);
  const ordered_json json = {
      {"name", context.name},
      {"folder", context.folder},
      {"exit_code", context.exit_code},
      {"why", context.why},
      {"stop", stop != nullptr ? ToJson(*stop) : ordered_json(nullptr)},
      {"best", BestJson(context)},
      {"target", context.target.has_value() ? Finite(*context.target) : ordered_json(nullptr)},
      {"time_to_target_s",
       figures.time_to_target_s.has_value() ? Finite(*figures.time_to_target_s) : ordered_json(nullptr)},
      {"elapsed_s", Finite(context.elapsed_s)},
      {"steps", figures.steps},
      {"ranks", figures.ranks},
      {"launches", figures.incarnations},
      {"samples_per_s", Finite(figures.samples_per_s)},
      {"step_time_s", Finite(figures.step_time_s)},
      {"rolled_back_steps", figures.rolled_back_steps},
      {"rolled_back_time_s", Finite(figures.rolled_back_time_s)},
      {"overlap_ratio", Finite(figures.overlap_ratio)},
      {"slowest", SlowestJson(figures)},
      {"parts", PartsJson(figures)},
      {"last_checkpoint", context.last_checkpoint},
      {"epochs", EpochsJson(figures)},
      {"evaluations", ListJson(figures.evaluations)},
      {"decisions", ListJson(figures.decisions)},
      {"checkpoints", ListJson(figures.checkpoints)},
  };
  return JsonText(json);
}

}  // namespace lockstep
