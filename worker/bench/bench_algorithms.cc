#include "worker/bench/bench_algorithms.h"

#include <sched.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/clock.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

class Reference : public BenchAlgorithm {
 public:
  Reference(MpiSession* session, int64_t most_floats) : session_(session), buffer_(most_floats) {}
  const std::string& name() const override { return name_; }
  float* buffer() override { return buffer_.data(); }
  absl::Status Run(int64_t count) override { return session_->BlockingAllReduce({buffer_.data(), size_t(count)}); }

 private:
  MpiSession* const session_;
  const std::string name_ = kReference;
  std::vector<float> buffer_;
};

// Ours, driven as the communication thread does while the trainer stands still for it: without a nap, and without
// holding up the other ranks where there are more of them than cores.
class Ours : public BenchAlgorithm {
 public:
  Ours(std::string name, absl::Duration timeout) : name_(std::move(name)), timeout_(timeout) {}

  absl::Status Open(MpiSession* session, const MpiOptions& options, int64_t most_floats) {
    ASSIGN_OR_RETURN(all_, session->NewCollectives(options));
    ASSIGN_OR_RETURN(const MpiSession::Host host, session->FindHost(timeout_));
    crowded_ = host.ranks().size() > std::thread::hardware_concurrency();
    if (name_ != "shared" && name_ != "hierarchical") {
      own_.resize(most_floats);
      return absl::OkStatus();
    }
    if ((name_ == "shared") != (host.hosts.size() == 1)) {
      return absl::FailedPreconditionError(absl::StrCat("the ranks are on ", host.hosts.size(), " hosts"));
    }
    WindowOptions sizes;
    sizes.rank_bytes = most_floats * static_cast<int64_t>(sizeof(float));
    sizes.timeout = timeout_;
    ASSIGN_OR_RETURN(share_, session->ShareHost(host, sizes, options, all_.get()));
    return absl::OkStatus();
  }

  const std::string& name() const override { return name_; }

  float* buffer() override {
    if (share_.window == nullptr) return own_.data();
    return reinterpret_cast<float*>(share_.window->of(share_.window->index()).data());
  }

  absl::Status Run(int64_t count) override {
    Collectives* const collectives = share_.collectives != nullptr ? share_.collectives.get() : all_.get();
    const absl::Span<std::byte> data(reinterpret_cast<std::byte*>(buffer()), count * sizeof(float));
    ASSIGN_OR_RETURN(std::unique_ptr<Operation> operation, collectives->AllReduce(data, DType::kF32, ReduceOp::kSum));
    const int64_t until_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(timeout_);
    while (true) {
      ASSIGN_OR_RETURN(const bool done, operation->Poll());
      if (done) return absl::OkStatus();
      if (crowded_) sched_yield();
      if (MonotonicNanos() < until_ns) continue;
      operation.release();  // peers may write there still
      return absl::DeadlineExceededError(
          absl::StrCat("the other ranks did not come within ", absl::FormatDuration(timeout_)));
    }
  }

 private:
  const std::string name_;
  const absl::Duration timeout_;
  bool crowded_ = false;
  std::vector<float> own_;
  std::unique_ptr<Collectives> all_;
  MpiSession::Share share_;
};

}  // namespace

std::vector<std::string> BenchAlgorithmNames() {
  return {"mpi", "ring", "shared", "hierarchical", "gather", "direct", "ring-only"};
}

absl::StatusOr<std::unique_ptr<BenchAlgorithm>> NewBenchAlgorithm(const std::string& name, MpiSession* session,
                                                                  const MpiOptions& options, int64_t most_floats,
                                                                  absl::Duration timeout) {
  if (name == kReference) return std::make_unique<Reference>(session, most_floats);
  const std::vector<std::string> names = BenchAlgorithmNames();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--algorithms: no '", name, "'; choose from ", absl::StrJoin(names, ", ")));
  }
  MpiOptions own = options;
  own.ways = name == "mpi" ? LibraryWays() : RingWays(session->world());
  if (name == "gather") own.ways = {{kAnySize, Way::kGather}};
  if (name == "direct") own.ways = {{kAnySize, Way::kDirect}};
  if (name == "ring-only") own.ways = {{kAnySize, Way::kRing}};
  auto ours = std::make_unique<Ours>(name, timeout);
  RETURN_IF_ERROR(ours->Open(session, own, most_floats));
  return ours;
}

}  // namespace lockstep
