#include "common/config/schema.h"

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/config/config.h"

namespace lockstep {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// "DATA_FORMAT_" of DataFormat.
std::string EnumPrefix(const EnumDescriptor* type) {
  std::string prefix;
  for (const char letter : type->name()) {
    if (absl::ascii_isupper(letter) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_toupper(letter);
  }
  return prefix + "_";
}

void VisitLeavesUnder(const Descriptor* type, const std::string& prefix, const LeafVisitor& visit) {
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    const std::string path = prefix + field->name();
    if (IsSection(field)) {
      VisitLeavesUnder(field->message_type(), path + ".", visit);
    } else {
      visit(path, field);
    }
  }
}

}  // namespace

const Setting& SettingOf(const FieldDescriptor* field) { return field->options().GetExtension(setting); }

bool IsSection(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated();
}

std::string EnumWord(const EnumDescriptor* type, int value) {
  const EnumValueDescriptor* found = type->FindValueByNumber(value);
  if (found == nullptr) return absl::StrCat(value);
  const std::string prefix = EnumPrefix(type);
  const bool prefixed = found->name().compare(0, prefix.size(), prefix) == 0;
  return absl::AsciiStrToLower(prefixed ? found->name().substr(prefix.size()) : found->name());
}

std::vector<std::string> EnumWords(const EnumDescriptor* type, bool planned_too) {
  std::vector<std::string> words;
  for (int i = 0; i < type->value_count(); ++i) {
    if (!planned_too && type->value(i)->options().GetExtension(choice).planned()) continue;
    words.push_back(EnumWord(type, type->value(i)->number()));
  }
  return words;
}

std::vector<std::string> FieldNames(const Descriptor* type) {
  std::vector<std::string> names;
  for (int i = 0; i < type->field_count(); ++i) names.push_back(type->field(i)->name());
  return names;
}

void VisitLeaves(const Descriptor* type, const LeafVisitor& visit) { VisitLeavesUnder(type, "", visit); }

void SetDefaults(Message* message) {
  message->Clear();
  const Descriptor* type = message->GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (IsSection(field)) {
      SetDefaults(message->GetReflection()->MutableMessage(message, field));
    } else if (!SettingOf(field).default_value().empty()) {
      const absl::Status status = SetScalar(field, SettingOf(field).default_value(), message);
      GOOGLE_CHECK(status.ok()) << "default of " << field->full_name() << ": " << std::string(status.message());
    }
  }
}

bool IsDefault(const Message& message, const FieldDescriptor* field) {
  const std::unique_ptr<Message> defaults(message.New());
  SetDefaults(defaults.get());
  const google::protobuf::Reflection* reflection = message.GetReflection();
  if (field->is_repeated()) {  // a list has no default but the empty one
    return reflection->FieldSize(message, field) == 0;
  }
  if (field->has_presence() && reflection->HasField(message, field) != reflection->HasField(*defaults, field)) {
    return false;
  }
  return ScalarText(message, field) == ScalarText(*defaults, field);
}

}  // namespace lockstep
