#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/file.h"
#include "google/protobuf/message.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

// Protobuf's JSON with every field and its proto's name, maps by key; doubles read back to the same value, NaN and
// infinities as words, but -0 as 0.
std::string MessageToJson(const google::protobuf::Message& message);

// DataLoss: not JSON, or not this message; the reason on one line.
absl::Status MessageFromJson(const std::string& json, google::protobuf::Message* message);

// The manifest of a folder, checked by CheckManifest, its files not. DataLoss.
absl::StatusOr<Manifest> ReadManifest(FileSystem* files, const std::string& folder);

// Version, step, names, sizes and the form of the hashes; that what has to be there is. DataLoss.
absl::Status CheckManifest(const Manifest& manifest);

}  // namespace lockstep
