#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "worker/comm/ways.h"

namespace lockstep {

// What one way took for an all-reduce of one size.
struct WayTime {
  int64_t bytes = 0;
  Way way = Way::kLibrary;
  double seconds = 0;   // the lower median of its rounds
  bool chosen = false;  // at this size
};

// Which way is the fastest at which size, out of as few rounds as settle it. Pure: says what is to be measured next and
// is told what it took, the same on all ranks, so that all of them decide the same.
//
// A size is measured in rounds, in each of which every way that is still in question is taken once. Of a way's rounds
// the lower median counts: what the first one pays for connections and fresh memory is left out as soon as there is a
// second. Ways far behind are dropped; the gather and the doubling, which send more than the others, for all larger
// sizes too.
//
// Time bounds it: a round begins only if what it will take, by the last one, fits. So the sizes on a slow link are
// those that fit, and what is larger than all of them goes in a ring: where a MiB takes a tenth of a second nothing but
// the link's bandwidth counts, of which a ring uses the most (the figures are in the design).
//
// Ours are preferred: they add up in an order of ours. The library's is repeatable as far as is known (the MPI standard
// asks for it in advice, and a library may choose its algorithm by what it finds), so it has to be faster by a fifth.
class WayTrial {
 public:
  struct Options {
    std::vector<int64_t> sizes = {2 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20};  // ascending
    double budget_s = 0.8;
    int world = 2;
  };
  WayTrial() : WayTrial(Options()) {}
  explicit WayTrial(Options options);

  struct Round {
    int64_t bytes = 0;
    std::vector<Way> ways;
  };
  // Empty: all is settled.
  std::optional<Round> Next() const;
  // What the ways of Next() took, and how long all has taken since the start; each of them over all ranks.
  void Took(const std::vector<double>& seconds, double elapsed_s);

  // By size, then in the order of the ways: all that was measured, with the choice.
  std::vector<WayTime> Times() const;
  // For all sizes; RingWays if nothing was measured.
  WayTable Table() const;

 private:
  static constexpr size_t kLeastRounds = 3, kMostRounds = 9;

  struct Measured {  // of one size, by way
    std::array<std::vector<double>, kWays> seconds;
  };
  double Median(size_t size, Way way) const;
  std::optional<Way> Best(size_t size) const;
  bool Settled() const;
  double Predicted(const std::vector<Way>& ways) const;
  void NextSize();

  Options options_;
  std::vector<Measured> measured_;  // by size, those begun
  std::vector<Way> in_question_;    // at the last of them
  std::vector<Way> lost_;           // for all larger sizes
  bool over_ = false;
  double elapsed_s_ = 0;
  double size_began_s_ = 0;
};

}  // namespace lockstep
