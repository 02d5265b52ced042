#include "worker/train/replica.h"

#include <torch/types.h>

#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/status.h"
#include "common/checkpoint/safetensors.h"
#include "worker/model/weights.h"

namespace lockstep {
namespace {

absl::Span<std::byte> Bytes(float* values, int64_t count) {
  return absl::MakeSpan(reinterpret_cast<std::byte*>(values), count * sizeof(float));
}

}  // namespace

absl::Status BroadcastReplica(Network* network, FlatParameters* parameters, SpanOptimizer* optimizer, CommThread* comm,
                              HostCollectives* host, absl::Span<std::byte> shared) {
  if (comm == nullptr) return absl::OkStatus();
  torch::NoGradGuard no_grad;
  if (host != nullptr) {
    comm->StartOperation("shared parameters", static_cast<int64_t>(shared.size()),
                         [host, shared](Collectives*) { return host->BroadcastShared(shared); });
  } else {
    comm->StartBroadcast("parameters", Bytes(parameters->data(), parameters->layout().elements()), /*root=*/0);
    for (const SpanOptimizer::State& state : optimizer->states()) {
      comm->StartBroadcast(state.name, Bytes(state.values.data(), static_cast<int64_t>(state.values.size())),
                           /*root=*/0);
    }
  }
  std::vector<NamedTensor> others = network->frozen();
  others.insert(others.end(), network->buffers().begin(), network->buffers().end());
  std::vector<torch::Tensor> hosts;
  for (const NamedTensor& other : others) {
    hosts.push_back(other.tensor.cpu().contiguous());
    torch::Tensor& host = hosts.back();
    if (host.nbytes() == 0) continue;
    comm->StartBroadcast(other.name, absl::MakeSpan(static_cast<std::byte*>(host.data_ptr()), host.nbytes()),
                         /*root=*/0);
  }
  RETURN_IF_ERROR(comm->Wait());
  for (size_t i = 0; i < others.size(); ++i) {
    if (!others[i].tensor.is_same(hosts[i])) others[i].tensor.copy_(hosts[i]);
  }
  parameters->Publish();
  return absl::OkStatus();
}

ReplicaDigest DigestReplica(const Network& network, FlatParameters* parameters, int rank, int replica) {
  ReplicaDigest digest;
  digest.replica = replica;
  if (replica == rank) digest.parameters = HashReplica({Bytes(parameters->data(), parameters->layout().elements())});
  std::vector<torch::Tensor> hosts;
  std::vector<absl::Span<const std::byte>> parts;
  for (const NamedTensor& buffer : network.buffers()) {
    const torch::Tensor& host = hosts.emplace_back(buffer.tensor.cpu().contiguous());
    parts.emplace_back(static_cast<const std::byte*>(host.data_ptr()), host.nbytes());
  }
  digest.buffers = HashReplica(parts);
  return digest;
}

absl::Status LoadInitialWeights(const Model& model, Network* network, FlatParameters* parameters,
                                const std::function<void(const std::string&)>& log) {
  absl::StatusOr<SafetensorsFile> file = ReadSafetensors(model.init_from());
  if (!file.ok()) return file.status();
  absl::StatusOr<LoadReport> report = LoadWeights(*file, model.init_match(), network);
  if (!report.ok()) {
    const char* advice =
        model.init_match() == INIT_MATCH_ALL ? "; set model.init_match to matching to take what fits" : "";
    return absl::Status(report.status().code(),
                        absl::StrCat(model.init_from(), ": ", report.status().message(), advice));
  }
  log(absl::StrCat("initial weights from ", model.init_from(), ": ", report->Summary()));
  parameters->Fetch();
  return absl::OkStatus();
}

}  // namespace lockstep
