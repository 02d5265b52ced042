#include "worker/coordinator_client/transfer.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/periodic.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr size_t kChunk = 1 << 20;

// Cancels a call once nothing has moved for too long.
class StallGuard {
 public:
  StallGuard(const ClientOptions& options, grpc::ClientContext* context)
      : options_(options), context_(context), task_(options.stall_timeout / 10, [this] { Look(); }) {}

  void Moved() { moved_ns_.store(MonotonicNanos(), std::memory_order_relaxed); }

  absl::Status Explain(const grpc::Status& status) const {
    if (!stalled_) return FromGrpc(options_, status);
    return absl::DeadlineExceededError(absl::StrCat("the coordinator at ", options_.address,
                                                    ": a checkpoint's transfer has stood still for ",
                                                    absl::FormatDuration(options_.stall_timeout)));
  }

 private:
  void Look() {
    if (absl::Nanoseconds(MonotonicNanos() - moved_ns_.load(std::memory_order_relaxed)) < options_.stall_timeout)
      return;
    stalled_ = true;
    context_->TryCancel();
  }

  const ClientOptions& options_;
  grpc::ClientContext* const context_;
  std::atomic<int64_t> moved_ns_{MonotonicNanos()};
  std::atomic<bool> stalled_{false};
  PeriodicTask task_;
};

using UploadWriter = grpc::ClientWriter<CheckpointChunk>;

// False: the call has ended.
absl::StatusOr<bool> SendFiles(const CoordinatorLink::ChunkSource& next, UploadWriter* writer, StallGuard* guard) {
  CheckpointChunk chunk;
  for (;;) {
    ASSIGN_OR_RETURN(absl::string_view bytes, next());
    if (bytes.empty()) return true;
    for (; !bytes.empty(); bytes.remove_prefix(std::min(kChunk, bytes.size()))) {
      const absl::string_view part = bytes.substr(0, kChunk);
      chunk.mutable_data()->assign(part.data(), part.size());
      if (!writer->Write(chunk)) return false;
      guard->Moved();
    }
  }
}

// Appends to the files in the header's order. False: more than was announced.
bool Distribute(absl::string_view data, CoordinatorLink::Downloaded* downloaded) {
  for (int i = 0; i < downloaded->header.files_size() && !data.empty(); ++i) {
    std::string& file = downloaded->files[i];
    const size_t room = static_cast<size_t>(downloaded->header.files(i).bytes()) - file.size();
    const absl::string_view part = data.substr(0, room);
    file.append(part.data(), part.size());
    data.remove_prefix(part.size());
  }
  return data.empty();
}

absl::Status TakeHeader(const CheckpointChunk& chunk, CoordinatorLink::Downloaded* downloaded) {
  if (!chunk.has_header()) return absl::DataLossError("a checkpoint without a header");
  downloaded->header = chunk.header();
  for (const Manifest::File& file : chunk.header().files()) {
    if (file.bytes() < 0) return absl::DataLossError(absl::StrCat(file.name(), " is announced with a size below zero"));
    downloaded->files.emplace_back();
  }
  return absl::OkStatus();
}

absl::Status CheckWhole(const CoordinatorLink::Downloaded& downloaded) {
  for (int i = 0; i < downloaded.header.files_size(); ++i) {
    const Manifest::File& file = downloaded.header.files(i);
    const int64_t came = static_cast<int64_t>(downloaded.files[i].size());
    if (came == file.bytes()) continue;
    return absl::DataLossError(absl::StrCat(file.name(), ": ", came, " of ", file.bytes(), " bytes came"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointCommitted> Upload(const std::shared_ptr<grpc::Channel>& channel, const ClientOptions& options,
                                           const CheckpointChunk::Header& header,
                                           const CoordinatorLink::ChunkSource& next) {
  const std::unique_ptr<Coordinator::Stub> stub = Coordinator::NewStub(channel);
  grpc::ClientContext context;
  AddToken(options, &context);
  StallGuard guard(options, &context);
  CheckpointCommitted committed;
  const std::unique_ptr<UploadWriter> writer = stub->UploadCheckpoint(&context, &committed);
  CheckpointChunk first;
  *first.mutable_header() = header;
  absl::StatusOr<bool> sent = writer->Write(first);
  if (*sent) sent = SendFiles(next, writer.get(), &guard);
  if (!sent.ok()) context.TryCancel();
  if (sent.ok() && *sent) writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (!sent.ok()) return sent.status();
  if (!status.ok()) return guard.Explain(status);
  return committed;
}

absl::StatusOr<CoordinatorLink::Downloaded> Download(const std::shared_ptr<grpc::Channel>& channel,
                                                     const ClientOptions& options, int32_t incarnation) {
  const std::unique_ptr<Coordinator::Stub> stub = Coordinator::NewStub(channel);
  grpc::ClientContext context;
  AddToken(options, &context);
  StallGuard guard(options, &context);
  DownloadRequest request;
  request.set_incarnation(incarnation);
  const auto reader = stub->DownloadCheckpoint(&context, request);
  CoordinatorLink::Downloaded downloaded;
  CheckpointChunk chunk;
  absl::Status wrong;
  for (bool begun = false; wrong.ok() && reader->Read(&chunk); begun = true) {
    guard.Moved();
    if (!begun) {
      wrong = TakeHeader(chunk, &downloaded);
    } else if (!Distribute(chunk.data(), &downloaded)) {
      wrong = absl::DataLossError("more bytes came than were announced");
    }
  }
  if (!wrong.ok()) context.TryCancel();
  const grpc::Status status = reader->Finish();
  const std::string where = absl::StrCat("the coordinator at ", options.address);
  if (!wrong.ok()) return Annotate(wrong, where);
  if (!status.ok()) return guard.Explain(status);
  RETURN_IF_ERROR(Annotate(CheckWhole(downloaded), where));
  return downloaded;
}

}  // namespace lockstep
