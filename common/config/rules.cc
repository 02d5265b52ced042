#include "common/config/rules.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/config/config.h"
#include "common/config/schema.h"
#include "common/config/text.h"

namespace lockstep {
namespace {

constexpr size_t kMaxNameBytes = 100;

std::string Word(Metric metric) { return EnumWord(Metric_descriptor(), metric); }
std::string Word(LossName loss) { return EnumWord(LossName_descriptor(), loss); }

// What a metric means for outputs that are trained with a loss; all of them may, where a script is the loss.
std::vector<Metric> MetricsOf(LossName loss) {
  switch (loss) {
    case LOSS_NAME_CROSS_ENTROPY:
      return {METRIC_ACCURACY, METRIC_TOP5, METRIC_LOSS, METRIC_PERPLEXITY};
    case LOSS_NAME_MSE:
      return {METRIC_LOSS, METRIC_MAE};
    case LOSS_NAME_BCE:
      return {METRIC_ACCURACY, METRIC_LOSS};
    default:
      return {METRIC_ACCURACY, METRIC_TOP5, METRIC_LOSS, METRIC_PERPLEXITY, METRIC_MAE};
  }
}

std::vector<Metric> DefaultMetrics(LossName loss) {
  switch (loss) {
    case LOSS_NAME_CROSS_ENTROPY:
      return {METRIC_ACCURACY, METRIC_LOSS};
    case LOSS_NAME_MSE:
      return {METRIC_LOSS, METRIC_MAE};
    case LOSS_NAME_BCE:
      return {METRIC_LOSS, METRIC_ACCURACY};
    default:
      return {METRIC_LOSS};
  }
}

bool Has(const RunConfig& config, Metric metric) {
  return std::find(config.metrics().begin(), config.metrics().end(), metric) != config.metrics().end();
}

std::optional<Violation> CheckName(const RunConfig& config) {
  const std::string& name = config.run().name();
  if (!name.empty() && name.size() <= kMaxNameBytes && name.front() != '.' && name.find('/') == std::string::npos) {
    return std::nullopt;
  }
  return Violation{"run.name", absl::StrCat("must be 1 to ", kMaxNameBytes,
                                            " bytes without '/' and not begin with '.', since a folder is named after "
                                            "it, not ",
                                            Quote(name))};
}

std::optional<Violation> CheckData(const RunConfig& config) {
  const Data& data = config.data();
  if (data.path().empty()) {
    return Violation{"data.path", "is not set; set it to the folder with the data, or give --set data.path=FOLDER"};
  }
  if (data.global_batch_size() > 0 && data.global_batch_size() < config.workers()) {
    return Violation{"data.global_batch_size",
                     absl::StrCat("must be at least the number of workers, ", config.workers(), ", not ",
                                  data.global_batch_size(), "; give a larger one or fewer workers")};
  }
  if (data.augment().noise() > 0 && data.input() != INPUT_TYPE_FLOAT32) {
    return Violation{"data.augment.noise", "needs data.input float32; set one of the two otherwise"};
  }
  return std::nullopt;
}

std::optional<Violation> CheckModel(const RunConfig& config) {
  const Model& model = config.model();
  const bool scripted = model.name() == MODEL_NAME_TORCHSCRIPT;
  if (scripted && model.torchscript().empty()) {
    return Violation{"model.name", "is torchscript, but no file is given; set model.torchscript to it"};
  }
  if (!scripted && !model.torchscript().empty()) {
    return Violation{"model.name", absl::StrCat("is ", EnumWord(ModelName_descriptor(), model.name()),
                                                ", but model.torchscript is set; take one of the two away")};
  }
  return std::nullopt;
}

std::optional<Violation> CheckLoss(const RunConfig& config) {
  const Loss& loss = config.loss();
  const bool scripted = loss.name() == LOSS_NAME_TORCHSCRIPT;
  if (scripted && loss.torchscript().empty()) {
    return Violation{"loss.name", "is torchscript, but no file is given; set loss.torchscript to it"};
  }
  if (!scripted && !loss.torchscript().empty()) {
    return Violation{"loss.name",
                     absl::StrCat("is ", Word(loss.name()), ", but loss.torchscript is set; take one of the two away")};
  }
  return std::nullopt;
}

std::optional<Violation> CheckMetric(const std::string& path, Metric metric, LossName loss) {
  const std::vector<Metric> fitting = MetricsOf(loss);
  if (std::find(fitting.begin(), fitting.end(), metric) != fitting.end()) return std::nullopt;
  std::vector<std::string> words;
  for (const Metric fits : fitting) words.push_back(Word(fits));
  return Violation{path, absl::StrCat("is ", Word(metric), ", which has no meaning for loss ", Word(loss), "; choose ",
                                      JoinOr(words))};
}

std::optional<Violation> CheckMetrics(const RunConfig& config) {
  const Convergence& convergence = config.convergence();
  if (auto wrong = CheckMetric("convergence.metric", convergence.metric(), config.loss().name())) return wrong;
  for (int i = 0; i < config.metrics_size(); ++i) {
    const std::string path = absl::StrCat("metrics[", i, "]");
    for (int before = 0; before < i; ++before) {
      if (config.metrics(before) != config.metrics(i)) continue;
      return Violation{path, absl::StrCat("is ", Word(config.metrics(i)), " a second time; keep one")};
    }
    if (auto wrong = CheckMetric(path, config.metrics(i), config.loss().name())) return wrong;
  }
  const bool share = convergence.metric() == METRIC_ACCURACY || convergence.metric() == METRIC_TOP5;
  if (convergence.has_target() && share && (convergence.target() < 0 || convergence.target() > 1)) {
    return Violation{"convergence.target", absl::StrCat("must be from 0 to 1 for ", Word(convergence.metric()),
                                                        ", as 0.97, not ", FormatNumber(convergence.target()))};
  }
  return std::nullopt;
}

std::optional<Violation> CheckOptimizer(const RunConfig& config) {
  const Optimizer& optimizer = config.optimizer();
  if (optimizer.nesterov() && optimizer.name() != OPTIMIZER_NAME_SGD) {
    return Violation{"optimizer.nesterov",
                     absl::StrCat("is for sgd, not for ", EnumWord(OptimizerName_descriptor(), optimizer.name()),
                                  "; take it away or set optimizer.name to sgd")};
  }
  if (optimizer.nesterov() && optimizer.momentum() == 0) {
    return Violation{"optimizer.nesterov", "needs optimizer.momentum above 0; set it, as 0.9, or take nesterov away"};
  }
  for (int i = 0; i < optimizer.groups_size(); ++i) {
    const ParameterGroup& group = optimizer.groups(i);
    if (group.pattern().empty()) {
      return Violation{absl::StrCat("optimizer.groups[", i, "].pattern"),
                       "is empty and matches nothing; give names with * and ?, as *.bias"};
    }
    if (!group.has_weight_decay() && !group.has_lr_scale()) {
      return Violation{absl::StrCat("optimizer.groups[", i, "]"),
                       "changes nothing; give it weight_decay or lr_scale, or take it away"};
    }
  }
  const Schedule& schedule = config.schedule();
  const bool decays = schedule.name() == SCHEDULE_NAME_COSINE || schedule.name() == SCHEDULE_NAME_LINEAR;
  if (decays && schedule.min_lr() > optimizer.lr()) {
    return Violation{"schedule.min_lr",
                     absl::StrCat("must be at most optimizer.lr, ", FormatNumber(optimizer.lr()),
                                  ", where the decay begins, not ", FormatNumber(schedule.min_lr()))};
  }
  return std::nullopt;
}

std::optional<Violation> CheckCommunication(const RunConfig& config) {
  const Communication& communication = config.communication();
  const Algorithm algorithm = communication.algorithm();
  const bool whole = algorithm == ALGORITHM_MPI || algorithm == ALGORITHM_SHARED;
  if (communication.period() > 1 && communication.compression() != COMPRESSION_NONE) {
    return Violation{"communication.compression",
                     absl::StrCat("is ", EnumWord(Compression_descriptor(), communication.compression()),
                                  ", but with communication.period ", communication.period(),
                                  " parameters are averaged, which go as they are; set one of the two back")};
  }
  if (communication.period() > 1 && communication.bucket_tuning() != BUCKET_TUNING_OFF) {
    return Violation{"communication.bucket_tuning",
                     absl::StrCat("has nothing to tune with communication.period ", communication.period(),
                                  ", where gradients are not sent; set it to off")};
  }
  const bool ranges =
      communication.compression() == COMPRESSION_TOPK || communication.compression() == COMPRESSION_POWERSGD;
  if (ranges && communication.bucket_tuning() != BUCKET_TUNING_OFF) {
    return Violation{
        "communication.bucket_tuning",
        absl::StrCat("would move what compression ", EnumWord(Compression_descriptor(), communication.compression()),
                     " holds back of each bucket; set it to off, or the compression to none, fp16 or bf16")};
  }
  if (communication.compression() == COMPRESSION_NONE || !whole) return std::nullopt;
  return Violation{"communication.compression",
                   absl::StrCat("is ", EnumWord(Compression_descriptor(), communication.compression()),
                                ", but with communication.algorithm ", EnumWord(Algorithm_descriptor(), algorithm),
                                algorithm == ALGORITHM_MPI ? " the MPI library sends gradients as they are"
                                                           : " nothing is sent between hosts",
                                "; set the algorithm to auto, ring or hierarchical, or take compression away")};
}

// A setting that nothing obeys unless another one is as `needs` says. At its default it was not meant.
struct Unused {
  const google::protobuf::Message& section;
  const char* path;
  bool used;
  const char* needs;
};

std::optional<Violation> CheckUnused(const RunConfig& config) {
  const Model& model = config.model();
  const Optimizer& optimizer = config.optimizer();
  const Schedule& schedule = config.schedule();
  const Communication& communication = config.communication();
  const bool windowed = communication.algorithm() == ALGORITHM_SHARED;
  const Compression compression = communication.compression();
  const bool local = communication.period() > 1;
  const bool sgd = optimizer.name() == OPTIMIZER_NAME_SGD, drops = schedule.name() == SCHEDULE_NAME_STEP;
  const bool decays = schedule.name() == SCHEDULE_NAME_COSINE || schedule.name() == SCHEDULE_NAME_LINEAR;
  const bool has_hidden = model.name() == MODEL_NAME_MLP || model.name() == MODEL_NAME_WIDE;
  const Unused settings[] = {
      {model, "model.hidden", has_hidden, "model.name mlp or wide"},
      {model, "model.init_match", !model.init_from().empty(), "model.init_from"},
      {optimizer, "optimizer.momentum", sgd, "optimizer.name sgd"},
      {optimizer, "optimizer.beta1", !sgd, "optimizer.name adamw"},
      {optimizer, "optimizer.beta2", !sgd, "optimizer.name adamw"},
      {optimizer, "optimizer.eps", !sgd, "optimizer.name adamw"},
      {schedule, "schedule.decay_epochs", drops || decays, "schedule.name step, cosine or linear"},
      {schedule, "schedule.gamma", drops, "schedule.name step"},
      {communication, "communication.bucket_tuning", !windowed,
       "communication.algorithm auto, ring, hierarchical or mpi"},
      {schedule, "schedule.min_lr", decays, "schedule.name cosine or linear"},
      {communication, "communication.period_rule", local, "communication.period above 1"},
      {communication, "communication.average_momentum", local, "communication.period above 1"},
      {communication, "communication.post_local_steps", communication.period_rule() == PERIOD_RULE_POST_LOCAL,
       "communication.period_rule post_local"},
      {communication, "communication.topk_ratio", compression == COMPRESSION_TOPK, "communication.compression topk"},
      {communication, "communication.powersgd_rank", compression == COMPRESSION_POWERSGD,
       "communication.compression powersgd"},
  };
  for (const Unused& setting : settings) {
    const std::string name = std::string(setting.path).substr(std::string(setting.path).find('.') + 1);
    const auto* field = setting.section.GetDescriptor()->FindFieldByName(name);
    if (setting.used || IsDefault(setting.section, field)) continue;
    return Violation{setting.path,
                     absl::StrCat("is set, but nothing obeys it without ", setting.needs, "; take it away")};
  }
  return std::nullopt;
}

std::optional<Violation> CheckInject(const RunConfig& config) {
  for (int i = 0; i < config.inject_size(); ++i) {
    const Inject& inject = config.inject(i);
    const bool computes = inject.part() == STEP_PART_FORWARD || inject.part() == STEP_PART_BACKWARD;
    if (inject.factor() > 1 && !computes) {
      return Violation{absl::StrCat("inject[", i, "].factor"), "is for the parts forward and backward, which compute"};
    }
    if (inject.last_step() == 0 || inject.last_step() >= inject.first_step()) continue;
    return Violation{
        absl::StrCat("inject[", i, "].last_step"),
        absl::StrCat("must be 0 or at least first_step, ", inject.first_step(), ", not ", inject.last_step())};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Violation> FindViolation(const RunConfig& config) {
  for (const auto check : {CheckName, CheckData, CheckModel, CheckLoss, CheckMetrics, CheckOptimizer,
                           CheckCommunication, CheckUnused, CheckInject}) {
    if (auto found = check(config)) return found;
  }
  return std::nullopt;
}

absl::Status CheckConfig(const RunConfig& config) {
  const auto found = FindViolation(config);
  return found ? SettingError({}, "", found->path, found->predicate) : absl::OkStatus();
}

void FillDerived(const Sources& sources, RunConfig* config) {
  const auto written = [&](const char* path) { return sources.count(path) > 0; };
  if (!config->model().torchscript().empty() && !written("model.name")) {
    config->mutable_model()->set_name(MODEL_NAME_TORCHSCRIPT);
  }
  if (!config->loss().torchscript().empty() && !written("loss.name")) {
    config->mutable_loss()->set_name(LOSS_NAME_TORCHSCRIPT);
  }
  if (!written("convergence.metric") && config->loss().name() != LOSS_NAME_CROSS_ENTROPY) {
    config->mutable_convergence()->set_metric(METRIC_LOSS);
  }
  CompleteMetrics(config);
}

void CompleteMetrics(RunConfig* config) {
  if (config->metrics().empty()) {
    for (const Metric metric : DefaultMetrics(config->loss().name())) config->add_metrics(metric);
  }
  for (const Metric metric : {config->convergence().metric(), METRIC_LOSS}) {
    if (!Has(*config, metric)) config->add_metrics(metric);
  }
}

}  // namespace lockstep
