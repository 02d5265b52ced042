#include "worker/comm/way_trial.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lockstep {
namespace {

constexpr std::array<Way, kWays> kAllWays = {Way::kGather, Way::kDoubling, Way::kDirect, Way::kRing, Way::kLibrary};
// So far ahead of the next that more rounds would tell nothing new.
constexpr double kClearlyFaster = 1.1;
// So far behind the best that more rounds would not help it.
constexpr double kHopeless = 1.5;
// What the library's may take of ours to be chosen.
constexpr double kLibraryShare = 0.8;
// A gather holds everyone's data at once: no more than this is worth its memory.
constexpr int64_t kMostGatheredBytes = 16 << 20;
// Of the time that is left, what one size may take for more rounds than its first.
constexpr double kSizeShare = 0.5;

}  // namespace

WayTrial::WayTrial(Options options) : options_(std::move(options)) { NextSize(); }

double WayTrial::Median(size_t size, Way way) const {
  std::vector<double> seconds = measured_[size].seconds[static_cast<size_t>(way)];
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>((seconds.size() - 1) / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

std::optional<Way> WayTrial::Best(size_t size) const {
  std::optional<Way> best;
  for (const Way way : kAllWays) {  // the library's last
    if (measured_[size].seconds[static_cast<size_t>(way)].empty()) continue;
    const double share = way == Way::kLibrary ? kLibraryShare : 1;
    if (!best || Median(size, way) < share * Median(size, *best)) best = way;
  }
  return best;
}

bool WayTrial::Settled() const {
  const size_t size = measured_.size() - 1;
  const Way best = *Best(size);
  for (const Way way : in_question_) {
    if (way != best && Median(size, way) < kClearlyFaster * Median(size, best)) return false;
  }
  return true;
}

// No time grows faster than the size.
double WayTrial::Predicted(const std::vector<Way>& ways) const {
  const size_t size = measured_.size() - 1;
  double predicted_s = 0;
  for (const Way way : ways) {
    const auto& own = measured_[size].seconds[static_cast<size_t>(way)];
    if (!own.empty()) {
      predicted_s += own.back();
    } else if (size > 0 && !measured_[size - 1].seconds[static_cast<size_t>(way)].empty()) {
      const double grown = static_cast<double>(options_.sizes[size]) / static_cast<double>(options_.sizes[size - 1]);
      predicted_s += Median(size - 1, way) * grown;
    }
  }
  return predicted_s;
}

void WayTrial::NextSize() {
  if (measured_.size() == options_.sizes.size()) {
    over_ = true;
    return;
  }
  measured_.emplace_back();
  in_question_.clear();
  const bool fits = options_.sizes[measured_.size() - 1] * options_.world <= kMostGatheredBytes;
  for (const Way way : kAllWays) {
    const bool lost = std::find(lost_.begin(), lost_.end(), way) != lost_.end();
    if (!lost && (way != Way::kGather || fits)) in_question_.push_back(way);
  }
  size_began_s_ = elapsed_s_;
  if (elapsed_s_ + Predicted(in_question_) <= options_.budget_s) return;
  measured_.pop_back();
  over_ = true;
}

std::optional<WayTrial::Round> WayTrial::Next() const {
  if (over_) return std::nullopt;
  return Round{options_.sizes[measured_.size() - 1], in_question_};
}

void WayTrial::Took(const std::vector<double>& seconds, double elapsed_s) {
  const size_t size = measured_.size() - 1;
  for (size_t i = 0; i < in_question_.size(); ++i) {
    measured_[size].seconds[static_cast<size_t>(in_question_[i])].push_back(seconds[i]);
  }
  elapsed_s_ = elapsed_s;
  const Way best = *Best(size);
  const size_t rounds = measured_[size].seconds[static_cast<size_t>(best)].size();
  if (rounds >= 2) {
    const auto hopeless = [&](Way way) { return way != best && Median(size, way) > kHopeless * Median(size, best); };
    const auto sends_all = [](Way way) { return way == Way::kGather || way == Way::kDoubling; };
    for (const Way way : in_question_) {
      if (sends_all(way) && hopeless(way)) lost_.push_back(way);
    }
    in_question_.erase(std::remove_if(in_question_.begin(), in_question_.end(), hopeless), in_question_.end());
  }
  const double left_s = options_.budget_s - size_began_s_;
  const bool fits = elapsed_s_ - size_began_s_ + Predicted(in_question_) <= kSizeShare * left_s;
  if (!fits || rounds >= kMostRounds || (rounds >= kLeastRounds && Settled())) NextSize();
}

std::vector<WayTime> WayTrial::Times() const {
  std::vector<WayTime> times;
  for (size_t size = 0; size < measured_.size(); ++size) {
    const std::optional<Way> best = Best(size);
    for (const Way way : kAllWays) {
      if (measured_[size].seconds[static_cast<size_t>(way)].empty()) continue;
      times.push_back({options_.sizes[size], way, Median(size, way), way == best});
    }
  }
  return times;
}

WayTable WayTrial::Table() const {
  WayTable table;
  for (size_t size = 0; size < measured_.size(); ++size) {
    const std::optional<Way> best = Best(size);
    if (!best) break;
    // Halfway to the next size, as sizes go: in powers.
    const bool largest = size + 1 == options_.sizes.size();
    const double product = largest ? 0 : static_cast<double>(options_.sizes[size]) * options_.sizes[size + 1];
    const int64_t up_to = largest ? kAnySize : std::llround(std::sqrt(product));
    if (!table.empty() && table.back().way == *best) table.pop_back();
    table.push_back({up_to, *best});
  }
  if (table.empty()) return RingWays();
  if (table.back().bytes == kAnySize) return table;
  if (table.back().way == Way::kRing) table.pop_back();
  table.push_back({kAnySize, Way::kRing});
  return table;
}

}  // namespace lockstep
