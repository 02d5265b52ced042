// The trainer's loop on every rank of an MPI job, each with its own fake coordinator that says the same to all.
#include "worker/train/trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/data/plan.h"
#include "tests/support/mpi_main.h"
#include "tests/worker/train/fakes.h"

namespace lockstep {
namespace {

constexpr int64_t kSamples = 1026;  // of which an epoch's last step has 2: fewer than ranks, where there are 3 or 4
constexpr int64_t kSteps = 20;

// Makes the loss of one step not a number.
class BreakingObjective : public Objective {
 public:
  BreakingObjective(std::unique_ptr<Objective> objective, int64_t at) : objective_(std::move(objective)), at_(at) {}
  absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) override {
    absl::StatusOr<torch::Tensor> loss = objective_->MeanLoss(output, target);
    if (++calls_ == at_ && loss.ok()) *loss = *loss * std::numeric_limits<double>::quiet_NaN();
    return loss;
  }

 private:
  const std::unique_ptr<Objective> objective_;
  const int64_t at_;
  int64_t calls_ = 0;
};

struct Trained {
  TrainingEnd end;
  Cursor cursor;
  std::vector<float> parameters;
  std::unique_ptr<FakeLink> link;
  std::vector<std::string> said;
  std::vector<int> order;          // of gradients
  std::vector<std::string> names;  // of parameters, in the order of the layout
};

struct Start {
  bool alone = false;  // this rank by itself, as a run of one worker
  int64_t break_at = 0;
  CoordinatorLink::Downloaded checkpoint;  // with a header: go on from it
  Cursor cursor;
};

// Each rank with a replica of its own, all of them with one in the host's window, or those of each of two hosts.
class TrainerTest : public testing::TestWithParam<Algorithm> {
 protected:
  TrainerTest() : rank_(TestSession().rank()), world_(TestSession().world()) {
    if (world_ > 1) collectives_ = *TestSession().NewCollectives(MpiOptionsOf(GetParam()));
    config_ = ToyConfig(128);
    script_.final_step = kSteps;
  }

  Trained Train(const Start& start = {}) {
    Trained trained;
    trained.link = std::make_unique<FakeLink>(script_);
    trained.link->download = start.checkpoint;
    TrainerOptions options;
    options.config = config_;
    options.rank = start.alone ? 0 : rank_;
    options.world = start.alone ? 1 : world_;
    options.collectives = start.alone ? nullptr : collectives_.get();
    options.link = trained.link.get();
    options.network = *CreateModel(config_, "cpu");
    MpiSession::Share share;
    if (!start.alone) share = ShareHosts(*options.network);
    options.window = share.window.get();
    options.host = share.collectives.get();
    options.hosts = GetParam() == ALGORITHM_HIERARCHICAL ? 2 : 1;
    options.objective = *CreateObjective(config_.loss(), "cpu");
    if (start.break_at > 0) {
      options.objective = std::make_unique<BreakingObjective>(std::move(options.objective), start.break_at);
    }
    options.train = MakeToyData(kSamples, 12, 4);
    options.validation = MakeToyData(101, 12, 4);
    options.gradient_order = gradient_order_;
    options.log = [&trained](const std::string& line) { trained.said.push_back(line); };
    if (start.cursor.step() > 0) {
      options.resume.emplace();
      *options.resume->mutable_cursor() = start.cursor;
    }
    auto trainer = *Trainer::Create(std::move(options));
    trained.end = trainer->Run();
    trained.cursor = trainer->cursor();
    trained.order = trainer->gradient_order();
    FlatParameters& parameters = trainer->parameters();
    for (const ParameterSegment& segment : parameters.layout().segments()) trained.names.push_back(segment.name);
    trained.parameters.assign(parameters.data(), parameters.data() + parameters.layout().elements());
    return trained;
  }

  // Hierarchical: this machine stands in for two hosts, of which one has more ranks where their number is odd.
  MpiSession::Share ShareHosts(const Network& network) const {
    const bool hierarchical = GetParam() == ALGORITHM_HIERARCHICAL;
    if (world_ == 1 || (GetParam() != ALGORITHM_SHARED && !hierarchical)) return {};
    WindowOptions sizes;
    EXPECT_TRUE(Trainer::SizeWindow(config_, network, &sizes).ok());
    MpiSession::Host host = *TestSession().FindHost(absl::Seconds(20));
    EXPECT_EQ(host.hosts.size(), 1u);
    if (hierarchical) {
      host.hosts.assign(2, {});
      for (int rank = 0; rank < world_; ++rank) host.hosts[rank % 2].push_back(rank);
      host.host = rank_ % 2;
      host.index = rank_ / 2;
      host.window_name += absl::StrCat("-", host.host);
    }
    absl::StatusOr<MpiSession::Share> share =
        TestSession().ShareHost(host, sizes, MpiOptionsOf(GetParam()), collectives_.get());
    EXPECT_TRUE(share.ok()) << share.status();
    return *std::move(share);
  }

  static MpiOptions MpiOptionsOf(Algorithm algorithm) {
    MpiOptions mpi;
    if (algorithm != ALGORITHM_MPI) mpi.ways = RingWays();
    return mpi;
  }

  int last_rank() const { return world_ - 1; }

  const int rank_, world_;
  std::unique_ptr<Collectives> collectives_;
  RunConfig config_;
  FakeLink::Script script_;
  std::optional<std::vector<int>> gradient_order_;
};

Directive StopDirective() {
  Directive directive;
  directive.mutable_stop()->set_rule("request");
  return directive;
}

Directive CheckpointDirective() {
  Directive directive;
  directive.mutable_checkpoint();
  return directive;
}

std::vector<int64_t> StepsOf(const std::vector<CoordinatorLink::Downloaded>& uploads) {
  std::vector<int64_t> steps;
  for (const CoordinatorLink::Downloaded& upload : uploads) steps.push_back(upload.header.cursor().step());
  return steps;
}

TEST_P(TrainerTest, TwentyStepsGiveTheSameParametersForAnyNumberOfWorkers) {
  for (OptimizerName name : {OPTIMIZER_NAME_SGD, OPTIMIZER_NAME_ADAMW}) {
    config_.mutable_optimizer()->set_name(name);
    config_.mutable_optimizer()->set_lr(name == OPTIMIZER_NAME_SGD ? 0.1 : 0.005);
    config_.mutable_optimizer()->set_beta1(0.9);
    config_.mutable_optimizer()->set_beta2(0.999);
    config_.mutable_optimizer()->set_eps(1e-8);
    const Trained together = Train();
    Start alone;
    alone.alone = true;
    const Trained reference = Train(alone);
    ASSERT_TRUE(together.end.status.ok()) << together.end.status;
    ASSERT_EQ(together.parameters.size(), reference.parameters.size());
    for (size_t i = 0; i < reference.parameters.size(); ++i) {
      ASSERT_NEAR(together.parameters[i], reference.parameters[i], 1e-5) << "element " << i;
    }
    EXPECT_LT(together.link->records.back().loss_sum() / together.link->records.back().samples(),
              together.link->records.front().loss_sum() / together.link->records.front().samples());
  }
}

TEST_P(TrainerTest, TheSameRunTwiceIsTheSameBitwise) {
  config_.mutable_optimizer()->set_clip_norm(0.5);
  const Trained first = Train(), second = Train();
  EXPECT_TRUE(first.parameters == second.parameters);
  EXPECT_GT(first.link->records.back().grad_norm(), 0);
}

TEST_P(TrainerTest, ClippingGivesTheSameForAnyNumberOfWorkers) {
  config_.mutable_optimizer()->set_clip_norm(0.05);
  const Trained together = Train();
  Start alone;
  alone.alone = true;
  const Trained reference = Train(alone);
  config_.mutable_optimizer()->set_clip_norm(0);
  const Trained free = Train();
  for (size_t i = 0; i < reference.parameters.size(); ++i) {
    ASSERT_NEAR(together.parameters[i], reference.parameters[i], 1e-5) << "element " << i;
  }
  EXPECT_FALSE(free.parameters == together.parameters);
}

TEST_P(TrainerTest, AResumedRunIsTheUnbrokenOneBitwise) {
  script_.evaluate_at = {9, 18};
  const Trained unbroken = Train();
  script_.directives = {{11, StopDirective()}};  // in the second epoch
  Trained broken = Train();
  ASSERT_EQ(broken.cursor.step(), 11);
  ASSERT_EQ(broken.cursor.epoch(), 1);
  script_.directives.clear();
  Start start;
  start.cursor = broken.cursor;
  if (rank_ == 0) {
    start.checkpoint = broken.link->uploads.back();
    start.cursor = start.checkpoint.header.cursor();
  }
  const Trained resumed = Train(start);
  ASSERT_TRUE(resumed.end.status.ok()) << resumed.end.status;
  EXPECT_TRUE(resumed.parameters == unbroken.parameters);
  EXPECT_EQ(resumed.cursor.step(), kSteps);
  EXPECT_EQ(resumed.cursor.fingerprint(), unbroken.cursor.fingerprint());
  EXPECT_EQ(resumed.link->records.front().step(), 12);
  if (rank_ == 0) {
    EXPECT_TRUE(resumed.link->uploads.empty());
    ASSERT_EQ(resumed.link->epochs.size(), 1u);
    EXPECT_EQ(resumed.link->epochs[0].fingerprint(), unbroken.link->epochs[1].fingerprint());
    EXPECT_EQ(resumed.link->evaluations[0].metrics().at("loss"), unbroken.link->evaluations[1].metrics().at("loss"));
  }
}

TEST_P(TrainerTest, ARunThatIsAtItsLastStepLeavesAtOnce) {
  Trained whole = Train();
  script_.directives = {{kSteps, StopDirective()}};
  Trained stopped = Train();
  Start start;
  start.cursor = stopped.cursor;
  if (rank_ == 0) start.checkpoint = stopped.link->uploads.back();
  const Trained resumed = Train(start);
  EXPECT_TRUE(resumed.end.status.ok()) << resumed.end.status;
  EXPECT_TRUE(resumed.link->records.empty());
  EXPECT_TRUE(resumed.parameters == whole.parameters);
}

TEST_P(TrainerTest, WeightsToStartFromAreReadByRank0AloneAndReachAllRanks) {
  script_.final_step = 5;
  script_.checkpoint_at = {5};
  const Trained first = Train();
  config_.mutable_model()->set_init_from("/only/rank/0/has/it.safetensors");
  if (rank_ == 0) {
    const std::string path = testing::TempDir() + "lockstep_trainer_test." + std::to_string(world_) + ".safetensors";
    std::ofstream(path, std::ios::binary) << first.link->uploads.back().files[0];
    config_.mutable_model()->set_init_from(path);
  }
  script_.final_step = 0;
  const Trained second = Train();
  ASSERT_TRUE(second.end.status.ok()) << second.end.status;
  EXPECT_TRUE(second.parameters == first.parameters);
  if (rank_ != 0) return;
  ASSERT_EQ(second.said.size(), 1u);
  EXPECT_NE(second.said[0].find("4 of 4 tensors taken"), std::string::npos) << second.said[0];
  EXPECT_EQ(std::remove(config_.model().init_from().c_str()), 0);
}

TEST_P(TrainerTest, WeightsThatCannotBeReadEndAllRanksAndRank0SaysWhy) {
  config_.mutable_model()->set_init_from("/nowhere/weights.safetensors");
  const Trained trained = Train();
  EXPECT_FALSE(trained.end.status.ok());
  EXPECT_EQ(trained.end.tell, rank_ == 0);
  EXPECT_EQ(trained.end.why.find("/nowhere/weights.safetensors") != std::string::npos, rank_ == 0) << trained.end.why;
}

TEST_P(TrainerTest, EveryEpochUsesEverySampleOnceAlsoWhereTheLastStepHasFewerSamplesThanRanks) {
  const Trained trained = Train();
  ASSERT_TRUE(trained.end.status.ok()) << trained.end.status;
  if (rank_ != 0) return;
  ASSERT_EQ(trained.link->epochs.size(), 2u);
  for (int epoch = 0; epoch < 2; ++epoch) {
    EXPECT_EQ(trained.link->epochs[epoch].epoch(), epoch);
    EXPECT_EQ(trained.link->epochs[epoch].steps(), 9);
    EXPECT_EQ(trained.link->epochs[epoch].samples(), kSamples);
    EXPECT_EQ(trained.link->epochs[epoch].fingerprint(), EpochFingerprint(epoch, kSamples));
  }
  EXPECT_EQ(trained.cursor.epoch(), 2);
  EXPECT_EQ(trained.cursor.epoch_step(), 2);
}

TEST_P(TrainerTest, EvaluationCountsEverySampleOnceAndItsVerdictStopsAllRanks) {
  script_.evaluate_at = {5, 10};
  if (rank_ == 0) {  // the only one that is told
    script_.verdicts[10].set_stop(true);
    script_.verdicts[10].set_best(true);
    script_.verdicts[10].set_checkpoint(true);
  }
  const Trained trained = Train();
  ASSERT_TRUE(trained.end.status.ok()) << trained.end.status;
  EXPECT_EQ(trained.end.step, 10);
  if (rank_ != 0) return;
  ASSERT_EQ(trained.link->evaluations.size(), 2u);
  EXPECT_EQ(trained.link->evaluations[1].samples(), 101);
  EXPECT_EQ(trained.link->evaluations[1].split(), "validation");
  EXPECT_GE(trained.link->evaluations[1].metrics().at("accuracy"), 0.25);
  EXPECT_EQ(StepsOf(trained.link->uploads), (std::vector<int64_t>{0, 10}));
  EXPECT_TRUE(trained.link->uploads[1].header.best());
  EXPECT_TRUE(trained.link->uploads[1].header.cursor().evaluated());
}

TEST_P(TrainerTest, DirectivesAreObeyedAtTheSameStepOnceAllRanksHoldThem) {
  script_.directives = {{3 + rank_, CheckpointDirective()}, {7 + 2 * rank_, StopDirective()}};
  const Trained trained = Train();
  ASSERT_TRUE(trained.end.status.ok()) << trained.end.status;
  EXPECT_EQ(trained.end.step, 7 + 2 * last_rank());
  EXPECT_EQ(trained.end.why, "stopped by request");
  if (rank_ != 0) return;
  const std::vector<int64_t> expected = {0, 3 + last_rank(), 7 + 2 * last_rank()};
  EXPECT_EQ(StepsOf(trained.link->uploads), expected);
  EXPECT_EQ(trained.link->due(), expected);
}

TEST_P(TrainerTest, BucketsAreCutAnewByADirectiveAndMeasuredAndTheCheckpointHasTheirSize) {
  if (world_ == 1 || GetParam() == ALGORITHM_SHARED) return;  // there are no buckets
  Directive directive;
  directive.mutable_set_buckets()->set_bucket_mb(25);
  directive.mutable_set_buckets()->set_measure_steps(4);
  script_.directives = {{7 + rank_, directive}};
  script_.checkpoint_at = {5, kSteps};
  const Trained trained = Train();
  ASSERT_TRUE(trained.end.status.ok()) << trained.end.status;
  const auto buckets_of = [&](int64_t step) {
    const auto& collectives = trained.link->records[step - 1].collectives();
    return std::count_if(collectives.begin(), collectives.end(),
                         [](const auto& one) { return one.name().substr(0, 7) == "bucket."; });
  };
  EXPECT_GT(buckets_of(5), 1);
  EXPECT_EQ(buckets_of(7 + last_rank() < 10 ? 10 : 15), 1);
  if (rank_ != 0) return;
  ASSERT_EQ(trained.link->buckets.size(), 1u);
  const BucketsMeasured& block = trained.link->buckets[0];
  EXPECT_EQ(block.bucket_mb(), 25);
  EXPECT_EQ(block.step_s_size(), 4);
  EXPECT_EQ(block.first_step(), 7 + last_rank() + 1 + 3) << "three steps settle";
  EXPECT_EQ(block.last_step(), block.first_step() + 3);
  EXPECT_EQ(block.step_s(0), trained.link->records[block.first_step() - 1].step_s());
  EXPECT_EQ(trained.link->uploads[1].header.bucket_mb(), 0.001) << "of step 5";
  EXPECT_EQ(trained.link->uploads.back().header.bucket_mb(), 25);
}

TEST_P(TrainerTest, TuningBeginsWithTheFirstStepAndOnlyWhereThereAreBuckets) {
  config_.mutable_communication()->set_bucket_tuning(BUCKET_TUNING_AUTO);
  script_.final_step = 30;
  const Trained trained = Train();
  if (rank_ != 0) return;
  if (world_ == 1 || GetParam() == ALGORITHM_SHARED) {
    EXPECT_TRUE(trained.link->buckets.empty());
    EXPECT_NE(trained.said.back().find("communication.bucket_tuning has nothing to do"), std::string::npos);
  } else {
    ASSERT_EQ(trained.link->buckets.size(), 1u);
    EXPECT_EQ(trained.link->buckets[0].step_s_size(), 25);
  }
}

TEST_P(TrainerTest, AnotherOrderOfGradientsIsAnotherLayoutOfTheSameTraining) {
  const Trained found = Train();
  gradient_order_.emplace({0, 2, 1, 3});
  const Trained given = Train();
  ASSERT_TRUE(given.end.status.ok()) << given.end.status;
  EXPECT_EQ(given.order, *gradient_order_);
  if (world_ > 1 && GetParam() != ALGORITHM_SHARED) {
    EXPECT_EQ(found.order.size(), 4u);
    EXPECT_NE(found.order, given.order);
  }
  EXPECT_NE(given.names, found.names);
  if (rank_ == 0) {
    ASSERT_EQ(given.link->uploads.size(), found.link->uploads.size());
    EXPECT_EQ(given.link->uploads.front().files, found.link->uploads.front().files) << "files know nothing of it";
  }
}

TEST_P(TrainerTest, ScheduledCheckpointsAreAnnouncedBeforeTheyAreSent) {
  script_.checkpoint_at = {4, 9};
  const Trained trained = Train();
  if (rank_ != 0) return;
  EXPECT_EQ(trained.link->due(), (std::vector<int64_t>{0, 4, 9}));
  EXPECT_EQ(StepsOf(trained.link->uploads), (std::vector<int64_t>{0, 4, 9}));
  const Cursor& end_of_epoch = trained.link->uploads[2].header.cursor();
  EXPECT_EQ(end_of_epoch.epoch(), 1);
  EXPECT_EQ(end_of_epoch.epoch_step(), 0);
}

TEST_P(TrainerTest, ACheckpointThatCannotBeWrittenIsSaidAndTheLastOneFailsTheRun) {
  script_.checkpoint_at = {4};
  script_.upload = absl::UnavailableError("disk full");
  const Trained trained = Train();
  EXPECT_FALSE(trained.end.status.ok());
  EXPECT_EQ(trained.end.step, kSteps);
  EXPECT_EQ(trained.end.tell, rank_ == 0);
  if (rank_ != 0) return;
  EXPECT_EQ(trained.end.why, "the last checkpoint (step 4) was not written: disk full");
  EXPECT_EQ(trained.said, (std::vector<std::string>{"the checkpoint of step 0 was not written: disk full",
                                                    "the checkpoint of step 4 was not written: disk full"}));
}

TEST_P(TrainerTest, ALossThatIsNotFiniteEndsAllRanksBeforeParametersChange) {
  script_.final_step = 5;
  const Trained before = Train();
  script_.final_step = kSteps;
  Start start;
  start.break_at = rank_ == last_rank() ? 6 : 0;
  const Trained broken = Train(start);
  EXPECT_FALSE(broken.end.status.ok());
  EXPECT_TRUE(broken.end.non_finite);
  EXPECT_EQ(broken.end.step, 6);
  EXPECT_EQ(broken.end.tell, rank_ == last_rank());
  EXPECT_TRUE(broken.parameters == before.parameters);
  EXPECT_EQ(broken.link->records.size(), 5u);
  if (rank_ == last_rank()) {
    EXPECT_EQ(broken.end.why, "the loss is nan; try a lower optimizer.lr, or optimizer.clip_norm");
  }
}

double PartOf(const StepRecord& record, StepPart part) {
  switch (part) {
    case STEP_PART_DATA_WAIT:
      return record.data_wait_s();
    case STEP_PART_FORWARD:
      return record.forward_s();
    case STEP_PART_BACKWARD:
      return record.backward_s();
    case STEP_PART_COMM_EXPOSED:
      return record.comm_exposed_s();
    case STEP_PART_OPTIMIZER:
      return record.optimizer_s();
    default:
      return record.other_s();
  }
}
constexpr StepPart kParts[] = {STEP_PART_DATA_WAIT,    STEP_PART_FORWARD,   STEP_PART_BACKWARD,
                               STEP_PART_COMM_EXPOSED, STEP_PART_OPTIMIZER, STEP_PART_OTHER};

// The least over the delayed steps, so that a machine that is busy for a moment does no harm.
double LeastOf(const std::vector<StepRecord>& records, StepPart part, int64_t first, int64_t last) {
  double least = std::numeric_limits<double>::infinity();
  for (const StepRecord& record : records) {
    if (record.step() >= first && record.step() <= last) least = std::min(least, PartOf(record, part));
  }
  return least;
}

TEST_P(TrainerTest, ADelayInAPartShowsInThatPartAndNoOther) {
  constexpr double kDelay = 0.04;
  script_.final_step = 9;
  for (StepPart delayed : kParts) {
    config_.clear_inject();
    Inject* inject = config_.add_inject();
    inject->set_part(delayed);
    inject->set_rank(last_rank());
    inject->set_delay(kDelay);
    inject->set_first_step(3);
    inject->set_last_step(8);
    const Trained trained = Train();
    ASSERT_TRUE(trained.end.status.ok()) << trained.end.status;
    for (StepPart part : kParts) {
      const double least = LeastOf(trained.link->records, part, 4, 8);
      const bool here = part == delayed && rank_ == last_rank();
      // The others stand still for it in communication, but for a delay after theirs is over.
      const bool felt = part == STEP_PART_COMM_EXPOSED && rank_ != last_rank();
      if (here) {
        EXPECT_GE(least, kDelay) << StepPart_Name(part);
      } else if (!felt) {
        EXPECT_LT(least, kDelay / 2) << StepPart_Name(part) << ", delayed " << StepPart_Name(delayed);
      }
    }
    EXPECT_LT(PartOf(trained.link->records[8], delayed), 10 * kDelay);
  }
}

TEST_P(TrainerTest, PartsAddUpToTheStepAndCommunicationIsMeasured) {
  const Trained trained = Train();
  ASSERT_EQ(trained.link->records.size(), static_cast<size_t>(kSteps));
  for (const StepRecord& record : trained.link->records) {
    double sum = 0;
    for (StepPart part : kParts) sum += PartOf(record, part);
    EXPECT_NEAR(sum, record.step_s(), 1e-8);
    EXPECT_EQ(record.grad_bytes(), 4 * (12 * 24 + 24 + 24 * 4 + 4));
    EXPECT_DOUBLE_EQ(record.lr(), 0.1);
    EXPECT_EQ(record.epoch(), (record.step() - 1) / 9);
    if (world_ == 1) {
      EXPECT_EQ(record.comm_busy_s(), 0);
      EXPECT_EQ(record.collectives_size(), 0);
      continue;
    }
    EXPECT_GT(record.comm_busy_s(), 0);
    EXPECT_LE(record.comm_overlap_s(), record.comm_busy_s() + 1e-9);
    // A rank beyond those of the other host has no slice to send.
    const bool sends = GetParam() != ALGORITHM_HIERARCHICAL || rank_ / 2 < world_ / 2;
    EXPECT_EQ(record.wire_bytes() > 0, sends);
    EXPECT_EQ(record.comm_interval_s() > 0, record.step() > 1);
    if (record.step() % 5 != 0) {
      EXPECT_EQ(record.collectives_size(), 0);
      continue;
    }
    ASSERT_GE(record.collectives_size(), 2);
    EXPECT_EQ(record.collectives(0).name(), GetParam() == ALGORITHM_SHARED ? "bucket.window" : "bucket.0");
    EXPECT_EQ(record.collectives(record.collectives_size() - 1).name(), "tail");
  }
}

TEST_P(TrainerTest, PassesOverABatchGiveWhatOnePassGives) {
  config_.set_accumulate(1);
  const Trained whole = Train();
  for (const int passes : {2, 3, 100}) {
    config_.set_accumulate(passes);
    const Trained cut = Train();
    ASSERT_TRUE(cut.end.status.ok()) << cut.end.status;
    for (size_t i = 0; i < whole.parameters.size(); ++i) {
      ASSERT_NEAR(cut.parameters[i], whole.parameters[i], 1e-5) << passes << " passes, element " << i;
    }
    EXPECT_NEAR(cut.link->records[7].loss_sum(), whole.link->records[7].loss_sum(), 1e-4);
    EXPECT_EQ(cut.cursor.fingerprint(), whole.cursor.fingerprint());
    for (const StepRecord& record : cut.link->records) {
      double sum = 0;
      for (StepPart part : kParts) sum += PartOf(record, part);
      EXPECT_NEAR(sum, record.step_s(), 1e-8);
    }
  }
}

// Steps 4, 8, 9 (an epoch's last), 13, 17, 18 (an epoch's last) and 20 (the last) synchronise.
class LocalTrainerTest : public TrainerTest {
 protected:
  LocalTrainerTest() { config_.mutable_communication()->set_period(4); }
};

TEST_P(LocalTrainerTest, RanksMeetEveryPeriodAndHoldTheSameBitsThen) {
  const Trained trained = Train();
  ASSERT_TRUE(trained.end.status.ok()) << trained.end.status;
  EXPECT_EQ(trained.cursor.epoch_samples(), 2 * 128) << "of steps 19 and 20";
  std::vector<int64_t> met;
  for (const StepRecord& record : trained.link->records) {
    if (record.comm_busy_s() > 0) met.push_back(record.step());
  }
  if (world_ > 1) EXPECT_EQ(met, (std::vector<int64_t>{4, 8, 9, 13, 17, 18, 20}));
  std::vector<float> sum = trained.parameters;
  if (world_ == 1) return;
  const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(sum.data()), sum.size() * sizeof(float));
  CommThread comm(collectives_.get(), absl::Seconds(30));
  comm.StartAllReduce("largest", bytes, DType::kF32, ReduceOp::kMax);
  ASSERT_TRUE(comm.Wait().ok());
  EXPECT_TRUE(sum == trained.parameters) << "a rank has a larger value than this one";
}

TEST_P(LocalTrainerTest, DirectivesAndCheckpointsWaitUntilTheRanksMeetAndAResumeIsBitwise) {
  for (const bool average : {false, true}) {
    config_.mutable_communication()->set_average_momentum(average);
    script_ = FakeLink::Script();
    const Trained unbroken = Train();
    script_.checkpoint_at = {6};
    script_.directives = {{10, StopDirective()}};
    const Trained broken = Train();
    const int64_t stop = world_ == 1 ? 10 : 13, due = world_ == 1 ? 6 : 8;
    ASSERT_EQ(broken.cursor.step(), stop);
    Start start;
    start.cursor = broken.cursor;
    if (rank_ == 0) {
      ASSERT_EQ(StepsOf(broken.link->uploads), (std::vector<int64_t>{0, due, stop}));
      start.checkpoint = broken.link->uploads.back();
      start.cursor = start.checkpoint.header.cursor();
    }
    script_.directives.clear();
    script_.checkpoint_at.clear();
    const Trained resumed = Train(start);
    ASSERT_TRUE(resumed.end.status.ok()) << resumed.end.status;
    EXPECT_TRUE(resumed.parameters == unbroken.parameters) << (average ? "averaged" : "own") << " momentum";
    EXPECT_EQ(resumed.cursor.fingerprint(), unbroken.cursor.fingerprint());
  }
}

INSTANTIATE_TEST_SUITE_P(Messages, LocalTrainerTest, testing::Values(ALGORITHM_RING));

INSTANTIATE_TEST_SUITE_P(Replicas, TrainerTest,
                         testing::Values(ALGORITHM_MPI, ALGORITHM_RING, ALGORITHM_SHARED, ALGORITHM_HIERARCHICAL),
                         [](const auto& info) { return Algorithm_Name(info.param).substr(10); });

}  // namespace
}  // namespace lockstep
