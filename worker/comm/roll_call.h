#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/collectives.h"

namespace lockstep {

// Finds out who keeps an operation waiting, by words outside of all collectives (Collectives::Tell):
//
//   a) every rank listens a few times a second, while it has nothing to do too, and answers whoever asks: so one whose
//      trainer computes for long is known to be alive
//   b) an operation has waited for half of its deadline: the rank asks all others, and again every eighth
//   c) a question and an answer say what their sender waits for or did last, and an answer also what the sender knows
//      as the number that was asked about; by number and digest two ranks that do not do the same find out at once
//   d) at the deadline, who has been silent for a third of it does not answer; who has done less has come only so far
//
// Nothing is sent before b). Messages, and NamedRanks of statuses, have the ranks' numbers in the job
// (Collectives::JobRank). Called by the communication thread alone.
class RollCall {
 public:
  // `collectives` outlives it.
  RollCall(Collectives* collectives, absl::Duration timeout);

  // An operation has begun; they come in order, numbered from 0. `digest`: of all up to this one.
  void Begun(int64_t number, absl::string_view kind, absl::string_view name, int64_t bytes, uint64_t digest);

  // Where this rank is: it waits for operation `number` or, if `done`, has done it and nothing since.
  struct Standing {
    int64_t number = -1;
    bool done = true;
  };
  // a): one comparison unless it is time. FailedPrecondition: some rank does not do the same; names both sides.
  absl::Status Listen(const Standing& own, int64_t now_ns) {
    return now_ns < listen_at_ns_ ? absl::OkStatus() : ListenNow(own, now_ns);
  }
  // How long a thread without work may sleep until the next Listen; alone, where nobody asks, long.
  absl::Duration period() const { return period_; }
  // b): to be called while `own` has waited for `waited`.
  absl::Status AskIfLong(const Standing& own, absl::Duration waited, int64_t now_ns);
  // d): DeadlineExceeded with who is missing, which NamedRanks has too.
  absl::Status Missing(const Standing& own, absl::Duration waited, int64_t now_ns) const;
  // `error`, of an operation or of what the ranks do together in another way, with what the others have to say: whether
  // all do the same (FailedPrecondition names both sides of it, in place of `error`), and which of the ranks that
  // `error` names are there. Takes a moment: until all have answered, or a quarter of the deadline has passed, two
  // seconds at most.
  absl::Status Explain(const Standing& own, const absl::Status& error);
  // This rank is about to leave, and will not answer any more: all others hear where it stands.
  void SayLast(const Standing& own) { TellAll(own, /*asks=*/false).IgnoreError(); }

 private:
  using Place = RollWord::Place;
  struct Heard {
    int64_t at_ns = -1;  // -1: never
    Place at;
    bool done = false;
  };
  static constexpr int64_t kHistory = 256;

  Place Find(int64_t number) const;  // number -1: not begun, or forgotten
  RollWord Word(const Standing& own) const;
  absl::Status ListenNow(const Standing& own, int64_t now_ns);
  absl::Status TakeWord(int from, const RollWord& word, const Standing& own, int64_t now_ns);
  absl::Status Compare(int from, const Place& theirs) const;
  absl::Status TellAll(const Standing& own, bool asks);
  std::string Describe(int rank) const;
  int JobRank(int rank) const { return collectives_->JobRank(rank); }
  std::vector<int> JobRanks(std::vector<int> ranks) const;
  // -1: none of this group.
  int RankOf(int job_rank) const;
  // Asks all and listens until all have said something since `start_ns`, or patience is at its end.
  absl::Status Assemble(const Standing& own, int64_t start_ns);

  Collectives* const collectives_;
  const int64_t timeout_ns_;
  const absl::Duration period_;
  std::vector<Place> history_;  // by number % kHistory
  std::vector<Heard> heard_;    // by rank
  int64_t listen_at_ns_ = 0, ask_at_ns_ = 0;
};

}  // namespace lockstep
