#include "worker/comm/host_window.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/cores.h"
#include "common/base/memory.h"
#include "common/base/status.h"
#include "worker/comm/fd_passing.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kHugePageBytes = 2 << 20;
// Left to everyone else when the window's room is judged.
constexpr int64_t kReserveBytes = 64 << 20;
#if !defined(MADV_POPULATE_WRITE)
constexpr int MADV_POPULATE_WRITE = 23;  // Linux 5.14
#endif

// How a wait at a barrier goes on, by the time that it has taken. A wake-up from sleep takes some 50 us.
constexpr int64_t kSpinNanos = 200'000;
constexpr int64_t kYieldNanos = 2'000'000;
constexpr int64_t kCrowdedYieldNanos = 50'000;
constexpr int64_t kLongestSleepNanos = 100'000'000;

int64_t RoundUp(int64_t bytes, int64_t to) { return (bytes + to - 1) / to * to; }

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether `bytes` can be had without taking the machine, or what limits this process, to its end.
absl::Status CheckRoom(int64_t bytes) {
  ASSIGN_OR_RETURN(const AvailableMemory available, GetAvailableMemory());
  if (bytes + kReserveBytes > available.bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the ranks' shared window needs ", bytes >> 20, " MiB, ",
                                                     available.bound_by, " leaves ", available.bytes >> 20,
                                                     " MiB: raise the limit, or use fewer workers a host"));
  }
  rlimit limit = {};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      limit.rlim_cur < static_cast<rlim_t>(bytes)) {
    return absl::ResourceExhaustedError(absl::StrCat("the limit on file sizes (ulimit -f, ", limit.rlim_cur,
                                                     " bytes) is under the shared window's ", bytes,
                                                     " bytes: ulimit -f unlimited"));
  }
  return absl::OkStatus();
}

absl::Status NoWindow(const char* call, int error, const char* advice) {
  return absl::FailedPreconditionError(
      absl::StrCat("the host gives no shared window: ", absl::ErrnoToStatus(error, call).message(), advice));
}

// From a huge page's beginning on, without which the kernel does not use them. `bytes` is a multiple of their size.
absl::StatusOr<std::byte*> Map(int fd, int64_t bytes) {
  constexpr const char* kAdvice = " (is there a ulimit -v?)";
  void* const reserved = mmap(nullptr, bytes + kHugePageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) return NoWindow("mmap", errno, kAdvice);
  auto* const begin = static_cast<std::byte*>(reserved);
  const int64_t before = -reinterpret_cast<intptr_t>(begin) & (kHugePageBytes - 1);
  if (before > 0) munmap(begin, before);
  munmap(begin + before + bytes, kHugePageBytes - before);
  void* const base = mmap(begin + before, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  if (base == MAP_FAILED) {
    const int error = errno;
    munmap(begin + before, bytes);
    return NoWindow("mmap", error, kAdvice);
  }
  madvise(base, bytes, MADV_HUGEPAGE);  // a wish
  return static_cast<std::byte*>(base);
}

// Every page in place now: what fails here would be a SIGBUS at the first touch.
absl::Status Populate(int fd, std::byte* base, int64_t bytes) {
  if (madvise(base, bytes, MADV_POPULATE_WRITE) == 0) return absl::OkStatus();
  const int error = errno == EINVAL ? posix_fallocate(fd, 0, bytes) : errno;  // EINVAL: an older kernel
  if (error == 0) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("no memory for the ranks' shared window of ", bytes >> 20,
                                                   " MiB: ", absl::ErrnoToStatus(error, "allocating").message(),
                                                   "; use fewer workers a host"));
}

struct Unmap {
  int64_t bytes;
  void operator()(std::byte* base) const { munmap(base, bytes); }
};

}  // namespace

// Lines of their own, so that ranks do not take them out of each other's caches.
struct HostWindow::Control {
  alignas(64) std::atomic<uint32_t> arrived;  // barriers that this rank has come to
  // When it came to the last barrier and to the one before: nobody comes to the next but one before all have come to
  // the next, and with it have read this one's.
  int64_t came_ns[2];
  alignas(64) std::atomic<uint64_t> counters[kCounters];
  alignas(64) StepTail tail;
  double number;
};

struct HostWindow::Header {
  alignas(64) std::atomic<uint32_t> wakes;  // a futex: changes when sleepers are woken
  std::atomic<uint32_t> sleepers;
};

HostWindow::HostWindow(const WindowOptions& options, Mapping mapping)
    : ranks_(options.ranks),
      index_(options.index),
      timeout_(options.timeout),
      mapping_(std::move(mapping)),
      base_(mapping_.get()),
      rank_bytes_(options.rank_bytes),
      rank_stride_(RoundUp(options.rank_bytes, kPageBytes)),
      crowded_(static_cast<int>(options.ranks.size()) > UsableCores()) {
  const int64_t controls = sizeof(Header) + ranks_.size() * sizeof(Control);
  shared_ = {base_ + RoundUp(controls, kPageBytes), static_cast<size_t>(options.shared_bytes)};
  own_ = shared_.data() + RoundUp(options.shared_bytes, kPageBytes);
}

HostWindow::~HostWindow() = default;

HostWindow::Header& HostWindow::header() const { return *reinterpret_cast<Header*>(base_); }

HostWindow::Control& HostWindow::control(int index) const {
  return reinterpret_cast<Control*>(base_ + sizeof(Header))[index];
}

StepTail& HostWindow::tail(int index) const { return control(index).tail; }
double& HostWindow::number(int index) const { return control(index).number; }

std::atomic<uint64_t>& HostWindow::counter(int index, Counter which) const { return control(index).counters[which]; }

bool HostWindow::AllAbove(Counter which, uint64_t value) const {
  for (int index = 0; index < count(); ++index) {
    if (counter(index, which).load() <= value) return false;
  }
  return true;
}

// A file of `bytes` zeros, all of them in place. The caller owns it.
absl::StatusOr<int> HostWindow::Make(const WindowOptions& options, int64_t bytes) {
  RETURN_IF_ERROR(CheckRoom(bytes));
  const int fd = memfd_create("lockstep-window", MFD_CLOEXEC);
  if (fd < 0) return NoWindow("memfd_create", errno, " (a container's seccomp profile may forbid it)");
  absl::Status status;
  if (ftruncate(fd, bytes) != 0) status = NoWindow("ftruncate", errno, "");
  if (status.ok()) {
    absl::StatusOr<std::byte*> base = Map(fd, bytes);
    status = base.ok() ? Populate(fd, *base, bytes) : base.status();
    if (base.ok()) munmap(*base, bytes);
  }
  if (status.ok()) return fd;
  close(fd);
  return status;
}

int64_t HostWindow::SizeOf(const WindowOptions& options) {
  const int64_t count = static_cast<int64_t>(options.ranks.size());
  return RoundUp(RoundUp(sizeof(Header) + count * sizeof(Control), kPageBytes) +
                     RoundUp(options.shared_bytes, kPageBytes) + count * RoundUp(options.rank_bytes, kPageBytes),
                 kHugePageBytes);
}

absl::StatusOr<std::vector<std::unique_ptr<HostWindow>>> HostWindow::OpenForThreads(const WindowOptions& options) {
  const int64_t bytes = SizeOf(options);
  ASSIGN_OR_RETURN(const int fd, Make(options, bytes));
  absl::StatusOr<std::byte*> base = Map(fd, bytes);
  close(fd);
  RETURN_IF_ERROR(base.status());
  const Mapping mapping(*base, Unmap{bytes});
  std::vector<std::unique_ptr<HostWindow>> windows;
  for (WindowOptions own = options; windows.size() < options.ranks.size();) {
    own.index = static_cast<int>(windows.size());
    windows.push_back(std::unique_ptr<HostWindow>(new HostWindow(own, mapping)));
  }
  return windows;
}

absl::StatusOr<std::unique_ptr<HostWindow>> HostWindow::Open(const WindowOptions& options) {
  const int count = static_cast<int>(options.ranks.size());
  const int64_t bytes = SizeOf(options);
  const absl::Time deadline = absl::Now() + options.timeout;
  absl::StatusOr<int> fd;
  if (options.index == 0) {
    absl::StatusOr<FdServer> server = FdServer::Listen(options.name);
    if (!server.ok()) return Annotate(server.status(), "the host's ranks cannot meet");
    fd = Make(options, bytes);
    std::vector<int> missing;
    absl::Status served = server->Serve(count - 1, fd.ok() ? *fd : -1, fd.status(), deadline, &missing);
    for (int& index : missing) index = options.ranks[index];
    if (!missing.empty())
      served = WithRanks(Annotate(served, absl::StrCat("waiting for ", RankList(missing))), missing);
    if (fd.ok() && !served.ok()) {
      close(*fd);
      return served;
    }
  } else {
    fd = ReceiveFd(options.name, options.index, deadline);
  }
  RETURN_IF_ERROR(fd.status());
  const off_t size = lseek(*fd, 0, SEEK_END);
  absl::StatusOr<std::byte*> base = absl::FailedPreconditionError(absl::StrCat(
      "rank ", options.ranks[options.index], " needs a window of ", bytes, " bytes, rank ", options.ranks[0],
      " has made one of ", size, ": check that both have the same build, config and model"));
  if (size == bytes) base = Map(*fd, bytes);
  close(*fd);
  RETURN_IF_ERROR(base.status());
  return std::unique_ptr<HostWindow>(new HostWindow(options, Mapping(*base, Unmap{bytes})));
}

bool HostWindow::AllHaveCome(uint32_t number) const {
  for (int index = 0; index < count(); ++index) {
    if (static_cast<int32_t>(control(index).arrived.load() - number) < 0) return false;
  }
  return true;
}

absl::Status HostWindow::Missing(uint32_t number, absl::string_view what) const {
  std::vector<int> missing;
  for (int index = 0; index < count(); ++index) {
    if (static_cast<int32_t>(control(index).arrived.load() - number) < 0) missing.push_back(ranks_[index]);
  }
  return WithRanks(absl::DeadlineExceededError(absl::StrCat(RankList(missing), " did not come to ", what, " within ",
                                                            absl::FormatDuration(timeout_))),
                   missing);
}

absl::Status HostWindow::Barrier(absl::string_view what) {
  const uint32_t number = ++barriers_;
  Header& shared = header();
  control(index_).came_ns[number % 2] = MonotonicNanos();
  control(index_).arrived.store(number);
  if (AllHaveCome(number)) {
    // A rank that falls asleep now has counted itself before it looked for the last time, and sees this one.
    if (shared.sleepers.load() > 0) {
      shared.wakes.fetch_add(1);
      syscall(SYS_futex, &shared.wakes, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }
    return absl::OkStatus();
  }
  const int64_t start_ns = MonotonicNanos();
  const int64_t timeout_ns = absl::ToInt64Nanoseconds(timeout_);
  while (true) {
    for (int i = 0; i < (crowded_ ? 1 : 64); ++i) {
      if (AllHaveCome(number)) return absl::OkStatus();
      Pause();
    }
    const int64_t waited_ns = MonotonicNanos() - start_ns;
    if (!crowded_ && waited_ns < kSpinNanos) continue;
    if (waited_ns < (crowded_ ? kCrowdedYieldNanos : kYieldNanos)) {
      sched_yield();
      continue;
    }
    if (waited_ns > timeout_ns) return Missing(number, what);
    const uint32_t seen = shared.wakes.load();
    shared.sleepers.fetch_add(1);
    if (!AllHaveCome(number)) {
      const int64_t sleep_ns = std::min(kLongestSleepNanos, timeout_ns - waited_ns + 1'000'000);
      const timespec sleep = {sleep_ns / 1'000'000'000, sleep_ns % 1'000'000'000};
      syscall(SYS_futex, &shared.wakes, FUTEX_WAIT, seen, &sleep, nullptr, 0);
    }
    shared.sleepers.fetch_sub(1);
  }
}

int64_t HostWindow::waited_ns() const {
  const auto came_ns = [this](int index) { return control(index).came_ns[barriers_ % 2]; };
  int64_t last_ns = came_ns(0);
  for (int index = 1; index < count(); ++index) last_ns = std::max(last_ns, came_ns(index));
  return last_ns - came_ns(index_);
}

}  // namespace lockstep
