// What is measured beside the product's own operations: the library's blocking all-reduce, and a link between two
// hosts.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/mpi.h"
#include "worker/comm/mpi_check.h"

namespace lockstep {
namespace {

constexpr int kStreamTag = 2;
constexpr int kMessageBytes = static_cast<int>(kLinkSegmentBytes);
constexpr int kUnderWay = 16;  // messages, each way

// One end of a stream of messages for some time. The sender says with its last message, which is empty, that it is
// over.
class Stream {
 public:
  Stream(int peer, bool sends, bool receives)
      : peer_(peer), sends_(sends), receives_(receives), data_(2 * kUnderWay * int64_t{kMessageBytes}, std::byte{1}) {}

  // Bytes that came in, per second, from the first to the last; 0 if it does not receive.
  absl::StatusOr<double> Run(int64_t until_ns, int64_t deadline_ns) {
    for (int k = 0; k < kUnderWay; ++k) {
      if (receives_) RETURN_IF_ERROR(Receive(k));
      if (sends_) RETURN_IF_ERROR(Send(k));
    }
    while (receives_ || under_way_ > 0) {
      int place = MPI_UNDEFINED, done = 0;
      MPI_Status status;
      RETURN_IF_ERROR(CheckMpi(MPI_Testany(2 * kUnderWay, requests_.data(), &place, &done, &status), "MPI_Testany"));
      const int64_t now_ns = MonotonicNanos();
      if (now_ns > deadline_ns) {
        return absl::DeadlineExceededError(absl::StrCat("measuring the link: rank ", peer_, " does not come"));
      }
      if (!done || place == MPI_UNDEFINED) {
        sched_yield();
        continue;
      }
      RETURN_IF_ERROR(place < kUnderWay ? Came(place, status, now_ns) : Left(place - kUnderWay, now_ns > until_ns));
    }
    return last_ns_ > first_ns_ ? static_cast<double>(bytes_) * 1e9 / static_cast<double>(last_ns_ - first_ns_) : 0;
  }

 private:
  std::byte* At(int place) { return data_.data() + int64_t{kMessageBytes} * place; }

  absl::Status Receive(int k) {
    return CheckMpi(MPI_Irecv(At(k), kMessageBytes, MPI_BYTE, peer_, kStreamTag, MPI_COMM_WORLD, &requests_[k]),
                    "MPI_Irecv");
  }

  absl::Status Send(int k, int bytes = kMessageBytes) {
    ++under_way_;
    return CheckMpi(
        MPI_Isend(At(kUnderWay + k), bytes, MPI_BYTE, peer_, kStreamTag, MPI_COMM_WORLD, &requests_[kUnderWay + k]),
        "MPI_Isend");
  }

  absl::Status Came(int k, const MPI_Status& status, int64_t now_ns) {
    int bytes = 0;
    RETURN_IF_ERROR(CheckMpi(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count"));
    if (bytes == 0) {
      receives_ = false;
      return CancelReceives();
    }
    // The first ones may have been on their way before the link was full.
    if (++came_ == kUnderWay) first_ns_ = now_ns;
    if (came_ > kUnderWay) bytes_ += bytes;
    last_ns_ = now_ns;
    return Receive(k);
  }

  absl::Status Left(int k, bool over) {
    --under_way_;
    if (!over) return Send(k);
    if (under_way_ > 0 || ended_) return absl::OkStatus();
    ended_ = true;
    return Send(k, 0);
  }

  absl::Status CancelReceives() {
    for (int k = 0; k < kUnderWay; ++k) {
      if (requests_[k] == MPI_REQUEST_NULL) continue;
      RETURN_IF_ERROR(CheckMpi(MPI_Cancel(&requests_[k]), "MPI_Cancel"));
      RETURN_IF_ERROR(CheckMpi(MPI_Request_free(&requests_[k]), "MPI_Request_free"));
    }
    return absl::OkStatus();
  }

  const int peer_;
  const bool sends_;
  bool receives_, ended_ = false;
  std::vector<std::byte> data_;
  std::vector<MPI_Request> requests_ = std::vector<MPI_Request>(2 * kUnderWay, MPI_REQUEST_NULL);
  int under_way_ = 0;  // sends
  int64_t came_ = 0, bytes_ = 0, first_ns_ = 0, last_ns_ = 0;
};

}  // namespace

absl::Status MpiSession::BlockingAllReduce(absl::Span<float> data) {
  if (static_cast<int64_t>(data.size()) > std::numeric_limits<int>::max()) {
    return absl::InvalidArgumentError("MPI counts in int");
  }
  return CheckMpi(
      MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD),
      "MPI_Allreduce");
}

absl::StatusOr<double> MpiSession::MeasureLink(int one, int other, bool both_ways, absl::Duration time,
                                               absl::Duration deadline) {
  const int64_t now_ns = MonotonicNanos(), deadline_ns = now_ns + absl::ToInt64Nanoseconds(time + deadline);
  double rate = 0;
  if (rank_ == one || rank_ == other) {
    // Leaked past a deadline: MPI may still write there.
    auto stream =
        std::make_unique<Stream>(rank_ == one ? other : one, both_ways || rank_ == one, both_ways || rank_ == other);
    const absl::StatusOr<double> measured = stream->Run(now_ns + absl::ToInt64Nanoseconds(time), deadline_ns);
    if (!measured.ok()) {
      stream.release();
      return measured.status();
    }
    rate = *measured;
  }
  ASSIGN_OR_RETURN(const std::vector<double> rates, GatherDoubles(rate, deadline));
  return both_ways ? std::min(rates[one], rates[other]) : rates[other];
}

}  // namespace lockstep
