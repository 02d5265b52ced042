// The algorithm `mpi`: all-reduce over MPI's non-blocking messages.
//
// Not MPI_Iallreduce: Open MPI 4.1 gives it a ring of unsegmented messages that is far slower than its own blocking
// call. Median milliseconds of an all-reduce of float32 on 2 ranks of one 2-core host (shared memory), 15 to 300 rounds
// each, by `mpirun -np 2` of a loop over barrier and call:
//
//      bytes    MPI_Allreduce   MPI_Iallreduce   this, 256 KiB segments
//       64 K        0.032            0.034            0.024
//      512 K        0.110            0.156            0.102
//        1 M        0.204            0.254            0.124
//        4 M        0.431            2.117            0.500
//       25 M        6.144           14.841            6.380
//       80 M       35.813           95.444           19.885
//
// Large data: rank j owns the j-th slice. Everyone sends the owner its part of the slice, segment by segment; the
// owner adds the parts up in rank order and sends each the sum. Every element is thus x0 + x1 + … + x(n-1) in this
// order, whatever the sizes and however messages race, and is computed once: the same bits on every rank and from run
// to run. Each rank sends 2(n-1)/n of the data, the least there is.
// Small data and the step's tail: MPI_Iallgather, then every rank adds up in rank order. One round instead of two; at
// 1,024 ranks a tail gathers 128 KiB.
#include <mpi.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/local_collectives.h"
#include "worker/comm/mpi_check.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

// Segments of a slice that are under way at a time, so that a message travels while another is added up.
constexpr int64_t kWindow = 4;
// Slices begin at multiples of this many elements, so that no cache line has two owners.
constexpr int64_t kSliceElements = 64;
// Lanes overtake each other, so each has its own tags: one for parts, one for sums.
constexpr int64_t kTagsEach = 2 * kWindow;
// MPI promises that tags up to 32767 are there; by the time that they come round again, their messages are gone.
constexpr int64_t kTagged = 32768 / kTagsEach;

using Buffer = std::unique_ptr<std::byte[]>;

// Scratch memory that is used again by the next operation. Fresh memory costs a page fault every 4 KiB.
class ScratchPool {
 public:
  Buffer Take(int64_t bytes) {
    for (size_t i = 0; i < free_.size(); ++i) {
      if (free_[i].first != bytes) continue;
      Buffer buffer = std::move(free_[i].second);
      free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
      return buffer;
    }
    return Buffer(new std::byte[bytes]);
  }
  void Give(int64_t bytes, Buffer buffer) {
    if (free_.size() == kMostFree) free_.erase(free_.begin());
    free_.emplace_back(bytes, std::move(buffer));
  }

 private:
  static constexpr size_t kMostFree = 16;
  std::vector<std::pair<int64_t, Buffer>> free_;
};

// What an operation needs to know of the group it belongs to.
struct Group {
  int rank = 0, world = 1;
  MPI_Comm comm = MPI_COMM_NULL;
  MpiOptions options;
  ScratchPool pool;
};

// What is to be reduced, and how.
struct Reduction {
  absl::Span<std::byte> data;
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;
  ApplyFn apply;

  int64_t size() const { return DTypeSize(dtype); }
  int64_t count() const { return static_cast<int64_t>(data.size()) / size(); }
};

class SegmentedAllReduce : public Operation {
 public:
  // The kTagsEach tags from `tag` on are this operation's own on every rank.
  SegmentedAllReduce(Group* group, Reduction reduction, int tag);
  ~SegmentedAllReduce() override { group_->pool.Give(scratch_bytes_, std::move(scratch_)); }
  absl::Status Start();
  absl::StatusOr<bool> Poll() override;

 private:
  // One segment on its way: of the own slice, shared by all peers, or of one peer's slice.
  struct Lane {
    int64_t segment = 0;
    bool returning = false;  // the sum is on its way, no longer the parts
    int64_t pending = 0;     // messages
  };

  int64_t SliceBegin(int rank) const { return std::min(r_.count(), slice_ * rank); }
  int64_t Segments(int owner) const { return (SliceBegin(owner + 1) - SliceBegin(owner) + segment_ - 1) / segment_; }
  int64_t First(int owner, int64_t segment) const { return SliceBegin(owner) + segment * segment_; }
  int64_t Count(int owner, int64_t segment) const {
    return std::min(segment_, SliceBegin(owner + 1) - First(owner, segment));
  }
  std::byte* At(int64_t element) const { return r_.data.data() + element * r_.size(); }
  std::byte* Part(int64_t lane, int peer) const {
    return scratch_.get() + (lane * peers_ + PeerIndex(peer)) * segment_ * r_.size();
  }
  int PeerIndex(int peer) const { return peer < group_->rank ? peer : peer - 1; }
  int PeerAt(int64_t index) const { return static_cast<int>(index < group_->rank ? index : index + 1); }
  // A lane of the own slice has one request for each peer; so have, after them, the lanes of the peers' slices.
  int PartTag(int64_t lane) const { return static_cast<int>(tag_ + 2 * lane); }
  int SumTag(int64_t lane) const { return PartTag(lane) + 1; }
  MPI_Request* OwnRequest(int64_t lane, int peer) { return &requests_[lane * peers_ + PeerIndex(peer)]; }
  MPI_Request* PeerRequest(int64_t lane, int peer) { return &requests_[(kWindow + lane) * peers_ + PeerIndex(peer)]; }

  absl::Status Send(std::byte* from, int64_t count, int peer, int tag, MPI_Request* request);
  absl::Status Receive(std::byte* to, int64_t count, int peer, int tag, MPI_Request* request);
  absl::Status BeginOwn(int64_t lane, int64_t segment);
  absl::Status BeginPeers(int64_t lane, int peer, int64_t segment);
  absl::Status OwnCameIn(int64_t lane);
  absl::Status PeersCameIn(int64_t lane, int peer);
  absl::Status CheckSize(int64_t index, const MPI_Status& status);
  absl::Status Completed(int64_t index, const MPI_Status& status);
  void AddUp(int64_t lane);
  void SegmentDone(int owner, int64_t segment);

  Group* const group_;
  const Reduction r_;
  const int tag_;
  const int64_t peers_;
  int64_t slice_ = 0;    // elements
  int64_t segment_ = 0;  // elements
  int64_t left_ = 0;     // segments not done yet, of all slices
  int64_t scratch_bytes_ = 0;
  Buffer scratch_;  // parts of the own slice: [lane][peer][segment]
  std::vector<Lane> own_, peers_lanes_;
  std::vector<MPI_Request> requests_;
  std::vector<int> completed_;
  std::vector<MPI_Status> statuses_;
};

SegmentedAllReduce::SegmentedAllReduce(Group* group, Reduction reduction, int tag)
    : group_(group), r_(std::move(reduction)), tag_(tag), peers_(group->world - 1) {
  const int64_t even = (r_.count() + group->world - 1) / group->world;
  slice_ = (even + kSliceElements - 1) / kSliceElements * kSliceElements;
  const MpiOptions& options = group->options;
  const int64_t bytes = std::min(options.segment_bytes, options.scratch_bytes / (kWindow * peers_));
  segment_ = std::min(slice_, std::max<int64_t>(kSliceElements, bytes / r_.size()));
  scratch_bytes_ = kWindow * peers_ * segment_ * r_.size();
  scratch_ = group->pool.Take(scratch_bytes_);
  own_.resize(kWindow);
  peers_lanes_.resize(kWindow * peers_);
  requests_.assign(2 * kWindow * peers_, MPI_REQUEST_NULL);
  completed_.resize(requests_.size());
  statuses_.resize(requests_.size());
  for (int rank = 0; rank < group->world; ++rank) left_ += Segments(rank);
}

absl::Status SegmentedAllReduce::Start() {
  for (int64_t lane = 0; lane < kWindow; ++lane) {
    RETURN_IF_ERROR(BeginOwn(lane, lane));
    // Not everyone to rank 0 first.
    for (int step = 1; step < group_->world; ++step) {
      RETURN_IF_ERROR(BeginPeers(lane, (group_->rank + step) % group_->world, lane));
    }
  }
  return absl::OkStatus();
}

absl::Status SegmentedAllReduce::Send(std::byte* from, int64_t count, int peer, int tag, MPI_Request* request) {
  const int bytes = static_cast<int>(count * r_.size());
  return CheckMpi(MPI_Isend(from, bytes, MPI_BYTE, peer, tag, group_->comm, request), "MPI_Isend");
}

absl::Status SegmentedAllReduce::Receive(std::byte* to, int64_t count, int peer, int tag, MPI_Request* request) {
  const int bytes = static_cast<int>(count * r_.size());
  return CheckMpi(MPI_Irecv(to, bytes, MPI_BYTE, peer, tag, group_->comm, request), "MPI_Irecv");
}

absl::Status SegmentedAllReduce::BeginOwn(int64_t lane, int64_t segment) {
  if (segment >= Segments(group_->rank)) return absl::OkStatus();
  own_[lane] = {segment, false, peers_};
  for (int64_t i = 0; i < peers_; ++i) {
    const int peer = PeerAt(i);
    RETURN_IF_ERROR(
        Receive(Part(lane, peer), Count(group_->rank, segment), peer, PartTag(lane), OwnRequest(lane, peer)));
  }
  return absl::OkStatus();
}

absl::Status SegmentedAllReduce::BeginPeers(int64_t lane, int peer, int64_t segment) {
  if (segment >= Segments(peer)) return absl::OkStatus();
  peers_lanes_[lane * peers_ + PeerIndex(peer)] = {segment, false, 1};
  return Send(At(First(peer, segment)), Count(peer, segment), peer, PartTag(lane), PeerRequest(lane, peer));
}

// x0 + x1 + … in rank order. Only the parts may be overwritten on the way up to the own rank.
void SegmentedAllReduce::AddUp(int64_t lane) {
  const int own = group_->rank;
  const int64_t count = Count(own, own_[lane].segment);
  std::byte* const sum = At(First(own, own_[lane].segment));
  for (int peer = 1; peer < own; ++peer) Reduce(Part(lane, 0), Part(lane, peer), count, r_.dtype, r_.op);
  if (own > 0) Reduce(sum, Part(lane, 0), count, r_.dtype, r_.op);
  for (int peer = own + 1; peer < group_->world; ++peer) Reduce(sum, Part(lane, peer), count, r_.dtype, r_.op);
}

absl::Status SegmentedAllReduce::OwnCameIn(int64_t lane) {
  Lane& own = own_[lane];
  if (--own.pending > 0) return absl::OkStatus();
  if (own.returning) {
    SegmentDone(group_->rank, own.segment);
    return BeginOwn(lane, own.segment + kWindow);
  }
  AddUp(lane);
  own.returning = true;
  own.pending = peers_;
  for (int64_t i = 0; i < peers_; ++i) {
    const int peer = PeerAt(i);
    RETURN_IF_ERROR(Send(At(First(group_->rank, own.segment)), Count(group_->rank, own.segment), peer, SumTag(lane),
                         OwnRequest(lane, peer)));
  }
  return absl::OkStatus();
}

absl::Status SegmentedAllReduce::PeersCameIn(int64_t lane, int peer) {
  Lane& theirs = peers_lanes_[lane * peers_ + PeerIndex(peer)];
  if (theirs.returning) {
    SegmentDone(peer, theirs.segment);
    return BeginPeers(lane, peer, theirs.segment + kWindow);
  }
  theirs.returning = true;
  return Receive(At(First(peer, theirs.segment)), Count(peer, theirs.segment), peer, SumTag(lane),
                 PeerRequest(lane, peer));
}

void SegmentedAllReduce::SegmentDone(int owner, int64_t segment) {
  if (r_.apply) r_.apply(First(owner, segment), Count(owner, segment));
  --left_;
}

// A longer message than expected is MPI's error; a shorter one is not.
absl::Status SegmentedAllReduce::CheckSize(int64_t index, const MPI_Status& status) {
  const bool own = index < kWindow * peers_;
  const Lane& lane = own ? own_[index / peers_] : peers_lanes_[index - kWindow * peers_];
  const int peer = PeerAt(index % peers_);
  if (own == lane.returning) return absl::OkStatus();  // sent
  int bytes = 0;
  RETURN_IF_ERROR(CheckMpi(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count"));
  const int64_t expected = Count(own ? group_->rank : peer, lane.segment) * r_.size();
  if (bytes == expected) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "rank ", peer, " sent ", bytes, " bytes where ", expected,
      " were due: the ranks do not run the same collectives; check that all have the same build, config and model"));
}

absl::Status SegmentedAllReduce::Completed(int64_t index, const MPI_Status& status) {
  RETURN_IF_ERROR(CheckSize(index, status));
  const int64_t lane = index / peers_ % kWindow;
  if (index < kWindow * peers_) return OwnCameIn(lane);
  return PeersCameIn(lane, PeerAt(index % peers_));
}

absl::StatusOr<bool> SegmentedAllReduce::Poll() {
  // As long as there is something to do, but not for ever: other operations want their turn.
  for (int64_t round = 0; round < 2 * kWindow && left_ > 0; ++round) {
    int count = 0;
    const int code =
        MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, completed_.data(), statuses_.data());
    if (code == MPI_ERR_IN_STATUS) {
      for (int i = 0; i < count; ++i) RETURN_IF_ERROR(CheckMpi(statuses_[i].MPI_ERROR, "MPI_Testsome"));
    }
    RETURN_IF_ERROR(CheckMpi(code, "MPI_Testsome"));
    if (count <= 0) break;
    for (int i = 0; i < count; ++i) RETURN_IF_ERROR(Completed(completed_[i], statuses_[i]));
  }
  return left_ == 0;
}

// Everyone's bytes to everyone; `merge` then makes the result out of world · bytes, in rank order.
class GatherAndMerge : public Operation {
 public:
  using MergeFn = std::function<void(std::byte* gathered)>;
  GatherAndMerge(Group* group, int64_t bytes, MergeFn merge)
      : group_(group), bytes_(bytes), merge_(std::move(merge)), gathered_(group->pool.Take(bytes * group->world)) {}
  ~GatherAndMerge() override { group_->pool.Give(bytes_ * group_->world, std::move(gathered_)); }

  absl::Status Start(const void* own) {
    const int count = static_cast<int>(bytes_);
    return CheckMpi(MPI_Iallgather(own, count, MPI_BYTE, gathered_.get(), count, MPI_BYTE, group_->comm, &request_),
                    "MPI_Iallgather");
  }

  absl::StatusOr<bool> Poll() override {
    int done = 0;
    RETURN_IF_ERROR(CheckMpi(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done) merge_(gathered_.get());
    return done != 0;
  }

 private:
  Group* const group_;
  const int64_t bytes_;
  const MergeFn merge_;
  Buffer gathered_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

// Requests alone: a barrier, or a broadcast in as many calls as its size needs.
class RequestList : public Operation {
 public:
  MPI_Request* Add() { return &requests_.emplace_back(MPI_REQUEST_NULL); }
  absl::StatusOr<bool> Poll() override {
    int done = 0;
    RETURN_IF_ERROR(CheckMpi(
        MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall"));
    return done != 0;
  }

 private:
  std::vector<MPI_Request> requests_;
};

class MpiCollectives : public Collectives {
 public:
  explicit MpiCollectives(std::unique_ptr<Group> group) : group_(std::move(group)) {}
  int rank() const override { return group_->rank; }
  int world() const override { return group_->world; }
  std::string algorithm() const override { return "mpi"; }

  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op) override {
    return Start({data, dtype, op, nullptr});
  }
  absl::StatusOr<std::unique_ptr<Operation>> ReduceAndApply(absl::Span<std::byte> data, DType dtype,
                                                            ApplyFn apply) override {
    return Start({data, dtype, ReduceOp::kSum, std::move(apply)});
  }
  absl::StatusOr<std::unique_ptr<Operation>> AllReduceTail(StepTail* tail) override;
  absl::StatusOr<std::unique_ptr<Operation>> Broadcast(absl::Span<std::byte> data, int root) override;
  absl::StatusOr<std::unique_ptr<Operation>> Barrier() override;
  int64_t WireBytes(int64_t bytes) const override;

 private:
  bool OneShot(int64_t bytes) const { return bytes * group_->world <= group_->options.one_shot_bytes; }
  absl::StatusOr<std::unique_ptr<Operation>> Start(Reduction reduction);
  absl::StatusOr<std::unique_ptr<Operation>> StartOneShot(Reduction reduction);

  const std::unique_ptr<Group> group_;
  int64_t segmented_ = 0;  // operations started, for tags
};

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::Start(Reduction reduction) {
  if (OneShot(static_cast<int64_t>(reduction.data.size()))) return StartOneShot(std::move(reduction));
  const int tag = static_cast<int>(segmented_++ % kTagged * kTagsEach);
  auto operation = std::make_unique<SegmentedAllReduce>(group_.get(), std::move(reduction), tag);
  RETURN_IF_ERROR(operation->Start());
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::StartOneShot(Reduction reduction) {
  const absl::Span<std::byte> data = reduction.data;
  const int64_t bytes = static_cast<int64_t>(data.size());
  auto merge = [reduction = std::move(reduction), bytes, world = group_->world](const std::byte* gathered) {
    std::copy(gathered, gathered + bytes, reduction.data.data());
    for (int rank = 1; rank < world; ++rank) {
      Reduce(reduction.data.data(), gathered + rank * bytes, reduction.count(), reduction.dtype, reduction.op);
    }
    if (reduction.apply && reduction.count() > 0) reduction.apply(0, reduction.count());
  };
  auto operation = std::make_unique<GatherAndMerge>(group_.get(), bytes, std::move(merge));
  RETURN_IF_ERROR(operation->Start(data.data()));
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::AllReduceTail(StepTail* tail) {
  auto merge = [tail, world = group_->world](const std::byte* gathered) {
    StepTail one;
    std::copy(gathered, gathered + sizeof(StepTail), reinterpret_cast<std::byte*>(tail));
    for (int rank = 1; rank < world; ++rank) {
      const std::byte* const from = gathered + rank * sizeof(StepTail);
      std::copy(from, from + sizeof(StepTail), reinterpret_cast<std::byte*>(&one));
      MergeTail(one, tail);
    }
  };
  auto operation = std::make_unique<GatherAndMerge>(group_.get(), sizeof(StepTail), std::move(merge));
  RETURN_IF_ERROR(operation->Start(tail));
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::Broadcast(absl::Span<std::byte> data, int root) {
  auto operation = std::make_unique<RequestList>();
  const int64_t bytes = static_cast<int64_t>(data.size());
  for (int64_t at = 0; at < bytes; at += group_->options.broadcast_bytes) {
    const int count = static_cast<int>(std::min(group_->options.broadcast_bytes, bytes - at));
    RETURN_IF_ERROR(
        CheckMpi(MPI_Ibcast(data.data() + at, count, MPI_BYTE, root, group_->comm, operation->Add()), "MPI_Ibcast"));
  }
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::Barrier() {
  auto operation = std::make_unique<RequestList>();
  RETURN_IF_ERROR(CheckMpi(MPI_Ibarrier(group_->comm, operation->Add()), "MPI_Ibarrier"));
  return operation;
}

int64_t MpiCollectives::WireBytes(int64_t bytes) const {
  const int64_t peers = group_->world - 1;
  return OneShot(bytes) ? bytes * peers : 2 * bytes * peers / group_->world;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Collectives>> NewMpiCollectives(const MpiOptions& options) {
  auto group = std::make_unique<Group>();
  group->options = options;
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_rank(MPI_COMM_WORLD, &group->rank), "MPI_Comm_rank"));
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_size(MPI_COMM_WORLD, &group->world), "MPI_Comm_size"));
  if (group->world == 1) return NewLocalCollectives();
  const int64_t until_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(options.setup_timeout);
  MPI_Request request = MPI_REQUEST_NULL;
  // MPI writes the communicator when the request is done: past the deadline the group must stay where it is.
  Group* const target = group.release();
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_idup(MPI_COMM_WORLD, &target->comm, &request), "MPI_Comm_idup"));
  for (int done = 0; !done;) {
    RETURN_IF_ERROR(CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (!done && MonotonicNanos() > until_ns) {
      return absl::DeadlineExceededError(absl::StrCat("rank ", target->rank, " has waited ",
                                                      absl::FormatDuration(options.setup_timeout), " for all ",
                                                      target->world, " ranks to make a communicator"));
    }
  }
  group.reset(target);
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_set_errhandler(group->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
  return std::make_unique<MpiCollectives>(std::move(group));
}

}  // namespace lockstep
