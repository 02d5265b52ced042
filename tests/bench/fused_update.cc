// The reduce-and-update of `communication.algorithm: shared` against the time that its bytes take at this machine's
// copy bandwidth, in alternating rounds:
//
//   mpirun -np RANKS build/bin/fused_update [MEGABYTES] [ROUNDS]     by default 80 and 30
//
// All ranks are on one host. The bytes of a pass over S bytes of parameters with SGD and momentum on n ranks: n · S of
// gradients read, parameters and momentum read and written. A round's copy is memcpy of S bytes on every rank at once,
// which reads and writes 2 · n · S. Times are the slowest rank's. Prints medians and the ratio of the pass to its bytes
// with the 95% interval of its geometric mean over the rounds.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/mpi.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);
constexpr int kWarmUp = 3;

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  Bench(MpiSession* session, int64_t megabytes)
      : session_(session),
        layout_({{"parameters", {megabytes * 1'000'000 / 4}}}, SgdWithMomentum()),
        from_(layout_.elements()),
        to_(layout_.elements()) {}

  absl::Status Prepare() {
    MpiOptions options;
    options.ways = RingWays();
    ASSIGN_OR_RETURN(collectives_, session_->NewCollectives(options));
    ASSIGN_OR_RETURN(const MpiSession::Host host, session_->FindHost(kTimeout));
    if (host.hosts.size() > 1) return absl::InvalidArgumentError("all ranks have to be on one host");
    WindowOptions sizes;
    sizes.rank_bytes = layout_.elements() * static_cast<int64_t>(sizeof(float));
    sizes.shared_bytes = 2 * sizes.rank_bytes;
    sizes.timeout = kTimeout;
    ASSIGN_OR_RETURN(share_, session_->ShareHost(host, sizes, options, collectives_.get()));
    const absl::Span<float> shared(reinterpret_cast<float*>(share_.window->shared().data()), 2 * layout_.elements());
    parameters_ = shared.data();
    optimizer_ = CreateOptimizer(SgdWithMomentum(), &layout_, shared.subspan(layout_.elements()));
    comm_ = std::make_unique<CommThread>(share_.collectives.get(), kTimeout);
    exchange_ = NewWindowExchange(&layout_, share_.window.get(), comm_.get());
    std::fill_n(exchange_->gradients(), layout_.elements(), 1e-6f * static_cast<float>(session_->rank()));
    return absl::OkStatus();
  }

  absl::StatusOr<double> CopySeconds() {
    return Timed([this] {
      std::memcpy(to_.data(), from_.data(), from_.size() * sizeof(float));
      return absl::OkStatus();
    });
  }

  absl::StatusOr<double> PassSeconds() {
    exchange_->BeginStep(++step_);
    optimizer_->BeginStep(step_, 0.01, 1.0);
    return Timed([this]() -> absl::Status {
      StepTail tail;
      exchange_->StartTail(&tail);
      RETURN_IF_ERROR(exchange_->Wait());
      const auto parallel = [](int64_t begin, int64_t end, const std::function<void(int64_t, int64_t)>& body) {
        body(begin, end);
      };
      return exchange_->Update(parallel, [this](const float* gradients, int64_t first, int64_t count) {
        optimizer_->Apply(parameters_, gradients, first, count);
      });
    });
  }

  double bytes() const { return static_cast<double>(layout_.elements()) * sizeof(float); }
  // Every parameter has been moved by every rank's gradient at each step: no figure without the work.
  bool Moved() const {
    return std::all_of(parameters_, parameters_ + layout_.elements(), [](float value) { return value < 0; });
  }

 private:
  static Optimizer SgdWithMomentum() {
    Optimizer optimizer;
    optimizer.set_momentum(0.9);
    return optimizer;
  }

  // The slowest rank's, all of them having begun together.
  template <typename Work>
  absl::StatusOr<double> Timed(Work work) {
    HostWindow& window = *share_.window;
    RETURN_IF_ERROR(window.Barrier("beginning"));
    const int64_t start_ns = MonotonicNanos();
    RETURN_IF_ERROR(work());
    window.number(window.index()) = static_cast<double>(MonotonicNanos() - start_ns) * 1e-9;
    RETURN_IF_ERROR(window.Barrier("ending"));
    double slowest = 0;
    for (int index = 0; index < window.count(); ++index) slowest = std::max(slowest, window.number(index));
    RETURN_IF_ERROR(window.Barrier("reading the times"));
    return slowest;
  }

  MpiSession* const session_;
  const ParameterLayout layout_;
  std::vector<float> from_, to_;
  std::unique_ptr<Collectives> collectives_;
  MpiSession::Share share_;
  std::unique_ptr<SpanOptimizer> optimizer_;
  std::unique_ptr<CommThread> comm_;
  std::unique_ptr<GradientExchange> exchange_;
  float* parameters_ = nullptr;
  int64_t step_ = 0;
};

absl::Status Measure(MpiSession* session, int64_t megabytes, int rounds) {
  if (session->world() < 2) return absl::InvalidArgumentError("one rank has nothing to reduce: mpirun -np 2 …");
  Bench bench(session, megabytes);
  RETURN_IF_ERROR(bench.Prepare());
  const double world = session->world(), size = bench.bytes();
  std::vector<double> copies, passes, logs;
  for (int round = -kWarmUp; round < rounds; ++round) {
    ASSIGN_OR_RETURN(const double copy, bench.CopySeconds());
    ASSIGN_OR_RETURN(const double pass, bench.PassSeconds());
    if (round < 0) continue;
    copies.push_back(copy);
    passes.push_back(pass);
    logs.push_back(std::log(pass / (copy * (world + 4) / (2 * world))));
  }
  if (!bench.Moved()) return absl::InternalError("not every parameter was updated");
  if (session->rank() != 0) return absl::OkStatus();
  double mean = 0, square = 0;
  for (const double log : logs) mean += log / rounds;
  for (const double log : logs) square += (log - mean) * (log - mean) / (rounds - 1);
  const double half = 2.05 * std::sqrt(square / rounds);  // Student's t, 28 degrees of freedom and more
  std::printf("%d ranks, %.0f MB: copy %.1f GB/s, reduce and update %.2f ms (median of %d)\n", session->world(),
              size * 1e-6, 2 * world * size / Median(copies) * 1e-9, Median(passes) * 1e3, rounds);
  std::printf("its bytes at that bandwidth: times %.3f, 95%% interval %.3f … %.3f\n", std::exp(mean),
              std::exp(mean - half), std::exp(mean + half));
  return absl::OkStatus();
}

}  // namespace

}  // namespace lockstep

int main(int argc, char** argv) {
  const int64_t megabytes = argc > 1 ? std::atoll(argv[1]) : 80;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 30;
  if (megabytes < 1 || rounds < 29) {
    std::fprintf(stderr, "fused_update: [MEGABYTES ≥ 1] [ROUNDS ≥ 29]\n");
    return 2;
  }
  auto session = lockstep::MpiSession::Create(&argc, &argv);
  absl::Status status = session.status();
  if (status.ok()) status = lockstep::Measure(session->get(), megabytes, rounds);
  if (status.ok()) return 0;
  std::fprintf(stderr, "fused_update: %s\n", status.ToString().c_str());
  std::fflush(nullptr);
  _exit(1);
}
