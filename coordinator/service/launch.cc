#include "coordinator/service/launch.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/build_info.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

absl::Status OpenRecords(const ServerOptions& options, Launch* launch) {
  for (const char* folder : {"checkpoints", "events", "log"}) {
    RETURN_IF_ERROR(options.files->MakeFolders(JoinPath(options.run_folder, folder)));
  }
  std::string warning;
  ASSIGN_OR_RETURN(launch->journal, OpenJournal(JoinPath(options.run_folder, "journal.db"), &warning));
  auto db = OpenRunDb(JoinPath(options.run_folder, "run.db"), &warning);
  if (absl::IsDataLoss(db.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat(db.status().message(),
                     ": move it away, and a resume makes it anew from the journal, without the measurements"));
  }
  RETURN_IF_ERROR(db.status());
  launch->db = *std::move(db);
  if (!warning.empty()) launch->notes.push_back(warning);
  return absl::OkStatus();
}

absl::Status ReplayJournal(const ServerOptions& options, Launch* launch) {
  if (!options.resume && launch->journal->last_seq() > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.run_folder, " holds a run already: go on with it by --resume, or choose another --out"));
  }
  if (launch->db->shown_through() > launch->journal->last_seq()) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.run_folder, "/run.db shows update ", launch->db->shown_through(),
                     " of a journal that ends with update ", launch->journal->last_seq(),
                     ": put the run's own journal.db back, or use a copy of the folder"));
  }
  // A launch that was killed may have left run.db behind the journal.
  RETURN_IF_ERROR(launch->journal->Replay([&](const Update& update) {
    RETURN_IF_ERROR(launch->state.Apply(update));
    return launch->db->Show(update);
  }));
  if (options.resume && !launch->state.started()) {
    launch->notes.push_back("the run was stopped before it had begun: it starts afresh");
  }
  return absl::OkStatus();
}

absl::Status CheckSameRun(const ServerOptions& options, const FoundCheckpoint& from) {
  const CheckpointState& state = from.state;
  if (state.config_digest() != options.config_digest) {
    return absl::FailedPreconditionError(absl::StrCat(from.folder, " was trained with the config of digest ",
                                                      state.config_digest(), ", this one has ", options.config_digest,
                                                      ": resume with the run's own config.yaml"));
  }
  return CheckSameData(state, from.folder, options.config.data().path(), options.train_samples, options.data_digest);
}

absl::Status FindStart(const ServerOptions& options, Launch* launch) {
  const std::string folder = JoinPath(options.run_folder, "checkpoints");
  absl::StatusOr<FoundCheckpoint> found = FindLastCheckpoint(options.files, folder);
  if (absl::IsNotFound(found.status())) return absl::OkStatus();
  RETURN_IF_ERROR(found.status());
  if (!launch->state.started()) {
    return absl::FailedPreconditionError(absl::StrCat(
        options.run_folder, "/journal.db holds nothing, and ", found->folder, " is there: put the run's own ",
        "journal.db back, or begin a new run from its weights with --set model.init_from=", found->folder, "/",
        kModelFile));
  }
  RETURN_IF_ERROR(CheckSameRun(options, *found));
  for (const std::string& word : found->passed_over) launch->notes.push_back(word);
  // A launch that was killed may have left them pointing elsewhere, or may have died while it replaced that very
  // folder.
  for (const auto& [link, step] : {std::pair<const char*, int64_t>("latest", found->state.cursor().step()),
                                   std::pair<const char*, int64_t>("best", found->state.best_step())}) {
    if (step < 0) continue;
    if (absl::Status linked = PointLink(options.files, folder, link, step); !linked.ok()) {
      launch->notes.push_back(absl::StrCat("checkpoints/", link, " was left as it is: ", linked.message()));
    }
  }
  launch->from = *std::move(found);
  return absl::OkStatus();
}

void FillRunStarted(const ServerOptions& options, Launch* launch) {
  RunStarted& started = launch->started;
  started.set_incarnation(launch->state.incarnation() + 1);
  *started.mutable_config() = options.config;
  started.set_config_digest(options.config_digest);
  started.set_world(options.world);
  started.set_train_samples(options.train_samples);
  started.set_val_samples(options.val_samples);
  started.set_data_digest(options.data_digest);
  started.set_resumed(options.resume);
  started.set_build(BuildVersion());
  if (launch->from) *started.mutable_from() = launch->from->state;
}

void OpenEvents(const ServerOptions& options, Launch* launch) {
  char host[256] = "localhost";
  gethostname(host, sizeof(host) - 1);
  auto events = EventFile::Create(options.files, JoinPath(options.run_folder, "events"),
                                  UnixSeconds(options.clock->Now()), host, absl::StrCat(launch->started.incarnation()));
  if (events.ok()) {
    launch->events = *std::move(events);
  } else {
    launch->notes.push_back(absl::StrCat("no event file: ", events.status().message()));
  }
}

}  // namespace

absl::StatusOr<Launch> PrepareLaunch(const ServerOptions& options) {
  Launch launch;
  std::string warning;
  ASSIGN_OR_RETURN(launch.lock, FolderLock::Take(options.run_folder, &warning));
  if (!warning.empty()) launch.notes.push_back(warning);
  RETURN_IF_ERROR(OpenRecords(options, &launch));
  RETURN_IF_ERROR(ReplayJournal(options, &launch));
  if (options.resume) RETURN_IF_ERROR(FindStart(options, &launch));
  FillRunStarted(options, &launch);
  OpenEvents(options, &launch);
  return launch;
}

absl::Status CheckSameData(const CheckpointState& state, const std::string& run, const std::string& path,
                           int64_t train_samples, const std::string& data_digest) {
  std::string differ;
  if (state.train_samples() != train_samples) {
    differ = absl::StrCat(run, " was trained on ", state.train_samples(), " samples, ", path, " holds ", train_samples);
  } else if (state.data_digest() != data_digest) {
    differ = absl::StrCat(run, " was trained on other samples (digest ", state.data_digest(), ") than ", path,
                          " holds (", data_digest, ")");
  }
  if (differ.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(differ, ": put the run's data back, or set data.path to where they are"));
}

}  // namespace lockstep
