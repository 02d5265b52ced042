#include "worker/comm/local_collectives.h"

#include <utility>

namespace lockstep {
namespace {

class ApplyOperation : public Operation {
 public:
  ApplyOperation(ApplyFn apply, int64_t count) : apply_(std::move(apply)), count_(count) {}

  absl::StatusOr<bool> Poll() override {
    if (apply_ && count_ > 0) apply_(0, count_);
    apply_ = nullptr;
    return true;
  }

 private:
  ApplyFn apply_;
  const int64_t count_;
};

class LocalCollectives : public Collectives {
 public:
  int rank() const override { return 0; }
  int world() const override { return 1; }
  std::string algorithm() const override { return "local"; }
  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte>, DType, ReduceOp) override {
    return Nothing();
  }
  absl::StatusOr<std::unique_ptr<Operation>> ReduceAndApply(absl::Span<std::byte> data, DType dtype,
                                                            ApplyFn apply) override {
    return std::make_unique<ApplyOperation>(std::move(apply), static_cast<int64_t>(data.size()) / DTypeSize(dtype));
  }
  absl::StatusOr<std::unique_ptr<Operation>> AllReduceTail(StepTail*) override { return Nothing(); }
  absl::StatusOr<std::unique_ptr<Operation>> Broadcast(absl::Span<std::byte>, int) override { return Nothing(); }
  absl::StatusOr<std::unique_ptr<Operation>> Barrier() override { return Nothing(); }
  int64_t WireBytes(int64_t) const override { return 0; }

 private:
  static std::unique_ptr<Operation> Nothing() { return std::make_unique<ApplyOperation>(nullptr, 0); }
};

}  // namespace

std::unique_ptr<Collectives> NewLocalCollectives() { return std::make_unique<LocalCollectives>(); }

}  // namespace lockstep
