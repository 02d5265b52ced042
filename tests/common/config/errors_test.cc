#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/config/config.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

// What is written, with FOLDER for the working folder, and the one line that it is answered with.
struct Case {
  const char* name;
  std::string yaml;
  std::string message;
};

const char kTopFields[] =
    "schema_version, run, data, model, loss, metrics, optimizer, schedule, communication, convergence, evaluation, "
    "checkpoint, profile, control, device, workers, threads, accumulate, inject";

// A config that would be right but for `rest`, which begins in line 2.
std::string With(const std::string& rest) { return "data: {path: data}\n" + rest; }

const std::vector<Case>& FileCases() {
  static const auto* const cases = new std::vector<Case>{
      {"UnknownField", "data:\n  path: data\n  batchsize: 2\n",
       "c.yaml:3: unknown field 'batchsize' in data; did you mean 'batch_size'?"},
      {"UnknownFieldInUpperCase", "Data: {path: data}\n",
       "c.yaml:1: unknown field 'Data' at the top; did you mean 'data'?"},
      {"UnknownFieldOfAnotherSection", With("lr: 0.1\n"),
       "c.yaml:2: unknown field 'lr' at the top; did you mean 'optimizer.lr'?"},
      {"UnknownFieldLikeNoOther", With("qqqqqq: 0.1\n"),
       absl::StrCat("c.yaml:2: unknown field 'qqqqqq' at the top; there are ", kTopFields)},
      {"UnknownFieldInDepth", "data:\n  path: data\n  augment:\n    flipp: true\n",
       "c.yaml:4: unknown field 'flipp' in data.augment; did you mean 'flip'?"},
      {"UnknownFieldInListItem", With("optimizer:\n  groups:\n    - pattern: x\n      lrscale: 2\n"),
       "c.yaml:5: unknown field 'lrscale' in optimizer.groups[0]; did you mean 'lr_scale'?"},
      {"UnknownFieldWithControlCharacters", With("\"a\\nb\\e\": 1\n"),
       absl::StrCat("c.yaml:2: unknown field 'a\\nb\\x1b' at the top; there are ", kTopFields)},
      {"MergeKey", "data: &d {path: data}\nrun:\n  <<: *d\n",
       "c.yaml:3: unknown field '<<' in run; merge keys are not supported, so write the fields out"},
      {"FieldNameIsAList", With("? [1, 2]\n: 3\n"), "c.yaml:2: the name of a field must be a word, not a list"},
      {"FieldNameIsNothing", With("~: 3\n"), "c.yaml:2: the name of a field must be a word, not nothing"},
      {"TextForWholeNumber", With("threads: two\n"), "c.yaml:2: threads must be a whole number, not 'two'"},
      {"QuotedNumber", With("threads: \"2\"\n"),
       "c.yaml:2: threads must be a whole number, not the text '2'; take the quotes away"},
      {"FractionForWholeNumber", With("threads: 1.5\n"), "c.yaml:2: threads must be a whole number, not '1.5'"},
      {"ExponentForWholeNumber", With("threads: 1e3\n"), "c.yaml:2: threads must be a whole number, not '1e3'"},
      {"HexForWholeNumber", With("threads: 0x10\n"), "c.yaml:2: threads must be a whole number, not '0x10'"},
      {"TextForNumber", With("optimizer:\n  lr: fast\n"), "c.yaml:3: optimizer.lr must be a number, not 'fast'"},
      {"ListForNumber", With("optimizer:\n  lr: [0.1]\n"), "c.yaml:3: optimizer.lr must be a number, not a list"},
      {"MapForNumber", With("optimizer:\n  lr: {a: 1}\n"), "c.yaml:3: optimizer.lr must be a number, not a map"},
      {"MapForText", With("run: {name: {a: 1}}\n"), "c.yaml:2: run.name must be text, not a map"},
      {"WordForBool", With("optimizer: {nesterov: yes}\n"),
       "c.yaml:2: optimizer.nesterov must be true or false, not 'yes'"},
      {"NumberForSection", With("optimizer: 5\n"), "c.yaml:2: optimizer must be a map of fields, not '5'"},
      {"ListForSection", With("optimizer: [lr]\n"), "c.yaml:2: optimizer must be a map of fields, not a list"},
      {"NumberForList", With("model: {hidden: 128}\n"), "c.yaml:2: model.hidden must be a list, as […, …], not '128'"},
      {"MapForList", With("inject: {part: forward, delay: 1}\n"),
       "c.yaml:2: inject must be a list, as [{…}, {…}], not a map"},
      {"NumberForItem", With("inject:\n  - 5\n"), "c.yaml:3: inject[0] must be a map of fields, not '5'"},
      {"ListInList", With("model:\n  hidden: [1, [2]]\n"),
       "c.yaml:3: model.hidden[1] must be a whole number, not a list"},
      {"NoValue", With("optimizer:\n  lr:\nthreads: 1\n"), "c.yaml:3: optimizer.lr has no value; it must be a number"},
      {"NoValueAtTheEnd", With("threads:\n\n\n"), "c.yaml:2: threads has no value; it must be a whole number"},
      {"NullForList", With("metrics: ~\n"), "c.yaml:2: metrics must be a list, as […, …], not nothing"},
      {"BelowRange", "data:\n  path: data\n  batch_size: 0\n",
       "c.yaml:3: data.batch_size must be from 1 to 16777216, not '0'"},
      {"AboveRange", With("threads: 1025\n"), "c.yaml:2: threads must be from 0 to 1024, not '1025'"},
      {"FarAboveRange", With("threads: 99999999999999999999\n"),
       "c.yaml:2: threads must be from 0 to 1024, not '99999999999999999999'"},
      {"NegativeSeed", With("run: {seed: -1}\n"),
       "c.yaml:2: run.seed must be from 0 to 18446744073709551615, not '-1'"},
      {"SeedBeyondSixtyFourBits", With("run: {seed: 18446744073709551616}\n"),
       "c.yaml:2: run.seed must be from 0 to 18446744073709551615, not '18446744073709551616'"},
      {"OpenRange", With("convergence: {max_steps: -1}\n"),
       "c.yaml:2: convergence.max_steps must be from 0 to 9223372036854775807, not '-1'"},
      {"SmallestNumber", "data: {path: data, normalize: {std: 0}}\n",
       "c.yaml:1: data.normalize.std must be 1e-12 or more, not '0'"},
      {"OutOfRangeInList", With("model: {hidden: [64, 0]}\n"),
       "c.yaml:2: model.hidden[1] must be from 1 to 1048576, not '0'"},
      {"OtherSchema", With("schema_version: 2\n"), "c.yaml:2: schema_version must be 1, not '2'"},
      {"NaN", With("optimizer: {lr: nan}\n"), "c.yaml:2: optimizer.lr must be a finite number, not 'nan'"},
      {"Infinity", With("optimizer: {lr: inf}\n"), "c.yaml:2: optimizer.lr must be a finite number, not 'inf'"},
      {"YamlInfinity", With("convergence: {target: .inf}\n"),
       "c.yaml:2: convergence.target must be a number, not '.inf'"},
      {"Overflow", With("optimizer: {lr: 1e999}\n"), "c.yaml:2: optimizer.lr must be a finite number, not '1e999'"},
      {"DurationWithWords", With("communication: {timeout: 5 minutes}\n"),
       "c.yaml:2: communication.timeout must be a time, as 30, 30s, 5m, 2h or 1d, not '5 minutes'"},
      {"DurationOfAnotherUnit", With("communication: {timeout: 5w}\n"),
       "c.yaml:2: communication.timeout must be a time, as 30, 30s, 5m, 2h or 1d, not '5w'"},
      {"DurationOutOfRange", With("communication: {timeout: 2d}\n"),
       "c.yaml:2: communication.timeout must be from 0.1 to 86400 s, not '2d'"},
      {"UnknownChoice", With("model: {name: resnet}\n"),
       "c.yaml:2: model.name must be mlp, logistic, wide, cnn or torchscript, not 'resnet'"},
      {"ChoiceInUpperCase", With("model: {name: CNN}\n"),
       "c.yaml:2: model.name must be mlp, logistic, wide, cnn or torchscript, not 'CNN'; did you mean 'cnn'?"},
      {"MisspeltChoice", With("schedule: {name: cosin}\n"),
       "c.yaml:2: schedule.name must be constant, step, cosine or linear, not 'cosin'; did you mean 'cosine'?"},
      {"ChoiceByNumber", With("device: 0\n"), "c.yaml:2: device must be cpu, cuda or auto, not '0'"},
      {"UnknownChoiceInList", With("metrics: [accuracy, f1]\n"),
       "c.yaml:2: metrics[1] must be accuracy, top5, loss, perplexity or mae, not 'f1'"},
      {"PlannedFormat", "data: {path: data, format: csv}\n",
       "c.yaml:1: data.format 'csv' is not obeyed by this version yet; choose idx"},
      {"PlannedList", With("communication: {interfaces: [eth0]}\n"),
       "c.yaml:2: communication.interfaces is not obeyed by this version yet; leave it empty"},
      {"RuleWithoutPeriod", With("communication: {period_rule: adaptive}\n"),
       "c.yaml:2: communication.period_rule is set, but nothing obeys it without communication.period above 1; take it "
       "away"},
      {"MomentumWithoutPeriod", With("communication: {average_momentum: true}\n"),
       "c.yaml:2: communication.average_momentum is set, but nothing obeys it without communication.period above 1; "
       "take it away"},
      {"StepsWithoutPostLocal", With("communication: {period: 4, post_local_steps: 100}\n"),
       "c.yaml:2: communication.post_local_steps is set, but nothing obeys it without communication.period_rule "
       "post_local; take it away"},
      {"CompressedParameters", With("communication: {algorithm: ring, period: 4, compression: bf16}\n"),
       "c.yaml:2: communication.compression is bf16, but with communication.period 4 parameters are averaged, which go "
       "as they are; set one of the two back"},
      {"SetTwice", "data:\n  path: data\n  seed: 1\n",
       "c.yaml:3: unknown field 'seed' in data; did you mean 'run.seed'?"},
      {"FieldTwice", With("threads: 1\nworkers: 2\nthreads: 2\n"),
       "c.yaml:4: threads is set twice, first in line 2; keep one"},
      {"SectionTwice", With("data: {batch_size: 3}\n"), "c.yaml:2: data is set twice, first in line 1; keep one"},
      {"Tab", "data:\n  path: data\nrun:\n\tname: x\n", "c.yaml:4: a tab in the indentation; YAML takes spaces only"},
      {"OpenBracket", "data: {path: data\n",
       "c.yaml:2: not valid YAML: end of map flow not found; check the indentation, colons, quotes and brackets here"},
      {"OpenQuote", With("run: {name: \"x}\n"),
       "c.yaml:3: not valid YAML: end of map flow not found; check the indentation, colons, quotes and brackets here"},
      {"UnevenIndentation", With("run:\n    name: x\n  seed: 2\n"),
       "c.yaml:4: not valid YAML: end of map not found; check the indentation, colons, quotes and brackets here"},
      {"UnknownAnchor", "data: *d\n",
       "c.yaml:1: not valid YAML: the referenced anchor is not defined; check the indentation, colons, quotes and "
       "brackets here"},
      {"TooDeep", With("model: " + std::string(100000, '[')),
       "c.yaml:2: not valid YAML: nested too deep; check the indentation, colons, quotes and brackets here"},
      {"TwoDocuments", With("---\nthreads: 2\n"), "c.yaml:3: a second document begins here; keep one"},
      {"NotAMap", "- data\n", "c.yaml:1: a config must be a map of fields, as data: {path: …}, not a list"},
      {"JustAWord", "\n\nhello\n", "c.yaml:3: a config must be a map of fields, as data: {path: …}, not 'hello'"},
      {"TooLarge", With("#" + std::string(1 << 20, 'x')),
       "c.yaml: larger than 1 MB, which no config is; give a YAML config"},
      {"NotUtf8", With("# caf\xe9\n"), "c.yaml:2: not UTF-8 text; give a YAML config, saved as UTF-8"},
      {"ControlCharacters", With("run: {name: \"a\\tb\"}\n"),
       "c.yaml:2: run.name must be text of one line without control characters, not 'a\\tb'"},
      {"Empty", "", "c.yaml: data.path is not set; set it to the folder with the data, or give --set data.path=FOLDER"},
      {"OnlyComments", "# data: {path: data}\n",
       "c.yaml: data.path is not set; set it to the folder with the data, or give --set data.path=FOLDER"},
      {"EmptyPath", "data:\n  path: ''\n",
       "c.yaml:2: data.path is not set; set it to the folder with the data, or give --set data.path=FOLDER"},
      {"MissingPath", "data:\n  path: nowhere\n",
       "c.yaml:2: data.path does not exist: 'FOLDER/nowhere'; correct the path"},
      {"MissingGlob", "data: {path: data/*.gz}\n",
       "c.yaml:1: data.path does not exist: 'FOLDER/data/*.gz'; correct the path"},
      {"MissingModel", With("model:\n  init_from: w.safetensors\n"),
       "c.yaml:3: model.init_from does not exist: 'FOLDER/w.safetensors'; correct the path"},
      {"ItemIncomplete", With("inject:\n  - {part: forward, delay: 1}\n  - {part: forward}\n"),
       "c.yaml:4: inject[1] has no 'delay'; add it: how long"},
      // Rules over several fields.
      {"NameIsAPath", With("run: {name: a/b}\n"),
       "c.yaml:2: run.name must be 1 to 100 bytes without '/' and not begin with '.', since a folder is named after "
       "it, "
       "not 'a/b'"},
      {"BatchBelowWorkers", "data: {path: data, global_batch_size: 3}\nworkers: 4\n",
       "c.yaml:1: data.global_batch_size must be at least the number of workers, 4, not 3; give a larger one or fewer "
       "workers"},
      {"NoiseOnIntegers", "data:\n  path: data\n  input: as_is\n  augment: {noise: 0.1}\n",
       "c.yaml:4: data.augment.noise needs data.input float32; set one of the two otherwise"},
      {"ScriptWithoutFile", With("model: {name: torchscript}\n"),
       "c.yaml:2: model.name is torchscript, but no file is given; set model.torchscript to it"},
      {"ScriptAndName", With("model:\n  name: cnn\n  torchscript: data\n"),
       "c.yaml:3: model.name is cnn, but model.torchscript is set; take one of the two away"},
      {"LossScriptWithoutFile", With("loss: {name: torchscript}\n"),
       "c.yaml:2: loss.name is torchscript, but no file is given; set loss.torchscript to it"},
      {"LossScriptAndName", With("loss: {name: mse, torchscript: data}\n"),
       "c.yaml:2: loss.name is mse, but loss.torchscript is set; take one of the two away"},
      {"AccuracyOfValues", With("loss: {name: mse}\nmetrics: [accuracy]\n"),
       "c.yaml:3: metrics[0] is accuracy, which has no meaning for loss mse; choose loss or mae"},
      {"DecisionByAMetricWithoutMeaning", With("loss: {name: bce}\nconvergence:\n  metric: perplexity\n"),
       "c.yaml:4: convergence.metric is perplexity, which has no meaning for loss bce; choose accuracy or loss"},
      {"MetricTwice", With("metrics:\n  - loss\n  - loss\n"), "c.yaml:4: metrics[1] is loss a second time; keep one"},
      {"TargetInPercent", With("convergence: {target: 97}\n"),
       "c.yaml:2: convergence.target must be from 0 to 1 for accuracy, as 0.97, not 97"},
      {"HiddenSizesOfAModelWithoutThem", With("model:\n  name: cnn\n  hidden: [5]\n"),
       "c.yaml:4: model.hidden is set, but nothing obeys it without model.name mlp or wide; take it away"},
      {"MomentumForAdamw", With("optimizer: {name: adamw, momentum: 0.5}\n"),
       "c.yaml:2: optimizer.momentum is set, but nothing obeys it without optimizer.name sgd; take it away"},
      {"BetasForSgd", With("optimizer: {beta2: 0.5}\n"),
       "c.yaml:2: optimizer.beta2 is set, but nothing obeys it without optimizer.name adamw; take it away"},
      {"CompressionByTheLibrary", With("communication: {algorithm: mpi, compression: bf16}\n"),
       "c.yaml:2: communication.compression is bf16, but with communication.algorithm mpi the MPI library sends "
       "gradients as they are; set the algorithm to auto, ring or hierarchical, or take compression away"},
      {"CompressionOfWhatIsNotSent", With("communication: {algorithm: shared, compression: topk}\n"),
       "c.yaml:2: communication.compression is topk, but with communication.algorithm shared nothing is sent between "
       "hosts; set the algorithm to auto, ring or hierarchical, or take compression away"},
      {"RatioWithoutTopK", With("communication: {algorithm: ring, compression: fp16, topk_ratio: 0.1}\n"),
       "c.yaml:2: communication.topk_ratio is set, but nothing obeys it without communication.compression topk; take "
       "it away"},
      {"RankWithoutPowerSgd", With("communication:\n  powersgd_rank: 2\n"),
       "c.yaml:3: communication.powersgd_rank is set, but nothing obeys it without communication.compression powersgd; "
       "take it away"},
      {"DecayOfAConstantRate", With("schedule: {min_lr: 0.01}\n"),
       "c.yaml:2: schedule.min_lr is set, but nothing obeys it without schedule.name cosine or linear; take it away"},
      {"MatchWithoutWeights", With("model: {init_match: matching}\n"),
       "c.yaml:2: model.init_match is set, but nothing obeys it without model.init_from; take it away"},
      {"GroupThatChangesNothing", With("optimizer:\n  groups:\n    - {pattern: x}\n"),
       "c.yaml:4: optimizer.groups[0] changes nothing; give it weight_decay or lr_scale, or take it away"},
      {"NesterovWithoutMomentum", With("optimizer:\n  momentum: 0\n  nesterov: true\n"),
       "c.yaml:4: optimizer.nesterov needs optimizer.momentum above 0; set it, as 0.9, or take nesterov away"},
      {"NesterovOfAdamw", With("optimizer: {name: adamw, nesterov: true}\n"),
       "c.yaml:2: optimizer.nesterov is for sgd, not for adamw; take it away or set optimizer.name to sgd"},
      {"EmptyPattern", With("optimizer:\n  groups:\n  - pattern: ''\n"),
       "c.yaml:4: optimizer.groups[0].pattern is empty and matches nothing; give names with * and ?, as *.bias"},
      {"DecayUpwards", With("optimizer: {lr: 0.01}\nschedule: {name: cosine, min_lr: 0.1}\n"),
       "c.yaml:3: schedule.min_lr must be at most optimizer.lr, 0.01, where the decay begins, not 0.1"},
      {"TuningWithoutBuckets", With("communication: {algorithm: shared, bucket_tuning: auto}\n"),
       "c.yaml:2: communication.bucket_tuning is set, but nothing obeys it without communication.algorithm auto, ring, "
       "hierarchical or mpi; take it away"},
      {"InjectBackwards", With("inject:\n- {part: other, delay: 1, first_step: 5, last_step: 4}\n"),
       "c.yaml:3: inject[0].last_step must be 0 or at least first_step, 5, not 4"},
  };
  return *cases;
}

// GoogleTest prints a case by it.
std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.yaml.substr(0, 200); }

std::string NameOf(const testing::TestParamInfo<Case>& info) { return info.param.name; }

class ConfigErrorTest : public testing::TestWithParam<Case> {
 protected:
  ConfigErrorTest() { std::filesystem::create_directories(folder_ / "data"); }
  std::string Expected() const { return absl::StrReplaceAll(GetParam().message, {{"FOLDER/", folder_.path() + "/"}}); }

  const TempFolder folder_;
  const WorkingFolder working_{folder_.path()};
};

TEST_P(ConfigErrorTest, IsOneLineThatSaysWhereWhatAndWhatToDo) {
  const auto config = ParseConfig(GetParam().yaml, "c.yaml", {});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().message(), Expected());
  EXPECT_EQ(config.status().message().find('\n'), absl::string_view::npos);
  const bool missing = absl::StrContains(GetParam().message, "does not exist");
  EXPECT_EQ(config.status().code(), missing ? absl::StatusCode::kNotFound : absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(File, ConfigErrorTest, testing::ValuesIn(FileCases()), NameOf);

// `yaml` is the override here.
class OverrideErrorTest : public ConfigErrorTest {};

const std::vector<Case>& OverrideCases() {
  static const auto* const cases = new std::vector<Case>{
      {"UnknownField", "data.batchsize=2",
       "--set data.batchsize: unknown field 'batchsize' in data; did you mean 'batch_size'?"},
      {"UnknownSection", "dta.path=2", "--set dta.path: unknown field 'dta' at the top; did you mean 'data'?"},
      {"EmptyName", "data..path=2",
       "--set data..path: unknown field '' in data; there are path, format, batch_size, global_batch_size, input, "
       "shape, "
       "normalize, augment, prefetch, shuffle"},
      {"Section", "data=2", "--set data: is a section; set its fields one by one, as data.path=…"},
      {"BelowAValue", "threads.x=2", "--set threads.x: threads has no fields; set it itself, as threads=…"},
      {"ListItem", "inject[0].rank=2", "--set inject[0].rank: inject is a list; give all of it, as inject=[…]"},
      {"BelowAList", "optimizer.groups.pattern=x",
       "--set optimizer.groups.pattern: optimizer.groups is a list; give all of it, as optimizer.groups=[…]"},
      {"WrongType", "threads=two", "--set threads: must be a whole number, not 'two'"},
      {"OutOfRange", "threads=-1", "--set threads: must be from 0 to 1024, not '-1'"},
      {"NoValue", "threads=", "--set threads: has no value; it must be a whole number"},
      {"UnknownChoice", "model.name=cn",
       "--set model.name: must be mlp, logistic, wide, cnn or torchscript, not 'cn'; did you mean 'cnn'?"},
      {"Planned", "communication.interfaces=[eth0]",
       "--set communication.interfaces: is not obeyed by this version yet; leave it empty"},
      {"PlannedChoice", "data.format=csv", "--set data.format: 'csv' is not obeyed by this version yet; choose idx"},
      {"NotAList", "model.hidden=5", "--set model.hidden: must be a list, as […, …], not '5'"},
      {"ItemWrong", "model.hidden=[5, x]", "--set model.hidden: model.hidden[1] must be a whole number, not 'x'"},
      {"NotYaml", "model.hidden=[5",
       "--set model.hidden: '[5' is not valid YAML: end of sequence flow not found; check quotes and brackets"},
      {"MissingPath", "data.path=nowhere", "--set data.path: does not exist: 'FOLDER/nowhere'; correct the path"},
      {"NotUtf8", "run.name=caf\xe9", "--set run.name:1: not UTF-8 text; give a YAML config, saved as UTF-8"},
      {"Rule", "convergence.target=97", "--set convergence.target: must be from 0 to 1 for accuracy, as 0.97, not 97"},
  };
  return *cases;
}

TEST_P(OverrideErrorTest, NamesTheOverride) {
  const auto override = ParseOverride(GetParam().yaml);
  ASSERT_TRUE(override.ok()) << override.status();
  const auto config = ParseConfig("data: {path: data}", "c.yaml", {*override});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().message(), Expected());
}

INSTANTIATE_TEST_SUITE_P(Override, OverrideErrorTest, testing::ValuesIn(OverrideCases()), NameOf);

TEST(ConfigTest, AnOverrideNeedsAFieldAndAValue) {
  EXPECT_EQ(ParseOverride("threads").status().message(), "--set 'threads': no '='; write --set path.to.field=value");
  EXPECT_EQ(ParseOverride("=3").status().message(), "--set '=3': no field before '='; write --set path.to.field=value");
  EXPECT_EQ(ParseOverride("run.name=a=b")->value, "a=b");
}

TEST(ConfigTest, AMissingConfigIsNamed) {
  const TempFolder folder;
  const auto config = LoadConfig(folder / "none.yaml", {});
  EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(config.status().message(),
            absl::StrCat(folder / "none.yaml", ": No such file or directory; give the path of a YAML config"));
  EXPECT_EQ(
      LoadConfig(folder.path(), {}).status(),
      absl::InvalidArgumentError(absl::StrCat(folder.path(), ": Is a directory; give the path of a YAML config")));
}

TEST(ConfigTest, AnEndlessConfigIsCutOff) {
  const auto config = LoadConfig("/dev/zero", {});
  EXPECT_EQ(config.status().message(), "/dev/zero: larger than 1048576 bytes; give the path of a YAML config");
}

}  // namespace
}  // namespace lockstep
