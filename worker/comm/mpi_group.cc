#include "worker/comm/mpi_group.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "worker/comm/mpi_check.h"

namespace lockstep {

absl::StatusOr<int> RequestSet::Test() {
  int count = 0;
  for (MPI_Status& status : statuses_) status.MPI_ERROR = MPI_SUCCESS;  // written only if some request has failed
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, completed_.data(), statuses_.data());
  if (code != MPI_ERR_IN_STATUS) RETURN_IF_ERROR(CheckMpi(code, "MPI_Testsome"));
  for (int k = 0; k < count; ++k) {
    // Too long a message is the receiver's to tell: CheckReceived knows whose it is.
    const int error = statuses_[k].MPI_ERROR;
    if (error != MPI_ERR_TRUNCATE) RETURN_IF_ERROR(CheckMpi(error, "MPI_Testsome"));
  }
  return count == MPI_UNDEFINED ? 0 : count;
}

absl::Status RequestSet::CheckReceived(int k, int peer, int64_t bytes) const {
  const bool longer = statuses_[k].MPI_ERROR == MPI_ERR_TRUNCATE;
  int got = 0;
  if (!longer) RETURN_IF_ERROR(CheckMpi(MPI_Get_count(&statuses_[k], MPI_BYTE, &got), "MPI_Get_count"));
  if (!longer && got == bytes) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "rank ", peer, " sent ", longer ? "more" : absl::StrCat(got, " bytes"), longer ? " than the " : " where ", bytes,
      longer ? " bytes that" : "",
      " were due: the ranks do not run the same collectives; check that all have the same build, config and model"));
}

}  // namespace lockstep
