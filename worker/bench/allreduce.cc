#include "worker/bench/allreduce.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/clock.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr int kFewestBatches = 5;
// Of calls on a slow link, so that the algorithms' turns come round.
constexpr double kLongestBatchSeconds = 0.5;
constexpr absl::Duration kLinkTime = absl::Seconds(1);
constexpr int kCopyRounds = 7;

// Calls that may follow the first one of a batch while sums, which grow to world^calls of its, stay exact in float32.
constexpr int kLargestValue = 16;
int MostCalls(int world) {
  int calls = 1;
  for (double largest = kLargestValue * static_cast<double>(world) * world; largest < (1 << 24); largest *= world)
    ++calls;
  return calls;
}

// What a rank brings to an element depends on the element by its phase alone, so that sums come from a small table.
int Phase(int64_t i) { return static_cast<int>((i * 7 + i / 1021) % kLargestValue); }
float Value(int rank, int phase) { return static_cast<float>((phase + rank * 5) % kLargestValue); }

// Sums by phase, after the first of a batch's calls and `calls` more.
std::array<float, kLargestValue> ExactSums(int world, int calls) {
  std::array<float, kLargestValue> sums = {};
  for (int phase = 0; phase < kLargestValue; ++phase) {
    for (int rank = 0; rank < world; ++rank) sums[phase] += Value(rank, phase);
    for (int call = 0; call < calls; ++call) sums[phase] *= static_cast<float>(world);
  }
  return sums;
}

class Runner {
 public:
  Runner(const AllReduceBench& bench, MpiSession* session, CallWatch* watch)
      : bench_(bench),
        session_(session),
        watch_(watch),
        timeout_(absl::Seconds(bench.timeout)),
        most_calls_(MostCalls(session->world())),
        buffer_(*std::max_element(bench.counts.begin(), bench.counts.end())) {}

  absl::Status Open() {
    watch_->Begin("measuring the link");
    ASSIGN_OR_RETURN(meeting_, session_->NewCollectives());
    ASSIGN_OR_RETURN(const MpiSession::Host host, session_->FindHost(timeout_));
    limit_.world = session_->world();
    limit_.hosts = static_cast<int>(host.hosts.size());
    if (limit_.hosts > 1) RETURN_IF_ERROR(MeasureLink(host));
    watch_->Begin("measuring memory copies");
    RETURN_IF_ERROR(MeasureCopy(static_cast<int>(host.ranks().size())));
    return OpenAlgorithms();
  }

  absl::Status Run() {
    if (!bench_.json) Print(LimitText(limit_) + TableHeader());
    std::vector<AllReduceFigures> all;
    for (const int64_t count : bench_.counts) {
      ASSIGN_OR_RETURN(const std::vector<AllReduceFigures> figures, RunSize(count));
      all.insert(all.end(), figures.begin(), figures.end());
      if (bench_.json) continue;
      for (const AllReduceFigures& row : figures) Print(TableRow(row));
    }
    if (bench_.json) Print(BenchJson(limit_, all));
    return absl::OkStatus();
  }

 private:
  struct Algorithm {
    std::string name;
    std::unique_ptr<BenchAlgorithm> runs;
    int calls = 0;                // of the next batch; 0: the first of a size, which warms up and is not counted
    std::vector<double> times;    // of calls
    std::vector<double> batches;  // a batch's time over its calls
    double total = 0;
  };

  bool Speaks() const { return session_->rank() == 0; }
  void Print(const std::string& text) const {
    if (Speaks()) bench_.print(text);
  }

  // What only some ranks can have is left out by all of them.
  absl::Status OpenAlgorithms() {
    const bool usual = bench_.algorithms.empty();
    std::vector<BenchAlgorithmKind> kinds = usual ? BenchAlgorithms() : bench_.algorithms;
    kinds.insert(kinds.begin(), ReferenceAlgorithm());
    const BenchGround ground = {session_, bench_.mpi, timeout_, &buffer_};
    for (const BenchAlgorithmKind& kind : kinds) {
      if (usual && (kind.usual == nullptr || !kind.usual(limit_.hosts))) continue;
      watch_->Begin(absl::StrCat("making ", kind.name));
      absl::StatusOr<std::unique_ptr<BenchAlgorithm>> made = kind.make(ground);
      if (made.ok()) {
        algorithms_.push_back({kind.name, *std::move(made), 0, {}, {}, 0});
      } else if (!usual) {
        return Annotate(made.status(), kind.name);
      } else if (Speaks()) {
        bench_.note(absl::StrCat(kind.name, " is left out: ", made.status().message()));
      }
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
    std::vector<char> from(bench_.copy_bytes, 1), to(bench_.copy_bytes, 2);
    std::vector<double> seconds;
    for (int round = 0; round < kCopyRounds; ++round) {
      RETURN_IF_ERROR(Meet());
      const int64_t start_ns = MonotonicNanos();
      std::memcpy(to.data(), from.data(), bench_.copy_bytes);
      ASSIGN_OR_RETURN(const std::vector<double> slowest, Slowest({Since(start_ns)}));
      seconds.push_back(slowest[0]);
    }
    limit_.copy = 2.0 * ranks_of_host * static_cast<double>(bench_.copy_bytes) / Quantile(seconds, 0.5);
    return absl::OkStatus();
  }

  // Batches of the algorithms in turn, until each has had its time; the first one to warm up.
  absl::StatusOr<std::vector<AllReduceFigures>> RunSize(int64_t count) {
    for (Algorithm& algorithm : algorithms_) {
      algorithm.calls = 0;
      algorithm.times.clear();
      algorithm.batches.clear();
      algorithm.total = 0;
    }
    double least = 0;
    for (int round = 0; round <= kFewestBatches || least < bench_.seconds; ++round) {
      for (size_t k = 0; k < algorithms_.size(); ++k) {
        RETURN_IF_ERROR(RunBatch(count, &algorithms_[round % 2 == 0 ? k : algorithms_.size() - 1 - k]));
      }
      const auto less = [](const Algorithm& a, const Algorithm& b) { return a.total < b.total; };
      least = std::min_element(algorithms_.begin(), algorithms_.end(), less)->total;
    }
    std::vector<AllReduceFigures> figures;
    for (const Algorithm& algorithm : algorithms_) {
      figures.push_back(Figures(algorithm, count));
      figures.back().to_reference = RatioOf(algorithm.batches, algorithms_[0].batches);
    }
    return figures;
  }

  // Of a batch whose calls take `seconds` each. The same on all ranks, as times are.
  int BatchCalls(double seconds) const {
    if (seconds * most_calls_ <= kLongestBatchSeconds) return most_calls_;
    return 1 + static_cast<int>(kLongestBatchSeconds / seconds);
  }

  // Times its calls but the first, which starts the link and finds the ranks apart.
  absl::Status RunBatch(int64_t count, Algorithm* algorithm) {
    const int calls = std::max(1, algorithm->calls);
    float* const data = algorithm->runs->buffer();
    for (int64_t i = 0; i < count; ++i) data[i] = Value(session_->rank(), Phase(i));
    watch_->Begin(absl::StrCat(algorithm->name, " of ", count * sizeof(float), " bytes"));
    RETURN_IF_ERROR(Meet());
    std::vector<double> seconds;
    for (int call = 0; call <= calls; ++call) {
      const int64_t start_ns = MonotonicNanos();
      watch_->Renew(start_ns);
      RETURN_IF_ERROR(Annotate(algorithm->runs->Run(count), algorithm->name));
      if (call > 0) seconds.push_back(Since(start_ns));
    }
    watch_->Begin(absl::StrCat("checking ", algorithm->name));
    RETURN_IF_ERROR(Check(algorithm->name, data, count, calls));
    // The calls' slowest ranks take turns, so that their times add up to more than the batch took.
    seconds.push_back(std::accumulate(seconds.begin(), seconds.end(), 0.0));
    ASSIGN_OR_RETURN(std::vector<double> slowest, Slowest(std::move(seconds)));
    const double sum = slowest.back();
    slowest.pop_back();
    const bool warm = std::exchange(algorithm->calls, BatchCalls(sum / calls)) > 0;
    if (!warm) return absl::OkStatus();
    algorithm->times.insert(algorithm->times.end(), slowest.begin(), slowest.end());
    algorithm->batches.push_back(sum / calls);
    algorithm->total += sum;
    return absl::OkStatus();
  }

  // On every rank; where one is wrong, all of them end, and the first of those that have found it tells.
  absl::Status Check(const std::string& name, const float* data, int64_t count, int calls) {
    const std::array<float, kLargestValue> exact = ExactSums(session_->world(), calls);
    int64_t wrong = 0;
    while (wrong < count && data[wrong] == exact[Phase(wrong)]) ++wrong;
    const double none = -session_->world();
    ASSIGN_OR_RETURN(const std::vector<double> found, Slowest({wrong < count ? -session_->rank() : none}));
    if (found[0] == none) return absl::OkStatus();
    const int teller = static_cast<int>(-found[0]);
    if (teller != session_->rank()) return absl::AbortedError(absl::StrCat("rank ", teller, " has found a wrong sum"));
    return absl::DataLossError(absl::StrFormat("%s, %d bytes: element %d is %.9g on rank %d after %d calls, not %.9g",
                                               name, count * sizeof(float), wrong, data[wrong], teller, calls + 1,
                                               exact[Phase(wrong)]));
  }

  AllReduceFigures Figures(const Algorithm& algorithm, int64_t count) const {
    const std::vector<double>& times = algorithm.times;
    AllReduceFigures figures;
    figures.algorithm = algorithm.name;
    figures.bytes = count * static_cast<int64_t>(sizeof(float));
    figures.calls = static_cast<int64_t>(times.size());
    figures.call_s = Quantile(algorithm.batches, 0.5);
    figures.p10_s = Quantile(times, 0.1);
    figures.p50_s = Quantile(times, 0.5);
    figures.p90_s = Quantile(times, 0.9);
    figures.algbw = static_cast<double>(figures.bytes) / figures.p50_s;
    figures.busbw = BusBandwidth(figures.algbw, session_->world());
    figures.of_limit = limit_.Seconds(figures.bytes) / figures.p50_s;
    return figures;
  }

  static double Since(int64_t start_ns) { return static_cast<double>(MonotonicNanos() - start_ns) * 1e-9; }

  absl::Status Meet() { return Slowest({0.0}).status(); }

  absl::StatusOr<std::vector<double>> Slowest(std::vector<double> values) {
    const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(double));
    ASSIGN_OR_RETURN(std::unique_ptr<Operation> operation, meeting_->AllReduce(bytes, DType::kF64, ReduceOp::kMax));
    const absl::Status status = Drive(std::move(operation), timeout_);
    if (status.ok()) return values;
    new std::vector<double>(std::move(values));  // for good, as the operation
    return Annotate(status, "between two batches");
  }

  const AllReduceBench bench_;
  MpiSession* const session_;
  CallWatch* const watch_;
  const absl::Duration timeout_;
  const int most_calls_;
  std::vector<float> buffer_;
  BenchLimit limit_;
  std::unique_ptr<Collectives> meeting_;
  std::vector<Algorithm> algorithms_;  // the reference first
};

}  // namespace

double BenchLimit::Seconds(int64_t bytes) const {
  const double size = static_cast<double>(bytes);
  if (hosts > 1) return 2 * (hosts - 1) / static_cast<double>(hosts) * size / link;
  return 2 * world * size / copy;
}

absl::Status RunAllReduceBench(const AllReduceBench& bench, MpiSession* session, CallWatch* watch) {
  if (session->world() < 2) {
    return absl::InvalidArgumentError("an all-reduce needs at least 2 ranks: mpirun -np 2 lockstep-worker --bench …");
  }
  std::unique_ptr<Runner> runner;
  absl::Status status;
  try {
    runner = std::make_unique<Runner>(bench, session, watch);
    status = runner->Open();
    if (status.ok()) status = runner->Run();
  } catch (const std::bad_alloc&) {
    const int64_t bytes = *std::max_element(bench.counts.begin(), bench.counts.end()) * sizeof(float);
    status = absl::ResourceExhaustedError(absl::StrCat("no memory for arrays of ", DescribeBytes(bytes), " on rank ",
                                                       session->rank(), "; choose smaller --sizes, or --max"));
  }
  watch->End();
  if (!status.ok()) runner.release();  // peers may still write into its buffers
  return status;
}

}  // namespace lockstep
