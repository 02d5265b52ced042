#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/data/plan.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/observe/text.h"
#include "coordinator/state/explain.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/run_db.h"

namespace lockstep {
namespace {

// One thing that was looked at.
struct Finding {
  std::string what;
  bool good = false;
  std::string says;
};

// What a journal says of the data: the samples of an epoch.
absl::StatusOr<int64_t> TrainSamples(Journal* journal) {
  int64_t samples = 0;
  RETURN_IF_ERROR(journal->Replay([&](const Update& update) {
    if (update.has_run_started()) samples = update.run_started().train_samples();
    return absl::OkStatus();
  }));
  return samples;
}

// The expected fingerprint is reckoned anew here: neither the workers' sums nor the coordinator's column is believed.
Finding CheckEpoch(const EpochRow& row, int64_t train_samples) {
  const EpochDone& done = row.done;
  const uint64_t expected = EpochFingerprint(done.epoch(), train_samples);
  Finding finding{absl::StrCat("epoch ", done.epoch() + 1)};
  finding.good =
      done.fingerprint() == expected && done.samples() == train_samples && row.expected_fingerprint == expected;
  if (finding.good) {
    finding.says =
        absl::StrCat(CountText(done.samples(), "sample"), ", each exactly once in ", CountText(done.steps(), "step"),
                     " (fingerprint ", absl::Hex(expected, absl::kZeroPad16), ")");
  } else {
    finding.says = absl::StrFormat("%d samples of %d with fingerprint %016x; each exactly once gives %016x",
                                   done.samples(), train_samples, done.fingerprint(), expected);
  }
  return finding;
}

absl::Status CheckEpochs(const std::string& folder, Journal* journal, std::vector<Finding>* findings) {
  ASSIGN_OR_RETURN(const int64_t train_samples, TrainSamples(journal));
  ASSIGN_OR_RETURN(const std::unique_ptr<RunDbReader> reader, OpenRunDbReader(JoinPath(folder, "run.db")));
  ASSIGN_OR_RETURN(const RunFigures figures, reader->Figures());
  for (const EpochRow& row : figures.epochs) findings->push_back(CheckEpoch(row, train_samples));
  if (figures.epochs.empty()) findings->push_back({"epochs", true, "none is complete yet"});
  return absl::OkStatus();
}

void CheckCheckpoints(const std::string& folder, std::vector<Finding>* findings) {
  const std::string checkpoints = JoinPath(folder, "checkpoints");
  const std::vector<int64_t> steps = ListCheckpoints(FileSystem::Real(), checkpoints);
  for (const int64_t step : steps) {
    const absl::StatusOr<Manifest> manifest =
        VerifyCheckpoint(FileSystem::Real(), JoinPath(checkpoints, CheckpointName(step)));
    Finding finding{absl::StrCat("checkpoint step ", step), manifest.ok(), std::string(manifest.status().message())};
    if (manifest.ok()) {
      int64_t bytes = 0;
      for (const Manifest::File& file : manifest->files()) bytes += file.bytes();
      finding.says =
          absl::StrCat("whole: ", CountText(int64_t{manifest->files_size()}, "file"), ", ", BytesText(bytes));
    }
    findings->push_back(std::move(finding));
  }
  if (steps.empty()) findings->push_back({"checkpoints", true, "none yet"});
}

std::string DecisionText(const Decision& decision) {
  return absl::StrCat(decision.kind(), " at step ", decision.step(), " (", decision.rule(), "): ", decision.reason());
}

// Both ways: the journal's decisions follow from the facts before them, and run.db shows none that the journal lacks.
absl::Status CheckDecisions(const std::string& folder, Journal* journal, std::vector<Finding>* findings) {
  std::multiset<std::string> journaled;
  RETURN_IF_ERROR(journal->Replay([&](const Update& update) {
    if (update.has_decision()) journaled.insert(DecisionText(update.decision()));
    return absl::OkStatus();
  }));
  const size_t decisions = journaled.size();
  ASSIGN_OR_RETURN(std::vector<std::string> wrong,
                   UnexplainedDecisions([&](const EachUpdate& each) { return journal->Replay(each); }));
  ASSIGN_OR_RETURN(const std::unique_ptr<RunDbReader> reader, OpenRunDbReader(JoinPath(folder, "run.db")));
  ASSIGN_OR_RETURN(const RunFigures figures, reader->Figures());
  for (const Decision& shown : figures.decisions) {
    const auto found = journaled.find(DecisionText(shown));
    if (found != journaled.end()) {
      journaled.erase(found);
    } else {
      wrong.push_back(absl::StrCat("run.db has one that the journal has not: ", DecisionText(shown)));
    }
  }
  Finding finding{"decisions", wrong.empty(), absl::StrJoin(wrong, "; ")};
  if (finding.good) {
    finding.says = absl::StrCat(CountText(decisions, "decision"), ", all explained by the journal alone");
  }
  findings->push_back(std::move(finding));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Finding>> Examine(const std::string& folder) {
  std::vector<Finding> findings;
  absl::StatusOr<std::unique_ptr<Journal>> journal = OpenJournalReadOnly(JoinPath(folder, "journal.db"));
  RETURN_IF_ERROR(journal.status());
  // Each part is looked at whatever became of the others.
  absl::Status status = CheckEpochs(folder, journal->get(), &findings);
  if (!status.ok()) findings.push_back({"epochs", false, std::string(status.message())});
  CheckCheckpoints(folder, &findings);
  status = CheckDecisions(folder, journal->get(), &findings);
  if (!status.ok()) findings.push_back({"decisions", false, std::string(status.message())});
  return findings;
}

absl::StatusOr<int> Verify(const std::string& run, bool json) {
  ASSIGN_OR_RETURN(const std::string folder, FindRunFolder(run));
  ASSIGN_OR_RETURN(const std::vector<Finding> findings, Examine(folder));
  int64_t failed = 0;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    failed += finding.good ? 0 : 1;
    list.push_back({{"what", finding.what}, {"good", finding.good}, {"says", finding.says}});
    if (!json) std::cout << (finding.good ? "good  " : "BAD   ") << finding.what << ": " << finding.says << "\n";
  }
  if (json) {
    std::cout << nlohmann::ordered_json{{"folder", folder}, {"good", failed == 0}, {"findings", list}}.dump(2) << "\n";
  } else {
    std::cout << folder << ": " << (failed == 0 ? "verified" : absl::StrCat(CountText(failed, "check"), " failed"))
              << "\n";
  }
  std::cout << std::flush;
  return failed == 0 ? kExitDone : kExitFailed;
}

}  // namespace

void AddVerify(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "verify", "Prove from a run's record that each epoch used every sample once, and that checkpoints are whole");
  auto run = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("RUN", *run, "A run's folder or name")->required()->type_name("");
  command->add_flag("--json", *json, "As JSON");
  command->callback([=] {
    *action = [run, json] {
      const absl::StatusOr<int> code = Verify(*run, *json);
      return code.ok() ? *code : Fail(code.status());
    };
  });
}

}  // namespace lockstep
