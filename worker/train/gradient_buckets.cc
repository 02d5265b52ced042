#include "worker/train/gradient_buckets.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace lockstep {

class GradientBuckets::Hook : public torch::autograd::FunctionPostHook {
 public:
  Hook(GradientBuckets* owner, size_t segment) : owner_(owner), segment_(segment) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list& inputs) override {
    owner_->Arrived(segment_);
    return outputs;
  }

 private:
  GradientBuckets* const owner_;
  const size_t segment_;
};

GradientBuckets::GradientBuckets(FlatParameters* parameters, GradientExchange* exchange, double bucket_mb)
    : parameters_(parameters),
      exchange_(exchange),
      arrived_(parameters->layout().segments().size()),
      has_(arrived_.size()) {
  const ParameterLayout& layout = parameters_->layout();
  Cut(bucket_mb);
  std::vector<std::byte*> places;
  std::vector<size_t> bytes;
  for (size_t i = 0; i < layout.segments().size(); ++i) {
    const ParameterSegment& segment = layout.segments()[i];
    float* const place = exchange_->gradients() + segment.first;
    views_.push_back(torch::from_blob(place, segment.shape, torch::kFloat32));
    places.push_back(reinterpret_cast<std::byte*>(place));
    bytes.push_back(segment.count * sizeof(float));
    accumulators_.push_back(torch::autograd::impl::grad_accumulator(parameters_->parameter(i)));
    hooks_.push_back(accumulators_[i]->add_post_hook(std::make_unique<Hook>(this, i)));
  }
  if (views_.empty() || parameters_->parameter(0).is_cpu()) {
    placement_ = std::make_unique<GradientPlacement>(std::move(places), std::move(bytes));
  } else {
    pinned_ = std::make_unique<PinnedMemory>(parameters_->parameter(0).device(), exchange_->gradients(),
                                             layout.elements() * sizeof(float));
  }
}

GradientBuckets::~GradientBuckets() {
  for (size_t i = 0; i < hooks_.size(); ++i) accumulators_[i]->del_post_hook(hooks_[i]);
}

void GradientBuckets::Cut(double bucket_mb) {
  buckets_.clear();
  bucket_of_.clear();
  for (const BucketRange& range : parameters_->layout().Buckets(bucket_mb)) {
    bucket_of_.insert(bucket_of_.end(), range.segments, buckets_.size());
    buckets_.push_back({range});
  }
}

void GradientBuckets::Begin(int passes) {
  next_ = 0;
  pass_ = 0;
  passes_ = passes;
  std::fill(arrived_.begin(), arrived_.end(), false);
  std::fill(has_.begin(), has_.end(), false);
  for (Bucket& bucket : buckets_) bucket.pending = bucket.range.segments;
  if (placement_ != nullptr) placement_->Begin();
}

void GradientBuckets::NextPass() {
  EndPlacing();
  ++pass_;
  std::fill(arrived_.begin(), arrived_.end(), false);
}

// Only the first pass's gradients can be written where they belong at once.
void GradientBuckets::EndPlacing() {
  if (pass_ == 0 && placement_ != nullptr) placement_->End();
  for (auto& [segment, gradient] : displaced_) {
    views_[segment].copy_(gradient);
    if (pass_ + 1 == passes_) --buckets_[bucket_of_[segment]].pending;
  }
  displaced_.clear();
}

bool GradientBuckets::Put(size_t segment, const torch::Tensor& gradient) {
  const bool placing = placement_ != nullptr && pass_ == 0;
  if (placing && !gradient.is_sparse()) placement_->Came(segment, gradient.data_ptr());
  const torch::Tensor& view = views_[segment];
  if (!gradient.is_sparse() && gradient.data_ptr() == view.data_ptr() && gradient.is_contiguous()) return true;
  if (placing && placement_->Given(segment)) {
    displaced_.emplace_back(segment, gradient.is_sparse() ? gradient.to_dense() : gradient.clone());
    return false;
  }
  view.copy_(gradient.is_sparse() ? gradient.to_dense() : gradient);
  return true;
}

void GradientBuckets::Arrived(size_t segment) {
  TORCH_CHECK(!arrived_[segment], "parameter '", parameters_->layout().segments()[segment].name,
              "' got a gradient twice in one backward pass");
  arrived_[segment] = true;
  const torch::Tensor gradient = std::move(const_cast<torch::Tensor&>(parameters_->parameter(segment)).mutable_grad());
  if (has_[segment]) {
    torch::NoGradGuard no_grad;
    views_[segment].add_((gradient.is_sparse() ? gradient.to_dense() : gradient).cpu());
  } else {
    has_[segment] = true;
    if (!Put(segment, gradient)) return;
  }
  if (pass_ + 1 < passes_) return;
  --buckets_[bucket_of_[segment]].pending;
  StartFullBuckets();
}

void GradientBuckets::StartFullBuckets() {
  for (; next_ < buckets_.size() && buckets_[next_].pending == 0; ++next_) {
    exchange_->StartBucket(static_cast<int>(next_), buckets_[next_].range);
  }
}

void GradientBuckets::Finish() {
  EndPlacing();
  for (size_t i = 0; i < arrived_.size(); ++i) {
    if (!has_[i]) views_[i].zero_();
    if (!arrived_[i]) --buckets_[bucket_of_[i]].pending;
  }
  StartFullBuckets();
}

}  // namespace lockstep
