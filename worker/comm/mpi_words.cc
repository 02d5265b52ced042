#include "worker/comm/mpi_words.h"

#include <vector>

#include "common/base/status.h"
#include "worker/comm/mpi_check.h"

namespace lockstep {
namespace {

constexpr int kWordTag = 1;

}  // namespace

struct MpiWords::Buffers {
  struct Outgoing {
    RollWord word;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  std::vector<Outgoing> outgoing;  // by rank; made at the first word to any
  RollWord incoming;
  MPI_Request receive = MPI_REQUEST_NULL;

  bool InUse() const {
    for (const Outgoing& one : outgoing) {
      if (one.request != MPI_REQUEST_NULL) return true;
    }
    return receive != MPI_REQUEST_NULL;
  }
};

MpiWords::MpiWords(MPI_Comm comm) : comm_(comm), buffers_(std::make_unique<Buffers>()) {}

MpiWords::~MpiWords() {
  if (buffers_->InUse()) static_cast<void>(buffers_.release());
}

absl::Status MpiWords::Tell(int rank, const RollWord& word) {
  if (buffers_->outgoing.empty()) {
    int world = 0;
    RETURN_IF_ERROR(CheckMpi(MPI_Comm_size(comm_, &world), "MPI_Comm_size"));
    buffers_->outgoing.resize(world);
  }
  Buffers::Outgoing& one = buffers_->outgoing[rank];
  int left = 0;
  RETURN_IF_ERROR(CheckMpi(MPI_Test(&one.request, &left, MPI_STATUS_IGNORE), "MPI_Test"));
  if (!left) return absl::OkStatus();
  one.word = word;
  return CheckMpi(MPI_Isend(&one.word, sizeof(RollWord), MPI_BYTE, rank, kWordTag, comm_, &one.request), "MPI_Isend");
}

absl::StatusOr<int> MpiWords::Hear(RollWord* word) {
  if (buffers_->receive == MPI_REQUEST_NULL) {
    int there = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    RETURN_IF_ERROR(
        CheckMpi(MPI_Improbe(MPI_ANY_SOURCE, kWordTag, comm_, &there, &message, MPI_STATUS_IGNORE), "MPI_Improbe"));
    if (!there) return -1;
    RETURN_IF_ERROR(CheckMpi(MPI_Imrecv(&buffers_->incoming, sizeof(RollWord), MPI_BYTE, &message, &buffers_->receive),
                             "MPI_Imrecv"));
  }
  int came = 0;
  MPI_Status status;
  RETURN_IF_ERROR(CheckMpi(MPI_Test(&buffers_->receive, &came, &status), "MPI_Test"));
  if (!came) return -1;
  *word = buffers_->incoming;
  return status.MPI_SOURCE;
}

}  // namespace lockstep
