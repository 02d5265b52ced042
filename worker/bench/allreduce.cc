#include "worker/bench/allreduce.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/bench/bench_algorithms.h"

namespace lockstep {
namespace {

constexpr int kFewestBatches = 5;
constexpr absl::Duration kLinkTime = absl::Seconds(1);
constexpr int64_t kCopyBytes = 64 << 20;
constexpr int kCopyRounds = 7;

// Calls that follow each other without a gap, each summing what the one before left: sum · world^k. Small whole
// numbers, so that all of it is exact, and a wrong element stays wrong to the end.
constexpr int kLargestValue = 16;
int BatchCalls(int world) {
  int calls = 1;
  for (double largest = kLargestValue * static_cast<double>(world) * world; largest < (1 << 24); largest *= world)
    ++calls;
  return calls;
}

float Value(int rank, int64_t i) { return static_cast<float>((i * 7 + rank * 5 + i / 1021) % kLargestValue); }

class Runner {
 public:
  Runner(const AllReduceBench& bench, MpiSession* session)
      : bench_(bench),
        session_(session),
        timeout_(absl::Seconds(bench.timeout)),
        batch_calls_(BatchCalls(session->world())) {}

  absl::Status Open() {
    ASSIGN_OR_RETURN(meeting_, session_->NewCollectives());
    ASSIGN_OR_RETURN(const MpiSession::Host host, session_->FindHost(timeout_));
    limit_.world = session_->world();
    limit_.hosts = static_cast<int>(host.hosts.size());
    if (limit_.hosts > 1) RETURN_IF_ERROR(MeasureLink(host));
    RETURN_IF_ERROR(MeasureCopy(static_cast<int>(host.ranks().size())));
    return OpenAlgorithms();
  }

  absl::Status Run() {
    if (Speaks() && !bench_.json) Print(LimitText(limit_) + TableHeader());
    std::vector<AllReduceFigures> all;
    for (const int64_t count : bench_.counts) {
      ASSIGN_OR_RETURN(const std::vector<AllReduceFigures> figures, RunSize(count));
      all.insert(all.end(), figures.begin(), figures.end());
      if (!Speaks() || bench_.json) continue;
      for (const AllReduceFigures& row : figures) Print(TableRow(row));
    }
    if (Speaks() && bench_.json) Print(BenchJson(limit_, all));
    return absl::OkStatus();
  }

 private:
  bool Speaks() const { return session_->rank() == 0; }
  static void Print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

  // What only some ranks can have is left out by all of them.
  absl::Status OpenAlgorithms() {
    const bool all = bench_.algorithms.empty();
    std::vector<std::string> names = bench_.algorithms;
    if (all) names = {"mpi", "ring", limit_.hosts > 1 ? "hierarchical" : "shared"};
    names.insert(names.begin(), kReference);
    const int64_t most = *std::max_element(bench_.counts.begin(), bench_.counts.end());
    for (const std::string& name : names) {
      absl::StatusOr<std::unique_ptr<BenchAlgorithm>> made =
          NewBenchAlgorithm(name, session_, bench_.mpi, most, timeout_);
      if (made.ok()) {
        algorithms_.push_back(*std::move(made));
        continue;
      }
      if (!all || absl::IsInvalidArgument(made.status())) return Annotate(made.status(), name);
      if (Speaks())
        std::fprintf(stderr, "%s is left out: %s\n", name.c_str(), std::string(made.status().message()).c_str());
    }
    return absl::OkStatus();
  }

  // The first two hosts' first ranks, while the others stand still.
  absl::Status MeasureLink(const MpiSession::Host& host) {
    const int one = host.hosts[0][0], other = host.hosts[1][0];
    ASSIGN_OR_RETURN(limit_.link_alone, session_->MeasureLink(one, other, /*both_ways=*/false, kLinkTime, timeout_));
    ASSIGN_OR_RETURN(limit_.link, session_->MeasureLink(one, other, /*both_ways=*/true, kLinkTime, timeout_));
    return absl::OkStatus();
  }

  absl::Status MeasureCopy(int ranks_of_host) {
    std::vector<char> from(kCopyBytes, 1), to(kCopyBytes, 2);
    std::vector<double> seconds;
    for (int round = 0; round < kCopyRounds; ++round) {
      RETURN_IF_ERROR(Meet());
      const int64_t start_ns = MonotonicNanos();
      std::memcpy(to.data(), from.data(), kCopyBytes);
      ASSIGN_OR_RETURN(const std::vector<double> slowest, Slowest({Since(start_ns)}));
      seconds.push_back(slowest[0]);
    }
    limit_.copy = 2.0 * ranks_of_host * kCopyBytes / Quantile(seconds, 0.5);
    return absl::OkStatus();
  }

  // Batches of the algorithms in turn, until each has had its time.
  absl::StatusOr<std::vector<AllReduceFigures>> RunSize(int64_t count) {
    std::vector<std::vector<double>> times(algorithms_.size()), batches(algorithms_.size());
    double least = 0;
    for (int round = 0; round < kFewestBatches || least < bench_.seconds; ++round) {
      for (size_t k = 0; k < algorithms_.size(); ++k) {
        const size_t which = round % 2 == 0 ? k : algorithms_.size() - 1 - k;
        ASSIGN_OR_RETURN(const std::vector<double> batch, RunBatch(algorithms_[which].get(), count));
        double sum = 0;
        for (const double seconds : batch) sum += seconds;
        batches[which].push_back(sum);
        times[which].insert(times[which].end(), batch.begin(), batch.end());
      }
      least = 1e9;
      for (const std::vector<double>& of_one : batches) {
        double sum = 0;
        for (const double seconds : of_one) sum += seconds;
        least = std::min(least, sum);
      }
    }
    std::vector<AllReduceFigures> figures;
    for (size_t k = 0; k < algorithms_.size(); ++k) {
      figures.push_back(Figures(*algorithms_[k], count, times[k]));
      figures.back().to_reference = RatioOf(batches[k], batches[0]);
    }
    return figures;
  }

  // The slowest rank's times of a batch's calls but the first, which starts the link and finds the ranks apart.
  absl::StatusOr<std::vector<double>> RunBatch(BenchAlgorithm* algorithm, int64_t count) {
    float* const data = algorithm->buffer();
    for (int64_t i = 0; i < count; ++i) data[i] = Value(session_->rank(), i);
    RETURN_IF_ERROR(Meet());
    std::vector<double> seconds;
    for (int call = 0; call <= batch_calls_; ++call) {
      const int64_t start_ns = MonotonicNanos();
      RETURN_IF_ERROR(Annotate(algorithm->Run(count), algorithm->name()));
      if (call > 0) seconds.push_back(Since(start_ns));
    }
    if (bench_.break_sum && session_->rank() == session_->world() - 1) data[count / 2] += 1;
    RETURN_IF_ERROR(Check(*algorithm, data, count));
    return Slowest(std::move(seconds));
  }

  // On every rank; where one is wrong, all of them end.
  absl::Status Check(const BenchAlgorithm& algorithm, const float* data, int64_t count) {
    absl::Status status;
    const double grown = std::pow(session_->world(), batch_calls_);
    for (int64_t i = 0; i < count && status.ok(); ++i) {
      double expected = 0;
      for (int rank = 0; rank < session_->world(); ++rank) expected += Value(rank, i);
      expected *= grown;
      if (data[i] == expected) continue;
      status = absl::DataLossError(absl::StrCat(algorithm.name(), ", ", count * 4, " bytes: element ", i, " on rank ",
                                                session_->rank(), " is ", data[i], ", not ", expected, " after ",
                                                batch_calls_ + 1, " calls"));
    }
    ASSIGN_OR_RETURN(const bool right, session_->OnAllRanks(status.ok(), timeout_));
    if (!status.ok()) return status;
    return right ? absl::OkStatus() : absl::AbortedError("another rank has found a wrong sum");
  }

  AllReduceFigures Figures(const BenchAlgorithm& algorithm, int64_t count, const std::vector<double>& times) const {
    const double world = session_->world();
    AllReduceFigures figures;
    figures.algorithm = algorithm.name();
    figures.bytes = count * static_cast<int64_t>(sizeof(float));
    figures.calls = static_cast<int64_t>(times.size());
    figures.p10_s = Quantile(times, 0.1);
    figures.p50_s = Quantile(times, 0.5);
    figures.p90_s = Quantile(times, 0.9);
    figures.algbw = static_cast<double>(figures.bytes) / figures.p50_s;
    figures.busbw = figures.algbw * 2 * (world - 1) / world;
    figures.of_limit = limit_.Seconds(figures.bytes) / figures.p50_s;
    return figures;
  }

  static double Since(int64_t start_ns) { return static_cast<double>(MonotonicNanos() - start_ns) * 1e-9; }

  absl::Status Meet() { return Slowest({0.0}).status(); }

  absl::StatusOr<std::vector<double>> Slowest(std::vector<double> values) {
    const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(double));
    ASSIGN_OR_RETURN(std::unique_ptr<Operation> operation, meeting_->AllReduce(bytes, DType::kF64, ReduceOp::kMax));
    const int64_t until_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(timeout_);
    while (true) {
      ASSIGN_OR_RETURN(const bool done, operation->Poll());
      if (done) return values;
      if (MonotonicNanos() < until_ns) continue;
      operation.release();
      return absl::DeadlineExceededError("not all ranks have come to the next call");
    }
  }

  const AllReduceBench bench_;
  MpiSession* const session_;
  const absl::Duration timeout_;
  const int batch_calls_;
  BenchLimit limit_;
  std::unique_ptr<Collectives> meeting_;
  std::vector<std::unique_ptr<BenchAlgorithm>> algorithms_;  // the reference first
};

}  // namespace

double BenchLimit::Seconds(int64_t bytes) const {
  const double size = static_cast<double>(bytes);
  if (hosts > 1) return 2 * (hosts - 1) / static_cast<double>(hosts) * size / link;
  return 2 * world * size / copy;
}

absl::Status RunAllReduceBench(const AllReduceBench& bench, MpiSession* session) {
  if (session->world() < 2) return absl::InvalidArgumentError("an all-reduce needs at least 2 ranks: mpirun -np 2 …");
  Runner runner(bench, session);
  RETURN_IF_ERROR(runner.Open());
  return runner.Run();
}

}  // namespace lockstep
