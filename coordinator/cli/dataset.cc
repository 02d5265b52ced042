#include "common/data/dataset.h"

#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/data/digits.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/sample_picture.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

// More kinds of target than this are no classes.
constexpr size_t kMaxClasses = 1000;

std::string SpecText(const ArraySpec& spec) {
  const std::string shape = absl::StrJoin(spec.shape, "×");
  return absl::StrCat(ElementTypeName(spec.type), shape.empty() ? "" : " ", shape);
}

nlohmann::ordered_json SpecJson(const ArraySpec& spec) {
  return {{"type", ElementTypeName(spec.type)}, {"shape", spec.shape}};
}

std::string TargetText(const ArraySpec& spec, const RawSample& sample) {
  const double first = ElementAt(spec.type, sample.target, 0);
  const std::string text = IsFloating(spec.type) ? FigureText(first) : absl::StrCat(static_cast<int64_t>(first));
  return spec.elements() > 1 ? absl::StrCat(text, ", …") : text;
}

// Samples by label; empty where targets are no classes.
std::map<int64_t, int64_t> Histogram(const Dataset& data) {
  std::map<int64_t, int64_t> counts;
  if (data.target().elements() != 1 || IsFloating(data.target().type)) return counts;
  for (int64_t id = 0; id < data.size(); ++id) {
    ++counts[static_cast<int64_t>(ElementAt(data.target().type, data.Get(id).target, 0))];
    if (counts.size() > kMaxClasses) return {};
  }
  return counts;
}

void PrintSplit(const std::string& name, const Dataset& data) {
  std::cout << name << ": " << CountText(data.size(), "sample") << ", input " << SpecText(data.input()) << ", target "
            << SpecText(data.target()) << "\n";
  const std::map<int64_t, int64_t> histogram = Histogram(data);
  if (histogram.empty()) return;
  int64_t most = 1;
  for (const auto& [label, count] : histogram) most = std::max(most, count);
  TextTable table({"label", "samples", ""}, {false, false, true});
  for (const auto& [label, count] : histogram) {
    table.Add({absl::StrCat(label), CountText(static_cast<double>(count)), std::string(40 * count / most, '#')});
  }
  std::cout << table.Text("  ");
}

nlohmann::ordered_json SplitJson(const Dataset& data) {
  nlohmann::ordered_json json = {
      {"samples", data.size()}, {"input", SpecJson(data.input())}, {"target", SpecJson(data.target())}};
  nlohmann::ordered_json labels = nlohmann::ordered_json::object();
  for (const auto& [label, count] : Histogram(data)) labels[absl::StrCat(label)] = count;
  json["labels"] = labels;
  return json;
}

absl::Status PrintSample(const Dataset& data, int64_t id) {
  if (id < 0 || id >= data.size()) {
    return absl::OutOfRangeError(absl::StrCat("--sample ", id, ": there are training samples 0 to ", data.size() - 1));
  }
  const RawSample sample = data.Get(id);
  const std::string picture = SamplePicture(data.input(), sample.input);
  if (picture.empty()) return absl::OkStatus();
  std::cout << "\ntrain sample " << id << ", target " << TargetText(data.target(), sample) << ":\n" << picture;
  return absl::OkStatus();
}

absl::Status Show(const std::string& path, int64_t id, bool json) {
  Data data;
  data.set_path(path);
  nlohmann::ordered_json all = {{"path", path}};
  absl::Status missing;
  std::unique_ptr<Dataset> shown;
  int found = 0;
  for (const auto& [name, split] : {std::pair("train", Split::kTrain), std::pair("val", Split::kValidation)}) {
    absl::StatusOr<std::unique_ptr<Dataset>> dataset = OpenDataset(data, split);
    if (absl::IsNotFound(dataset.status())) {
      missing = dataset.status();
      continue;
    }
    RETURN_IF_ERROR(dataset.status());
    ++found;
    all[name] = SplitJson(**dataset);
    if (json) continue;
    PrintSplit(name, **dataset);
    if (split == Split::kTrain) shown = *std::move(dataset);
  }
  if (found == 0) return missing;
  if (json) std::cout << all.dump(2) << "\n";
  if (shown != nullptr) RETURN_IF_ERROR(PrintSample(*shown, id));
  std::cout << std::flush;
  return absl::OkStatus();
}

absl::Status Make(const std::string& kind, const std::string& out, const DigitsOptions& options) {
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List(out);
  if (names.ok() && !names->empty()) {
    return absl::AlreadyExistsError(
        absl::StrCat(out, ": is not empty, and nothing in it is written over; name another folder with --out"));
  }
  if (const absl::Status made = FileSystem::Real()->MakeFolders(out); !made.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(made.message(), "; name another folder with --out"));
  }
  RETURN_IF_ERROR(MakeDigits(options, out));
  std::cout << out << ": " << kind << ", " << CountText(static_cast<double>(options.train)) << " to train and "
            << CountText(static_cast<double>(options.validation)) << " to validate, seed " << options.seed << std::endl;
  return absl::OkStatus();
}

void AddMake(CLI::App* dataset, Action* action) {
  CLI::App* command = dataset->add_subcommand("make", "Write a built-in data set as IDX files");
  auto kind = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  auto options = std::make_shared<DigitsOptions>();
  const CLI::Validator count = CLI::Range(int64_t{1}, int64_t{100'000'000}).description("");
  command->add_option("KIND", *kind, "digits: drawn 28×28 digits, the same bytes everywhere for the same seed")
      ->required()
      ->check(CLI::IsMember({"digits"}).description(""))
      ->type_name("");
  command->add_option("--out", *out, "Folder (default data/<kind>)")->type_name("DIR");
  command->add_option("--train", options->train, "Training samples (default 20000)")->type_name("N")->check(count);
  command->add_option("--val", options->validation, "Validation samples (default 2000)")->type_name("N")->check(count);
  command->add_option("--seed", options->seed, "Seed (default 1)")
      ->type_name("S")
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()).description(""));
  command->callback([=] {
    *action = [=] {
      const absl::Status status = Make(*kind, out->empty() ? absl::StrCat("data/", *kind) : *out, *options);
      return status.ok() ? kExitDone : Fail(status);
    };
  });
}

void AddShow(CLI::App* dataset, Action* action) {
  CLI::App* command =
      dataset->add_subcommand("show", "What a reader sees in a folder: counts, shapes, labels, a sample");
  auto path = std::make_shared<std::string>();
  auto id = std::make_shared<int64_t>(0);
  auto json = std::make_shared<bool>(false);
  command->add_option("PATH", *path, "Folder with train-… and val-… (or t10k-…) files")->required()->type_name("");
  command->add_option("--sample", *id, "Training sample to draw (default 0)")->type_name("N");
  command->add_flag("--json", *json, "As JSON");
  command->callback([=] {
    *action = [=] {
      const absl::Status status = Show(*path, *id, *json);
      return status.ok() ? kExitDone : Fail(status);
    };
  });
}

}  // namespace

void AddDataset(CLI::App* app, Action* action) {
  CLI::App* dataset = app->add_subcommand("dataset", "Make the built-in data; show what a reader sees in a file");
  dataset->require_subcommand(1);
  AddMake(dataset, action);
  AddShow(dataset, action);
}

}  // namespace lockstep
