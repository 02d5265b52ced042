#pragma once

#include <mpi.h>
#include <sched.h>

#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/mpi_check.h"

// Inside worker/comm: which ranks are on one host.
namespace lockstep {

// What ranks of one host have in common and others have not: host name, boot, and network namespace (so not those of
// other containers, nor of an emulated host).
struct HostIdentity {
  char text[192] = "";  // the host's name up to the first '/'
};
HostIdentity OwnHostIdentity();

// Everyone's bytes, by rank. Past the deadline MPI may still write there, so what it has is never freed.
template <typename T>
absl::StatusOr<std::vector<T>> GatherEach(const T& own, int world, MPI_Comm comm, absl::Duration deadline) {
  static_assert(std::is_trivially_copyable_v<T>);
  struct Buffers {
    T own;
    std::vector<T> all;
  };
  auto* const buffers = new Buffers{own, std::vector<T>(world)};
  MPI_Request request = MPI_REQUEST_NULL;
  const int64_t until_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(deadline);
  RETURN_IF_ERROR(CheckMpi(
      MPI_Iallgather(&buffers->own, sizeof(T), MPI_BYTE, buffers->all.data(), sizeof(T), MPI_BYTE, comm, &request),
      "MPI_Iallgather"));
  for (int done = 0; !done; sched_yield()) {
    RETURN_IF_ERROR(CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (!done && MonotonicNanos() > until_ns) {
      return absl::DeadlineExceededError(absl::StrCat("not all ", world, " ranks have come within ",
                                                      absl::FormatDuration(deadline), " of setting up communication"));
    }
  }
  std::vector<T> all = std::move(buffers->all);
  delete buffers;
  return all;
}

}  // namespace lockstep
