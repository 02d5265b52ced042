#include "common/checkpoint/json.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/names.h"

namespace lockstep {

std::string MessageToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  GOOGLE_CHECK(status.ok()) << status;  // fails for messages of unknown type alone
  return json;
}

absl::Status MessageFromJson(const std::string& json, google::protobuf::Message* message) {
  const auto status = google::protobuf::util::JsonStringToMessage(json, message);
  if (status.ok()) return absl::OkStatus();
  const absl::string_view what(status.message().data(), status.message().size());
  return absl::DataLossError(absl::StrReplaceAll(absl::Utf8SafeCHexEscape(what), {{"\\n", " "}}));
}

absl::Status CheckManifest(const Manifest& manifest) {
  const auto wrong = [](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(kManifestFile, ": ", what));
  };
  if (manifest.schema_version() != 1) {
    return wrong(absl::StrCat("schema_version is ", manifest.schema_version(), ", this version reads 1"));
  }
  if (manifest.step() < 0) return wrong(absl::StrCat("step is ", manifest.step()));
  std::set<std::string> names;
  for (const Manifest::File& file : manifest.files()) {
    const std::string name = absl::StrCat("'", absl::CHexEscape(file.name()), "'");
    if (!IsContentName(file.name())) return wrong(absl::StrCat("names ", name, ", which is no file of a checkpoint"));
    if (!names.insert(file.name()).second) return wrong(absl::StrCat("names ", name, " twice"));
    if (file.bytes() < 0) return wrong(absl::StrCat("gives ", name, " ", file.bytes(), " bytes"));
    const bool digits = std::all_of(file.xxh3().begin(), file.xxh3().end(), absl::ascii_isxdigit);
    if (file.xxh3().size() != 16 || !digits) return wrong(absl::StrCat("gives ", name, " no XXH3 of 16 digits"));
  }
  for (const char* needed : {kModelFile, kOptimizerFile, kStateFile}) {
    if (names.count(needed) == 0) return wrong(absl::StrCat("does not name ", needed));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
