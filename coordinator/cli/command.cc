#include "coordinator/cli/command.h"

#include <algorithm>
#include <iostream>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace lockstep {
namespace {

// Letters to change, put in or leave out between two words (Levenshtein).
int Distance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = std::exchange(row[0], static_cast<int>(i));
    for (size_t j = 1; j <= b.size(); ++j) {
      const int changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row[b.size()];
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(absl::StrCat("--", name));
    for (const std::string& name : option->get_snames()) names.push_back(absl::StrCat("-", name));
  }
  return names;
}

// "lockstep dataset make".
std::string FullName(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : absl::StrCat(FullName(*app.get_parent()), " ", app.get_name());
}

bool LooksLikeOption(const std::string& argument) {
  return argument.size() > 1 && argument[0] == '-' && !absl::ascii_isdigit(argument[1]) && argument[1] != '.';
}

// What to write instead of `word`, or where to look.
std::string Instead(const CLI::App& app, const std::string& word, const std::vector<std::string>& known) {
  const std::string meant = DidYouMean(word, known);
  return meant.empty() ? absl::StrCat("; see ", FullName(app), " --help") : meant;
}

absl::Status UnknownOption(const CLI::App& app, const std::string& name) {
  std::vector<std::string> known;
  for (const std::string& option : OptionNames(app)) {
    // Options without a group are between the product's own processes.
    if (!app.get_option(option)->get_group().empty()) known.push_back(option);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown option '", name, "' of ", FullName(app), Instead(app, name, known)));
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitDone;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kPermissionDenied:
      return kExitBadUsage;
    default:
      return kExitFailed;
  }
}

int Fail(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  std::cerr << "lockstep: " << absl::StrReplaceAll(status.message(), {{"\n", " "}}) << std::endl;
  return ExitCodeOf(status);
}

absl::Status IsEmpty(const std::string& before) {
  return absl::InvalidArgumentError(absl::StrCat(
      "after '", before, "' stands an empty word, as of a variable that is not set; give it a value or leave it out"));
}

std::string NearestWord(const std::string& word, const std::vector<std::string>& known) {
  std::string nearest;
  int least = std::max<int>(2, static_cast<int>(word.size()) / 3) + 1;
  for (const std::string& candidate : known) {
    const int distance = Distance(word, candidate);
    if (distance < least && distance < static_cast<int>(candidate.size())) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string DidYouMean(const std::string& word, const std::vector<std::string>& known) {
  const std::string nearest = NearestWord(word, known);
  return nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?");
}

std::string CommandOf(const CLI::App& app, const std::vector<std::string>& arguments) {
  const CLI::App* current = &app;
  for (const std::string& argument : arguments) {
    const std::vector<std::string> commands = CommandNames(*current);
    if (std::find(commands.begin(), commands.end(), argument) == commands.end()) break;
    current = current->get_subcommand(argument);
  }
  return FullName(*current);
}

absl::Status CheckWords(const CLI::App& app, const std::vector<std::string>& arguments) {
  const CLI::App* current = &app;
  std::string before = app.get_name();
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument.empty()) return IsEmpty(before);
    before = argument;
    if (LooksLikeOption(argument)) {
      if (argument.find('=') + 1 == argument.size()) return IsEmpty(argument);
      const std::string name = argument.substr(0, argument.find('='));
      const std::vector<std::string> known = OptionNames(*current);
      if (std::find(known.begin(), known.end(), name) == known.end()) return UnknownOption(*current, name);
      continue;
    }
    const std::vector<std::string> commands = CommandNames(*current);
    if (commands.empty()) continue;
    if (std::find(commands.begin(), commands.end(), argument) == commands.end()) {
      return absl::InvalidArgumentError(absl::StrCat("unknown command '", argument, "' of ", FullName(*current),
                                                     Instead(*current, argument, commands)));
    }
    current = current->get_subcommand(argument);
    if (current->get_prefix_command()) break;  // what follows belongs to a command of its own
  }
  return absl::OkStatus();
}

}  // namespace lockstep
