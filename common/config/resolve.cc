#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "common/config/rules.h"
#include "common/config/text.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxGlobalBatch = int64_t{1} << 30;
constexpr int64_t kMlpHidden = 1024, kWideHidden = 4096;

absl::Status Wrong(absl::string_view path, const std::string& predicate) {
  return absl::InvalidArgumentError(absl::StrCat(path, " ", predicate));
}

absl::Status FixGlobalBatch(int workers, RunConfig* config) {
  Data* data = config->mutable_data();
  if (data->global_batch_size() == 0) {
    const int64_t size = int64_t{data->batch_size()} * workers;
    if (size > kMaxGlobalBatch) {
      return Wrong("data.batch_size",
                   absl::StrCat("is ", data->batch_size(), ", which over ", workers, " workers is more than ",
                                kMaxGlobalBatch, " samples a step; give a smaller one"));
    }
    data->set_global_batch_size(size);
  }
  if (data->global_batch_size() >= workers) return absl::OkStatus();
  return Wrong("data.global_batch_size", absl::StrCat("must be at least the number of workers, ", workers, ", not ",
                                                      data->global_batch_size(), "; start fewer workers"));
}

absl::Status FillModel(const DataFacts& facts, RunConfig* config) {
  Model* model = config->mutable_model();
  if (model->inputs() == 0) model->set_inputs(facts.inputs);
  if (model->outputs() == 0) model->set_outputs(facts.outputs);
  if (facts.inputs > 0 && model->inputs() != facts.inputs) {
    return Wrong("model.inputs", absl::StrCat("is ", model->inputs(), ", but a sample of the data has ", facts.inputs,
                                              " values; leave it at 0"));
  }
  if (config->loss().name() == LOSS_NAME_CROSS_ENTROPY && model->outputs() < facts.outputs) {
    return Wrong("model.outputs", absl::StrCat("is ", model->outputs(), ", but the data have ", facts.outputs,
                                               " classes; leave it at 0"));
  }
  if (model->hidden().empty() && (model->name() == MODEL_NAME_MLP || model->name() == MODEL_NAME_WIDE)) {
    for (int i = 0; i < 2; ++i) model->add_hidden(model->name() == MODEL_NAME_MLP ? kMlpHidden : kWideHidden);
  }
  return absl::OkStatus();
}

absl::Status FillSchedule(const DataFacts& facts, RunConfig* config) {
  Schedule* schedule = config->mutable_schedule();
  if (schedule->name() == SCHEDULE_NAME_CONSTANT) return absl::OkStatus();
  const double epochs = config->convergence().max_epochs();
  const bool drops = schedule->name() == SCHEDULE_NAME_STEP;
  if (schedule->decay_epochs() == 0) schedule->set_decay_epochs(drops ? epochs / 3 : epochs);
  const int64_t batch = config->data().global_batch_size();
  const double steps_per_epoch = std::ceil(static_cast<double>(facts.train_samples) / static_cast<double>(batch));
  const double decay_steps = schedule->decay_epochs() * steps_per_epoch;
  if (drops || static_cast<double>(schedule->warmup_steps()) < decay_steps || schedule->warmup_steps() == 0) {
    return absl::OkStatus();
  }
  return Wrong("schedule.warmup_steps", absl::StrCat("is ", schedule->warmup_steps(), ", which leaves nothing of the ",
                                                     FormatNumber(std::floor(decay_steps)),
                                                     " steps over which the learning rate decays; give fewer"));
}

absl::Status CheckInjectedRanks(const RunConfig& config) {
  for (int i = 0; i < config.inject_size(); ++i) {
    const int rank = config.inject(i).rank();
    if (rank < config.workers()) continue;
    return Wrong(absl::StrCat("inject[", i, "].rank"),
                 absl::StrCat("is ", rank, ", but the ranks go from 0 to ", config.workers() - 1,
                              "; give one of them, or none: inject=[]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ResolveConfig(const DataFacts& facts, int workers, RunConfig* config) {
  if (workers < 1) return Wrong("workers", absl::StrCat("must be 1 or more, not ", workers));
  if (facts.train_samples < 1) return Wrong("data.path", "holds no training samples; give data with at least one");
  RunConfig resolved = *config;
  resolved.set_workers(workers);
  CompleteMetrics(&resolved);
  RETURN_IF_ERROR(FixGlobalBatch(workers, &resolved));
  RETURN_IF_ERROR(FillModel(facts, &resolved));
  RETURN_IF_ERROR(FillSchedule(facts, &resolved));
  RETURN_IF_ERROR(CheckInjectedRanks(resolved));
  *config = std::move(resolved);
  return absl::OkStatus();
}

}  // namespace lockstep
