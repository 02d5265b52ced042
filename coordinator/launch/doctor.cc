#include "coordinator/launch/doctor.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

constexpr double kStolen = 0.05;   // of the processors' time
constexpr double kSlowSync = 0.1;  // seconds
constexpr int64_t kFewFiles = 1024, kFewProcesses = 1024;
constexpr int64_t kLittleShared = 64 << 20;  // where nothing says how much a run needs
constexpr int kCheckpoints = 3;              // that disks hold at once, by default
constexpr double kSlowLink = 0.6;            // of the best one
constexpr double kFarLink = 5;               // times their latency …
constexpr double kFarLinkAtLeast = 1e-3;     // … and so many seconds more
constexpr double kClock = 0.5;               // seconds

class Examination {
 public:
  Examination(const std::vector<ExaminedHost>& hosts, const RunNeeds& needs, const ClusterNetwork& network,
              const std::vector<LinkFigures>& links)
      : hosts_(hosts), needs_(needs), network_(network), links_(links) {}

  std::vector<Check> Run() {
    for (const ExaminedHost& host : hosts_) {
      Blas(host);
      Cores(host);
      Processor(host);
      Memory(host);
      SharedMemory(host);
      Disk(host);
      Limits(host);
      Strays(host);
    }
    Alike("lockstep", &HostReport::build, "give every host the same build");
    Alike("LibTorch", &HostReport::torch, "install the same libtorch on every host");
    Alike("MPI", &HostReport::mpi, "install the same openmpi-bin on every host");
    if (hosts_.size() > 1) Network();
    if (!links_.empty()) Links();
    return std::move(checks_);
  }

 private:
  void Right(const std::string& host, const std::string& what, const std::string& said) {
    checks_.push_back({host, what, true, said, "", ""});
  }
  void Wrong(const std::string& host, const std::string& what, const std::string& said, const std::string& costs,
             const std::string& mend) {
    checks_.push_back({host, what, false, said, costs, mend});
  }

  void Blas(const ExaminedHost& host) {
    const HostReport& report = host.report;
    if (report.torch.empty()) {
      Wrong(host.name, "BLAS", "lockstep-worker does not start", "no worker can run there",
            "run lockstep-worker --probe there, and see what it says");
    } else if (!report.blas_warning.empty()) {
      Wrong(host.name, "BLAS", report.blas_warning, "matrix products take many times as long",
            "apt-get install libopenblas0-pthread");
    } else {
      Right(host.name, "BLAS", report.blas);
    }
  }

  void Cores(const ExaminedHost& host) {
    const int threads = std::max(1, host.workers) * needs_.threads;
    const std::string said = absl::StrCat(host.workers, host.workers == 1 ? " worker" : " workers", " of ",
                                          needs_.threads, needs_.threads == 1 ? " thread" : " threads", " on ",
                                          host.report.cores, host.report.cores == 1 ? " core" : " cores");
    if (threads <= host.report.cores) return Right(host.name, "cores", said);
    const int fit = std::max(1, host.report.cores / needs_.threads);
    const bool fewer = host.workers > fit;
    Wrong(host.name, "cores", said, "they take turns, and each step waits for the last",
          fewer ? absl::StrCat("--workers ", fit * static_cast<int>(hosts_.size()))
                : absl::StrCat("--set threads=", std::max(1, host.report.cores / std::max(1, host.workers))));
  }

  void Processor(const ExaminedHost& host) {
    const HostReport& report = host.report;
    if (report.steal > kStolen) {
      Wrong(host.name, "processor", absl::StrFormat("%.0f%% of its time goes to other machines", 100 * report.steal),
            "this rank is late, step after step", "move the virtual machine, or leave the host out");
    } else if (report.governor == "powersave") {
      Wrong(host.name, "processor", "is told to save power (governor powersave)", "it computes at less than its speed",
            "cpupower frequency-set -g performance");
    } else {
      Right(host.name, "processor",
            absl::StrCat(report.physical, " of its own cores", report.governor.empty() ? "" : ", ", report.governor));
    }
  }

  void Memory(const ExaminedHost& host) {
    const HostReport& report = host.report;
    const int64_t need = needs_.memory_bytes * host.workers;
    const std::string said =
        absl::StrCat(BytesText(report.memory_available), " free of ", BytesText(report.memory_total));
    if (need <= report.memory_available) return Right(host.name, "memory", said);
    Wrong(host.name, "memory", absl::StrCat(said, "; the workers need ", BytesText(need)),
          "the kernel ends a worker, or the host swaps", "fewer workers there, or a smaller data.batch_size");
  }

  void SharedMemory(const ExaminedHost& host) {
    const HostReport& report = host.report;
    const int64_t need = std::max(kLittleShared, needs_.shared_bytes * host.workers);
    const std::string said = absl::StrCat(BytesText(report.shm_free), " free of ", BytesText(report.shm_total));
    if (need <= report.shm_free) return Right(host.name, "/dev/shm", said);
    Wrong(host.name, "/dev/shm", absl::StrCat(said, "; a run needs ", BytesText(need)),
          "workers on this host end with SIGBUS",
          absl::StrCat("mount -o remount,size=", 2 * need, " /dev/shm (in Docker: --shm-size=", 2 * need, ")"));
  }

  void Disk(const ExaminedHost& host) {
    const HostReport& report = host.report;
    if (report.disk_free < 0) return;
    const int64_t need = kCheckpoints * needs_.checkpoint_bytes;
    const std::string said = absl::StrCat(BytesText(report.disk_free), " free, ",
                                          absl::StrFormat("%.1f ms", 1e3 * report.fsync_s), " to sync");
    if (report.fsync_s < 0) {
      Wrong(host.name, "disk", absl::StrCat(needs_.folder, " cannot be written to"), "no checkpoint can be taken",
            "--out in a folder that can");
    } else if (report.disk_free < need) {
      Wrong(host.name, "disk", absl::StrCat(said, "; checkpoints need ", BytesText(need)), "checkpoints fail",
            "--out on a larger disk, or --set checkpoint.keep_last=1");
    } else if (report.fsync_s > kSlowSync) {
      Wrong(host.name, "disk", said, "every checkpoint takes that long several times", "--out on a local disk");
    } else {
      Right(host.name, "disk", said);
    }
  }

  void Limits(const ExaminedHost& host) {
    const HostReport& report = host.report;
    const auto few = [](int64_t limit, int64_t least) { return limit >= 0 && limit < least; };
    if (few(report.open_files, kFewFiles)) {
      Wrong(host.name, "limits", absl::StrCat(report.open_files, " open files"), "connections between ranks fail",
            "ulimit -n 65536");
    } else if (few(report.processes, kFewProcesses)) {
      Wrong(host.name, "limits", absl::StrCat(report.processes, " processes"), "threads cannot be started",
            "ulimit -u 65536");
    } else {
      Right(host.name, "limits",
            absl::StrCat(report.open_files < 0 ? "any number of" : absl::StrCat(report.open_files), " open files"));
    }
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

  // Of all hosts that say it.
  void Alike(const std::string& what, std::string HostReport::*field, const std::string& mend) {
    std::map<std::string, std::vector<std::string>> hosts;
    for (const ExaminedHost& host : hosts_) {
      if (!(host.report.*field).empty()) hosts[host.report.*field].push_back(host.name);
    }
    if (hosts.empty()) {
      return Wrong("", what, "is not there", "no run can start", absl::StrCat(mend, " (deploy/packages.txt)"));
    }
    if (hosts.size() == 1) return Right("", what, hosts.begin()->first);
    std::vector<std::string> said;
    for (const auto& [version, names] : hosts)
      said.push_back(absl::StrCat(version, " on ", absl::StrJoin(names, ", ")));
    Wrong("", what, absl::StrJoin(said, "; "), "ranks refuse each other, or hang", mend);
  }

  void Network() {
    if (network_.networks.empty()) return Right("", "network", "all hosts are this machine");
    Right("", "network", absl::StrCat(absl::StrJoin(network_.networks, ", "), " carries gradients"));
  }

  static bool IsFar(const LinkFigures& link, double latency) {
    return link.latency_s > kFarLink * latency && link.latency_s > latency + kFarLinkAtLeast;
  }

  void Links() {
    std::vector<double> rates, latencies;
    for (const LinkFigures& link : links_) {
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
    // Of a link's two ends the one of which more links are wrong.
    std::vector<int> wrong(hosts_.size(), 0);
    for (const LinkFigures& link : links_) {
      if (!is_wrong(link)) continue;
      ++wrong[link.from];
      ++wrong[link.to];
    }
    const auto culprit = [&](const LinkFigures& link) {
      return hosts_[wrong[link.from] > wrong[link.to] ? link.from : link.to].name;
    };
    double clock = 0;
    for (const LinkFigures& link : links_) {
      const std::string pair = absl::StrCat(hosts_[link.from].name, " to ", hosts_[link.to].name);
      const std::string said = absl::StrFormat("%.0f MB/s, %.0f us", 1e-6 * link.bytes_per_s, 1e6 * link.latency_s);
      if (!link.status.ok()) {
        Wrong("", "link", absl::StrCat(pair, ": ", link.status.message()), "MPI hangs between them",
              absl::StrCat("let TCP through on ", hosts_[link.to].name, ": iptables -I INPUT -p tcp -s ",
                           network_.networks.empty() ? "" : network_.networks[0], " -j ACCEPT"));
      } else if (link.bytes_per_s < kSlowLink * rate) {
        Wrong("", "link", absl::StrCat(pair, ": ", said, absl::StrFormat("; others have %.0f MB/s", 1e-6 * rate)),
              "all wait for the slowest link in every step",
              absl::StrCat("see ethtool and tc qdisc on ", culprit(link), ", or leave it out of --hosts"));
      } else if (IsFar(link, latency)) {
        Wrong("", "link", absl::StrCat(pair, ": ", said, absl::StrFormat("; others have %.0f us", 1e6 * latency)),
              "small messages wait for it in every step",
              absl::StrCat("see ip route and tc qdisc on ", culprit(link), ", or leave it out of --hosts"));
      } else {
        Right("", "link", absl::StrCat(pair, ": ", said));
      }
      clock = std::max(clock, std::abs(link.clock_offset_s));
      if (link.status.ok() && std::abs(link.clock_offset_s) > kClock) {
        Wrong(hosts_[link.to].name, "clock",
              absl::StrFormat("is %.1f s %s that of %s", std::abs(link.clock_offset_s),
                              link.clock_offset_s > 0 ? "ahead of" : "behind", hosts_[link.from].name),
              "logs and files of the hosts cannot be put in order; the run's own times are corrected",
              "timedatectl set-ntp true");
      }
    }
    if (clock <= kClock) Right("", "clocks", absl::StrFormat("within %.1f ms of each other", 1e3 * clock));
  }

  const std::vector<ExaminedHost>& hosts_;
  const RunNeeds& needs_;
  const ClusterNetwork& network_;
  const std::vector<LinkFigures>& links_;
  std::vector<Check> checks_;
};

}  // namespace

std::vector<Check> Examine(const std::vector<ExaminedHost>& hosts, const RunNeeds& needs, const ClusterNetwork& network,
                           const std::vector<LinkFigures>& links) {
  return Examination(hosts, needs, network, links).Run();
}

}  // namespace lockstep
