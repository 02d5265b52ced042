// How far two cores are from each other: nanoseconds in which one line of memory goes from the first core that this
// process may use to the second and back, the best of some bursts. About 100 where the two share a cache, several times
// that where they do not. A virtual machine's host may move its cores, so that it changes while one looks.
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <limits>
#include <thread>
#include <vector>

namespace {

constexpr int kBursts = 60, kTurns = 2000;

alignas(128) std::atomic<int> line{0};  // even: the first core's turn
std::atomic<bool> over{false};

std::vector<int> OwnCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

void StayOn(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

void GiveBack(int core) {
  StayOn(core);
  while (!over.load(std::memory_order_relaxed)) {
    const int turn = line.load();
    if (turn % 2 == 1) line.store(turn + 1);
  }
}

double BurstNanos() {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kTurns; ++i) {
    const int turn = line.load() + 1;
    line.store(turn);
    while (line.load() == turn) {
    }
  }
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / kTurns;
}

}  // namespace

int main() {
  const std::vector<int> cores = OwnCores();
  if (cores.size() < 2) {
    std::fprintf(stderr, "core_distance: this process may use one core only\n");
    return 1;
  }
  std::thread other(GiveBack, cores[1]);
  StayOn(cores[0]);
  double best = std::numeric_limits<double>::infinity();
  for (int burst = 0; burst < kBursts; ++burst) best = std::min(best, BurstNanos());
  over = true;
  other.join();
  std::printf("%.0f\n", best);
  return 0;
}
