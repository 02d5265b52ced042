#include "coordinator/launch/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

HostReport Healthy(const std::string& machine) {
  HostReport report;
  report.machine = machine;
  report.build = "1.0";
  report.torch = "1.13";
  report.blas = "openblas";
  report.mpi = "mpirun (Open MPI) 4.1.4";
  report.cores = report.physical = 4;
  report.governor = "performance";
  report.memory_total = report.memory_available = int64_t{8} << 30;
  report.shm_total = report.shm_free = int64_t{1} << 30;
  report.disk_free = int64_t{100} << 30;
  report.fsync_s = 0.002;
  report.open_files = 65536;
  report.processes = -1;
  return report;
}

class DoctorTest : public testing::Test {
 protected:
  DoctorTest() {
    for (const char* name : {"a", "b", "c"}) hosts_.push_back({name, Healthy(name), 4});
    needs_.memory_bytes = 100 << 20;
    needs_.checkpoint_bytes = 100 << 20;
    needs_.shared_bytes = 10 << 20;
    network_.networks = {"10.1.0.0/24"};
    network_.remote = true;
    for (const auto& [from, to] : {std::pair<size_t, size_t>{0, 1}, {0, 2}, {1, 2}}) {
      links_.push_back({from, to, 50e-6, 117e6, 0.001, absl::OkStatus()});
    }
  }
  std::vector<Check> Complaints() const {
    std::vector<Check> wrong;
    for (const Check& check : Examine(hosts_, needs_, network_, links_)) {
      if (!check.ok) wrong.push_back(check);
    }
    return wrong;
  }
  // The one complaint; it has all that one should have.
  Check Complaint() const {
    const std::vector<Check> wrong = Complaints();
    EXPECT_EQ(wrong.size(), 1u);
    if (wrong.size() != 1) return {};
    for (const std::string& text : {wrong[0].said, wrong[0].costs, wrong[0].mend}) EXPECT_FALSE(text.empty());
    return wrong[0];
  }

  std::vector<ExaminedHost> hosts_;
  RunNeeds needs_;
  ClusterNetwork network_;
  std::vector<LinkFigures> links_;
};

TEST_F(DoctorTest, HealthyHostsGetNoComplaintAndEveryCheckIsShown) {
  EXPECT_THAT(Complaints(), IsEmpty());
  std::set<std::string> what;
  for (const Check& check : Examine(hosts_, needs_, network_, links_)) what.insert(check.what);
  EXPECT_EQ(what, (std::set<std::string>{"/dev/shm", "BLAS", "LibTorch", "MPI", "clocks", "cores", "disk", "limits",
                                         "link", "lockstep", "memory", "network", "processor", "strays"}));
}

TEST_F(DoctorTest, WhatIsWrongWithAHostIsNamedWithItsHostAndWhatMendsIt) {
  const std::vector<std::tuple<std::string, std::function<void(HostReport*)>, std::string>> faults = {
      {"BLAS", [](HostReport* host) { host->blas_warning = "the reference BLAS is loaded"; }, "libopenblas0-pthread"},
      {"BLAS", [](HostReport* host) { host->torch = ""; }, "--probe"},
      {"cores", [](HostReport* host) { host->cores = 2; }, "--workers 6"},
      {"processor", [](HostReport* host) { host->steal = 0.2; }, "leave the host out"},
      {"processor", [](HostReport* host) { host->governor = "powersave"; }, "frequency-set -g performance"},
      {"memory", [](HostReport* host) { host->memory_available = 300 << 20; }, "fewer workers"},
      {"/dev/shm", [](HostReport* host) { host->shm_free = 60 << 20; }, "mount -o remount,size="},
      {"disk", [](HostReport* host) { host->disk_free = 200 << 20; }, "--out"},
      {"disk", [](HostReport* host) { host->fsync_s = 0.5; }, "local disk"},
      {"disk", [](HostReport* host) { host->fsync_s = -1; }, "--out"},
      {"limits", [](HostReport* host) { host->open_files = 256; }, "ulimit -n"},
      {"limits", [](HostReport* host) { host->processes = 64; }, "ulimit -u"},
      {"strays",
       [](HostReport* host) {
         host->strays = {{77, "lockstep-worker", 3600}};
       },
       "kill -KILL 77"},
  };
  for (const auto& [what, breaks, mend] : faults) {
    const HostReport before = hosts_[1].report;
    breaks(&hosts_[1].report);
    const Check check = Complaint();
    EXPECT_EQ(check.what, what);
    EXPECT_EQ(check.host, "b") << what;
    EXPECT_THAT(check.mend, HasSubstr(mend));
    hosts_[1].report = before;
  }
}

TEST_F(DoctorTest, VersionsThatDifferAreNamedWithTheirHosts) {
  hosts_[2].report.mpi = "mpirun (Open MPI) 4.0.3";
  EXPECT_EQ(Complaint().what, "MPI");
  EXPECT_EQ(Complaint().said, "mpirun (Open MPI) 4.0.3 on c; mpirun (Open MPI) 4.1.4 on a, b");
  hosts_[2].report = hosts_[1].report;
  hosts_[0].report.build = "1.1";
  EXPECT_EQ(Complaint().what, "lockstep");
}

TEST_F(DoctorTest, TooManyThreadsAreTheThreadsFaultWhereTheWorkersFit) {
  needs_.threads = 2;
  for (ExaminedHost& host : hosts_) host.workers = 1;
  EXPECT_THAT(Complaints(), IsEmpty());
  hosts_[0].report.cores = 1;
  EXPECT_EQ(Complaint().mend, "--set threads=1");
}

TEST_F(DoctorTest, ALinkThatIsUnlikeTheOthersIsNamedWithBothEnds) {
  links_[2].bytes_per_s = 12e6;
  EXPECT_THAT(Complaint().said, HasSubstr("b to c: 12 MB/s, 50 us; others have 117 MB/s"));
  links_[2].bytes_per_s = 117e6;
  links_[1].latency_s = 5e-3;
  EXPECT_THAT(Complaint().said, HasSubstr("a to c: 117 MB/s, 5000 us; others have 50 us"));
  links_[1].status = absl::UnavailableError("No route to host");
  EXPECT_THAT(Complaint().said, HasSubstr("a to c: No route to host"));
  EXPECT_THAT(Complaint().mend, HasSubstr("iptables -I INPUT -p tcp -s 10.1.0.0/24"));
}

TEST_F(DoctorTest, OfSlowLinksTheHostThatHasAPartInAllIsTheOneToLookAt) {
  links_[0].bytes_per_s = links_[2].bytes_per_s = 12e6;  // a to b, b to c
  const std::vector<Check> wrong = Complaints();
  ASSERT_EQ(wrong.size(), 2u);
  for (const Check& check : wrong) EXPECT_EQ(check.mend, "see ethtool and tc qdisc on b, or leave it out of --hosts");
}

TEST_F(DoctorTest, AClockThatIsFarOffIsNamed) {
  links_[0].clock_offset_s = -3;
  EXPECT_EQ(Complaint().host, "b");
  EXPECT_THAT(Complaint().said, HasSubstr("is 3.0 s behind that of a"));
}

TEST(HostReportTest, TextAndBack) {
  HostReport report = Healthy("x");
  report.strays = {{5, "orted", 10}};
  const auto read = ParseHostReport(HostReportText(report));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(HostReportText(*read), HostReportText(report));
  for (const char* text : {"", "{}", "[]", "{\"machine\": 7}"}) EXPECT_FALSE(ParseHostReport(text).ok()) << text;
}

TEST(HostReportTest, ThisHostSaysWhatItIs) {
  const HostReport report = LookAtThisHost(testing::TempDir());
  EXPECT_GE(report.cores, 1);
  EXPECT_GE(report.cores, report.physical);
  EXPECT_GT(report.memory_total, report.memory_available);
  EXPECT_GT(report.disk_free, 0);
  EXPECT_GT(report.fsync_s, 0);
  EXPECT_FALSE(report.machine.empty());
}

TEST(RoundsOfPairsTest, EveryPairOnceAndNobodyTwiceInARound) {
  for (size_t count : {0, 1, 2, 3, 4, 7, 8}) {
    std::set<std::pair<size_t, size_t>> all;
    for (const auto& round : RoundsOfPairs(count)) {
      std::set<size_t> busy;
      for (const auto& [a, b] : round) {
        EXPECT_LT(a, b);
        EXPECT_TRUE(busy.insert(a).second && busy.insert(b).second);
        EXPECT_TRUE(all.insert({a, b}).second);
      }
    }
    EXPECT_EQ(all.size(), count * (count > 0 ? count - 1 : 0) / 2) << count;
  }
}

// Two ends on this machine, as they would be on two.
TEST(MeasureLinksTest, WhatDoesNotStartIsSaid) {
  const auto links = MeasureLinks({{"a", "127.0.0.1", true}, {"b", "127.0.0.1", true}}, Agent(), "/no/such/lockstep",
                                  absl::Seconds(1));
  EXPECT_FALSE(links.ok());
}

}  // namespace
}  // namespace lockstep
