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
    options.ways = asked_ == ALGORITHM_MPI ? LibraryWays() : RingWays(session_->world());
    ASSIGN_OR_RETURN(made_.collectives, session_->NewCollectives(options));
    ASSIGN_OR_RETURN(host_, session_->FindHost(timeout_));
    CommunicationFacts facts;
    facts.asked = asked_;
    facts.period = run_.config().communication().period();
    for (const MpiSession::Host::HostRanks& host : host_.all) facts.ranks_of_host.push_back(host.ranks);
    facts.before = run_.communication().structure();
    absl::Status window;
    if (WantsWindow(facts)) {
      RETURN_IF_ERROR(OpenWindow(sizes, &window));
    }
    const StructureChoice choice = ChooseStructure(facts, window);
    made_.chosen.set_incarnation(run_.incarnation());
    made_.chosen.set_world(session_->world());
    made_.chosen.set_structure(StructureName(choice.structure));
    const bool again = asked_ == ALGORITHM_AUTO && facts.before == StructureName(choice.structure);
    made_.chosen.set_source(again ? "resume" : "setting");
    if (choice.structure == Structure::kReplicated) {
      SetWays(options.ways, &made_.chosen);
      if (asked_ == ALGORITHM_AUTO) RETURN_IF_ERROR(AgreeOnWays());
    }
    made_.chosen.set_said(choice.said + said_);
    if (session_->rank() == 0) Say();
    return std::move(made_);
  }

 private:
  // `why`: there is no window; OK: there is one on every host.
  absl::Status OpenWindow(const WindowOptions& sizes, absl::Status* why) {
    WindowOptions options = sizes;
    options.timeout = timeout_;
    options.ranks = host_.ranks;
    options.index = host_.index;
    options.name = host_.window_name;
    absl::StatusOr<std::unique_ptr<HostWindow>> window =
        absl::FailedPreconditionError(absl::StrCat("the ranks are on ", host_.hosts, " hosts"));
    if (host_.hosts == 1) window = HostWindow::Open(options);
    ASSIGN_OR_RETURN(const bool everywhere, session_->OnAllRanks(window.ok(), timeout_));
    if (everywhere) {
      made_.window = *std::move(window);
      return absl::OkStatus();
    }
    *why = window.ok() ? absl::FailedPreconditionError("another rank has none, and says why") : window.status();
    if (!window.ok() && session_->rank() != 0 && host_.hosts == 1) say_(std::string(window.status().message()));
    return absl::OkStatus();
  }

  absl::Status AgreeOnWays() {
    CommunicationKey key;
    for (const MpiSession::Host::HostRanks& host : host_.all) {
      key.hosts.push_back(absl::StrCat(host.name, " ", host.ranks));
    }
    key.mpi = session_->library_version();
    key.build = BuildVersion();
    key.structure = made_.chosen.structure();
    const bool leads = session_->rank() == 0;
    const CommunicationCache cache(FileSystem::Real(), leads ? cache_folder_ : "", key);
    ASSIGN_OR_RETURN(const std::string known,
                     ShareFromRank0(made_.collectives.get(), leads ? Known(cache) : "", timeout_));
    if (known.empty()) {
      RETURN_IF_ERROR(Measure());
      if (leads) cache.Keep(made_.chosen).IgnoreError();
    } else {
      made_.chosen.clear_ways();
      if (!made_.chosen.MergeFromString(known)) {
        return absl::InternalError("rank 0's choice of communication cannot be read");
      }
    }
    ASSIGN_OR_RETURN(const WayTable ways, Ways(made_.chosen));
    made_.collectives->SetWays(ways);
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
    options.world = session_->world();
    const int64_t start_ns = MonotonicNanos();
    ASSIGN_OR_RETURN(const WayTrial trial, MeasureWays(made_.collectives.get(), WayTrial(options), timeout_));
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
