#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/data/dataset.h"
#include "worker/coordinator_client/client.h"
#include "worker/model/model.h"
#include "worker/model/objective.h"

namespace lockstep {

// Samples of `values` bytes and a label below `classes`, by a fixed pattern that a network can learn.
std::unique_ptr<Dataset> MakeToyData(int64_t samples, int64_t values, int64_t classes);

// A run on it: mlp with one hidden layer, SGD with momentum, global batch `batch`, no evaluation metrics but accuracy.
RunConfig ToyConfig(int64_t batch);

// Two linear layers that share one weight, one parameter that nothing uses, one that is frozen, and a float and an
// integer buffer, which follow the inputs as BatchNorm's do.
class OddNetwork : public Network {
 public:
  explicit OddNetwork(uint64_t seed);
  absl::StatusOr<torch::Tensor> Forward(const torch::Tensor& input) override;
  void SetTraining(bool training) override { training_ = training; }
  const std::vector<NamedTensor>& parameters() const override { return parameters_; }
  const std::vector<NamedTensor>& buffers() const override { return buffers_; }
  const std::vector<NamedTensor>& frozen() const override { return frozen_; }
  const std::vector<std::pair<std::string, std::string>>& tied() const override { return tied_; }
  static constexpr int64_t kValues = 6;

 private:
  bool training_ = true;
  std::vector<NamedTensor> parameters_, frozen_, buffers_;
  const std::vector<std::pair<std::string, std::string>> tied_ = {{"decoder.weight", "encoder.weight"}};
};

// A coordinator as one rank sees it: it grants, judges and directs by a script, the same on every rank, and keeps what
// it is told.
class FakeLink : public CoordinatorLink {
 public:
  struct Script {
    int64_t final_step = 20;
    int64_t grant_steps = 5;  // at a time
    std::vector<int64_t> evaluate_at, checkpoint_at;
    std::map<int64_t, Verdict> verdicts;                    // by step; else: go on
    std::vector<std::pair<int64_t, Directive>> directives;  // held from this step on
    absl::Status upload;                                    // what uploads end with
  };
  explicit FakeLink(Script script) : script_(std::move(script)) {}

  int64_t GrantedThrough(int64_t step) override { return granted_through_; }
  absl::Status WaitForGrant(int64_t step, absl::Duration timeout) override;
  bool EvaluationDue(int64_t step) override;
  bool CheckpointDue(int64_t step) override;
  int64_t final_step() override { return script_.final_step; }
  int64_t HeldDirective() override;
  Directive GetDirective(int64_t number) override { return script_.directives[number - 1].second; }
  absl::Status Alive() override { return absl::OkStatus(); }
  void Report(StepRecord&& record) override { records.push_back(std::move(record)); }
  void SendEvaluation(const EvaluationResult& result) override { evaluations.push_back(result); }
  void SendEpochDone(const EpochDone& done) override { epochs.push_back(done); }
  void SendFailed(const Failed& failed) override {}
  void SendBuckets(const BucketsMeasured& measured) override { buckets.push_back(measured); }
  void SendCommunication(const CommunicationChosen& chosen) override { communication.push_back(chosen); }
  void SendCheckpointDue(const lockstep::CheckpointDue& due) override { due_.push_back(due.step()); }
  void SendStopRequested(const StopRequested& request) override {}
  absl::StatusOr<Verdict> WaitForVerdict(int64_t step, absl::Duration timeout) override;
  absl::StatusOr<CheckpointCommitted> UploadCheckpoint(const CheckpointChunk::Header& header,
                                                       const ChunkSource& next) override;
  absl::StatusOr<Downloaded> DownloadCheckpoint() override { return download; }
  void WaitForAbort(absl::Duration timeout) override {}
  void Leave(const Leaving& leaving, absl::Duration timeout) override {}

  std::vector<StepRecord> records;
  std::vector<EvaluationResult> evaluations;
  std::vector<EpochDone> epochs;
  std::vector<CommunicationChosen> communication;
  std::vector<BucketsMeasured> buckets;
  Downloaded download;
  // Uploads in order; after the trainer's end.
  std::vector<Downloaded> uploads;
  const std::vector<int64_t>& due() const { return due_; }

 private:
  const Script script_;
  int64_t granted_through_ = 0;
  int64_t steps_ = 0;  // tails that have left
  std::vector<int64_t> due_;
};

}  // namespace lockstep
