#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/config/config.h"
#include "common/config/schema.h"
#include "common/config/text.h"

namespace lockstep {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr size_t kNameColumns = 20, kTypeColumns = 8, kDefaultColumns = 15, kColumns = 100;
constexpr size_t kMeaningAt = 2 + kNameColumns + kTypeColumns + kDefaultColumns;

// Characters, which are columns for what stands in docs.
size_t Columns(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

// At least one space after the text.
std::string Pad(const std::string& text, size_t columns) {
  return text + std::string(std::max(columns, Columns(text) + 1) - Columns(text), ' ');
}

std::vector<std::string> Wrap(const std::string& text, size_t columns) {
  std::vector<std::string> lines(1);
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (!lines.back().empty() && Columns(lines.back()) + 1 + Columns(word) > columns) lines.emplace_back();
    absl::StrAppend(&lines.back(), lines.back().empty() ? "" : " ", word);
  }
  return lines;
}

std::string TypeWord(const FieldDescriptor* field) {
  if (field->is_repeated()) return "list";
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return SettingOf(field).unit() == "s" ? "time" : "number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "bool";
    case FieldDescriptor::CPPTYPE_ENUM:
      return "choice";
    case FieldDescriptor::CPPTYPE_STRING:
      return SettingOf(field).must_exist() ? "path" : "text";
    default:
      return "integer";
  }
}

std::string DefaultWord(const FieldDescriptor* field) {
  if (field->is_repeated()) return "[]";
  const Setting& setting = SettingOf(field);
  if (setting.default_value().empty()) return "-";
  return setting.unit().empty() ? setting.default_value() : absl::StrCat(setting.default_value(), " ", setting.unit());
}

std::string RangeWords(const FieldDescriptor* field) {
  const Setting& setting = SettingOf(field);
  if (setting.has_min() && setting.has_max()) {
    return absl::StrCat(FormatNumber(setting.min()), " to ", FormatNumber(setting.max()));
  }
  if (setting.has_min()) return absl::StrCat(FormatNumber(setting.min()), " or more");
  return setting.has_max() ? absl::StrCat(FormatNumber(setting.max()), " or less") : "";
}

std::string Meaning(const FieldDescriptor* field) {
  const Setting& setting = SettingOf(field);
  std::vector<std::string> parts = {setting.doc()};
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    parts.push_back("one of " + absl::StrJoin(EnumWords(field->enum_type(), false), ", "));
  }
  if (const std::string range = RangeWords(field); !range.empty()) parts.push_back(range);
  if (setting.planned()) parts.push_back("not obeyed yet");
  if (setting.resumable()) parts.push_back("may change on a resume");
  return absl::StrJoin(parts, "; ");
}

void AppendRow(const std::string& name, const FieldDescriptor* field, std::string* out) {
  std::string line =
      "  " + Pad(name, kNameColumns) + Pad(TypeWord(field), kTypeColumns) + Pad(DefaultWord(field), kDefaultColumns);
  for (const std::string& part : Wrap(Meaning(field), kColumns - kMeaningAt)) {
    absl::StrAppend(out, line, part, "\n");
    line = std::string(kMeaningAt, ' ');
  }
}

}  // namespace

std::string DescribeSettings() {
  std::string out =
      "  " + Pad("setting", kNameColumns) + Pad("type", kTypeColumns) + Pad("default", kDefaultColumns) + "meaning\n";
  std::string section;
  VisitLeaves(RunConfig::descriptor(), [&](const std::string& path, const FieldDescriptor* field) {
    const std::string top = path.substr(0, path.find('.'));
    if (top != section && top != path) absl::StrAppend(&out, "\n", top, "\n");
    if (top == path && section.find("(top)") == std::string::npos) absl::StrAppend(&out, "\n");
    section = top == path ? "(top)" : top;
    AppendRow(top == path ? path : path.substr(top.size() + 1), field, &out);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return;
    VisitLeaves(field->message_type(), [&](const std::string& name, const FieldDescriptor* item) {
      AppendRow(absl::StrCat("  - ", name), item, &out);
    });
  });
  return out;
}

std::vector<std::string> SettingNames() {
  std::vector<std::string> names;
  VisitLeaves(RunConfig::descriptor(), [&](const std::string& path, const FieldDescriptor*) { names.push_back(path); });
  return names;
}

}  // namespace lockstep
