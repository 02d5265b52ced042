#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "common/config/config.h"

namespace lockstep {

// Where a value was written: "mnist.yaml:12" or "--set data.path".
struct Source {
  std::string where;
  bool override = false;
};
// By dotted path, of every leaf that was written; within a list by index too: "optimizer.groups[0].pattern".
using Sources = std::map<std::string, Source>;

// What is wrong with the setting at `path`, and what to do. From a file the message begins with the path, from an
// override it follows `--set path:`, and without a source it begins with `file_name`, when there is one.
absl::Status SettingError(const Sources& sources, const std::string& file_name, const std::string& path,
                          const std::string& predicate);

// Reads a whole YAML document into `config`, which holds the defaults. Paths of files stay as written.
absl::Status ReadYaml(const std::string& yaml, const std::string& file_name, RunConfig* config, Sources* sources);

// Puts one override into `config`; what the field held before is gone.
absl::Status ApplyOverride(const Override& override, RunConfig* config, Sources* sources);

// The field that a dotted path names. InvalidArgument: there is none, or it is a section.
absl::StatusOr<const google::protobuf::FieldDescriptor*> FindLeaf(const std::string& path);

}  // namespace lockstep
