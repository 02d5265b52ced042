#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lockstep/journal.pb.h"

namespace lockstep {

// `communication.bucket_tuning: auto`: finds the bucket size with the shortest step by hill climbing, from the one that
// is set in factors of 2, down first, then up. Pure: what it decides follows from the times that it was told.
//
// Two sizes are compared in blocks of steps in turn (A B A B …), so that what drifts falls on both. What counts is the
// difference of their medians, with an error out of the scatter inside the blocks (the median's standard error, 1.2533
// MAD-sigmas over the root of n) and of the difference between one pair of blocks and the next. A size is taken for
// better when its gain is at least 1% and more than three errors; it is left when the error has become so small that it
// can't be, or after four pairs. So noise is not chased, and it stops: at the first size, each way, that is not better.
class BucketTuner {
 public:
  static constexpr int kBlockSteps = 25;

  explicit BucketTuner(double start_mb) : start_mb_(start_mb), best_mb_(start_mb), in_force_mb_(start_mb) {}
  // Begins anew in mid-training, at `step`, with the size that is in force there; its reach is that of `start_mb`.
  static BucketTuner Anew(double start_mb, double in_force_mb, int64_t step);

  // The size whose times are due; its first block comes without a move.
  double in_force_mb() const { return in_force_mb_; }
  bool over() const { return over_; }

  void Measured(const BucketsMeasured& block);

  // What is to be done now; nothing while a block is due, or when it is over.
  struct Move {
    double bucket_mb = 0;
    int measure_steps = 0;  // 0: it is over
    std::string reason;
  };
  const std::optional<Move>& next() const { return next_; }
  // It has been decided.
  void Moved();

 private:
  using Blocks = std::vector<std::vector<double>>;
  struct Comparison {
    double best_s = 0, other_s = 0;       // medians
    double change = 0, change_error = 0;  // of the other, as a share of the best's
  };
  Comparison Compare() const;
  void Judge();
  void Try(double bucket_mb, const std::string& why);
  void Turn();
  void Finish();
  bool InReach(double bucket_mb) const;
  static std::string Describe(double from_mb, double to_mb, const Comparison& comparison);

  double start_mb_;
  double best_mb_, other_mb_ = 0, in_force_mb_;
  double factor_ = 0.5;
  bool climbed_ = false;  // this way
  bool over_ = false;
  Blocks best_, other_;
  std::vector<std::string> gains_, losses_;  // in words
  std::optional<Move> next_;
};

}  // namespace lockstep
