#include "worker/train/trainer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/model/torch_status.h"
#include "worker/train/gradient_order.h"
#include "worker/train/rank_states.h"
#include "worker/train/replica.h"
#include "worker/train/sync_period.h"
#include "worker/train/together.h"

namespace lockstep {
namespace {

// As many as the coordinator then asks for; see BucketTuner.
constexpr int kFirstBlockSteps = 25;

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(TrainerOptions options) {
  std::unique_ptr<Trainer> trainer(new Trainer(std::move(options)));
  try {
    RETURN_IF_ERROR(trainer->Prepare());
  } catch (const std::exception& error) {
    return TorchStatus(error, "setting up training");
  }
  return trainer;
}

Trainer::Trainer(TrainerOptions options)
    : options_(std::move(options)),
      plan_(options_.train->size(), options_.config.data().global_batch_size(), options_.config.run().seed(),
            options_.config.data().shuffle()),
      decoder_(options_.config.data(), options_.train->input(), options_.train->target(), options_.config.run().seed()),
      faults_(options_.config, options_.rank, options_.world),
      clock_(options_.config, options_.rank),
      bucket_mb_(options_.config.communication().bucket_mb()) {
  if (options_.resume.has_value() && options_.resume->bucket_mb() > 0) bucket_mb_ = options_.resume->bucket_mb();
}

Trainer::~Trainer() = default;

absl::Duration Trainer::beat() const {
  return std::min(absl::Seconds(1), absl::Seconds(options_.config.communication().timeout()) / 4);
}

absl::Status Trainer::Prepare() {
  const RunConfig& config = options_.config;
  torch::set_num_threads(config.threads());
  if (options_.world > 1) {
    Collectives* const collectives = options_.host != nullptr ? options_.host : options_.collectives;
    comm_ = std::make_unique<CommThread>(collectives, absl::Seconds(config.communication().timeout()));
  }
  RETURN_IF_ERROR(PrepareReplica());
  StepRunner::Options step;
  step.config = config;
  step.rank = options_.rank;
  step.world = options_.world;
  step.steps_per_epoch = plan_.steps_per_epoch();
  step.bucket_mb = bucket_mb_;
  step.clock = &clock_;
  step.faults = &faults_;
  runner_ = std::make_unique<StepRunner>(step, options_.network.get(), options_.objective.get(), parameters_.get(),
                                         optimizer_.get(), exchange_.get(), comm_.get());
  evaluator_ =
      std::make_unique<Evaluator>(config, options_.device, options_.validation.get(), options_.rank, comm_.get());
  if (leads()) {
    snapshot_ = std::make_unique<Snapshot>(options_.network.get(), parameters_.get(), optimizer_.get());
    uploader_ = std::make_unique<CheckpointUploader>(options_.link, control_timeout(), options_.log);
  }
  if (options_.resume.has_value()) cursor_ = options_.resume->cursor();
  step_ = synchronised_ = replicas_checked_ = cursor_.step();

  Prefetcher::Options batches;
  batches.data = options_.train.get();
  batches.decoder = &decoder_;
  batches.plan = &plan_;
  batches.rank = options_.rank;
  batches.world = options_.world;
  batches.depth = config.data().prefetch();
  batches.first_step = cursor_.step() + 1;
  batches.device = options_.device;
  batches.faults = &faults_;
  ASSIGN_OR_RETURN(batches_, Prefetcher::Create(batches));
  batches_->AllowThrough(options_.link->GrantedThrough(cursor_.step()));
  StartTuning();
  return absl::OkStatus();
}

// As the coordinator's state expects it: from the first step on. After a resume it asks for what it wants.
void Trainer::StartTuning() {
  if (!leads() || options_.config.communication().bucket_tuning() != BUCKET_TUNING_AUTO) return;
  if (!HasBuckets()) {
    return options_.log("communication.bucket_tuning has nothing to do: gradients do not go by messages in buckets");
  }
  if (cursor_.step() == 0) bucket_times_.Begin(bucket_mb_, kFirstBlockSteps);
}

void Trainer::SetBuckets(const lockstep::SetBuckets& buckets) {
  bucket_mb_ = buckets.bucket_mb();
  runner_->SetBuckets(bucket_mb_);
  bucket_times_.Begin(bucket_mb_, buckets.measure_steps());
}

// Rank 0 finds the order, and all ranks take it: so it is found before anything depends on where parameters lie, and
// buckets stay whole stretches of the flat array. Without messages there are no buckets, and any order will do.
absl::Status Trainer::AgreeOnOrder() {
  gradient_order_ = options_.gradient_order.value_or(std::vector<int>());
  if (!HasBuckets() || options_.gradient_order.has_value()) return absl::OkStatus();
  std::vector<int> order(options_.network->parameters().size() + 1);  // first: whether it was found
  RETURN_IF_ERROR(DoOnRank0(options_.rank, comm_.get(), beat(), [&] {
    torch::set_num_threads(options_.config.threads());  // of this thread
    std::vector<int64_t> shape = decoder_.input_shape();
    shape.insert(shape.begin(), ShareOf(plan_.SamplesAt(1), 0, options_.world).end);
    const auto type = torch::TensorOptions().dtype(decoder_.input_is_float() ? torch::kFloat32 : torch::kInt64);
    const absl::StatusOr<std::vector<int>> found =
        FindGradientOrder(options_.network.get(), torch::zeros(shape, type.device(options_.device)));
    order[0] = found.ok() ? 1 : 0;
    if (found.ok()) std::copy(found->begin(), found->end(), order.begin() + 1);
    if (!found.ok()) options_.log(absl::StrCat("buckets go by the order of registration: ", found.status().message()));
    return absl::OkStatus();
  }));
  comm_->StartBroadcast("order of gradients",
                        absl::MakeSpan(reinterpret_cast<std::byte*>(order.data()), order.size() * sizeof(int)), 0);
  RETURN_IF_ERROR(comm_->Wait());
  if (order[0] != 0) gradient_order_.assign(order.begin() + 1, order.end());
  return absl::OkStatus();
}

// Parameters, optimizer states and gradients: of this rank's own, or in the host's window.
absl::Status Trainer::PrepareReplica() {
  const Optimizer& optimizer = options_.config.optimizer();
  RETURN_IF_ERROR(AgreeOnOrder());
  ASSIGN_OR_RETURN(const ParameterLayout layout,
                   FlatParameters::LayoutOf(*options_.network, optimizer, gradient_order_));
  HostWindow* const window = options_.window;
  if (window == nullptr) {
    parameters_ = std::make_unique<FlatParameters>(layout, *options_.network);
    optimizer_ = CreateOptimizer(optimizer, &parameters_->layout());
    if (options_.world > 1 && options_.config.communication().period() > 1) {
      LocalReplica replica;
      replica.parameters = parameters_->data();
      replica.states = optimizer_->states();
      replica.average_states = options_.config.communication().average_momentum();
      exchange_ = NewLocalExchange(&parameters_->layout(), std::move(replica), comm_.get());
      return absl::OkStatus();
    }
    compressor_ = CreateCompressor(options_.config, parameters_->layout());
    exchange_ = NewReplicatedExchange(&parameters_->layout(), comm_.get(), compressor_.get());
    return absl::OkStatus();
  }
  float* const shared = reinterpret_cast<float*>(window->shared().data());
  parameters_ = std::make_unique<FlatParameters>(layout, *options_.network, shared, window->index() == 0);
  optimizer_ =
      CreateOptimizer(optimizer, &parameters_->layout(),
                      absl::MakeSpan(shared, window->shared().size() / sizeof(float)).subspan(layout.elements()));
  if (options_.hosts == 1) {
    // Nothing is sent, but an earlier launch may have held something back.
    auto held_back = options_.resume.has_value() ? CreateCompressor(options_.config, parameters_->layout()) : nullptr;
    exchange_ = NewWindowExchange(&parameters_->layout(), window, comm_.get(), std::move(held_back));
    return absl::OkStatus();
  }
  compressor_ = CreateCompressor(options_.config, parameters_->layout(), /*own_ranges=*/true);
  exchange_ = NewHierarchicalExchange(&parameters_->layout(), window, options_.host, comm_.get(), compressor_.get());
  return absl::OkStatus();
}

absl::Status Trainer::SizeWindow(const RunConfig& config, const Network& network, WindowOptions* window) {
  ASSIGN_OR_RETURN(const ParameterLayout layout, FlatParameters::LayoutOf(network, config.optimizer()));
  window->rank_bytes = layout.elements() * static_cast<int64_t>(sizeof(float));
  window->shared_bytes = window->rank_bytes * (1 + OptimizerStates(config.optimizer()));
  return absl::OkStatus();
}

TrainingEnd Trainer::Run() {
  torch::set_num_threads(options_.config.threads());  // of this thread
  end_.tell = true;
  end_.status = Train();
  end_.step = cursor_.step() + (end_.non_finite ? 1 : 0);
  if (!end_.status.ok()) end_.why = std::string(end_.status.message());
  if (absl::IsAborted(end_.status) || absl::IsCancelled(end_.status)) end_.tell = false;  // the coordinator knows
  return end_;
}

absl::Status Trainer::Train() {
  Boundary boundary;
  RETURN_IF_ERROR(Start());
  if (options_.resume.has_value() && !cursor_.evaluated()) RETURN_IF_ERROR(EvaluateIfDue(&boundary));
  while (!boundary.stop && cursor_.step() < options_.link->final_step()) RETURN_IF_ERROR(TakeStep(&boundary));
  end_.why = boundary.stop ? boundary.why : absl::StrCat("step ", cursor_.step(), " is the plan's last");
  if (boundary.stop && checkpointed_ != cursor_.step() &&
      !(options_.resume.has_value() && cursor_.step() == options_.resume->cursor().step())) {
    RETURN_IF_ERROR(Checkpoint(/*best=*/false));
  }
  return FinishUploads();
}

// Every rank starts from rank 0's bits.
absl::Status Trainer::Start() {
  if (options_.resume.has_value()) {
    RETURN_IF_ERROR(DoOnRank0(options_.rank, comm_.get(), beat(), [this] { return Restore(); }));
  } else if (!options_.config.model().init_from().empty()) {
    RETURN_IF_ERROR(DoOnRank0(options_.rank, comm_.get(), beat(), [this] {
      return LoadInitialWeights(options_.config.model(), options_.network.get(), parameters_.get(), options_.log);
    }));
  }
  RETURN_IF_ERROR(BroadcastReplica(options_.network.get(), parameters_.get(), optimizer_.get(), comm_.get(),
                                   options_.host,
                                   options_.window != nullptr ? options_.window->shared() : absl::Span<std::byte>()));
  if (options_.resume.has_value()) RETURN_IF_ERROR(GiveRankStatesBack());
  RETURN_IF_ERROR(MeasureClocks());
  epoch_start_ns_ = MonotonicNanos() - static_cast<int64_t>(cursor_.epoch_seconds() * 1e9);
  if (options_.resume.has_value()) return absl::OkStatus();
  return Checkpoint(/*best=*/false);
}

absl::Status Trainer::Restore() {
  absl::StatusOr<CoordinatorLink::Downloaded> checkpoint = options_.link->DownloadCheckpoint();
  if (!checkpoint.ok()) return Annotate(checkpoint.status(), "reading the checkpoint to go on from");
  if (checkpoint->header.cursor().step() != cursor_.step() && checkpoint->header.has_cursor()) {
    return absl::DataLossError(absl::StrCat("the checkpoint is of step ", checkpoint->header.cursor().step(),
                                            ", the run goes on from step ", cursor_.step()));
  }
  const std::string which = absl::StrCat("checkpoint of step ", cursor_.step());
  absl::StatusOr<SafetensorsFile> states = TakeRanksFile(&*checkpoint);
  if (!states.ok()) return Annotate(states.status(), which);
  absl::StatusOr<std::vector<int>> stored = CheckRankStates(*states, StatesToGoOnWith());
  if (!stored.ok()) return Annotate(stored.status(), which);
  stored_states_ = *std::move(states);
  stored_ranks_ = *std::move(stored);
  return Annotate(RestoreTensors(*std::move(checkpoint), options_.network.get(), parameters_.get(), optimizer_.get()),
                  which);
}

// This launch's own, and the optimizer's where each rank had them to itself before and none has now.
std::vector<RankState> Trainer::StatesToGoOnWith() {
  std::vector<RankState> states = exchange_->rank_states();
  const Communication& config = options_.config.communication();
  if (exchange_->local() || config.period() <= 1 || config.average_momentum()) return states;
  for (const SpanOptimizer::State& state : optimizer_->states()) {
    states.push_back({state.name, state.values, RankState::Share::kMean});
  }
  return states;
}

absl::Status Trainer::GiveRankStatesBack() {
  const SafetensorsFile stored = std::exchange(stored_states_, {});
  return GiveRankStates(stored, std::move(stored_ranks_), StatesToGoOnWith(), options_.rank, options_.world,
                        comm_.get());
}

absl::Status Trainer::TakeStep(Boundary* boundary) {
  RETURN_IF_ERROR(AllowNextStep());
  const int64_t step = cursor_.step() + 1;
  options_.network->SetTraining(true);
  const bool synchronises = Synchronises(step);
  ASSIGN_OR_RETURN(StepOutcome outcome, runner_->Run(step, plan_.SamplesAt(step), synchronises, batches_.get(),
                                                     [this] { return options_.link->HeldDirective(); }));
  RETURN_IF_ERROR(CheckFinite(outcome));
  epoch_step_s_ += outcome.record.step_s();
  epoch_exposed_s_ += outcome.record.comm_exposed_s();
  if (const auto block = bucket_times_.Took(step, outcome.record.step_s()); block && leads()) {
    options_.link->SendBuckets(*block);
  }
  if (outcome.measured) Report(&outcome.record);
  Advance(outcome.tail);
  if (!synchronises) {
    checkpoint_overdue_ |= options_.link->CheckpointDue(step);
    return absl::OkStatus();
  }
  synchronised_ = step;
  RETURN_IF_ERROR(CheckReplicasIfDue());
  if (outcome.tail.clocks_due != 0) RETURN_IF_ERROR(MeasureClocks());

  ObeyDirectives(outcome.tail.control, boundary);
  if (plan_.IsLastOfEpoch(step)) EndEpoch();
  RETURN_IF_ERROR(EvaluateIfDue(boundary));
  return CheckpointIfDue(*boundary);
}

bool Trainer::Synchronises(int64_t step) const {
  if (!exchange_->local()) return true;
  const int64_t period = PeriodAt(options_.config.communication(), step, cursor_.period());
  return step - synchronised_ >= period || plan_.IsLastOfEpoch(step) || options_.link->EvaluationDue(step) ||
         step == options_.link->final_step();
}

void Trainer::AdaptPeriod(double epoch_loss) {
  const Communication& config = options_.config.communication();
  if (!exchange_->local() || config.period_rule() != PERIOD_RULE_ADAPTIVE) return;
  if (cursor_.first_epoch_loss() == 0) cursor_.set_first_epoch_loss(epoch_loss);
  const int64_t before = PeriodAt(config, cursor_.step(), cursor_.period());
  const int64_t period = NextPeriod(config.period(), cursor_.first_epoch_loss(), epoch_loss, before);
  cursor_.set_period(period);
  if (period == before || !leads()) return;
  options_.log(absl::StrCat("communication.period is ", period, " from step ", cursor_.step() + 1, " on, it was ",
                            before, ": the epoch's loss is ", epoch_loss, ", that of the first was ",
                            cursor_.first_epoch_loss()));
}

absl::Status Trainer::AllowNextStep() {
  RETURN_IF_ERROR(options_.link->Alive());
  const int64_t step = cursor_.step() + 1;
  int64_t granted = options_.link->GrantedThrough(cursor_.step());
  if (granted < step) {
    RETURN_IF_ERROR(WaitForGrant(step));
    granted = options_.link->GrantedThrough(cursor_.step());
  }
  batches_->AllowThrough(granted);
  return absl::OkStatus();
}

// Says so when it takes long enough for a person to wonder.
absl::Status Trainer::WaitForGrant(int64_t step) {
  const absl::Duration quietly = std::min(absl::Seconds(1), control_timeout() / 2);
  const absl::Status status = options_.link->WaitForGrant(step, quietly);
  if (!absl::IsDeadlineExceeded(status)) return status;
  if (leads()) options_.log(absl::StrCat("waiting for the coordinator to grant step ", step));
  return options_.link->WaitForGrant(step, control_timeout() - quietly);
}

absl::Status Trainer::CheckFinite(const StepOutcome& outcome) {
  const int64_t rank = outcome.tail.non_finite_rank;
  if (rank < 0) return absl::OkStatus();
  end_.non_finite = true;
  const int64_t step = cursor_.step() + 1;
  if (rank != options_.rank) {
    return absl::AbortedError(absl::StrCat("step ", step, ": the loss is not finite on rank ", rank));
  }
  const std::string what =
      outcome.not_finite.empty() ? "the loss was not finite at an earlier step" : outcome.not_finite;
  return absl::OutOfRangeError(absl::StrCat(what, "; try a lower optimizer.lr, or optimizer.clip_norm"));
}

absl::Status Trainer::CheckReplicasIfDue() {
  int64_t every = options_.config.communication().check_replicas();
#ifndef NDEBUG
  if (every == 0) every = 100;
#endif
  const int64_t step = cursor_.step();
  if (comm_ == nullptr || every == 0) return absl::OkStatus();
  // Where ranks do not meet at each step, at the first one after it fell due.
  if (step / every == std::exchange(replicas_checked_, step) / every) return absl::OkStatus();
  const int replica = options_.window != nullptr ? options_.window->ranks()[0] : options_.rank;
  return CheckReplicas(DigestReplica(*options_.network, parameters_.get(), options_.rank, replica), step,
                       options_.world, comm_.get());
}

// All ranks together, between two steps.
absl::Status Trainer::MeasureClocks() {
  if (comm_ == nullptr || options_.config.profile().off()) return absl::OkStatus();
  // A failure leaves the operation where it is, and with it what it writes to.
  const auto exchange = std::make_shared<ClockExchange>();
  exchange->now_ns = [this] { return clock_.OwnNanos(MonotonicNanos()); };
  comm_->StartOperation("clocks", 0, [exchange](Collectives* all) { return all->ExchangeClocks(exchange.get()); });
  RETURN_IF_ERROR(comm_->Wait());
  measured_clock_ = clock_.Learn(exchange->trips);
  return absl::OkStatus();
}

void Trainer::Report(StepRecord* record) {
  if (measured_clock_.has_value()) *record->mutable_clock() = *measured_clock_;
  measured_clock_.reset();
  options_.link->Report(std::move(*record));
}

void Trainer::ObeyDirectives(int64_t through, Boundary* boundary) {
  *boundary = Boundary();
  for (; obeyed_ < through; ++obeyed_) {
    const Directive directive = options_.link->GetDirective(obeyed_ + 1);
    if (directive.has_checkpoint()) boundary->checkpoint = true;
    if (directive.has_set_buckets()) SetBuckets(directive.set_buckets());
    if (directive.has_stop()) {
      boundary->stop = true;
      boundary->why = absl::StrCat("stopped by ", directive.stop().rule());
    }
  }
}

void Trainer::Advance(const StepTail& tail) {
  cursor_.set_step(cursor_.step() + 1);
  cursor_.set_epoch(plan_.EpochOf(cursor_.step()));
  cursor_.set_epoch_step(plan_.EpochStepOf(cursor_.step()));
  cursor_.set_fingerprint(cursor_.fingerprint() + tail.fingerprint);
  cursor_.set_epoch_samples(cursor_.epoch_samples() + tail.samples);
  cursor_.set_epoch_loss_sum(cursor_.epoch_loss_sum() + tail.loss_sum);
  cursor_.set_evaluated(false);
  step_.store(cursor_.step(), std::memory_order_relaxed);
}

void Trainer::EndEpoch() {
  const int64_t now_ns = MonotonicNanos();
  if (leads()) {
    EpochDone done;
    done.set_epoch(cursor_.epoch());
    done.set_steps(cursor_.epoch_step());
    done.set_samples(cursor_.epoch_samples());
    done.set_fingerprint(cursor_.fingerprint());
    done.set_loss(cursor_.epoch_loss_sum() / static_cast<double>(cursor_.epoch_samples()));
    done.set_seconds(static_cast<double>(now_ns - epoch_start_ns_) * 1e-9);
    done.set_exposed_fraction(epoch_step_s_ > 0 ? epoch_exposed_s_ / epoch_step_s_ : 0);
    options_.link->SendEpochDone(done);
  }
  AdaptPeriod(cursor_.epoch_loss_sum() / static_cast<double>(cursor_.epoch_samples()));
  cursor_.set_epoch(cursor_.epoch() + 1);
  cursor_.set_epoch_step(0);
  cursor_.set_fingerprint(0);
  cursor_.set_epoch_samples(0);
  cursor_.set_epoch_loss_sum(0);
  epoch_start_ns_ = now_ns;
  epoch_step_s_ = epoch_exposed_s_ = 0;
}

absl::Status Trainer::EvaluateIfDue(Boundary* boundary) {
  const int64_t step = cursor_.step();
  if (!options_.link->EvaluationDue(step)) return absl::OkStatus();
  ASSIGN_OR_RETURN(EvaluationResult result,
                   evaluator_->Evaluate(options_.network.get(), options_.objective.get(), options_.world));
  if (leads()) {
    result.set_step(step);
    result.set_epoch(plan_.EpochOf(step));
    options_.link->SendEvaluation(result);
  }
  ASSIGN_OR_RETURN(const Verdict verdict, AwaitVerdict(step));
  cursor_.set_evaluated(true);
  boundary->checkpoint |= verdict.checkpoint();
  boundary->best = verdict.best();
  if (verdict.stop() && !boundary->stop) boundary->why = absl::StrCat("stopped after the evaluation at step ", step);
  boundary->stop |= verdict.stop();
  return absl::OkStatus();
}

// Rank 0 waits, and the others with it: should a rank be lost or cut off meanwhile, those left find out who.
absl::StatusOr<Verdict> Trainer::AwaitVerdict(int64_t step) {
  const auto verdict = std::make_shared<Verdict>();  // the wait may outlive a failure here
  RETURN_IF_ERROR(DoOnRank0(options_.rank, comm_.get(), beat(), [this, step, verdict]() -> absl::Status {
    ASSIGN_OR_RETURN(*verdict, options_.link->WaitForVerdict(step, control_timeout()));
    return absl::OkStatus();
  }));
  if (comm_ == nullptr) return *verdict;
  std::array<bool, 3> words = {verdict->stop(), verdict->checkpoint(), verdict->best()};
  comm_->StartBroadcast("verdict", absl::MakeSpan(reinterpret_cast<std::byte*>(words.data()), sizeof words), 0);
  RETURN_IF_ERROR(comm_->Wait());
  verdict->set_stop(words[0]);
  verdict->set_checkpoint(words[1]);
  verdict->set_best(words[2]);
  return *verdict;
}

absl::Status Trainer::CheckpointIfDue(const Boundary& boundary) {
  const bool overdue = std::exchange(checkpoint_overdue_, false);
  if (!boundary.checkpoint && !overdue && !options_.link->CheckpointDue(cursor_.step())) return absl::OkStatus();
  return Checkpoint(boundary.best);
}

// All ranks stand still until rank 0 has its copy, so that its time lies between steps on all of them.
absl::Status Trainer::Checkpoint(bool best) {
  if (checkpointed_ == cursor_.step()) return absl::OkStatus();
  checkpointed_ = cursor_.step();
  RETURN_IF_ERROR(DoOnRank0(options_.rank, comm_.get(), beat(), [this] { return AnnounceCheckpoint(); }));
  const int64_t start_ns = MonotonicNanos();
  std::string none;
  RETURN_IF_ERROR(GatherRankStates(exchange_->rank_states(), options_.rank, options_.world, comm_.get(),
                                   leads() ? snapshot_->ranks() : &none));
  return DoOnRank0(options_.rank, comm_.get(), beat(),
                   [this, best, start_ns] { return SnapshotAndSend(best, start_ns); });
}

// Until the one before has been sent, whose memory is used again.
absl::Status Trainer::AnnounceCheckpoint() {
  CheckpointDue due;
  due.set_step(cursor_.step());
  due.set_epoch(cursor_.epoch());
  due.set_epoch_end(cursor_.step() > 0 && plan_.IsLastOfEpoch(cursor_.step()));
  options_.link->SendCheckpointDue(due);
  return uploader_->WaitIdle();
}

absl::Status Trainer::SnapshotAndSend(bool best, int64_t start_ns) {
  RETURN_IF_ERROR(snapshot_->Take());
  CheckpointChunk::Header header;
  header.set_incarnation(options_.incarnation);
  *header.mutable_cursor() = cursor_;
  header.mutable_cursor()->set_epoch_seconds(static_cast<double>(start_ns - epoch_start_ns_) * 1e-9);
  header.set_snapshot_s(static_cast<double>(MonotonicNanos() - start_ns) * 1e-9);
  header.set_best(best);
  header.set_bucket_mb(bucket_mb_);
  for (const Manifest::File& file : snapshot_->files()) *header.add_files() = file;
  uploader_->Start(header, snapshot_.get());
  return absl::OkStatus();
}

absl::Status Trainer::FinishUploads() {
  return DoOnRank0(options_.rank, comm_.get(), beat(), [this]() -> absl::Status {
    RETURN_IF_ERROR(uploader_->WaitIdle());
    return Annotate(uploader_->last(), absl::StrCat("the last checkpoint (step ", checkpointed_, ") was not written"));
  });
}

}  // namespace lockstep
