#include "coordinator/service/upload.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr size_t kMaxChunk = 1 << 20;

absl::Status CheckFiles(const CheckpointChunk::Header& header) {
  std::set<std::string> names;
  for (const Manifest::File& file : header.files()) {
    if (file.name() != kModelFile && file.name() != kOptimizerFile && file.name() != kRanksFile) {
      return absl::DataLossError(absl::StrCat("a checkpoint holds ", kModelFile, ", ", kOptimizerFile, " and perhaps ",
                                              kRanksFile, ", no other file was to come"));
    }
    if (!names.insert(file.name()).second) return absl::DataLossError(absl::StrCat(file.name(), " is announced twice"));
    if (file.bytes() <= 0) return absl::DataLossError(absl::StrCat(file.name(), " is announced without a size"));
  }
  for (const char* name : {kModelFile, kOptimizerFile}) {
    if (names.count(name) == 0) return absl::DataLossError(absl::StrCat(name, " is not announced"));
  }
  return absl::OkStatus();
}

}  // namespace

CheckpointUpload::CheckpointUpload(Core* core, FileSystem* files, Clock* clock, std::string checkpoints_folder)
    : core_(core), files_(files), clock_(clock), folder_(std::move(checkpoints_folder)) {}

CheckpointUpload::~CheckpointUpload() {
  writer_.reset();
  if (begun_) core_->EndUpload();
}

absl::Status CheckpointUpload::Take(const CheckpointChunk& chunk) {
  if (chunk.has_header()) return Begin(chunk.header());
  if (!chunk.has_data()) return absl::DataLossError("a chunk that holds nothing");
  return TakeData(chunk.data());
}

absl::Status CheckpointUpload::Begin(const CheckpointChunk::Header& header) {
  if (begun_) return absl::DataLossError("a second header");
  RETURN_IF_ERROR(CheckFiles(header));
  ASSIGN_OR_RETURN(state_, core_->BeginUpload(header));
  begun_ = true;
  begun_at_ = clock_->Monotonic();
  header_ = header;
  auto writer = CheckpointWriter::Create(files_, folder_, header.cursor().step());
  if (!writer.ok()) return DiskProblem(writer.status());
  writer_ = *std::move(writer);
  return Advance();
}

absl::Status CheckpointUpload::Advance() {
  while (left_ == 0 && file_ + 1 < header_.files_size()) {
    const Manifest::File& file = header_.files(++file_);
    left_ = file.bytes();
    if (absl::Status begun = writer_->BeginFile(file.name()); !begun.ok()) return DiskProblem(begun);
  }
  return absl::OkStatus();
}

absl::Status CheckpointUpload::TakeData(absl::string_view data) {
  if (!writer_) return absl::DataLossError("bytes before the header");
  if (data.size() > kMaxChunk) return absl::DataLossError(absl::StrCat("a chunk of ", data.size(), " bytes"));
  while (!data.empty()) {
    if (left_ == 0) return absl::DataLossError("more bytes than were announced");
    const absl::string_view part = data.substr(0, left_);
    if (absl::Status appended = writer_->Append(part); !appended.ok()) return DiskProblem(appended);
    data.remove_prefix(part.size());
    left_ -= part.size();
    RETURN_IF_ERROR(Advance());
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointCommitted> CheckpointUpload::Finish() {
  if (!writer_) return absl::DataLossError("the upload ended before its header");
  if (left_ > 0) {
    const Manifest::File& file = header_.files(file_);
    return absl::DataLossError(
        absl::StrCat(file.name(), ": ", file.bytes() - left_, " of ", file.bytes(), " bytes arrived"));
  }
  const int64_t step = header_.cursor().step();
  if (absl::Status added = writer_->AddFile(kStateFile, CheckpointStateToJson(state_)); !added.ok()) {
    return DiskProblem(added);
  }
  const auto written = writer_->Commit();
  if (!written.ok()) return DiskProblem(written.status());
  writer_.reset();
  CheckpointCommitted committed;
  committed.set_step(step);
  committed.set_path(absl::StrCat("checkpoints/", CheckpointName(step)));
  committed.set_bytes(written->bytes);
  committed.set_digest(written->digest);
  committed.set_snapshot_s(header_.snapshot_s());
  committed.set_write_s(absl::ToDoubleSeconds(clock_->Monotonic() - begun_at_));
  committed.set_best(state_.best_step() == step);
  if (absl::Status linked = Link(); !linked.ok()) return DiskProblem(linked);
  RETURN_IF_ERROR(core_->CommitCheckpoint(committed));
  const absl::Status pruned = PruneCheckpoints(files_, folder_, core_->keep_last());
  if (!pruned.ok()) core_->Note(absl::StrCat("old checkpoints could not be removed: ", pruned.message()));
  return committed;
}

absl::Status CheckpointUpload::Link() {
  const int64_t step = header_.cursor().step();
  RETURN_IF_ERROR(PointLink(files_, folder_, "latest", step));
  return state_.best_step() == step ? PointLink(files_, folder_, "best", step) : absl::OkStatus();
}

absl::Status CheckpointUpload::DiskProblem(const absl::Status& status) {
  const int64_t step = header_.cursor().step();
  const std::string what = absl::StrCat("the checkpoint of step ", step, " could not be written: ", status.message());
  core_->ReportProblem("checkpoint", absl::StrCat(what, "; the run goes on"), step);
  return absl::UnavailableError(what);
}

}  // namespace lockstep
