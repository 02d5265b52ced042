// Counts calls of operator new, which a sanitizer has to itself: built without one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "lockstep/telemetry.pb.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/local_collectives.h"
#include "worker/coordinator_client/report_ring.h"

namespace {
thread_local int64_t allocations = 0;
}  // namespace

// Not inlined: gcc would warn of memory of `new` given to `free`.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace lockstep {
namespace {

TEST(NoAllocationTest, TheTrainersCallsOfTheCommunicationThreadDoNotAllocateOnceWarm) {
  std::unique_ptr<Collectives> collectives = NewLocalCollectives();
  CommThread thread(collectives.get(), absl::Seconds(60));
  std::vector<float> data(10);
  const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(data.data()), data.size() * sizeof(float));
  std::vector<Span> spans;
  const std::string name = "a name longer than a string's own storage";
  int64_t before = 0;
  for (int step = 0; step < 3 * CommThread::kQueueItems; ++step) {
    if (step == 2 * CommThread::kQueueItems) before = allocations;
    thread.StartAllReduce(name, bytes, DType::kF32, ReduceOp::kSum);
    StepTail tail;
    thread.StartTail(&tail);
    ASSERT_TRUE(thread.Wait().ok());
    thread.TakeSpans(&spans);
    ASSERT_EQ(spans.size(), 2u);
  }
  EXPECT_EQ(allocations - before, 0);
}

TEST(NoAllocationTest, AStepRecordPutIntoTheRingDoesNotAllocateOnceWarm) {
  ReportRing ring(16);
  StepBatch batch;
  int64_t before = 0, counted = 0;
  for (int step = 1; step <= 100; ++step) {
    StepRecord record;
    record.set_step(step);
    before = allocations;
    ring.Put(&record);
    counted += allocations - before;
    batch.Clear();
    ASSERT_TRUE(ring.TakeInto(&batch, 1 << 20));
  }
  EXPECT_EQ(counted, 0);
}

}  // namespace
}  // namespace lockstep
