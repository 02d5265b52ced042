#include "coordinator/observe/proto_json.h"

#include <cmath>

#include "absl/strings/str_format.h"

namespace lockstep {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::ordered_json;

ordered_json Number(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

// `at`: the element of a repeated field.
ordered_json ElementOf(const Message& m, const Reflection& r, const FieldDescriptor* f, int at) {
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.GetRepeatedInt32(m, f, at);
    case FieldDescriptor::CPPTYPE_INT64:
      return r.GetRepeatedInt64(m, f, at);
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.GetRepeatedUInt32(m, f, at);
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.GetRepeatedUInt64(m, f, at);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return Number(r.GetRepeatedFloat(m, f, at));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Number(r.GetRepeatedDouble(m, f, at));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetRepeatedBool(m, f, at);
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.GetRepeatedEnum(m, f, at)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return r.GetRepeatedString(m, f, at);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(r.GetRepeatedMessage(m, f, at));
  }
  return nullptr;
}

ordered_json ValueOf(const Message& m, const Reflection& r, const FieldDescriptor* f) {
  if (f->type() == FieldDescriptor::TYPE_FIXED64) return absl::StrFormat("%016x", r.GetUInt64(m, f));
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.GetInt32(m, f);
    case FieldDescriptor::CPPTYPE_INT64:
      return r.GetInt64(m, f);
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.GetUInt32(m, f);
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.GetUInt64(m, f);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return Number(r.GetFloat(m, f));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Number(r.GetDouble(m, f));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetBool(m, f);
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.GetEnum(m, f)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return r.GetString(m, f);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(r.GetMessage(m, f));
  }
  return nullptr;
}

// The maps of Lockstep's messages have strings for keys; sorted, since a map has no order of its own.
ordered_json MapOf(const Message& m, const Reflection& r, const FieldDescriptor* f) {
  nlohmann::json sorted = nlohmann::json::object();
  for (int i = 0; i < r.FieldSize(m, f); ++i) {
    const ordered_json entry = ToJson(r.GetRepeatedMessage(m, f, i));
    sorted[entry.at("key").get<std::string>()] = entry.at("value");
  }
  return sorted;
}

}  // namespace

ordered_json ToJson(const Message& message) {
  ordered_json json = ordered_json::object();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (field->is_map()) {
      json[field->name()] = MapOf(message, reflection, field);
    } else if (field->is_repeated()) {
      ordered_json& list = json[field->name()] = ordered_json::array();
      for (int at = 0; at < reflection.FieldSize(message, field); ++at) {
        list.push_back(ElementOf(message, reflection, field, at));
      }
    } else if (!field->has_presence() || reflection.HasField(message, field)) {
      json[field->name()] = ValueOf(message, reflection, field);
    }
  }
  return json;
}

std::string JsonText(const ordered_json& json) {
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace lockstep
