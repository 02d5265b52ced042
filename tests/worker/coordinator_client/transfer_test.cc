#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tests/worker/coordinator_client/fake_coordinator.h"
#include "worker/coordinator_client/client.h"

namespace lockstep {
namespace {

// `size` bytes that differ from place to place.
std::string Content(size_t size, int seed) {
  std::string content(size, '\0');
  for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>((i * 31 + i / 251 + seed) & 0xff);
  return content;
}

CheckpointChunk::Header HeaderOf(const std::vector<std::string>& files) {
  CheckpointChunk::Header header;
  header.mutable_cursor()->set_step(64);
  for (size_t i = 0; i < files.size(); ++i) {
    Manifest::File* const file = header.add_files();
    file->set_name(absl::StrCat("file", i));
    file->set_bytes(static_cast<int64_t>(files[i].size()));
  }
  return header;
}

// Hands `content` out in pieces of `piece` bytes.
CoordinatorLink::ChunkSource SourceOf(const std::string* content, size_t piece) {
  return [content, piece, at = size_t{0}]() mutable -> absl::StatusOr<absl::string_view> {
    const absl::string_view part = absl::string_view(*content).substr(at, piece);
    at += part.size();
    return part;
  };
}

TEST(UploadTest, SendsTheHeaderAndThenAllBytesInChunksOfOneMebibyteAtMost) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  const std::string content = Content(7'654'321, 1);
  for (const size_t piece : {size_t{3'000'000}, size_t{1} << 20, size_t{999}}) {
    const auto committed = link->UploadCheckpoint(HeaderOf({content}), SourceOf(&content, piece));
    ASSERT_TRUE(committed.ok()) << committed.status();
    EXPECT_EQ(committed->step(), 64);
    const std::vector<CheckpointChunk> uploaded = coordinator.TakeUploaded();
    ASSERT_TRUE(!uploaded.empty() && uploaded[0].has_header());
    EXPECT_EQ(uploaded[0].header().files(0).bytes(), 7'654'321);
    std::string came;
    for (const CheckpointChunk& chunk : uploaded) {
      EXPECT_LE(chunk.data().size(), size_t{1} << 20);
      came += chunk.data();
    }
    EXPECT_TRUE(came == content);
  }
}

TEST(UploadTest, ARefusalInTheMiddleIsReturnedWithItsWords) {
  FakeCoordinator coordinator;
  coordinator.upload_status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "model.safetensors: No space left on device");
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  const std::string content = Content(20'000'000, 2);
  EXPECT_EQ(link->UploadCheckpoint(HeaderOf({content}), SourceOf(&content, 1 << 20)).status(),
            absl::UnavailableError(absl::StrCat("the coordinator at ", coordinator.client().address,
                                                ": model.safetensors: No space left on device")));
}

TEST(UploadTest, ASourceThatFailsBreaksTheUploadOff) {
  FakeCoordinator coordinator;
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
  const auto source = []() -> absl::StatusOr<absl::string_view> { return absl::InternalError("no snapshot"); };
  EXPECT_EQ(link->UploadCheckpoint(HeaderOf({"x"}), source).status(), absl::InternalError("no snapshot"));
}

TEST(UploadTest, ACoordinatorThatTakesNothingIsADeadline) {
  FakeCoordinator coordinator;
  coordinator.read_uploads = false;
  ClientOptions options = coordinator.client();
  options.stall_timeout = absl::Milliseconds(300);
  std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker(options);
  const std::string content = Content(20'000'000, 3);
  EXPECT_EQ(link->UploadCheckpoint(HeaderOf({content}), SourceOf(&content, 1 << 20)).status(),
            absl::DeadlineExceededError(absl::StrCat("the coordinator at ", coordinator.client().address,
                                                     ": a checkpoint's transfer has stood still for 300ms")));
}

// The chunks of a download, cut without regard to where files begin.
std::vector<CheckpointChunk> ChunksOf(const std::vector<std::string>& files, size_t piece) {
  std::vector<CheckpointChunk> chunks(1);
  *chunks[0].mutable_header() = HeaderOf(files);
  std::string all;
  for (const std::string& file : files) all += file;
  for (size_t at = 0; at < all.size(); at += piece) chunks.emplace_back().set_data(all.substr(at, piece));
  return chunks;
}

TEST(DownloadTest, GivesTheFilesBackHoweverTheyWereCut) {
  const std::vector<std::string> files = {Content(5'000'001, 4), "", Content(2'000'003, 5)};
  for (const size_t piece : {size_t{1} << 20, size_t{4099}}) {
    FakeCoordinator coordinator;
    coordinator.download = ChunksOf(files, piece);
    std::unique_ptr<CoordinatorLink> link = coordinator.JoinAsWorker();
    const auto downloaded = link->DownloadCheckpoint();
    ASSERT_TRUE(downloaded.ok()) << downloaded.status();
    EXPECT_EQ(downloaded->header.cursor().step(), 64);
    EXPECT_TRUE(downloaded->files == files);
  }
}

TEST(DownloadTest, WhatIsNotThereIsNotFound) {
  FakeCoordinator coordinator;
  coordinator.download_status = grpc::Status(grpc::StatusCode::NOT_FOUND, "the run starts afresh");
  EXPECT_EQ(coordinator.JoinAsWorker()->DownloadCheckpoint().status(),
            absl::NotFoundError(
                absl::StrCat("the coordinator at ", coordinator.client().address, ": the run starts afresh")));
}

TEST(DownloadTest, TooFewTooManyAndUnannouncedBytesAreDataLoss) {
  const std::vector<std::string> files = {Content(5000, 6), Content(3000, 7)};
  const std::vector<CheckpointChunk> whole = ChunksOf(files, 1000);
  const auto downloaded = [](std::vector<CheckpointChunk> chunks) {
    FakeCoordinator coordinator;  // one for each: the last may still be sending when its client has given up
    coordinator.download = std::move(chunks);
    const std::string where = absl::StrCat("the coordinator at ", coordinator.client().address, ": ");
    const absl::Status status = coordinator.JoinAsWorker()->DownloadCheckpoint().status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    return std::string(absl::StripPrefix(status.message(), where));
  };
  EXPECT_EQ(downloaded({whole.begin(), whole.end() - 1}), "file1: 2000 of 3000 bytes came");
  std::vector<CheckpointChunk> more = whole;
  more.emplace_back().set_data("more");
  EXPECT_EQ(downloaded(more), "more bytes came than were announced");
  EXPECT_EQ(downloaded({whole.begin() + 1, whole.end()}), "a checkpoint without a header");
}

}  // namespace
}  // namespace lockstep
