#include "worker/comm/named_ranks.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"

namespace lockstep {
namespace {

constexpr size_t kMostNamed = 8;
constexpr absl::string_view kPayload = "lockstep/ranks";  // numbers with commas

}  // namespace

std::string RankList(absl::Span<const int> ranks) {
  const size_t named = std::min(ranks.size(), kMostNamed);
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks.subspan(0, named), ", "),
                      ranks.size() > named ? absl::StrCat(" and ", ranks.size() - named, " more") : "");
}

absl::Status WithRanks(absl::Status status, absl::Span<const int> ranks) {
  if (!ranks.empty()) status.SetPayload(kPayload, absl::Cord(absl::StrJoin(ranks, ",")));
  return status;
}

std::vector<int> NamedRanks(const absl::Status& status) {
  std::vector<int> ranks;
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  if (!payload.has_value()) return ranks;
  const std::string text(*payload);
  for (const absl::string_view number : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    int rank = 0;
    if (absl::SimpleAtoi(number, &rank)) ranks.push_back(rank);
  }
  return ranks;
}

}  // namespace lockstep
