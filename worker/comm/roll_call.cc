#include "worker/comm/roll_call.h"

#include <sched.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

constexpr absl::Duration kShortestPeriod = absl::Milliseconds(2), kLongestPeriod = absl::Milliseconds(250);
constexpr absl::Duration kLongestExplanation = absl::Seconds(2);
constexpr size_t kMostDescribed = 3;

absl::Duration PeriodOf(const Collectives& collectives, absl::Duration timeout) {
  if (collectives.world() == 1) return absl::Hours(1);
  return std::clamp(timeout / 32, kShortestPeriod, kLongestPeriod);
}

void Append(absl::string_view part, size_t* size, char (&text)[48]) {
  const size_t count = std::min(part.size(), sizeof(text) - 1 - *size);
  std::memcpy(text + *size, part.data(), count);
  *size += count;
  text[*size] = '\0';
}

// What came over the wire need not end.
absl::string_view What(const RollWord::Place& place) { return {place.what, strnlen(place.what, sizeof(place.what))}; }

std::string Sized(const RollWord::Place& place) { return absl::StrCat(What(place), " of ", place.bytes, " bytes"); }

std::string Silent(absl::Span<const int> ranks) {
  return absl::StrCat(RankList(ranks), ranks.size() == 1 ? " does not answer" : " do not answer");
}

}  // namespace

RollCall::RollCall(Collectives* collectives, absl::Duration timeout)
    : collectives_(collectives),
      timeout_ns_(absl::ToInt64Nanoseconds(timeout)),
      period_(PeriodOf(*collectives, timeout)),
      history_(kHistory),
      heard_(collectives->world()) {}

void RollCall::Begun(int64_t number, absl::string_view kind, absl::string_view name, int64_t bytes, uint64_t digest) {
  Place& place = history_[number % kHistory];
  place.number = number;
  place.bytes = bytes;
  place.digest = digest;
  size_t size = 0;
  Append(kind, &size, place.what);
  Append(" '", &size, place.what);
  Append(name, &size, place.what);
  Append("'", &size, place.what);
}

std::vector<int> RollCall::JobRanks(std::vector<int> ranks) const {
  for (int& rank : ranks) rank = JobRank(rank);
  return ranks;
}

int RollCall::RankOf(int job_rank) const {
  int rank = collectives_->world() - 1;
  while (rank >= 0 && JobRank(rank) != job_rank) --rank;
  return rank;
}

RollCall::Place RollCall::Find(int64_t number) const {
  if (number < 0) return Place();
  const Place& place = history_[number % kHistory];
  return place.number == number ? place : Place();
}

RollWord RollCall::Word(const Standing& own) const {
  RollWord word;
  word.at = Find(own.number);
  word.done = own.done ? 1 : 0;
  return word;
}

absl::Status RollCall::ListenNow(const Standing& own, int64_t now_ns) {
  listen_at_ns_ = now_ns + absl::ToInt64Nanoseconds(period_);
  // Each rank's words at most once; whoever talks more than that is heard the next time.
  for (size_t heard = 0; heard < heard_.size(); ++heard) {
    RollWord word;
    ASSIGN_OR_RETURN(const int from, collectives_->Hear(&word));
    if (from < 0) return absl::OkStatus();
    RETURN_IF_ERROR(TakeWord(from, word, own, now_ns));
  }
  return absl::OkStatus();
}

absl::Status RollCall::TakeWord(int from, const RollWord& word, const Standing& own, int64_t now_ns) {
  heard_[from] = {now_ns, word.at, word.done != 0};
  if (word.asks != 0) {
    RollWord answer = Word(own);
    answer.about = Find(word.at.number);
    RETURN_IF_ERROR(collectives_->Tell(from, answer));
  }
  RETURN_IF_ERROR(Compare(from, word.at));
  return Compare(from, word.about);
}

absl::Status RollCall::Compare(int from, const Place& theirs) const {
  const Place own = Find(theirs.number);
  if (own.number < 0 || own.digest == theirs.digest) return absl::OkStatus();
  const bool here_first = collectives_->rank() < from;
  const int here = JobRank(collectives_->rank()), there = JobRank(from);
  const int first = here_first ? here : there, second = here_first ? there : here;
  const Place& on_first = here_first ? own : theirs;
  const Place& on_second = here_first ? theirs : own;
  const bool alike = Sized(own) == Sized(theirs);
  const std::string differs =
      alike ? absl::StrCat(Sized(own), " on both, with other names or sizes before it")
            : absl::StrCat(Sized(on_first), " on rank ", first, " and ", Sized(on_second), " on rank ", second);
  return WithRanks(absl::FailedPreconditionError(absl::StrCat(
                       "ranks ", first, " and ", second, " do not run the same collectives: number ", own.number,
                       " is ", differs, "; check that both have the same build, config and model")),
                   {first, second});
}

absl::Status RollCall::TellAll(const Standing& own, bool asks) {
  RollWord word = Word(own);
  word.asks = asks ? 1 : 0;
  for (int rank = 0; rank < collectives_->world(); ++rank) {
    if (rank != collectives_->rank()) RETURN_IF_ERROR(collectives_->Tell(rank, word));
  }
  return absl::OkStatus();
}

absl::Status RollCall::AskIfLong(const Standing& own, absl::Duration waited, int64_t now_ns) {
  if (absl::ToInt64Nanoseconds(waited) < timeout_ns_ / 2 || now_ns < ask_at_ns_) return absl::OkStatus();
  ask_at_ns_ = now_ns + timeout_ns_ / 8;
  return TellAll(own, /*asks=*/true);
}

std::string RollCall::Describe(int rank) const {
  const Heard& heard = heard_[rank];
  const std::string who = absl::StrCat("rank ", JobRank(rank), " is there but has ");
  if (heard.at.number < 0) return absl::StrCat(who, "not begun anything");
  return absl::StrCat(who, heard.done ? "come only to " : "to wait itself, at ", What(heard.at), " (number ",
                      heard.at.number, ")");
}

absl::Status RollCall::Missing(const Standing& own, absl::Duration waited, int64_t now_ns) const {
  std::vector<int> silent, late, behind;
  for (int rank = 0; rank < collectives_->world(); ++rank) {
    const Heard& heard = heard_[rank];
    if (rank == collectives_->rank()) continue;
    if (heard.at_ns < 0 || now_ns - heard.at_ns > timeout_ns_ / 3) {
      silent.push_back(rank);
    } else if (heard.at.number < own.number) {
      (heard.done ? late : behind).push_back(rank);
    }
  }
  // Who waits at an earlier operation waits for the same ones.
  if (silent.empty() && late.empty()) late = behind;
  std::vector<std::string> parts;
  if (!silent.empty()) parts.push_back(Silent(JobRanks(silent)));
  for (size_t i = 0; i < std::min(late.size(), kMostDescribed); ++i) parts.push_back(Describe(late[i]));
  if (late.size() > kMostDescribed) parts.push_back(absl::StrCat(late.size() - kMostDescribed, " more are behind"));
  if (parts.empty()) parts.push_back("all others answer and have come as far, so data is lost between them");
  std::vector<int> named = silent;
  if (silent.empty()) named = late;
  const Place place = Find(own.number);
  return WithRanks(
      absl::DeadlineExceededError(absl::StrCat(What(place), " (number ", own.number, ") has waited ",
                                               absl::FormatDuration(absl::Trunc(waited, absl::Milliseconds(100))), ": ",
                                               absl::StrJoin(parts, ", "))),
      JobRanks(named));
}

absl::Status RollCall::Assemble(const Standing& own, int64_t start_ns) {
  RETURN_IF_ERROR(TellAll(own, /*asks=*/true));
  const int64_t until_ns = start_ns + std::min(timeout_ns_ / 4, absl::ToInt64Nanoseconds(kLongestExplanation));
  const auto all_answered = [&] {
    int answered = 0;
    for (const Heard& heard : heard_) answered += heard.at_ns >= start_ns ? 1 : 0;
    return answered + 1 >= collectives_->world();
  };
  for (int64_t now_ns = start_ns; now_ns < until_ns && !all_answered(); now_ns = MonotonicNanos()) {
    RETURN_IF_ERROR(ListenNow(own, now_ns));
    sched_yield();
  }
  return absl::OkStatus();
}

absl::Status RollCall::Explain(const Standing& own, const absl::Status& error) {
  const bool both_sides_known = absl::IsFailedPrecondition(error) && !NamedRanks(error).empty();
  if (collectives_->world() == 1 || both_sides_known) return error;
  const int64_t start_ns = MonotonicNanos();
  if (const absl::Status different = Assemble(own, start_ns); absl::IsFailedPrecondition(different)) return different;
  std::vector<int> silent, late;
  for (const int job_rank : NamedRanks(error)) {
    const int rank = RankOf(job_rank);
    if (rank >= 0) (heard_[rank].at_ns < start_ns ? silent : late).push_back(job_rank);
  }
  std::vector<std::string> parts;
  if (!silent.empty()) parts.push_back(Silent(silent));
  if (!late.empty())
    parts.push_back(absl::StrCat(RankList(late), late.size() == 1 ? " is" : " are", " there but late"));
  if (parts.empty()) return error;
  return WithRanks(absl::Status(error.code(), absl::StrCat(error.message(), ": ", absl::StrJoin(parts, ", "))),
                   silent.empty() ? late : silent);
}

}  // namespace lockstep
