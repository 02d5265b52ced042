#pragma once

#include <string>

#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"

namespace lockstep {

// A message with its fields' names: 64-bit numbers as numbers, fixed64 (fingerprints) as 16 hexadecimal digits, a
// number that is not finite as null. Fields without a value are there with their default; messages that are not set,
// and alternatives that are not chosen, are left out.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);
// Two spaces a level, a line break at the end; text that is not UTF-8 is mended.
std::string JsonText(const nlohmann::ordered_json& json);

}  // namespace lockstep
