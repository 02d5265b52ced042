#include "worker/train/communication.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lockstep {
namespace {

int Hosts(const CommunicationFacts& facts) { return static_cast<int>(facts.ranks_of_host.size()); }

int Ranks(const CommunicationFacts& facts) {
  return std::accumulate(facts.ranks_of_host.begin(), facts.ranks_of_host.end(), 0);
}

bool SomeShareAHost(const CommunicationFacts& facts) {
  return std::any_of(facts.ranks_of_host.begin(), facts.ranks_of_host.end(), [](int ranks) { return ranks > 1; });
}

// If windows are there.
Structure Wanted(const CommunicationFacts& facts) {
  if (facts.asked == ALGORITHM_MPI || facts.asked == ALGORITHM_RING || Ranks(facts) == 1) return Structure::kReplicated;
  if (facts.period > 1 || facts.before == StructureName(Structure::kReplicated)) return Structure::kReplicated;
  if (Hosts(facts) == 1) return Structure::kShared;
  if (facts.asked == ALGORITHM_HIERARCHICAL) return Structure::kHierarchical;
  // Asked for on several hosts, a window is tried for and its absence told.
  if (facts.asked == ALGORITHM_SHARED) return Structure::kShared;
  return SomeShareAHost(facts) ? Structure::kHierarchical : Structure::kReplicated;
}

std::string WhyMessages(const CommunicationFacts& facts, const absl::Status& window) {
  if (!window.ok()) return absl::StrCat("no window is to be had: ", window.message());
  if (facts.period > 1) {
    return absl::StrCat("with communication.period ", facts.period, " each rank has parameters of its own");
  }
  if (facts.before == StructureName(Structure::kReplicated)) return "they were so before";
  return absl::StrCat("the ranks are on ", Hosts(facts), " hosts, one on each");
}

std::string Say(const CommunicationFacts& facts, Structure structure, const absl::Status& window) {
  switch (structure) {
    case Structure::kShared:
      return absl::StrCat("shared, one replica in memory for the ", Ranks(facts), " ranks of this host");
    case Structure::kHierarchical:
      return absl::StrCat("hierarchical, one replica in memory for the ranks of each of ", Hosts(facts),
                          " hosts, rings between them");
    case Structure::kReplicated:
      break;
  }
  if (facts.asked == ALGORITHM_MPI) return "messages by the MPI library, as communication.algorithm asks";
  if (facts.asked == ALGORITHM_RING) return "messages in rings, as communication.algorithm asks";
  return absl::StrCat("messages, since ", WhyMessages(facts, window));
}

}  // namespace

std::string StructureName(Structure structure) {
  switch (structure) {
    case Structure::kReplicated:
      return "replicated";
    case Structure::kShared:
      return "shared";
    case Structure::kHierarchical:
      return "hierarchical";
  }
  return "";
}

bool WantsWindow(const CommunicationFacts& facts) { return Wanted(facts) != Structure::kReplicated; }

StructureChoice ChooseStructure(const CommunicationFacts& facts, const absl::Status& window) {
  StructureChoice choice;
  if (window.ok()) choice.structure = Wanted(facts);
  choice.said = absl::StrCat("communication: ", Say(facts, choice.structure, window));
  if (!facts.before.empty() && facts.before != StructureName(choice.structure)) {
    absl::StrAppend(&choice.said, "; it was ", facts.before,
                    " before, so that this launch need not repeat what that one would have done bit by bit");
  }
  return choice;
}

void SetWays(const WayTable& ways, CommunicationChosen* chosen) {
  chosen->clear_ways();
  for (const WayUpTo& up_to : ways) {
    CommunicationChosen::Way* const way = chosen->add_ways();
    way->set_up_to_bytes(up_to.bytes);
    way->set_algorithm(std::string(WayName(up_to.way)));
  }
}

absl::StatusOr<WayTable> Ways(const CommunicationChosen& chosen) {
  WayTable table;
  for (const CommunicationChosen::Way& told : chosen.ways()) {
    const std::optional<Way> way = WayOfName(told.algorithm());
    if (!way) return absl::InvalidArgumentError(absl::StrCat("an all-reduce by '", told.algorithm(), "'"));
    if (told.up_to_bytes() <= (table.empty() ? 0 : table.back().bytes)) {
      return absl::InvalidArgumentError("sizes of all-reduces that do not ascend");
    }
    table.push_back({told.up_to_bytes(), *way});
  }
  if (table.empty()) return absl::InvalidArgumentError("no way for an all-reduce");
  return table;
}

void SetMeasured(const std::vector<WayTime>& times, CommunicationChosen* chosen) {
  chosen->clear_measured();
  for (const WayTime& time : times) {
    CommunicationChosen::Measured* const measured = chosen->add_measured();
    measured->set_bytes(time.bytes);
    measured->set_algorithm(std::string(WayName(time.way)));
    measured->set_seconds(time.seconds);
    measured->set_chosen(time.chosen);
  }
}

std::vector<std::string> DescribeMeasured(const CommunicationChosen& chosen) {
  std::map<int64_t, std::string> best, others;
  for (const CommunicationChosen::Measured& measured : chosen.measured()) {
    const std::string took = absl::StrFormat("%s %.3g", measured.algorithm(), measured.seconds() * 1e3);
    if (measured.chosen()) {
      best[measured.bytes()] = absl::StrCat(took, " ms");
    } else {
      std::string& line = others[measured.bytes()];
      absl::StrAppend(&line, line.empty() ? "; " : ", ", took);
    }
  }
  std::vector<std::string> lines;
  for (const auto& [bytes, took] : best) lines.push_back(absl::StrCat(DescribeBytes(bytes), ": ", took, others[bytes]));
  return lines;
}

}  // namespace lockstep
