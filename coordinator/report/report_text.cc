#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/observe/text.h"
#include "coordinator/report/report.h"

namespace lockstep {
namespace {

constexpr int kBarColumns = 64;
constexpr int kRankBarColumns = 34;
constexpr int kHostColumns = 14, kLinkHostColumns = 20;
constexpr int kFewSteps = 10;  // of fewer there is no saying how sure
constexpr int kMostRankBars = 16;
constexpr int kMostAdvice = 4;
constexpr char kLetters[] = "dFBCO.";

std::string Milliseconds(double seconds) { return absl::StrFormat("%.3f", 1e3 * seconds); }
std::string Rate(double bytes_per_s) {
  return bytes_per_s > 0 ? absl::StrCat(BytesText(std::llround(bytes_per_s)), "/s") : "-";
}

std::string HeadText(const ReportRun& run) {
  std::string hosts = absl::StrJoin(run.hosts(), ", ");
  if (run.hosts_size() > 4) hosts = absl::StrCat(run.hosts_size(), " hosts");
  std::string text =
      absl::StrCat("Run ", run.name(), ": ", run.model(), ", ", CountText(int64_t{run.workers()}, "worker"),
                   hosts.empty() ? "" : " on ", hosts, ", ", run.algorithm());
  if (run.compression() != "none") absl::StrAppend(&text, ", ", run.compression());
  if (run.period() > 1) absl::StrAppend(&text, ", period ", run.period());
  if (run.steps() == 0) {
    absl::StrAppend(&text, "; no steps are recorded", run.unmeasured() ? ", since profile.off is set" : "");
    return Wrap(text, kPageColumns, "", "  ") + "\n";
  }
  absl::StrAppend(&text, "; steps ", CountText(static_cast<double>(run.first_step())), " to ",
                  CountText(static_cast<double>(run.last_step())), ", ", CountText(run.samples_per_s()), " samples/s");
  return Wrap(text, kPageColumns, "", "  ") + "\n";
}

std::string WarningsText(const ReportRun& run) {
  std::string text;
  for (const std::string& fault : run.faults()) text += Field("Put in", absl::StrCat(fault, ", on purpose"));
  if (run.dropped() > 0) {
    text += Field("Lost", absl::StrCat(CountText(run.dropped(), "step record"), " did not reach the coordinator"));
  }
  if (run.left_out() > 0) {
    text += Field("Left out", absl::StrCat(CountText(run.left_out(), "span"), " of sampled steps, which had too many"));
  }
  return text;
}

std::string VerdictText(const Report& report) {
  const Finding& verdict = report.verdict();
  std::string cause = verdict.cause();
  if (verdict.cause() == "communication-bound") absl::StrAppend(&cause, " (", verdict.kind(), ")");
  if (verdict.cause() == "straggler-bound") absl::StrAppend(&cause, " (", verdict.persistence(), ")");
  const std::string sure = report.run().steps_looked_at() < kFewSteps
                               ? absl::StrCat(", of ", CountText(report.run().steps_looked_at(), "step"), " alone")
                               : absl::StrCat(", confidence ", PercentText(verdict.confidence()));
  std::string text = "\n" + Field("Verdict", absl::StrCat(cause, sure));
  text += Field("", verdict.text());
  for (int i = 1; i < report.causes_size(); ++i) text += Field(i == 1 ? "Also" : "", report.causes(i).text());
  for (int i = 0; i < std::min(kMostAdvice, report.advice_size()); ++i) {
    const Advice& advice = report.advice(i);
    const std::string setting =
        advice.setting().empty()
            ? ""
            : absl::StrCat(advice.setting(), advice.setting()[0] == '-' ? " " : "=", advice.value(), ": ");
    text += Field(i == 0 ? "To gain" : "", absl::StrCat("+", PercentText(advice.gain()), "  ", setting, advice.text()));
  }
  return text;
}

// `columns` letters for the parts of `whole_s`, by largest remainder, so that they add up.
std::string Bar(const std::vector<double>& parts, double whole_s, int columns) {
  std::string bar;
  double sum = 0;
  for (size_t part = 0; part < parts.size(); ++part) {
    sum += parts[part];
    const auto until = static_cast<size_t>(std::llround(whole_s > 0 ? sum / whole_s * columns : 0));
    if (until > bar.size()) bar.append(until - bar.size(), kLetters[part]);
  }
  return bar;
}

std::vector<double> PartsOf(const ReportRank& rank) {
  return {rank.data_wait_s(),    rank.forward_s(),   rank.backward_s(),
          rank.comm_exposed_s(), rank.optimizer_s(), rank.other_s()};
}

std::string PartsText(const Report& report) {
  TextTable table({"part", "mean ms", "p50 ms", "p95 ms", "share"}, {true, false, false, false, false});
  std::vector<double> means;
  for (const ReportPart& part : report.parts()) {
    const bool step = part.part() == "step";
    if (!step) means.push_back(part.mean_s());
    table.Add({absl::StrCat(step ? std::string(" ") : std::string(1, kLetters[means.size() - 1]), " ", part.part()),
               Milliseconds(part.mean_s()), Milliseconds(part.p50_s()), Milliseconds(part.p95_s()),
               PercentText(part.share())});
  }
  return absl::StrCat("\nWhere a step's time goes:\n", table.Text("  "), "\n  ",
                      Bar(means, report.parts(report.parts_size() - 1).mean_s(), kBarColumns), "\n");
}

// Hosts by their full names: without their domain where that tells them apart, and short enough for a column.
std::map<std::string, std::string> ShortHosts(const ReportRun& run, int columns) {
  std::map<std::string, std::string> short_of;
  std::set<absl::string_view> bare;
  for (const std::string& host : run.hosts()) bare.insert(absl::string_view(host).substr(0, host.find('.')));
  const bool apart = bare.size() == static_cast<size_t>(run.hosts_size());
  for (const std::string& host : run.hosts()) {
    short_of[host] = CutMiddle(apart ? host.substr(0, host.find('.')) : host, columns);
  }
  return short_of;
}

std::string RanksText(const Report& report) {
  if (report.ranks_size() < 2) return "";
  double longest = 0;
  for (const ReportRank& rank : report.ranks()) longest = std::max(longest, rank.step_s());
  TextTable table({"rank", "host", "step ms", "wait ms", "last in", "late ms", ""},
                  {false, true, false, false, false, false, true});
  std::map<std::string, std::string> hosts = ShortHosts(report.run(), kHostColumns);
  std::vector<const ReportRank*> shown;
  for (const ReportRank& rank : report.ranks()) shown.push_back(&rank);
  const bool all = report.ranks_size() <= kMostRankBars;
  if (!all) {  // those that are latest
    std::stable_sort(shown.begin(), shown.end(),
                     [](const ReportRank* a, const ReportRank* b) { return a->late_s() > b->late_s(); });
    shown.resize(kMostRankBars);
  }
  for (const ReportRank* rank : shown) {
    table.Add({absl::StrCat(rank->rank()), hosts[rank->host()], Milliseconds(rank->step_s()),
               Milliseconds(rank->comm_wait_s()), PercentText(rank->last_share()), Milliseconds(rank->late_s()),
               Bar(PartsOf(*rank), longest, kRankBarColumns)});
  }
  return absl::StrCat("\n", all ? "Rank by rank" : "The latest ranks", " (late: against the median rank):\n",
                      table.Text("  "));
}

std::string CollectivesText(const Report& report) {
  if (report.collectives().empty()) return "";
  TextTable table({"collective", "by", "bytes", "p50 ms", "p90 ms", "wait ms", "busbw"},
                  {true, true, false, false, false, false, false});
  for (const ReportCollective& row : report.collectives()) {
    table.Add({Cut(row.name(), 20), row.algorithm(), BytesText(row.grad_bytes()), Milliseconds(row.p50_s()),
               Milliseconds(row.p90_s()), Milliseconds(row.wait_s()), Rate(row.busbw())});
  }
  return absl::StrCat("\nCollectives of sampled steps (p50, p90: transfer):\n", table.Text("  "));
}

// "0.112 ±0.003", in multiples of `unit`; "-" where it is not known.
std::string WithError(double value, double error, double unit) {
  if (!std::isfinite(value)) return "-";
  const std::string text = absl::StrFormat("%.3f", value / unit);
  return std::isfinite(error) ? absl::StrCat(text, absl::StrFormat(" ±%.3f", error / unit)) : text;
}

std::string LinksText(const Report& report) {
  if (report.links().empty()) return "";
  const bool measured = report.links(0).limit_bytes_per_s() > 0;
  std::map<std::string, std::string> hosts = ShortHosts(report.run(), kLinkHostColumns);
  const auto name = [&](const std::string& host) { return hosts.count(host) > 0 ? hosts[host] : host; };
  TextTable table({"from", "to", "latency ms", "bandwidth MB/s", measured ? "of bench" : ""},
                  {true, true, false, false, false});
  for (const ReportLink& link : report.links()) {
    table.Add({name(link.from()), name(link.to()), WithError(link.latency_s(), link.latency_error_s(), 1e-3),
               WithError(link.bandwidth_bytes_per_s(), link.bandwidth_error(), 1e6),
               measured ? PercentText(link.bandwidth_bytes_per_s() / link.limit_bytes_per_s()) : ""});
  }
  return absl::StrCat("\nLinks, fitted to the messages of sampled steps:\n", table.Text("  "));
}

std::string LayersText(const Report& report) {
  if (report.layers().empty()) return "";
  TextTable table({"layer", "forward ms", "backward ms", "GFLOP/s"}, {true, false, false, false});
  for (const ReportLayer& layer : report.layers()) {
    const double seconds = layer.forward_s() + layer.backward_s();
    table.Add({Cut(layer.name(), 30), Milliseconds(layer.forward_s()), Milliseconds(layer.backward_s()),
               layer.flops() > 0 && seconds > 0 ? absl::StrFormat("%.1f", layer.flops() / seconds * 1e-9) : "-"});
  }
  return absl::StrCat("\nLayers of sampled steps:\n", table.Text("  "));
}

std::string EfficiencyText(const Report& report) {
  const ReportEfficiency& e = report.efficiency();
  std::string text = "\n";
  text += Field("Efficiency", absl::StrCat(PercentText(e.parallel()), " = load balance ", PercentText(e.load_balance()),
                                           " x communication ", PercentText(e.communication())));
  if (report.run().workers() > 1) {
    text += Field("Scaling", absl::StrCat(PercentText(e.scaling()), " of what ",
                                          CountText(int64_t{report.run().workers()}, "worker"),
                                          " would do that need not wait for each other (estimate)"));
    text += Field("Overlap", absl::StrCat(PercentText(e.overlap()), " of communication ran behind computing"));
  }
  if (e.comm_interval_s() > 0) {
    text += Field("Interval", absl::StrCat(Milliseconds(e.comm_interval_s()),
                                           " ms from the start of one gradient synchronisation to the next"));
  }
  text += Field("Goodput", absl::StrCat(PercentText(e.goodput()), " of the time inside steps survives"));
  if (e.flops_per_s() > 0) text += Field("Computing", absl::StrFormat("%.1f GFLOP/s a rank", e.flops_per_s() * 1e-9));
  if (report.run().clock_error_s() > 0) {
    text += Field("Clocks", absl::StrCat("within ", Milliseconds(report.run().clock_error_s()), " ms of rank 0's"));
  }
  return text;
}

}  // namespace

std::string ReportText(const Report& report) {
  std::string text = HeadText(report.run()) + WarningsText(report.run());
  if (report.run().steps() == 0) return text;
  return absl::StrCat(text, VerdictText(report), PartsText(report), RanksText(report), CollectivesText(report),
                      LinksText(report), LayersText(report), EfficiencyText(report));
}

}  // namespace lockstep
