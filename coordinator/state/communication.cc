#include "coordinator/state/communication.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

constexpr int kMaxWays = 64, kMaxMeasured = 1024, kMaxParameters = 1 << 20;
constexpr size_t kMaxWord = 32, kMaxSaid = 1000;

absl::Status Wrong(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("a choice of communication with ", what));
}

// It becomes a name in run.db.
bool IsWord(const std::string& text) {
  return !text.empty() && text.size() <= kMaxWord &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_islower(c) || c == '_'; });
}

}  // namespace

absl::Status CheckChoice(const CommunicationChosen& chosen) {
  const std::string& structure = chosen.structure();
  if (structure != "shared" && structure != "hierarchical" && structure != "replicated") {
    return Wrong("a structure of no known name");
  }
  if (chosen.said().size() > kMaxSaid || !IsWord(chosen.source())) return Wrong("words that are none");
  if (chosen.ways_size() > kMaxWays || chosen.measured_size() > kMaxMeasured) return Wrong("too many sizes");
  int64_t last = 0;
  for (const CommunicationChosen::Way& way : chosen.ways()) {
    if (way.up_to_bytes() <= last || !IsWord(way.algorithm())) return Wrong("ways that do not ascend, or have no name");
    last = way.up_to_bytes();
  }
  for (const CommunicationChosen::Measured& one : chosen.measured()) {
    const bool time = std::isfinite(one.seconds()) && one.seconds() >= 0;
    if (one.bytes() <= 0 || !time || !IsWord(one.algorithm())) return Wrong("a time that is none");
  }
  if (chosen.gradient_order_size() > kMaxParameters) return Wrong("too many parameters");
  for (const int parameter : chosen.gradient_order()) {
    if (parameter < 0 || parameter >= chosen.gradient_order_size()) return Wrong("an order of gradients that is none");
  }
  return absl::OkStatus();
}

}  // namespace lockstep
