#include "worker/bench_main.h"

#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "worker/bench/allreduce.h"
#include "worker/bench/sizes.h"
#include "worker/comm/mpi.h"

namespace lockstep {
namespace {

constexpr int kUsage = 2;

[[noreturn]] void Leave(const absl::Status& status) {
  std::fprintf(stderr, "lockstep-worker: %s\n", std::string(status.message()).c_str());
  std::fflush(nullptr);
  _exit(absl::IsInvalidArgument(status) ? kUsage : 1);
}

absl::Status ReadSize(const std::string& text, const char* flag, int64_t* bytes) {
  if (text.empty()) return absl::OkStatus();
  absl::StatusOr<int64_t> size = ParseBytes(text);
  if (!size.ok()) return absl::InvalidArgumentError(absl::StrCat(flag, ": ", size.status().message()));
  *bytes = *size;
  return absl::OkStatus();
}

absl::StatusOr<AllReduceBench> Read(const BenchFlags& flags) {
  if (flags.what != "allreduce") {
    return absl::InvalidArgumentError(absl::StrCat("--bench: no '", flags.what, "'; choose allreduce"));
  }
  AllReduceBench bench;
  if (!flags.algorithms.empty()) bench.algorithms = absl::StrSplit(flags.algorithms, ',');
  if (flags.min.empty() != flags.max.empty()) return absl::InvalidArgumentError("--min and --max go together");
  if (!flags.min.empty()) {
    ASSIGN_OR_RETURN(bench.counts, SweepCounts(flags.min, flags.max, flags.factor));
  } else if (flags.sizes == "deepbench") {
    bench.counts = DeepBenchCounts();
  } else {
    for (const std::string& size : absl::StrSplit(flags.sizes, ',')) {
      ASSIGN_OR_RETURN(const std::vector<int64_t> counts, SweepCounts(size, size, 2));
      bench.counts.push_back(counts[0]);
    }
  }
  if (flags.seconds <= 0 || flags.timeout <= 0) return absl::InvalidArgumentError("--seconds, --timeout: above 0");
  bench.seconds = flags.seconds;
  bench.timeout = flags.timeout;
  bench.json = flags.json;
  bench.break_sum = flags.break_sum;
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
  // For tuning and for tests.
  add("--segment-bytes", &flags->segment, "", "SIZE")->group("");
  app->add_flag("--break-sum", flags->break_sum)->group("");
}

void RunBench(const BenchFlags& flags, int* argc, char*** argv) {
  const absl::StatusOr<AllReduceBench> bench = Read(flags);
  if (!bench.ok()) Leave(bench.status());
  absl::StatusOr<std::unique_ptr<MpiSession>> session = MpiSession::Create(argc, argv);
  if (!session.ok()) Leave(session.status());
  const absl::Status status = RunAllReduceBench(*bench, session->get());
  if (!status.ok()) Leave(status);
  session->reset();
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace lockstep
