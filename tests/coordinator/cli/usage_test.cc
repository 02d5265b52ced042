#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/coordinator/cli/program.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct UsageError {
  std::vector<std::string> arguments;
  std::string line;
};

class UsageErrorTest : public ::testing::TestWithParam<UsageError> {};

TEST_P(UsageErrorTest, IsOneLineThatSaysWhatToDoAndExitCode2) {
  Program program;
  const Outcome outcome = program.Run(GetParam().arguments);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, absl::StrCat("lockstep: ", GetParam().line, "\n"));
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(program.List(), IsEmpty());
}

std::string Empty(const char* before) {
  return absl::StrCat("after '", before,
                      "' stands an empty word, as of a variable that is not set; give it a value or leave it out");
}

INSTANTIATE_TEST_SUITE_P(
    Table, UsageErrorTest,
    ::testing::Values(
        UsageError{{}, "A subcommand is required; see lockstep --help"},
        UsageError{{"rnu", "c.yaml"}, "unknown command 'rnu' of lockstep; did you mean 'run'?"},
        UsageError{{"report", ""}, Empty("report")}, UsageError{{"report", "r", "--steps", ""}, Empty("--steps")},
        UsageError{{"report", "r", "--steps="}, Empty("--steps=")},
        UsageError{{"compare", "r", "s", "--target", "nan"},
                   "--target is no number; give an accuracy or a loss, as 0.95"},
        UsageError{{"fly"}, "unknown command 'fly' of lockstep; see lockstep --help"},
        UsageError{{"--worker"}, "unknown option '--worker' of lockstep; see lockstep --help"},
        UsageError{{"run", "c.yaml", "--worker", "2"},
                   "unknown option '--worker' of lockstep run; did you mean '--workers'?"},
        UsageError{{"run", "c.yaml", "--worker=2"},
                   "unknown option '--worker' of lockstep run; did you mean '--workers'?"},
        UsageError{{"run", "c.yaml", "--lifeline", "2"},
                   "unknown option '--lifeline' of lockstep run; see lockstep run --help"},
        UsageError{{"run"}, "lockstep run takes either a CONFIG or --resume RUN"},
        UsageError{{"run", "c.yaml", "--resume", "x"}, "lockstep run takes either a CONFIG or --resume RUN"},
        UsageError{{"run", "--resume", "x", "--out", "y"}, "--out: a resumed run keeps its folder; leave it out"},
        UsageError{{"run", "c.yaml", "--workers", "0"},
                   "--workers: Value 0 not in range 1 to 100000; see lockstep run --help"},
        UsageError{{"run", "--resume", "nope"},
                   "nope: no such run, neither here nor in runs/; list them with: lockstep runs"},
        UsageError{{"status"}, "RUN is required; see lockstep status --help"},
        UsageError{{"status", "nope"}, "nope: no such run, neither here nor in runs/; list them with: lockstep runs"},
        UsageError{{"dataset"}, "A subcommand is required; see lockstep dataset --help"},
        UsageError{{"dataset", "mke"}, "unknown command 'mke' of lockstep dataset; did you mean 'make'?"},
        UsageError{{"dataset", "make", "letters"}, "KIND: letters not in {digits}; see lockstep dataset make --help"},
        UsageError{{"bench"}, "A subcommand is required; see lockstep bench --help"},
        UsageError{{"bench", "allreduce", "--algorithm", "ring"},
                   "unknown option '--algorithm' of lockstep bench allreduce; did you mean '--algorithms'?"},
        UsageError{{"bench", "allreduce", "--workers", "1"},
                   "--workers: Value 1 not in range 2 to 1024; see lockstep bench allreduce --help"},
        UsageError{{"bench", "alreduce"}, "unknown command 'alreduce' of lockstep bench; did you mean 'allreduce'?"},
        UsageError{{"evaluate", "x", "--split", "test"},
                   "--split: test not in {val,train}; see lockstep evaluate --help"}));

TEST(HelpTest, ListsEveryCommand) {
  Program program;
  const Outcome outcome = program.Run({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* command : {"run", "serve", "status", "watch", "stop", "checkpoint", "runs", "evaluate", "predict",
                              "report", "compare", "trace", "verify", "dataset", "bench", "doctor", "lab"}) {
    EXPECT_THAT(outcome.out, HasSubstr(absl::StrCat("\n  ", command, "  ")));
  }
}

TEST(HelpTest, OfACommandListsItsOptionsButNotThoseBetweenProcesses) {
  Program program;
  for (const auto& [command, options] : std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>>{
           {{"run"},
            {"CONFIG", "--resume", "--workers", "--out", "--set", "--hosts", "--hostfile", "--lab", "--slurm",
             "--dry-run", "--settings"}},
           {{"serve"}, {"CONFIG", "--resume", "--listen", "--workers", "--out", "--set", "--tls-cert", "--insecure"}},
           {{"evaluate"}, {"RUN", "--checkpoint", "--data", "--split", "--json"}},
           {{"predict"}, {"RUN", "--checkpoint", "--data", "--split", "--output", "--json"}},
           {{"doctor"}, {"CONFIG", "--hosts", "--lab", "--json"}},
           {{"lab", "up"}, {"--hosts", "--rate", "--delay", "--per-host", "--name"}},
           {{"dataset", "make"}, {"KIND", "--out", "--train", "--val", "--seed"}},
           {{"dataset", "show"}, {"PATH", "--sample", "--json"}},
           {{"bench", "allreduce"},
            {"--workers", "--algorithms", "--sizes", "--min", "--max", "--factor", "--seconds", "--json"}}}) {
    std::vector<std::string> arguments = command;
    arguments.push_back("--help");
    const Outcome outcome = program.Run(arguments);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(outcome.err, "");
    for (const std::string& option : options)
      EXPECT_THAT(outcome.out, HasSubstr(option)) << absl::StrJoin(command, " ");
    EXPECT_THAT(outcome.out, ::testing::Not(HasSubstr("lifeline"))) << absl::StrJoin(command, " ");
  }
}

TEST(SettingsTest, AreListedForPeopleAndForTheShell) {
  Program program;
  EXPECT_THAT(program.Run({"run", "--settings"}).out, HasSubstr("\noptimizer\n"));
  EXPECT_THAT(program.Run({"run", "--setting-names"}).out, HasSubstr("\noptimizer.lr\n"));
}

}  // namespace
}  // namespace lockstep
