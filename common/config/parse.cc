#include "common/config/parse.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/config/schema.h"
#include "common/config/text.h"

namespace lockstep {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kMaxYamlBytes = 1 << 20;

std::string Join(const std::string& parent, const std::string& name) {
  return parent.empty() ? name : absl::StrCat(parent, ".", name);
}

// What to say of a name that is no field: the field that was meant, else one of that name elsewhere, else what there
// is.
std::string UnknownField(const Descriptor* type, const std::string& parent, const std::string& name) {
  const std::string unknown =
      absl::StrCat("unknown field ", Quote(name), parent.empty() ? " at the top" : absl::StrCat(" in ", parent));
  if (name == "<<") return absl::StrCat(unknown, "; merge keys are not supported, so write the fields out");
  if (const std::string near = DidYouMean(name, FieldNames(type)); !near.empty()) return unknown + near;
  std::string elsewhere;
  VisitLeaves(RunConfig::descriptor(), [&](const std::string& path, const FieldDescriptor* field) {
    if (field->name() == name && elsewhere.empty()) elsewhere = path;
  });
  if (!elsewhere.empty()) return absl::StrCat(unknown, "; did you mean '", elsewhere, "'?");
  return absl::StrCat(unknown, "; there are ", absl::StrJoin(FieldNames(type), ", "));
}

// A word for what stands where something else should.
std::string Found(const YAML::Node& node) {
  if (node.IsMap()) return "a map";
  if (node.IsSequence()) return "a list";
  if (node.IsNull()) return "nothing";
  return Quote(node.Scalar());
}

// Walks a YAML tree along the schema. The schema is not recursive, so neither an alias that contains itself nor deep
// nesting leads anywhere.
class Reader {
 public:
  // Exactly one of the two is the source of every value: a file's lines, or one override.
  Reader(std::string file_name, const Override* override, Sources* sources)
      : file_name_(std::move(file_name)), override_(override), sources_(sources) {}

  absl::Status ReadMap(const YAML::Node& node, const std::string& path, Message* message);
  absl::Status ReadField(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                         Message* message);

 private:
  absl::Status ReadList(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                        Message* message);
  absl::Status ReadItem(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                        Message* message);
  absl::Status ReadScalar(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                          Message* message);
  absl::Status CheckItemComplete(const YAML::Node& node, const std::string& path, const Message& item);
  absl::Status CheckPlanned(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                            const Message& message);

  // Of a list that is given again.
  void ForgetItems(const std::string& path) {
    sources_->erase(sources_->lower_bound(path + "["), sources_->lower_bound(path + "\\"));
  }
  std::string Where(const YAML::Node& node) const {
    if (override_ != nullptr) return absl::StrCat("--set ", override_->path);
    return absl::StrCat(file_name_, ":", node.Mark().line + 1);
  }
  absl::Status Error(const YAML::Node& node, const std::string& message) const {
    return absl::InvalidArgumentError(absl::StrCat(Where(node), ": ", message));
  }
  absl::Status Wrong(const YAML::Node& node, const std::string& path, absl::string_view predicate) const {
    const bool said = override_ != nullptr && override_->path == path;
    return Error(node, absl::StrCat(said ? "" : path + " ", predicate));
  }

  const std::string file_name_;
  const Override* const override_;
  Sources* const sources_;
};

absl::Status Reader::ReadMap(const YAML::Node& node, const std::string& path, Message* message) {
  std::map<std::string, int> lines;
  for (const auto& pair : node) {
    if (!pair.first.IsScalar()) {
      return Error(pair.first, absl::StrCat("the name of a field must be a word, not ", Found(pair.first)));
    }
    const std::string& name = pair.first.Scalar();
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(name);
    if (field == nullptr) return Error(pair.first, UnknownField(message->GetDescriptor(), path, name));
    const std::string field_path = Join(path, name);
    const auto [first, once] = lines.emplace(name, pair.first.Mark().line + 1);
    if (!once) {
      return Wrong(pair.first, field_path, absl::StrCat("is set twice, first in line ", first->second, "; keep one"));
    }
    // An empty value has no place of its own, and an alias has its anchor's: the name's line is where to look.
    (*sources_)[field_path] = {Where(pair.first), override_ != nullptr};
    RETURN_IF_ERROR(ReadField(pair.second, field_path, field, message));
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadField(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                               Message* message) {
  if (field->is_repeated()) {
    message->GetReflection()->ClearField(message, field);
    ForgetItems(path);
    RETURN_IF_ERROR(ReadList(node, path, field, message));
  } else if (IsSection(field)) {
    if (node.IsNull()) return absl::OkStatus();  // every field of it is commented out
    if (!node.IsMap()) return Wrong(node, path, absl::StrCat("must be a map of fields, not ", Found(node)));
    return ReadMap(node, path, message->GetReflection()->MutableMessage(message, field));
  } else if (node.IsNull() && field->has_presence()) {
    message->GetReflection()->ClearField(message, field);
  } else {
    RETURN_IF_ERROR(ReadScalar(node, path, field, message));
  }
  return CheckPlanned(node, path, field, *message);
}

absl::Status Reader::ReadList(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                              Message* message) {
  if (!node.IsSequence()) {
    return Wrong(
        node, path,
        absl::StrCat("must be a list, as ", field->message_type() ? "[{…}, {…}]" : "[…, …]", ", not ", Found(node)));
  }
  for (size_t i = 0; i < node.size(); ++i) {
    RETURN_IF_ERROR(ReadItem(node[i], absl::StrCat(path, "[", i, "]"), field, message));
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadItem(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                              Message* message) {
  (*sources_)[path] = {Where(node), override_ != nullptr};
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return ReadScalar(node, path, field, message);
  if (!node.IsMap()) return Wrong(node, path, absl::StrCat("must be a map of fields, not ", Found(node)));
  Message* item = message->GetReflection()->AddMessage(message, field);
  SetDefaults(item);
  RETURN_IF_ERROR(ReadMap(node, path, item));
  return CheckItemComplete(node, path, *item);
}

absl::Status Reader::ReadScalar(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                                Message* message) {
  if (node.IsNull()) {  // its own place is where the next thing begins
    return SettingError(*sources_, file_name_, path, absl::StrCat("has no value; it must be ", TypeInWords(field)));
  }
  if (!node.IsScalar()) {
    return Wrong(node, path, absl::StrCat("must be ", TypeInWords(field), ", not ", Found(node)));
  }
  const bool quoted = node.Tag() == "!";
  const bool takes_text =
      field->cpp_type() == FieldDescriptor::CPPTYPE_STRING || field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
  if (quoted && !takes_text) {
    return Wrong(node, path,
                 absl::StrCat("must be ", TypeInWords(field), ", not the text ", Quote(node.Scalar()),
                              "; take the quotes away"));
  }
  const absl::Status status = SetScalar(field, node.Scalar(), message);
  return status.ok() ? status : Wrong(node, path, status.message());
}

// A field without a default has to be given where its list has an item.
absl::Status Reader::CheckItemComplete(const YAML::Node& node, const std::string& path, const Message& item) {
  const Descriptor* type = item.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (field->has_presence() || !SettingOf(field).default_value().empty()) continue;
    if (sources_->count(Join(path, field->name())) > 0) continue;
    return Wrong(node, path, absl::StrCat("has no '", field->name(), "'; add it: ", SettingOf(field).doc()));
  }
  return absl::OkStatus();
}

absl::Status Reader::CheckPlanned(const YAML::Node& node, const std::string& path, const FieldDescriptor* field,
                                  const Message& message) {
  if (!SettingOf(field).planned() || IsDefault(message, field)) return absl::OkStatus();
  const std::string& value = SettingOf(field).default_value();
  return Wrong(node, path,
               absl::StrCat("is not obeyed by this version yet; leave it ",
                            value.empty() ? "empty" : absl::StrCat("at ", value)));
}

// One line out of what yaml-cpp says, which has a mark of its own in its what().
std::string SyntaxError(const std::string& yaml, const std::string& file_name, const YAML::Exception& error) {
  const std::vector<absl::string_view> lines = absl::StrSplit(yaml, '\n');
  const int line = error.mark.is_null() ? 0 : error.mark.line;
  for (int i = std::max(0, line - 1); i <= line && i < static_cast<int>(lines.size()); ++i) {
    const size_t indent = lines[i].find_first_not_of(' ');
    if (indent != absl::string_view::npos && lines[i][indent] == '\t') {
      return absl::StrCat(file_name, ":", i + 1, ": a tab in the indentation; YAML takes spaces only");
    }
  }
  // yaml-cpp stops at a depth of 500, and calls that a bad file.
  const bool deep = dynamic_cast<const YAML::DeepRecursion*>(&error) != nullptr;
  const std::string what = deep ? "nested too deep" : absl::StrReplaceAll(error.msg, {{"\n", " "}});
  return absl::StrCat(file_name, ":", line + 1, ": not valid YAML: ", what,
                      "; check the indentation, colons, quotes and brackets here");
}

absl::Status CheckText(const std::string& yaml, const std::string& file_name) {
  if (yaml.size() > kMaxYamlBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file_name, ": larger than 1 MB, which no config is; give a YAML config"));
  }
  int line = 1;
  for (const absl::string_view text : absl::StrSplit(yaml, '\n')) {
    if (!IsUtf8(text)) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_name, ":", line, ": not UTF-8 text; give a YAML config, saved as UTF-8"));
    }
    ++line;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SettingError(const Sources& sources, const std::string& file_name, const std::string& path,
                          const std::string& predicate) {
  // An item's field may have a source only at the item, or at the list.
  std::string at = path;
  auto found = sources.find(at);
  while (found == sources.end() && at.find_first_of(".[") != std::string::npos) {
    at.resize(at.find_last_of(".["));
    found = sources.find(at);
  }
  std::string message = absl::StrCat(path, " ", predicate);
  if (found != sources.end()) {
    const bool said = found->second.override && at == path;
    message = absl::StrCat(found->second.where, ": ", said ? predicate : message);
  } else if (!file_name.empty()) {
    message = absl::StrCat(file_name, ": ", message);
  }
  return absl::InvalidArgumentError(message);
}

absl::Status ReadYaml(const std::string& yaml, const std::string& file_name, RunConfig* config, Sources* sources) {
  RETURN_IF_ERROR(CheckText(yaml, file_name));
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(yaml);
    if (documents.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_name, ":", documents[1].Mark().line + 1, ": a second document begins here; keep one"));
    }
    if (documents.empty() || documents[0].IsNull()) return absl::OkStatus();
    if (!documents[0].IsMap()) {
      return absl::InvalidArgumentError(absl::StrCat(file_name, ":", documents[0].Mark().line + 1,
                                                     ": a config must be a map of fields, as data: {path: …}, not ",
                                                     Found(documents[0])));
    }
    return Reader(file_name, nullptr, sources).ReadMap(documents[0], "", config);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(SyntaxError(yaml, file_name, error));
  }
}

absl::StatusOr<const FieldDescriptor*> FindLeaf(const std::string& path) {
  const Descriptor* type = RunConfig::descriptor();
  std::string parent;
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    const auto error = [&](absl::string_view message) {
      return absl::InvalidArgumentError(absl::StrCat("--set ", Shown(path), ": ", message));
    };
    const FieldDescriptor* field = type->FindFieldByName(names[i]);
    const size_t bracket = names[i].find('[');
    if (field == nullptr && bracket != std::string::npos) field = type->FindFieldByName(names[i].substr(0, bracket));
    if (field == nullptr) return error(UnknownField(type, parent, names[i]));
    if (field->is_repeated() && (i + 1 < names.size() || bracket != std::string::npos)) {
      return error(absl::StrCat(Join(parent, field->name()), " is a list; give all of it, as ",
                                Join(parent, field->name()), "=[…]"));
    }
    parent = Join(parent, names[i]);
    if (i + 1 == names.size()) {
      if (!IsSection(field)) return field;
      return error(absl::StrCat("is a section; set its fields one by one, as ", parent, ".",
                                field->message_type()->field(0)->name(), "=…"));
    }
    if (!IsSection(field)) return error(absl::StrCat(parent, " has no fields; set it itself, as ", parent, "=…"));
    type = field->message_type();
  }
  return absl::InvalidArgumentError("--set: an empty path; write --set path.to.field=value");
}

absl::Status ApplyOverride(const Override& override, RunConfig* config, Sources* sources) {
  ASSIGN_OR_RETURN(const FieldDescriptor* field, FindLeaf(override.path));
  const std::string where = absl::StrCat("--set ", override.path);
  RETURN_IF_ERROR(CheckText(override.value, where));
  Message* message = config;
  const std::vector<std::string> names = absl::StrSplit(override.path, '.');
  for (size_t i = 0; i + 1 < names.size(); ++i) {
    message = message->GetReflection()->MutableMessage(message, message->GetDescriptor()->FindFieldByName(names[i]));
  }
  (*sources)[override.path] = {where, true};
  Reader reader("", &override, sources);
  try {
    // Text needs no quotes here, whatever is in it: the shell has taken them away already.
    const bool text = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && !field->is_repeated();
    const bool as_is = text && override.value.find_first_of("\"'") != 0;
    return reader.ReadField(as_is ? YAML::Node(override.value) : YAML::Load(override.value), override.path, field,
                            message);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", Quote(override.value),
                                                   " is not valid YAML: ", error.msg, "; check quotes and brackets"));
  }
}

}  // namespace lockstep
