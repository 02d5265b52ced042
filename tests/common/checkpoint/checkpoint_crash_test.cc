#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "tests/common/checkpoint/faulty_files.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

absl::Status WriteCheckpoint(FileSystem* files, const std::string& folder, int64_t step, const std::string& content) {
  ASSIGN_OR_RETURN(const auto writer, CheckpointWriter::Create(files, folder, step));
  RETURN_IF_ERROR(writer->BeginFile(kModelFile));
  RETURN_IF_ERROR(writer->Append(content));
  RETURN_IF_ERROR(writer->Append(std::string(1000, 'm')));
  RETURN_IF_ERROR(writer->AddFile(kOptimizerFile, "optimizer of " + content));
  CheckpointState state;
  state.set_schema_version(1);
  state.mutable_cursor()->set_step(step);
  state.set_config_digest(content);
  RETURN_IF_ERROR(writer->AddFile(kStateFile, CheckpointStateToJson(state)));
  return writer->Commit().status();
}

// What was reported as done, and so has to last.
struct Done {
  bool committed = false, linked = false;
};

// Writes the checkpoint of `step` as the coordinator does.
absl::Status TakeCheckpoint(FileSystem* files, const std::string& folder, int64_t step, Done* done) {
  RETURN_IF_ERROR(WriteCheckpoint(files, folder, step, "new"));
  done->committed = true;
  RETURN_IF_ERROR(PointLink(files, folder, "latest", step));
  done->linked = true;
  return PruneCheckpoints(files, folder, 2);
}

struct Scenario {
  Fault fault;
  int64_t step;  // 300: after those that are there; 200: in the place of one that is
};

std::ostream& operator<<(std::ostream& out, const Scenario& scenario) {
  return out << static_cast<int>(scenario.fault) << " at step " << scenario.step;
}

class CheckpointFaultTest : public testing::TestWithParam<Scenario> {
 protected:
  // Checkpoints 50 (the best), 100 and 200 (the latest) lie in `folder`.
  static void Prepare(const std::string& folder) {
    FaultyFiles files(Fault::kNone, 0);
    for (const int64_t step : {50, 100, 200}) ASSERT_TRUE(WriteCheckpoint(&files, folder, step, "old").ok());
    ASSERT_TRUE(PointLink(&files, folder, "latest", 200).ok());
    ASSERT_TRUE(PointLink(&files, folder, "best", 50).ok());
  }

  static void ExpectSound(const std::string& folder, const Done& done) {
    FileSystem* files = FileSystem::Real();
    for (const int64_t step : ListCheckpoints(files, folder)) {
      const auto verified = VerifyCheckpoint(files, folder + "/" + CheckpointName(step));
      EXPECT_TRUE(verified.ok()) << "half a checkpoint is listed: " << verified.status();
    }
    const auto last = FindLastCheckpoint(files, folder);
    ASSERT_TRUE(last.ok()) << last.status();
    EXPECT_THAT(last->passed_over, IsEmpty());
    const int64_t step = last->state.cursor().step();
    EXPECT_TRUE(step == 200 || step == GetParam().step) << step;
    if (step == 300) {
      EXPECT_EQ(last->state.config_digest(), "new");
    }
    if (done.committed) {
      EXPECT_EQ(step, GetParam().step) << "committed, and then lost";
      EXPECT_EQ(last->state.config_digest(), "new");
    }
    if (done.linked) {
      EXPECT_EQ(VerifyCheckpoint(files, folder + "/latest")->step(), GetParam().step);
    }
    EXPECT_TRUE(VerifyCheckpoint(files, folder + "/best").ok());
  }

  // Once the process is started again, all goes on, and no litter stays.
  static void ExpectRecovers(const std::string& folder) {
    FaultyFiles sound(Fault::kNone, 0);
    FileSystem* const files = &sound;
    ASSERT_TRUE(PruneCheckpoints(files, folder, 0).ok());
    EXPECT_TRUE(VerifyCheckpoint(files, folder + "/latest").ok());
    Done done;
    const absl::Status again = TakeCheckpoint(files, folder, GetParam().step, &done);
    ASSERT_TRUE(again.ok()) << again;
    const auto last = FindLastCheckpoint(files, folder);
    ASSERT_TRUE(last.ok()) << last.status();
    EXPECT_EQ(last->state.config_digest(), "new");
    const auto names = files->List(folder);
    ASSERT_TRUE(names.ok());
    if (GetParam().step == 300) {
      EXPECT_THAT(*names, ElementsAre("best", "latest", "step-00000050", "step-00000200", "step-00000300"));
    } else {
      EXPECT_THAT(*names, ElementsAre("best", "latest", "step-00000050", "step-00000100", "step-00000200"));
    }
  }
};

TEST_P(CheckpointFaultTest, AtEveryOperationTheLastCheckpointStaysReadable) {
  int operations = 1;
  for (int at = 0; at <= operations; ++at) {
    SCOPED_TRACE(absl::StrCat("operation ", at));
    const TempFolder folder;
    Prepare(folder.path());
    FaultyFiles files(at == 0 ? Fault::kNone : GetParam().fault, at);
    Done done;
    const absl::Status status = TakeCheckpoint(&files, folder.path(), GetParam().step, &done);
    if (at == 0) {
      ASSERT_TRUE(status.ok()) << status;
      operations = files.operations();
      EXPECT_GT(operations, 20);
    }
    EXPECT_EQ(files.dead(), at > 0 && (GetParam().fault == Fault::kCrash || GetParam().fault == Fault::kPowerCut));
    ExpectSound(folder.path(), done);
    ExpectRecovers(folder.path());
    if (HasFailure()) return;
  }
}

TEST_P(CheckpointFaultTest, AnErrorIsReportedAndLeavesNothingHalfWritten) {
  if (GetParam().fault != Fault::kOneError && GetParam().fault != Fault::kDiskFull) return;
  int operations = 1;
  for (int at = 0; at <= operations; ++at) {
    SCOPED_TRACE(absl::StrCat("operation ", at));
    const TempFolder folder;
    Prepare(folder.path());
    FaultyFiles files(at == 0 ? Fault::kNone : GetParam().fault, at);
    const absl::Status status = WriteCheckpoint(&files, folder.path(), GetParam().step, "new");
    if (at == 0) operations = files.operations();
    const auto last = FindLastCheckpoint(FileSystem::Real(), folder.path());
    ASSERT_TRUE(last.ok()) << last.status();
    const bool is_new = last->state.config_digest() == "new";
    if (status.ok()) {
      EXPECT_TRUE(is_new);
    } else {
      EXPECT_TRUE(absl::StrContains(status.message(), folder.path())) << status;
      EXPECT_EQ(status.code(), GetParam().fault == Fault::kDiskFull ? absl::StatusCode::kResourceExhausted
                                                                    : absl::StatusCode::kUnavailable);
      EXPECT_FALSE(FileSystem::Real()->Exists(folder / ".step-00000300.tmp"));
      EXPECT_FALSE(FileSystem::Real()->Exists(folder / ".step-00000200.tmp"));
    }
    EXPECT_TRUE(VerifyCheckpoint(FileSystem::Real(), folder / "latest").ok());
    if (HasFailure()) return;
  }
}

std::string NameOf(const testing::TestParamInfo<Scenario>& info) {
  static const char* const names[] = {"None", "OneError", "DiskFull", "Crash", "PowerCut"};
  return absl::StrCat(names[static_cast<int>(info.param.fault)],
                      info.param.step == 300 ? "OfANewOne" : "OfAReplacement");
}

INSTANTIATE_TEST_SUITE_P(All, CheckpointFaultTest,
                         testing::Values(Scenario{Fault::kOneError, 300}, Scenario{Fault::kOneError, 200},
                                         Scenario{Fault::kDiskFull, 300}, Scenario{Fault::kDiskFull, 200},
                                         Scenario{Fault::kCrash, 300}, Scenario{Fault::kCrash, 200},
                                         Scenario{Fault::kPowerCut, 300}, Scenario{Fault::kPowerCut, 200}),
                         NameOf);

}  // namespace
}  // namespace lockstep
