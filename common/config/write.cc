#include <xxhash.h>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/config.h"
#include "common/config/schema.h"

namespace lockstep {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Double-quoted YAML; what is not a plain character is escaped, UTF-8 stays.
std::string QuotedYaml(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", std::string(1, c));
    } else if (absl::ascii_iscntrl(c)) {
      absl::StrAppend(&out, "\\x", absl::BytesToHexString(std::string(1, c)));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string YamlScalar(const Message& message, const FieldDescriptor* field, int index = -1) {
  const std::string text = ScalarText(message, field, index);
  return field->cpp_type() == FieldDescriptor::CPPTYPE_STRING ? QuotedYaml(text) : text;
}

std::string YamlScalarList(const Message& message, const FieldDescriptor* field) {
  std::vector<std::string> items;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
    items.push_back(YamlScalar(message, field, i));
  }
  return absl::StrCat("[", absl::StrJoin(items, ", "), "]");
}

bool IsUnset(const Message& message, const FieldDescriptor* field) {
  return field->has_presence() && !IsSection(field) && !message.GetReflection()->HasField(message, field);
}

// The fields of an item on one line: {part: forward, rank: -1}.
std::string YamlItem(const Message& item) {
  std::vector<std::string> fields;
  for (int i = 0; i < item.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = item.GetDescriptor()->field(i);
    if (!IsUnset(item, field)) fields.push_back(absl::StrCat(field->name(), ": ", YamlScalar(item, field)));
  }
  return absl::StrCat("{", absl::StrJoin(fields, ", "), "}");
}

void AppendYaml(const Message& message, const std::string& indent, std::string* out) {
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (IsUnset(message, field)) continue;
    absl::StrAppend(out, indent, field->name(), ":");
    if (IsSection(field)) {
      absl::StrAppend(out, "\n");
      AppendYaml(reflection->GetMessage(message, field), indent + "  ", out);
    } else if (!field->is_repeated()) {
      absl::StrAppend(out, " ", YamlScalar(message, field), "\n");
    } else if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || reflection->FieldSize(message, field) == 0) {
      absl::StrAppend(out, " ", YamlScalarList(message, field), "\n");
    } else {
      absl::StrAppend(out, "\n");
      for (int k = 0; k < reflection->FieldSize(message, field); ++k) {
        absl::StrAppend(out, indent, "  - ", YamlItem(reflection->GetRepeatedMessage(message, field, k)), "\n");
      }
    }
  }
}

// A line of the digest's text for a field; the YAML of a value has no line break, so lines cannot be confused.
void AppendDigestText(const Message& message, const std::string& prefix, std::string* out) {
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    if (IsSection(field)) {
      AppendDigestText(reflection->GetMessage(message, field), path + ".", out);
      continue;
    }
    if (SettingOf(field).resumable() || IsDefault(message, field)) continue;
    absl::StrAppend(out, path, "=");
    if (SettingOf(field).must_exist()) {
      absl::StrAppend(out, "a path");
    } else if (!field->is_repeated()) {
      absl::StrAppend(out, YamlScalar(message, field));
    } else if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      absl::StrAppend(out, YamlScalarList(message, field));
    } else {
      for (int k = 0; k < reflection->FieldSize(message, field); ++k) {
        absl::StrAppend(out, YamlItem(reflection->GetRepeatedMessage(message, field, k)));
      }
    }
    absl::StrAppend(out, "\n");
  }
}

}  // namespace

std::string ConfigToYaml(const RunConfig& config) {
  std::string yaml;
  AppendYaml(config, "", &yaml);
  return yaml;
}

std::string ConfigDigest(const RunConfig& config) {
  std::string text;
  AppendDigestText(config, "", &text);
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, XXH3_128bits(text.data(), text.size()));
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(bytes.digest), sizeof(bytes.digest)));
}

}  // namespace lockstep
