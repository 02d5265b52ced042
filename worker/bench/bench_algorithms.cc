#include "worker/bench/bench_algorithms.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/poll_pace.h"
#include "worker/comm/ways.h"

namespace lockstep {
namespace {

class Reference : public BenchAlgorithm {
 public:
  explicit Reference(const BenchGround& ground) : session_(ground.session), buffer_(ground.buffer) {}
  float* buffer() override { return buffer_->data(); }
  absl::Status Run(int64_t count) override {
    return session_->BlockingAllReduce({buffer_->data(), static_cast<size_t>(count)});
  }

 private:
  MpiSession* const session_;
  std::vector<float>* const buffer_;
};

// Ours, over one collectives object.
class Ours : public BenchAlgorithm {
 public:
  static absl::StatusOr<std::unique_ptr<BenchAlgorithm>> Anywhere(const BenchGround& ground,
                                                                  const MpiOptions& options) {
    std::unique_ptr<Ours> ours(new Ours(ground.timeout));
    ASSIGN_OR_RETURN(ours->all_, ground.session->NewCollectives(options));
    ours->collectives_ = ours->all_.get();
    ours->buffer_ = ground.buffer->data();
    return ours;
  }

  // With the buffer in the host's window, where what is reduced has to lie.
  static absl::StatusOr<std::unique_ptr<BenchAlgorithm>> InWindow(const BenchGround& ground, bool one_host) {
    std::unique_ptr<Ours> ours(new Ours(ground.timeout));
    MpiOptions options = ground.options;
    options.ways = RingWays();
    ASSIGN_OR_RETURN(const MpiSession::Host host, ground.session->FindHost(ground.timeout));
    if (one_host && host.hosts.size() > 1) {
      return absl::FailedPreconditionError(absl::StrCat("the ranks are on ", host.hosts.size(), " hosts"));
    }
    ASSIGN_OR_RETURN(ours->all_, ground.session->NewCollectives(options));
    WindowOptions sizes;
    sizes.rank_bytes = static_cast<int64_t>(ground.buffer->size() * sizeof(float));
    sizes.timeout = ground.timeout;
    ASSIGN_OR_RETURN(ours->share_, ground.session->ShareHost(host, sizes, options, ours->all_.get()));
    ours->collectives_ = ours->share_.collectives.get();
    ours->buffer_ = reinterpret_cast<float*>(ours->share_.window->of(ours->share_.window->index()).data());
    return ours;
  }

  float* buffer() override { return buffer_; }

  absl::Status Run(int64_t count) override {
    const absl::Span<std::byte> data(reinterpret_cast<std::byte*>(buffer_), count * sizeof(float));
    ASSIGN_OR_RETURN(std::unique_ptr<Operation> operation, collectives_->AllReduce(data, DType::kF32, ReduceOp::kSum));
    return Drive(std::move(operation), timeout_);
  }

 private:
  explicit Ours(absl::Duration timeout) : timeout_(timeout) {}

  const absl::Duration timeout_;
  std::unique_ptr<Collectives> all_;
  MpiSession::Share share_;
  Collectives* collectives_ = nullptr;  // of the two above
  float* buffer_ = nullptr;
};

BenchAlgorithmKind Anywhere(std::string name, bool usual, WayTable ways) {
  BenchAlgorithmKind kind;
  kind.name = std::move(name);
  if (usual) kind.usual = [](int) { return true; };
  kind.make = [ways = std::move(ways)](const BenchGround& ground) {
    MpiOptions options = ground.options;
    options.ways = ways;
    return Ours::Anywhere(ground, options);
  };
  return kind;
}

// A part of `ring`, to see from which sizes on it pays.
BenchAlgorithmKind Part(std::string name, Way way) { return Anywhere(std::move(name), false, {{kAnySize, way}}); }

}  // namespace

absl::Status Drive(std::unique_ptr<Operation> operation, absl::Duration timeout) {
  int64_t before_ns = MonotonicNanos(), idle_polls = 0;
  const int64_t until_ns = before_ns + absl::ToInt64Nanoseconds(timeout);
  while (true) {
    ASSIGN_OR_RETURN(const bool done, operation->Poll());
    if (done) return absl::OkStatus();
    int64_t now_ns = MonotonicNanos();
    if (now_ns > until_ns) {
      operation.release();
      return absl::DeadlineExceededError(
          absl::StrCat("the other ranks did not come within ", absl::FormatDuration(timeout)));
    }
    idle_polls = now_ns - before_ns > kBusyPollNanos ? 0 : idle_polls + 1;
    if (idle_polls > 0) {
      PauseBetweenPolls(idle_polls);
      now_ns = MonotonicNanos();
    }
    before_ns = now_ns;
  }
}

BenchAlgorithmKind ReferenceAlgorithm() {
  return {"MPI_Allreduce", [](int) { return true; },
          [](const BenchGround& ground) { return std::make_unique<Reference>(ground); }};
}

std::vector<BenchAlgorithmKind> BenchAlgorithms() {
  return {Anywhere("mpi", true, LibraryWays()),
          Anywhere("ring", true, RingWays()),
          {"shared", [](int hosts) { return hosts == 1; },
           [](const BenchGround& ground) { return Ours::InWindow(ground, /*one_host=*/true); }},
          {"hierarchical", [](int hosts) { return hosts > 1; },
           [](const BenchGround& ground) { return Ours::InWindow(ground, /*one_host=*/false); }},
          Part("gather", Way::kGather),
          Part("doubling", Way::kDoubling),
          Part("direct", Way::kDirect),
          Part("ring-only", Way::kRing)};
}

absl::StatusOr<std::vector<BenchAlgorithmKind>> NamedAlgorithms(const std::vector<std::string>& names) {
  const std::vector<BenchAlgorithmKind> all = BenchAlgorithms();
  std::vector<BenchAlgorithmKind> named;
  for (const std::string& name : names) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const BenchAlgorithmKind& kind) { return kind.name == name; });
    if (found == all.end()) {
      const auto append_name = [](std::string* out, const BenchAlgorithmKind& kind) { out->append(kind.name); };
      return absl::InvalidArgumentError(
          absl::StrCat("--algorithms: no '", name, "'; choose from ", absl::StrJoin(all, ", ", append_name)));
    }
    named.push_back(*found);
  }
  return named;
}

}  // namespace lockstep
