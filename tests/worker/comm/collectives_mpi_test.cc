#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/base/clock.h"
#include "common/base/stable_random.h"
#include "tests/support/mpi_main.h"
#include "worker/comm/collectives.h"
#include "worker/comm/half.h"

namespace lockstep {
namespace {

MpiOptions Library() { return {}; }

// Segments so small that modest data has many, and limits that leave three ways in use.
MpiOptions SmallRing() {
  MpiOptions options;
  options.ways = {{1024 / TestSession().world(), Way::kGather}, {99'999, Way::kDirect}, {kAnySize, Way::kRing}};
  options.segment_bytes = 4096;
  options.library_bytes = 1000;
  return options;
}

MpiOptions Always(Way way) {
  MpiOptions options = SmallRing();
  options.ways = {{kAnySize, way}};
  return options;
}

// A table that goes back and forth.
MpiOptions Mixed() {
  MpiOptions options = SmallRing();
  options.ways = {{12, Way::kRing},       {1000, Way::kLibrary}, {4100, Way::kDirect},
                  {20'000, Way::kGather}, {99'999, Way::kRing},  {kAnySize, Way::kDirect}};
  return options;
}

std::vector<MpiOptions> AllWays() {
  MpiOptions ring;
  ring.ways = RingWays();
  return {Library(),
          ring,
          SmallRing(),
          Mixed(),
          Always(Way::kRing),
          Always(Way::kDirect),
          Always(Way::kGather),
          Always(Way::kDoubling)};
}

std::unique_ptr<Collectives> NewCollectives(const MpiOptions& options = MpiOptions()) {
  absl::StatusOr<std::unique_ptr<Collectives>> made = TestSession().NewCollectives(options);
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

absl::Status Finish(const std::vector<Operation*>& operations) {
  const int64_t until_ns = MonotonicNanos() + 30'000'000'000;
  std::vector<bool> done(operations.size(), false);
  while (std::find(done.begin(), done.end(), false) != done.end()) {
    if (MonotonicNanos() > until_ns) return absl::DeadlineExceededError("the operations have not ended");
    for (size_t i = 0; i < operations.size(); ++i) {
      if (done[i]) continue;
      const absl::StatusOr<bool> polled = operations[i]->Poll();
      if (!polled.ok()) return polled.status();
      done[i] = *polled;
    }
  }
  return absl::OkStatus();
}

absl::Status Finish(absl::StatusOr<std::unique_ptr<Operation>> operation) {
  return operation.ok() ? Finish({operation->get()}) : operation.status();
}

template <typename T>
absl::Span<std::byte> Bytes(std::vector<T>& values) {
  return absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(T));
}

template <typename T>
DType TypeOf() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kI64;
  if constexpr (std::is_same_v<T, uint64_t>) return DType::kU64;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kU8;
}

// What rank `rank` brings to element i: small whole numbers, so that sums are exact in every type.
template <typename T>
T Value(int rank, size_t i) {
  const int64_t value = static_cast<int64_t>(Mix({static_cast<uint64_t>(rank), i}) % 32);
  return static_cast<T>(std::is_signed_v<T> ? value - 16 : value);
}

template <typename T>
T Expected(int world, size_t i, ReduceOp op) {
  T result = Value<T>(0, i);
  for (int rank = 1; rank < world; ++rank) {
    const T value = Value<T>(rank, i);
    if (op == ReduceOp::kSum) result = static_cast<T>(result + value);
    if (op == ReduceOp::kMin) result = std::min(result, value);
    if (op == ReduceOp::kMax) result = std::max(result, value);
  }
  return result;
}

std::vector<size_t> Sizes(int world) {
  return {0, 1, 3, static_cast<size_t>(world - 1), 63, 255, 1025, 4096, 10007, 300001};
}

template <typename T>
class AllReduceTest : public testing::Test {};
using Types = testing::Types<float, double, int64_t, uint64_t, uint8_t>;
TYPED_TEST_SUITE(AllReduceTest, Types);

TYPED_TEST(AllReduceTest, GivesTheExactResultForEverySizeAndOperation) {
  for (const MpiOptions& options : AllWays()) {
    std::unique_ptr<Collectives> collectives = NewCollectives(options);
    for (const size_t size : Sizes(collectives->world())) {
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
        std::vector<TypeParam> data(size);
        for (size_t i = 0; i < size; ++i) data[i] = Value<TypeParam>(collectives->rank(), i);
        ASSERT_TRUE(Finish(collectives->AllReduce(Bytes(data), TypeOf<TypeParam>(), op)).ok());
        for (size_t i = 0; i < size; ++i) {
          ASSERT_EQ(data[i], Expected<TypeParam>(collectives->world(), i, op)) << "element " << i << " of " << size;
        }
      }
    }
  }
}

// Numbers of very different size, so that another order of additions gives other bits.
std::vector<float> Rough(int rank, size_t size) {
  std::vector<float> data(size);
  for (size_t i = 0; i < size; ++i) {
    const uint64_t bits = Mix({17, static_cast<uint64_t>(rank), i});
    data[i] = std::ldexp(static_cast<float>(bits % 20011) - 10005.0f, static_cast<int>(bits >> 32) % 24);
  }
  return data;
}

std::vector<float> SumInOrder(int first, int world, size_t size) {
  std::vector<float> sum = Rough(first, size);
  for (int step = 1; step < world; ++step) {
    const std::vector<float> theirs = Rough((first + step) % world, size);
    for (size_t i = 0; i < size; ++i) sum[i] += theirs[i];
  }
  return sum;
}

TEST(CollectivesTest, DirectlyItAddsInRankOrderWhateverTheSegments) {
  MpiOptions large = Always(Way::kDirect);
  large.segment_bytes = MpiOptions().segment_bytes;
  for (const MpiOptions& options : {Always(Way::kDirect), large}) {
    std::unique_ptr<Collectives> collectives = NewCollectives(options);
    for (const size_t size : {77, 50021, 600011}) {
      const std::vector<float> expected = SumInOrder(0, collectives->world(), size);
      for (int repeat = 0; repeat < 3; ++repeat) {
        std::vector<float> data = Rough(collectives->rank(), size);
        ASSERT_TRUE(Finish(collectives->AllReduce(Bytes(data), DType::kF32, ReduceOp::kSum)).ok());
        // Every rank compares with the same expected bits, so all ranks hold the same.
        ASSERT_EQ(std::memcmp(data.data(), expected.data(), size * sizeof(float)), 0) << size << " values";
      }
    }
  }
}

TEST(CollectivesTest, ARingAddsEachChunkFromItsOwnRankAroundWhateverTheSegments) {
  MpiOptions large = Always(Way::kRing);
  large.segment_bytes = MpiOptions().segment_bytes;
  for (const MpiOptions& options : {Always(Way::kRing), large}) {
    std::unique_ptr<Collectives> collectives = NewCollectives(options);
    const int world = collectives->world();
    for (const size_t size : {77, 50021, 600011}) {
      const size_t chunk = ((size + world - 1) / world + 63) / 64 * 64;
      std::vector<float> expected(size);
      for (int owner = 0; owner < world; ++owner) {
        const std::vector<float> sum = SumInOrder(owner, world, size);
        for (size_t i = owner * chunk; i < std::min(size, (owner + 1) * chunk); ++i) expected[i] = sum[i];
      }
      for (int repeat = 0; repeat < 3; ++repeat) {
        std::vector<float> data = Rough(collectives->rank(), size);
        ASSERT_TRUE(Finish(collectives->AllReduce(Bytes(data), DType::kF32, ReduceOp::kSum)).ok());
        ASSERT_EQ(std::memcmp(data.data(), expected.data(), size * sizeof(float)), 0) << size << " values";
      }
    }
  }
}

// Around the ring from `first` on, rounded whenever it is sent on, and once complete.
std::vector<float> RoundedSumInOrder(int first, int world, size_t size, const HalfFormat& format) {
  std::vector<float> sum = Rough(first, size);
  for (int step = 1; step < world; ++step) {
    format.round(sum.data(), static_cast<int64_t>(size));
    const std::vector<float> theirs = Rough((first + step) % world, size);
    for (size_t i = 0; i < size; ++i) sum[i] = theirs[i] + sum[i];
  }
  if (world > 1) format.round(sum.data(), static_cast<int64_t>(size));
  return sum;
}

TEST(CollectivesTest, AShorterFormatRoundsAtEveryHopAndAllRanksHoldTheSameBits) {
  MpiOptions small = Always(Way::kRing), large = Always(Way::kRing);
  small.shorten_from_bytes = large.shorten_from_bytes = 0;
  large.segment_bytes = MpiOptions().segment_bytes;
  for (const Wire wire : {Wire::kF16, Wire::kBF16}) {
    const HalfFormat& format = HalfFormatOf(wire);
    for (const MpiOptions& options : {small, large}) {
      std::unique_ptr<Collectives> collectives = NewCollectives(options);
      const int world = collectives->world();
      for (const size_t size : {1, 77, 50021, 600011}) {
        const size_t chunk = ((size + world - 1) / world + 63) / 64 * 64;
        std::vector<float> expected(size), exact = SumInOrder(0, world, size);
        for (int owner = 0; owner < world; ++owner) {
          const std::vector<float> sum = RoundedSumInOrder(owner, world, size, format);
          for (size_t i = owner * chunk; i < std::min(size, (owner + 1) * chunk); ++i) expected[i] = sum[i];
        }
        for (int repeat = 0; repeat < 3; ++repeat) {
          std::vector<float> data = Rough(collectives->rank(), size);
          auto operation = collectives->AllReduce(Bytes(data), DType::kF32, ReduceOp::kSum, wire);
          ASSERT_TRUE(operation.ok()) << operation.status();
          ASSERT_TRUE(Finish({operation->get()}).ok());
          ASSERT_EQ(std::memcmp(data.data(), expected.data(), size * sizeof(float)), 0) << size << " values";
          if (world > 1 && size > 1000) {
            const double sent = static_cast<double>((*operation)->wire_bytes());
            EXPECT_NEAR(sent, 2.0 * 2 * (world - 1) * static_cast<double>(size) / world, 64.0 * 2 * 2 * world);
          }
        }
        // Within the rounding of as many hops; fp16 where it has numbers that large.
        const double precision = wire == Wire::kF16 ? 0x1p-11 : 0x1p-8;
        for (size_t i = 0; i < size; ++i) {
          double magnitude = 0;
          for (int rank = 0; rank < world; ++rank) magnitude += std::fabs(Rough(rank, i + 1)[i]);
          if (wire == Wire::kF16 && magnitude > 65504) continue;
          ASSERT_NEAR(expected[i], exact[i], world * magnitude * precision);
          if (size > 1000) break;  // Rough makes all that come before
        }
      }
    }
  }
}

TEST(CollectivesTest, OnlyASumOfFloatsHasAShorterFormatAndSmallOnesGoExact) {
  std::unique_ptr<Collectives> ring = NewCollectives(SmallRing());
  if (ring->world() == 1) return;
  std::vector<float> data(1000);
  EXPECT_FALSE(ring->AllReduce(Bytes(data), DType::kF32, ReduceOp::kMax, Wire::kF16).ok());
  EXPECT_FALSE(ring->AllReduce(Bytes(data), DType::kU8, ReduceOp::kSum, Wire::kF16).ok());
  std::fill(data.begin(), data.end(), 1.0F / 3);
  std::vector<float> expected(1000);
  for (int rank = 0; rank < ring->world(); ++rank) {
    for (float& value : expected) value += 1.0F / 3;
  }
  auto operation = ring->AllReduce(Bytes(data), DType::kF32, ReduceOp::kSum, Wire::kBF16);
  ASSERT_TRUE(Finish(std::move(operation)).ok());
  EXPECT_EQ(data, expected);
}

TEST(CollectivesTest, ATransferReachesTheRankItIsForAndNoOther) {
  std::unique_ptr<Collectives> collectives = NewCollectives(SmallRing());
  const int rank = collectives->rank(), world = collectives->world();
  for (int from = 0; from < world; ++from) {
    for (int to = 0; to < world; ++to) {
      for (const size_t size : {0, 1, 1000, 12345}) {
        std::vector<uint8_t> data(size, static_cast<uint8_t>(rank));
        auto operation = collectives->Transfer(Bytes(data), from, to);
        ASSERT_TRUE(operation.ok()) << operation.status();
        ASSERT_TRUE(Finish({operation->get()}).ok());
        EXPECT_EQ((*operation)->wire_bytes(), rank == from && from != to ? static_cast<int64_t>(size) : 0);
        const uint8_t expected = static_cast<uint8_t>(rank == to ? from : rank);
        EXPECT_EQ(std::count(data.begin(), data.end(), expected), static_cast<int64_t>(size));
      }
    }
  }
}

TEST(CollectivesTest, ANotANumberOfOneRankReachesEveryRankThroughEveryOperation) {
  std::unique_ptr<Collectives> collectives = NewCollectives(SmallRing());
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
    for (int bad = 0; bad < collectives->world(); ++bad) {
      std::vector<float> data(5000, 1.0f);
      if (collectives->rank() == bad) data[4321] = std::numeric_limits<float>::quiet_NaN();
      ASSERT_TRUE(Finish(collectives->AllReduce(Bytes(data), DType::kF32, op)).ok());
      EXPECT_TRUE(std::isnan(data[4321])) << "from rank " << bad;
      EXPECT_FALSE(std::isnan(data[4320]));
    }
  }
}

TEST(CollectivesTest, SeveralOperationsUnderWayAtOnceDoNotMix) {
  std::unique_ptr<Collectives> collectives = NewCollectives(SmallRing());
  const int rank = collectives->rank(), world = collectives->world();
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<std::vector<double>> data;
    for (const size_t size : {40000, 3, 40000, 9000, 1, 25013}) data.emplace_back(size);
    std::vector<uint8_t> sent(12345);
    StepTail tail;
    tail.samples = rank + 1;
    std::vector<std::unique_ptr<Operation>> operations;
    for (size_t k = 0; k < data.size(); ++k) {
      for (size_t i = 0; i < data[k].size(); ++i) data[k][i] = Value<double>(rank, i + 100 * k);
      operations.push_back(*collectives->AllReduce(Bytes(data[k]), DType::kF64, ReduceOp::kSum));
    }
    if (rank == world - 1) std::fill(sent.begin(), sent.end(), 0x5a);
    operations.push_back(*collectives->Broadcast(Bytes(sent), world - 1));
    operations.push_back(*collectives->AllReduceTail(&tail));
    operations.push_back(*collectives->Barrier());
    std::vector<Operation*> under_way;
    for (const auto& operation : operations) under_way.push_back(operation.get());
    std::rotate(under_way.begin(), under_way.begin() + rank,
                under_way.end());  // each rank polls in an order of its own
    ASSERT_TRUE(Finish(under_way).ok());
    for (size_t k = 0; k < data.size(); ++k) {
      for (size_t i = 0; i < data[k].size(); ++i) {
        ASSERT_EQ(data[k][i], Expected<double>(world, i + 100 * k, ReduceOp::kSum));
      }
    }
    ASSERT_EQ(std::count(sent.begin(), sent.end(), 0x5a), 12345);
    ASSERT_EQ(tail.samples, world * (world + 1) / 2);
  }
}

TEST(CollectivesTest, BroadcastReachesEveryRankFromEveryRoot) {
  std::unique_ptr<Collectives> collectives = NewCollectives(SmallRing());
  for (int root = 0; root < collectives->world(); ++root) {
    for (const size_t size : {0, 1, 999, 1000, 1001, 5000000}) {
      std::vector<uint8_t> data(size);
      if (collectives->rank() == root) {
        for (size_t i = 0; i < size; ++i) data[i] = static_cast<uint8_t>(i * 7 + root);
      }
      // In pieces of 1000 bytes only where that is not thousands of them.
      std::unique_ptr<Collectives> whole = size > 10000 ? NewCollectives() : nullptr;
      ASSERT_TRUE(Finish((whole ? whole : collectives)->Broadcast(Bytes(data), root)).ok());
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(data[i], static_cast<uint8_t>(i * 7 + root));
    }
  }
}

TEST(CollectivesTest, TailIsMergedInRankOrderAndTheSameEverywhere) {
  std::unique_ptr<Collectives> collectives = NewCollectives();
  const int world = collectives->world();
  const auto tail_of = [](int rank) {
    StepTail tail;
    tail.loss_sum = rank == 0 ? 1e16 : 1.0 + rank;  // another order of additions rounds in another way
    tail.samples = 10 + rank;
    tail.fingerprint = ~uint64_t{0} - rank;
    tail.control = 5 + (rank * 7) % 3;
    tail.non_finite_rank = rank >= 1 ? rank : -1;
    tail.first_arrival = tail.last_arrival = 100 + (rank * 3) % 4;
    tail.last_rank = rank;
    tail.stop_signal = rank == 1 ? 15 : 0;
    tail.rank = rank;
    return tail;
  };
  StepTail expected = tail_of(0);
  for (int rank = 1; rank < world; ++rank) MergeTail(tail_of(rank), &expected);
  StepTail tail = tail_of(collectives->rank());
  ASSERT_TRUE(Finish(collectives->AllReduceTail(&tail)).ok());
  EXPECT_EQ(std::memcmp(&tail, &expected, sizeof(tail)), 0);
  EXPECT_EQ(tail.rank, 0);
  EXPECT_EQ(tail.non_finite_rank, world > 1 ? 1 : -1);
}

TEST(CollectivesTest, AShorterMessageThanDueIsAnErrorThatNamesTheRank) {
  if (TestSession().world() != 2) return;
  for (const Way way : {Way::kDirect, Way::kRing}) {
    auto* const collectives = NewCollectives(Always(way)).release();  // peers may write still: kept for good
    // Both are segmented, one with more in its first segment than the other sends.
    auto* const data = new std::vector<float>(collectives->rank() == 0 ? 1600 : 1000);
    auto operation = collectives->AllReduce(Bytes(*data), DType::kF32, ReduceOp::kSum);
    ASSERT_TRUE(operation.ok());
    Operation* const started = operation->release();
    const absl::Status status = Finish({started});
    EXPECT_FALSE(status.ok());
    if (collectives->rank() == 0) {
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
      EXPECT_NE(status.message().find("rank 1 sent"), std::string::npos) << status;
    }
  }
}

TEST(MpiSessionTest, SaysWhichLibraryItIs) { EXPECT_NE(TestSession().library_version(), ""); }

TEST(CollectivesTest, RoundTripsToRank0ShowHowFarAClockIsOff) {
  const auto collectives = NewCollectives();
  const int64_t ahead_ns = 5'000'000'000 * collectives->rank();  // of rank 0's clock
  ClockExchange exchange;
  exchange.now_ns = [ahead_ns] { return MonotonicNanos() + ahead_ns; };
  auto operation = collectives->ExchangeClocks(&exchange);
  ASSERT_TRUE(operation.ok()) << operation.status();
  ASSERT_TRUE(Finish({operation->get()}).ok());
  EXPECT_EQ(exchange.trips.empty(), collectives->rank() == 0);
  if (exchange.trips.empty()) return;
  ClockOffset offset;
  offset.Learn(exchange.trips);
  const ClockOffset::Estimate found = offset.At(exchange.trips.back().received_ns);
  EXPECT_NEAR(found.offset_ns, static_cast<double>(-ahead_ns), found.error_ns);
  EXPECT_LT(found.error_ns, 1e9);
}

}  // namespace
}  // namespace lockstep
