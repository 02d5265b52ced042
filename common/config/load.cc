#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "common/config/parse.h"
#include "common/config/rules.h"
#include "common/config/schema.h"
#include "common/config/text.h"

namespace lockstep {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int64_t kMaxConfigBytes = 1 << 20;

absl::Status NoSuchPath(const Sources& sources, const std::string& file_name, const std::string& path,
                        const std::string& predicate) {
  return absl::NotFoundError(SettingError(sources, file_name, path, predicate).message());
}

// Makes a path absolute. What stands in the file is looked for in the file's folder first.
absl::Status ResolvePath(const Sources& sources, const std::string& file_name, const std::string& path,
                         std::string* value) {
  const auto source = sources.find(path);
  const bool from_file = source == sources.end() || !source->second.override;
  const std::string in_working_folder = AbsolutePath("", *value);
  const std::string folder = std::filesystem::path(file_name).parent_path().string();
  const std::string beside_file = from_file ? AbsolutePath(folder, *value) : in_working_folder;
  for (const std::string& candidate : {beside_file, in_working_folder}) {
    if (!PathExists(candidate)) continue;
    *value = candidate;
    return absl::OkStatus();
  }
  if (beside_file == in_working_folder) {
    return NoSuchPath(sources, file_name, path,
                      absl::StrCat("does not exist: ", Quote(beside_file), "; correct the path"));
  }
  return NoSuchPath(sources, file_name, path,
                    absl::StrCat("does not exist: neither ", Quote(beside_file), ", beside the config, nor ",
                                 Quote(in_working_folder), ", in the working folder; correct the path"));
}

// Of every field that names a file or folder and is set.
absl::Status ResolvePaths(const Sources& sources, const std::string& file_name, const std::string& prefix,
                          Message* message) {
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    const google::protobuf::Reflection* reflection = message->GetReflection();
    const std::string path = prefix + field->name();
    if (IsSection(field)) {
      RETURN_IF_ERROR(ResolvePaths(sources, file_name, path + ".", reflection->MutableMessage(message, field)));
    } else if (SettingOf(field).must_exist()) {
      std::string value = reflection->GetString(*message, field);
      if (value.empty()) continue;
      RETURN_IF_ERROR(ResolvePath(sources, file_name, path, &value));
      reflection->SetString(message, field, value);
    }
  }
  return absl::OkStatus();
}

enum class Paths { kMustExist, kAsWritten };

absl::StatusOr<RunConfig> Parse(const std::string& yaml, const std::string& file_name,
                                const std::vector<Override>& overrides, Paths paths) {
  RunConfig config;
  Sources sources;
  SetDefaults(&config);
  RETURN_IF_ERROR(ReadYaml(yaml, file_name, &config, &sources));
  for (const Override& override : overrides) RETURN_IF_ERROR(ApplyOverride(override, &config, &sources));
  FillDerived(sources, &config);
  if (const auto found = FindViolation(config)) {
    return SettingError(sources, file_name, found->path, found->predicate);
  }
  if (paths == Paths::kMustExist) RETURN_IF_ERROR(ResolvePaths(sources, file_name, "", &config));
  return config;
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  absl::StatusOr<std::string> yaml = FileSystem::Real()->Read(path, kMaxConfigBytes);
  if (yaml.ok()) return yaml;
  const absl::string_view what = yaml.status().message();
  return absl::Status(
      absl::IsNotFound(yaml.status()) ? absl::StatusCode::kNotFound : absl::StatusCode::kInvalidArgument,
      absl::StrCat(what, "; give the path of a YAML config"));
}

absl::Status CheckMayChange(const Override& override) {
  ASSIGN_OR_RETURN(const FieldDescriptor* field, FindLeaf(override.path));
  if (SettingOf(field).resumable()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--set ", override.path,
                   ": cannot change on a resume, since it changes what is trained; leave it out, or start a new run"));
}

}  // namespace

absl::StatusOr<Override> ParseOverride(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("--set ", Quote(text), ": no '='; write --set path.to.field=value"));
  }
  if (equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", Quote(text), ": no field before '='; write --set path.to.field=value"));
  }
  return Override{text.substr(0, equals), text.substr(equals + 1)};
}

absl::StatusOr<RunConfig> ParseConfig(const std::string& yaml, const std::string& file_name,
                                      const std::vector<Override>& overrides) {
  return Parse(yaml, file_name, overrides, Paths::kMustExist);
}

absl::StatusOr<RunConfig> LoadConfig(const std::string& path, const std::vector<Override>& overrides) {
  ASSIGN_OR_RETURN(const std::string yaml, ReadText(path));
  return ParseConfig(yaml, path, overrides);
}

absl::Status AtItsPlace(const absl::Status& error, const std::string& config_path,
                        const std::vector<Override>& overrides) {
  const auto [path, predicate] =
      std::pair<std::string, std::string>(absl::StrSplit(error.message(), absl::MaxSplits(' ', 1)));
  if (error.ok() || !FindLeaf(path).ok()) return error;
  RunConfig config;
  Sources sources;
  SetDefaults(&config);
  ASSIGN_OR_RETURN(const std::string yaml, ReadText(config_path));
  RETURN_IF_ERROR(ReadYaml(yaml, config_path, &config, &sources));
  for (const Override& override : overrides) RETURN_IF_ERROR(ApplyOverride(override, &config, &sources));
  return SettingError(sources, config_path, path, predicate);
}

absl::StatusOr<RunConfig> ReadRunConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string yaml, ReadText(path));
  return Parse(yaml, path, {}, Paths::kAsWritten);
}

absl::Status OverrideForResume(const std::vector<Override>& overrides, RunConfig* config) {
  RunConfig changed = *config;
  Sources sources;
  for (const Override& override : overrides) {
    RETURN_IF_ERROR(CheckMayChange(override));
    RETURN_IF_ERROR(ApplyOverride(override, &changed, &sources));
  }
  const int metrics = changed.metrics_size();
  CompleteMetrics(&changed);
  if (changed.metrics_size() != metrics) {
    return SettingError(sources, "", "convergence.metric",
                        "must be one of the run's metrics, since what was best so far is known by them alone");
  }
  if (const auto found = FindViolation(changed)) return SettingError(sources, "", found->path, found->predicate);
  if (sources.count("data.path") > 0) {
    RETURN_IF_ERROR(ResolvePath(sources, "", "data.path", changed.mutable_data()->mutable_path()));
  }
  *config = std::move(changed);
  return absl::OkStatus();
}

}  // namespace lockstep
