#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

// float32 counts of DeepBench's all-reduce benchmark (Baidu Research, 2016).
std::vector<int64_t> DeepBenchCounts();

// "64", "4K", "25M", "1G": bytes, in powers of 1024. InvalidArgument.
absl::StatusOr<int64_t> ParseBytes(const std::string& text);

// float32 counts of sizes with commas between: "64K,25M". InvalidArgument, about --sizes.
absl::StatusOr<std::vector<int64_t>> ListedCounts(const std::string& sizes);

// As nccl-tests sweeps: from `min` to `max` bytes, each `factor` times the one before; float32 counts. InvalidArgument
// says which of the three is wrong.
absl::StatusOr<std::vector<int64_t>> SweepCounts(const std::string& min, const std::string& max, double factor);

}  // namespace lockstep
