#include "worker/comm/mpi_group.h"

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/mpi_check.h"

namespace lockstep {

void RequestSet::Begin(bool sent, int64_t bytes, int peer, int tag, int64_t place) {
  UnderWay& one = under_way_[place];
  one = {sent ? -1 : peer, bytes, -1};
  if (!group_->elsewhere[peer] || messages_.size() == kMostMessages) return;
  one.message = static_cast<int64_t>(messages_.size());
  messages_.push_back({group_->names[peer], sent, tag, bytes, MonotonicNanos(), 0});
}

absl::Status RequestSet::Send(const std::byte* from, int64_t bytes, int peer, int tag, int64_t place) {
  Begin(/*sent=*/true, bytes, peer, tag, place);
  return CheckMpi(MPI_Isend(from, static_cast<int>(bytes), MPI_BYTE, peer, tag, group_->comm, &requests_[place]),
                  "MPI_Isend");
}

absl::Status RequestSet::Receive(std::byte* to, int64_t bytes, int peer, int tag, int64_t place) {
  Begin(/*sent=*/false, bytes, peer, tag, place);
  return CheckMpi(MPI_Irecv(to, static_cast<int>(bytes), MPI_BYTE, peer, tag, group_->comm, &requests_[place]),
                  "MPI_Irecv");
}

absl::StatusOr<int> RequestSet::Test() {
  int count = 0;
  for (MPI_Status& status : statuses_) status.MPI_ERROR = MPI_SUCCESS;  // written only if some request has failed
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, completed_.data(), statuses_.data());
  if (code != MPI_ERR_IN_STATUS) RETURN_IF_ERROR(CheckMpi(code, "MPI_Testsome"));
  if (count == MPI_UNDEFINED) return 0;
  int64_t now_ns = 0;
  for (int k = 0; k < count; ++k) {
    const UnderWay& one = under_way_[completed_[k]];
    const int error = statuses_[k].MPI_ERROR;
    if (error != MPI_ERR_TRUNCATE) RETURN_IF_ERROR(CheckMpi(error, "MPI_Testsome"));
    if (one.from < 0) continue;
    RETURN_IF_ERROR(CheckReceived(statuses_[k], one));
    if (one.message < 0) continue;
    if (now_ns == 0) now_ns = MonotonicNanos();
    messages_[one.message].came_ns = now_ns;
  }
  return count;
}

absl::Status RequestSet::CheckReceived(const MPI_Status& status, const UnderWay& due) const {
  const bool longer = status.MPI_ERROR == MPI_ERR_TRUNCATE;
  int got = 0;
  if (!longer) RETURN_IF_ERROR(CheckMpi(MPI_Get_count(&status, MPI_BYTE, &got), "MPI_Get_count"));
  if (!longer && got == due.bytes) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "rank ", group_->names[due.from], " sent ", longer ? "more" : absl::StrCat(got, " bytes"),
      longer ? " than the " : " where ", due.bytes, longer ? " bytes that" : "",
      " were due: the ranks do not run the same collectives; check that all have the same build, config and model"));
}

}  // namespace lockstep
