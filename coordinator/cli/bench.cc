#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/cores.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/worker_program.h"
#include "coordinator/supervise/mpirun.h"

namespace lockstep {
namespace {

struct Arguments {
  int workers = 2;
  std::string algorithms, sizes = "deepbench", min, max;
  std::string segment;  // for tuning
  double factor = 2, seconds = 0.5, timeout = 60;
  bool json = false, allow_root = false;
};

std::vector<std::string> WorkerArguments(const Arguments& a) {
  std::vector<std::string> arguments = {"--bench",   "allreduce",
                                        "--sizes",   a.sizes,
                                        "--factor",  absl::StrCat(a.factor),
                                        "--seconds", absl::StrCat(a.seconds),
                                        "--timeout", absl::StrCat(a.timeout)};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) arguments.insert(arguments.end(), {name, value});
  };
  add("--algorithms", a.algorithms);
  add("--min", a.min);
  add("--max", a.max);
  add("--segment-bytes", a.segment);
  if (a.json) arguments.push_back("--json");
  return arguments;
}

// Becomes mpirun, so that its end and signals are this program's. Returns only if that is impossible.
absl::Status BecomeMpirun(const Arguments& a) {
  RETURN_IF_ERROR(CheckRoot(a.allow_root));
  MpirunOptions options;
  options.workers = a.workers;
  options.worker_program = WorkerProgram();
  options.arguments = WorkerArguments(a);
  options.cores = UsableCores();
  const ChildOptions child = MpirunCommand(options);
  for (const auto& [name, value] : child.environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> argv;
  for (const std::string& argument : child.argv) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::cout << std::flush;
  execvp(argv[0], argv.data());
  return ErrnoStatus(errno, "starting mpirun (Debian's openmpi-bin)");
}

// What is wrong with the flags is told by one worker instead of by all.
int RunBench(const Arguments& a) {
  std::vector<std::string> check = WorkerArguments(a);
  check.push_back("--check-only");
  const absl::StatusOr<Captured> checked = RunWorker(check, "");
  if (!checked.ok()) return Fail(checked.status());
  return checked->exit_code == 0 ? Fail(BecomeMpirun(a)) : checked->exit_code;
}

}  // namespace

void AddBench(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("bench", "Measure what bounds training on this machine");
  command->require_subcommand(1);
  CLI::App* allreduce = command->add_subcommand("allreduce", "Every algorithm side by side, and the limit");
  auto arguments = std::make_shared<Arguments>();
  allreduce->add_option("--workers", arguments->workers, "Ranks on this machine (default 2)")
      ->type_name("N")
      ->check(CLI::Range(2, 1024).description(""));
  allreduce->add_option("--algorithms", arguments->algorithms, "Which, with commas (default: all that are to be had)")
      ->type_name("A,B");
  allreduce->add_option("--sizes", arguments->sizes, "deepbench (default), or sizes with commas: 64K,25M")
      ->type_name("S,S");
  allreduce->add_option("--min", arguments->min, "Sweep as nccl-tests do: from this size …")->type_name("SIZE");
  allreduce->add_option("--max", arguments->max, "… to this one …")->type_name("SIZE");
  allreduce->add_option("--factor", arguments->factor, "… each so many times the one before (default 2)")
      ->type_name("X");
  allreduce->add_option("--seconds", arguments->seconds, "Calls of each algorithm and size take at least (default 0.5)")
      ->type_name("S");
  allreduce->add_option("--timeout", arguments->timeout, "Deadline of a call (default 60)")->type_name("S");
  allreduce->add_flag("--allow-root", arguments->allow_root, "Ranks may run as root");
  allreduce->add_flag("--json", arguments->json, "As JSON");
  allreduce->add_option("--segment-bytes", arguments->segment)->group("");
  allreduce->footer(
      "Over several hosts by hand: mpirun … lockstep-worker --bench allreduce, with the same options. Exit code 1: a "
      "sum "
      "was wrong, or a rank did not come in time.");
  allreduce->callback([=] { *action = [arguments] { return RunBench(*arguments); }; });
}

}  // namespace lockstep
