#include "tests/coordinator/cli/program.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

constexpr char kMark[] = "LOCKSTEP_TEST_MARK";

}  // namespace

Program::Program() {
  const std::filesystem::path here = std::filesystem::absolute("tests/coordinator/cli");
  std::filesystem::create_symlink(here / "fake_mpirun.sh", tools_ / "mpirun");
  environment_ = {{"PATH", absl::StrCat(tools_.path(), ":", std::getenv("PATH"))},
                  {"LOCKSTEP_WORKER", (here / "fake_worker.sh").string()},
                  {"XDG_RUNTIME_DIR", runtime_.path()},
                  {"LOCKSTEP_RUNS", "runs"},
                  {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                  {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                  {"FAKE_MPIRUN_STARTED", tools_ / "started"},
                  {kMark, folder_.path()}};
}

Program::~Program() {
  for (const pid_t pid : Processes()) kill(pid, SIGKILL);
}

std::vector<std::string> Program::Command(const std::vector<std::string>& arguments) const {
  std::vector<std::string> command = {
      "sh", "-c", absl::StrCat("cd ", folder_.path(), " && exec \"$@\" 2>", tools_ / "err"), "sh", LOCKSTEP_PROGRAM};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

Outcome Program::Run(const std::vector<std::string>& arguments) {
  ChildOptions child;
  child.argv = Command(arguments);
  child.environment = environment_;
  Outcome outcome;
  const absl::StatusOr<Captured> captured = RunAndCapture(child, "", absl::Seconds(60));
  EXPECT_TRUE(captured.ok()) << captured.status();
  if (!captured.ok()) return outcome;
  outcome.exit_code = captured->exit_code;
  outcome.out = captured->output;
  std::ifstream err(tools_ / "err");
  outcome.err = (std::stringstream() << err.rdbuf()).str();
  return outcome;
}

pid_t Program::Start(const std::vector<std::string>& arguments) {
  ChildOptions child;
  child.argv = Command(arguments);
  child.environment = environment_;
  child.output = folder_ / "out";
  const absl::StatusOr<pid_t> pid = StartChild(child);
  EXPECT_TRUE(pid.ok()) << pid.status();
  return pid.ok() ? *pid : 0;
}

void Program::MakeInputs() {
  EXPECT_EQ(Run({"dataset", "make", "digits", "--train", "100", "--val", "20", "--out", "digits"}).exit_code, 0);
  Write("c.yaml",
        "run: {name: small}\nworkers: 1\ndata: {path: digits, batch_size: 10}\nmodel: {name: logistic}\n"
        "convergence: {max_epochs: 2}\n");
}

std::string Program::Read(const std::string& name) const {
  std::ifstream file(folder_ / name);
  return (std::stringstream() << file.rdbuf()).str();
}

void Program::Write(const std::string& name, const std::string& text) const {
  std::filesystem::create_directories(std::filesystem::path(folder_ / name).parent_path());
  std::ofstream(folder_ / name) << text;
}

std::vector<std::string> Program::List(const std::string& name) const {
  std::vector<std::string> names;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / name, missing)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<pid_t> Program::Processes() const { return ProcessesWithVariable(kMark, folder_.path()); }

}  // namespace lockstep
