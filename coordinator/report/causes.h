#pragma once

#include <vector>

#include "coordinator/report/late_ranks.h"
#include "coordinator/report/step_model.h"
#include "lockstep/report.pb.h"

namespace lockstep {

// What may hold steps up, one cause at a time, and what each step would be without it. Pure.

// The words of Finding.
constexpr char kComputeBound[] = "compute-bound", kCommunicationBound[] = "communication-bound";
constexpr char kInputBound[] = "input-bound", kStragglerBound[] = "straggler-bound";
constexpr char kPersistent[] = "persistent", kRotating[] = "rotating";

// A cause is noticeable if it costs this share of a step; less (kNoticeableLate), of late ranks, which have been told
// from chance, and of waiting for data, which is seen as such.
constexpr double kNoticeable = 0.1, kNoticeableInput = 0.05;

struct Cause {
  Finding finding;             // without what it saves
  std::vector<double> saving;  // by step of the model

  double noticeable() const;  // the share of a step
  double total() const;       // that it saves, in seconds
  // Adds what `more` saves, step by step.
  void Add(const Cause& more);
};

// Each takes a cause out of `model` and says what that saves. Who waits for data is held up by them: what else gets
// shorter there, it waits longer.

// These late ranks brought to where the others are.
Cause TakeLateRanks(const std::vector<LateRank>& group, std::vector<ModelStep>* model);

// Waiting for data; of the ranks that wait, if they are half of all at most.
Cause TakeInput(std::vector<ModelStep>* model);

// The transfer.
Cause TakeCommunication(std::vector<ModelStep>* model);

// Another rank each time: the last of a step, late by what a last one is, typically, against the median of the others;
// so that what is left without it is as uneven as ranks are without a fault. None, if it is one rank nearly always.
std::vector<LateRank> FindLastOnes(const std::vector<ModelStep>& model);
Cause TakeLastOnes(const std::vector<LateRank>& last_ones, std::vector<ModelStep>* model);

// Computing that takes longer than in `others`, of the same run, or, if those are too few, than in the faster ones of
// `steps`, on all ranks, but for what these are `late`: a processor that is slowed down or shared shows as that alone.
// By step that has ranks.
std::vector<double> FindSlowerComputing(std::vector<StepTimes> steps, const std::vector<StepTimes>& others,
                                        const std::vector<LateRank>& late);
Cause TakeSlowerComputing(const std::vector<double>& slower_s, std::vector<ModelStep>* model);

}  // namespace lockstep
