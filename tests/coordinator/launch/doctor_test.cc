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
  report.root = report.probed = true;
  report.torch = "1.13";
  report.torch_package = "libtorch1.13=1.13.1-4";
  report.mpi_package = "openmpi-bin=4.1.4-3";
  report.blas = "openblas";
  report.mpi = "mpirun (Open MPI) 4.1.4";
  report.worker = "/opt/lockstep-worker";
  report.cores = report.physical = report.unbound = report.online = 4;
  report.ports = report.ports_free = 28232;
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
    for (const char* name : {"a", "b", "c"}) all_.hosts.push_back({name, Healthy(name), 4, name[0] == 'a'});
    all_.needs.memory_bytes = 100 << 20;
    all_.needs.checkpoints_bytes = 300 << 20;
    all_.needs.shared_bytes = 10 << 20;
    all_.network.networks = {"10.1.0.0/24"};
    all_.network.remote = true;
    all_.program = "/opt/lockstep";
    all_.worker_program = "/opt/lockstep-worker";
    for (const auto& [from, to] : {std::pair<size_t, size_t>{0, 1}, {0, 2}, {1, 2}}) {
      all_.links.push_back({from, to, 50e-6, 117e6, 0.001, absl::OkStatus()});
    }
  }
  std::vector<Check> Complaints() const {
    std::vector<Check> wrong;
    for (const Check& check : Examine(all_)) {
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

  Examined all_;
};

TEST_F(DoctorTest, WhereSlotsAreSaidFewerWorkersAreSlots) {
  all_.slots_said = true;
  all_.hosts[1].report.cores = all_.hosts[1].report.unbound = all_.hosts[1].report.online = 2;
  const std::vector<Check> wrong = Complaints();
  ASSERT_EQ(wrong.size(), 1u);
  EXPECT_EQ(wrong[0].mend, "--hosts a:4,b:2,c:4");
}

TEST_F(DoctorTest, HealthyHostsGetNoComplaintAndEveryCheckIsShown) {
  EXPECT_THAT(Complaints(), IsEmpty());
  std::set<std::string> what;
  for (const Check& check : Examine(all_)) what.insert(check.what);
  EXPECT_EQ(what, (std::set<std::string>{"/dev/shm", "BLAS", "LibTorch", "MPI", "clocks", "cores", "disk", "limits",
                                         "link", "lockstep", "memory", "network", "ports", "processor", "strays"}));
}

TEST_F(DoctorTest, LimitsAreHeldAgainstWhatTheRunNeeds) {
  all_.hosts[0].report.file_size = int64_t{1} << 30;
  all_.hosts[0].report.address_space = int64_t{8} << 30;
  EXPECT_THAT(Complaints(), IsEmpty());
  all_.needs.file_bytes = int64_t{2} << 30;
  EXPECT_EQ(Complaint().said, "files of 1.07 GB");
  all_.needs.file_bytes = 0;
  all_.needs.address_bytes = int64_t{9} << 30;
  EXPECT_EQ(Complaint().said, "8.59 GB of virtual memory");
  all_.hosts[0].report.address_space = -1;
  EXPECT_THAT(Complaints(), IsEmpty());
  all_.hosts[0].report.data = int64_t{8} << 30;
  EXPECT_EQ(Complaint().mend, "prlimit --pid $$ --data=unlimited");
}

TEST_F(DoctorTest, ProgramsArePutWhereAHostHasThem) {
  all_.hosts[1].report.build = "0.9";
  all_.hosts[1].folder = "/srv/bin";
  EXPECT_THAT(Complaint().mend, HasSubstr("b mkdir -p /srv/bin/new && "));
  EXPECT_THAT(Complaint().mend, HasSubstr(" b:/srv/bin/"));
}

TEST_F(DoctorTest, AHostWhoseNameIsNotKnownIsLeftOut) {
  all_.unreached.push_back({"d", "host d: Name or service not known", "", false});
  EXPECT_EQ(Complaint().what, "name");
  EXPECT_EQ(Complaint().mend, "--hosts a:4,b:4,c:4");
}

TEST_F(DoctorTest, WhatIsWrongWithAHostIsNamedWithItsHostAndWhatMendsIt) {
  const std::vector<std::tuple<std::string, std::function<void(HostReport*)>, std::string>> faults = {
      {"BLAS", [](HostReport* host) { host->blas_warning = "the reference BLAS is loaded"; },
       "apt-get install -y libopenblas0-pthread"},
      {"BLAS",
       [](HostReport* host) {
         host->blas_warning = "the reference BLAS is loaded";
         host->blas_choice = "/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3";
       },
       "update-alternatives --set libblas.so.3-x86_64-linux-gnu "
       "/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3"},
      {"BLAS",
       [](HostReport* host) {
         host->blas_warning = "the reference BLAS is loaded";
         host->root = false;
       },
       "sudo apt-get install -y libopenblas0-pthread"},
      {"cores", [](HostReport* host) { host->cores = host->unbound = host->online = 2; }, "--workers 6"},
      {"cores", [](HostReport* host) { host->cores = 2; }, "taskset -apc 0-3 $(pgrep -o -x sshd)"},
      {"processor", [](HostReport* host) { host->steal = 0.2; }, "--hosts a:4,c:4"},
      {"processor", [](HostReport* host) { host->governor = "powersave"; },
       "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"},
      {"memory", [](HostReport* host) { host->memory_available = 300 << 20; }, "--workers 9"},
      {"memory", [](HostReport* host) { host->memory_available = 50 << 20; }, "--hosts a:4,c:4"},
      {"/dev/shm", [](HostReport* host) { host->shm_free = 60 << 20; }, "mount -o remount,size=1145044992 /dev/shm"},
      {"/dev/shm",
       [](HostReport* host) {
         host->shm_total = host->shm_free = 60 << 20;
         host->container = true;
       },
       "docker run --shm-size=134217728 ..."},
      {"disk",
       [](HostReport* host) {
         host->disk_free = 200 << 20;
         host->roomier = "/scratch";
       },
       "--out /scratch/lockstep-runs"},
      {"disk", [](HostReport* host) { host->fsync_s = 0.5; }, "--out DIR, in a folder on a larger or faster disk"},
      {"disk", [](HostReport* host) { host->fsync_s = -1; }, "--out DIR, in a folder on a larger or faster disk"},
      {"limits", [](HostReport* host) { host->open_files = 256; },
       "prlimit --pid $(pgrep -o -x sshd) --nofile=65536:65536"},
      {"limits",
       [](HostReport* host) {
         host->processes = 64;
         host->root = false;
       },
       "sudo prlimit --pid $(pgrep -o -x sshd) --nproc=65536:65536"},
      {"limits", [](HostReport* host) { host->file_size = 1 << 20; },
       "prlimit --pid $(pgrep -o -x sshd) --fsize=unlimited"},
      {"limits", [](HostReport* host) { host->address_space = 1 << 30; },
       "prlimit --pid $(pgrep -o -x sshd) --as=unlimited"},
      {"ports", [](HostReport* host) { host->ports_free = 40; },
       "sysctl -w net.ipv4.ip_local_port_range='15000 60999'"},
      {"strays",
       [](HostReport* host) {
         host->strays = {{77, "lockstep-worker", 3600}};
       },
       "kill -KILL 77"},
  };
  for (const auto& [what, breaks, mend] : faults) {
    const HostReport before = all_.hosts[1].report;
    breaks(&all_.hosts[1].report);
    const Check check = Complaint();
    EXPECT_EQ(check.what, what);
    EXPECT_EQ(check.host, "b") << what;
    EXPECT_EQ(check.mend, mend);
    EXPECT_EQ(check.mend_on, mend.rfind("--", 0) == 0 ? "" : "b") << mend;
    all_.hosts[1].report = before;
  }
}

TEST_F(DoctorTest, VersionsThatDifferAreNamedWithTheirHosts) {
  all_.hosts[2].report.mpi = "mpirun (Open MPI) 4.0.3";
  EXPECT_EQ(Complaint().what, "MPI");
  EXPECT_EQ(Complaint().said, "mpirun (Open MPI) 4.0.3 on c; mpirun (Open MPI) 4.1.4 on a, b");
  EXPECT_EQ(Complaint().mend, "ssh c 'apt-get install -y --allow-downgrades openmpi-bin=4.1.4-3'");
  all_.hosts[2].report.mpi = "";
  EXPECT_EQ(Complaint().said, "none on c; mpirun (Open MPI) 4.1.4 on a, b");
  all_.hosts[2].report = all_.hosts[1].report;
  all_.hosts[2].report.build = "1.1";
  all_.agent.words = {"ssh", "-F", "config", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"};
  EXPECT_EQ(Complaint().what, "lockstep");
  EXPECT_EQ(Complaint().mend,
            "ssh -F config c mkdir -p /opt/new && scp -F config /opt/lockstep /opt/lockstep-worker c:/opt/new/ && "
            "ssh -F config c 'mv -f /opt/new/* /opt/ && rmdir /opt/new'");
}

TEST_F(DoctorTest, AnMpirunFromElsewhereIsFoundAfterDebians) {
  HostReport& other = all_.hosts[2].report;
  other.mpi = "mpirun (Open MPI) 5.0.3";
  other.mpi_package = "";
  other.mpi_path = "/opt/mpi/bin/mpirun";
  other.mpi_other = "openmpi-bin=4.1.4-3";
  EXPECT_THAT(Complaint().mend, HasSubstr("ssh c 'sed -i -e '\\''1iPATH=/usr/bin:$PATH'\\'' "));
  other.mpi_other = "";
  EXPECT_THAT(Complaint().mend, HasSubstr("apt-get install -y --allow-downgrades openmpi-bin=4.1.4-3 && sed "));
  other.mpi_path = "/usr/bin/mpirun";
  other.mpi_package = "mpich=4.0.2-3";
  other.mpi_other = "openmpi-bin=4.1.4-3";
  EXPECT_EQ(Complaint().mend, "ssh c 'update-alternatives --set mpirun /usr/bin/mpirun.openmpi'");
  std::swap(all_.hosts[0].report.mpi, other.mpi);
  std::swap(all_.hosts[0].report.mpi_package, other.mpi_package);
  all_.hosts[0].report.mpi_path = "/opt/mpi/bin/mpirun";
  all_.hosts[0].report.mpi_other = other.mpi_package = "openmpi-bin=4.1.4-3";
  EXPECT_EQ(Complaint().mend, "export PATH=/usr/bin:$PATH");
}

TEST_F(DoctorTest, ALabsHostsAreOneMachine) {
  all_.lab = "net";
  for (size_t i = 0; i < 3; ++i) {
    all_.hosts[i].name = absl::StrCat("10.77.0.", i + 1);
    all_.hosts[i].workers = 1;
    all_.hosts[i].here = true;
  }
  all_.this_machine = ExaminedHost{"here", Healthy("here"), 3, true, ""};
  EXPECT_THAT(Complaints(), IsEmpty());
  all_.this_machine->workers = 6;
  EXPECT_EQ(Complaint().said, "6 workers of 1 thread on 4 cores");
  EXPECT_EQ(Complaint().mend, "--workers 4");
  all_.this_machine->workers = 3;
  all_.this_machine->report.open_files = 256;
  EXPECT_EQ(Complaint().mend, "prlimit --pid $$ --nofile=65536:65536");
  EXPECT_EQ(Complaint().mend_on, "");
  all_.this_machine->report.open_files = 65536;
  all_.this_machine->report.disk_free = 1 << 20;
  EXPECT_EQ(Complaint().what, "disk");
  all_.this_machine->report.disk_free = int64_t{100} << 30;
  for (const size_t link : {0, 2}) all_.links[link].status = absl::UnavailableError("no answer");
  const std::string open =
      "iptables -I INPUT -p tcp -s 10.1.0.0/24 -j ACCEPT && iptables -I OUTPUT -p tcp -d 10.1.0.0/24 -j ACCEPT";
  ASSERT_EQ(Complaints().size(), 2u);
  EXPECT_EQ(Complaints()[0].mend, "/opt/lockstep lab on --name net 2 sh -c '" + open + "'");
  all_.hosts[1].cut = true;
  EXPECT_EQ(Complaints()[0].mend, "/opt/lockstep lab mend --name net 2");
}

TEST_F(DoctorTest, CheckpointsGoToThisMachineThoughNoWorkerIsHere) {
  all_.hosts[0].here = false;
  all_.this_machine = ExaminedHost{"here", Healthy("here"), 0, true, ""};
  EXPECT_THAT(Complaints(), IsEmpty());
  all_.this_machine->report.disk_free = 1 << 20;
  EXPECT_EQ(Complaint().host, "here");
  EXPECT_EQ(Complaint().what, "disk");
}

TEST_F(DoctorTest, OfTwoHostsBothAreToLetEachOtherIn) {
  all_.hosts.pop_back();
  all_.links.resize(1);
  all_.links[0].status = absl::UnavailableError("no answer");
  const std::string open =
      "iptables -I INPUT -p tcp -s 10.1.0.0/24 -j ACCEPT && iptables -I OUTPUT -p tcp -d 10.1.0.0/24 -j ACCEPT";
  EXPECT_EQ(Complaint().mend, "ssh b '" + open + "' && " + open);
  EXPECT_EQ(Complaint().mend_on, "");
}

TEST_F(DoctorTest, AFarLinkIsNoSlowOneAndTheOtherWayRound) {
  all_.links[1].latency_s = 40e-3;
  all_.links[1].bytes_per_s = 3e6;
  EXPECT_THAT(Complaint().said, HasSubstr("others have 50 us"));
  all_.links[1].latency_s = 1.4e-3;
  all_.links[1].bytes_per_s = 50e3;
  EXPECT_THAT(Complaint().said, HasSubstr("others have 117 MB/s"));
}

TEST_F(DoctorTest, TooManyThreadsAreTheThreadsFaultWhereTheWorkersFit) {
  all_.needs.threads = 2;
  for (ExaminedHost& host : all_.hosts) host.workers = 1;
  EXPECT_THAT(Complaints(), IsEmpty());
  all_.hosts[0].report.cores = all_.hosts[0].report.unbound = all_.hosts[0].report.online = 1;
  EXPECT_EQ(Complaint().mend, "--set threads=1");
}

TEST_F(DoctorTest, AHostThatIsHeldToFewCoresByItsControlGroupIsNotMendedByBinding) {
  all_.hosts[0].report.cores = all_.hosts[0].report.unbound = 2;
  EXPECT_EQ(Complaint().mend, "--workers 6");
  all_.hosts[0].report.unbound = all_.hosts[0].report.online;
  EXPECT_THAT(Complaint().mend, HasSubstr("taskset"));
}

TEST_F(DoctorTest, ALinkThatIsUnlikeTheOthersIsNamedWithBothEnds) {
  all_.links[2].bytes_per_s = 12e6;
  EXPECT_THAT(Complaint().said, HasSubstr("b to c: 12 MB/s, 50 us; others have 117 MB/s"));
  all_.links[2].bytes_per_s = 117e6;
  all_.links[1].latency_s = 5e-3;
  EXPECT_THAT(Complaint().said, HasSubstr("a to c: 117 MB/s, 5000 us; others have 50 us"));
  all_.links[1].status = absl::UnavailableError("No route to host");
  EXPECT_THAT(Complaint().said, HasSubstr("a to c: No route to host"));
  EXPECT_THAT(Complaint().mend, HasSubstr("iptables -I INPUT -p tcp -s 10.1.0.0/24"));
}

TEST_F(DoctorTest, OfSlowLinksTheHostThatHasAPartInAllIsTheOneToLookAt) {
  all_.links[0].bytes_per_s = all_.links[2].bytes_per_s = 12e6;  // a to b, b to c
  const std::vector<Check> wrong = Complaints();
  ASSERT_EQ(wrong.size(), 2u);
  for (const Check& check : wrong) {
    EXPECT_EQ(check.host, "b");
    EXPECT_EQ(check.mend, "--hosts a:4,c:4");
  }
  all_.lab = "net";
  all_.hosts[1].name = "10.77.0.2";
  EXPECT_EQ(Complaints()[0].mend, "/opt/lockstep lab rate --name net 990mbit 2");
}

TEST_F(DoctorTest, AHostThatCannotBeReachedIsNamedWithWhatLetsItBe) {
  all_.agent.words = {"ssh", "-p", "2222", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"};
  all_.unreached = {{"d", "root@d: Permission denied (publickey,password)."}};
  EXPECT_EQ(Complaint().mend, "ssh-copy-id -p 2222 d");
  EXPECT_EQ(Complaint().mend_on, "") << "here";
  all_.has_key = false;
  EXPECT_EQ(Complaint().mend, "ssh-keygen -t ed25519 && ssh-copy-id -p 2222 d");
  all_.unreached = {
      {"d", "Permissions 0644 for '/home/u/.ssh/id' are too open.\nroot@d: Permission denied (publickey)."}};
  EXPECT_EQ(Complaint().mend, "chmod 600 /home/u/.ssh/id");
  all_.unreached = {{"d",
                     "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n  remove with:\n"
                     "  ssh-keygen -f \"/home/u/known\" -R \"d\"\nHost key verification failed."}};
  EXPECT_EQ(Complaint().mend, "ssh-keygen -f \"/home/u/known\" -R \"d\" && ssh -p 2222 d true");
  all_.unreached = {{"d", "sh: 1: /opt/lockstep: not found"}};
  EXPECT_EQ(Complaint().what, "lockstep");
  all_.unreached = {{"d", "ssh: connect to host d port 22: No route to host"}};
  EXPECT_EQ(Complaint().mend, "--hosts a:4,b:4,c:4");
}

TEST_F(DoctorTest, ABatchThatIsTooLargeGetsOneThatFits) {
  all_.needs.memory_bytes = 10 << 20;
  all_.needs.batch_bytes = 400 << 20;
  all_.needs.batch_size = 1000;
  all_.hosts[1].report.memory_available = 440 << 20;
  EXPECT_EQ(Complaint().mend, "--workers 3");
  all_.hosts[1].report.memory_available = 240 << 20;
  EXPECT_EQ(Complaint().mend, "--set data.batch_size=125");
  all_.needs.global_batch = true;
  EXPECT_EQ(Complaint().mend, "--set data.global_batch_size=1500") << "of 12 workers";
}

TEST_F(DoctorTest, AClockThatIsFarOffIsNamed) {
  all_.links[0].clock_offset_s = -3;
  EXPECT_EQ(Complaint().host, "b");
  EXPECT_THAT(Complaint().said, HasSubstr("is 3.0 s behind the others'"));
  for (LinkFigures& link : all_.links) link.clock_offset_s = link.from == 0 ? 3 : 0;
  EXPECT_EQ(Complaint().host, "a") << "it is the one that is behind";
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
  const HostReport report = LookAtThisHost(testing::TempDir(), 0);
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
  const auto links =
      MeasureLinks({{"a", "127.0.0.1", true, "/no/such/lockstep"}, {"b", "127.0.0.1", true, "/no/such/lockstep"}},
                   Agent(), absl::Seconds(1));
  EXPECT_FALSE(links.ok());
}

}  // namespace
}  // namespace lockstep
