#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "common/base/build_info.h"
#include "common/base/limits.h"
#include "coordinator/cli/command.h"

namespace lockstep {
namespace {

void Describe(CLI::App* app, Action* action) {
  app->name("lockstep");
  app->set_version_flag("--version", [] { return absl::StrCat("lockstep ", BuildVersion()); });
  app->require_subcommand(1);
  app->get_formatter()->column_width(28);
  AddRun(app, action);
  AddServe(app, action);
  AddStatus(app, action);
  AddWatch(app, action);
  AddStop(app, action);
  AddCheckpoint(app, action);
  AddRuns(app, action);
  AddEvaluate(app, action);
  AddPredict(app, action);
  AddReport(app, action);
  AddCompare(app, action);
  AddTrace(app, action);
  AddVerify(app, action);
  AddDataset(app, action);
  AddBench(app, action);
  AddDoctor(app, action);
  AddLab(app, action);
  // Last: subcommands would inherit it.
  app->footer(
      "RUN is a run's folder, or its name under runs/ (or under $LOCKSTEP_RUNS).\n"
      "Exit codes: 0 done; 1 the run failed; 2 bad usage, config or input; 3 stopped by a signal after a checkpoint.\n"
      "Options of a command: lockstep COMMAND --help. Settings of a config: lockstep run --settings.");
}

int Main(int argc, char** argv) {
  RaiseOpenFiles();
  CLI::App app("Trains a PyTorch model data-parallel over MPI, watched and stopped by a coordinator.");
  Action action;
  Describe(&app, &action);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const absl::Status words = CheckWords(app, arguments);
  if (!words.ok()) return Fail(words);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    return Fail(absl::InvalidArgumentError(absl::StrCat(error.what(), "; see ", CommandOf(app, arguments), " --help")));
  }
  const int exit_code = action();
  // A run is as it ended, whoever reads what it says.
  const bool shows = !app.got_subcommand("run") && !app.got_subcommand("serve");
  if (exit_code != kExitDone || !shows || std::cout.flush()) return exit_code;
  return Fail(absl::InternalError("what was to be shown could not be written to standard output; is its disk full?"));
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  try {
    return lockstep::Main(argc, argv);
  } catch (const std::exception& error) {  // out of memory, and what no wall has caught
    std::cerr << "lockstep: " << error.what() << std::endl;
    return lockstep::kExitFailed;
  }
}
