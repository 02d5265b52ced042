#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/store/run_record.h"
#include "lockstep/report.pb.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

struct ReportRequest {
  std::string name, folder, state;            // of the run
  int64_t first_step = 1, last_step = 0;      // 0: to the end
  double link_limit = 0;                      // bytes/s between two hosts, both ways at once, as measured apart; 0: not
  std::map<int, std::vector<Inject>> faults;  // put in on purpose, by launch
};

// All that is known of a run's steps, read and weighed. A run of any length takes about the same time: sums are over
// all steps, while ranks are compared with each other in stretches of steps that are spread over the run.
absl::StatusOr<Report> MakeReport(const RunConfig& config, const ReportRequest& request, RunRecord* record);

// For a terminal: at most 100 columns.
std::string ReportText(const Report& report);
// One file that needs nothing else: text, tables, and charts that can be zoomed.
std::string ReportPage(const Report& report);

}  // namespace lockstep
