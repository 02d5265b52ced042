#include "coordinator/report/comparison.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/statistics.h"
#include "coordinator/observe/proto_json.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// A machine is faster or slower for seconds at a time, so neighbouring steps are alike: intervals count long blocks.
constexpr size_t kBlocks = 20;
constexpr size_t kRunsOfTable = 3, kNameColumns = 11;  // of a page's width

// A figure of a run: its mean with half of its 95% interval, or one value (error 0).
struct Figure {
  double value = kUnknown, error = 0;
  bool known() const { return std::isfinite(value); }
};

Figure Over(const google::protobuf::RepeatedField<double>& bins) {
  const Mean mean = MeanOf(BinMeans({bins.begin(), bins.end()}, kBlocks));
  return {mean.value, mean.half};
}

// A rate is all that was done by the time it took, and its spread that of the time.
Figure RateOver(double rate, const google::protobuf::RepeatedField<double>& bins) {
  const Figure of_bins = Over(bins);
  return {rate, of_bins.value > 0 ? rate * of_bins.error / of_bins.value : 0};
}

Figure One(double value) { return {value, 0}; }

double LastOf(const Report& report, const std::string& metric) {
  double value = kUnknown;
  for (const ReportMetric& one : report.metrics()) {
    if (one.metric() == metric) value = one.value();
  }
  return value;
}

double BestOf(const Report& report, const std::string& metric, bool larger_is_better) {
  double best = kUnknown;
  for (const ReportMetric& one : report.metrics()) {
    if (one.metric() != metric) continue;
    if (std::isnan(best) || (larger_is_better ? one.value() > best : one.value() < best)) best = one.value();
  }
  return best;
}

// From the launch until the metric was first as good as `target`.
double TimeTo(const Report& report, const std::string& metric, double target, bool larger_is_better) {
  for (const ReportMetric& one : report.metrics()) {
    if (one.metric() != metric) continue;
    if (larger_is_better ? one.value() >= target : one.value() <= target) {
      return report.run().started() + one.time() - report.run().launched();
    }
  }
  return kUnknown;
}

struct Row {
  std::string name, unit;
  double scale = 1;  // what is shown is the value times this
  std::function<Figure(const Report&)> of;
};

// Time to accuracy; to a loss where the runs have no accuracy. `target` NaN: the best that all of them have reached.
void AddTimeToAccuracy(const std::vector<Report>& reports, double target, std::vector<Row>* rows) {
  const auto all_have = [&](const char* metric) {
    return std::all_of(reports.begin(), reports.end(),
                       [&](const Report& report) { return std::isfinite(LastOf(report, metric)); });
  };
  const bool accuracy = all_have("accuracy");
  if (!accuracy && !all_have("loss")) return;
  const std::string metric = accuracy ? "accuracy" : "loss";
  if (!std::isfinite(target)) {
    target = BestOf(reports[0], metric, accuracy);
    for (const Report& report : reports) {
      const double best = BestOf(report, metric, accuracy);
      target = accuracy ? std::min(target, best) : std::max(target, best);
    }
  }
  rows->push_back(
      {absl::StrCat(metric, " of evaluations"), "", 1, [metric](const Report& r) { return One(LastOf(r, metric)); }});
  rows->push_back({absl::StrFormat("time to %s %.4g", metric, target), "s", 1,
                   [=](const Report& r) { return One(TimeTo(r, metric, target, accuracy)); }});
}

// Throughput of n workers over n / m times that of the first run's m.
void AddScaling(const std::vector<Report>& reports, std::vector<Row>* rows) {
  const ReportRun& first = reports[0].run();
  const bool same = std::all_of(reports.begin(), reports.end(),
                                [&](const Report& report) { return report.run().workers() == first.workers(); });
  if (same) return;
  const double one = first.samples_per_s() / first.workers();
  rows->push_back({absl::StrCat("scaling from ", first.workers()), "%", 100,
                   [one](const Report& r) { return One(r.run().samples_per_s() / r.run().workers() / one); }});
}

std::vector<Row> RowsOf(const std::vector<Report>& reports, double target) {
  std::vector<Row> rows = {
      {"samples/s", "", 1,
       [](const Report& r) { return RateOver(r.run().samples_per_s(), r.series().samples_per_s()); }},
      {"step, slowest rank", "ms", 1e3, [](const Report& r) { return Over(r.series().step_max_s()); }},
      {"data_wait", "ms", 1e3, [](const Report& r) { return Over(r.series().data_wait_s()); }},
      {"forward", "ms", 1e3, [](const Report& r) { return Over(r.series().forward_s()); }},
      {"backward", "ms", 1e3, [](const Report& r) { return Over(r.series().backward_s()); }},
      {"comm_exposed", "ms", 1e3, [](const Report& r) { return Over(r.series().comm_exposed_s()); }},
      {"optimizer", "ms", 1e3, [](const Report& r) { return Over(r.series().optimizer_s()); }},
      {"other", "ms", 1e3, [](const Report& r) { return Over(r.series().other_s()); }},
      {"parallel efficiency", "%", 100, [](const Report& r) { return One(r.efficiency().parallel()); }},
      {"overlap", "%", 100, [](const Report& r) { return One(r.efficiency().overlap()); }},
      {"goodput", "%", 100, [](const Report& r) { return One(r.efficiency().goodput()); }},
      {"loss at the end", "", 1,
       [](const Report& r) {
         return r.series().loss().empty() ? Figure() : One(r.series().loss(r.series().loss_size() - 1));
       }},
  };
  AddScaling(reports, &rows);
  AddTimeToAccuracy(reports, target, &rows);
  return rows;
}

std::string Shown(const Row& row, const Figure& figure) {
  if (!figure.known()) return "-";
  const double value = figure.value * row.scale;
  std::string text = std::abs(value) >= 1000 ? CountText(value) : absl::StrFormat("%.4g", value);
  if (figure.error > 0) absl::StrAppend(&text, absl::StrFormat(" ±%.2g", figure.error * row.scale));
  return text;
}

// Against the first run; nothing where one is not known.
struct Change {
  double ratio = 1;
  bool beyond = false;
};
std::optional<Change> ChangeOf(const Figure& first, const Figure& other) {
  if (!first.known() || !other.known() || first.value == 0) return std::nullopt;
  const bool spread_known = first.error > 0 && other.error > 0;
  return Change{other.value / first.value,
                spread_known && std::abs(other.value - first.value) > first.error + other.error};
}

std::string ChangeText(const std::optional<Change>& change) {
  if (!change.has_value()) return "";
  return absl::StrFormat("%+.1f%%%s", 100 * (change->ratio - 1), change->beyond ? " *" : "");
}

// The first run with the others [begin, end).
std::string TableText(const std::vector<Report>& reports, const std::vector<Row>& rows, size_t begin, size_t end) {
  const auto name = [&](size_t i) {
    return absl::StrCat(i + 1, ": ", CutMiddle(reports[i].run().name(), kNameColumns));
  };
  std::vector<std::string> head = {"", name(0)};
  std::vector<bool> left = {true, false};
  for (size_t i = begin; i < end; ++i) {
    head.insert(head.end(), {name(i), "change"});
    left.insert(left.end(), {false, false});
  }
  TextTable table(head, left);
  for (const Row& row : rows) {
    const Figure first = row.of(reports[0]);
    std::vector<std::string> cells = {absl::StrCat(row.name, row.unit.empty() ? "" : ", ", row.unit),
                                      Shown(row, first)};
    for (size_t i = begin; i < end; ++i) {
      const Figure other = row.of(reports[i]);
      cells.push_back(Shown(row, other));
      cells.push_back(ChangeText(ChangeOf(first, other)));
    }
    table.Add(cells);
  }
  return table.Text("");
}

}  // namespace

std::string ComparisonText(const std::vector<Report>& reports, double target) {
  const std::vector<Row> rows = RowsOf(reports, target);
  std::string text;
  for (size_t begin = 1; begin < reports.size(); begin += kRunsOfTable - 1) {
    const size_t end = std::min(reports.size(), begin + kRunsOfTable - 1);
    absl::StrAppend(&text, begin == 1 ? "" : "\n", TableText(reports, rows, begin, end));
  }
  for (size_t i = 0; i < reports.size(); ++i) {
    const ReportRun& run = reports[i].run();
    const std::string line = absl::StrCat(i + 1, ": ", run.folder(), ": ", reports[i].verdict().cause(), ", steps ",
                                          run.first_step(), " to ", run.last_step());
    absl::StrAppend(&text, i == 0 ? "\n" : "", Wrap(line, kPageColumns, "", "   "), "\n");
  }
  return absl::StrCat(text, "*: beyond the runs' own spread (95% intervals of the means do not overlap)\n");
}

std::string ComparisonJson(const std::vector<Report>& reports, double target) {
  nlohmann::ordered_json json = {{"runs", nlohmann::ordered_json::array()},
                                 {"figures", nlohmann::ordered_json::array()}};
  for (const Report& report : reports) {
    json["runs"].push_back(
        {{"name", report.run().name()}, {"folder", report.run().folder()}, {"verdict", ToJson(report.verdict())}});
  }
  const auto finite = [](double value) { return std::isfinite(value) ? nlohmann::ordered_json(value) : nullptr; };
  for (const Row& row : RowsOf(reports, target)) {
    nlohmann::ordered_json runs = nlohmann::ordered_json::array();
    const Figure first = row.of(reports[0]);
    for (const Report& report : reports) {
      const Figure figure = row.of(report);
      const std::optional<Change> change = ChangeOf(first, figure);
      runs.push_back({{"value", finite(figure.value)},
                      {"error", finite(figure.error)},
                      {"ratio", change.has_value() ? finite(change->ratio) : nullptr},
                      {"beyond_spread", change.has_value() && change->beyond}});
    }
    json["figures"].push_back({{"name", row.name}, {"runs", runs}});
  }
  return JsonText(json);
}

}  // namespace lockstep
