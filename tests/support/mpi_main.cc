// main of a test that runs under mpirun: every rank runs every test, rank 0 prints; another rank prints what fails
// there. Any rank's failure is the exit code of all.
#include "tests/support/mpi_main.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "common/base/clock.h"

namespace lockstep {
namespace {

MpiSession* session = nullptr;

// A rank that hangs or has died must not hold the others up for longer than this.
constexpr int64_t kEndNanos = 60'000'000'000;

class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  void OnTestStart(const testing::TestInfo& test) override {
    test_ = std::string(test.test_suite_name()) + "." + test.name();
  }
  // Called under GoogleTest's lock, which asking for the current test would take again.
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s: %s:%d: %s\n", session->rank(), test_.c_str(),
                 result.file_name() ? result.file_name() : "?", result.line_number(), result.message());
  }

 private:
  std::string test_;
};

// The largest of all ranks' codes; also the point at which they have all come to the end.
absl::StatusOr<int64_t> LargestCode(int64_t code) {
  absl::StatusOr<std::unique_ptr<Collectives>> collectives = session->NewCollectives();
  if (!collectives.ok()) return collectives.status();
  const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(&code), sizeof(code));
  auto operation = (*collectives)->AllReduce(bytes, DType::kI64, ReduceOp::kMax);
  if (!operation.ok()) return operation.status();
  const int64_t until_ns = MonotonicNanos() + kEndNanos;
  while (MonotonicNanos() < until_ns) {
    const absl::StatusOr<bool> done = (*operation)->Poll();
    if (!done.ok()) return done.status();
    if (*done) return code;
  }
  return absl::DeadlineExceededError("a rank has not come to the end of the tests");
}

}  // namespace

MpiSession& TestSession() { return *session; }

}  // namespace lockstep

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  absl::StatusOr<std::unique_ptr<lockstep::MpiSession>> created = lockstep::MpiSession::Create(&argc, &argv);
  if (!created.ok()) {
    std::fprintf(stderr, "%s\n", created.status().ToString().c_str());
    return 1;
  }
  lockstep::session = created->get();
  if (lockstep::session->rank() != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new lockstep::FailurePrinter);
  }
  const absl::StatusOr<int64_t> code = lockstep::LargestCode(RUN_ALL_TESTS());
  if (code.ok()) return static_cast<int>(*code);
  std::fprintf(stderr, "rank %d: %s\n", lockstep::session->rank(), code.status().ToString().c_str());
  std::fflush(nullptr);
  _exit(1);
}
