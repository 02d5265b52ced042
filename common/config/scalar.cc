#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "common/config/schema.h"
#include "common/config/text.h"

namespace lockstep {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

template <typename T>
using Setter = void (Reflection::*)(Message*, const FieldDescriptor*, T) const;

// Reflection has one function to set a single value and another to add to a list.
template <typename T>
void Put(Message* message, const FieldDescriptor* field, T value, Setter<T> set, Setter<T> add) {
  (message->GetReflection()->*(field->is_repeated() ? add : set))(message, field, std::move(value));
}

absl::Status MustBe(absl::string_view what, absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat("must be ", what, ", not ", Quote(text)));
}

// Bounds of a field: its own, else its type's.
struct Bounds {
  std::string min, max;  // empty: none
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
};

Bounds BoundsOf(const FieldDescriptor* field) {
  Bounds bounds;
  const auto type_bounds = [&](auto zero) {
    using T = decltype(zero);
    bounds.min = absl::StrCat(std::numeric_limits<T>::min());
    bounds.max = absl::StrCat(std::numeric_limits<T>::max());
  };
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT32) type_bounds(int32_t{0});
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64) type_bounds(int64_t{0});
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_UINT64) type_bounds(uint64_t{0});
  const Setting& setting = SettingOf(field);
  if (setting.has_min()) bounds.min = FormatNumber(bounds.low = setting.min());
  if (setting.has_max()) bounds.max = FormatNumber(bounds.high = setting.max());
  return bounds;
}

absl::Status OutOfRange(const FieldDescriptor* field, absl::string_view text) {
  const Bounds bounds = BoundsOf(field);
  const std::string unit = SettingOf(field).unit().empty() ? "" : absl::StrCat(" ", SettingOf(field).unit());
  std::string range;
  if (bounds.min == bounds.max) {
    range = bounds.min;
  } else if (bounds.max.empty()) {
    range = absl::StrCat(bounds.min, " or more");
  } else if (bounds.min.empty()) {
    range = absl::StrCat(bounds.max, " or less");
  } else {
    range = absl::StrCat("from ", bounds.min, " to ", bounds.max);
  }
  return MustBe(range + unit, text);
}

bool InRange(const FieldDescriptor* field, double value) {
  const Bounds bounds = BoundsOf(field);
  return value >= bounds.low && value <= bounds.high;
}

// Digits with a sign, whatever its size.
bool LooksWhole(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "-")) absl::ConsumePrefix(&text, "+");
  if (text.empty()) return false;
  for (const char c : text) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  return true;
}

template <typename T>
absl::Status SetWhole(const FieldDescriptor* field, absl::string_view text, Message* message, Setter<T> set,
                      Setter<T> add) {
  if (!LooksWhole(text)) return MustBe("a whole number", text);
  T value;
  if (!absl::SimpleAtoi(text, &value) || !InRange(field, static_cast<double>(value))) return OutOfRange(field, text);
  Put<T>(message, field, value, set, add);
  return absl::OkStatus();
}

// 30, 30s, 500ms, 5m, 2h, 1d to seconds.
bool ParseSeconds(absl::string_view text, double* seconds) {
  if (text.empty() || absl::ascii_isspace(text.front()) || absl::ascii_isspace(text.back())) return false;
  double factor = 1;
  if (absl::ConsumeSuffix(&text, "ms")) {
    factor = 1e-3;
  } else if (absl::ConsumeSuffix(&text, "m")) {
    factor = 60;
  } else if (absl::ConsumeSuffix(&text, "h")) {
    factor = 3600;
  } else if (absl::ConsumeSuffix(&text, "d")) {
    factor = 86400;
  } else {
    absl::ConsumeSuffix(&text, "s");
  }
  if (!absl::SimpleAtod(text, seconds)) return false;  // with a space before the unit, as --settings has it
  *seconds = factor == 1e-3 ? *seconds / 1000 : *seconds * factor;
  return true;
}

absl::Status SetDouble(const FieldDescriptor* field, absl::string_view text, Message* message) {
  const bool duration = SettingOf(field).unit() == "s";
  double value;
  if (duration ? !ParseSeconds(text, &value) : !absl::SimpleAtod(text, &value)) {
    return MustBe(TypeInWords(field), text);
  }
  if (!std::isfinite(value)) return MustBe("a finite number", text);
  if (!InRange(field, value)) return OutOfRange(field, text);
  Put<double>(message, field, value, &Reflection::SetDouble, &Reflection::AddDouble);
  return absl::OkStatus();
}

absl::Status SetBool(const FieldDescriptor* field, absl::string_view text, Message* message) {
  const std::string word = absl::AsciiStrToLower(text);
  if (word != "true" && word != "false") return MustBe("true or false", text);
  Put<bool>(message, field, word == "true", &Reflection::SetBool, &Reflection::AddBool);
  return absl::OkStatus();
}

absl::Status SetString(const FieldDescriptor* field, absl::string_view text, Message* message) {
  if (!IsUtf8(text)) return MustBe("UTF-8 text", text);
  for (const char c : text) {
    if (absl::ascii_iscntrl(c)) return MustBe("text of one line without control characters", text);
  }
  Put<std::string>(message, field, std::string(text), &Reflection::SetString, &Reflection::AddString);
  return absl::OkStatus();
}

absl::Status SetEnum(const FieldDescriptor* field, absl::string_view text, Message* message) {
  const google::protobuf::EnumDescriptor* type = field->enum_type();
  const std::vector<std::string> words = EnumWords(type, false);
  for (int i = 0; i < type->value_count(); ++i) {
    const EnumValueDescriptor* value = type->value(i);
    if (EnumWord(type, value->number()) != text) continue;
    if (value->options().GetExtension(choice).planned()) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quote(text), " is not obeyed by this version yet; choose ", JoinOr(words)));
    }
    Put<const EnumValueDescriptor*>(message, field, value, &Reflection::SetEnum, &Reflection::AddEnum);
    return absl::OkStatus();
  }
  const absl::Status wrong = MustBe(JoinOr(words), text);
  return absl::InvalidArgumentError(absl::StrCat(wrong.message(), DidYouMean(text, EnumWords(type, true))));
}

template <typename T, typename One, typename Many>
T Get(const Message& message, const FieldDescriptor* field, int index, One one, Many many) {
  const Reflection* reflection = message.GetReflection();
  return index < 0 ? (reflection->*one)(message, field) : (reflection->*many)(message, field, index);
}

}  // namespace

std::string TypeInWords(const FieldDescriptor* field) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a whole number";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return SettingOf(field).unit() == "s" ? "a time, as 30, 30s, 5m, 2h or 1d" : "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return JoinOr(EnumWords(field->enum_type(), false));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "a map of fields";
    default:
      return "text";
  }
}

absl::Status SetScalar(const FieldDescriptor* field, absl::string_view text, Message* message) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return SetWhole<int32_t>(field, text, message, &Reflection::SetInt32, &Reflection::AddInt32);
    case FieldDescriptor::CPPTYPE_INT64:
      return SetWhole<int64_t>(field, text, message, &Reflection::SetInt64, &Reflection::AddInt64);
    case FieldDescriptor::CPPTYPE_UINT64:
      return SetWhole<uint64_t>(field, text, message, &Reflection::SetUInt64, &Reflection::AddUInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return SetDouble(field, text, message);
    case FieldDescriptor::CPPTYPE_BOOL:
      return SetBool(field, text, message);
    case FieldDescriptor::CPPTYPE_STRING:
      return SetString(field, text, message);
    case FieldDescriptor::CPPTYPE_ENUM:
      return SetEnum(field, text, message);
    default:
      return absl::InternalError(absl::StrCat(field->full_name(), " has a type that no setting has"));
  }
}

std::string ScalarText(const Message& message, const FieldDescriptor* field, int index) {
  using R = Reflection;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(Get<int32_t>(message, field, index, &R::GetInt32, &R::GetRepeatedInt32));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(Get<int64_t>(message, field, index, &R::GetInt64, &R::GetRepeatedInt64));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(Get<uint64_t>(message, field, index, &R::GetUInt64, &R::GetRepeatedUInt64));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return FormatNumber(Get<double>(message, field, index, &R::GetDouble, &R::GetRepeatedDouble));
    case FieldDescriptor::CPPTYPE_BOOL:
      return Get<bool>(message, field, index, &R::GetBool, &R::GetRepeatedBool) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumWord(field->enum_type(), Get<int>(message, field, index, &R::GetEnumValue, &R::GetRepeatedEnumValue));
    case FieldDescriptor::CPPTYPE_STRING:
      return Get<std::string>(message, field, index, &R::GetString, &R::GetRepeatedString);
    default:
      return "";
  }
}

}  // namespace lockstep
