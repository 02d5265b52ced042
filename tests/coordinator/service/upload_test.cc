#include "coordinator/service/upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/service/download.h"
#include "tests/coordinator/service/service_testing.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

class UploadTest : public testing::Test {
 protected:
  UploadTest() { run_.StartTraining(); }

  CheckpointChunk Header(int64_t step, int64_t model_bytes = 6, int64_t optimizer_bytes = 3) {
    CheckpointChunk chunk;
    CheckpointChunk::Header* header = chunk.mutable_header();
    header->set_incarnation(1);
    header->mutable_cursor()->set_step(step);
    header->mutable_cursor()->set_evaluated(true);
    header->set_snapshot_s(0.5);
    AddFile(header, kModelFile, model_bytes);
    AddFile(header, kOptimizerFile, optimizer_bytes);
    return chunk;
  }
  static void AddFile(CheckpointChunk::Header* header, const std::string& name, int64_t bytes) {
    Manifest::File* file = header->add_files();
    file->set_name(name);
    file->set_bytes(bytes);
  }
  static CheckpointChunk Data(const std::string& bytes) {
    CheckpointChunk chunk;
    chunk.set_data(bytes);
    return chunk;
  }
  absl::StatusOr<CheckpointCommitted> Upload(const std::vector<CheckpointChunk>& chunks) {
    CheckpointUpload upload(run_.core.get(), &disk_, &run_.clock, folder_.path());
    for (const CheckpointChunk& chunk : chunks) {
      if (absl::Status taken = upload.Take(chunk); !taken.ok()) return taken;
    }
    return upload.Finish();
  }
  std::vector<std::string> Names() { return *disk_.List(folder_.path()); }
  std::string Read(const std::string& name) { return *disk_.Read(JoinPath(folder_.path(), name), 1 << 20); }

  TempFolder folder_;
  FullDisk disk_;
  CoreFixture run_;
};

TEST_F(UploadTest, ACheckpointIsCommittedLinkedAndJournaled) {
  const auto committed = Upload({Header(0), Data("modelo"), Data("pti")});
  ASSERT_EQ(committed.status(), absl::OkStatus());
  EXPECT_EQ(committed->step(), 0);
  EXPECT_EQ(committed->path(), "checkpoints/step-00000000");
  EXPECT_DOUBLE_EQ(committed->snapshot_s(), 0.5);
  EXPECT_FALSE(committed->best());
  EXPECT_THAT(Names(), UnorderedElementsAre("step-00000000", "latest"));
  EXPECT_EQ(Read("latest/model.safetensors"), "modelo");
  EXPECT_EQ(Read("latest/optimizer.safetensors"), "pti");
  EXPECT_EQ(run_.journal.back().checkpoint_committed().step(), 0);
  EXPECT_EQ(run_.core->GetStatus(0).last_checkpoint(), 0);
  const auto found = FindLastCheckpoint(&disk_, folder_.path());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_EQ(found->state.global_batch_size(), 10);
}

TEST_F(UploadTest, BytesMayBeSplitAnywhere) {
  ASSERT_EQ(Upload({Header(0), Data("m"), Data("odelop"), Data(""), Data("ti")}).status(), absl::OkStatus());
  EXPECT_EQ(Read("latest/optimizer.safetensors"), "pti");
}

TEST_F(UploadTest, TheBestIsLinked) {
  run_.AskForMore(0, 8);
  ASSERT_EQ(run_.Evaluate(10, 0.5), absl::OkStatus());
  const auto committed = Upload({Header(10), Data("modelopti")});
  ASSERT_EQ(committed.status(), absl::OkStatus());
  EXPECT_TRUE(committed->best());
  EXPECT_EQ(Read("best/model.safetensors"), "modelo");
}

TEST_F(UploadTest, OldCheckpointsArePruned) {
  run_.AskForMore(0, 8);
  run_.AskForMore(0, 16);
  for (const int64_t step : {0, 10, 20}) {
    ASSERT_EQ(Upload({Header(step), Data("modelopti")}).status(), absl::OkStatus());
  }
  EXPECT_THAT(Names(), UnorderedElementsAre("step-00000010", "step-00000020", "latest"));
}

TEST_F(UploadTest, WhatIsNotDueIsRefused) {
  EXPECT_EQ(Upload({Header(7), Data("modelopti")}).status(),
            absl::FailedPreconditionError("nothing asks for a checkpoint at step 7"));
  CheckpointChunk old = Header(0);
  old.mutable_header()->set_incarnation(0);
  EXPECT_EQ(Upload({old}).status(),
            absl::FailedPreconditionError("a checkpoint of incarnation 0, the run is in incarnation 1"));
  ASSERT_TRUE(Upload({Header(0), Data("modelopti")}).ok());
  EXPECT_EQ(Upload({Header(0), Data("modelopti")}).status().code(), absl::StatusCode::kFailedPrecondition)
      << "committed already";
}

TEST_F(UploadTest, OneUploadAtATime) {
  CheckpointUpload first(run_.core.get(), &disk_, &run_.clock, folder_.path());
  ASSERT_EQ(first.Take(Header(0)), absl::OkStatus());
  EXPECT_EQ(Upload({Header(0)}).status(), absl::UnavailableError("another checkpoint is being uploaded; try again"));
  ASSERT_EQ(first.Take(Data("modelopti")), absl::OkStatus());
  EXPECT_EQ(first.Finish().status(), absl::OkStatus()) << "the refused one took its place";
}

TEST_F(UploadTest, WhatArrivesMustBeWhatWasAnnounced) {
  EXPECT_EQ(Upload({Header(0), Data("mod")}).status(), absl::DataLossError("model.safetensors: 3 of 6 bytes arrived"));
  EXPECT_EQ(Upload({Header(0), Data("modelo"), Data("p")}).status(),
            absl::DataLossError("optimizer.safetensors: 1 of 3 bytes arrived"));
  EXPECT_EQ(Upload({Header(0), Data("modeloptix")}).status(), absl::DataLossError("more bytes than were announced"));
  EXPECT_EQ(Upload({Data("x")}).status(), absl::DataLossError("bytes before the header"));
  EXPECT_EQ(Upload({Header(0), Header(0)}).status(), absl::DataLossError("a second header"));
  EXPECT_EQ(Upload({}).status(), absl::DataLossError("the upload ended before its header"));
  EXPECT_EQ(Upload({CheckpointChunk()}).status(), absl::DataLossError("a chunk that holds nothing"));
  EXPECT_EQ(Upload({Header(0, 3 << 20), Data(std::string((1 << 20) + 1, 'x'))}).status(),
            absl::DataLossError("a chunk of 1048577 bytes"));
  EXPECT_TRUE(Names().empty()) << "something of a broken upload is left";
}

TEST_F(UploadTest, NamesAreThoseThatACheckpointHolds) {
  for (const std::string name : {"../../evil", "state.json", "MANIFEST.json", "", "model.safetensors/x"}) {
    CheckpointChunk chunk = Header(0);
    chunk.mutable_header()->mutable_files(1)->set_name(name);
    EXPECT_EQ(Upload({chunk}).status(),
              absl::DataLossError("a checkpoint holds model.safetensors, optimizer.safetensors and perhaps "
                                  "ranks.safetensors, no other file was to come"));
  }
  CheckpointChunk twice = Header(0);
  twice.mutable_header()->mutable_files(1)->set_name(kModelFile);
  EXPECT_EQ(Upload({twice}).status(), absl::DataLossError("model.safetensors is announced twice"));
  CheckpointChunk without = Header(0);
  without.mutable_header()->mutable_files()->DeleteSubrange(0, 1);
  EXPECT_EQ(Upload({without}).status(), absl::DataLossError("model.safetensors is not announced"));
  CheckpointChunk model_alone = Header(0);
  model_alone.mutable_header()->mutable_files()->RemoveLast();
  EXPECT_EQ(Upload({model_alone}).status(), absl::DataLossError("optimizer.safetensors is not announced"));
  EXPECT_EQ(Upload({Header(0, -1)}).status(), absl::DataLossError("model.safetensors is announced without a size"));
}

TEST_F(UploadTest, AFullDiskIsAWarningAndTheRunGoesOn) {
  CheckpointUpload upload(run_.core.get(), &disk_, &run_.clock, folder_.path());
  ASSERT_EQ(upload.Take(Header(0)), absl::OkStatus());
  disk_.full = true;
  // Small writes may wait in a buffer until the file is ended.
  absl::Status status = upload.Take(Data("modelopti"));
  if (status.ok()) status = upload.Finish().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the checkpoint of step 0 could not be written: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("No space left on device"));
  EXPECT_EQ(run_.journal.back().decision().kind(), "warning");
  EXPECT_EQ(run_.core->GetStatus(0).phase(), "starting");
  EXPECT_EQ(run_.links[0].Count(CoordinatorMessage::kAbort), 0);
}

TEST_F(UploadTest, TheNextUploadAfterAFullDiskSucceeds) {
  disk_.full = true;
  EXPECT_TRUE(absl::IsUnavailable(Upload({Header(0), Data("modelopti")}).status()));
  EXPECT_TRUE(Names().empty());
  disk_.full = false;
  EXPECT_EQ(Upload({Header(0), Data("modelopti")}).status(), absl::OkStatus());
}

TEST_F(UploadTest, WhatWasUploadedIsDownloadedTheSame) {
  const std::string model(3000000, 'm');
  ASSERT_EQ(Upload({Header(0, model.size(), 3), Data(model.substr(0, 1 << 20)), Data(model.substr(1 << 20, 1 << 20)),
                    Data(model.substr(2 << 20) + "opt")})
                .status(),
            absl::OkStatus());
  const std::optional<FoundCheckpoint> found = *FindLastCheckpoint(&disk_, folder_.path());
  CheckpointDownload download(2, &found);
  CheckpointChunk chunk;
  ASSERT_TRUE(*download.Next(&chunk));
  EXPECT_EQ(chunk.header().incarnation(), 2);
  ASSERT_EQ(chunk.header().files_size(), 2);
  EXPECT_EQ(chunk.header().files(0).xxh3().size(), 16u);
  std::string all;
  while (*download.Next(&chunk)) {
    EXPECT_LE(chunk.data().size(), size_t{1} << 20);
    all += chunk.data();
  }
  EXPECT_EQ(all, model + "opt");
}

TEST_F(UploadTest, StatesOfTheRanksComeBackTooIfThereAreSome) {
  CheckpointChunk header = Header(0);
  AddFile(header.mutable_header(), kRanksFile, 4);
  ASSERT_EQ(Upload({header, Data("modeloptirank")}).status(), absl::OkStatus());
  EXPECT_EQ(Read("latest/ranks.safetensors"), "rank");
  const std::optional<FoundCheckpoint> found = *FindLastCheckpoint(&disk_, folder_.path());
  CheckpointDownload download(2, &found);
  CheckpointChunk chunk;
  ASSERT_TRUE(*download.Next(&chunk));
  ASSERT_EQ(chunk.header().files_size(), 3);
  EXPECT_EQ(chunk.header().files(2).name(), kRanksFile);
  std::string all;
  while (*download.Next(&chunk)) all += chunk.data();
  EXPECT_EQ(all, "modeloptirank");
}

TEST_F(UploadTest, AFreshRunHasNothingToDownload) {
  const std::optional<FoundCheckpoint> nothing;
  CheckpointDownload download(1, &nothing);
  CheckpointChunk chunk;
  EXPECT_TRUE(absl::IsNotFound(download.Next(&chunk).status()));
}

}  // namespace
}  // namespace lockstep
