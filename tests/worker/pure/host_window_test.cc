#include "worker/comm/host_window.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/comm/fd_passing.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kMeeting = absl::Seconds(2);  // enough to meet, and short enough to wait for who does not come

// Threads stand in for ranks: what they share is the window all the same.
class HostWindowTest : public ::testing::Test {
 protected:
  WindowOptions Options(int count, int index) const {
    WindowOptions options;
    for (int i = 0; i < count; ++i) options.ranks.push_back(10 + i);
    options.index = index;
    options.name = name_;
    options.shared_bytes = 1000;
    options.rank_bytes = 5000;
    options.timeout = timeout_;
    return options;
  }

  using Body = std::function<void(int index, HostWindow* window)>;
  void OnRanks(int count, const Body& body) {
    std::vector<std::thread> ranks;
    for (int index = 0; index < count; ++index) {
      ranks.emplace_back([this, count, index, &body] {
        absl::StatusOr<std::unique_ptr<HostWindow>> window = HostWindow::Open(Options(count, index));
        ASSERT_TRUE(window.ok()) << window.status();
        body(index, window->get());
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }

  absl::Duration timeout_ = absl::Seconds(30);
  const std::string name_ =
      absl::StrCat("lockstep-test-", getpid(), "-", ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(HostWindowTest, RanksReadWhatOthersWroteBeforeABarrier) {
  OnRanks(4, [](int index, HostWindow* window) {
    EXPECT_EQ(window->shared().size(), 1000u);
    for (int round = 1; round <= 2000; ++round) {
      const absl::Span<std::byte> own = window->of(index);
      ASSERT_EQ(own.size(), 5000u);
      std::memset(own.data(), (index + round) & 0xff, own.size());
      window->number(index) = index * 1000 + round;
      ASSERT_TRUE(window->Barrier("writing").ok());
      for (int other = 0; other < 4; ++other) {
        ASSERT_EQ(window->of(other).front(), static_cast<std::byte>((other + round) & 0xff));
        ASSERT_EQ(window->of(other).back(), static_cast<std::byte>((other + round) & 0xff));
        ASSERT_EQ(window->number(other), other * 1000 + round);
      }
      ASSERT_TRUE(window->Barrier("reading").ok());
    }
  });
}

TEST_F(HostWindowTest, TheSharedPartIsOneAndStartsAsZeros) {
  OnRanks(3, [](int index, HostWindow* window) {
    for (std::byte byte : window->shared()) ASSERT_EQ(byte, std::byte{0});
    ASSERT_TRUE(window->Barrier("looking").ok());
    window->shared()[index * 100] = static_cast<std::byte>(index + 1);
    ASSERT_TRUE(window->Barrier("writing").ok());
    for (int other = 0; other < 3; ++other) EXPECT_EQ(window->shared()[other * 100], static_cast<std::byte>(other + 1));
  });
}

TEST_F(HostWindowTest, RegionsDoNotOverlap) {
  OnRanks(2, [](int index, HostWindow* window) {
    if (index == 0) std::memset(window->shared().data(), 0xff, window->shared().size());
    if (index == 1) std::memset(window->of(1).data(), 0xee, window->of(1).size());
    ASSERT_TRUE(window->Barrier("writing").ok());
    for (std::byte byte : window->of(0)) ASSERT_EQ(byte, std::byte{0});
    ASSERT_EQ(window->tail(index).samples, 0);
    ASSERT_EQ(window->shared().back(), std::byte{0xff});
    ASSERT_EQ(window->of(1).front(), std::byte{0xee});
  });
}

// Long after spinning and yielding are over.
TEST_F(HostWindowTest, ARankThatSleepsAtABarrierIsWoken) {
  OnRanks(3, [](int index, HostWindow* window) {
    for (int round = 0; round < 5; ++round) {
      if (index == round % 3) absl::SleepFor(absl::Milliseconds(20));
      ASSERT_TRUE(window->Barrier("a late rank").ok());
    }
  });
}

TEST_F(HostWindowTest, HowLongARankWaitsForTheLastIsKnown) {
  constexpr int64_t kLate = 20'000'000;
  OnRanks(3, [](int index, HostWindow* window) {
    for (int round = 0; round < 6; ++round) {
      ASSERT_TRUE(window->Barrier("coming together").ok());
      if (index == round % 3) absl::SleepFor(absl::Nanoseconds(kLate));
      ASSERT_TRUE(window->Barrier("a late rank").ok());
      if (index == round % 3) {
        EXPECT_EQ(window->waited_ns(), 0);
      } else {
        EXPECT_GT(window->waited_ns(), kLate / 2);
      }
    }
  });
}

TEST_F(HostWindowTest, ABarrierNamesTheRanksThatDoNotCome) {
  timeout_ = kMeeting;
  std::atomic<int> left{2};
  OnRanks(4, [&](int index, HostWindow* window) {
    ASSERT_TRUE(window->Barrier("meeting").ok());
    if (index == 0 || index == 2) {
      const absl::Status status = window->Barrier("step 7");
      EXPECT_TRUE(absl::IsDeadlineExceeded(status));
      EXPECT_THAT(std::string(status.message()), HasSubstr("ranks 11, 13 did not come to step 7 within 2s"));
      --left;
    }
    while (left > 0) absl::SleepFor(absl::Milliseconds(1));
  });
}

TEST_F(HostWindowTest, OpeningNamesTheRanksThatDoNotCome) {
  timeout_ = absl::Milliseconds(100);
  const absl::Status status = HostWindow::Open(Options(3, 0)).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("waiting for ranks 11, 12"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(HostWindow::Open(Options(3, 2)).status()));
}

TEST_F(HostWindowTest, ARankThatAsksForTheWindowAndGoesIsOneThatHasNotCome) {
  absl::StatusOr<FdServer> server = FdServer::Listen(name_);
  ASSERT_TRUE(server.ok()) << server.status();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name_.data(), name_.size());
  const socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name_.size());
  const int rank = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(rank, reinterpret_cast<sockaddr*>(&address), size), 0);
  const int32_t number = 1;
  ASSERT_EQ(send(rank, &number, sizeof(number), 0), static_cast<ssize_t>(sizeof(number)));
  close(rank);
  std::vector<int> missing;
  const absl::Status status = server->Serve(1, STDIN_FILENO, absl::OkStatus(), absl::Now(), &missing);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_EQ(missing, std::vector<int>{1});
}

TEST_F(HostWindowTest, RanksThatWantWindowsOfUnlikeSizesAreToldSo) {
  std::thread first([&] { EXPECT_TRUE(HostWindow::Open(Options(2, 0)).ok()); });
  WindowOptions other = Options(2, 1);
  other.rank_bytes = 8 << 20;
  const absl::Status status = HostWindow::Open(other).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 11 needs a window of"));
  first.join();
}

TEST_F(HostWindowTest, NoRoomIsAnErrorOnAllRanksThatSaysWhatItIs) {
  std::vector<std::thread> ranks;
  for (int index = 0; index < 2; ++index) {
    ranks.emplace_back([this, index] {
      WindowOptions options = Options(2, index);
      options.rank_bytes = int64_t{1} << 50;
      const absl::Status status = HostWindow::Open(options).status();
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("the ranks' shared window needs"));
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

// Processes in place of threads, one of which is killed: the kernel takes the window away, the other hears of it.
TEST_F(HostWindowTest, AKilledRankIsNamedAndLeavesNothing) {
  timeout_ = kMeeting;
  const pid_t child = fork();
  if (child == 0) {
    absl::StatusOr<std::unique_ptr<HostWindow>> window = HostWindow::Open(Options(2, 1));
    if (window.ok() && (*window)->Barrier("meeting").ok()) kill(getpid(), SIGKILL);
    _exit(1);
  }
  absl::StatusOr<std::unique_ptr<HostWindow>> window = HostWindow::Open(Options(2, 0));
  ASSERT_TRUE(window.ok()) << window.status();
  ASSERT_TRUE((*window)->Barrier("meeting").ok());
  const absl::Status status = (*window)->Barrier("step 3");
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 11 did not come to step 3"));
  int how = 0;
  ASSERT_EQ(waitpid(child, &how, 0), child);
  EXPECT_TRUE(WIFSIGNALED(how));
}

TEST_F(HostWindowTest, ALimitOnFileSizesIsSaidInTimeAndKillsNobody) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    WindowOptions options = Options(1, 0);
    options.rank_bytes = 8 << 20;
    const absl::Status status = HostWindow::Open(options).status();
    _exit(absl::IsResourceExhausted(status) && status.message().find("ulimit -f") != std::string::npos ? 0 : 1);
  }
  int how = 0;
  ASSERT_EQ(waitpid(child, &how, 0), child);
  EXPECT_TRUE(WIFEXITED(how) && WEXITSTATUS(how) == 0) << how;
}

}  // namespace
}  // namespace lockstep
