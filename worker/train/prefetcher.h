#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/data/dataset.h"
#include "common/data/decode.h"
#include "common/data/plan.h"
#include "worker/train/faults.h"

namespace lockstep {

// This rank's share of a step's samples, decoded.
struct Batch {
  int64_t step = 0;
  int64_t samples = 0;       // 0 in a short step with fewer samples than ranks
  torch::Tensor input;       // [samples, …]
  torch::Tensor target;      // [samples, …]
  uint64_t fingerprint = 0;  // sum over the samples
  // When it was made, MonotonicNanos: read from begin to read, then decoded.
  int64_t begin_ns = 0, read_ns = 0, end_ns = 0;
  int ready = 0;  // batches that stood ready when it was asked for, itself among them
};

// Tensors for up to `capacity` samples, written again and again. Decode makes a batch that points into them.
class BatchBuffer {
 public:
  BatchBuffer(const Decoder& decoder, int64_t capacity);
  // `augment_epoch` < 0: no random transforms.
  void Decode(const Dataset& data, const Decoder& decoder, const std::vector<int64_t>& ids, int32_t augment_epoch,
              Batch* batch);

 private:
  torch::Tensor input_, target_;
};

// Keeps the next batches ready: one thread decodes them in the order of steps into a ring of reused buffers, at most
// `depth` ahead and never beyond what AllowThrough has allowed. AllowThrough and Next are the trainer's.
class Prefetcher {
 public:
  struct Options {
    const Dataset* data = nullptr;  // these three outlive the prefetcher
    const Decoder* decoder = nullptr;
    const MinibatchPlan* plan = nullptr;
    int rank = 0, world = 1;
    int depth = 1;
    int64_t first_step = 1;
    std::string device = "cpu";
    const Faults* faults = nullptr;  // null: none; else outlives the prefetcher
  };
  // ResourceExhausted: no memory for the buffers.
  static absl::StatusOr<std::unique_ptr<Prefetcher>> Create(const Options& options);
  ~Prefetcher();

  // Steps up to and with `step` may be read. Never goes back.
  void AllowThrough(int64_t step);
  // The next step's batch, valid until the next call. DeadlineExceeded: not ready within `timeout`; an error of the
  // device that batches are copied to.
  absl::StatusOr<const Batch*> Next(absl::Duration timeout);

 private:
  struct Slot {
    BatchBuffer buffer;
    Batch batch;
  };
  explicit Prefetcher(const Options& options);
  void Loop();
  absl::Status Fill(int64_t step, Slot* slot) const;
  Slot& SlotOf(int64_t step) { return slots_[step % slots_.size()]; }

  const Options options_;
  std::vector<Slot> slots_;  // depth, and one that the trainer holds
  Mutex mutex_;
  CondVar changed_;
  int64_t allowed_through_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t ready_through_ ABSL_GUARDED_BY(mutex_);
  int64_t taken_ ABSL_GUARDED_BY(mutex_);  // the step that the trainer holds
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace lockstep
