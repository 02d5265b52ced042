#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/state/run_state.h"

namespace lockstep {

// 100 samples in steps of 10: ten steps an epoch.
inline RunConfig SmallConfig() {
  RunConfig config;
  config.mutable_run()->set_seed(7);
  config.mutable_data()->set_global_batch_size(10);
  config.mutable_convergence()->set_max_epochs(3);
  config.mutable_checkpoint()->set_every_epoch(true);
  config.mutable_control()->set_grant_steps(1000);
  return config;
}

inline RunStarted Started(const RunConfig& config, int world = 2) {
  RunStarted started;
  started.set_incarnation(1);
  *started.mutable_config() = config;
  started.set_config_digest("digest");
  started.set_world(world);
  started.set_train_samples(100);
  started.set_build("build");
  return started;
}

inline EvaluationResult Evaluated(int64_t step, double accuracy) {
  EvaluationResult result;
  result.set_step(step);
  (*result.mutable_metrics())["accuracy"] = accuracy;
  (*result.mutable_metrics())["loss"] = 1 - accuracy;
  return result;
}

inline CommunicationChosen Chosen(int incarnation, int world = 2) {
  CommunicationChosen chosen;
  chosen.set_incarnation(incarnation);
  chosen.set_world(world);
  chosen.set_structure("replicated");
  chosen.set_source("measured");
  chosen.add_ways()->set_up_to_bytes(1000);
  chosen.mutable_ways(0)->set_algorithm("direct");
  CommunicationChosen::Measured* const measured = chosen.add_measured();
  measured->set_bytes(500);
  measured->set_algorithm("direct");
  measured->set_seconds(0.001);
  measured->set_chosen(true);
  for (const int parameter : {2, 0, 1}) chosen.add_gradient_order(parameter);
  return chosen;
}

// Journals as the service does: each fact, then every decision that follows from it, one after the other.
class JournalDriver {
 public:
  explicit JournalDriver(const RunStarted& started) {
    Update update;
    *update.mutable_run_started() = started;
    Fact(std::move(update));
  }

  // The decisions that followed.
  std::vector<Decision> Fact(Update update) {
    EXPECT_EQ(Write(std::move(update)), absl::OkStatus());
    std::vector<Decision> made;
    for (auto next = state.Decide(); !next.empty(); next = state.Decide()) {
      Update decision;
      *decision.mutable_decision() = next.front();
      made.push_back(next.front());
      EXPECT_EQ(Write(std::move(decision)), absl::OkStatus());
      if (made.size() > 100) {
        ADD_FAILURE() << "deciding does not end";
        break;
      }
    }
    return made;
  }
  absl::Status Write(Update update) {
    update.set_seq(state.last_seq() + 1);
    update.set_time(now);
    absl::Status applied = state.Apply(update);
    if (applied.ok()) updates.push_back(std::move(update));
    return applied;
  }

  void GrantAll() {
    Update update;
    update.mutable_granted()->set_through_step(state.final_step());
    Fact(std::move(update));
  }
  void Join(int rank) {
    Update update;
    update.mutable_worker_joined()->set_rank(rank);
    update.mutable_worker_joined()->set_incarnation(state.incarnation());
    update.mutable_worker_joined()->set_host("node1");
    update.mutable_worker_joined()->set_pid(4242);
    Fact(std::move(update));
  }
  std::vector<Decision> Leave(int rank, const std::string& why, bool lost) {
    Update update;
    update.mutable_worker_left()->set_rank(rank);
    update.mutable_worker_left()->set_incarnation(state.incarnation());
    update.mutable_worker_left()->set_why(why);
    update.mutable_worker_left()->set_lost(lost);
    return Fact(std::move(update));
  }
  std::vector<Decision> Evaluate(const EvaluationResult& result) {
    Update update;
    *update.mutable_evaluated() = result;
    return Fact(std::move(update));
  }
  std::vector<Decision> AskToStop(bool signal) {
    Update update;
    update.mutable_stop_requested()->set_by(signal ? "SIGINT to lockstep run" : "lockstep stop");
    update.mutable_stop_requested()->set_signal(signal);
    update.mutable_stop_requested()->set_step(5);
    return Fact(std::move(update));
  }
  std::vector<Decision> AskForCheckpoint() {
    Update update;
    update.mutable_checkpoint_requested()->set_by("lockstep checkpoint");
    return Fact(std::move(update));
  }
  std::vector<Decision> Due(int64_t step) {
    Update update;
    update.mutable_checkpoint_due()->set_step(step);
    return Fact(std::move(update));
  }
  void Commit(int64_t step) {
    Update update;
    update.mutable_checkpoint_committed()->set_step(step);
    Fact(std::move(update));
  }
  std::vector<Decision> Fail(int64_t step, int rank, const std::string& what, bool non_finite = false) {
    Update update;
    update.mutable_failed()->set_step(step);
    update.mutable_failed()->set_rank(rank);
    update.mutable_failed()->set_what(what);
    update.mutable_failed()->set_non_finite(non_finite);
    return Fact(std::move(update));
  }
  void End() {
    Update update;
    update.mutable_run_ended()->set_exit_code(state.ExitCode());
    update.mutable_run_ended()->set_seconds(10);
    Fact(std::move(update));
  }
  // The next incarnation, from the checkpoint of `cursor`.
  std::vector<Decision> Resume(const CheckpointState& from, const RunConfig& config) {
    RunStarted started = Started(config);
    started.set_incarnation(state.incarnation() + 1);
    started.set_resumed(true);
    *started.mutable_from() = from;
    Update update;
    *update.mutable_run_started() = started;
    return Fact(std::move(update));
  }

  RunState state;
  std::vector<Update> updates;
  double now = 1000;
};

inline Cursor CursorAt(int64_t step, bool evaluated) {
  Cursor cursor;
  cursor.set_step(step);
  cursor.set_evaluated(evaluated);
  return cursor;
}

// "stop/patience checkpoint/best": kinds and rules, in order.
inline std::string Rules(const std::vector<Decision>& decisions) {
  std::string rules;
  for (const Decision& decision : decisions) {
    absl::StrAppend(&rules, rules.empty() ? "" : " ", decision.kind(), "/", decision.rule());
  }
  return rules;
}

}  // namespace lockstep
