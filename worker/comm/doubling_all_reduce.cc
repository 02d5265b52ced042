// All-reduce by recursive doubling (Thakur, Rabenseifner and Gropp 2005): in round k a rank exchanges all of its data
// with the one whose number differs in bit k, and both add up. log2(n) rounds, each of one message a rank: the least
// latency and, where ranks outnumber cores, the fewest wake-ups; n/2 · log2(n) / (n-1) times the bytes of a direct
// reduction, so for small data. Ranks beyond the largest power of two give theirs to a partner before, and get the sum
// after.
//
// Sums are a tree over the ranks' numbers, with the lower numbers' part on the left on both sides: the same bits on
// every rank and from run to run.
#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "common/base/status.h"
#include "worker/comm/mpi_group.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

class DoublingAllReduce : public Operation {
 public:
  DoublingAllReduce(MpiGroup* group, Reduction reduction, int tag)
      : group_(group),
        r_(std::move(reduction)),
        tag_(tag),
        bytes_(static_cast<int64_t>(r_.data.size())),
        requests_(group, 2) {
    PlanRounds();
    came_ = group->pool.Take(bytes_);
  }
  ~DoublingAllReduce() override { group_->pool.Give(bytes_, std::move(came_)); }

  absl::Status Start() { return Begin(); }
  int64_t wire_bytes() const override { return wire_bytes_; }
  absl::string_view algorithm() const override { return WayName(Way::kDoubling); }
  absl::Span<const Message> messages() const override { return requests_.messages(); }
  absl::StatusOr<bool> Poll() override;

 private:
  struct Round {
    int peer = 0;
    bool sends = false, receives = false;
    bool adds = false;  // what it receives, to its own; else it takes it for its own
  };

  void PlanRounds();
  absl::Status Begin();
  void TakeIn(const Round& round);

  MpiGroup* const group_;
  const Reduction r_;
  const int tag_;
  const int64_t bytes_;
  absl::InlinedVector<Round, 8> rounds_;
  size_t round_ = 0;  // the one under way
  int pending_ = 0;   // messages of it
  int64_t wire_bytes_ = 0;
  Buffer came_;
  RequestSet requests_;  // receive, send
};

void DoublingAllReduce::PlanRounds() {
  const int rank = group_->rank, world = group_->world;
  int paired = 1;  // the largest power of two
  while (2 * paired <= world) paired *= 2;
  if (rank >= paired) {
    rounds_ = {{rank - paired, true, false, false}, {rank - paired, false, true, false}};
  } else {
    const bool has_partner = rank + paired < world;
    if (has_partner) rounds_.push_back({rank + paired, false, true, true});
    for (int bit = 1; bit < paired; bit *= 2) rounds_.push_back({rank ^ bit, true, true, true});
    if (has_partner) rounds_.push_back({rank + paired, true, false, false});
  }
  for (const Round& round : rounds_) wire_bytes_ += round.sends ? bytes_ : 0;
}

absl::Status DoublingAllReduce::Begin() {
  const Round& round = rounds_[round_];
  if (round.receives) {
    std::byte* const to = round.adds ? came_.get() : r_.data.data();
    RETURN_IF_ERROR(requests_.Receive(to, bytes_, round.peer, tag_, /*place=*/0));
  }
  if (round.sends) RETURN_IF_ERROR(requests_.Send(r_.data.data(), bytes_, round.peer, tag_, /*place=*/1));
  pending_ = (round.receives ? 1 : 0) + (round.sends ? 1 : 0);
  return absl::OkStatus();
}

void DoublingAllReduce::TakeIn(const Round& round) {
  if (!round.adds) return;
  if (round.peer > group_->rank) return Reduce(r_.data.data(), came_.get(), r_.count(), r_.dtype, r_.op);
  Reduce(came_.get(), r_.data.data(), r_.count(), r_.dtype, r_.op);
  std::copy_n(came_.get(), bytes_, r_.data.data());
}

absl::StatusOr<bool> DoublingAllReduce::Poll() {
  while (round_ < rounds_.size()) {
    const Round& round = rounds_[round_];
    ASSIGN_OR_RETURN(const int count, requests_.Test());
    if (count == 0) return false;
    pending_ -= count;
    if (pending_ > 0) continue;
    TakeIn(round);
    if (++round_ < rounds_.size()) RETURN_IF_ERROR(Begin());
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> StartDoublingAllReduce(MpiGroup* group, Reduction reduction, int tag) {
  auto operation = std::make_unique<DoublingAllReduce>(group, std::move(reduction), tag);
  RETURN_IF_ERROR(operation->Start());
  return operation;
}

}  // namespace lockstep
