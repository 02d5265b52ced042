#include "coordinator/launch/doctor.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/file.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

constexpr int64_t kFewFiles = 1024, kFewProcesses = 1024, kEnough = 65536;
// Of files, and of the addresses of a process that has LibTorch, where nothing says what a run needs.
constexpr int64_t kSmallFile = 64 << 20, kLittleAddresses = int64_t{4} << 30;
constexpr int64_t kStack = 8 << 20;          // what most systems give
constexpr int64_t kLittleStack = 1 << 20;    // of a thread
constexpr int kFewShared = 100;              // files in /dev/shm
constexpr int64_t kLittleShared = 64 << 20;  // where nothing says how much a run needs
constexpr double kSlowLink = 0.6;            // of the best one
constexpr double kFarLink = 5;               // times their latency …
constexpr double kFarLinkAtLeast = 1e-3;     // … and so many seconds more
constexpr double kClock = 0.5;               // seconds
constexpr int kFewPorts = 1000;
constexpr double kPayload = 0.95;              // of a link's bits, the rest headers
constexpr double kSmallPacket = 100;           // bytes, with its headers
constexpr char kMpirun[] = "/usr/bin/mpirun";  // whichever of Debian's was chosen

// For every core: 0-7.
std::string AllCores(const HostReport& report) { return absl::StrCat("0-", std::max(1, report.online) - 1); }

std::string RateText(double bytes_per_s) {
  return bytes_per_s >= 10e6 ? absl::StrFormat("%.0f MB/s", 1e-6 * bytes_per_s)
                             : absl::StrFormat("%.2g MB/s", 1e-6 * bytes_per_s);
}

bool IsOpenMpi(const std::string& package) { return absl::StartsWith(package, "openmpi-bin="); }

class Examination {
 public:
  explicit Examination(const Examined& all) : all_(all) {
    machines_ = IsLab() ? std::vector<ExaminedHost>{*all.this_machine} : all.hosts;
  }

  std::vector<Check> Run() {
    for (const Examined::Unreached& one : all_.unreached) Unreached(one);
    for (const ExaminedHost& host : machines_) {
      Worker(host);
      Cores(host);
      Processor(host);
      Memory(host);
      SharedMemory(host);
      Disk(host);
      Limits(host);
      Ports(host);
      Strays(host);
    }
    if (all_.this_machine.has_value() && all_.lab.empty()) Disk(*all_.this_machine);
    Build();
    Alike("LibTorch", &HostReport::torch, &HostReport::torch_package);
    Alike("MPI", &HostReport::mpi, &HostReport::mpi_package);
    if (all_.hosts.size() > 1) Network();
    if (!all_.links.empty()) Links();
    return std::move(checks_);
  }

 private:
  // All hosts are this machine, which has its cores, memory and limits for them together.
  bool IsLab() const { return !all_.lab.empty() && all_.this_machine.has_value(); }
  bool IsOfLab(const std::string& machine) const { return IsLab() && machine == all_.this_machine->name; }

  void Right(const std::string& host, const std::string& what, const std::string& said) {
    checks_.push_back({host, what, true, said, "", "", ""});
  }
  void Wrong(const std::string& host, const std::string& what, const std::string& said, const std::string& costs,
             const std::string& mend) {
    const auto at =
        std::find_if(all_.hosts.begin(), all_.hosts.end(), [&](const ExaminedHost& one) { return one.name == host; });
    const bool of_lab = absl::StartsWith(mend, absl::StrCat(all_.program, " lab"));
    const bool goes_there = absl::StartsWith(mend, absl::StrCat(Reach(all_.agent.words[0]), " "));
    const bool there = at != all_.hosts.end() && !at->here && !absl::StartsWith(mend, "--") && !of_lab && !goes_there;
    checks_.push_back({host, what, false, said, costs, mend, there ? host : ""});
  }

  // --- what mends

  static std::string AsRoot(const ExaminedHost& host, const std::string& command) {
    return absl::StrCat(host.report.root ? "" : "sudo ", command);
  }
  // What is typed here to do so on a host.
  std::string On(const ExaminedHost& host, const std::string& command) const {
    return host.here ? command : absl::StrCat(Reach(all_.agent.words[0]), " ", host.name, " ", ShellWord(command));
  }
  // Those that ssh starts begin with `line`, without the lines that have `word`. Bash reads this file even then.
  static std::string InShells(const std::string& line, const std::string& word) {
    return absl::StrCat("sed -i -e '1i", line, "' -e '\\|", word, "|s/^/#/' ~/.bashrc");
  }
  // Of the processes that start others there: this shell, or what lets commands in from other hosts.
  static std::string StarterOf(const ExaminedHost& host) { return host.here ? "$$" : "$(pgrep -o -x sshd)"; }
  // The command that reaches a host, ssh or scp, with ssh's options but those that keep it from asking.
  std::string Reach(const std::string& program) const {
    std::string words = program;
    for (size_t i = 1; i < all_.agent.words.size(); ++i) {
      const std::string& word = all_.agent.words[i];
      const bool batch = word == "-o" && i + 1 < all_.agent.words.size() &&
                         (absl::StartsWith(all_.agent.words[i + 1], "BatchMode") ||
                          absl::StartsWith(all_.agent.words[i + 1], "ConnectTimeout"));
      if (batch) {
        ++i;
      } else {
        absl::StrAppend(&words, " ", program == "scp" && word == "-p" ? "-P" : word);  // the port
      }
    }
    return words;
  }
  // The hosts without this one; if it is the only one there is nothing to go on with.
  std::string LeaveOut(const std::string& name) const {
    std::vector<HostSlots> others;
    for (const ExaminedHost& host : all_.hosts) {
      if (host.name != name && !IsOfLab(name)) others.push_back({host.name, host.workers});
    }
    return others.empty() ? "train on another machine" : absl::StrCat("--hosts ", HostsText(others));
  }
  int WorkersInAll() const {
    int workers = 0;
    for (const ExaminedHost& host : all_.hosts) workers += host.workers;
    return workers;
  }
  // So many on this host: in all, where hosts get equal shares.
  std::string FewerWorkers(const std::string& name, int on_host) const {
    if (IsOfLab(name)) return absl::StrCat("--workers ", on_host);
    if (all_.slots_said) {
      std::vector<HostSlots> hosts;
      for (const ExaminedHost& host : all_.hosts) {
        hosts.push_back({host.name, host.name == name ? on_host : host.workers});
      }
      return absl::StrCat("--hosts ", HostsText(hosts));
    }
    return absl::StrCat("--workers ", on_host * static_cast<int>(all_.hosts.size()));
  }
  std::string PutThere(const std::string& host, std::string folder) const {
    if (folder.empty()) folder = std::filesystem::path(all_.program).parent_path();
    const std::string programs = absl::StrCat(all_.program, " ", all_.worker_program);
    const std::string there = absl::StrCat(Reach(all_.agent.words[0]), " ", host, " ");
    // Beside those that may be running, then in their place.
    return absl::StrCat(there, "mkdir -p ", folder, "/new && ", Reach("scp"), " ", programs, " ", host, ":", folder,
                        "/new/ && ", there, "'mv -f ", folder, "/new/* ", folder, "/ && rmdir ", folder, "/new'");
  }
  // What ssh says between `begin` and `end`.
  static std::string Between(absl::string_view text, absl::string_view begin, absl::string_view end) {
    const size_t at = text.find(begin);
    if (at == absl::string_view::npos) return "";
    text.remove_prefix(at + begin.size());
    return std::string(absl::StripAsciiWhitespace(text.substr(0, text.find(end))));
  }

  // --- each host

  void Unreached(const Examined::Unreached& one) {
    const size_t line = one.why.rfind('\n');
    const std::string why = line == std::string::npos ? one.why : one.why.substr(line + 1);
    const bool missing = absl::StrContains(why, "not found") || absl::StrContains(why, "No such file");
    const bool changed = absl::StrContains(one.why, "HOST IDENTIFICATION HAS CHANGED");
    const std::string open_key = Between(one.why, "for '", "' are too open");
    const bool refused = absl::StrContains(one.why, "Permission denied");
    const bool stranger = absl::StrContains(one.why, "Host key verification failed");
    // Whether it is another machine or an attack a person has to know.
    const std::string forget = Between(one.why, "remove with:\n", "\n");
    const std::string mend =
        changed   ? absl::StrCat(forget.empty() ? absl::StrCat("ssh-keygen -R ", one.host) : forget, " && ",
                               Reach(all_.agent.words[0]), " ", one.host, " true")
        : missing ? PutThere(one.host, one.folder)
        : refused && !open_key.empty() ? absl::StrCat("chmod 600 ", open_key)
        : refused  ? absl::StrCat(all_.has_key ? "" : "ssh-keygen -t ed25519 && ", Reach("ssh-copy-id"), " ", one.host)
        : stranger ? absl::StrCat(Reach(all_.agent.words[0]), " ", one.host, " true")
                   : LeaveOut(one.host);
    Wrong(one.host,
          !one.has_address ? "name"
          : missing        ? "lockstep"
                           : "ssh",
          changed ? "its key is not the one that is known: if the host was not set up anew, somebody may be in between"
          : open_key.empty() ? why
                             : absl::StrCat("the key ", open_key, " can be read by others, so ssh does not use it"),
          "no worker can be started there", mend);
  }

  // With LibTorch and what that multiplies with.
  void Worker(const ExaminedHost& host) {
    const HostReport& report = host.report;
    if (!report.probed) return;
    if (report.worker.empty()) {
      Wrong(host.name, "lockstep-worker", "is not beside lockstep there, nor in PATH", "no worker can run there",
            host.here ? absl::StrCat("LOCKSTEP_WORKER=PATH ", all_.program, " ..., or install it anew")
                      : PutThere(host.name, host.folder));
    } else if (report.torch.empty()) {
      Wrong(host.name, "BLAS", absl::StrCat("lockstep-worker does not start: ", report.trouble),
            "no worker can run there", AsRoot(host, absl::StrCat("apt-get install -y ", LOCKSTEP_RUN_PACKAGES)));
    } else if (!report.blas_warning.empty()) {
      const std::filesystem::path choice = report.blas_choice;
      const std::string mend =
          report.blas_overruled
              ? host.here ? "unset LD_LIBRARY_PATH" : InShells("unset LD_LIBRARY_PATH", "LD_LIBRARY_PATH")
          : choice.empty() ? AsRoot(host, "apt-get install -y libopenblas0-pthread")
                           : AsRoot(host, absl::StrCat("update-alternatives --set libblas.so.3-",
                                                       choice.parent_path().parent_path().filename().string(), " ",
                                                       choice.string()));
      // It goes on with what mends it in most cases.
      Wrong(host.name, "BLAS", report.blas_warning.substr(0, report.blas_warning.find(", with which")),
            "matrix products take many times as long", mend);
    } else {
      Right(host.name, "BLAS", report.blas);
    }
  }

  void Cores(const ExaminedHost& host) {
    const HostReport& report = host.report;
    const int threads = std::max(1, host.workers) * all_.needs.threads;
    const bool bound = report.cores < report.unbound;
    const std::string said =
        absl::StrCat(CountText(int64_t{host.workers}, "worker"), " of ",
                     CountText(int64_t{all_.needs.threads}, "thread"), " on ", CountText(int64_t{report.cores}, "core"),
                     report.cores < report.online ? absl::StrCat(" (of ", report.online, ")") : "");
    if (threads <= report.cores) return Right(host.name, "cores", said);
    const int fit = report.cores / all_.needs.threads;
    const std::string mend =
        bound && threads <= report.unbound ? absl::StrCat("taskset -apc ", AllCores(report), " ", StarterOf(host))
        : fit > 0 && host.workers > fit
            ? FewerWorkers(host.name, fit)
            : absl::StrCat("--set threads=", std::max(1, report.cores / std::max(1, host.workers)));
    Wrong(host.name, "cores", said, "they take turns, and each step waits for the last", mend);
  }

  void Processor(const ExaminedHost& host) {
    const HostReport& report = host.report;
    if (report.steal > kStolenShare) {
      Wrong(host.name, "processor", absl::StrFormat("%.0f%% of its time goes to other machines", 100 * report.steal),
            "its ranks are late, step after step", LeaveOut(host.name));
    } else if (report.governor == "powersave") {
      Wrong(host.name, "processor", "is told to save power (governor powersave)", "it computes at less than its speed",
            absl::StrCat("echo performance | ",
                         AsRoot(host, "tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")));
    } else {
      Right(host.name, "processor",
            absl::StrCat(report.physical, " of its own cores", report.governor.empty() ? "" : ", ", report.governor));
    }
  }

  void Memory(const ExaminedHost& host) {
    const HostReport& report = host.report;
    const RunNeeds& needs = all_.needs;
    const int64_t of_worker = needs.memory_bytes + needs.batch_bytes, need = of_worker * host.workers;
    const std::string said =
        absl::StrCat(BytesText(report.memory_available), " free of ", BytesText(report.memory_total));
    if (need <= report.memory_available) return Right(host.name, "memory", said);
    const int64_t fit = of_worker == 0 ? 0 : report.memory_available / of_worker;
    const int64_t left = report.memory_available / host.workers - needs.memory_bytes;  // for a batch
    const int64_t samples = needs.batch_bytes == 0 || left <= 0 ? 0 : left * needs.batch_size / needs.batch_bytes;
    Wrong(host.name, "memory", absl::StrCat(said, "; the workers need ", BytesText(need)),
          "the kernel ends a worker, or the host swaps",
          fit > 0       ? FewerWorkers(host.name, static_cast<int>(fit))
          : samples > 0 ? needs.global_batch ? absl::StrCat("--set data.global_batch_size=", samples * WorkersInAll())
                                             : absl::StrCat("--set data.batch_size=", samples)
                        : LeaveOut(host.name));
  }

  void SharedMemory(const ExaminedHost& host) {
    const HostReport& report = host.report;
    const int64_t need = std::max(kLittleShared, all_.needs.shared_bytes * host.workers);
    const std::string said = absl::StrCat(BytesText(report.shm_free), " free of ", BytesText(report.shm_total));
    if (report.shm_files >= 0 && report.shm_files < kFewShared) {
      return Wrong(host.name, "/dev/shm", absl::StrCat("room for ", report.shm_files, " more files"),
                   "a run cannot put its own there", AsRoot(host, "mount -o remount,nr_inodes=1000000 /dev/shm"));
    }
    if (need <= report.shm_free) return Right(host.name, "/dev/shm", said);
    const int64_t size = 2 * need + report.shm_total - report.shm_free;
    Wrong(host.name, "/dev/shm", absl::StrCat(said, "; a run needs ", BytesText(need)),
          "workers on this host end with SIGBUS",
          report.container ? absl::StrCat("docker run --shm-size=", size, " ...")
                           : AsRoot(host, absl::StrCat("mount -o remount,size=", size, " /dev/shm")));
  }

  // Of the one host that writes checkpoints.
  void Disk(const ExaminedHost& host) {
    const HostReport& report = host.report;
    if (report.disk_free < 0) return;
    const int64_t need = all_.needs.checkpoints_bytes;
    const std::string said = absl::StrCat(BytesText(report.disk_free), " free, ",
                                          absl::StrFormat("%.1f ms", 1e3 * report.fsync_s), " to sync");
    const std::string mend = report.roomier.empty()
                                 ? "--out DIR, in a folder on a larger or faster disk"
                                 : absl::StrCat("--out ", ShellWord(JoinPath(report.roomier, "lockstep-runs")));
    if (report.fsync_s < 0) {
      Wrong(host.name, "disk", absl::StrCat(all_.needs.folder, " cannot be written to"), "no checkpoint can be taken",
            mend);
    } else if (report.disk_free < need) {
      Wrong(host.name, "disk", absl::StrCat(said, "; checkpoints need ", BytesText(need)), "checkpoints fail", mend);
    } else if (report.fsync_s > kSlowSyncSeconds) {
      Wrong(host.name, "disk", said, "every checkpoint takes that long several times", mend);
    } else {
      Right(host.name, "disk", said);
    }
  }

  void Limits(const ExaminedHost& host) {
    const HostReport& report = host.report;
    const RunNeeds& needs = all_.needs;
    const auto few = [](int64_t limit, int64_t least) { return limit >= 0 && limit < least; };
    const auto lift = [&](const std::string& what) {
      return AsRoot(host, absl::StrCat("prlimit --pid ", StarterOf(host), " --", what, "=unlimited"));
    };
    const auto raise = [&](const std::string& what) {
      return AsRoot(host, absl::StrCat("prlimit --pid ", StarterOf(host), " --", what, "=", kEnough, ":", kEnough));
    };
    if (few(report.open_files, kFewFiles)) {
      Wrong(host.name, "limits", absl::StrCat(report.open_files, " open files"), "connections between ranks fail",
            raise("nofile"));
    } else if (few(report.processes, kFewProcesses)) {
      Wrong(host.name, "limits", absl::StrCat(report.processes, " processes"), "threads cannot be started",
            raise("nproc"));
    } else if (few(report.file_size, std::max(kSmallFile, needs.file_bytes))) {
      Wrong(host.name, "limits", absl::StrCat("files of ", BytesText(report.file_size)),
            "checkpoints and memory that ranks share cannot be made", lift("fsize"));
    } else if (few(report.address_space, std::max(kLittleAddresses, needs.address_bytes))) {
      Wrong(host.name, "limits", absl::StrCat(BytesText(report.address_space), " of virtual memory"),
            "a worker finds no memory though there is", lift("as"));
    } else if (few(report.data, std::max(kLittleAddresses, needs.address_bytes))) {
      Wrong(host.name, "limits", absl::StrCat(BytesText(report.data), " of data"),
            "a worker finds no memory though there is", lift("data"));
    } else if (few(report.stack, kLittleStack)) {
      Wrong(host.name, "limits", absl::StrCat(BytesText(report.stack), " of stack"), "threads end with SIGSEGV",
            AsRoot(host, absl::StrCat("prlimit --pid ", StarterOf(host), " --stack=", kStack, ":")));
    } else {
      Right(host.name, "limits",
            absl::StrCat(report.open_files < 0 ? "any number of" : absl::StrCat(report.open_files), " open files"));
    }
  }

  void Ports(const ExaminedHost& host) {
    const HostReport& report = host.report;
    if (report.ports == 0) return;
    const std::string said = absl::StrCat(report.ports_free, " free of ", report.ports);
    if (report.ports_free >= std::max(kFewPorts, 4 * WorkersInAll())) return Right(host.name, "ports", said);
    Wrong(host.name, "ports", said, "ranks cannot connect to each other",
          AsRoot(host, "sysctl -w net.ipv4.ip_local_port_range='15000 60999'"));
  }

  void Strays(const ExaminedHost& host) {
    if (host.report.strays.empty()) return Right(host.name, "strays", "none");
    std::vector<std::string> pids, what;
    for (const Stray& one : host.report.strays) {
      pids.push_back(absl::StrCat(one.pid));
      what.push_back(absl::StrCat(one.program, " (pid ", one.pid, ")"));
    }
    Wrong(host.name, "strays", absl::StrCat("of an earlier run: ", absl::StrJoin(what, ", ")),
          "they take cores and memory", absl::StrCat("kill -KILL ", absl::StrJoin(pids, " ")));
  }

  // --- all of them together

  // "4.1.4 on a, b; none on c".
  std::string ByValue(std::string HostReport::*field) const {
    std::map<std::string, std::vector<std::string>> hosts;
    for (const ExaminedHost& host : machines_) hosts[host.report.*field].push_back(host.name);
    std::vector<std::string> said;
    for (const auto& [value, names] : hosts) {
      said.push_back(absl::StrCat(value.empty() ? "none" : value, " on ", absl::StrJoin(names, ", ")));
    }
    return absl::StrJoin(said, "; ");
  }
  // Those that have not what the first one has, which is where the run begins.
  std::vector<const ExaminedHost*> Unlike(std::string HostReport::*field) const {
    std::vector<const ExaminedHost*> unlike;
    for (const ExaminedHost& host : machines_) {
      if (host.report.*field != machines_.front().report.*field) unlike.push_back(&host);
    }
    return unlike;
  }

  void Build() {
    if (machines_.empty()) return;
    const std::vector<const ExaminedHost*> unlike = Unlike(&HostReport::build);
    for (const ExaminedHost& host : machines_) {
      const HostReport& report = host.report;
      const bool gets_both = std::find(unlike.begin(), unlike.end(), &host) != unlike.end();
      if (gets_both || report.worker_build.empty() || report.worker_build == report.build) continue;
      Wrong(host.name, "lockstep-worker",
            absl::StrCat(report.worker, " is ", report.worker_build, ", and lockstep is ", report.build),
            "ranks of another build are refused",
            host.here ? "install both from one build" : PutThere(host.name, host.folder));
    }
    if (unlike.empty()) return Right("", "lockstep", machines_.front().report.build);
    std::vector<std::string> mends;
    for (const ExaminedHost* host : unlike) mends.push_back(PutThere(host->name, host->folder));
    Wrong("", "lockstep", ByValue(&HostReport::build), "ranks of another build are refused",
          absl::StrJoin(mends, " && "));
  }

  static std::string Install(const ExaminedHost& host, const std::string& package) {
    return AsRoot(host, absl::StrCat("apt-get install -y --allow-downgrades ", package));
  }
  // Debian's Open MPI, of that version, before an mpirun from elsewhere.
  static std::string ChooseMpi(const ExaminedHost& host, const std::string& package) {
    const HostReport& report = host.report;
    std::vector<std::string> steps;
    const bool elsewhere = !report.mpi_path.empty() && !IsOpenMpi(report.mpi_package);
    if (!elsewhere || report.mpi_other != package) steps.push_back(Install(host, package));
    if (elsewhere) {
      steps.push_back(
          report.mpi_path == kMpirun
              ? AsRoot(host, absl::StrCat("update-alternatives --set mpirun ", kMpirun, ".openmpi"))
          : host.here ? "export PATH=/usr/bin:$PATH"
                      : InShells("PATH=/usr/bin:$PATH", std::filesystem::path(report.mpi_path).parent_path().string()));
    }
    return absl::StrJoin(steps, " && ");
  }

  void Alike(const std::string& what, std::string HostReport::*version, std::string HostReport::*package) {
    const bool is_torch = what == "LibTorch";
    if (machines_.empty() || (is_torch && !machines_.front().report.probed)) return;
    const HostReport& first = machines_.front().report;
    if (first.*version == "") {
      if (is_torch) return;  // said under BLAS
      return Wrong("", what, absl::StrCat("is not on ", machines_.front().name), "no run can start",
                   AsRoot(machines_.front(), absl::StrCat("apt-get install -y ", LOCKSTEP_RUN_PACKAGES)));
    }
    std::vector<const ExaminedHost*> unlike = Unlike(version);
    if (is_torch) {
      const auto said_already = [](const ExaminedHost* host) { return host->report.torch.empty(); };
      unlike.erase(std::remove_if(unlike.begin(), unlike.end(), said_already), unlike.end());
    }
    if (unlike.empty()) return Right("", what, first.*version);
    std::vector<std::string> mends;
    if (!is_torch && !IsOpenMpi(first.mpi_package) && !first.mpi_other.empty()) {
      mends.push_back(On(machines_.front(), ChooseMpi(machines_.front(), first.mpi_other)));
      unlike.clear();
    }
    for (const ExaminedHost* host : unlike) {
      const bool foreign = is_torch && host->report.*version != "" && host->report.*package == "";
      mends.push_back(foreign || (first.*package).empty()
                          ? absl::StrCat("install ", first.*version, " on ", host->name, " in place of its own")
                          : On(*host, is_torch ? Install(*host, first.*package) : ChooseMpi(*host, first.*package)));
    }
    Wrong("", what, ByValue(version), "ranks refuse each other, or hang", absl::StrJoin(mends, " && "));
  }

  void Network() {
    if (all_.network.networks.empty()) return Right("", "network", "all hosts are this machine");
    Right("", "network", absl::StrCat(absl::StrJoin(all_.network.networks, ", "), " carries gradients"));
  }

  // Beyond what a slow link's rate makes of its latency; a far one seems slow in a moment's sending.
  static bool IsFar(const LinkFigures& link, double latency) {
    const double own = link.latency_s - kSmallPacket / link.bytes_per_s;
    return own > kFarLink * latency && own > latency + kFarLinkAtLeast;
  }

  // A lab's links are mended as they were made.
  std::string OfLab(const std::string& command, const std::string& words, const std::string& host) const {
    const std::string number = host.substr(host.rfind('.') + 1);
    return absl::StrCat(all_.program, " lab ", command, " --name ", all_.lab, " ", words, number);
  }
  std::string OnLabHost(const ExaminedHost& host, const std::string& command) const {
    return absl::StrCat(OfLab("on", "", host.name), " sh -c ", ShellWord(command));
  }
  using Ends = std::vector<const ExaminedHost*>;

  std::string MendSlow(const Ends& ends, double bytes_per_s) const {
    if (all_.lab.empty()) return LeaveOut(ends.front()->name);
    const double mbit = 8e-6 * bytes_per_s / kPayload, unit = std::pow(10, std::floor(std::log10(mbit)) - 1);
    const std::string rate = absl::StrFormat("%.6gmbit ", unit * std::round(mbit / unit));
    return absl::StrJoin(ends, " && ", [&](std::string* out, const ExaminedHost* host) {
      absl::StrAppend(out, OfLab("rate", rate, host->name));
    });
  }
  // Whether a host lets nothing in or nothing out does not show from outside.
  std::string MendCut(Ends ends) const {
    const std::string network = all_.network.networks.empty() ? "0.0.0.0/0" : absl::StrJoin(all_.network.networks, ",");
    const auto open = [&](const ExaminedHost& host) {
      return absl::StrCat(AsRoot(host, absl::StrCat("iptables -I INPUT -p tcp -s ", network, " -j ACCEPT")), " && ",
                          AsRoot(host, absl::StrCat("iptables -I OUTPUT -p tcp -d ", network, " -j ACCEPT")));
    };
    if (ends.size() == 1 && all_.lab.empty()) return open(*ends.front());  // typed there
    if (!all_.lab.empty()) {
      const bool cut = std::any_of(ends.begin(), ends.end(), [](const ExaminedHost* host) { return host->cut; });
      if (cut) {
        const auto is_up = [](const ExaminedHost* host) { return !host->cut; };
        ends.erase(std::remove_if(ends.begin(), ends.end(), is_up), ends.end());
      }
      return absl::StrJoin(ends, " && ", [&](std::string* out, const ExaminedHost* host) {
        absl::StrAppend(out, cut ? OfLab("mend", "", host->name) : OnLabHost(*host, open(*host)));
      });
    }
    // Those that others are asked to do first: by that the whole is known to be typed here.
    std::stable_partition(ends.begin(), ends.end(), [](const ExaminedHost* host) { return !host->here; });
    return absl::StrJoin(ends, " && ", [&](std::string* out, const ExaminedHost* host) {
      absl::StrAppend(out, On(*host, open(*host)));
    });
  }

  void Links() {
    std::vector<double> rates, latencies;
    for (const LinkFigures& link : all_.links) {
      if (!link.status.ok()) continue;
      rates.push_back(link.bytes_per_s);
      latencies.push_back(link.latency_s);
    }
    // The best, since one slow host has a part in most links of a few.
    const double rate = rates.empty() ? 0 : *std::max_element(rates.begin(), rates.end());
    const double latency = latencies.empty() ? 0 : *std::min_element(latencies.begin(), latencies.end());
    const auto is_wrong = [&](const LinkFigures& link) {
      return !link.status.ok() || link.bytes_per_s < kSlowLink * rate || IsFar(link, latency);
    };
    // Of a link's two ends the one of which more links are wrong; both, if that does not tell.
    std::vector<int> wrong(all_.hosts.size(), 0);
    for (const LinkFigures& link : all_.links) {
      if (!is_wrong(link)) continue;
      ++wrong[link.from];
      ++wrong[link.to];
    }
    const auto culprits = [&](const LinkFigures& link) -> Ends {
      const ExaminedHost *from = &all_.hosts[link.from], *to = &all_.hosts[link.to];
      if (wrong[link.from] == wrong[link.to]) return {to, from};
      return {wrong[link.from] > wrong[link.to] ? from : to};
    };
    for (const LinkFigures& link : all_.links) {
      const std::string pair = absl::StrCat(all_.hosts[link.from].name, " to ", all_.hosts[link.to].name);
      const std::string said = absl::StrFormat("%s, %.0f us", RateText(link.bytes_per_s), 1e6 * link.latency_s);
      const Ends ends = culprits(link);
      const std::string& at = ends.front()->name;
      if (!link.status.ok()) {
        Wrong(at, "link", absl::StrCat(pair, ": ", link.status.message()), "MPI hangs between them", MendCut(ends));
      } else if (IsFar(link, latency)) {
        Wrong(at, "link", absl::StrCat(pair, ": ", said, absl::StrFormat("; others have %.0f us", 1e6 * latency)),
              "small messages wait for it in every step", LeaveOut(at));
      } else if (link.bytes_per_s < kSlowLink * rate) {
        Wrong(at, "link", absl::StrCat(pair, ": ", said, "; others have ", RateText(rate)),
              "all wait for the slowest link in every step", MendSlow(ends, rate));
      } else {
        Right("", "link", absl::StrCat(pair, ": ", said));
      }
    }
    Clocks();
  }

  // Against most of the others, all as the first host sees them.
  void Clocks() {
    std::vector<std::pair<double, const ExaminedHost*>> ahead = {{0, &all_.hosts.front()}};
    for (const LinkFigures& link : all_.links) {
      if (!link.status.ok()) continue;
      if (link.from == 0) ahead.emplace_back(link.clock_offset_s, &all_.hosts[link.to]);
      if (link.to == 0) ahead.emplace_back(-link.clock_offset_s, &all_.hosts[link.from]);
    }
    if (ahead.size() < 2) return;
    std::vector<double> sorted;
    for (const auto& [offset, host] : ahead) sorted.push_back(offset);
    std::sort(sorted.begin(), sorted.end());
    const double usual = ahead.size() == 2 ? 0 : sorted[sorted.size() / 2];
    double furthest = 0;
    for (const auto& [offset, host] : ahead) {
      const double off = offset - usual;
      furthest = std::max(furthest, std::abs(off));
      if (std::abs(off) <= kClock) continue;
      Wrong(host->name, "clock",
            absl::StrFormat("is %.1f s %s the others'", std::abs(off), off > 0 ? "ahead of" : "behind"),
            "logs and files of the hosts cannot be put in order; the run's own times are corrected",
            AsRoot(*host, "timedatectl set-ntp true"));
    }
    if (furthest <= kClock) Right("", "clocks", absl::StrFormat("within %.1f ms of each other", 1e3 * furthest));
  }

  const Examined& all_;
  std::vector<ExaminedHost> machines_;  // what the hosts are
  std::vector<Check> checks_;
};

}  // namespace

std::vector<Check> Examine(const Examined& all) { return Examination(all).Run(); }

}  // namespace lockstep
