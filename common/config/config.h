#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// `--set path.to.field=value`, the value as it would stand in YAML.
struct Override {
  std::string path;
  std::string value;
};

// Parses "path=value". InvalidArgument: no '=' or an empty path.
absl::StatusOr<Override> ParseOverride(const std::string& text);

// A config as written: parsed, checked against the schema (names, types, ranges, choices, nothing that is `planned`),
// defaults filled in, relative paths made absolute (from the YAML: against the file's folder if they exist there, else
// the working folder; from an override: against the working folder). Errors are one line each with file, line, what
// and what to do: `mnist.yaml:12: unknown field 'batchsize' in data; did you mean 'batch_size'?`;
// from an override `--set data.batchsize: unknown field …`. InvalidArgument, or NotFound for a file that must exist.
absl::StatusOr<RunConfig> LoadConfig(const std::string& path, const std::vector<Override>& overrides);
absl::StatusOr<RunConfig> ParseConfig(const std::string& yaml, const std::string& file_name,
                                      const std::vector<Override>& overrides);

// A run's own config.yaml: checked like any other, but no path in it has to exist here, since the run may have been
// made on another machine. What a resume starts from, and what reads a run that is over.
absl::StatusOr<RunConfig> ReadRunConfig(const std::string& path);

// Applies overrides to a run's own config on a resume: only fields marked `resumable`, else InvalidArgument that says
// why: `--set optimizer.lr: cannot change on a resume, since it changes what is trained; …`.
absl::Status OverrideForResume(const std::vector<Override>& overrides, RunConfig* config);

// Rules over several fields, which no single field's range can state. LoadConfig calls it. InvalidArgument begins with
// the setting's path.
absl::Status CheckConfig(const RunConfig& config);

// What the data say, for Resolve.
struct DataFacts {
  int64_t train_samples = 0;
  int64_t inputs = 0;   // values a sample
  int64_t outputs = 0;  // classes, or values of a target
};

// Fills in what follows from the data and the number of workers: global_batch_size (kept if set; must be ≥ workers),
// model.inputs and outputs, hidden sizes, the schedule's decay_epochs, metrics. Idempotent.
absl::Status ResolveConfig(const DataFacts& facts, int workers, RunConfig* config);

// The same error with the place where the setting stands before it, for one whose message begins with a setting's path,
// as those of ResolveConfig: `mnist.yaml:12: schedule.warmup_steps is 30, …`. Others are given back as they are.
absl::Status AtItsPlace(const absl::Status& error, const std::string& config_path,
                        const std::vector<Override>& overrides);

// YAML that ParseConfig reads back to the same message; fields in the proto's order.
std::string ConfigToYaml(const RunConfig& config);

// XXH3-128 over all that changes what is trained (fields not `resumable`), as 32 hexadecimal digits. Of a path only
// whether there is one counts, since a run may be copied to another machine; a field at its default does not count, so
// that a version with more settings has the same digest.
std::string ConfigDigest(const RunConfig& config);

// Every setting with type, default, range and meaning, for `lockstep run --settings`: at most 100 columns.
std::string DescribeSettings();

// Dotted paths of every setting that `--set` takes, in the proto's order; for shell completion.
std::vector<std::string> SettingNames();

// "accuracy" of METRIC_ACCURACY, for any enum of RunConfig: lower case, without the enum's prefix.
std::string EnumWord(const google::protobuf::EnumDescriptor* type, int value);

}  // namespace lockstep
