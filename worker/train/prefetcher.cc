#include "worker/train/prefetcher.h"

#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

torch::Tensor Room(int64_t capacity, const std::vector<int64_t>& sample_shape, torch::ScalarType type) {
  std::vector<int64_t> shape = {capacity};
  shape.insert(shape.end(), sample_shape.begin(), sample_shape.end());
  return torch::empty(shape, type);
}

// Samples lie anywhere in memory that no cache holds; their first lines are on their way while earlier ones are
// decoded.
constexpr size_t kAhead = 8;                           // samples
constexpr size_t kLineBytes = 64, kMostBytes = 16384;  // of a sample; the hardware follows a longer one by itself

void Fetch(absl::Span<const std::byte> bytes) {
  for (size_t at = 0; at < std::min(bytes.size(), kMostBytes); at += kLineBytes) __builtin_prefetch(bytes.data() + at);
}

}  // namespace

BatchBuffer::BatchBuffer(const Decoder& decoder, int64_t capacity)
    : input_(Room(capacity, decoder.input_shape(), decoder.input_is_float() ? torch::kFloat32 : torch::kInt64)),
      target_(Room(capacity, decoder.target_shape(), decoder.target_is_integer() ? torch::kInt64 : torch::kFloat32)) {}

void BatchBuffer::Decode(const Dataset& data, const Decoder& decoder, const std::vector<int64_t>& ids,
                         int32_t augment_epoch, Batch* batch) {
  auto* input = static_cast<std::byte*>(input_.data_ptr());
  auto* target = static_cast<std::byte*>(target_.data_ptr());
  const int64_t input_bytes = decoder.input_elements() * static_cast<int64_t>(input_.element_size());
  const int64_t target_bytes = decoder.target_elements() * static_cast<int64_t>(target_.element_size());
  std::vector<RawSample> raw;
  raw.reserve(ids.size());
  batch->begin_ns = MonotonicNanos();
  for (const int64_t id : ids) raw.push_back(data.Get(id));
  batch->read_ns = MonotonicNanos();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i + kAhead < ids.size()) {
      Fetch(raw[i + kAhead].input);
      Fetch(raw[i + kAhead].target);
    }
    decoder.DecodeInput(raw[i], ids[i], std::max(0, augment_epoch), augment_epoch >= 0, input + i * input_bytes);
    decoder.DecodeTarget(raw[i], target + i * target_bytes);
  }
  batch->samples = static_cast<int64_t>(ids.size());
  batch->input = input_.narrow(0, 0, batch->samples);
  batch->target = target_.narrow(0, 0, batch->samples);
}

absl::StatusOr<std::unique_ptr<Prefetcher>> Prefetcher::Create(const Options& options) {
  try {
    return std::unique_ptr<Prefetcher>(new Prefetcher(options));
  } catch (const std::exception& error) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "no memory for ", options.depth + 1, " batches (data.prefetch: ", options.depth, "): ", TorchMessage(error)));
  }
}

Prefetcher::Prefetcher(const Options& options)
    : options_(options), ready_through_(options.first_step - 1), taken_(options.first_step - 1) {
  const int64_t most = options.plan->SamplesAt(1);  // a later step has no more
  const int64_t capacity = (most + options.world - 1) / options.world;
  for (int i = 0; i < options.depth + 1; ++i) slots_.push_back({BatchBuffer(*options.decoder, capacity), Batch()});
  thread_ = std::thread([this] { Loop(); });
}

Prefetcher::~Prefetcher() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void Prefetcher::AllowThrough(int64_t step) {
  MutexLock lock(&mutex_);
  if (step <= allowed_through_) return;
  allowed_through_ = step;
  changed_.NotifyAll();
}

absl::StatusOr<const Batch*> Prefetcher::Next(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(&mutex_);
  const int64_t step = ++taken_;
  const int ready = static_cast<int>(std::max<int64_t>(0, ready_through_ - step + 1));
  changed_.NotifyAll();  // the slot of the step before is free now
  while (ready_through_ < step) {
    if (!status_.ok()) return status_;
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("the batch of step ", step, " was not read within ", absl::FormatDuration(timeout), " (",
                       allowed_through_, " is the last step allowed); look at the disk that holds the data"));
    }
    changed_.WaitFor(&mutex_, deadline - absl::Now());
  }
  SlotOf(step).batch.ready = ready;
  return &SlotOf(step).batch;
}

void Prefetcher::Loop() {
  pthread_setname_np(pthread_self(), "prefetch");
  for (int64_t step = options_.first_step;; ++step) {
    {
      MutexLock lock(&mutex_);
      while (!stopped_ && (step > allowed_through_ || step - taken_ > options_.depth)) changed_.Wait(&mutex_);
      if (stopped_) return;
    }
    absl::Status filled = Fill(step, &SlotOf(step));
    MutexLock lock(&mutex_);
    if (filled.ok()) {
      ready_through_ = step;
    } else {
      status_ = std::move(filled);
    }
    changed_.NotifyAll();
    if (!status_.ok()) return;
  }
}

absl::Status Prefetcher::Fill(int64_t step, Slot* slot) const {
  const std::vector<int64_t> ids = options_.plan->Slice(step, options_.rank, options_.world);
  const int32_t epoch = options_.plan->EpochOf(step);
  Batch& batch = slot->batch;
  batch.step = step;
  batch.fingerprint = 0;
  for (int64_t id : ids) batch.fingerprint += SampleFingerprint(epoch, id);
  try {
    slot->buffer.Decode(*options_.data, *options_.decoder, ids, epoch, &batch);
    if (options_.device != "cpu") {
      batch.input = batch.input.to(options_.device);
      batch.target = batch.target.to(options_.device);
    }
    if (options_.faults != nullptr) options_.faults->Hold(STEP_PART_INPUT, step);
    batch.end_ns = MonotonicNanos();
  } catch (const std::exception& error) {
    return TorchStatus(error, absl::StrCat("the batch of step ", step));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
