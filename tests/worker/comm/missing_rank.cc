// Run by missing_rank.sh: all ranks but the last start an all-reduce; the last one stays away. Each of the others must
// get DeadlineExceeded that says what has waited for whom, in time, and leaves by code 42.
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/mpi.h"

int main(int argc, char** argv) {
  using namespace lockstep;
  auto session = MpiSession::Create(&argc, &argv);
  if (!session.ok()) return 1;
  auto collectives = (*session)->NewCollectives();
  if (!collectives.ok()) return 1;
  if ((*session)->rank() == (*session)->world() - 1) {
    // Held until mpirun ends it, or for as long as would make the test fail.
    sleep(50);
    _exit(1);
  }
  CommThread thread(collectives->get(), absl::Seconds(1));
  std::vector<float> data(1000000);
  const int64_t start_ns = MonotonicNanos();
  thread.StartAllReduce("bucket.0", absl::MakeSpan(reinterpret_cast<std::byte*>(data.data()), data.size() * 4),
                        DType::kF32, ReduceOp::kSum);
  const absl::Status status = thread.Wait();
  const double waited_s = static_cast<double>(MonotonicNanos() - start_ns) * 1e-9;
  const bool right =
      status.code() == absl::StatusCode::kDeadlineExceeded && waited_s >= 1 && waited_s < 20 &&
      absl::StrContains(status.message(), "all-reduce 'bucket.0' (number 0) has waited ") &&
      absl::EndsWith(status.message(), absl::StrCat(": rank ", (*session)->world() - 1, " does not answer")) &&
      thread.Wait() == status;
  std::fprintf(stderr, "rank %d after %.2f s: %s\n", (*session)->rank(), waited_s, status.ToString().c_str());
  _exit(right ? 42 : 1);
}
