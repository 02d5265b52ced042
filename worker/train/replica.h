#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "lockstep/run_config.pb.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/host_collectives.h"
#include "worker/model/model.h"
#include "worker/train/flat_parameters.h"
#include "worker/train/replica_check.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {

// Gives every rank rank 0's bits: parameters, frozen ones, buffers, optimizer states. All ranks call it together;
// `comm` null: nothing to do. `host` not null: the ranks of each host share them, in `shared`.
absl::Status BroadcastReplica(Network* network, FlatParameters* parameters, SpanOptimizer* optimizer, CommThread* comm,
                              HostCollectives* host, absl::Span<std::byte> shared);

// This rank's part of CheckReplicas. `replica`: the lowest of the ranks that share its parameters.
ReplicaDigest DigestReplica(const Network& network, FlatParameters* parameters, int rank, int replica);

// Reads `model.init_from` into the network and logs what was taken. InvalidArgument, NotFound name the file.
absl::Status LoadInitialWeights(const Model& model, Network* network, FlatParameters* parameters,
                                const std::function<void(const std::string&)>& log);

}  // namespace lockstep
