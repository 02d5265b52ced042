#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lockstep {

// `lockstep-worker --bench allreduce`, under mpirun, without a coordinator.
struct BenchFlags {
  std::string what;
  std::string algorithms;  // with commas; empty: all that are to be had
  std::string sizes = "deepbench", min, max;
  double factor = 2, seconds = 0.5, timeout = 60;
  bool json = false;
  bool check_only = false;  // says what is wrong with the flags, and measures nothing
  std::string segment;      // of MpiOptions, as a size
};

void AddBenchFlags(CLI::App* app, BenchFlags* flags);
// Does not return. Exit codes: 0; 1 a sum was wrong, or a rank did not come in time; 2 bad flags.
[[noreturn]] void RunBench(const BenchFlags& flags, int* argc, char*** argv);

}  // namespace lockstep
