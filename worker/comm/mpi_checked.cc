#include "worker/comm/mpi_checked.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "worker/comm/mpi_check.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

bool Same(const LibraryCall& a, const LibraryCall& b) {
  return a.number == b.number && a.kind == b.kind && a.bytes == b.bytes && a.detail == b.detail;
}

std::string Describe(const LibraryCall& call, int rank) {
  const char* const kind = call.kind == LibraryCall::kAllReduce   ? "an all-reduce"
                           : call.kind == LibraryCall::kBroadcast ? "a broadcast"
                                                                  : "an all-gather";
  return absl::StrCat(kind, " of ", call.bytes, " bytes (call ", call.number, ") on rank ", rank);
}

}  // namespace

class CheckedOperation : public Operation {
 public:
  CheckedOperation(CheckedCalls* calls, const LibraryCall& call, int rank, const std::vector<int>* names,
                   CheckedCalls::StartFn start)
      : calls_(calls), call_(call), rank_(rank), names_(*names), all_(names->size()), start_(std::move(start)) {}

  absl::Status Start() {
    return CheckMpi(MPI_Iallgather(&call_, sizeof(LibraryCall), MPI_BYTE, all_.data(), sizeof(LibraryCall), MPI_BYTE,
                                   calls_->checks_, &request_),
                    "MPI_Iallgather");
  }

  absl::StatusOr<bool> Poll() override {
    if (call_started_ != nullptr) return call_started_->Poll();
    int done = 0;
    RETURN_IF_ERROR(CheckMpi(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (!done) return false;
    RETURN_IF_ERROR(Compare());
    if (calls_->next_ != call_.number) return false;
    ++calls_->next_;
    ASSIGN_OR_RETURN(call_started_, start_(calls_->calls_));
    return call_started_->Poll();
  }

  int64_t wire_bytes() const override { return call_started_ != nullptr ? call_started_->wire_bytes() : 0; }
  absl::string_view algorithm() const override {
    return call_started_ != nullptr ? call_started_->algorithm() : absl::string_view();
  }

 private:
  absl::Status Compare() const {
    const auto other =
        std::find_if(all_.begin(), all_.end(), [this](const LibraryCall& call) { return !Same(call, call_); });
    if (other == all_.end()) return absl::OkStatus();
    const int theirs = static_cast<int>(other - all_.begin());
    const int lower = std::min(rank_, theirs), higher = std::max(rank_, theirs);
    const int first = names_[lower], second = names_[higher];
    return WithRanks(
        absl::FailedPreconditionError(absl::StrCat(
            "ranks ", first, " and ", second, " do not run the same collectives: ", Describe(all_[lower], first), ", ",
            Describe(all_[higher], second), "; check that both have the same build, config and model")),
        {first, second});
  }

  CheckedCalls* const calls_;
  const LibraryCall call_;
  const int rank_;
  const std::vector<int>& names_;
  std::vector<LibraryCall> all_;
  const CheckedCalls::StartFn start_;
  MPI_Request request_ = MPI_REQUEST_NULL;
  std::unique_ptr<Operation> call_started_;
};

absl::StatusOr<std::unique_ptr<Operation>> CheckedCalls::Start(LibraryCall call, int rank,
                                                               const std::vector<int>* names, StartFn start) {
  call.number = made_++;
  auto operation = std::make_unique<CheckedOperation>(this, call, rank, names, std::move(start));
  RETURN_IF_ERROR(operation->Start());
  return operation;
}

}  // namespace lockstep
