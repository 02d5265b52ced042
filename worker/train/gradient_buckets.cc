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

GradientBuckets::GradientBuckets(FlatParameters* parameters, CommThread* comm, double bucket_mb)
    : parameters_(parameters), comm_(comm), arrived_(parameters->layout().segments().size()) {
  if (comm_ == nullptr) return;
  const ParameterLayout& layout = parameters_->layout();
  for (const BucketRange& range : layout.Buckets(bucket_mb)) {
    bucket_of_.insert(bucket_of_.end(), range.segments, buckets_.size());
    buckets_.push_back({range});
  }
  gradients_ = torch::zeros({layout.elements()}, torch::kFloat32);
  for (size_t i = 0; i < layout.segments().size(); ++i) {
    const ParameterSegment& segment = layout.segments()[i];
    views_.push_back(gradients_.narrow(0, segment.first, segment.count).view(segment.shape));
    accumulators_.push_back(torch::autograd::impl::grad_accumulator(parameters_->parameter(i)));
    hooks_.push_back(accumulators_[i]->add_post_hook(std::make_unique<Hook>(this, i)));
  }
}

GradientBuckets::~GradientBuckets() {
  for (size_t i = 0; i < hooks_.size(); ++i) accumulators_[i]->del_post_hook(hooks_[i]);
}

void GradientBuckets::Begin(double share) {
  share_ = at::scalar_tensor(share);
  next_ = 0;
  std::fill(arrived_.begin(), arrived_.end(), false);
  for (Bucket& bucket : buckets_) bucket.pending = bucket.range.segments;
}

void GradientBuckets::Arrived(size_t segment) {
  TORCH_CHECK(!arrived_[segment], "parameter '", parameters_->layout().segments()[segment].name,
              "' got a gradient twice in one backward pass");
  torch::Tensor& gradient = const_cast<torch::Tensor&>(parameters_->parameter(segment)).mutable_grad();
  const torch::Tensor dense = gradient.is_sparse() ? gradient.to_dense() : gradient;
  if (dense.is_cpu()) {
    at::mul_out(views_[segment], dense, share_);
  } else {
    views_[segment].copy_(dense);
    views_[segment].mul_(share_);
  }
  gradient.reset();
  arrived_[segment] = true;
  --buckets_[bucket_of_[segment]].pending;
  StartFullBuckets();
}

void GradientBuckets::StartFullBuckets() {
  for (; next_ < buckets_.size() && buckets_[next_].pending == 0; ++next_) {
    const BucketRange& range = buckets_[next_].range;
    auto* bytes = reinterpret_cast<std::byte*>(gradients() + range.first);
    comm_->StartAllReduce(absl::StrCat("bucket.", next_), absl::MakeSpan(bytes, range.count * sizeof(float)),
                          DType::kF32, ReduceOp::kSum);
  }
}

void GradientBuckets::Finish() {
  if (comm_ == nullptr) return;
  for (size_t i = 0; i < arrived_.size(); ++i) {
    if (arrived_[i]) continue;
    views_[i].zero_();
    --buckets_[bucket_of_[i]].pending;
  }
  StartFullBuckets();
}

void GradientBuckets::ForEachSpan(const SpanFn& use) {
  const ParameterLayout& layout = parameters_->layout();
  if (comm_ != nullptr) {
    use(gradients(), 0, layout.elements());
    return;
  }
  for (size_t i = 0; i < layout.segments().size(); ++i) {
    const ParameterSegment& segment = layout.segments()[i];
    torch::Tensor& gradient = const_cast<torch::Tensor&>(parameters_->parameter(i)).mutable_grad();
    if (!gradient.defined()) {
      if (!gradients_.defined()) gradients_ = torch::zeros({layout.elements()}, torch::kFloat32);
      use(gradients(), segment.first, segment.count);
      continue;
    }
    if (gradient.is_sparse()) gradient = gradient.to_dense();
    const torch::Tensor host = gradient.cpu().contiguous();
    use(host.data_ptr<float>() - segment.first, segment.first, segment.count);
  }
}

void GradientBuckets::Release() {
  for (size_t i = 0; i < arrived_.size(); ++i) {
    const_cast<torch::Tensor&>(parameters_->parameter(i)).mutable_grad().reset();
  }
}

}  // namespace lockstep
