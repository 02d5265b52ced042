#include "worker/train/layout.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep {
namespace {

constexpr int64_t kAlignment = 16;  // elements: 64 bytes, a cache line
constexpr double kBytesPerMiB = 1024.0 * 1024.0;
constexpr double kFirstBucketMiB = 1;
constexpr size_t kNamesInMessage = 8;

int64_t RoundUp(int64_t elements) { return (elements + kAlignment - 1) / kAlignment * kAlignment; }

const ParameterGroup* FirstMatch(const Optimizer& optimizer, const std::string& name) {
  for (const ParameterGroup& group : optimizer.groups()) {
    if (MatchesPattern(group.pattern(), name)) return &group;
  }
  return nullptr;
}

}  // namespace

bool MatchesPattern(const std::string& pattern, const std::string& name) {
  // Greedy, with a way back to the last star: linear memory, quadratic time at worst.
  size_t p = 0, n = 0, star = std::string::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

absl::Status CheckGroups(const std::vector<ParameterLayout::Parameter>& parameters, const Optimizer& optimizer) {
  for (int i = 0; i < optimizer.groups_size(); ++i) {
    const std::string& pattern = optimizer.groups(i).pattern();
    std::vector<std::string> names;
    bool matches = false;
    for (const ParameterLayout::Parameter& parameter : parameters) {
      matches = matches || MatchesPattern(pattern, parameter.name);
      if (names.size() < kNamesInMessage) names.push_back(parameter.name);
    }
    if (matches) continue;
    const char* more = parameters.size() > names.size() ? " …" : "";
    return absl::InvalidArgumentError(absl::StrCat("optimizer.groups[", i, "].pattern '", pattern,
                                                   "' matches no parameter; the model has ",
                                                   absl::StrJoin(names, ", "), more));
  }
  return absl::OkStatus();
}

bool IsOrder(const std::vector<int>& order, size_t count) {
  std::vector<bool> there(count);
  for (const int number : order) {
    if (number < 0 || number >= static_cast<int>(count) || there[number]) return false;
    there[number] = true;
  }
  return order.size() == count;
}

ParameterLayout::ParameterLayout(const std::vector<Parameter>& in_registration_order, const Optimizer& optimizer,
                                 const std::vector<int>& order) {
  const int count = static_cast<int>(in_registration_order.size());
  segments_.reserve(count);
  for (int place = 0; place < count; ++place) {
    const int number = order.empty() ? count - 1 - place : order[place];
    const Parameter* const it = &in_registration_order[number];
    ParameterSegment segment;
    segment.number = number;
    segment.name = it->name;
    segment.shape = it->shape;
    segment.first = elements_;
    segment.count = 1;
    for (int64_t size : it->shape) segment.count *= size;
    const ParameterGroup* group = FirstMatch(optimizer, it->name);
    segment.weight_decay = group && group->has_weight_decay() ? group->weight_decay() : optimizer.weight_decay();
    segment.lr_scale = group && group->has_lr_scale() ? group->lr_scale() : 1;
    parameters_ += segment.count;
    elements_ += RoundUp(segment.count);
    segments_.push_back(std::move(segment));
  }
}

std::vector<BucketRange> ParameterLayout::Buckets(double bucket_mb) const {
  std::vector<BucketRange> buckets;
  for (size_t i = 0; i < segments_.size(); ++i) {
    const ParameterSegment& segment = segments_[i];
    const int64_t count = RoundUp(segment.count);
    const double cap_mb = buckets.size() <= 1 ? std::min(kFirstBucketMiB, bucket_mb) : bucket_mb;
    const double grown = buckets.empty() ? 0 : static_cast<double>(buckets.back().count + count) * sizeof(float);
    if (buckets.empty() || grown > cap_mb * kBytesPerMiB) {
      buckets.push_back({segment.first, 0, static_cast<int>(i), 0});
    }
    buckets.back().count += count;
    ++buckets.back().segments;
  }
  return buckets;
}

}  // namespace lockstep
