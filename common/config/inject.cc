#include "common/config/inject.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/config/config.h"

namespace lockstep {
namespace {

constexpr char kForms[] =
    "write slow-rank=R:20ms, jitter=20ms, slow-input=R:20ms, compute=R:x1.5, clock=R:5s:50ppm, unmeasured or "
    "PART=R:20ms, "
    "and @FIRST-LAST for some steps alone";

absl::Status Wrong(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat(what, "; ", kForms)); }

absl::StatusOr<double> Seconds(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration)) return Wrong(absl::StrCat("'", text, "' is no duration with its unit"));
  return absl::ToDoubleSeconds(duration);
}

// "x1.5", "×1.5", "1.5".
absl::StatusOr<double> Factor(absl::string_view text) {
  double factor = 0;
  absl::string_view number = text;
  if (!absl::ConsumePrefix(&number, "x")) absl::ConsumePrefix(&number, "×");
  if (!absl::SimpleAtod(number, &factor) || !(factor > 1)) {
    return Wrong(absl::StrCat("'", text, "' is no factor above 1"));
  }
  return factor;
}

absl::Status TakeSteps(absl::string_view text, Inject* inject) {
  const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(text, absl::MaxSplits('-', 1));
  int64_t first = 0, last = 0;
  const bool good = absl::SimpleAtoi(ends.first, &first) && first >= 1 &&
                    (ends.second.empty() || (absl::SimpleAtoi(ends.second, &last) && last >= first));
  if (!good) return Wrong(absl::StrCat("'@", text, "' are no steps"));
  inject->set_first_step(first);
  inject->set_last_step(absl::StrContains(text, '-') ? last : first);
  return absl::OkStatus();
}

absl::StatusOr<StepPart> PartOf(absl::string_view kind) {
  if (kind == "slow-rank" || kind == "jitter") return STEP_PART_FORWARD;
  if (kind == "slow-input") return STEP_PART_INPUT;
  for (int part = 0; part < StepPart_descriptor()->value_count(); ++part) {
    const int number = StepPart_descriptor()->value(part)->number();
    if (EnumWord(StepPart_descriptor(), number) == kind) return static_cast<StepPart>(number);
  }
  return Wrong(absl::StrCat("there is no fault '", kind, "'"));
}

// "5s" or "5s:50ppm".
absl::StatusOr<std::vector<Inject>> Clock(const std::vector<absl::string_view>& fields, Inject inject) {
  ASSIGN_OR_RETURN(const double offset, Seconds(fields[0]));
  inject.set_clock_offset(offset);
  if (fields.size() > 2) return Wrong("a clock has an offset and a drift");
  if (fields.size() < 2) return std::vector<Inject>{inject};
  double ppm = 0;
  absl::string_view drift = fields[1];
  if (!absl::ConsumeSuffix(&drift, "ppm") || !absl::SimpleAtod(drift, &ppm)) {
    return Wrong(absl::StrCat("'", fields[1], "' is no drift in ppm"));
  }
  inject.set_clock_drift(ppm * 1e-6);
  return std::vector<Inject>{inject};
}

absl::StatusOr<std::vector<Inject>> Compute(absl::string_view factor, Inject inject) {
  ASSIGN_OR_RETURN(const double times, Factor(factor));
  inject.set_factor(times);
  std::vector<Inject> both(2, inject);
  both[0].set_part(STEP_PART_FORWARD);
  both[1].set_part(STEP_PART_BACKWARD);
  return both;
}

std::string RankText(const Inject& inject) { return inject.rank() < 0 ? "" : absl::StrCat(inject.rank(), ":"); }

}  // namespace

absl::StatusOr<std::vector<Inject>> ParseInject(const std::string& text) {
  const std::pair<absl::string_view, absl::string_view> fault = absl::StrSplit(text, absl::MaxSplits('@', 1));
  const std::pair<absl::string_view, absl::string_view> kind = absl::StrSplit(fault.first, absl::MaxSplits('=', 1));
  Inject inject;
  inject.set_rank(-1);
  inject.set_first_step(1);
  inject.set_factor(1);
  if (absl::StrContains(text, '@')) RETURN_IF_ERROR(TakeSteps(fault.second, &inject));
  if (fault.first == "unmeasured") {
    inject.set_unmeasured(true);
    return std::vector<Inject>{inject};
  }
  if (kind.second.empty()) return Wrong(absl::StrCat("'", text, "' is no fault"));
  std::vector<absl::string_view> fields = absl::StrSplit(kind.second, ':');
  int32_t rank = 0;
  if (fields.size() > 1 && absl::SimpleAtoi(fields[0], &rank)) {
    if (rank < 0) return Wrong(absl::StrCat("there is no rank ", rank));
    inject.set_rank(rank);
    fields.erase(fields.begin());
  }
  if (kind.first == "clock") return Clock(fields, inject);
  if (fields.size() != 1) return Wrong(absl::StrCat("'", kind.second, "' is not R:VALUE"));
  if (kind.first == "compute") return Compute(fields[0], inject);
  ASSIGN_OR_RETURN(const StepPart part, PartOf(kind.first));
  ASSIGN_OR_RETURN(const double delay, Seconds(fields[0]));
  if (!(delay > 0)) return Wrong(absl::StrCat("'", fields[0], "' is no delay"));
  if (kind.first == "jitter" && inject.rank() >= 0) return Wrong("jitter strikes ranks at random: leave the rank out");
  inject.set_part(part);
  inject.set_delay(delay);
  inject.set_drawn(kind.first == "jitter");
  return std::vector<Inject>{inject};
}

absl::StatusOr<std::string> InjectOverride(const std::vector<std::string>& texts) {
  std::vector<std::string> entries;
  for (const std::string& text : texts) {
    absl::StatusOr<std::vector<Inject>> faults = ParseInject(text);
    if (!faults.ok()) return Annotate(faults.status(), absl::StrCat("--inject ", text));
    for (const Inject& one : *faults) {
      entries.push_back(
          absl::StrFormat("{part: %s, rank: %d, delay: %.9g, first_step: %d, last_step: %d, factor: %.9g, drawn: %s, "
                          "clock_offset: %.9f, clock_drift: %.9g, unmeasured: %s}",
                          EnumWord(StepPart_descriptor(), one.part()), one.rank(), one.delay(), one.first_step(),
                          one.last_step(), one.factor(), one.drawn() ? "true" : "false", one.clock_offset(),
                          one.clock_drift(), one.unmeasured() ? "true" : "false"));
    }
  }
  return absl::StrCat("inject=[", absl::StrJoin(entries, ", "), "]");
}

std::string InjectText(const Inject& inject) {
  std::string text;
  if (inject.unmeasured()) {
    text = "unmeasured";
  } else if (inject.clock_offset() != 0 || inject.clock_drift() != 0) {
    text = absl::StrFormat("clock=%s%s:%gppm", RankText(inject),
                           absl::FormatDuration(absl::Seconds(inject.clock_offset())), inject.clock_drift() * 1e6);
  } else {
    text = absl::StrCat(inject.drawn() ? "jitter in " : "", EnumWord(StepPart_descriptor(), inject.part()), "=",
                        RankText(inject));
    if (inject.delay() > 0) absl::StrAppend(&text, absl::FormatDuration(absl::Seconds(inject.delay())));
    if (inject.factor() > 1) absl::StrAppend(&text, "x", inject.factor());
  }
  if (inject.last_step() > 0) return absl::StrCat(text, "@", inject.first_step(), "-", inject.last_step());
  return inject.first_step() > 1 ? absl::StrCat(text, "@", inject.first_step(), "-") : text;
}

}  // namespace lockstep
