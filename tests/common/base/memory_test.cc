#include "common/base/memory.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace lockstep {
namespace {

constexpr int64_t kMiB = 1 << 20;

class MemoryTest : public ::testing::Test {
 protected:
  MemoryTest() : root_(std::filesystem::path(::testing::TempDir()) / "memory_test") {
    std::filesystem::remove_all(root_);
    Write("proc/meminfo", "MemTotal:       8192000 kB\nMemAvailable:   4096000 kB\n");
  }
  ~MemoryTest() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  AvailableMemory Get() {
    absl::StatusOr<AvailableMemory> available =
        GetAvailableMemory((root_ / "proc").string(), (root_ / "cgroup").string());
    EXPECT_TRUE(available.ok()) << available.status();
    return *available;
  }
  const std::filesystem::path root_;
};

TEST_F(MemoryTest, WithoutGroupsTheMachineIsTheBound) {
  EXPECT_EQ(Get().bytes, 4000 * kMiB);
  EXPECT_EQ(Get().bound_by, "the machine (MemAvailable)");
}

TEST_F(MemoryTest, AGroupAboveMayBeTheTightest) {
  Write("proc/self/cgroup", "0::/pod/worker\n");
  Write("cgroup/pod/worker/memory.max", "max\n");
  Write("cgroup/pod/worker/memory.current", "1048576\n");
  Write("cgroup/pod/memory.max", std::to_string(500 * kMiB) + "\n");
  Write("cgroup/pod/memory.current", std::to_string(300 * kMiB) + "\n");
  Write("cgroup/pod/memory.stat", "anon 1\nactive_file 7\ninactive_file " + std::to_string(100 * kMiB) + "\n");
  EXPECT_EQ(Get().bytes, 300 * kMiB);
  EXPECT_EQ(Get().bound_by, "the memory limit of cgroup /pod");
}

TEST_F(MemoryTest, TheRootGroupOfAContainerCounts) {
  Write("proc/self/cgroup", "0::/\n");
  Write("cgroup/memory.max", std::to_string(64 * kMiB) + "\n");
  Write("cgroup/memory.current", std::to_string(80 * kMiB) + "\n");
  EXPECT_EQ(Get().bytes, 0);
}

TEST_F(MemoryTest, ControlGroupsOfTheFirstVersion) {
  Write("proc/self/cgroup", "9:cpu,cpuacct:/a\n4:memory:/a/b\n");
  Write("cgroup/memory/a/b/memory.limit_in_bytes", std::to_string(200 * kMiB) + "\n");
  Write("cgroup/memory/a/b/memory.usage_in_bytes", std::to_string(150 * kMiB) + "\n");
  Write("cgroup/memory/a/b/memory.stat", "inactive_file 5\ntotal_inactive_file " + std::to_string(50 * kMiB) + "\n");
  EXPECT_EQ(Get().bytes, 100 * kMiB);
  EXPECT_EQ(Get().bound_by, "the memory limit of cgroup /a/b");
}

TEST_F(MemoryTest, ThisMachineHasSome) {
  const absl::StatusOr<AvailableMemory> available = GetAvailableMemory();
  ASSERT_TRUE(available.ok()) << available.status();
  EXPECT_GT(available->bytes, 0);
}

TEST_F(MemoryTest, ALineOfKilobytesIsReadInBytes) {
  const std::string status = "Name:\tx\nVmPeak:\t    2048 kB\nVmHWM:\t      12 kB\nThreads:\tmany\n";
  EXPECT_EQ(BytesInLine(status, "VmHWM"), 12 << 10);
  EXPECT_EQ(BytesInLine(status, "VmPeak"), 2 << 20);
  EXPECT_EQ(BytesInLine(status, "Vm"), std::nullopt);
  EXPECT_EQ(BytesInLine(status, "Threads"), std::nullopt);
}

TEST_F(MemoryTest, WithoutProcItIsAnError) { EXPECT_FALSE(GetAvailableMemory("/nowhere", "/nowhere").ok()); }

}  // namespace
}  // namespace lockstep
