// plan_order SAMPLES GLOBAL_BATCH SEED WORLD STEPS: prints the ids of every step and rank, a line each, for a peer that
// is to train on the same samples in the same order.
#include <cstdio>
#include <cstdlib>

#include "common/data/plan.h"

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  const lockstep::MinibatchPlan plan(atoll(argv[1]), atoll(argv[2]), strtoull(argv[3], nullptr, 10), /*shuffle=*/true);
  const int world = atoi(argv[4]);
  for (int64_t step = 1; step <= atoll(argv[5]); ++step) {
    for (int rank = 0; rank < world; ++rank) {
      for (int64_t id : plan.Slice(step, rank, world)) printf("%lld ", static_cast<long long>(id));
      printf("\n");
    }
  }
}
