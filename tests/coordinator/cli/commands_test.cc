#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/checkpoint/checkpoint.h"
#include "common/config/config.h"
#include "common/data/plan.h"
#include "coordinator/state/run_state.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/run_db.h"
#include "tests/coordinator/cli/program.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

TEST(DatasetTest, TheSameSeedMakesTheSameBytes) {
  Program program;
  for (const char* folder : {"a", "b"}) {
    const Outcome outcome =
        program.Run({"dataset", "make", "digits", "--train", "50", "--val", "10", "--seed", "7", "--out", folder});
    EXPECT_EQ(outcome.out, absl::StrCat(folder, ": digits, 50 to train and 10 to validate, seed 7\n"));
    EXPECT_EQ(outcome.exit_code, 0);
  }
  ASSERT_EQ(program.List("a").size(), 4u);
  for (const std::string& name : program.List("a")) {
    EXPECT_EQ(program.Read(absl::StrCat("a/", name)), program.Read(absl::StrCat("b/", name)));
  }
}

TEST(DatasetTest, NothingIsWrittenOver) {
  Program program;
  const std::vector<std::string> make = {"dataset", "make", "digits", "--train", "50", "--val", "10", "--out", "d"};
  program.Write("d/notes", "mine");
  const Outcome outcome = program.Run(make);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("d: is not empty"));
  EXPECT_EQ(program.List("d").size(), 1u);
}

TEST(DatasetTest, ShowCountsLabelsAndDrawsASample) {
  Program program;
  program.MakeInputs();
  const Outcome outcome = program.Run({"dataset", "show", "digits"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("train: 100 samples, input uint8 28×28, target uint8\n"));
  EXPECT_THAT(outcome.out, HasSubstr("val: 20 samples"));
  EXPECT_THAT(outcome.out, HasSubstr("\ntrain sample 0, target "));
  const auto json = nlohmann::json::parse(program.Run({"dataset", "show", "digits", "--json"}).out);
  int64_t labelled = 0;
  for (const auto& [label, count] : json["train"]["labels"].items()) labelled += count.get<int64_t>();
  EXPECT_EQ(labelled, 100);
  EXPECT_EQ(json["val"]["samples"], 20);
}

TEST(DatasetTest, ASampleThatIsNotThereIsAnErrorOfUse) {
  Program program;
  program.MakeInputs();
  const Outcome outcome = program.Run({"dataset", "show", "digits", "--sample", "100"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "lockstep: --sample 100: there are training samples 0 to 99\n");
}

TEST(BenchTest, EndsAsMpirunDoes) {
  for (const int code : {0, 1}) {
    Program program;
    program.SetVariable("FAKE_MPIRUN", absl::StrCat("exit-", code));
    EXPECT_EQ(program.Run({"bench", "allreduce", "--workers", "3"}).exit_code, code);
  }
}

TEST(BenchTest, WhatIsWrongWithItsFlagsIsToldOnceBeforeMpirunStarts) {
  Program program;
  program.SetVariable("FAKE_MPIRUN", "exit-0");
  program.SetVariable("FAKE_WORKER", "--min: 'x' is no size");
  const Outcome outcome = program.Run({"bench", "allreduce", "--min", "x", "--max", "1G"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "lockstep-worker: --min: 'x' is no size\n");
  EXPECT_EQ(outcome.out, "");
}

// A run's folder as a coordinator would have left it: two epochs of ten samples.
class TrainedRunTest : public ::testing::Test {
 protected:
  TrainedRunTest() {
    program_.MakeInputs();
    program_.Write("runs/r/config.yaml", program_.Run({"run", "c.yaml", "--dry-run"}).out);
    journal_ = *OpenJournal(program_.path("runs/r/journal.db"), &warning_);
    db_ = *OpenRunDb(program_.path("runs/r/run.db"), &warning_);
    Update update;
    RunStarted* started = update.mutable_run_started();
    *started->mutable_config() = *ParseConfig(program_.Read("runs/r/config.yaml"), program_.path("c.yaml"), {});
    started->set_config_digest(ConfigDigest(started->config()));
    started->set_world(1);
    started->set_incarnation(1);
    started->set_train_samples(100);
    started->set_val_samples(20);
    Take(std::move(update));
    Update joined;
    joined.mutable_worker_joined()->set_incarnation(1);
    Take(std::move(joined));
    Update granted;
    granted.mutable_granted()->set_through_step(20);
    Take(std::move(granted));
    WriteEpoch(0, EpochFingerprint(0, 100));
    WriteCheckpoint(10, true);
    WriteCheckpoint(20, false);
    EXPECT_TRUE(PointLink(FileSystem::Real(), Checkpoints(), "best", 10).ok());
    EXPECT_TRUE(PointLink(FileSystem::Real(), Checkpoints(), "latest", 20).ok());
  }

  std::string Checkpoints() const { return program_.path("runs/r/checkpoints"); }

  // Into the journal and into run.db, with what is decided by it.
  void Take(Update update) {
    update.set_seq(journal_->last_seq() + 1);
    update.set_time(1.7e9 + static_cast<double>(update.seq()));
    EXPECT_EQ(journal_->Append(update), absl::OkStatus());
    EXPECT_EQ(db_->Show(update), absl::OkStatus());
    EXPECT_EQ(state_.Apply(update), absl::OkStatus());
    const std::vector<Decision> decisions = state_.Decide();
    if (decisions.empty()) return;
    Update next;
    *next.mutable_decision() = decisions.front();
    Take(std::move(next));
  }

  void WriteEpoch(int epoch, uint64_t fingerprint) {
    TelemetryRows rows;
    for (int64_t step = epoch * 10 + 1; step <= epoch * 10 + 10; ++step) {
      StepRow row;
      row.incarnation = 1;
      row.mean.set_step(step);
      row.mean.set_samples(10);
      rows.steps.push_back(row);
      rows.rank_steps.push_back({row.mean, 0, 1});
    }
    EXPECT_EQ(db_->Write(rows), absl::OkStatus());
    Update update;
    EpochDone* done = update.mutable_epoch_done();
    done->set_epoch(epoch);
    done->set_steps(10);
    done->set_samples(100);
    done->set_fingerprint(fingerprint);
    Take(std::move(update));
  }

  void WriteCheckpoint(int64_t step, bool best) {
    EXPECT_TRUE(FileSystem::Real()->MakeFolders(Checkpoints()).ok());
    auto writer = *CheckpointWriter::Create(FileSystem::Real(), Checkpoints(), step);
    CheckpointState state;
    state.mutable_cursor()->set_step(step);
    EXPECT_TRUE(writer->AddFile(kModelFile, absl::StrCat("weights ", step)).ok());
    EXPECT_TRUE(writer->AddFile(kOptimizerFile, "momentum").ok());
    EXPECT_TRUE(writer->AddFile(kStateFile, CheckpointStateToJson(state)).ok());
    const auto written = writer->Commit();
    EXPECT_EQ(written.status(), absl::OkStatus());
    Update due;
    due.mutable_checkpoint_due()->set_step(step);
    Take(std::move(due));
    Update update;
    CheckpointCommitted* committed = update.mutable_checkpoint_committed();
    committed->set_step(step);
    committed->set_path(absl::StrCat("checkpoints/", CheckpointName(step)));
    committed->set_bytes(written->bytes);
    committed->set_digest(written->digest);
    committed->set_best(best);
    Take(std::move(update));
  }

  Program program_;
  std::string warning_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<RunDb> db_;
  RunState state_;
};

TEST_F(TrainedRunTest, VerifyPassesWhatIsWhole) {
  const Outcome outcome = program_.Run({"verify", "r"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr("good  epoch 1: 100 samples, each exactly once in 10 steps"));
  EXPECT_THAT(outcome.out, HasSubstr("good  checkpoint step 20: whole: 3 files"));
  EXPECT_THAT(outcome.out, HasSubstr("runs/r: verified\n"));
}

TEST_F(TrainedRunTest, VerifyFailsOnAnEpochThatUsedASampleTwice) {
  WriteEpoch(1, EpochFingerprint(1, 100) + SampleFingerprint(1, 3) - SampleFingerprint(1, 4));
  const Outcome outcome = program_.Run({"verify", "r"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("BAD   epoch 2: 100 samples of 100 with fingerprint "));
  EXPECT_EQ(nlohmann::json::parse(program_.Run({"verify", "r", "--json"}).out)["good"], false);
}

TEST_F(TrainedRunTest, VerifyFailsOnACheckpointThatWasChanged) {
  program_.Write("runs/r/checkpoints/step-00000010/model.safetensors", "weights 11");
  const Outcome outcome = program_.Run({"verify", "r"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("BAD   checkpoint step 10: "));
}

TEST_F(TrainedRunTest, EvaluateHandsTheBestCheckpointToTheWorker) {
  const Outcome outcome = program_.Run({"evaluate", "r", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "--evaluate\n--checkpoint\nruns/r/checkpoints/best\n--config\nruns/r/config.yaml\n--split\nval\n"
            "--json\n");
}

TEST_F(TrainedRunTest, ACheckpointIsChosenByNameOrByItsFolder) {
  EXPECT_THAT(program_.Run({"evaluate", "r", "--checkpoint", "latest"}).out, HasSubstr("runs/r/checkpoints/latest\n"));
  EXPECT_THAT(program_.Run({"evaluate", "r", "--checkpoint", "step-20"}).out, HasSubstr("/step-00000020\n"));
  EXPECT_THAT(program_.Run({"predict", "runs/r/checkpoints/step-00000010", "--data", "digits"}).out,
              HasSubstr(absl::StrCat("--config\n", program_.path("runs/r/config.yaml"))));
  const Outcome missing = program_.Run({"evaluate", "r", "--checkpoint", "step-30"});
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_EQ(missing.err, "lockstep: runs/r: no checkpoint step-30; there are: step-10, step-20\n");
}

TEST_F(TrainedRunTest, AChangedCheckpointIsNotUsed) {
  program_.Write("runs/r/checkpoints/step-00000010/model.safetensors", "weights 11");
  const Outcome outcome = program_.Run({"evaluate", "r"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(TrainedRunTest, StatusAndRunsTellOfARunThatIsOver) {
  EXPECT_THAT(program_.Run({"status", "r"}).out, HasSubstr("lockstep run --resume runs/r"));
  const auto runs = nlohmann::json::parse(program_.Run({"runs", "--json"}).out);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0]["state"], "resumable");
  EXPECT_EQ(runs[0]["last_checkpoint"], 20);
  const Outcome typo = program_.Run({"status", "rr"});
  EXPECT_EQ(typo.err, "lockstep: rr: no such run, neither here nor in runs/; list them with: lockstep runs\n");
}

}  // namespace
}  // namespace lockstep
