// The ranks' clocks against rank 0's: every other rank asks it for the time a few times, one question after the other,
// and rank 0 answers whoever asks.
#include <mpi.h>

#include <memory>
#include <vector>

#include "common/base/status.h"
#include "worker/comm/mpi_check.h"
#include "worker/comm/mpi_group.h"

namespace lockstep {
namespace {

constexpr int kTrips = 12;

absl::Status Send(const int64_t* time_ns, int to, int tag, MPI_Comm comm, MPI_Request* request) {
  return CheckMpi(MPI_Isend(time_ns, 1, MPI_INT64_T, to, tag, comm, request), "MPI_Isend");
}

absl::Status Receive(int64_t* time_ns, int from, int tag, MPI_Comm comm, MPI_Request* request) {
  return CheckMpi(MPI_Irecv(time_ns, 1, MPI_INT64_T, from, tag, comm, request), "MPI_Irecv");
}

absl::StatusOr<bool> Done(MPI_Request* request) {
  int done = 0;
  RETURN_IF_ERROR(CheckMpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
  return done != 0;
}

class Asking : public Operation {
 public:
  Asking(MpiGroup* group, ClockExchange* exchange, int tag) : group_(group), exchange_(exchange), tag_(tag) {}
  int64_t wire_bytes() const override { return kTrips * static_cast<int64_t>(sizeof(int64_t)); }

  absl::Status Ask() {
    RETURN_IF_ERROR(Receive(&answer_ns_, 0, tag_ + 1, group_->comm, &answer_));
    sent_ns_ = exchange_->now_ns();
    return Send(&sent_ns_, 0, tag_, group_->comm, &question_);
  }

  absl::StatusOr<bool> Poll() override {
    ASSIGN_OR_RETURN(const bool answered, Done(&answer_));
    if (!answered) return false;
    if (received_ns_ == 0) received_ns_ = exchange_->now_ns();
    ASSIGN_OR_RETURN(const bool left, Done(&question_));
    if (!left) return false;
    exchange_->trips.push_back({sent_ns_, answer_ns_, received_ns_});
    received_ns_ = 0;
    if (exchange_->trips.size() == kTrips) return true;
    RETURN_IF_ERROR(Ask());
    return false;
  }

 private:
  MpiGroup* const group_;
  ClockExchange* const exchange_;
  const int tag_;
  int64_t sent_ns_ = 0, answer_ns_ = 0, received_ns_ = 0;  // 0: not yet
  MPI_Request question_ = MPI_REQUEST_NULL, answer_ = MPI_REQUEST_NULL;
};

class Answering : public Operation {
 public:
  Answering(MpiGroup* group, ClockExchange* exchange, int tag)
      : group_(group), exchange_(exchange), tag_(tag), peers_(group->world - 1) {}
  int64_t wire_bytes() const override {
    return kTrips * static_cast<int64_t>(sizeof(int64_t)) * static_cast<int64_t>(peers_.size());
  }

  absl::Status Start() {
    for (size_t i = 0; i < peers_.size(); ++i) RETURN_IF_ERROR(Listen(i));
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Poll() override {
    bool all = true;
    for (size_t i = 0; i < peers_.size(); ++i) {
      ASSIGN_OR_RETURN(const bool done, Serve(i));
      all = all && done;
    }
    return all;
  }

 private:
  struct Peer {
    int answers = 0;
    bool asked = false;  // and not answered, since the last answer has not left
    int64_t question_ns = 0, answer_ns = 0;
    MPI_Request question = MPI_REQUEST_NULL, answer = MPI_REQUEST_NULL;
  };

  absl::Status Listen(size_t i) {
    return Receive(&peers_[i].question_ns, static_cast<int>(i) + 1, tag_, group_->comm, &peers_[i].question);
  }

  // True: this peer has had all its answers, and they have left.
  absl::StatusOr<bool> Serve(size_t i) {
    Peer& peer = peers_[i];
    if (peer.answers < kTrips && !peer.asked) {
      ASSIGN_OR_RETURN(peer.asked, Done(&peer.question));
    }
    ASSIGN_OR_RETURN(const bool left, Done(&peer.answer));
    if (!left) return false;
    if (!peer.asked) return peer.answers == kTrips;
    peer.asked = false;
    ++peer.answers;
    peer.answer_ns = exchange_->now_ns();
    RETURN_IF_ERROR(Send(&peer.answer_ns, static_cast<int>(i) + 1, tag_ + 1, group_->comm, &peer.answer));
    if (peer.answers < kTrips) RETURN_IF_ERROR(Listen(i));
    return false;
  }

  MpiGroup* const group_;
  ClockExchange* const exchange_;
  const int tag_;
  std::vector<Peer> peers_;  // rank i + 1
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> StartClockExchange(MpiGroup* group, ClockExchange* exchange, int tag) {
  exchange->trips.clear();
  if (group->rank == 0) {
    auto answering = std::make_unique<Answering>(group, exchange, tag);
    RETURN_IF_ERROR(answering->Start());
    return answering;
  }
  auto asking = std::make_unique<Asking>(group, exchange, tag);
  RETURN_IF_ERROR(asking->Ask());
  return asking;
}

}  // namespace lockstep
