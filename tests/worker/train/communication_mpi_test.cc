// The choice of `communication.algorithm: auto` among the ranks of an MPI job, all on this host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "common/base/stable_random.h"
#include "tests/support/mpi_main.h"
#include "tests/support/temp_folder.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/measure_ways.h"
#include "worker/communication.h"
#include "worker/train/communication.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

class CommunicationTest : public testing::Test {
 protected:
  CommunicationTest() {
    run_.set_incarnation(1);
    run_.mutable_config()->mutable_communication()->set_algorithm(ALGORITHM_AUTO);
    run_.mutable_config()->mutable_communication()->set_timeout(60);
    sizes_.shared_bytes = sizes_.rank_bytes = 4096;
  }

  // By messages, as with a period.
  void GoByMessages() { run_.mutable_config()->mutable_communication()->set_period(2); }
  CommunicationSetup Choose() {
    said_.clear();
    auto made = SetUpCommunication(&TestSession(), run_, sizes_, cache_,
                                   [this](const std::string& what) { said_ += what + "\n"; });
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }
  // Every rank holds rank 0's table, and adds up right by it.
  static void ExpectTheSameAndRight(CommunicationSetup* made) {
    const std::string own = made->chosen.SerializeAsString();
    const auto of_rank_0 = ShareFromRank0(made->collectives.get(), own, absl::Seconds(60));
    ASSERT_TRUE(of_rank_0.ok());
    CommunicationChosen theirs;
    ASSERT_TRUE(theirs.ParseFromString(*of_rank_0));
    theirs.set_said(made->chosen.said());  // rank 0 alone knows the cache's path
    EXPECT_EQ(theirs.SerializeAsString(), own);
    CommThread comm(made->collectives.get(), absl::Seconds(60));
    for (const size_t size : {1, 5000, 20000, 70000, 300000, 3000000}) {
      std::vector<float> data(size);
      for (size_t i = 0; i < size; ++i) data[i] = static_cast<float>(TestSession().rank() + i % 7);
      comm.StartAllReduce("sum", absl::MakeSpan(reinterpret_cast<std::byte*>(data.data()), size * sizeof(float)),
                          DType::kF32, ReduceOp::kSum);
      ASSERT_TRUE(comm.Wait().ok());
      const size_t world = TestSession().world();
      for (size_t i = 0; i < size; ++i) {
        ASSERT_EQ(data[i], static_cast<float>(world * (world - 1) / 2 + world * (i % 7))) << i << " of " << size;
      }
    }
  }

  GetRunReply run_;
  WindowOptions sizes_;
  const TempFolder temp_;
  std::string cache_ = temp_.path(), said_;
};

TEST_F(CommunicationTest, MeasuresOnceAndKeepsItForTheNextRunAndForAResume) {
  if (TestSession().world() == 1) return;  // there is nothing to choose
  GoByMessages();
  CommunicationSetup first = Choose();
  EXPECT_EQ(first.chosen.source(), "measured");
  EXPECT_EQ(first.chosen.structure(), "replicated");
  EXPECT_EQ(first.chosen.world(), TestSession().world());
  EXPECT_GE(first.chosen.measured_size(), 4);
  ExpectTheSameAndRight(&first);
  if (TestSession().rank() == 0) {
    EXPECT_THAT(said_, HasSubstr("communication: messages, since with communication.period 2"));
    EXPECT_THAT(said_, HasSubstr("\nall-reduce of 16 KiB: "));
  } else {
    EXPECT_EQ(said_, "");
  }

  CommunicationSetup second = Choose();
  EXPECT_EQ(second.chosen.source(), "cache");
  EXPECT_EQ(*DescribeMeasured(second.chosen).begin(), *DescribeMeasured(first.chosen).begin());
  ExpectTheSameAndRight(&second);

  std::filesystem::remove_all(cache_);
  *run_.mutable_communication() = first.chosen;
  run_.mutable_communication()->mutable_ways(0)->set_up_to_bytes(4321);
  CommunicationSetup resumed = Choose();
  EXPECT_EQ(resumed.chosen.source(), "resume");
  EXPECT_EQ(resumed.chosen.ways(0).up_to_bytes(), 4321) << "not measured again";
  ExpectTheSameAndRight(&resumed);
}

TEST_F(CommunicationTest, WithoutACacheEveryRunMeasures) {
  if (TestSession().world() == 1) return;
  GoByMessages();
  std::filesystem::remove_all(cache_);
  cache_ = "";
  EXPECT_EQ(Choose().chosen.source(), "measured");
  EXPECT_EQ(Choose().chosen.source(), "measured");
}

TEST_F(CommunicationTest, OneHostSharesAWindowAndNothingIsMeasured) {
  if (TestSession().world() == 1) return;
  CommunicationSetup made = Choose();
  EXPECT_EQ(made.chosen.structure(), "shared");
  EXPECT_EQ(made.chosen.source(), "setting");
  EXPECT_EQ(made.chosen.measured_size() + made.chosen.ways_size(), 0);
  ASSERT_NE(made.share.window, nullptr);
  EXPECT_EQ(made.share.window->count(), TestSession().world());
  ExpectTheSameAndRight(&made);
}

TEST_F(CommunicationTest, WhereNoWindowFitsMessagesGoAndTheLineSaysWhatMendsIt) {
  if (TestSession().world() == 1) return;
  sizes_.rank_bytes = int64_t{1} << 45;
  for (const Algorithm asked : {ALGORITHM_AUTO, ALGORITHM_SHARED}) {
    run_.mutable_config()->mutable_communication()->set_algorithm(asked);
    CommunicationSetup made = Choose();
    EXPECT_EQ(made.share.window, nullptr);
    EXPECT_EQ(made.chosen.structure(), "replicated");
    EXPECT_EQ(made.chosen.source(), asked == ALGORITHM_AUTO ? "measured" : "setting");
    EXPECT_THAT(made.chosen.said(), HasSubstr("no window is to be had: the ranks' shared window needs"));
    EXPECT_THAT(made.chosen.said(), HasSubstr("raise the limit, or use fewer workers a host"));
    ExpectTheSameAndRight(&made);
  }
}

TEST_F(CommunicationTest, APinnedAlgorithmIsNotMeasured) {
  if (TestSession().world() == 1) return;
  for (const Algorithm asked : {ALGORITHM_MPI, ALGORITHM_RING}) {
    run_.mutable_config()->mutable_communication()->set_algorithm(asked);
    CommunicationSetup made = Choose();
    EXPECT_EQ(made.share.window, nullptr);
    EXPECT_EQ(made.chosen.source(), "setting");
    EXPECT_EQ(made.chosen.measured_size(), 0);
    EXPECT_EQ(made.chosen.ways_size(), asked == ALGORITHM_MPI ? 1 : 3);
    ExpectTheSameAndRight(&made);
  }
}

}  // namespace
}  // namespace lockstep
