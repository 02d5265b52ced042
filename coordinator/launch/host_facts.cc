#include "coordinator/launch/host_facts.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/build_info.h"
#include "common/base/clock.h"
#include "common/base/control_groups.h"
#include "common/base/cores.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

constexpr absl::Duration kLook = absl::Milliseconds(200), kLongLook = absl::Seconds(1), kAnswer = absl::Seconds(10);
constexpr int kSyncs = 3;
constexpr int64_t kLargestFile = 64 << 20;  // a table of 400,000 connections

std::string FileText(const std::string& path) {
  const absl::StatusOr<std::string> text = FileSystem::Real()->Read(path, kLargestFile);
  return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
}

// All of the processors' time so far, and of that what was stolen; in ticks.
struct Ticks {
  int64_t all = 0, stolen = 0;
};
Ticks ProcessorTicks() {
  const std::string line = FileText("/proc/stat");
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(line).substr(0, line.find('\n')), ' ', absl::SkipEmpty());
  Ticks ticks;
  for (size_t i = 1; i < std::min<size_t>(words.size(), 9); ++i) {  // the guests' are in the users' already
    int64_t count = 0;
    if (!absl::SimpleAtoi(words[i], &count)) continue;
    ticks.all += count;
    if (i == 8) ticks.stolen = count;
  }
  return ticks;
}

double StolenSince(const Ticks& before) {
  const Ticks now = ProcessorTicks();
  return now.all <= before.all
             ? 0
             : static_cast<double>(now.stolen - before.stolen) / static_cast<double>(now.all - before.all);
}

// The median of a few, of what a checkpoint's file and folder wait for.
double SyncSeconds(const std::string& folder) {
  const std::string path = JoinPath(folder, absl::StrCat(".lockstep-doctor-", getpid(), "-",
                                                         MonotonicNanos()));  // two names of one machine look at once
  std::vector<double> seconds;
  for (int i = 0; i < kSyncs; ++i) {
    const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    const std::string block(4096, 'x');
    const int64_t begin = MonotonicNanos();
    const bool synced = fd.get() >= 0 && write(fd.get(), block.data(), block.size()) > 0 && fsync(fd.get()) == 0;
    if (fd.get() >= 0) unlink(path.c_str());
    if (!synced) break;
    seconds.push_back(1e-9 * static_cast<double>(MonotonicNanos() - begin));
  }
  if (seconds.empty()) return -1;
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

int64_t SoftLimit(int what) {
  rlimit limit{};
  if (getrlimit(what, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return -1;
  return static_cast<int64_t>(limit.rlim_cur);
}

// Of what a command says, which may not be there.
std::string FirstLineOf(const std::vector<std::string>& command) {
  ChildOptions child;
  child.argv = command;
  child.errors_too = true;  // what it says there is no answer
  const absl::StatusOr<Captured> said = RunAndCapture(child, "", kAnswer);
  if (!said.ok() || said->exit_code != 0) return "";
  return said->output.substr(0, said->output.find('\n'));
}

// The Debian package that a file is of, with its version, as apt-get takes it.
std::string PackageOf(const std::string& pattern) {
  const std::string owner = FirstLineOf({"dpkg-query", "-S", pattern});  // libtorch1.13:amd64: /usr/lib/…
  const std::string name = owner.substr(0, owner.find(':'));
  if (name.empty()) return "";
  return FirstLineOf({"dpkg-query", "-W", "-f", "${Package}=${Version}", name});
}

// OpenBLAS, where Debian's libblas3 was chosen over it, or is found before what was chosen.
void LookForOtherBlas(HostReport* report) {
  for (const char* folder : {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"}) {
    const std::string path = JoinPath(folder, "openblas-pthread/libblas.so.3");
    if (access(path.c_str(), R_OK) != 0) continue;
    std::error_code unknown;
    const bool chosen = std::filesystem::equivalent(JoinPath(folder, "libblas.so.3"), path, unknown);
    report->blas_overruled = chosen && std::getenv("LD_LIBRARY_PATH") != nullptr;
    if (!report->blas_overruled) report->blas_choice = path;
    return;
  }
}

// As many cores as this thread would have if it were bound to none; a control group may still hold it to some.
int UnboundCores() {
  cpu_set_t now, all;
  if (sched_getaffinity(0, sizeof(now), &now) != 0) return UsableCores();
  std::memset(&all, 0xff, sizeof(all));
  if (sched_setaffinity(0, sizeof(all), &all) != 0) return UsableCores();
  const int cores = UsableCores();
  sched_setaffinity(0, sizeof(now), &now);
  return cores;
}

struct Room {
  int64_t bytes = -1;
  double fsync_s = -1;
  bool does(int64_t need) const { return bytes >= need && fsync_s >= 0 && fsync_s <= kSlowSyncSeconds; }
};
Room RoomIn(const std::string& folder) {
  Room room;
  struct statvfs space {};
  if (statvfs(folder.c_str(), &space) != 0) return room;
  room.bytes = static_cast<int64_t>(space.f_bavail * space.f_frsize);
  room.fsync_s = SyncSeconds(folder);
  return room;
}

// A folder that would do, of those that people have.
std::string RoomierThan(const std::string& folder, int64_t need) {
  const char* home = std::getenv("HOME");
  std::error_code ignored;
  for (const std::string& other :
       {std::string(home == nullptr ? "" : home), std::filesystem::current_path(ignored).string(),
        std::string("/scratch"), std::string("/var/tmp"), std::string("/tmp")}) {
    if (!other.empty() && other != folder && RoomIn(other).does(need)) return other;
  }
  return "";
}

// Ports for connections that begin here, and those that none has now.
void LookAtPorts(HostReport* report) {
  const std::vector<std::string> range =
      absl::StrSplit(FileText("/proc/sys/net/ipv4/ip_local_port_range"), absl::ByAnyChar("\t "), absl::SkipEmpty());
  int first = 0, last = -1;
  if (range.size() != 2 || !absl::SimpleAtoi(range[0], &first) || !absl::SimpleAtoi(range[1], &last)) return;
  std::set<int> taken;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const std::string text = FileText(table);
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (fields.size() < 2) continue;
      const std::string port(fields[1].substr(fields[1].rfind(':') + 1));  // hexadecimal
      const int number = static_cast<int>(std::strtol(port.c_str(), nullptr, 16));
      if (first <= number && number <= last) taken.insert(number);
    }
  }
  report->ports = last - first + 1;
  report->ports_free = report->ports - static_cast<int>(taken.size());
}

struct Found {
  std::string program;
  pid_t parent = 0;
  double start_s = 0;  // since boot
};

std::map<pid_t, Found> ProcessesInSight() {
  std::map<pid_t, Found> found;
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List("/proc");
  if (!names.ok()) return found;
  for (const std::string& name : *names) {
    pid_t pid = 0;
    struct stat info {};
    if (!absl::SimpleAtoi(name, &pid) || stat(absl::StrCat("/proc/", name).c_str(), &info) != 0) continue;
    if (info.st_uid != geteuid() && geteuid() != 0) continue;
    const std::string text = FileText(absl::StrCat("/proc/", name, "/stat"));
    const size_t open = text.find('('), close = text.rfind(')');
    if (open == std::string::npos || close == std::string::npos) continue;
    const std::vector<std::string> fields = absl::StrSplit(text.substr(close + 1), ' ', absl::SkipEmpty());
    int64_t start = 0;
    Found one;
    if (fields.size() < 20 || fields[0] == "Z" || !absl::SimpleAtoi(fields[1], &one.parent) ||
        !absl::SimpleAtoi(fields[19], &start)) {
      continue;
    }
    one.program = text.substr(open + 1, close - open - 1);  // its first 15 letters
    one.start_s = static_cast<double>(start) / static_cast<double>(sysconf(_SC_CLK_TCK));
    found[pid] = one;
  }
  return found;
}

// Workers without a launcher above them, and launchers' daemons without whoever started them.
std::vector<Stray> FindStrays() {
  const std::map<pid_t, Found> all = ProcessesInSight();
  const std::set<std::string> launchers = {"mpirun", "mpirun.openmpi", "mpiexec", "mpiexec.openmpi", "orterun", "orted",
                                           "srun",   "slurmstepd",     "prterun", "prted",           "lockstep"};
  const auto led = [&](pid_t pid) {
    const auto parent = all.find(all.at(pid).parent);
    return parent != all.end() && launchers.count(parent->second.program) > 0;
  };
  double uptime = 0;
  const std::string text = FileText("/proc/uptime");
  if (!absl::SimpleAtod(text.substr(0, text.find(' ')), &uptime)) uptime = 0;
  std::vector<Stray> strays;
  for (const auto& [pid, one] : all) {
    const bool worker = absl::StartsWith(one.program, "lockstep-worker") && !led(pid);
    // A daemon of Open MPI has no parent either while it leads workers.
    const bool leads =
        std::any_of(all.begin(), all.end(), [&](const auto& other) { return other.second.parent == pid; });
    // One that describes a model, or measures, lives for seconds.
    const int64_t age_s = static_cast<int64_t>(uptime - one.start_s);
    const bool daemon = one.program == "orted" && one.parent == 1 && !leads && age_s > 60;
    if ((worker && (one.parent == 1 || age_s > 600)) || daemon) strays.push_back({pid, one.program, age_s});
  }
  return strays;
}

}  // namespace

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Stray, pid, program, age_s)
// Of another build some may be missing.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(HostReport, machine, build, worker, worker_build, root, container,
                                                probed, torch, blas, mpi, trouble, blas_warning, blas_choice,
                                                blas_overruled, torch_package, mpi_package, mpi_path, mpi_other, cores,
                                                physical, unbound, online, steal, governor, memory_total,
                                                memory_available, shm_total, shm_free, shm_files, disk_free, fsync_s,
                                                roomier, open_files, processes, file_size, address_space, data, stack,
                                                ports, ports_free, strays)

HostReport LookAtThisHost(const std::string& folder, int64_t checkpoints_bytes) {
  HostReport report;
  const Ticks before = ProcessorTicks();
  const absl::Time until = absl::Now() + kLook;
  report.machine = FileText("/proc/sys/kernel/random/boot_id");
  report.build = BuildVersion();
  report.root = geteuid() == 0;
  // One that may not mount; others are as good as machines.
  report.container = (access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0) &&
                     prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) != 1;
  report.mpi = FirstLineOf({"mpirun", "--version"});
  LookForOtherBlas(&report);
  report.cores = UsableCores();
  report.physical = PhysicalCores();
  report.unbound = UnboundCores();
  report.online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  report.governor = FileText("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  const std::string memory = FileText("/proc/meminfo");
  report.memory_total = BytesInLine(memory, "MemTotal").value_or(0);
  report.memory_available = BytesInLine(memory, "MemAvailable").value_or(0);
  if (const MemoryLimit limit = LimitOfMemoryHere(); limit.limit >= 0) {
    report.memory_total = std::min(report.memory_total, limit.limit);
    report.memory_available = std::min(report.memory_available, limit.left);
  }
  struct statvfs space {};
  if (statvfs("/dev/shm", &space) == 0) {
    report.shm_total = static_cast<int64_t>(space.f_blocks * space.f_frsize);
    report.shm_free = static_cast<int64_t>(space.f_bavail * space.f_frsize);
    if (space.f_files > 0) report.shm_files = static_cast<int64_t>(space.f_favail);
  }
  if (!folder.empty()) {
    const Room room = RoomIn(folder);
    report.disk_free = room.bytes;
    report.fsync_s = room.fsync_s;
    if (!room.does(checkpoints_bytes)) report.roomier = RoomierThan(folder, checkpoints_bytes);
  }
  report.open_files = SoftLimit(RLIMIT_NOFILE);
  report.processes = report.root ? -1 : SoftLimit(RLIMIT_NPROC);  // which does not hold for root
  report.file_size = SoftLimit(RLIMIT_FSIZE);
  report.address_space = SoftLimit(RLIMIT_AS);
  report.data = SoftLimit(RLIMIT_DATA);
  report.stack = SoftLimit(RLIMIT_STACK);
  LookAtPorts(&report);
  report.strays = FindStrays();
  absl::SleepFor(until - absl::Now());
  report.steal = StolenSince(before);
  if (report.steal > kStolenShare) {  // perhaps for a moment: what holds for longer counts
    absl::SleepFor(kLongLook);
    report.steal = std::min(report.steal, StolenSince(before));
  }
  return report;
}

void AddPackages(HostReport* report) {
  // The one that is found first, which may be from elsewhere.
  report->mpi_path = FirstLineOf({"sh", "-c", "command -v mpirun"});
  const std::string file = report->mpi_path.empty() ? "" : FirstLineOf({"realpath", report->mpi_path});
  report->mpi_package = file.empty() ? "" : PackageOf(file);
  const std::string debians = FirstLineOf({"dpkg-query", "-W", "-f", "${Package}=${Version}", "openmpi-bin"});
  if (debians != report->mpi_package) report->mpi_other = debians;
  report->torch_package = PackageOf("*/libtorch.so.*");
}

std::string HostReportText(const HostReport& report) { return Json(report).dump(); }

absl::StatusOr<HostReport> ParseHostReport(absl::string_view text) {
  try {
    const Json json = Json::parse(text.begin(), text.end());
    json.at("machine");
    return json.get<HostReport>();
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("no report of a host: ", error.what()));
  }
}

}  // namespace lockstep
