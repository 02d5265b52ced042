#include "worker/bench/sizes.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace lockstep {
namespace {

constexpr int64_t kElementBytes = 4;
constexpr int64_t kMostBytes = int64_t{64} << 30;

}  // namespace

std::vector<int64_t> DeepBenchCounts() { return {100000, 3097600, 4194304, 6553600, 16777217, 38360000, 64500000}; }

absl::StatusOr<int64_t> ParseBytes(const std::string& text) {
  absl::string_view number = text;
  int shift = 0;
  if (!number.empty()) {
    const char last = number.back();
    if (last == 'K' || last == 'k') shift = 10;
    if (last == 'M' || last == 'm') shift = 20;
    if (last == 'G' || last == 'g') shift = 30;
    if (shift > 0) number.remove_suffix(1);
  }
  int64_t bytes = 0;
  const bool digits = std::all_of(number.begin(), number.end(), absl::ascii_isdigit);  // SimpleAtoi takes spaces too
  if (!digits || !absl::SimpleAtoi(number, &bytes) || bytes > kMostBytes >> shift) {
    return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no size; write bytes, as 65536, 64K, 25M or 1G"));
  }
  return bytes << shift;
}

absl::StatusOr<std::vector<int64_t>> ListedCounts(const std::string& sizes) {
  std::vector<int64_t> counts;
  for (const absl::string_view size : absl::StrSplit(sizes, ',')) {
    const absl::StatusOr<int64_t> bytes = ParseBytes(std::string(size));
    if (!bytes.ok()) return absl::InvalidArgumentError(absl::StrCat("--sizes: ", bytes.status().message()));
    if (*bytes < kElementBytes) return absl::InvalidArgumentError("--sizes: at least 4 bytes, one float32");
    counts.push_back(*bytes / kElementBytes);
  }
  return counts;
}

absl::StatusOr<std::vector<int64_t>> SweepCounts(const std::string& min, const std::string& max, double factor) {
  const absl::StatusOr<int64_t> first = ParseBytes(min), last = ParseBytes(max);
  if (!first.ok()) return absl::InvalidArgumentError(absl::StrCat("--min: ", first.status().message()));
  if (!last.ok()) return absl::InvalidArgumentError(absl::StrCat("--max: ", last.status().message()));
  if (*first < kElementBytes) return absl::InvalidArgumentError("--min: at least 4 bytes, one float32");
  if (*last < *first) return absl::InvalidArgumentError(absl::StrCat("--max: ", max, " is less than --min ", min));
  if (!(factor >= 1.1)) return absl::InvalidArgumentError("--factor: at least 1.1");
  std::vector<int64_t> counts;
  for (double bytes = static_cast<double>(*first); bytes <= static_cast<double>(*last) * (1 + 1e-9); bytes *= factor) {
    const int64_t count = static_cast<int64_t>(bytes) / kElementBytes;
    if (counts.empty() || count > counts.back()) counts.push_back(count);
  }
  return counts;
}

}  // namespace lockstep
