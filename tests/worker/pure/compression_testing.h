#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/support/thread_collectives.h"
#include "worker/comm/compression.h"

// Ranks as threads that sum gradients through a compressor, step by step, several ranges under way at once.
namespace lockstep {

// One rank alone, with one range.
class OneRank {
 public:
  OneRank(const CompressionOptions& options, int64_t elements, const std::vector<GradientMatrix>& matrices = {});
  // False: it failed.
  bool Step(std::vector<float>* gradients);
  std::vector<float> residual();
  Compressor* compressor() { return compressor_.get(); }

 private:
  ThreadGroup group_{1};
  const std::unique_ptr<Collectives> collectives_;
  const std::unique_ptr<Compressor> compressor_;
};

struct Part {
  int64_t first = 0, count = 0;
};

// An array of kOddElements in ranges that cut matrices, with parameters that are no matrices in between.
constexpr int64_t kOddElements = 5000;
std::vector<GradientMatrix> OddMatrices();
std::vector<Part> OddRanges();

float GradientOf(int rank, int64_t step, int64_t i);

// What came of it.
struct Story {
  int world = 0;
  int64_t steps = 0;
  int64_t wire_bytes = 0;                         // of rank 0's last step
  std::vector<std::vector<float>> applied;        // by rank: of the last step
  std::vector<std::vector<double>> applied_sums;  // by rank: of all steps
  std::vector<std::vector<float>> residuals;      // by rank; empty if it has none
};
Story TellStory(const CompressionOptions& options, int world, const std::vector<GradientMatrix>& matrices,
                int64_t steps);

// All ranks applied the same bits.
void ExpectRanksAgree(const Story& story);
// What was applied and what is held back are the sum of all gradients.
void ExpectNothingLost(const Story& story, double tolerance);

}  // namespace lockstep
