#include <memory>

#include "coordinator/cli/command.h"
#include "coordinator/cli/trained.h"

namespace lockstep {

void AddPredict(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("predict", "What a trained model says of every sample: CSV, or JSON lines");
  auto arguments = std::make_shared<TrainedArguments>();
  auto output = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  AddTrainedOptions(command, arguments.get());
  command->add_option("--data", arguments->data, "Folder of the data")->required()->type_name("PATH");
  command->add_option("--split", arguments->split, "val (default) or train")
      ->type_name("S")
      ->check(CLI::IsMember({"val", "train"}).description(""));
  command->add_option("--output", *output, "File to write (default: standard output)")->type_name("F");
  command->add_flag("--json", *json, "An object a line");
  command->callback([=] {
    *action = [arguments, output, json] {
      std::vector<std::string> more;
      if (!output->empty()) more.insert(more.end(), {"--output", *output});
      if (*json) more.push_back("--json");
      return Fail(UseTrained("--predict", *arguments, more));
    };
  });
}

}  // namespace lockstep
