#include "worker/communication.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/base/build_info.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/measure_ways.h"
#include "worker/train/communication.h"
#include "worker/train/communication_cache.h"

namespace lockstep {
namespace {

class SetUp {
 public:
  SetUp(MpiSession* session, const GetRunReply& run, const std::string& cache_folder,
        const std::function<void(const std::string&)>& say)
      : session_(session),
        run_(run),
        asked_(run.config().communication().algorithm()),
        timeout_(absl::Seconds(run.config().communication().timeout())),
        cache_folder_(cache_folder),
        say_(say) {}

  absl::StatusOr<CommunicationSetup> Run(const WindowOptions& sizes) {
    // First, since ranks may come here late, and this alone has a deadline for that.
    MpiOptions options;
    options.ways = asked_ == ALGORITHM_MPI ? LibraryWays() : RingWays();
    ASSIGN_OR_RETURN(made_.collectives, session_->NewCollectives(options));
    ASSIGN_OR_RETURN(host_, session_->FindHost(timeout_));
    made_.hosts = static_cast<int>(host_.hosts.size());
    CommunicationFacts facts;
    facts.asked = asked_;
    facts.period = run_.config().communication().period();
    for (const std::vector<int>& ranks : host_.hosts) facts.ranks_of_host.push_back(static_cast<int>(ranks.size()));
    facts.before = run_.communication().structure();
    absl::Status window;
    if (WantsWindow(facts)) window = ShareHost(sizes, options);
    const StructureChoice choice = ChooseStructure(facts, window);
    made_.chosen.set_incarnation(run_.incarnation());
    made_.chosen.set_world(session_->world());
    made_.chosen.set_structure(StructureName(choice.structure));
    const bool again = asked_ == ALGORITHM_AUTO && facts.before == StructureName(choice.structure);
    made_.chosen.set_source(again ? "resume" : "setting");
    RETURN_IF_ERROR(SetWaysBetween(choice.structure, options.ways));
    if (choice.structure == Structure::kShared && run_.config().communication().compression() != COMPRESSION_NONE) {
      absl::StrAppend(&said_, "; nothing is sent between hosts, so nothing is compressed");
    }
    made_.chosen.set_said(choice.said + said_);
    if (session_->rank() == 0) Say();
    return std::move(made_);
  }

 private:
  // Why there is no window; OK: there is one on every host.
  absl::Status ShareHost(const WindowOptions& sizes, const MpiOptions& options) {
    if (made_.hosts > 1 && asked_ == ALGORITHM_SHARED) {
      return absl::FailedPreconditionError(absl::StrCat("the ranks are on ", made_.hosts,
                                                        " hosts; communication.algorithm hierarchical shares on each"));
    }
    WindowOptions own = sizes;
    own.timeout = timeout_;
    absl::StatusOr<MpiSession::Share> share = session_->ShareHost(host_, own, options, made_.collectives.get());
    if (!share.ok()) {
      const bool only_here = host_.index == 0 && session_->rank() != 0 && !absl::IsUnavailable(share.status());
      if (only_here) say_(std::string(share.status().message()));
      return share.status();
    }
    made_.share = *std::move(share);
    return absl::OkStatus();
  }

  // How gradients go between processes, by size: as pinned, or as measured. In one window there is nothing to choose.
  absl::Status SetWaysBetween(Structure structure, const WayTable& pinned) {
    if (structure == Structure::kShared) return absl::OkStatus();
    if (asked_ == ALGORITHM_AUTO) return AgreeOnWays();
    SetWays(pinned, &made_.chosen);
    return absl::OkStatus();
  }

  // What gradients go by; null: this rank sends none.
  Collectives* Between() const {
    return made_.share.window != nullptr ? made_.share.peers.get() : made_.collectives.get();
  }

  absl::Status AgreeOnWays() {
    CommunicationKey key;
    for (size_t host = 0; host < host_.hosts.size(); ++host) {
      key.hosts.push_back(absl::StrCat(host_.names[host], " ", host_.hosts[host].size()));
    }
    key.mpi = session_->library_version();
    key.build = BuildVersion();
    key.structure = made_.chosen.structure();
    const bool leads = session_->rank() == 0;
    const CommunicationCache cache(FileSystem::Real(), leads ? cache_folder_ : "", key);
    Collectives* const all = made_.collectives.get();
    ASSIGN_OR_RETURN(std::string known, ShareFromRank0(all, leads ? Known(cache) : "", timeout_));
    if (known.empty()) {
      if (Between() != nullptr) RETURN_IF_ERROR(Measure());
      if (leads) cache.Keep(made_.chosen).IgnoreError();
      // Groups of peers measure for themselves; that of rank 0 counts.
      ASSIGN_OR_RETURN(known, ShareFromRank0(all, made_.chosen.SerializeAsString(), timeout_));
      made_.chosen.Clear();
    }
    if (!made_.chosen.MergeFromString(known)) {
      return absl::InternalError("rank 0's choice of communication cannot be read");
    }
    ASSIGN_OR_RETURN(const WayTable ways, Ways(made_.chosen));
    if (Between() != nullptr) Between()->SetWays(ways);
    absl::StrAppend(&said_, ": ", DescribeWays(ways), ", ", FromWhere(cache));
    return absl::OkStatus();
  }

  // What an earlier launch or run has measured, and where it is from; empty: nothing.
  std::string Known(const CommunicationCache& cache) const {
    CommunicationChosen known;
    if (made_.chosen.source() == "resume" && Ways(run_.communication()).ok()) {
      known.set_source("resume");
      *known.mutable_ways() = run_.communication().ways();
      *known.mutable_measured() = run_.communication().measured();
    } else if (const std::optional<CommunicationChosen> found = cache.Find()) {
      known = *found;
      known.set_source("cache");
    }
    return known.SerializeAsString();
  }

  absl::Status Measure() {
    WayTrial::Options options;
    options.world = Between()->world();
    const int64_t start_ns = MonotonicNanos();
    ASSIGN_OR_RETURN(const WayTrial trial, MeasureWays(Between(), WayTrial(options), timeout_));
    took_s_ = static_cast<double>(MonotonicNanos() - start_ns) * 1e-9;
    SetWays(trial.Table(), &made_.chosen);
    SetMeasured(trial.Times(), &made_.chosen);
    made_.chosen.set_source("measured");
    return absl::OkStatus();
  }

  std::string FromWhere(const CommunicationCache& cache) const {
    const std::string& source = made_.chosen.source();
    if (source == "measured") return absl::StrFormat("measured in %.2f s", took_s_);
    if (source == "resume") return "as before";
    return absl::StrCat("as an earlier run has measured (remove ", cache.path(), " to measure anew)");
  }

  void Say() const {
    say_(made_.chosen.said());
    if (made_.chosen.source() != "measured") return;
    for (const std::string& line : DescribeMeasured(made_.chosen)) say_(absl::StrCat("all-reduce of ", line));
  }

  MpiSession* const session_;
  const GetRunReply& run_;
  const Algorithm asked_;
  const absl::Duration timeout_;
  const std::string cache_folder_;
  const std::function<void(const std::string&)>& say_;
  MpiSession::Host host_;
  CommunicationSetup made_;
  std::string said_;
  double took_s_ = 0;
};

}  // namespace

absl::StatusOr<CommunicationSetup> SetUpCommunication(MpiSession* session, const GetRunReply& run,
                                                      const WindowOptions& sizes, const std::string& cache_folder,
                                                      const std::function<void(const std::string&)>& say) {
  return SetUp(session, run, cache_folder, say).Run(sizes);
}

}  // namespace lockstep
