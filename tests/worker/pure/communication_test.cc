// The choice of `communication.algorithm: auto`: a structure out of facts, and what is kept of measured times.
#include "worker/train/communication.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/temp_folder.h"
#include "worker/train/communication_cache.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

struct Case {
  Algorithm asked;
  std::vector<int> ranks_of_host;
  Structure with_window, without;
  const char* said;  // with a window
};

const absl::Status kNoWindow = absl::ResourceExhaustedError("memory is full: use fewer workers a host");

TEST(StructureTest, AWindowIsTakenWhereItCanBeHad) {
  constexpr Structure kReplicated = Structure::kReplicated, kShared = Structure::kShared,
                      kHierarchical = Structure::kHierarchical;
  const Case cases[] = {
      {ALGORITHM_AUTO, {2}, kShared, kReplicated, "shared, one replica in memory for the 2 ranks of this host"},
      {ALGORITHM_AUTO, {1}, kReplicated, kReplicated, "messages"},
      {ALGORITHM_AUTO, {2, 2}, kHierarchical, kReplicated, "the ranks of each of 2 hosts"},
      {ALGORITHM_AUTO, {1, 3, 1}, kHierarchical, kReplicated, "the ranks of each of 3 hosts"},
      {ALGORITHM_AUTO, {1, 1}, kReplicated, kReplicated, "messages, since the ranks are on 2 hosts, one on each"},
      {ALGORITHM_MPI, {4}, kReplicated, kReplicated, "as communication.algorithm asks"},
      {ALGORITHM_RING, {2, 2}, kReplicated, kReplicated, "as communication.algorithm asks"},
      {ALGORITHM_SHARED, {2}, kShared, kReplicated, "shared"},
      {ALGORITHM_HIERARCHICAL, {2, 2}, kHierarchical, kReplicated, "hierarchical"},
      {ALGORITHM_HIERARCHICAL, {1, 1}, kHierarchical, kReplicated, "hierarchical"},
      {ALGORITHM_HIERARCHICAL, {3}, kShared, kReplicated, "shared"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(absl::StrCat(Algorithm_Name(one.asked), " on ", one.ranks_of_host.size(), " hosts"));
    CommunicationFacts facts;
    facts.asked = one.asked;
    facts.ranks_of_host = one.ranks_of_host;
    EXPECT_EQ(WantsWindow(facts), one.with_window != kReplicated);
    const StructureChoice with = ChooseStructure(facts, absl::OkStatus());
    EXPECT_EQ(with.structure, one.with_window);
    EXPECT_THAT(with.said, HasSubstr(one.said));
    if (!WantsWindow(facts)) continue;
    const StructureChoice without = ChooseStructure(facts, kNoWindow);
    EXPECT_EQ(without.structure, one.without);
    EXPECT_EQ(without.said,
              "communication: messages, since no window is to be had: memory is full: use fewer workers a host");
  }
}

TEST(StructureTest, SharedOnSeveralHostsIsTriedSoThatItsAbsenceIsTold) {
  CommunicationFacts facts;
  facts.asked = ALGORITHM_SHARED;
  facts.ranks_of_host = {2, 2};
  EXPECT_TRUE(WantsWindow(facts));
  const auto choice = ChooseStructure(facts, absl::FailedPreconditionError("the ranks are on 2 hosts"));
  EXPECT_EQ(choice.structure, Structure::kReplicated);
  EXPECT_THAT(choice.said, HasSubstr("the ranks are on 2 hosts"));
}

TEST(StructureTest, WithALongerPeriodEachRankHasParametersOfItsOwn) {
  for (const Algorithm asked : {ALGORITHM_AUTO, ALGORITHM_SHARED, ALGORITHM_HIERARCHICAL}) {
    CommunicationFacts facts;
    facts.asked = asked;
    facts.period = 8;
    facts.ranks_of_host = {4};
    EXPECT_FALSE(WantsWindow(facts));
    EXPECT_THAT(ChooseStructure(facts, absl::OkStatus()).said, HasSubstr("with communication.period 8"));
  }
}

TEST(StructureTest, AResumeKeepsTheStructureAndSaysSoWhereItCannot) {
  CommunicationFacts facts;
  facts.ranks_of_host = {2};
  facts.before = "replicated";
  EXPECT_FALSE(WantsWindow(facts)) << "a window that is to be had now would be another order of additions";
  EXPECT_THAT(ChooseStructure(facts, absl::OkStatus()).said, testing::Not(HasSubstr("bit by bit")));
  facts.before = "shared";
  EXPECT_EQ(ChooseStructure(facts, absl::OkStatus()).structure, Structure::kShared);
  EXPECT_THAT(ChooseStructure(facts, kNoWindow).said, HasSubstr("it was shared before"));
  facts.ranks_of_host = {1, 1};
  EXPECT_THAT(ChooseStructure(facts, absl::OkStatus()).said, HasSubstr("it was shared before"));
}

CommunicationChosen Chosen() {
  CommunicationChosen chosen;
  SetWays({{32 << 10, Way::kGather}, {2 << 20, Way::kDirect}, {kAnySize, Way::kRing}}, &chosen);
  SetMeasured({{16 << 10, Way::kGather, 4.1e-4, true},
               {16 << 10, Way::kDirect, 7e-4, false},
               {16 << 10, Way::kLibrary, 6.25e-4, false},
               {1 << 20, Way::kDirect, 0.0125, true}},
              &chosen);
  return chosen;
}

TEST(CommunicationMessageTest, ATableComesBackAndABrokenOneIsRefused) {
  const CommunicationChosen chosen = Chosen();
  const auto ways = Ways(chosen);
  ASSERT_TRUE(ways.ok());
  EXPECT_EQ(DescribeWays(*ways), "gather to 32 KiB, direct to 2 MiB, ring above");
  EXPECT_THAT(DescribeMeasured(chosen),
              testing::ElementsAre("16 KiB: gather 0.41 ms; direct 0.7, mpi 0.625", "1 MiB: direct 12.5 ms"));
  EXPECT_FALSE(Ways(CommunicationChosen()).ok());
  CommunicationChosen unknown = chosen, backwards = chosen;
  unknown.mutable_ways(1)->set_algorithm("telepathy");
  EXPECT_EQ(Ways(unknown).status(), absl::InvalidArgumentError("an all-reduce by 'telepathy'"));
  backwards.mutable_ways(1)->set_up_to_bytes(100);
  EXPECT_FALSE(Ways(backwards).ok());
}

class CacheTest : public testing::Test {
 protected:
  CommunicationCache Cache(const CommunicationKey& key) const {
    return CommunicationCache(FileSystem::Real(), folder_ / "made/lockstep", key);
  }

  const TempFolder folder_;
  const CommunicationKey key_ = {{"a 2", "b 1"}, "Open MPI v4", "0.1.0+1234", "replicated"};
};

TEST_F(CacheTest, GivesBackWhatWasKeptForTheSameHostsInAnyOrder) {
  EXPECT_EQ(Cache(key_).Find(), std::nullopt);
  CommunicationChosen chosen = Chosen();
  chosen.set_incarnation(3);
  ASSERT_EQ(Cache(key_).Keep(chosen), absl::OkStatus());
  CommunicationKey turned = key_;
  std::swap(turned.hosts[0], turned.hosts[1]);
  const auto found = Cache(turned).Find();
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->SerializeAsString(), Chosen().SerializeAsString()) << "ways and times, of no incarnation";
}

TEST_F(CacheTest, OtherHostsLibrariesBuildsAndStructuresAreOthers) {
  ASSERT_EQ(Cache(key_).Keep(Chosen()), absl::OkStatus());
  CommunicationKey hosts = key_, mpi = key_, build = key_, structure = key_;
  hosts.hosts[0] = "a 3";
  mpi.mpi = "MPICH";
  build.build = "0.1.0+1235";
  structure.structure = "hierarchical";
  for (const CommunicationKey& other : {hosts, mpi, build, structure}) {
    EXPECT_EQ(Cache(other).Find(), std::nullopt);
    // Nor if the file of the one is there under the other's name, as if their digests were the same.
    std::filesystem::copy_file(Cache(key_).path(), Cache(other).path());
    EXPECT_EQ(Cache(other).Find(), std::nullopt);
  }
}

TEST_F(CacheTest, ADamagedFileIsAsNone) {
  ASSERT_EQ(Cache(key_).Keep(Chosen()), absl::OkStatus());
  const std::string whole = *FileSystem::Real()->Read(Cache(key_).path());
  std::vector<std::string> damaged = {"", "garbage", "{}", whole.substr(0, whole.size() / 2),
                                      std::string(1 << 20, ' ') + whole};
  std::string text = whole;
  damaged.push_back(text.replace(text.find("\"direct\""), 8, "\"other\""));
  for (const std::string& content : damaged) {
    ASSERT_EQ(WriteFileAtomically(FileSystem::Real(), Cache(key_).path(), content), absl::OkStatus());
    EXPECT_EQ(Cache(key_).Find(), std::nullopt) << content.substr(0, 100);
  }
  ASSERT_EQ(Cache(key_).Keep(Chosen()), absl::OkStatus()) << "and is replaced";
  EXPECT_TRUE(Cache(key_).Find().has_value());
}

TEST_F(CacheTest, WithoutAFolderNothingIsKept) {
  const CommunicationCache none(FileSystem::Real(), "", key_);
  EXPECT_EQ(none.Keep(Chosen()), absl::OkStatus());
  EXPECT_EQ(none.Find(), std::nullopt);
  EXPECT_EQ(none.path(), "");
}

TEST(CacheFolderTest, IsTheUsersAndAbsolute) {
  setenv("HOME", "/home/x", 1);
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(CommunicationCacheFolder(), "/home/x/.cache/lockstep");
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(CommunicationCacheFolder(), "/home/x/.cache/lockstep") << "as the XDG specification asks";
  setenv("XDG_CACHE_HOME", "/cache", 1);
  EXPECT_EQ(CommunicationCacheFolder(), "/cache/lockstep");
  unsetenv("XDG_CACHE_HOME");
  unsetenv("HOME");
  EXPECT_EQ(CommunicationCacheFolder(), "");
}

}  // namespace
}  // namespace lockstep
