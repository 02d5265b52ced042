#include "coordinator/cli/run_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/config/config.h"
#include "coordinator/cli/command.h"
#include "coordinator/observe/text.h"
#include "coordinator/state/run_state.h"
#include "coordinator/store/journal.h"
#include "coordinator/supervise/runtime_record.h"

namespace lockstep {
namespace {

constexpr char kConfigFile[] = "config.yaml", kLogFolder[] = "log";

bool IsRun(const std::string& folder) { return FileSystem::Real()->Exists(JoinPath(folder, kConfigFile)); }

// A folder that a person named, or let be named.
absl::Status MakeFolderToWriteTo(const std::string& folder) {
  const absl::Status made = FileSystem::Real()->MakeFolders(folder);
  if (made.ok()) return made;
  return absl::FailedPreconditionError(
      absl::StrCat(made.message(), ", so no run can be written there; name another folder with --out"));
}

std::string WithoutTrailingSlash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

absl::StatusOr<std::string> MakeDefaultFolder(const RunConfig& config, absl::Time now) {
  RETURN_IF_ERROR(MakeFolderToWriteTo(RunsFolder()));
  const std::string name = absl::StrReplaceAll(config.run().name(), {{"/", "-"}});
  const std::string base =
      JoinPath(RunsFolder(), absl::StrCat(name, "-", absl::FormatTime("%Y%m%d-%H%M%S", now, absl::LocalTimeZone())));
  // Two runs may start within a second; mkdir gives each a folder of its own.
  for (int n = 1; n < 1000; ++n) {
    const std::string folder = n == 1 ? base : absl::StrCat(base, "-", n);
    if (mkdir(folder.c_str(), 0755) == 0) return folder;
    if (errno != EEXIST) return MakeFolderToWriteTo(folder);
  }
  return absl::AlreadyExistsError(absl::StrCat(base, ": exists, and so do 998 more; name a folder with --out"));
}

// What a launch leaves that was cut off before its coordinator came up; nothing was trained.
bool IsUnbegun(const std::string& folder, const std::vector<std::string>& names) {
  const auto is_early = [](const std::string& name) {
    return name == kConfigFile || name == kLaunchFile || name == kLogFolder;
  };
  return IsRun(folder) && std::all_of(names.begin(), names.end(), is_early) && !IsLive(folder);
}

absl::StatusOr<std::string> MakeGivenFolder(const std::string& out) {
  const std::string folder = WithoutTrailingSlash(out);
  RETURN_IF_ERROR(MakeFolderToWriteTo(folder));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, FileSystem::Real()->List(folder));
  if (names.empty() || IsUnbegun(folder, names)) return folder;
  return absl::AlreadyExistsError(
      IsRun(folder) ? absl::StrCat(folder, ": holds a run already; go on with it: lockstep run --resume ", folder,
                                   ", or name another folder with --out")
                    : absl::StrCat(folder, ": is not empty; name a new or empty folder with --out"));
}

// State and figures out of the journal alone: run.db may be large.
void ReadJournal(const std::string& folder, RunOverview* overview) {
  absl::StatusOr<std::unique_ptr<Journal>> journal = OpenJournalReadOnly(JoinPath(folder, "journal.db"));
  if (!journal.ok()) return;
  RunState state;
  double launched = 0, earlier = 0, last = 0;
  const absl::Status replayed = (*journal)->Replay([&](const Update& update) {
    if (overview->started == 0) overview->started = update.time();
    if (update.has_run_started()) {
      earlier += last - launched;
      launched = update.time();
      const RunStarted& started = update.run_started();
      overview->faults[started.incarnation()] = {started.config().inject().begin(), started.config().inject().end()};
      overview->ended = false;
      overview->why.clear();
    }
    last = update.time();
    if (update.has_run_ended()) {
      overview->ended = update.run_ended().exit_code() == 0;
      overview->exit_code = update.run_ended().exit_code();
      overview->why = update.run_ended().why();
    }
    return state.Apply(update);
  });
  // A journal that does not replay is for `verify` to tell; what was read of it holds.
  replayed.IgnoreError();
  overview->elapsed_s = earlier + (last - launched);
  overview->best_step = state.best_step();
  overview->best_value = state.best_value();
  overview->stop = state.stop();
  overview->incarnation = state.incarnation();
  if (!state.evaluations().empty()) overview->step = std::max(overview->step, state.evaluations().back().step());
  if (!state.started()) return;
  overview->final_step = state.final_step();
  overview->steps_per_epoch = state.plan().steps_per_epoch();
  if (overview->step < 1) return;
  overview->epoch = state.plan().EpochOf(overview->step);
  overview->epoch_step = state.plan().EpochStepOf(overview->step);
}

}  // namespace

std::string RunsFolder() {
  const char* folder = std::getenv("LOCKSTEP_RUNS");
  return folder != nullptr && folder[0] != '\0' ? WithoutTrailingSlash(folder) : "runs";
}

absl::StatusOr<std::string> FindRunFolder(const std::string& run) {
  if (run.empty()) return absl::InvalidArgumentError("no run named; list them with: lockstep runs");
  const std::string named = JoinPath(RunsFolder(), run);
  if (IsRun(run)) return WithoutTrailingSlash(run);
  if (IsRun(named)) return WithoutTrailingSlash(named);
  if (FileSystem::Real()->Exists(run)) {
    return absl::NotFoundError(
        absl::StrCat(run, ": is no run's folder, since it holds no ", kConfigFile, "; list runs with: lockstep runs"));
  }
  const std::string meant = DidYouMean(run, ListRuns());
  return absl::NotFoundError(absl::StrCat(run, ": no such run, neither here nor in ", RunsFolder(), "/",
                                          meant.empty() ? "; list them with: lockstep runs" : meant));
}

std::vector<std::string> ListRuns() {
  std::vector<std::string> runs;
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List(RunsFolder());
  if (!names.ok()) return runs;
  for (const std::string& name : *names) {
    if (IsRun(JoinPath(RunsFolder(), name))) runs.push_back(name);
  }
  return runs;
}

absl::StatusOr<RunConfig> ConfigOfRun(const std::string& run_folder) {
  return ReadRunConfig(JoinPath(run_folder, kConfigFile));
}

absl::StatusOr<std::string> MakeRunFolder(const std::string& out, const RunConfig& config, absl::Time now) {
  std::string folder;
  if (out.empty()) {
    ASSIGN_OR_RETURN(folder, MakeDefaultFolder(config, now));
  } else {
    ASSIGN_OR_RETURN(folder, MakeGivenFolder(out));
  }
  RETURN_IF_ERROR(MakeFolderToWriteTo(JoinPath(folder, kLogFolder)));
  RETURN_IF_ERROR(SaveRunConfig(folder, config));
  return folder;
}

void RemoveRunFolder(const std::string& run_folder) {
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List(run_folder);
  if (!names.ok()) return;
  for (const std::string& name : *names) FileSystem::Real()->RemoveAll(JoinPath(run_folder, name)).IgnoreError();
  rmdir(run_folder.c_str());
}

absl::Status SaveRunConfig(const std::string& run_folder, const RunConfig& config) {
  return WriteFileAtomically(FileSystem::Real(), JoinPath(run_folder, kConfigFile), ConfigToYaml(config));
}

bool IsLive(const std::string& run_folder) {
  const absl::StatusOr<RuntimeRecords> records = RuntimeRecords::Open();
  return IsRunFolderHeld(run_folder) || (records.ok() && records->Find(run_folder).ok());
}

absl::StatusOr<RunOverview> ReadOverview(const std::string& run_folder) {
  ASSIGN_OR_RETURN(const RunConfig config, ConfigOfRun(run_folder));
  RunOverview overview;
  overview.name = config.run().name();
  overview.folder = run_folder;
  overview.live = IsLive(run_folder);
  overview.metric = EnumWord(Metric_descriptor(), config.convergence().metric());
  if (config.convergence().has_target()) overview.target = config.convergence().target();
  const std::vector<int64_t> checkpoints = ListCheckpoints(FileSystem::Real(), JoinPath(run_folder, "checkpoints"));
  if (!checkpoints.empty()) overview.step = overview.last_checkpoint = checkpoints.back();
  ReadJournal(run_folder, &overview);
  return overview;
}

std::string StateWord(const RunOverview& overview) {
  return overview.live ? "live" : overview.ended ? "ended" : "resumable";
}

std::string HowToGoOn(const std::string& run_folder) {
  const absl::StatusOr<FoundCheckpoint> found =
      FindLastCheckpoint(FileSystem::Real(), JoinPath(run_folder, "checkpoints"));
  const std::string resume = absl::StrCat("lockstep run --resume ", ShellWord(run_folder));
  if (!found.ok()) return absl::StrCat("no checkpoint yet; start it afresh with: ", resume);
  return absl::StrCat("last checkpoint: step ", found->state.cursor().step(), "; go on with: ", resume);
}

}  // namespace lockstep
