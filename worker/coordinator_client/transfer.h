#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/coordinator_client/channel.h"
#include "worker/coordinator_client/client.h"

namespace lockstep {

// CoordinatorLink::UploadCheckpoint and DownloadCheckpoint, each a call of its own on `channel`. A call that stands
// still for `options.stall_timeout` is broken off: DeadlineExceeded.
absl::StatusOr<CheckpointCommitted> Upload(const std::shared_ptr<grpc::Channel>& channel, const ClientOptions& options,
                                           const CheckpointChunk::Header& header,
                                           const CoordinatorLink::ChunkSource& next);
// DataLoss: what came is not what was announced.
absl::StatusOr<CoordinatorLink::Downloaded> Download(const std::shared_ptr<grpc::Channel>& channel,
                                                     const ClientOptions& options, int32_t incarnation);

}  // namespace lockstep
