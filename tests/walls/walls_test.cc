#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/str_join.h"
#include "tests/walls/include_rules.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// All sources of the product, from the root.
std::set<std::string> Sources() {
  const std::filesystem::path root = LOCKSTEP_SOURCE_ROOT;
  const std::set<std::string> endings = {".h", ".hpp", ".inc", ".cc", ".cpp", ".c"};
  std::set<std::string> sources;
  for (const char* house : {"common", "coordinator", "worker"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / house)) {
      if (endings.count(entry.path().extension()) == 0) continue;
      sources.insert(std::filesystem::relative(entry.path(), root).string());
    }
  }
  return sources;
}

TEST(WallsTest, NoSourceBreaksAFloorOrAWall) {
  const std::set<std::string> sources = Sources();
  EXPECT_TRUE(sources.count("common/base/status.h") && sources.count("worker/main.cc")) << "these are not the sources";
  std::vector<std::string> broken;
  for (const std::string& path : sources) {
    std::ifstream file(std::filesystem::path(LOCKSTEP_SOURCE_ROOT) / path);
    std::ostringstream text;
    ASSERT_TRUE(text << file.rdbuf()) << path;
    for (const std::string& line : BrokenRules(path, text.str())) broken.push_back(line);
  }
  EXPECT_THAT(broken, IsEmpty()) << absl::StrJoin(broken, "\n");
}

TEST(IncludeRulesTest, WhatTheHouseAllowsIsNotReported) {
  EXPECT_THAT(BrokenRules("coordinator/service/core.cc",
                          "#include \"coordinator/service/core.h\"\n\n#include <grpcpp/grpcpp.h>\n#include <vector>\n\n"
                          "#include \"absl/strings/str_cat.h\"\n#include \"common/config/config.h\"\n"
                          "#include \"coordinator/state/run_state.h\"\n#include \"lockstep/control.grpc.pb.h\"\n"),
              IsEmpty());
  EXPECT_THAT(
      BrokenRules("worker/rank.cc", "#include <torch/torch.h>\n#include \"worker/train/trainer.h\""),
      IsEmpty());
  EXPECT_THAT(
      BrokenRules("common/base/a.cc", "// includes <mpi.h>\nstd::string s = \"#include <mpi.h>\";\n#define X 1\n"),
      IsEmpty());
}

TEST(IncludeRulesTest, ABrokenWallIsNamedWithItsLine) {
  EXPECT_THAT(BrokenRules("worker/train/trainer.cc", "#pragma once\n\n  #  include <mpi.h>  // for ranks\n"),
              ElementsAre("worker/train/trainer.cc:3: includes <mpi.h>; MPI only in worker/comm/"));
  EXPECT_THAT(
      BrokenRules("worker/comm/a.cc", "#include \"ATen/Context.h\""),
      ElementsAre("worker/comm/a.cc:1: includes \"ATen/Context.h\"; Torch only in worker/model/, worker/train/, "
                  "worker/rank.cc, worker/torch_pch.cc"));
  for (const char* include :
       {"<mpi.h>", "<torch/types.h>", "<c10/util/Exception.h>", "<sqlite3.h>", "<yaml-cpp/yaml.h>", "<grpcpp/grpcpp.h>",
        "<grpc/grpc.h>", "\"lockstep/control.grpc.pb.h\""}) {
    EXPECT_THAT(BrokenRules("coordinator/supervise/a.h", std::string("#include ") + include), SizeIs(1)) << include;
  }
}

TEST(IncludeRulesTest, ABrokenFloorIsNamedWithItsLine) {
  EXPECT_THAT(
      BrokenRules("common/base/file.cc", "#include \"common/base/file.h\"\n#include \"common/data/plan.h\""),
      ElementsAre("common/base/file.cc:2: includes \"common/data/plan.h\"; common/base lies below common/data, and "
                  "floors include downwards only"));
  EXPECT_THAT(
      BrokenRules("common/data/a.h", "#include \"common/config/config.h\""),
      ElementsAre("common/data/a.h:1: includes \"common/config/config.h\"; common/data lies beside common/config, "
                  "and floors include downwards only"));
  EXPECT_THAT(BrokenRules("worker/model/a.h", "#include <worker/train/trainer.h>"), SizeIs(1));
}

TEST(IncludeRulesTest, CoordinatorAndWorkerDoNotMeetButInProto) {
  EXPECT_THAT(BrokenRules("worker/train/a.cc", "#include \"coordinator/state/run_state.h\""),
              ElementsAre("worker/train/a.cc:1: includes \"coordinator/state/run_state.h\"; worker never includes "
                          "coordinator; they meet in proto"));
  EXPECT_THAT(BrokenRules("coordinator/cli/a.cc", "#include \"worker/comm/collectives.h\""), SizeIs(1));
  EXPECT_THAT(BrokenRules("common/base/a.cc", "#include \"worker/comm/collectives.h\""), SizeIs(1));
}

TEST(IncludeRulesTest, WaysAroundTheRulesAreClosed) {
  EXPECT_THAT(BrokenRules("common/base/a.cc", "#include \"../../worker/comm/collectives.h\""), SizeIs(1));
  EXPECT_THAT(BrokenRules("common/base/a.cc", "#include \"file.h\""), SizeIs(1));
  EXPECT_THAT(BrokenRules("common/base/a.cc", "#include HEADER"), SizeIs(1));
  EXPECT_THAT(BrokenRules("common/base/a.cc", "#include \"tests/support/fake.h\""), SizeIs(1));
  EXPECT_THAT(
      BrokenRules("common/attic/a.cc", "#include \"common/base/file.h\""),
      ElementsAre("common/attic/a.cc:1: includes \"common/base/file.h\"; common/attic is no room of the house; give "
                  "it a floor in tests/walls"));
}

}  // namespace
}  // namespace lockstep
