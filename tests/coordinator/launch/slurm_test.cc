#include "coordinator/launch/slurm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<std::vector<SlurmHost>> HostsOf(std::map<std::string, std::string> variables, const std::string& names) {
  return SlurmHosts([=](const char* name) { return variables.count(name) > 0 ? variables.at(name) : std::string(); },
                    [=](const std::string&) -> absl::StatusOr<std::string> { return names; });
}

TEST(SlurmTest, CountsByHost) {
  EXPECT_THAT(*ParseCounts("2(x3),1"), ElementsAre(2, 2, 2, 1));
  EXPECT_THAT(*ParseCounts("16"), ElementsAre(16));
  for (const char* text : {"", "x", "2(x", "2(x0)", "0", "-1", "2(3)", "2,", "1(x99999999)"}) {
    EXPECT_FALSE(ParseCounts(text).ok()) << text;
  }
}

TEST(SlurmTest, HostsWithTheirTasks) {
  const auto hosts = HostsOf(
      {{"SLURM_JOB_NODELIST", "n[1-3]"}, {"SLURM_TASKS_PER_NODE", "4(x2),1"}, {"SLURM_JOB_CPUS_PER_NODE", "8(x3)"}},
      "n1\nn2\nn3\n");
  ASSERT_TRUE(hosts.ok()) << hosts.status();
  ASSERT_EQ(hosts->size(), 3u);
  EXPECT_EQ(hosts->at(1).slots, (HostSlots{"n2", 4}));
  EXPECT_EQ(hosts->at(2).slots, (HostSlots{"n3", 1}));
  EXPECT_EQ(hosts->at(2).cores, 8);
  EXPECT_EQ(hosts->at(2).memory, 0);
}

TEST(SlurmTest, MemoryOfAHostOrOfItsCores) {
  std::map<std::string, std::string> job = {
      {"SLURM_JOB_NODELIST", "n[1-2]"}, {"SLURM_TASKS_PER_NODE", "4(x2)"}, {"SLURM_JOB_CPUS_PER_NODE", "8,4"}};
  job["SLURM_MEM_PER_CPU"] = "100";
  EXPECT_EQ(HostsOf(job, "n1\nn2\n")->at(1).memory, int64_t{400} << 20);
  job["SLURM_MEM_PER_NODE"] = "2000";
  EXPECT_EQ(HostsOf(job, "n1\nn2\n")->at(1).memory, int64_t{2000} << 20);
}

TEST(SlurmTest, OutsideOfSlurmItSaysSo) {
  EXPECT_THAT(HostsOf({}, "").status().message(), HasSubstr("this is no job of Slurm's"));
  EXPECT_THAT(
      HostsOf({{"SLURM_JOB_NODELIST", "n[1-2]"}, {"SLURM_TASKS_PER_NODE", "4"}, {"SLURM_JOB_CPUS_PER_NODE", "8(x2)"}},
              "n1\nn2\n")
          .status()
          .message(),
      HasSubstr("SLURM_TASKS_PER_NODE 1"));
}

}  // namespace
}  // namespace lockstep
