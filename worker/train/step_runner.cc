#include "worker/train/step_runner.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/stable_random.h"
#include "common/base/status.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

constexpr uint64_t kForwardKey = 0x666f7277617264;  // "forward": dropout and the like
constexpr int64_t kUpdateGrain = 1 << 16;           // elements; fewer are not worth a thread's start

}  // namespace

StepRunner::StepRunner(const Options& options, Network* network, Objective* objective, FlatParameters* parameters,
                       SpanOptimizer* optimizer, GradientExchange* exchange, CommThread* comm)
    : options_(options),
      network_(network),
      objective_(objective),
      parameters_(parameters),
      optimizer_(optimizer),
      exchange_(exchange),
      buckets_(parameters, exchange, options.bucket_mb),
      buffers_(*network, comm) {}

absl::StatusOr<StepOutcome> StepRunner::Run(int64_t step, int64_t step_samples, bool synchronises, Prefetcher* batches,
                                            const std::function<int64_t()>& held_directive) {
  step_ = step;
  synchronises_ = synchronises;
  outcome_ = StepOutcome();
  exchange_->TakeSpans(&spans_);  // of what was done between the steps
  exchange_->BeginStep(step, synchronises);
  const int64_t sample_every = options_.config.profile().sample_every();
  outcome_.measured = !options_.config.profile().off() && !options_.faults->Unmeasured(step);
  sampled_ = outcome_.measured && sample_every > 0 && step % sample_every == 0;
  trace_.Begin();
  moments_.start = MonotonicNanos();
  wall_ = options_.clock->At(moments_.start);
  const Batch* batch = nullptr;
  RETURN_IF_ERROR(GetBatch(batches, &batch));
  RETURN_IF_ERROR(ForwardAndBackward(*batch, step_samples, held_directive));
  RETURN_IF_ERROR(Communicate());
  RETURN_IF_ERROR(Update());
  options_.faults->Hold(STEP_PART_OTHER, step_);
  moments_.end = MonotonicNanos();
  if (outcome_.measured) {
    Record(*batch);
  } else {
    // By which buckets are tuned.
    outcome_.record.set_step_s(static_cast<double>(moments_.end - moments_.start) * 1e-9);
  }
  return std::move(outcome_);
}

absl::Status StepRunner::GetBatch(Prefetcher* batches, const Batch** batch) {
  options_.faults->Hold(STEP_PART_DATA_WAIT, step_);
  ASSIGN_OR_RETURN(*batch, batches->Next(absl::Seconds(options_.config.control().timeout())));
  if ((*batch)->step != step_) {
    return absl::InternalError(absl::StrCat("the batch of step ", (*batch)->step, " came at step ", step_));
  }
  moments_.data = MonotonicNanos();
  return absl::OkStatus();
}

// A batch in as many passes as `accumulate` says, or one for each sample where there are fewer; then the tail.
absl::Status StepRunner::ForwardAndBackward(const Batch& batch, int64_t step_samples,
                                            const std::function<int64_t()>& held_directive) {
  const int64_t passes = std::min<int64_t>(options_.config.accumulate(), batch.samples);
  const double weight = exchange_->WeightOf(batch.samples, step_samples);
  int64_t forward_ns = 0;
  loss_sum_ = 0;
  int64_t start_ns = moments_.data, forward_end_ns = 0;
  for (int64_t pass = 0; pass < std::max<int64_t>(1, passes); ++pass) {
    if (pass > 0) start_ns = EndPass(start_ns, forward_end_ns);
    if (sampled_) network_->Watch(&trace_);
    if (pass == 0) options_.faults->Hold(STEP_PART_FORWARD, step_);
    const Part part = {pass, batch.samples * pass / std::max<int64_t>(1, passes),
                       batch.samples * (pass + 1) / std::max<int64_t>(1, passes)};
    if (passes > 0) RETURN_IF_ERROR(Forward(batch, part));
    if (pass + 1 >= passes) StartBuffers(batch.samples, step_samples);
    options_.faults->Stretch(STEP_PART_FORWARD, step_, start_ns);
    forward_end_ns = MonotonicNanos();
    forward_ns += forward_end_ns - start_ns;
    if (pass == 0) {
      options_.faults->Hold(STEP_PART_BACKWARD, step_);
      buckets_.Begin(static_cast<int>(std::max<int64_t>(1, passes)));
    } else {
      buckets_.NextPass();
    }
    // The mean over all ranks' samples is the sum over the ranks, and over their passes, of what each weighs.
    if (passes > 0) RETURN_IF_ERROR(Backward(weight * part.Share(batch.samples)));
    options_.faults->Stretch(STEP_PART_BACKWARD, step_, forward_end_ns);
  }
  moments_.forward = moments_.data + forward_ns;
  buckets_.Finish();
  moments_.arrival = MonotonicNanos();
  HandOverTail(batch.samples, batch.fingerprint, held_directive());
  moments_.backward = EndPass(start_ns, forward_end_ns);
  return absl::OkStatus();
}

// A pass's spans, which reach to now: that is where the next one begins.
int64_t StepRunner::EndPass(int64_t start_ns, int64_t forward_end_ns) {
  if (sampled_) network_->Watch(nullptr);
  const int64_t now_ns = MonotonicNanos();
  if (!sampled_) return now_ns;
  trace_.Add(TRACE_THREAD_TRAINER, "forward", start_ns, forward_end_ns);
  trace_.Add(TRACE_THREAD_TRAINER, "backward", forward_end_ns, now_ns);
  return now_ns;
}

absl::Status StepRunner::Forward(const Batch& batch, const Part& part) {
  // Dropout has no state that would have to be saved: it follows from seed, step, rank and pass.
  uint64_t seed = Mix(
      {options_.config.run().seed(), kForwardKey, static_cast<uint64_t>(step_), static_cast<uint64_t>(options_.rank)});
  if (part.number > 0) seed = Mix({seed, static_cast<uint64_t>(part.number)});
  torch::manual_seed(seed);
  try {
    ASSIGN_OR_RETURN(const torch::Tensor output,
                     network_->Forward(batch.input.narrow(0, part.begin, part.end - part.begin)));
    ASSIGN_OR_RETURN(loss_, objective_->MeanLoss(output, batch.target.narrow(0, part.begin, part.end - part.begin)));
    loss_sum_ += loss_.item<double>() * static_cast<double>(part.end - part.begin);
  } catch (const std::exception& error) {
    return TorchStatus(error, absl::StrCat("forward pass of step ", step_));
  }
  return absl::OkStatus();
}

absl::Status StepRunner::Backward(double weight) {
  try {
    loss_.backward(torch::full_like(loss_, weight));
  } catch (const std::exception& error) {
    return TorchStatus(error, absl::StrCat("backward pass of step ", step_));
  }
  loss_.reset();
  return absl::OkStatus();
}

// At a step that synchronises, weighted by the samples since the last one.
void StepRunner::StartBuffers(int64_t samples, int64_t step_samples) {
  own_samples_ += samples;
  all_samples_ += step_samples;
  if (!synchronises_) return;
  const double share = static_cast<double>(own_samples_) / static_cast<double>(all_samples_);
  buffers_.Start(share, /*some_idle=*/step_samples < options_.world || exchange_->local());
  own_samples_ = all_samples_ = 0;
}

void StepRunner::HandOverTail(int64_t samples, uint64_t fingerprint, int64_t held_directive) {
  StepTail& tail = outcome_.tail;
  tail.loss_sum = loss_sum_;
  tail.samples = samples;
  tail.fingerprint = fingerprint;
  tail.control = held_directive;
  tail.first_arrival = tail.last_arrival = wall_.Seconds(moments_.arrival);
  tail.last_rank = options_.rank;
  tail.clocks_due = options_.rank == 0 && options_.clock->Due(moments_.arrival) ? 1 : 0;
  if (!std::isfinite(loss_sum_)) {
    tail.non_finite_rank = options_.rank;
    outcome_.not_finite = absl::StrCat("the loss is ", loss_sum_);
  }
  outcome_.record.set_loss_sum(tail.loss_sum);
  outcome_.record.set_samples(samples);
  exchange_->StartTail(&tail);
}

absl::Status StepRunner::Communicate() {
  options_.faults->Hold(STEP_PART_COMM_EXPOSED, step_);
  RETURN_IF_ERROR(exchange_->Wait());
  moments_.exposed = MonotonicNanos();
  return absl::OkStatus();
}

absl::Status StepRunner::Update() {
  const double lr = LearningRate(options_.config, options_.steps_per_epoch, step_);
  outcome_.record.set_lr(lr);
  std::optional<double> scale = 1.0;
  if (outcome_.tail.non_finite_rank < 0 && options_.config.optimizer().clip_norm() > 0) {
    ASSIGN_OR_RETURN(scale, ClipScale());
  }
  if (outcome_.tail.non_finite_rank < 0 && scale.has_value()) {
    options_.faults->Hold(STEP_PART_OPTIMIZER, step_);
    if (synchronises_) RETURN_IF_ERROR(buffers_.Finish());
    optimizer_->BeginStep(step_, lr, *scale);
    const auto parallel = [](int64_t begin, int64_t end, const std::function<void(int64_t, int64_t)>& body) {
      at::parallel_for(begin, end, kUpdateGrain, body);
    };
    RETURN_IF_ERROR(exchange_->Update(parallel, [this](const float* gradients, int64_t first, int64_t count) {
      optimizer_->Apply(parameters_->data(), gradients, first, count);
    }));
    parameters_->Publish();
  }
  moments_.optimizer = MonotonicNanos();
  moments_.exposed += exchange_->late_comm_ns();
  moments_.met = exchange_->met_ns();
  moments_.awaited = exchange_->awaited_ns();
  exchange_->TakeSpans(&spans_);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<double>> StepRunner::ClipScale() {
  ASSIGN_OR_RETURN(const double squares, exchange_->SquaredNorm());
  const double norm = std::sqrt(squares), most = options_.config.optimizer().clip_norm();
  outcome_.record.set_grad_norm(norm);
  if (!std::isfinite(norm)) {
    outcome_.tail.non_finite_rank = exchange_->local() ? options_.rank : 0;  // the same on all ranks: one speaks
    outcome_.not_finite = absl::StrCat("the gradient's norm is ", norm);
    return std::optional<double>();
  }
  return std::optional<double>(norm > most ? most / (norm + 1e-6) : 1.0);  // as torch.nn.utils.clip_grad_norm_
}

void StepRunner::Record(const Batch& batch) {
  StepRecord& record = outcome_.record;
  record.set_step(step_);
  record.set_epoch(static_cast<int32_t>((step_ - 1) / options_.steps_per_epoch));
  record.set_grad_bytes(parameters_->layout().parameters() * static_cast<int64_t>(sizeof(float)));
  FillTimes(moments_, spans_, outcome_.tail.last_arrival, wall_, &first_collective_ns_, &record);
  record.set_input_read_s(static_cast<double>(batch.read_ns - batch.begin_ns) * 1e-9);
  record.set_input_decode_s(static_cast<double>(batch.end_ns - batch.read_ns) * 1e-9);
  record.set_input_ready(batch.ready);
  if (sampled_) RecordClosely(batch);
}

// The trainer's spans add up to the parts: what the update waited for counts as exposed, and is drawn before it.
void StepRunner::RecordClosely(const Batch& batch) {
  StepRecord& record = outcome_.record;
  trace_.Add(TRACE_THREAD_TRAINER, "data_wait", moments_.start, moments_.data);
  trace_.Add(TRACE_THREAD_TRAINER, "comm_exposed", moments_.backward, moments_.exposed);
  trace_.Add(TRACE_THREAD_TRAINER, "optimizer", moments_.exposed, moments_.optimizer);
  trace_.Add(TRACE_THREAD_TRAINER, "other", moments_.optimizer, moments_.end);
  trace_.Add(TRACE_THREAD_INPUT, "read", batch.begin_ns, batch.read_ns);
  trace_.Add(TRACE_THREAD_INPUT, "decode", batch.read_ns, batch.end_ns);
  trace_.Fill(wall_, &record);
  FillCollectives(spans_, options_.rank, wall_, &record);
}

}  // namespace lockstep
