#include "worker/model/offline.h"

#include <torch/cuda.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/build_info.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "worker/model/libraries.h"
#include "worker/model/memory_needs.h"
#include "worker/model/model.h"
#include "worker/model/objective.h"
#include "worker/model/offline_run.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

absl::Status Print(absl::string_view text) {
  std::cout << text << std::flush;
  if (!std::cout) return absl::UnavailableError("cannot write to standard output");
  return absl::OkStatus();
}

int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  std::cerr << "lockstep: " << status.message() << std::endl;
  const bool bad_input = absl::IsInvalidArgument(status) || absl::IsNotFound(status) || absl::IsDataLoss(status);
  return bad_input ? 2 : 1;
}

// What LibTorch throws beyond the rooms' own guards (no memory, no device) is an error like any other.
template <typename Body>
int Guarded(const Body& body) {
  try {
    return ExitCode(body());
  } catch (const std::exception& error) {
    return ExitCode(absl::InternalError(TorchMessage(error)));
  }
}

absl::StatusOr<RunConfig> ConfigFrom(std::istream& stream) {
  const std::string yaml{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  return ParseConfig(yaml, "config", {});
}

absl::Status DescribeModel(std::istream& stream) {
  ASSIGN_OR_RETURN(const RunConfig config, ConfigFrom(stream));
  ASSIGN_OR_RETURN(const std::unique_ptr<Network> network, CreateModel(config, "cpu"));
  int64_t parameters = 0, buffers = 0;
  for (const NamedTensor& parameter : network->parameters()) parameters += parameter.tensor.numel();
  for (const NamedTensor& buffer : network->buffers()) buffers += buffer.tensor.numel();
  const Json json = {{"parameters", parameters},
                     {"grad_bytes", parameters * static_cast<int64_t>(sizeof(float))},
                     {"buffers", buffers}};
  return Print(absl::StrCat(json.dump(), "\n"));
}

absl::Status DescribeNeeds(std::istream& stream) {
  ASSIGN_OR_RETURN(const RunConfig config, ConfigFrom(stream));
  ASSIGN_OR_RETURN(const std::unique_ptr<Dataset> data, OpenDataset(config.data(), Split::kTrain));
  ASSIGN_OR_RETURN(const std::unique_ptr<Network> network, CreateModel(config, "cpu"));
  torch::set_num_threads(std::max(1, config.threads()));
  const Decoder decoder(config.data(), data->input(), data->target(), config.run().seed());
  const int64_t workers = std::max(1, config.workers()), passes = std::max(1, config.accumulate());
  const int64_t batch = (config.data().global_batch_size() + workers - 1) / workers;
  ASSIGN_OR_RETURN(const MemoryNeeds needs, MeasureMemory((batch + passes - 1) / passes, decoder, network.get()));
  int64_t parameters = 0;
  for (const NamedTensor& parameter : network->parameters()) parameters += parameter.tensor.numel();
  const Json json = {{"parameters", parameters},
                     {"process_bytes", needs.process},
                     {"activation_bytes", needs.activations},
                     {"input_bytes", needs.input * passes * (1 + config.data().prefetch())},
                     {"address_bytes", needs.addresses}};
  return Print(absl::StrCat(json.dump(), "\n"));
}

std::string EvaluationText(const MetricSums& sums, const std::string& checkpoint) {
  std::vector<std::string> words;
  for (const auto& [name, value] : sums.Values()) words.push_back(absl::StrFormat("%s %.4f", name, value));
  return absl::StrCat(absl::StrJoin(words, ", "), " over ", sums.samples(), " samples (checkpoint ", checkpoint, ")\n");
}

absl::Status EvaluateSplit(const OfflineOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<OfflineRun> run, OfflineRun::Open(options));
  ASSIGN_OR_RETURN(const std::unique_ptr<Objective> objective, CreateObjective(run->config().loss(), "cpu"));
  std::vector<Metric> metrics;
  for (int metric : run->config().metrics()) metrics.push_back(static_cast<Metric>(metric));
  MetricSums sums(std::move(metrics));
  RETURN_IF_ERROR(
      run->ForEachBatch([&](int64_t, const torch::Tensor& output, const torch::Tensor& target) -> absl::Status {
        ASSIGN_OR_RETURN(const torch::Tensor loss, objective->MeanLoss(output, target));
        return sums.Add(output, target, loss.item<double>());
      }));
  if (!options.json) return Print(EvaluationText(sums, run->checkpoint()));
  const Json json = {{"checkpoint", run->checkpoint()},
                     {"split", run->split()},
                     {"samples", sums.samples()},
                     {"metrics", sums.Values()}};
  return Print(absl::StrCat(json.dump(), "\n"));
}

// A table of predictions: names of the columns after the id, and their values, a row a sample.
struct Predictions {
  std::vector<std::string> columns;
  torch::Tensor values;  // [b, columns], float64
  bool first_column_is_class = false;
};

Predictions PredictionsOf(const torch::Tensor& output, LossName loss) {
  const torch::Tensor rows = output.reshape({output.size(0), -1}).to(torch::kFloat64);
  if (loss == LOSS_NAME_CROSS_ENTROPY) {
    const auto [probability, label] = rows.softmax(1).max(1);
    return {{"prediction", "probability"}, torch::stack({label.to(torch::kFloat64), probability}, 1), true};
  }
  if (loss == LOSS_NAME_BCE && rows.size(1) == 1) {
    const torch::Tensor positive = rows.select(1, 0).sigmoid();
    const torch::Tensor label = (rows.select(1, 0) > 0).to(torch::kFloat64);
    return {
        {"prediction", "probability"}, torch::stack({label, torch::where(label > 0, positive, 1 - positive)}, 1), true};
  }
  Predictions predictions;
  predictions.values = loss == LOSS_NAME_BCE ? rows.sigmoid() : rows;
  if (rows.size(1) == 1) predictions.columns = {"value"};
  for (int64_t i = 0; rows.size(1) > 1 && i < rows.size(1); ++i)
    predictions.columns.push_back(absl::StrCat("value", i));
  return predictions;
}

std::string HeaderOf(const Predictions& predictions) {
  return absl::StrCat("id,", absl::StrJoin(predictions.columns, ","), "\n");
}

void AppendRows(const Predictions& predictions, int64_t first, bool json, std::string* text) {
  const torch::Tensor values = predictions.values.contiguous();
  const auto cells = values.accessor<double, 2>();
  for (int64_t row = 0; row < cells.size(0); ++row) {
    const std::string id = absl::StrCat(first + row);
    std::string line = json ? absl::StrCat("{\"id\":", id) : id;
    for (int64_t column = 0; column < cells.size(1); ++column) {
      // Nine digits give back a float32 exactly.
      const bool whole = column == 0 && predictions.first_column_is_class;
      const double value = cells[row][column];
      const bool null = json && !std::isfinite(value);  // JSON has no other word for it
      const std::string cell = null ? "null" : whole ? absl::StrFormat("%.0f", value) : absl::StrFormat("%.9g", value);
      absl::StrAppend(&line, ",", json ? absl::StrCat("\"", predictions.columns[column], "\":") : "", cell);
    }
    absl::StrAppend(text, line, json ? "}\n" : "\n");
  }
}

absl::Status PredictSplit(const OfflineOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<OfflineRun> run, OfflineRun::Open(options));
  std::string text;
  RETURN_IF_ERROR(run->ForEachBatch([&](int64_t first, const torch::Tensor& output, const torch::Tensor&) {
    const Predictions predictions = PredictionsOf(output, run->config().loss().name());
    if (first == 0 && !options.json) text = HeaderOf(predictions);
    AppendRows(predictions, first, options.json, &text);
    return absl::OkStatus();
  }));
  if (options.output.empty()) return Print(text);
  return WriteOutput(options.output, text);
}

}  // namespace

int Probe() {
  return Guarded([] {
    Json json = {{"build", BuildVersion()},
                 {"torch", LoadedTorch()},
                 {"cuda", torch::cuda::is_available()},
                 {"cuda_devices", static_cast<int64_t>(torch::cuda::device_count())},
                 {"blas", LoadedBlas()}};
    if (const auto warning = BlasWarning()) json["warning"] = *warning;
    return Print(absl::StrCat(json.dump(), "\n"));
  });
}

int Describe(std::istream& yaml) {
  return Guarded([&] { return DescribeModel(yaml); });
}

int Needs(std::istream& yaml) {
  return Guarded([&] { return DescribeNeeds(yaml); });
}

int Evaluate(const OfflineOptions& options) {
  return Guarded([&] { return EvaluateSplit(options); });
}

int Predict(const OfflineOptions& options) {
  return Guarded([&] { return PredictSplit(options); });
}

}  // namespace lockstep
