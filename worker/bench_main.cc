#include "worker/bench_main.h"

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/memory.h"
#include "common/base/status.h"
#include "worker/bench/allreduce.h"
#include "worker/bench/bench_algorithms.h"
#include "worker/bench/call_watch.h"
#include "worker/bench/sizes.h"
#include "worker/comm/mpi.h"

namespace lockstep {
namespace {

constexpr int kFailed = 1, kUsage = 2;
// Operations have deadlines of their own, which can say more: they go first.
constexpr absl::Duration kWatchLater = absl::Seconds(5);
// Until the one rank that tells what is wrong has told it.
constexpr absl::Duration kTellTimeout = absl::Seconds(5);

void Say(const std::string& what) {
  std::fputs(absl::StrCat("lockstep-worker: ", what, "\n").c_str(), stderr);
  std::fflush(stderr);
}

// Without MPI_Finalize, which waits for all ranks.
[[noreturn]] void Exit(int code) {
  std::fflush(nullptr);
  _exit(code);
}

[[noreturn]] void Leave(const absl::Status& status) {
  Say(std::string(status.message()));
  Exit(absl::IsInvalidArgument(status) ? kUsage : kFailed);
}

absl::Status ReadSize(const std::string& text, const char* flag, int64_t* bytes) {
  if (text.empty()) return absl::OkStatus();
  absl::StatusOr<int64_t> size = ParseBytes(text);
  if (!size.ok()) return absl::InvalidArgumentError(absl::StrCat(flag, ": ", size.status().message()));
  *bytes = *size;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> ReadCounts(const BenchFlags& flags) {
  if (flags.min.empty() != flags.max.empty()) return absl::InvalidArgumentError("--min and --max go together");
  if (!flags.min.empty()) return SweepCounts(flags.min, flags.max, flags.factor);
  return flags.sizes == "deepbench" ? DeepBenchCounts() : ListedCounts(flags.sizes);
}

absl::StatusOr<AllReduceBench> Read(const BenchFlags& flags) {
  if (flags.what != "allreduce") {
    return absl::InvalidArgumentError(absl::StrCat("--bench: no '", flags.what, "'; choose allreduce"));
  }
  AllReduceBench bench;
  if (!flags.algorithms.empty()) {
    ASSIGN_OR_RETURN(bench.algorithms, NamedAlgorithms(absl::StrSplit(flags.algorithms, ',')));
  }
  ASSIGN_OR_RETURN(bench.counts, ReadCounts(flags));
  if (!(flags.seconds > 0)) return absl::InvalidArgumentError("--seconds: above 0");
  if (!(flags.timeout > 0)) return absl::InvalidArgumentError("--timeout: above 0");
  bench.seconds = flags.seconds;
  bench.timeout = flags.timeout;
  bench.json = flags.json;
  RETURN_IF_ERROR(ReadSize(flags.segment, "--segment-bytes", &bench.mpi.segment_bytes));
  return bench;
}

}  // namespace

void AddBenchFlags(CLI::App* app, BenchFlags* flags) {
  constexpr const char* kGroup = "--bench allreduce";
  const auto add = [&](const char* name, auto* value, const char* doc, const char* type) {
    return app->add_option(name, *value, doc)->type_name(type)->group(kGroup);
  };
  add("--algorithms", &flags->algorithms, "Which, with commas (default: all that are to be had)", "A,B");
  add("--sizes", &flags->sizes, "deepbench (default), or bytes with commas: 64K,25M", "S,S");
  add("--min", &flags->min, "Sweep as nccl-tests do: from this size …", "SIZE");
  add("--max", &flags->max, "… to this one …", "SIZE");
  add("--factor", &flags->factor, "… each so many times the one before (default 2)", "X");
  add("--seconds", &flags->seconds, "Calls of each algorithm and size take at least this long (default 0.5)", "S");
  add("--timeout", &flags->timeout, "Deadline of a call (default 60)", "S");
  // For tuning.
  add("--segment-bytes", &flags->segment, "", "SIZE")->group("");
  // From `lockstep bench`, before it starts mpirun.
  app->add_flag("--check-only", flags->check_only)->group("");
}

void RunBench(const BenchFlags& flags, int* argc, char*** argv) {
  KeepFreedMemory();  // as in a run: the MPI library's scratch memory comes and goes with every call
  absl::StatusOr<AllReduceBench> bench = Read(flags);
  if (!bench.ok()) Leave(bench.status());
  if (flags.check_only) Exit(0);
  bench->print = [](const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  };
  bench->note = Say;
  CallWatch watch(absl::Seconds(bench->timeout) + kWatchLater, [](const std::string& what) {
    Say(what);
    Exit(kFailed);
  });
  watch.Begin("MPI_Init_thread");
  absl::StatusOr<std::unique_ptr<MpiSession>> session = MpiSession::Create(argc, argv);
  if (!session.ok()) Leave(session.status());
  const absl::Status status = RunAllReduceBench(*bench, session->get(), &watch);
  if (!status.ok()) {
    if (!absl::IsAborted(status)) Say(std::string(status.message()));
    // mpirun ends all ranks once one has left.
    if (absl::IsAborted(status) || absl::IsDataLoss(status)) (*session)->OnAllRanks(true, kTellTimeout).IgnoreError();
    Exit(absl::IsInvalidArgument(status) ? kUsage : kFailed);
  }
  watch.Begin("MPI_Finalize");
  session->reset();
  watch.End();
  Exit(0);
}

}  // namespace lockstep
