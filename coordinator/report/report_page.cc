#include <cmath>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "coordinator/observe/proto_json.h"
#include "coordinator/report/page_template.h"
#include "coordinator/report/report.h"

namespace lockstep {
namespace {

// What a chart has room for, of each line or kind.
constexpr size_t kMostPoints = 1000;
// A span shorter than this share of its step is narrower than half a pixel; few of them are kept all the same.
constexpr double kSeen = 1.0 / 4000;
constexpr int kFewSpans = 2000;
// Numbers are rounded to so many digits, but not times of day, which are larger.
constexpr double kTimeOfDay = 1e9;

// At most kMostPoints rows of each key, evenly spread, with its first and last.
template <typename Row, typename Key>
void Thin(google::protobuf::RepeatedPtrField<Row>* rows, Key key) {
  std::map<std::string, size_t> counts, seen;
  for (const Row& row : *rows) ++counts[key(row)];
  google::protobuf::RepeatedPtrField<Row> kept;
  for (Row& row : *rows) {
    const size_t count = counts[key(row)], place = seen[key(row)]++, points = kMostPoints - 1;
    // The first row that belongs to its point.
    const bool first = place == 0 || place * points / count != (place - 1) * points / count;
    if (count <= kMostPoints || first || place + 1 == count) *kept.Add() = std::move(row);
  }
  rows->Swap(&kept);
}

void LeaveOutShortSpans(ReportTimeline* timeline) {
  if (timeline->spans_size() <= kFewSpans) return;
  google::protobuf::RepeatedPtrField<TimelineSpan> kept;
  for (TimelineSpan& span : *timeline->mutable_spans()) {
    const bool seen = span.seq() >= 0 || span.end_s() - span.start_s() >= kSeen * timeline->step_s();
    if (seen) *kept.Add() = std::move(span);
  }
  timeline->set_left_out(timeline->spans_size() - kept.size());
  timeline->mutable_spans()->Swap(&kept);
}

void Round(nlohmann::ordered_json* json) {
  if (json->is_structured()) {
    for (auto& element : *json) Round(&element);
  } else if (json->is_number_float() && std::abs(json->get<double>()) < kTimeOfDay) {
    *json = std::strtod(absl::StrFormat("%.8g", json->get<double>()).c_str(), nullptr);
  }
}

}  // namespace

std::string ReportPage(const Report& report) { return FillPage(PageTemplate(), report); }

std::string FillPage(absl::string_view page, Report report) {
  Thin(report.mutable_metrics(),
       [](const ReportMetric& metric) { return absl::StrCat(metric.split(), " ", metric.metric()); });
  Thin(report.mutable_marks(), [](const ReportMark& mark) { return mark.kind(); });
  for (ReportTimeline& timeline : *report.mutable_timelines()) LeaveOutShortSpans(&timeline);
  nlohmann::ordered_json json = ToJson(report);
  Round(&json);
  // Without any "<" nothing in a name can end the script element, nor hide its end.
  const std::string data = absl::StrReplaceAll(
      json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), {{"<", "\\u003c"}});
  constexpr absl::string_view kMark = "@REPORT@";
  const size_t at = page.rfind(kMark);
  if (at == absl::string_view::npos) return "";
  std::string text(page.substr(0, at));
  text += data;
  text.append(page.data() + at + kMark.size(), page.size() - at - kMark.size());
  return text;
}

}  // namespace lockstep
