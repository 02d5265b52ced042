#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/mpi_main.h"
#include "worker/bench/allreduce.h"

namespace lockstep {
namespace {

// One of the algorithms, that adds 1 to an element of the last rank's sums after one of its calls.
class Broken : public BenchAlgorithm {
 public:
  Broken(std::unique_ptr<BenchAlgorithm> whole, int call, int64_t element)
      : whole_(std::move(whole)), call_(call), element_(element) {}
  float* buffer() override { return whole_->buffer(); }
  absl::Status Run(int64_t count) override {
    const absl::Status status = whole_->Run(count);
    if (++calls_ == call_ && TestSession().rank() == TestSession().world() - 1) buffer()[element_] += 1;
    return status;
  }

 private:
  const std::unique_ptr<BenchAlgorithm> whole_;
  const int call_;
  const int64_t element_;
  int calls_ = 0;
};

constexpr int kNever = 0;  // no call

BenchAlgorithmKind BrokenAt(int call, int64_t element) {
  BenchAlgorithmKind kind = NamedAlgorithms({"ring"})->front();
  kind.name = "broken";
  kind.make = [make = kind.make, call,
               element](const BenchGround& ground) -> absl::StatusOr<std::unique_ptr<BenchAlgorithm>> {
    absl::StatusOr<std::unique_ptr<BenchAlgorithm>> whole = make(ground);
    if (!whole.ok()) return whole.status();
    return std::make_unique<Broken>(*std::move(whole), call, element);
  };
  return kind;
}

absl::Status RunBench(const BenchAlgorithmKind& kind, std::vector<int64_t> counts) {
  AllReduceBench bench;
  bench.algorithms = {kind};
  bench.counts = std::move(counts);
  bench.seconds = 0.001;
  bench.timeout = 30;
  bench.copy_bytes = 4096;
  bench.print = [](const std::string&) {};
  bench.note = [](const std::string& line) { ADD_FAILURE() << line; };
  CallWatch watch(absl::Seconds(60), [](const std::string& what) { ADD_FAILURE() << what; });
  return RunAllReduceBench(bench, &TestSession(), &watch);
}

// One rank tells what it has found, the others that it did.
void ExpectTold(const absl::Status& status, int teller, const std::string& beginning) {
  if (TestSession().rank() == teller) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_EQ(status.message().find(beginning), 0u) << status;
  } else {
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  }
}

TEST(AllReduceBenchTest, SumsThatAreRightAreTakenForRight) {
  EXPECT_EQ(RunBench(BrokenAt(kNever, 0), {1, 1000, 70'000}), absl::OkStatus());
}

TEST(AllReduceBenchTest, AWrongSumOfACallInTheMiddleOfABatchIsFound) {
  // A size's first batch has two calls; the next one as many as sums stay exact.
  for (const int call : {1, 3, 4}) {
    ExpectTold(RunBench(BrokenAt(call, 0), {1}), 0, "broken, 4 bytes: element 0 is ");
  }
}

TEST(AllReduceBenchTest, AWrongSumOfABatchsLastCallIsFoundByTheRankThatHasIt) {
  const int last = TestSession().world() - 1;
  ExpectTold(RunBench(BrokenAt(2, 0), {1}), last, "broken, 4 bytes: element 0 is ");
}

TEST(AllReduceBenchTest, EveryElementIsLookedAt) {
  for (const int64_t element : {0, 12'345, 69'999}) {
    ExpectTold(RunBench(BrokenAt(1, element), {70'000}), 0,
               absl::StrCat("broken, 280000 bytes: element ", element, " is "));
  }
}

TEST(AllReduceBenchTest, BothValuesAreNamed) {
  if (TestSession().world() != 2) return;
  // Of element 0, rank 0 brings 0 and rank 1 brings 5.
  ExpectTold(RunBench(BrokenAt(1, 0), {1}), 0, "broken, 4 bytes: element 0 is 11 on rank 0 after 2 calls, not 10");
}

}  // namespace
}  // namespace lockstep
