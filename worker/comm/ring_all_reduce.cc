// All-reduce around a ring (Patarasuk and Yuan 2009), segmented and pipelined. The data is cut into one chunk a rank.
// In round t of 2(n-1) every rank sends one chunk to the right and takes another from the left: in the first n-1 rounds
// it adds its own part to what comes and passes the sum on, in the others it passes on what is complete. Each rank
// sends 2(n-1)/n of the data, and every link is busy in both directions all the time.
//
// A chunk travels in segments, each of which goes on as soon as it has been added up, so that rounds overlap: the
// segments of all rounds are one queue of messages, and its k-th message may leave once the one that brought its
// contents, `segments_` before it, has come.
//
// A chunk's additions are x(c) + x(c+1) + … from the chunk's own rank around the ring, and its sum is computed once:
// the same bits on every rank and from run to run.
//
// With a shorter format on the wire a part is rounded into scratch memory when it is sent, and decoded and added when
// it has come. Where a sum becomes complete it is rounded at once, so that passing it on changes nothing.
#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "worker/comm/half.h"
#include "worker/comm/mpi_group.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

// Messages under way at a time in each direction. Enough that one is on the wire while another is shaken hands about
// and a third is added up.
constexpr int64_t kDepth = 8;

class RingAllReduce : public Operation {
 public:
  RingAllReduce(MpiGroup* group, Reduction reduction, int tag);
  ~RingAllReduce() override { group_->pool.Give(scratch_bytes_, std::move(scratch_)); }
  absl::Status Start() { return Continue(); }
  absl::StatusOr<bool> Poll() override;
  int64_t wire_bytes() const override { return wire_bytes_; }
  absl::string_view algorithm() const override { return WayName(Way::kRing); }
  absl::Span<const Message> messages() const override { return requests_.messages(); }

 private:
  // A message of the queue: segment `message % segments_` of the chunk that it is about.
  struct Piece {
    int64_t first = 0, count = 0;  // elements
  };
  Piece PieceOf(int64_t chunk, int64_t message) const;
  Piece Outgoing(int64_t message) const { return PieceOf(group_->rank - message / segments_, message); }
  Piece Incoming(int64_t message) const { return PieceOf(group_->rank - 1 - message / segments_, message); }
  bool Adds(int64_t message) const { return message / segments_ < group_->world - 1; }
  std::byte* At(int64_t element) const { return r_.data.data() + element * r_.size(); }
  std::byte* Scratch(bool outgoing, int64_t message) const {
    return scratch_.get() + ((outgoing ? kDepth : 0) + message % kDepth) * segment_ * r_.wire_size();
  }
  static int64_t Place(bool outgoing, int64_t message) { return (outgoing ? kDepth : 0) + message % kDepth; }

  absl::Status Continue();
  absl::Status Receive(int64_t message);
  absl::Status Send(int64_t message);
  void TakeIn(int64_t message);
  void Decode(int64_t message);
  // Adds up what has come, in order: later messages may be done first.
  void Advance();

  MpiGroup* const group_;
  const Reduction r_;
  const int tag_, left_, right_;
  int64_t chunk_ = 0, segment_ = 0;   // elements
  int64_t segments_ = 0;              // of a chunk
  int64_t messages_ = 0;              // to be received, and as many to be sent
  int64_t receiving_ = 0, came_ = 0;  // receives posted; messages that have come and been added up, with all before
  int64_t sending_ = 0, sent_ = 0;    // sends posted; gone, with all before
  int64_t wire_bytes_ = 0;            // sent so far
  int64_t scratch_bytes_ = 0;
  Buffer scratch_;
  RequestSet requests_;     // by message % kDepth: receives, then sends
  std::vector<bool> done_;  // by request: done, but a message before it is not yet
};

RingAllReduce::RingAllReduce(MpiGroup* group, Reduction reduction, int tag)
    : group_(group),
      r_(std::move(reduction)),
      tag_(tag),
      left_((group->rank + group->world - 1) % group->world),
      right_((group->rank + 1) % group->world),
      requests_(group, 2 * kDepth) {
  const auto round_up = [](int64_t value, int64_t to) { return (value + to - 1) / to * to; };
  chunk_ = round_up((r_.count() + group->world - 1) / group->world, kSliceElements);
  // Rounds overlap only if a chunk has segments for it, so that small chunks get small ones.
  const int64_t most = std::max(kSliceElements, group->segment_bytes / r_.size());
  segment_ = std::min(most, round_up((chunk_ + kDepth / 2 - 1) / (kDepth / 2), kSliceElements));
  segments_ = (chunk_ + segment_ - 1) / segment_;
  messages_ = 2 * (group->world - 1) * segments_;
  scratch_bytes_ = (r_.shortened() ? 2 : 1) * kDepth * segment_ * r_.wire_size();
  scratch_ = group->pool.Take(scratch_bytes_);
  done_.resize(2 * kDepth);
}

RingAllReduce::Piece RingAllReduce::PieceOf(int64_t chunk, int64_t message) const {
  const int64_t world = group_->world;
  const int64_t chunk_begin = (chunk % world + world) % world * chunk_;
  const int64_t begin = std::min(r_.count(), chunk_begin + message % segments_ * segment_);
  return {begin, std::min({segment_, chunk_begin + chunk_ - begin, r_.count() - begin})};
}

absl::Status RingAllReduce::Receive(int64_t message) {
  const Piece piece = Incoming(message);
  std::byte* const to = Adds(message) || r_.shortened() ? Scratch(false, message) : At(piece.first);
  return requests_.Receive(to, piece.count * r_.wire_size(), left_, tag_, Place(false, message));
}

absl::Status RingAllReduce::Send(int64_t message) {
  const Piece piece = Outgoing(message);
  const int64_t bytes = piece.count * r_.wire_size();
  wire_bytes_ += bytes;
  std::byte* from = At(piece.first);
  if (r_.shortened()) {
    const auto* const values = reinterpret_cast<const float*>(from);
    from = Scratch(true, message);
    HalfFormatOf(r_.wire).encode(values, piece.count, reinterpret_cast<uint16_t*>(from));
  }
  return requests_.Send(from, bytes, right_, tag_, Place(true, message));
}

// Posts all that may be posted.
absl::Status RingAllReduce::Continue() {
  // What is complete and exact is received in place, where a part was sent from n-1 rounds before: that has to be gone.
  const int64_t back = (group_->world - 1) * segments_;
  while (receiving_ < messages_ && receiving_ - came_ < kDepth &&
         (Adds(receiving_) || r_.shortened() || receiving_ - back < sent_)) {
    RETURN_IF_ERROR(Receive(receiving_++));
  }
  while (sending_ < messages_ && sending_ - sent_ < kDepth && sending_ - segments_ < came_) {
    RETURN_IF_ERROR(Send(sending_++));
  }
  return absl::OkStatus();
}

void RingAllReduce::TakeIn(int64_t message) {
  if (r_.shortened()) return Decode(message);
  const Piece piece = Incoming(message);
  if (Adds(message)) Reduce(At(piece.first), Scratch(false, message), piece.count, r_.dtype, r_.op);
}

void RingAllReduce::Decode(int64_t message) {
  const HalfFormat& format = HalfFormatOf(r_.wire);
  const Piece piece = Incoming(message);
  auto* const values = reinterpret_cast<float*>(At(piece.first));
  const auto* const came = reinterpret_cast<const uint16_t*>(Scratch(false, message));
  if (!Adds(message)) return format.decode(came, piece.count, values);
  format.decode_and_add(came, piece.count, values);
  const bool complete = message / segments_ == group_->world - 2;
  if (complete) format.round(values, piece.count);
}

void RingAllReduce::Advance() {
  for (; came_ < receiving_ && done_[came_ % kDepth]; ++came_) {
    done_[came_ % kDepth] = false;
    TakeIn(came_);
  }
  for (; sent_ < sending_ && done_[kDepth + sent_ % kDepth]; ++sent_) done_[kDepth + sent_ % kDepth] = false;
}

absl::StatusOr<bool> RingAllReduce::Poll() {
  // As long as there is something to do, but not for ever: other operations want their turn.
  for (int round = 0; round < 2 * kDepth && (came_ < messages_ || sent_ < messages_); ++round) {
    ASSIGN_OR_RETURN(const int count, requests_.Test());
    if (count == 0) break;
    for (int k = 0; k < count; ++k) done_[requests_.completed(k)] = true;
    Advance();
    RETURN_IF_ERROR(Continue());
  }
  return came_ == messages_ && sent_ == messages_;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> StartRingAllReduce(MpiGroup* group, Reduction reduction, int tag) {
  auto operation = std::make_unique<RingAllReduce>(group, std::move(reduction), tag);
  RETURN_IF_ERROR(operation->Start());
  return operation;
}

}  // namespace lockstep
