#include "coordinator/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coordinator/observe/text.h"
#include "coordinator/report/chrome_trace.h"
#include "coordinator/report/comparison.h"
#include "coordinator/report/page_template.h"
#include "coordinator/store/run_db.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::EndsWith;

// A run on record: steps of 30 ms on `ranks` ranks, 5 of them standing still for communication; rank 1 is `late_ms`
// late, and the others wait for it; every tenth step is sampled.
class RecordedRun {
 public:
  RecordedRun(int ranks, int64_t steps, double late_ms, const std::string& domain = "")
      : ranks_(ranks), late_s_(1e-3 * late_ms) {
    config_.set_threads(1);
    config_.mutable_communication()->set_period(1);
    config_.mutable_data()->set_prefetch(4);
    auto db = OpenRunDb(folder_ / "run.db", nullptr);
    EXPECT_TRUE(db.ok()) << db.status();
    Update started;
    started.set_seq(1);
    started.mutable_run_started()->set_incarnation(1);
    EXPECT_TRUE((*db)->Show(started).ok());
    for (int rank = 0; rank < ranks; ++rank) {
      Update joined;
      joined.set_seq(2 + rank);
      joined.mutable_worker_joined()->set_rank(rank);
      joined.mutable_worker_joined()->set_incarnation(1);
      joined.mutable_worker_joined()->set_host((rank < ranks / 2 ? "alpha" : "beta") + domain);
      joined.mutable_worker_joined()->set_cores(16);
      EXPECT_TRUE((*db)->Show(joined).ok());
    }
    TelemetryRows rows;
    for (int64_t step = 1; step <= steps; ++step) AddStep(step, &rows);
    EXPECT_TRUE((*db)->Write(rows).ok());
  }

  // Goes on with as many steps more on one worker of a host of its own.
  void GoOnAlone(int64_t steps) {
    auto db = OpenRunDb(folder_ / "run.db", nullptr);
    ASSERT_TRUE(db.ok()) << db.status();
    Update started, joined;
    started.set_seq(100);
    started.mutable_run_started()->set_incarnation(2);
    started.mutable_run_started()->mutable_from()->mutable_cursor()->set_step(steps);
    joined.set_seq(101);
    joined.mutable_worker_joined()->set_incarnation(2);
    joined.mutable_worker_joined()->set_host("gamma");
    ASSERT_TRUE((*db)->Show(started).ok());
    ASSERT_TRUE((*db)->Show(joined).ok());
    ranks_ = 1;
    incarnation_ = 2;
    TelemetryRows rows;
    for (int64_t step = steps + 1; step <= 2 * steps; ++step) AddStep(step, &rows);
    ASSERT_TRUE((*db)->Write(rows).ok());
  }

  RunConfig* config() { return &config_; }
  Report Make(int64_t first = 1, int64_t last = 0) const {
    auto record = OpenRunRecord(folder_ / "run.db");
    EXPECT_TRUE(record.ok()) << record.status();
    auto report = MakeReport(config_, {"test", folder_.path(), "ended", first, last}, record->get());
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : Report();
  }
  std::vector<SpanRow> Spans(int64_t step) const {
    auto record = OpenRunRecord(folder_ / "run.db");
    std::vector<SpanRow> spans;
    EXPECT_TRUE((*record)->EachSpan(1, step, [&](const SpanRow& row) { spans.push_back(row); }).ok());
    return spans;
  }

 private:
  double Late(int rank) const { return rank == 1 ? late_s_ : 0; }
  double StepSeconds() const { return 0.030 + late_s_; }

  void AddStep(int64_t step, TelemetryRows* rows) const {
    const double start = 1.7e9 + static_cast<double>(step) * StepSeconds();
    StepRow& all = rows->steps.emplace_back();
    all.incarnation = incarnation_;
    all.time = start;
    all.loss = 1.0 / static_cast<double>(step);
    all.step_max_s = StepSeconds();
    for (int rank = 0; rank < ranks_; ++rank) {
      StepRecord record;
      record.set_step(step);
      record.set_start(start);
      record.set_step_s(StepSeconds());
      record.set_data_wait_s(0.001);
      record.set_forward_s(0.008 + Late(rank));
      record.set_backward_s(0.015);
      record.set_comm_exposed_s(0.005 + late_s_ - Late(rank));
      record.set_optimizer_s(0.001);
      record.set_samples(64);
      record.set_comm_interval_s(StepSeconds());
      rows->rank_steps.push_back({record, rank, incarnation_});
      all.mean = record;
      if (step % 10 == 0) AddSpans(record, rank, rows);
    }
    if (step % 10 == 0 && ranks_ > 1) AddCollectives(step, rows);
    all.mean.set_samples(64 * ranks_);
  }

  // Of 2 MB and of 200 kB, at 1 ms and 100 MB/s between two hosts.
  static void AddCollectives(int64_t step, TelemetryRows* rows) {
    for (int seq = 0; seq < 2; ++seq) {
      CollectiveRow& row = rows->collectives.emplace_back();
      row.step = step;
      row.seq = seq;
      row.incarnation = 1;
      row.name = absl::StrCat("bucket.", seq);
      row.grad_bytes = seq == 0 ? 2'000'000 : 200'000;
      row.transfer_s = 0.001 + static_cast<double>(row.grad_bytes) / 1e8;
      row.algbw = static_cast<double>(row.grad_bytes) / row.transfer_s;
    }
  }

  void AddSpans(const StepRecord& record, int rank, TelemetryRows* rows) const {
    int number = 0;
    const auto add = [&](TraceThread thread, const char* name, double from_s, double to_s, int seq = -1) {
      SpanRow& row = rows->spans.emplace_back();
      row.step = record.step();
      row.rank = rank;
      row.incarnation = incarnation_;
      row.number = number++;
      row.seq = seq;
      row.arrival = seq < 0 ? 0 : record.start() + from_s;
      row.span.set_thread(thread);
      row.span.set_name(name);
      row.span.set_start(record.start() + from_s);
      row.span.set_end(record.start() + to_s);
      row.span.set_flops(absl::StartsWith(name, "forward ") ? 4e7 : 0);
    };
    const double forward = 0.001 + record.forward_s(), backward = forward + record.backward_s();
    add(TRACE_THREAD_TRAINER, "forward", 0.001, forward);
    add(TRACE_THREAD_TRAINER, "forward 0 Linear", 0.001, 0.005);
    add(TRACE_THREAD_TRAINER, "backward", forward, backward);
    add(TRACE_THREAD_COMMUNICATION, "bucket.0", backward - 0.010, backward + 0.001, 0);
    add(TRACE_THREAD_COMMUNICATION, "bucket.1", backward - 0.002, backward + 0.004, 1);
  }

  const TempFolder folder_;
  RunConfig config_;
  int ranks_, incarnation_ = 1;
  const double late_s_;
};

TEST(ReportTest, NamesTheLateRankItsHostAndWhatItCosts) {
  const Report report = RecordedRun(4, 300, 10).Make();
  EXPECT_EQ(report.verdict().cause(), "straggler-bound");
  EXPECT_EQ(report.verdict().ranks().at(0), 1);
  EXPECT_EQ(report.verdict().hosts().at(0), "alpha");
  EXPECT_EQ(report.verdict().kind(), "forward");
  EXPECT_NEAR(report.verdict().saving_s_per_step(), 0.010, 1e-6);
  EXPECT_NE(report.verdict().text().find("rank 1 on alpha"), std::string::npos) << report.verdict().text();
  ASSERT_FALSE(report.advice().empty());
  EXPECT_NEAR(report.advice(0).gain(), 40.0 / 30 - 1, 1e-6);
  ASSERT_EQ(report.ranks_size(), 4);
  EXPECT_EQ(report.ranks(1).last_share(), 1);
  EXPECT_NEAR(report.ranks(1).late_s(), 0.010, 1e-6);
  EXPECT_EQ(report.ranks(3).host(), "beta");
}

TEST(ReportTest, SumsAreOverAllStepsThatAreAskedFor) {
  const RecordedRun run(2, 1000, 0);
  const Report report = run.Make(101, 600);
  EXPECT_EQ(report.run().first_step(), 101);
  EXPECT_EQ(report.run().last_step(), 600);
  EXPECT_EQ(report.run().steps(), 500);
  EXPECT_NEAR(report.run().samples_per_s(), 128 / 0.030, 1e-6);
  double sum = 0;
  for (const ReportPart& part : report.parts()) sum += part.part() == "step" ? -part.mean_s() : part.mean_s();
  EXPECT_NEAR(sum, 0, 1e-12);
  EXPECT_EQ(report.series().step_size(), report.series().loss_size());
  EXPECT_EQ(report.series().step(0), 101);
  ASSERT_EQ(report.series().waits_size(), 2);
  EXPECT_EQ(report.series().waits(0).wait_s_size(), report.series().step_size());
  EXPECT_EQ(report.verdict().cause(), "communication-bound") << "5 of 30 ms";
}

TEST(ReportTest, SampledStepsShowLayersAndTimelines) {
  const Report report = RecordedRun(2, 100, 0).Make();
  ASSERT_EQ(report.layers_size(), 1);
  EXPECT_EQ(report.layers(0).name(), "0 Linear");
  EXPECT_NEAR(report.layers(0).forward_s(), 0.004, 1e-6);
  EXPECT_NEAR(report.efficiency().flops_per_s(), 4e7 / 0.023, 1e4);
  ASSERT_EQ(report.timelines_size(), 2);
  EXPECT_EQ(report.timelines(0).which(), "typical");
  EXPECT_EQ(report.timelines(0).spans_size(), 10);
  EXPECT_NEAR(report.timelines(0).spans(0).start_s(), 0, 1e-6);
}

TEST(ReportTest, LinksOfALibraryAreFittedToItsCollectives) {
  const Report one_host = RecordedRun(1, 100, 0).Make();
  EXPECT_TRUE(one_host.links().empty());
  const Report report = RecordedRun(2, 100, 0).Make();
  ASSERT_EQ(report.links_size(), 1);
  EXPECT_EQ(report.links(0).from(), "all hosts");
  EXPECT_NEAR(report.links(0).latency_s(), 0.001, 1e-6);
  EXPECT_NEAR(report.links(0).bandwidth_bytes_per_s(), 1e8, 1e4);
  EXPECT_EQ(report.links(0).samples(), 20);
}

TEST(ReportTest, ARunWithoutStepsSaysSo) {
  const Report report = RecordedRun(2, 0, 0).Make();
  EXPECT_EQ(report.run().steps(), 0);
  EXPECT_THAT(ReportText(report), EndsWith("no steps are recorded\n"));
  RecordedRun unmeasured(2, 0, 0);
  unmeasured.config()->mutable_profile()->set_off(true);
  EXPECT_THAT(ReportText(unmeasured.Make()), EndsWith("no steps are recorded, since profile.off is set\n"));
}

TEST(ReportTest, TextFitsAPageAndSaysWhatTheFiguresAre) {
  for (const int ranks : {1, 2, 40}) {
    const std::string text = ReportText(RecordedRun(ranks, 200, ranks > 1 ? 10 : 0).Make());
    for (const absl::string_view line : absl::StrSplit(text, '\n')) EXPECT_LE(WidthOf(line), kPageColumns) << line;
    EXPECT_NE(text.find("Verdict"), std::string::npos);
    EXPECT_NE(text.find(ranks > 1 ? "straggler-bound (persistent)" : "compute-bound"), std::string::npos) << text;
  }
}

TEST(ReportTest, HostsAndWorkersAreThoseOfTheLaunchesThatMadeTheSteps) {
  RecordedRun run(4, 100, 10);
  run.GoOnAlone(100);
  const Report before = run.Make(1, 100), after = run.Make(101), all = run.Make();
  EXPECT_EQ(before.run().workers(), 4);
  EXPECT_EQ(before.run().hosts_size(), 2);
  EXPECT_EQ(before.verdict().hosts().at(0), "alpha");
  EXPECT_EQ(after.run().workers(), 1);
  ASSERT_EQ(after.run().hosts_size(), 1);
  EXPECT_EQ(after.run().hosts(0), "gamma");
  EXPECT_EQ(all.run().hosts_size(), 3);
  EXPECT_EQ(all.run().launches(), 2);
  EXPECT_EQ(all.ranks_size(), 4);
}

TEST(ReportTest, HostsAreToldApartByTheirNamesWithinTheirDomain) {
  const std::string text = ReportText(RecordedRun(2, 100, 10, ".of-a-long-domain.example.org").Make());
  EXPECT_NE(text.find("1  beta  "), std::string::npos) << text;
  EXPECT_NE(text.find("40.000 ms from the start of one gradient synchronisation"), std::string::npos) << text;
}

TEST(ReportTest, IdleCoresAreAdviceOfMoreThreads) {
  Report report = RecordedRun(1, 100, 0).Make();
  EXPECT_EQ(report.run().cores_per_worker(), 16);
  EXPECT_EQ(report.verdict().cause(), "compute-bound");
  const auto threads = std::find_if(report.advice().begin(), report.advice().end(),
                                    [](const Advice& advice) { return advice.setting() == "threads"; });
  ASSERT_NE(threads, report.advice().end());
  EXPECT_EQ(threads->value(), "16");
  EXPECT_NEAR(threads->gain_s_per_step(), 0.024 * 15 / 16, 1e-9) << "of what is computed";
}

TEST(ReportTest, ThePageHoldsTheReportAndNothingCanBreakOutOfIt) {
  Report report = RecordedRun(2, 50, 0).Make();
  report.mutable_run()->set_name("<!--<script>alert(1)</script>");
  const std::string page = FillPage("<script>@REPORT@</script>", report);
  EXPECT_EQ(page.find("<!--<script>alert(1)"), std::string::npos);
  EXPECT_NE(page.find("\\u003c!--\\u003cscript>alert(1)\\u003c/script>"), std::string::npos);
  EXPECT_EQ(page.find("@REPORT@"), std::string::npos);
}

TEST(ReportTest, ThePageHoldsNoMoreThanItsChartsCanShow) {
  Report report;
  for (int i = 0; i < 20000; ++i) {
    report.add_metrics()->set_metric("accuracy");
    report.mutable_metrics(i)->set_value(i + 1.0 / 3);
    report.add_marks()->set_kind(i == 777 ? "warning" : "checkpoint");
  }
  ReportTimeline& timeline = *report.add_timelines();
  timeline.set_step_s(1);
  for (int i = 0; i < 5000; ++i) {
    TimelineSpan& span = *timeline.add_spans();
    span.set_seq(i == 0 ? 3 : -1);
    span.set_end_s(i % 10 == 9 ? 0.1 : 1e-6);
  }
  const auto page = nlohmann::json::parse(FillPage("@REPORT@", report));
  EXPECT_LE(page["metrics"].size(), 1001u);
  EXPECT_GE(page["metrics"].size(), 900u);
  EXPECT_EQ(page["metrics"].front()["value"], 0.33333333);
  EXPECT_EQ(page["metrics"].back()["value"], 19999.333);
  const auto warnings = std::count_if(page["marks"].begin(), page["marks"].end(),
                                      [](const auto& mark) { return mark["kind"] == "warning"; });
  EXPECT_EQ(warnings, 1);
  EXPECT_LE(page["marks"].size(), 1002u);
  EXPECT_EQ(page["timelines"][0]["spans"].size(), 501u);
  EXPECT_EQ(page["timelines"][0]["left_out"], 4499);
}

TEST(ComparisonTest, AChangeIsAgainstTheFirstRun) {
  const std::vector<Report> reports = {RecordedRun(2, 200, 0).Make(), RecordedRun(2, 200, 10).Make()};
  const auto json = nlohmann::json::parse(ComparisonJson(reports, std::nan("")));
  ASSERT_EQ(json["runs"].size(), 2u);
  const auto& samples = json["figures"][0];
  EXPECT_EQ(samples["name"], "samples/s");
  EXPECT_NEAR(samples["runs"][1]["ratio"].get<double>(), 0.75, 1e-6);
  const std::string text = ComparisonText(reports, std::nan(""));
  EXPECT_NE(text.find("-25.0%"), std::string::npos) << text;
}

TEST(ComparisonTest, ManyRunsFitAPageInSeveralTables) {
  std::vector<Report> reports(6, RecordedRun(2, 200, 0).Make());
  for (Report& report : reports) {
    report.mutable_run()->set_name("a-sweep-over-learning-rates-0012");
    report.mutable_run()->set_folder("runs/" + std::string(90, 'x'));
    report.add_metrics()->set_metric("accuracy");
    report.mutable_metrics(0)->set_value(0.9812);
    report.mutable_metrics(0)->set_time(123.4);
  }
  for (const double length : {0.03, 0.04}) reports[1].mutable_series()->add_step_max_s(length);
  const std::string text = ComparisonText(reports, std::nan(""));
  for (const absl::string_view line : absl::StrSplit(text, '\n')) EXPECT_LE(WidthOf(line), kPageColumns) << line;
  EXPECT_NE(text.find("6: a-swe…-0012"), std::string::npos) << text;
}

// Series whose steps vary by a tenth, `share` of them longer by half.
Report Varied(double share) {
  Report report;
  for (int i = 0; i < 400; ++i) {
    report.mutable_series()->add_step_max_s(0.1 + 0.01 * (i % 7) / 7 + (i < 400 * share ? 0.05 : 0));
  }
  return report;
}

TEST(ComparisonTest, OnlyWhatIsBeyondTheRunsOwnSpreadIsMarked) {
  const auto marked = [](const Report& other) {
    return absl::StrContains(ComparisonText({Varied(0), other}, std::nan("")), "% *");
  };
  EXPECT_FALSE(marked(Varied(0)));
  EXPECT_TRUE(marked(Varied(1)));
  EXPECT_FALSE(marked(Varied(0.05))) << "slow for a while";
}

// All that Perfetto and Chrome ask of events, and that a trace's times are those of the spans.
TEST(ChromeTraceTest, EventsNestFlowsJoinAndTimesAreTheSpans) {
  const RecordedRun run(4, 20, 5);
  std::vector<SpanRow> spans = run.Spans(10);
  const std::vector<SpanRow> more = run.Spans(20);
  spans.insert(spans.end(), more.begin(), more.end());
  const auto trace = nlohmann::json::parse(ChromeTrace(spans, {{0, "alpha"}}));
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> threads;
  std::map<int, std::vector<std::string>> flows;
  double total_us = 0, expected_us = 0;
  for (const auto& event : trace["traceEvents"]) {
    const std::string phase = event["ph"];
    if (phase == "X") {
      EXPECT_GE(event["dur"].get<double>(), 0);
      total_us += event["dur"].get<double>();
      threads[{event["pid"], event["tid"]}].push_back(
          {event["ts"], event["ts"].get<double>() + event["dur"].get<double>()});
    } else if (phase != "M") {
      flows[event["id"]].push_back(phase);
    }
  }
  for (const SpanRow& row : spans) expected_us += 1e6 * (row.span.end() - row.span.start());
  EXPECT_NEAR(total_us, expected_us, 1e-3 * expected_us);
  EXPECT_EQ(threads.size(), 4u * 3) << "two collectives side by side need a thread each";
  for (auto& [thread, events] : threads) {
    std::vector<double> ends;
    for (const auto& [begin, end] : events) {
      while (!ends.empty() && ends.back() <= begin) ends.pop_back();
      if (!ends.empty()) EXPECT_LE(end, ends.back()) << "thread " << thread.second;
      ends.push_back(end);
    }
  }
  EXPECT_EQ(flows.size(), 4u) << "two collectives in each of two steps";
  for (const auto& [id, phases] : flows) EXPECT_EQ(phases, (std::vector<std::string>{"s", "t", "t", "f"}));
}

}  // namespace
}  // namespace lockstep
