#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/build_info.h"
#include "common/base/file.h"
#include "coordinator/service/core.h"
#include "coordinator/service/server.h"
#include "tests/support/temp_folder.h"

namespace lockstep {

// 100 samples in steps of 10: ten steps an epoch, two epochs.
inline RunConfig ServiceConfig() {
  RunConfig config;
  config.mutable_run()->set_name("small");
  config.mutable_run()->set_seed(7);
  config.mutable_data()->set_global_batch_size(10);
  config.mutable_convergence()->set_max_epochs(2);
  config.mutable_checkpoint()->set_every_epoch(true);
  config.mutable_checkpoint()->set_keep_last(2);
  config.mutable_control()->set_grant_steps(8);
  config.mutable_control()->set_timeout(60);
  return config;
}

// Of two ranks that train that.
inline ServerOptions ServiceOptions(const std::string& run_folder, const Credentials& credentials) {
  ServerOptions options;
  options.run_folder = run_folder;
  options.credentials = credentials;
  options.config = ServiceConfig();
  options.config_digest = "digest";
  options.world = 2;
  options.train_samples = 100;
  options.data_digest = "data";
  options.val_samples = 10;
  return options;
}

inline JoinRequest GoodJoin(int rank, int world) {
  JoinRequest request;
  request.set_rank(rank);
  request.set_world(world);
  request.set_incarnation(1);
  request.set_config_digest("digest");
  request.set_build(BuildVersion());
  request.set_host("node1");
  request.set_pid(100 + rank);
  return request;
}

inline StepRecord SmallRecord(int64_t step) {
  StepRecord record;
  record.set_step(step);
  record.set_start(1000 + 0.1 * step);
  record.set_step_s(0.1);
  record.set_forward_s(0.1);
  record.set_loss_sum(5);
  record.set_samples(5);
  return record;
}

// Keeps the rows.
class FakeRunDb : public RunDb {
 public:
  struct Rows {
    Mutex mutex;
    std::vector<StepRow> steps ABSL_GUARDED_BY(mutex);
    std::vector<Update> updates ABSL_GUARDED_BY(mutex);
    absl::Status error ABSL_GUARDED_BY(mutex);
  };
  explicit FakeRunDb(Rows* rows) : rows_(rows) {}

  absl::Status Write(const TelemetryRows& rows) override {
    MutexLock lock(&rows_->mutex);
    rows_->steps.insert(rows_->steps.end(), rows.steps.begin(), rows.steps.end());
    return rows_->error;
  }
  absl::Status Show(const Update& update) override {
    MutexLock lock(&rows_->mutex);
    if (rows_->error.ok()) rows_->updates.push_back(update);
    return rows_->error;
  }
  int64_t shown_through() const override { return 0; }

 private:
  Rows* const rows_;
};

// A journal in memory that fails while it is told to.
class FailingJournal : public Journal {
 public:
  FailingJournal(std::atomic<bool>* failing, std::vector<Update>* kept) : failing_(failing), kept_(kept) {}
  absl::Status Append(const Update& update) override {
    if (*failing_) return absl::ResourceExhaustedError("No space left on device");
    kept_->push_back(update);
    return absl::OkStatus();
  }
  absl::Status Replay(const std::function<absl::Status(const Update&)>& each) override { return absl::OkStatus(); }
  int64_t last_seq() const override { return static_cast<int64_t>(kept_->size()); }

 private:
  std::atomic<bool>* const failing_;
  std::vector<Update>* const kept_;
};

// Keeps what a worker is sent.
class FakeLink : public WorkerLink {
 public:
  void Send(std::shared_ptr<const CoordinatorMessage> message) override { sent.push_back(*message); }
  void Drop() override { dropped = true; }
  int Count(CoordinatorMessage::KindCase kind) const {
    int count = 0;
    for (const CoordinatorMessage& message : sent) count += message.kind_case() == kind;
    return count;
  }
  const CoordinatorMessage& Last(CoordinatorMessage::KindCase kind) const {
    for (auto it = sent.rbegin(); it != sent.rend(); ++it) {
      if (it->kind_case() == kind) return *it;
    }
    ADD_FAILURE() << "no message of kind " << kind;
    return CoordinatorMessage::default_instance();
  }

  std::vector<CoordinatorMessage> sent;
  bool dropped = false;
};

// A core with its clock, journal and rows in memory. Two workers unless said otherwise.
class CoreFixture {
 public:
  explicit CoreFixture(RunConfig config = ServiceConfig(), int world = 2, std::vector<std::string> hosts_of_ranks = {})
      : links(world) {
    RecorderOptions recorder_options;
    recorder_options.world = world;
    recorder_options.period = absl::Hours(1);  // written by Flush alone
    recorder = std::make_unique<Recorder>(std::move(recorder_options), std::make_unique<FakeRunDb>(&rows), nullptr);
    CoreOptions options;
    options.folder = "runs/small";
    options.world = world;
    options.join_timeout = absl::Seconds(120);
    options.hosts_of_ranks = std::move(hosts_of_ranks);
    options.heartbeat = absl::Milliseconds(250);
    options.clock = &clock;
    core = std::make_unique<Core>(std::move(options), std::make_unique<FailingJournal>(&journal_fails, &journal),
                                  RunState(), recorder.get());
    started.set_incarnation(1);
    *started.mutable_config() = std::move(config);
    started.set_config_digest("digest");
    started.set_world(world);
    started.set_train_samples(100);
    started.set_build(BuildVersion());
  }
  // Begins, and all workers join and attend.
  void StartTraining() {
    ASSERT_EQ(core->Begin(started), absl::OkStatus());
    for (int rank = 0; rank < started.world(); ++rank) JoinAndAttend(rank);
  }
  void JoinAndAttend(int rank) {
    ASSERT_EQ(core->GetRun().status(), absl::OkStatus());
    ASSERT_EQ(core->Join(GoodJoin(rank, started.world())).status(), absl::OkStatus());
    ASSERT_EQ(core->Attach(rank, 1, &links[rank]), absl::OkStatus());
  }

  static WorkerMessage From(int rank) {
    WorkerMessage message;
    message.set_rank(rank);
    message.set_incarnation(1);
    return message;
  }
  absl::StatusOr<bool> Send(const WorkerMessage& message) { return core->Receive(message.rank(), message); }
  absl::Status Evaluate(int64_t step, double accuracy) {
    WorkerMessage message = From(0);
    message.mutable_evaluated()->set_step(step);
    (*message.mutable_evaluated()->mutable_metrics())["accuracy"] = accuracy;
    return Send(message).status();
  }
  void AskForMore(int rank, int64_t through) {
    WorkerMessage message = From(rank);
    message.mutable_grant_request()->set_through_step(through);
    EXPECT_TRUE(Send(message).ok());
  }
  void Leave(int rank) {
    WorkerMessage message = From(rank);
    message.mutable_leaving()->set_why("done");
    const absl::StatusOr<bool> more = Send(message);
    EXPECT_TRUE(more.ok() && !*more) << more.status();
  }
  void Beat(int rank, int64_t step) {
    WorkerMessage message = From(rank);
    message.mutable_heartbeat()->set_step(step);
    EXPECT_TRUE(Send(message).ok());
  }
  // Time passes as it does for a process that is not held up.
  void Pass(absl::Duration time) {
    for (absl::Duration passed; passed < time; passed += absl::Seconds(1)) {
      clock.Advance(absl::Seconds(1));
      core->Tick();
    }
  }
  std::string Notes() {
    std::string notes;
    const StatusReply status = core->GetStatus(0);
    for (const Event& event : status.events()) absl::StrAppend(&notes, event.note(), "\n");
    return notes;
  }

  FakeClock clock;
  std::atomic<bool> journal_fails{false};
  std::vector<Update> journal;
  FakeRunDb::Rows rows;
  std::vector<FakeLink> links;
  RunStarted started;
  std::unique_ptr<Recorder> recorder;
  std::unique_ptr<Core> core;
};

// The machine's files, full while it is told to be.
class FullDisk : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, int mode) override {
    if (full) return absl::ResourceExhaustedError(absl::StrCat(path, ": No space left on device"));
    auto file = real_->Create(path, mode);
    if (!file.ok()) return file.status();
    return std::unique_ptr<WritableFile>(new File(*std::move(file), this, path));
  }
  absl::Status ForEachPiece(const std::string& path, int64_t max_bytes,
                            absl::FunctionRef<void(absl::string_view)> take) override {
    return real_->ForEachPiece(path, max_bytes, take);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override { return real_->Rename(from, to); }
  absl::Status SyncFolder(const std::string& path) override { return real_->SyncFolder(path); }
  absl::Status MakeFolders(const std::string& path, int mode) override { return real_->MakeFolders(path, mode); }
  absl::Status RemoveAll(const std::string& path) override { return real_->RemoveAll(path); }
  absl::Status ReplaceLink(const std::string& target, const std::string& link) override {
    return real_->ReplaceLink(target, link);
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override { return real_->List(folder); }
  bool Exists(const std::string& path) override { return real_->Exists(path); }

  std::atomic<bool> full{false};

 private:
  class File : public WritableFile {
   public:
    File(std::unique_ptr<WritableFile> file, FullDisk* disk, std::string path)
        : file_(std::move(file)), disk_(disk), path_(std::move(path)) {}
    absl::Status Append(absl::string_view data) override {
      if (disk_->full) return absl::ResourceExhaustedError(absl::StrCat(path_, ": No space left on device"));
      return file_->Append(data);
    }
    absl::Status Sync() override { return file_->Sync(); }
    absl::Status Close() override { return file_->Close(); }

   private:
    std::unique_ptr<WritableFile> file_;
    FullDisk* const disk_;
    const std::string path_;
  };
  FileSystem* const real_ = FileSystem::Real();
};

}  // namespace lockstep
