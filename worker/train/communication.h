#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/journal.pb.h"
#include "lockstep/run_config.pb.h"
#include "worker/comm/way_trial.h"
#include "worker/comm/ways.h"

namespace lockstep {

// How the ranks keep their parameters and come by each other's gradients.
enum class Structure {
  kReplicated,    // each rank has its own, and sends messages
  kShared,        // the ranks, all on one host, share one replica in a window
  kHierarchical,  // one replica a host in its window, rings between the hosts
};
std::string StructureName(Structure structure);  // "replicated" …

// What the structure follows from; the same on all ranks.
struct CommunicationFacts {
  Algorithm asked = ALGORITHM_AUTO;
  int period = 1;
  std::vector<int> ranks_of_host;  // a number a host
  std::string before;              // the structure of the launch that this one goes on from; empty: there was none
};

// Whether the ranks are to make windows; all of them, or none.
bool WantsWindow(const CommunicationFacts& facts);

struct StructureChoice {
  Structure structure = Structure::kReplicated;
  std::string said;  // one line: what, and why; if a window was wanted and is not there, what mends that
};
// `window`: why there is none on some host; OK: there is one on each, or none was wanted.
StructureChoice ChooseStructure(const CommunicationFacts& facts, const absl::Status& window);

// The same table as a message. Ways takes what comes from a file or over the wire: InvalidArgument says what is wrong.
void SetWays(const WayTable& ways, CommunicationChosen* chosen);
absl::StatusOr<WayTable> Ways(const CommunicationChosen& chosen);
void SetMeasured(const std::vector<WayTime>& times, CommunicationChosen* chosen);
// A line a size: "16 KiB: gather 0.41 ms; direct 0.7, ring 1.9, mpi 0.62".
std::vector<std::string> DescribeMeasured(const CommunicationChosen& chosen);

}  // namespace lockstep
