#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/config/config.h"
#include "common/data/plan.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/observe/text.h"
#include "coordinator/state/explain.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/run_db_check.h"

namespace lockstep {
namespace {

// One thing that was looked at.
struct Finding {
  std::string what;
  bool good = false;
  std::string says;
};

// What the journal says must be there now.
struct Expected {
  int64_t updates = 0;
  bool ended = false;  // the last launch, with a word of its own
  RunStarted started;  // of the last launch
  std::map<int, EpochDone> epochs;
  struct Checkpoint {
    std::string digest;  // empty: the launch that wrote it was cut off before it was journaled
    bool survives = true;
  };
  std::map<int64_t, Checkpoint> checkpoints;  // by step: those that are kept
  std::set<int64_t> ever_committed;
  int64_t latest = -1, best = -1;  // checkpoints that the links point at; -1: none

  void Take(const Update& update);
  void RollBack();
  void Commit(const CheckpointCommitted& committed);
};

void Expected::Take(const Update& update) {
  updates = update.seq();
  ended = update.has_run_ended();
  if (update.has_run_started()) {
    started = update.run_started();
    RollBack();
  }
  if (update.has_epoch_done()) epochs[update.epoch_done().epoch()] = update.epoch_done();
  if (update.has_checkpoint_committed()) Commit(update.checkpoint_committed());
}

void Expected::RollBack() {
  const int64_t step = started.has_from() ? started.from().cursor().step() : -1;
  for (auto it = checkpoints.upper_bound(step); it != checkpoints.end(); ++it) it->second.survives = false;
  if (step >= 0) checkpoints[step].survives = true;
  latest = step;
  best = started.has_from() && checkpoints.count(started.from().best_step()) > 0 ? started.from().best_step() : -1;
  for (auto it = epochs.begin(); it != epochs.end();) {
    it = (it->first + 1) * it->second.steps() > step ? epochs.erase(it) : std::next(it);
  }
}

void Expected::Commit(const CheckpointCommitted& committed) {
  checkpoints[committed.step()] = {committed.digest(), true};
  ever_committed.insert(committed.step());
  latest = committed.step();
  if (committed.best()) best = committed.step();
  const int64_t keep = started.config().checkpoint().keep_last();
  if (keep <= 0) return;
  int64_t surplus = static_cast<int64_t>(checkpoints.size()) - keep;
  for (auto it = checkpoints.begin(); surplus > 0; --surplus) {
    it = it->first == best || it->first == latest ? std::next(it) : checkpoints.erase(it);
  }
}

// The expected fingerprint is reckoned anew here: neither the workers' sums nor the coordinator's column is believed.
Finding CheckEpoch(const EpochDone& done, int64_t train_samples) {
  const uint64_t expected = EpochFingerprint(done.epoch(), train_samples);
  Finding finding{absl::StrCat("epoch ", done.epoch() + 1)};
  finding.good = done.fingerprint() == expected && done.samples() == train_samples;
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

// The first few of many sentences.
std::string Few(const std::vector<std::string>& sentences) {
  constexpr size_t kFew = 3;
  const size_t shown = std::min(kFew, sentences.size());
  std::string few = absl::StrJoin(sentences.begin(), sentences.begin() + static_cast<int64_t>(shown), "; ");
  if (shown < sentences.size()) absl::StrAppend(&few, "; and ", sentences.size() - shown, " more");
  return few;
}

class Examination {
 public:
  explicit Examination(std::string folder) : folder_(std::move(folder)), live_(IsLive(folder_)) {}

  std::vector<Finding> Run() && {
    // Those that are there before the journal is read: a live run commits meanwhile.
    steps_ = ListCheckpoints(FileSystem::Real(), Checkpoints());
    const absl::Status read = ReadJournal();
    if (read.ok()) {
      Add("journal", true,
          absl::StrCat(CountText(expected_.updates, "update"), ", sealed",
                       expected_.ended || live_ ? "" : "; the last launch was cut off, a resume goes on from there"));
      CheckConfig();
      for (const auto& [epoch, done] : expected_.epochs) {
        findings_.push_back(CheckEpoch(done, expected_.started.train_samples()));
      }
      if (expected_.epochs.empty()) Add("epochs", true, "none is complete yet");
      CheckRecord();
      CheckDecisions();
    } else {
      Add("journal", false, std::string(read.message()));
    }
    for (const int64_t step : steps_) CheckCheckpoint(step);
    if (read.ok() && !live_) CheckWhatIsThere();
    return std::move(findings_);
  }

 private:
  std::string Checkpoints() const { return JoinPath(folder_, "checkpoints"); }
  void Add(std::string what, bool good, std::string says) {
    findings_.push_back({std::move(what), good, std::move(says)});
  }

  absl::Status ReadJournal() {
    ASSIGN_OR_RETURN(journal_, OpenJournalReadOnly(JoinPath(folder_, "journal.db")));
    RETURN_IF_ERROR(journal_->Replay([this](const Update& update) {
      expected_.Take(update);
      return absl::OkStatus();
    }));
    if (expected_.updates > 0) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(folder_,
                                            "/journal.db: holds nothing: the run never began, or its record "
                                            "was taken away"));
  }

  void CheckConfig() {
    const absl::StatusOr<RunConfig> config = ConfigOfRun(folder_);
    if (!config.ok()) return Add("config.yaml", false, std::string(config.status().message()));
    const std::string digest = ConfigDigest(*config), &journaled = expected_.started.config_digest();
    Add("config.yaml", digest == journaled,
        digest == journaled ? absl::StrCat("as the run was begun (digest ", digest, ")")
                            : absl::StrCat("its digest is ", digest, ", and the run was begun with ", journaled));
  }

  // run.db against the journal.
  void CheckRecord() {
    const absl::StatusOr<RunDbCheck> check = CheckRunDb(JoinPath(folder_, "run.db"), journal_.get());
    if (!check.ok()) return Add("run.db", false, std::string(check.status().message()));
    std::string rows = absl::StrCat(CountText(check->rows, "row"), " of epochs, evaluations, decisions, checkpoints ",
                                    "and ranks, as the journal gives them");
    if (check->behind > 0) {
      absl::StrAppend(&rows, " up to update ", check->shown_through, " (",
                      live_ ? "the run is live" : "a launch was cut off; a resume adds the rest", ")");
    }
    Add("run.db", check->different.empty(), check->different.empty() ? rows : Few(check->different));
    std::string steps = absl::StrCat(CountText(check->steps, "step"), ", each there once, of all ranks");
    if (check->cut_off > 0) {
      absl::StrAppend(&steps, "; the measurements of ", check->cut_off, " more ",
                      live_ ? "are on their way" : "went with a launch that was cut off");
    }
    Add("steps", check->uncounted.empty(), check->uncounted.empty() ? steps : Few(check->uncounted));
  }

  void CheckDecisions() {
    int64_t decisions = 0;
    const absl::StatusOr<std::vector<std::string>> wrong = UnexplainedDecisions([&](const EachUpdate& each) {
      return journal_->Replay([&](const Update& update) {
        decisions += update.has_decision() ? 1 : 0;
        return each(update);
      });
    });
    if (!wrong.ok()) return Add("decisions", false, std::string(wrong.status().message()));
    Add("decisions", wrong->empty(),
        wrong->empty() ? absl::StrCat(CountText(decisions, "decision"), ", all explained by the journal alone")
                       : Few(*wrong));
  }

  void CheckCheckpoint(int64_t step) {
    const std::string what = absl::StrCat("checkpoint step ", step);
    const absl::StatusOr<Manifest> manifest =
        VerifyCheckpoint(FileSystem::Real(), JoinPath(Checkpoints(), CheckpointName(step)));
    if (live_ && absl::IsNotFound(manifest.status())) return;  // it gave way to newer ones
    if (!manifest.ok()) return Add(what, false, std::string(manifest.status().message()));
    const auto expected = expected_.checkpoints.find(step);
    if (expected != expected_.checkpoints.end() && !expected->second.digest.empty() &&
        expected->second.digest != ManifestDigest(*manifest)) {
      return Add(what, false, "whole, but not the one that was committed: its manifest has another digest");
    }
    int64_t bytes = 0;
    for (const Manifest::File& file : manifest->files()) bytes += file.bytes();
    std::string says =
        absl::StrCat("whole: ", CountText(int64_t{manifest->files_size()}, "file"), ", ", BytesText(bytes));
    if (!live_ && expected_.updates > 0 && expected_.ever_committed.count(step) == 0) {
      says += "; its launch was cut off before the journal had it";
    }
    Add(what, true, says);
  }

  void CheckWhatIsThere() {
    for (const auto& [step, checkpoint] : expected_.checkpoints) {
      if (checkpoint.survives && std::find(steps_.begin(), steps_.end(), step) == steps_.end()) {
        Add(absl::StrCat("checkpoint step ", step), false, "is not there, and the journal has it");
      }
    }
    CheckLink("latest", expected_.latest);
    CheckLink("best", expected_.best);
    if (steps_.empty() && expected_.checkpoints.empty()) Add("checkpoints", true, "none yet");
  }

  void CheckLink(const std::string& link, int64_t step) {
    const std::string path = JoinPath(Checkpoints(), link);
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(path, error).filename().string();
    const std::string wanted = step < 0 ? "" : CheckpointName(step);
    if (target == wanted) return;
    // A launch that was cut off may have pointed it at a checkpoint that the journal does not have.
    const int64_t points_at = StepOfCheckpointName(target);
    if (!expected_.ended && points_at > step && expected_.ever_committed.count(points_at) == 0 &&
        std::find(steps_.begin(), steps_.end(), points_at) != steps_.end()) {
      return;
    }
    Add(absl::StrCat("checkpoints/", link), false,
        absl::StrCat(target.empty() ? "is not there" : absl::StrCat("points at ", target), "; by the journal it ",
                     wanted.empty() ? "points at none" : absl::StrCat("points at ", wanted)));
  }

  const std::string folder_;
  const bool live_;
  std::vector<int64_t> steps_;  // of the checkpoints that are there
  std::unique_ptr<Journal> journal_;
  Expected expected_;
  std::vector<Finding> findings_;
};

absl::StatusOr<int> Verify(const std::string& run, bool json) {
  ASSIGN_OR_RETURN(const std::string folder, FindRunFolder(run));
  const std::vector<Finding> findings = Examination(folder).Run();
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
  CLI::App* command = app->add_subcommand("verify",
                                          "Prove from a run's record that each epoch used every sample once, that "
                                          "nothing of it is missing or was changed, and that checkpoints are whole");
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
