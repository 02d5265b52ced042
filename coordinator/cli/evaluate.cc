#include <memory>

#include "coordinator/cli/command.h"
#include "coordinator/cli/trained.h"

namespace lockstep {

void AddEvaluate(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("evaluate", "The metrics of a trained model on a data set");
  auto arguments = std::make_shared<TrainedArguments>();
  auto json = std::make_shared<bool>(false);
  AddTrainedOptions(command, arguments.get());
  command->add_option("--data", arguments->data, "Folder of the data (default: the run's own)")->type_name("PATH");
  command->add_option("--split", arguments->split, "val (default) or train")
      ->type_name("S")
      ->check(CLI::IsMember({"val", "train"}).description(""));
  command->add_flag("--json", *json, "As JSON");
  command->callback([=] {
    *action = [arguments, json] {
      return Fail(UseTrained("--evaluate", *arguments,
                             *json ? std::vector<std::string>{"--json"} : std::vector<std::string>{}));
    };
  });
}

}  // namespace lockstep
