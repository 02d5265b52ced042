#include "worker/comm/ways.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lockstep {
namespace {

constexpr std::array<std::pair<Way, absl::string_view>, kWays> kNames = {{{Way::kLibrary, "mpi"},
                                                                          {Way::kGather, "gather"},
                                                                          {Way::kDoubling, "doubling"},
                                                                          {Way::kDirect, "direct"},
                                                                          {Way::kRing, "ring"}}};

constexpr int64_t kDoubledBytes = 32 << 10;
constexpr int64_t kRingFromBytes = 2 << 20;

}  // namespace

absl::string_view WayName(Way way) {
  return std::find_if(kNames.begin(), kNames.end(), [&](const auto& named) { return named.first == way; })->second;
}

std::optional<Way> WayOfName(absl::string_view name) {
  for (const auto& [way, its_name] : kNames) {
    if (name == its_name) return way;
  }
  return std::nullopt;
}

Way FindWay(const WayTable& ways, int64_t bytes) {
  for (const WayUpTo& up_to : ways) {
    if (bytes <= up_to.bytes) return up_to.way;
  }
  return ways.back().way;
}

WayTable RingWays() {
  return {{kDoubledBytes, Way::kDoubling}, {kRingFromBytes - 1, Way::kDirect}, {kAnySize, Way::kRing}};
}

std::string DescribeBytes(int64_t bytes) {
  if (bytes >= 1 << 30) return absl::StrFormat("%.3g GiB", static_cast<double>(bytes) / (1 << 30));
  if (bytes >= 1 << 20) return absl::StrFormat("%.3g MiB", static_cast<double>(bytes) / (1 << 20));
  return absl::StrFormat("%.3g KiB", static_cast<double>(bytes) / (1 << 10));
}

std::string DescribeWays(const WayTable& ways) {
  std::string text;
  for (size_t i = 0; i < ways.size(); ++i) {
    const bool last = i + 1 == ways.size();
    absl::StrAppend(&text, i == 0 ? "" : ", ", WayName(ways[i].way));
    if (!last) absl::StrAppend(&text, " to ", DescribeBytes(ways[i].bytes));
    if (last && i > 0) absl::StrAppend(&text, " above");
  }
  return text;
}

}  // namespace lockstep
