#include "worker/comm/measure_ways.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/comm_thread.h"

namespace lockstep {
namespace {

constexpr int64_t kMostTextBytes = 1 << 20;

template <typename T>
absl::Span<std::byte> Bytes(T* values, size_t count) {
  return absl::MakeSpan(reinterpret_cast<std::byte*>(values), count * sizeof(T));
}

// After an error a collective may be under way still: what it uses is then never freed.
class WayMeter {
 public:
  WayMeter(Collectives* collectives, absl::Duration timeout)
      : comm_(collectives, timeout), start_ns_(MonotonicNanos()) {}

  absl::Status Measure(const WayTrial::Round& round, WayTrial* trial) {
    data_.resize(round.bytes / sizeof(float));
    seconds_.clear();
    for (const Way way : round.ways) {
      RETURN_IF_ERROR(Together("before measuring"));
      ways_ = {{kAnySize, way}};
      comm_.StartOperation(absl::StrCat("measuring ", WayName(way)), round.bytes, [this](Collectives* collectives) {
        collectives->SetWays(ways_);
        return collectives->AllReduce(Bytes(data_.data(), data_.size()), DType::kF32, ReduceOp::kSum);
      });
      RETURN_IF_ERROR(comm_.Wait());
      comm_.TakeSpans(&spans_);
      seconds_.push_back(static_cast<double>(spans_.back().end_ns - spans_.back().begin_ns) * 1e-9);
    }
    seconds_.push_back(static_cast<double>(MonotonicNanos() - start_ns_) * 1e-9);
    RETURN_IF_ERROR(TakeSlowest());
    const double elapsed_s = seconds_.back();
    seconds_.pop_back();
    trial->Took(seconds_, elapsed_s);
    return absl::OkStatus();
  }

 private:
  absl::Status Together(absl::string_view what) {
    comm_.StartBarrier(what);
    return comm_.Wait();
  }

  absl::Status TakeSlowest() {
    ways_ = RingWays();
    comm_.StartOperation(
        "measured times", static_cast<int64_t>(seconds_.size() * sizeof(double)), [this](Collectives* collectives) {
          collectives->SetWays(ways_);
          return collectives->AllReduce(Bytes(seconds_.data(), seconds_.size()), DType::kF64, ReduceOp::kMax);
        });
    return comm_.Wait();
  }

  WayTable ways_;
  std::vector<float> data_;
  std::vector<double> seconds_;
  std::vector<Span> spans_;
  CommThread comm_;
  const int64_t start_ns_;
};

}  // namespace

absl::StatusOr<WayTrial> MeasureWays(Collectives* collectives, WayTrial trial, absl::Duration timeout) {
  auto meter = std::make_unique<WayMeter>(collectives, timeout);
  while (const std::optional<WayTrial::Round> round = trial.Next()) {
    const absl::Status measured = meter->Measure(*round, &trial);
    if (measured.ok()) continue;
    meter.release();
    return Annotate(measured, "measuring the ways of an all-reduce");
  }
  return trial;
}

absl::StatusOr<std::string> ShareFromRank0(Collectives* collectives, std::string text, absl::Duration timeout) {
  struct Shared {
    int64_t bytes;
    std::string text;
    std::unique_ptr<CommThread> comm;
  };
  auto shared = std::make_unique<Shared>();
  shared->bytes = static_cast<int64_t>(text.size());
  shared->text = std::move(text);
  shared->comm = std::make_unique<CommThread>(collectives, timeout);
  const auto send = [&](absl::Span<std::byte> bytes) {
    shared->comm->StartBroadcast("rank 0's choice", bytes, /*root=*/0);
    return shared->comm->Wait();
  };
  absl::Status status = send(Bytes(&shared->bytes, 1));
  if (status.ok() && (shared->bytes < 0 || shared->bytes > kMostTextBytes)) {
    return absl::InvalidArgumentError(absl::StrCat("rank 0 shares ", shared->bytes, " bytes"));
  }
  if (status.ok()) {
    shared->text.resize(shared->bytes);
    if (shared->bytes > 0) status = send(Bytes(shared->text.data(), shared->text.size()));
  }
  if (status.ok()) return std::move(shared->text);
  shared.release();
  return Annotate(status, "agreeing on the ways of communication");
}

}  // namespace lockstep
