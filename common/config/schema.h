#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "lockstep/options.pb.h"

// RunConfig's schema by reflection: names, types, ranges and choices as the options at its fields state them.
// A leaf is a field with a value of its own; a section is a single message that holds fields.
namespace lockstep {

const Setting& SettingOf(const google::protobuf::FieldDescriptor* field);
bool IsSection(const google::protobuf::FieldDescriptor* field);

// Words of an enum in its order; those that are planned only if asked for.
std::vector<std::string> EnumWords(const google::protobuf::EnumDescriptor* type, bool planned_too);

std::vector<std::string> FieldNames(const google::protobuf::Descriptor* type);

// Calls `visit` with the dotted path of every leaf, in the proto's order. A list is one leaf.
using LeafVisitor = std::function<void(const std::string& path, const google::protobuf::FieldDescriptor* field)>;
void VisitLeaves(const google::protobuf::Descriptor* type, const LeafVisitor& visit);

// "a whole number", "a list of words …": what a field takes, for messages.
std::string TypeInWords(const google::protobuf::FieldDescriptor* field);

// Makes `message` hold its defaults and nothing else; sections are present.
void SetDefaults(google::protobuf::Message* message);

// Reads one value as written in YAML and checks type, range and choice. A repeated field gets it added at its end.
// The message lacks its subject: "must be from 1 to 1024, not 0".
absl::Status SetScalar(const google::protobuf::FieldDescriptor* field, absl::string_view text,
                       google::protobuf::Message* message);

// What SetScalar reads back to the same value, strings without quotes. `index` counts within a repeated field.
std::string ScalarText(const google::protobuf::Message& message, const google::protobuf::FieldDescriptor* field,
                       int index = -1);

// The field holds what SetDefaults gives it.
bool IsDefault(const google::protobuf::Message& message, const google::protobuf::FieldDescriptor* field);

}  // namespace lockstep
