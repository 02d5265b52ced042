#include "common/base/cores.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

class QuotaTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) { mount_.Write(path, text); }
  int Cores(const std::string& cgroup) { return QuotaCores(cgroup, mount_.path()); }

  TempFolder mount_;
};

TEST_F(QuotaTest, WithoutAnyGroupOrLimitThereIsNone) {
  EXPECT_EQ(Cores(""), 0);
  EXPECT_EQ(Cores("0::/\n"), 0);
  Write("cpu.max", "max 100000\n");
  Write("cpu/cpu.cfs_quota_us", "-1\n");
  Write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Cores("4:cpu,cpuacct:/\n0::/\n"), 0);
}

TEST_F(QuotaTest, OfTheSecondVersionTheTightestGroupAboveCounts) {
  Write("cpu.max", "max 100000\n");
  Write("slurm/cpu.max", "250000 100000\n");
  Write("slurm/job/cpu.max", "400000 100000\n");
  EXPECT_EQ(Cores("0::/slurm/job\n"), 3);
  EXPECT_EQ(Cores("0::/other\n"), 0);
}

TEST_F(QuotaTest, OfTheFirstVersionTheGroupOfTheProcessors) {
  Write("cpu/docker/1f/cpu.cfs_quota_us", "100000\n");
  Write("cpu/docker/1f/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Cores("5:memory:/x\n4:cpu,cpuacct:/docker/1f\n0::/\n"), 1);
  EXPECT_EQ(Cores("4:cpuset:/docker/1f\n"), 0);
}

TEST_F(QuotaTest, AContainerSeesItsOwnGroupAsTheRoot) {
  Write("cpu/cpu.cfs_quota_us", "150000\n");
  Write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Cores("4:cpu,cpuacct:/docker/of/the/host\n"), 2);
}

TEST(CoresTest, ThisProcessMayRunSomewhere) {
  EXPECT_GE(UsableCores(), 1);
  EXPECT_GE(UsableCores(), PhysicalCores());
}

}  // namespace
}  // namespace lockstep
