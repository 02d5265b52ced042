// lockstep-worker: one rank of a run, started by mpirun; or, without MPI and a coordinator, what needs a network:
// --probe, --describe, --needs, --evaluate, --predict; or a rank of a measurement: --bench.
#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/build_info.h"
#include "common/base/limits.h"
#include "worker/bench_main.h"
#include "worker/model/offline.h"
#include "worker/rank.h"

namespace lockstep {
namespace {

constexpr int kUsage = 2;

struct Flags {
  std::string coordinator;
  bool probe = false, describe = false, needs = false, evaluate = false, predict = false;
  OfflineOptions offline;
  BenchFlags bench;
};

void AddFlags(CLI::App* app, Flags* flags) {
  app->set_version_flag("--version", [] { return absl::StrCat("lockstep-worker ", BuildVersion()); });
  auto* modes = app->add_option_group("mode", "One of:");
  modes->add_option("--coordinator", flags->coordinator, "Train as one rank of the run that this coordinator leads")
      ->type_name("HOST:PORT");
  modes->add_flag("--probe", flags->probe, "Say what LibTorch finds here, as JSON");
  modes->add_flag("--describe", flags->describe, "Size of the model of a config on standard input, as JSON");
  modes->add_flag("--needs", flags->needs, "What a worker of a config on standard input needs of memory, as JSON");
  modes->add_flag("--evaluate", flags->evaluate, "Metrics of a checkpoint");
  modes->add_flag("--predict", flags->predict, "Predictions of a checkpoint");
  modes->add_option("--bench", flags->bench.what, "Measure, as one rank of mpirun: allreduce")->type_name("WHAT");
  modes->require_option(1);
  app->add_option("--checkpoint", flags->offline.checkpoint, "Folder of the checkpoint")->type_name("DIR");
  app->add_option("--config", flags->offline.config, "The run's config.yaml")->type_name("F");
  app->add_option("--data", flags->offline.data, "Data in place of the config's")->type_name("PATH");
  app->add_option("--split", flags->offline.split, "val (default) or train")->type_name("S");
  app->add_option("--output", flags->offline.output, "File to write (default: standard output)")->type_name("F");
  app->add_flag("--json", flags->offline.json, "As JSON");
  AddBenchFlags(app, &flags->bench);
  app->footer(
      "The run's token and certificates are in the file that LOCKSTEP_CREDENTIALS names; or its token alone in\n"
      "LOCKSTEP_TOKEN, or in the file that LOCKSTEP_TOKEN_FILE names.");
}

int RunOffline(const Flags& flags) {
  if (flags.probe) return Probe();
  if (flags.describe) return Describe(std::cin);
  if (flags.needs) return Needs(std::cin);
  if (flags.offline.checkpoint.empty() || flags.offline.config.empty()) {
    std::cerr << "lockstep-worker: --evaluate and --predict need --checkpoint DIR and --config F\n";
    return kUsage;
  }
  return flags.evaluate ? Evaluate(flags.offline) : Predict(flags.offline);
}

int Main(int argc, char** argv) {
  RaiseOpenFiles();
  CLI::App app(
      "One rank of a Lockstep run. `lockstep run` starts it; by hand: mpirun -n N lockstep-worker --coordinator H:P");
  Flags flags;
  AddFlags(&app, &flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::cerr << "lockstep-worker: " << error.what() << "; see lockstep-worker --help\n";
    return kUsage;
  }
  flags.bench.json = flags.offline.json;
  if (!flags.bench.what.empty()) RunBench(flags.bench, &argc, &argv);
  if (flags.coordinator.empty()) return RunOffline(flags);
  RunRank(flags.coordinator, &argc, &argv);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::Main(argc, argv); }
