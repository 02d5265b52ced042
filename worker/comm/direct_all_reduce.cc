// All-reduce in two rounds: rank j owns the j-th slice. Everyone sends the owner its part of the slice, segment by
// segment; the owner adds the parts up in rank order and sends each the sum. Every element is thus x0 + x1 + … + x(n-1)
// in this order, whatever the sizes and however messages race, and is computed once: the same bits on every rank and
// from run to run. Each rank sends 2(n-1)/n of the data, the least there is, in two latencies.
#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "worker/comm/mpi_group.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

// Segments of a slice that are under way at a time, so that a message travels while another is added up. Each has two
// tags: one for parts, one for sums.
constexpr int64_t kWindow = kTagsEach / 2;

class DirectAllReduce : public Operation {
 public:
  // The kTagsEach tags from `tag` on are this operation's own on every rank.
  DirectAllReduce(MpiGroup* group, Reduction reduction, int tag);
  ~DirectAllReduce() override { group_->pool.Give(scratch_bytes_, std::move(scratch_)); }
  absl::Status Start();
  absl::StatusOr<bool> Poll() override;
  int64_t wire_bytes() const override;
  absl::string_view algorithm() const override { return WayName(Way::kDirect); }
  absl::Span<const Message> messages() const override { return requests_.messages(); }

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
  int64_t OwnPlace(int64_t lane, int peer) const { return lane * peers_ + PeerIndex(peer); }
  int64_t PeerPlace(int64_t lane, int peer) const { return OwnPlace(kWindow + lane, peer); }

  absl::Status Send(const std::byte* from, int64_t count, int peer, int tag, int64_t place) {
    return requests_.Send(from, count * r_.size(), peer, tag, place);
  }
  absl::Status Receive(std::byte* to, int64_t count, int peer, int tag, int64_t place) {
    return requests_.Receive(to, count * r_.size(), peer, tag, place);
  }
  absl::Status BeginOwn(int64_t lane, int64_t segment);
  absl::Status BeginPeers(int64_t lane, int peer, int64_t segment);
  absl::Status OwnCameIn(int64_t lane);
  absl::Status PeersCameIn(int64_t lane, int peer);
  absl::Status Completed(int k);
  void AddUp(int64_t lane);

  MpiGroup* const group_;
  const Reduction r_;
  const int tag_;
  const int64_t peers_;
  int64_t slice_ = 0;    // elements
  int64_t segment_ = 0;  // elements
  int64_t left_ = 0;     // segments not done yet, of all slices
  int64_t scratch_bytes_ = 0;
  Buffer scratch_;  // parts of the own slice: [lane][peer][segment]
  std::vector<Lane> own_, peers_lanes_;
  RequestSet requests_;
};

DirectAllReduce::DirectAllReduce(MpiGroup* group, Reduction reduction, int tag)
    : group_(group),
      r_(std::move(reduction)),
      tag_(tag),
      peers_(group->world - 1),
      requests_(group, 2 * kWindow * (group->world - 1)) {
  const int64_t even = (r_.count() + group->world - 1) / group->world;
  slice_ = (even + kSliceElements - 1) / kSliceElements * kSliceElements;
  const MpiOptions& options = group->options;
  const int64_t bytes = std::min(group->segment_bytes, options.scratch_bytes / (kWindow * peers_));
  segment_ = std::min(slice_, std::max<int64_t>(kSliceElements, bytes / r_.size()));
  scratch_bytes_ = kWindow * peers_ * segment_ * r_.size();
  scratch_ = group->pool.Take(scratch_bytes_);
  own_.resize(kWindow);
  peers_lanes_.resize(kWindow * peers_);
  for (int rank = 0; rank < group->world; ++rank) left_ += Segments(rank);
}

absl::Status DirectAllReduce::Start() {
  for (int64_t lane = 0; lane < kWindow; ++lane) {
    RETURN_IF_ERROR(BeginOwn(lane, lane));
    // Not everyone to rank 0 first.
    for (int step = 1; step < group_->world; ++step) {
      RETURN_IF_ERROR(BeginPeers(lane, (group_->rank + step) % group_->world, lane));
    }
  }
  return absl::OkStatus();
}

absl::Status DirectAllReduce::BeginOwn(int64_t lane, int64_t segment) {
  if (segment >= Segments(group_->rank)) return absl::OkStatus();
  own_[lane] = {segment, false, peers_};
  for (int64_t i = 0; i < peers_; ++i) {
    const int peer = PeerAt(i);
    RETURN_IF_ERROR(Receive(Part(lane, peer), Count(group_->rank, segment), peer, PartTag(lane), OwnPlace(lane, peer)));
  }
  return absl::OkStatus();
}

absl::Status DirectAllReduce::BeginPeers(int64_t lane, int peer, int64_t segment) {
  if (segment >= Segments(peer)) return absl::OkStatus();
  peers_lanes_[lane * peers_ + PeerIndex(peer)] = {segment, false, 1};
  return Send(At(First(peer, segment)), Count(peer, segment), peer, PartTag(lane), PeerPlace(lane, peer));
}

// x0 + x1 + … in rank order. Only the parts may be overwritten on the way up to the own rank.
void DirectAllReduce::AddUp(int64_t lane) {
  const int own = group_->rank;
  const int64_t count = Count(own, own_[lane].segment);
  std::byte* const sum = At(First(own, own_[lane].segment));
  for (int peer = 1; peer < own; ++peer) Reduce(Part(lane, 0), Part(lane, peer), count, r_.dtype, r_.op);
  if (own > 0) Reduce(sum, Part(lane, 0), count, r_.dtype, r_.op);
  for (int peer = own + 1; peer < group_->world; ++peer) Reduce(sum, Part(lane, peer), count, r_.dtype, r_.op);
}

absl::Status DirectAllReduce::OwnCameIn(int64_t lane) {
  Lane& own = own_[lane];
  if (--own.pending > 0) return absl::OkStatus();
  if (own.returning) {
    --left_;
    return BeginOwn(lane, own.segment + kWindow);
  }
  AddUp(lane);
  own.returning = true;
  own.pending = peers_;
  for (int step = 1; step < group_->world; ++step) {
    const int peer = (group_->rank + step) % group_->world;
    RETURN_IF_ERROR(Send(At(First(group_->rank, own.segment)), Count(group_->rank, own.segment), peer, SumTag(lane),
                         OwnPlace(lane, peer)));
  }
  return absl::OkStatus();
}

absl::Status DirectAllReduce::PeersCameIn(int64_t lane, int peer) {
  Lane& theirs = peers_lanes_[lane * peers_ + PeerIndex(peer)];
  if (theirs.returning) {
    --left_;
    return BeginPeers(lane, peer, theirs.segment + kWindow);
  }
  theirs.returning = true;
  return Receive(At(First(peer, theirs.segment)), Count(peer, theirs.segment), peer, SumTag(lane),
                 PeerPlace(lane, peer));
}

absl::Status DirectAllReduce::Completed(int k) {
  const int64_t place = requests_.completed(k), lane = place / peers_ % kWindow;
  const int peer = PeerAt(place % peers_);
  return place < kWindow * peers_ ? OwnCameIn(lane) : PeersCameIn(lane, peer);
}

// The parts of everyone else's slices, and the own sum to everyone.
int64_t DirectAllReduce::wire_bytes() const {
  const int64_t own = SliceBegin(group_->rank + 1) - SliceBegin(group_->rank);
  return (r_.count() - own + own * peers_) * r_.size();
}

absl::StatusOr<bool> DirectAllReduce::Poll() {
  // As long as there is something to do, but not for ever: other operations want their turn.
  for (int64_t round = 0; round < 2 * kWindow && left_ > 0; ++round) {
    ASSIGN_OR_RETURN(const int count, requests_.Test());
    if (count == 0) break;
    for (int k = 0; k < count; ++k) RETURN_IF_ERROR(Completed(k));
  }
  return left_ == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> StartDirectAllReduce(MpiGroup* group, Reduction reduction, int tag) {
  auto operation = std::make_unique<DirectAllReduce>(group, std::move(reduction), tag);
  RETURN_IF_ERROR(operation->Start());
  return operation;
}

}  // namespace lockstep
