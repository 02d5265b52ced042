#include "common/base/control_groups.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

class ControlGroupsTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) { mount_.Write(path, text); }
  int Cores(const std::string& cgroup) { return QuotaCores(cgroup, mount_.path()); }

  MemoryLimit Memory(const std::string& cgroup) { return LimitOfMemory(cgroup, mount_.path()); }

  TempFolder mount_;
};

TEST_F(ControlGroupsTest, WithoutAnyGroupOrLimitThereIsNone) {
  EXPECT_EQ(Cores(""), 0);
  EXPECT_EQ(Cores("0::/\n"), 0);
  Write("cpu.max", "max 100000\n");
  Write("cpu/cpu.cfs_quota_us", "-1\n");
  Write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Cores("4:cpu,cpuacct:/\n0::/\n"), 0);
}

TEST_F(ControlGroupsTest, OfTheSecondVersionTheTightestGroupAboveCounts) {
  Write("cpu.max", "max 100000\n");
  Write("slurm/cpu.max", "250000 100000\n");
  Write("slurm/job/cpu.max", "400000 100000\n");
  EXPECT_EQ(Cores("0::/slurm/job\n"), 3);
  EXPECT_EQ(Cores("0::/other\n"), 0);
}

TEST_F(ControlGroupsTest, OfTheFirstVersionTheGroupOfTheProcessors) {
  Write("cpu/docker/1f/cpu.cfs_quota_us", "100000\n");
  Write("cpu/docker/1f/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Cores("5:memory:/x\n4:cpu,cpuacct:/docker/1f\n0::/\n"), 1);
  EXPECT_EQ(Cores("4:cpuset:/docker/1f\n"), 0);
}

TEST_F(ControlGroupsTest, AContainerSeesItsOwnGroupAsTheRoot) {
  Write("cpu/cpu.cfs_quota_us", "150000\n");
  Write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Cores("4:cpu,cpuacct:/docker/of/the/host\n"), 2);
}

TEST_F(ControlGroupsTest, OfMemoryTheTightestLimitAndTheLeastThatIsLeft) {
  EXPECT_EQ(Memory("0::/\n").limit, -1);
  Write("slurm/memory.max", "8000\n");
  Write("slurm/memory.current", "7500\n");
  Write("slurm/memory.stat", "anon 7000\ninactive_file 300\n");
  Write("slurm/job/memory.max", "4000\n");
  Write("slurm/job/memory.current", "1000\n");
  Write("slurm/job/step/memory.max", "max\n");
  const MemoryLimit limit = Memory("0::/slurm/job/step\n");
  EXPECT_EQ(limit.limit, 4000);
  EXPECT_EQ(limit.left, 800);
}

TEST_F(ControlGroupsTest, OfMemoryInTheFirstVersionAHugeNumberIsNoLimit) {
  Write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("memory/docker/memory.limit_in_bytes", "2000\n");
  Write("memory/docker/memory.usage_in_bytes", "2500\n");
  EXPECT_EQ(Memory("9:memory:/\n").limit, -1);
  EXPECT_EQ(Memory("9:memory:/docker\n").limit, 2000);
  EXPECT_EQ(Memory("9:memory:/docker\n").left, 0);
}

}  // namespace
}  // namespace lockstep
