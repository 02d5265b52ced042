#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/compression.h"
#include "worker/comm/host_collectives.h"
#include "worker/comm/host_window.h"
#include "worker/comm/rank_state.h"
#include "worker/train/layout.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {

// Runs `body` on parts that cover [begin, end), on as many threads as the trainer may use.
using ParallelFor =
    std::function<void(int64_t begin, int64_t end, const std::function<void(int64_t begin, int64_t end)>& body)>;

// How the gradients of all ranks become one update of the parameters: reduce, then know, then apply. Knows no tensor.
// Called by the trainer alone, in this order every step:
//
//   BeginStep · StartBucket for each bucket, as backward fills it · StartTail · Wait · [SquaredNorm] · Update
//
// without the last two if the tail says that something is not finite. Errors end the run: DeadlineExceeded names who
// is missing, FailedPrecondition who does something else.
class GradientExchange {
 public:
  virtual ~GradientExchange() = default;

  // This rank's gradients by the layout, each times the rank's share of the step's samples; written by backward between
  // BeginStep and StartBucket of the bucket they are in.
  virtual float* gradients() = 0;
  // Of this step all gradients of `range` are there. Buckets come in order, the same on all ranks.
  virtual void StartBucket(int bucket, const BucketRange& range) = 0;
  // All buckets have been started. `tail` is this rank's, and everyone's after Wait: every rank's backward is over
  // then. Gradients may still be on their way.
  virtual void StartTail(StepTail* tail) = 0;
  virtual absl::Status Wait() = 0;
  // Of the reduced gradient, the same bits on all ranks.
  virtual absl::StatusOr<double> SquaredNorm() = 0;
  // Calls `apply(gradients, first, count)` on spans of the reduced gradient, indexed as the flat array; together with
  // the ranks that share the parameters, on every element once. Returns when all of them have.
  using SpanFn = std::function<void(const float* gradients, int64_t first, int64_t count)>;
  virtual absl::Status Update(const ParallelFor& parallel, const SpanFn& apply) = 0;

  // When this rank went on from Wait's meeting, if data travel only after it: all up to then was waiting, waking up
  // again with it. 0: data travel while some wait.
  virtual int64_t met_ns() const { return 0; }
  // How much of the time inside SquaredNorm and Update of this step was communication.
  virtual int64_t late_comm_ns() const { return 0; }
  // Of that, how long this rank waited for the last of those that make the update together.
  virtual int64_t awaited_ns() const { return 0; }
  // What of this rank's own a checkpoint has to hold, as residuals of compression. While nothing is under way.
  virtual std::vector<RankState> rank_states() { return {}; }
  // The collectives of this step so far; see CommThread::TakeSpans.
  virtual void TakeSpans(std::vector<Span>* spans) = 0;

  // What the mean over this rank's `own` samples counts in its gradient, of `all` that the step has on all ranks.
  virtual double WeightOf(int64_t own, int64_t all) const {
    return static_cast<double>(own) / static_cast<double>(all);
  }
  // Whether ranks have parameters of their own between synchronisations; what one rank finds the others do not know.
  virtual bool local() const { return false; }

  // `synchronises`: whether the ranks meet at this step; always, unless local().
  void BeginStep(int64_t step, bool synchronises = true) {
    step_ = step;
    synchronises_ = synchronises;
    DoBeginStep();
  }

 protected:
  virtual void DoBeginStep() {}
  int64_t step_ = 0;
  bool synchronises_ = true;
};

// Each rank has parameters of its own: every bucket is all-reduced by the communication thread while backward goes on,
// and each rank updates all. `comm` null: alone. `compressor` null: exact. All outlive the exchange.
std::unique_ptr<GradientExchange> NewReplicatedExchange(const ParameterLayout* layout, CommThread* comm,
                                                        Compressor* compressor = nullptr);

// Local SGD: each rank updates parameters of its own by its own gradient; at steps that synchronise they become the
// mean over the ranks, weighted by the samples since the last such step, and so do the optimizer's states if
// `average_states`; else each rank keeps its own (rank_states). A tail of a step that does not synchronise is empty: it
// counts in that of the next one that does.
struct LocalReplica {
  float* parameters = nullptr;  // the flat array
  std::vector<SpanOptimizer::State> states;
  bool average_states = false;
};
std::unique_ptr<GradientExchange> NewLocalExchange(const ParameterLayout* layout, LocalReplica replica,
                                                   CommThread* comm);

// What communication.compression asks for; null: none. `own_ranges` as in CompressionOptions.
std::unique_ptr<Compressor> CreateCompressor(const RunConfig& config, const ParameterLayout& layout,
                                             bool own_ranges = false);

// The ranks of one host, which are all there are, share parameters, optimizer states and gradients through `window`:
// once all have come, each adds up its slice of everyone's gradients in rank order, straight from their memory, and
// updates that slice of the one copy of the parameters, block by block while a block is in the cache.
//
// `window`'s parts for the ranks hold `layout.elements()` floats each. `comm` counts what else the ranks do together.
// `held_back`, if not null, has what this rank held back in an earlier launch, and adds it to the first step's
// gradients. All others outlive the exchange.
std::unique_ptr<GradientExchange> NewWindowExchange(const ParameterLayout* layout, HostWindow* window, CommThread* comm,
                                                    std::unique_ptr<Compressor> held_back = nullptr);

// Several hosts, the ranks of each sharing parameters, optimizer states and gradients through `window`: each bucket is
// reduced while backward goes on, over the host's ranks and then between the hosts, so that every rank ends with its
// slice of the sum (HostCollectives), and updates that slice of its host's one copy of the parameters.
//
// `window`'s parts for the ranks hold `layout.elements()` floats each; `host` is what `comm` runs; `compressor` works
// between hosts alone. All outlive the exchange.
std::unique_ptr<GradientExchange> NewHierarchicalExchange(const ParameterLayout* layout, HostWindow* window,
                                                          HostCollectives* host, CommThread* comm,
                                                          Compressor* compressor = nullptr);

}  // namespace lockstep
