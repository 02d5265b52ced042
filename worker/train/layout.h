#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// Where the trainable parameters lie in the one flat array of parameters, and in those of the same shape: gradients and
// optimizer states. float32. Order: that in which backward makes them ready where it is known, else the reverse of
// registration, which is about that; each starts at a multiple of 16 elements (64 bytes).
struct ParameterSegment {
  std::string name;
  std::vector<int64_t> shape;
  int64_t first = 0;  // element
  int64_t count = 0;
  int number = 0;  // of the parameter, in order of registration
  double weight_decay = 0;
  double lr_scale = 1;
};

// Consecutive parameters whose gradients are handed to communication together.
struct BucketRange {
  int64_t first = 0, count = 0;  // elements, padding included
  int first_segment = 0, segments = 0;
};

class ParameterLayout {
 public:
  struct Parameter {
    std::string name;
    std::vector<int64_t> shape;
  };
  // `in_registration_order`: the trainable ones. Groups give each its weight decay and learning-rate scale. `order`:
  // their numbers in the order of the layout, each once; empty: the reverse of registration.
  ParameterLayout(const std::vector<Parameter>& in_registration_order, const Optimizer& optimizer,
                  const std::vector<int>& order = {});

  const std::vector<ParameterSegment>& segments() const { return segments_; }
  int64_t elements() const { return elements_; }      // of the flat array, padding included
  int64_t parameters() const { return parameters_; }  // without padding
  // Cuts into buckets of at most `bucket_mb` MiB (a parameter is never split); the first at most 1 MiB, so that
  // communication starts early.
  std::vector<BucketRange> Buckets(double bucket_mb) const;

 private:
  std::vector<ParameterSegment> segments_;
  int64_t elements_ = 0, parameters_ = 0;
};

// InvalidArgument: the pattern of a group matches no parameter, which is then trained otherwise than was meant.
absl::Status CheckGroups(const std::vector<ParameterLayout::Parameter>& parameters, const Optimizer& optimizer);

// Whether `order` has each of the numbers below `count` once.
bool IsOrder(const std::vector<int>& order, size_t count);

// "*.bias": * any run of characters, ? one.
bool MatchesPattern(const std::string& pattern, const std::string& name);

}  // namespace lockstep
