#include "common/checkpoint/json.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/type_resolver_util.h>

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/names.h"

namespace lockstep {

namespace {

// Maps by key, so that equal messages have equal bytes: protobuf's own order differs from process to process.
std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  GOOGLE_CHECK(message.SerializeToCodedStream(&coded));  // fails for proto2's required fields alone
  coded.Trim();
  return bytes;
}

}  // namespace

std::string MessageToJson(const google::protobuf::Message& message) {
  constexpr char kUrl[] = "type.googleapis.com";
  static google::protobuf::util::TypeResolver* const types = google::protobuf::util::NewTypeResolverForDescriptorPool(
      kUrl, google::protobuf::DescriptorPool::generated_pool());
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status =
      google::protobuf::util::BinaryToJsonString(types, absl::StrCat(kUrl, "/", message.GetDescriptor()->full_name()),
                                                 DeterministicBytes(message), &json, options);
  GOOGLE_CHECK(status.ok()) << status;  // fails for messages of unknown type alone
  return json;
}

absl::Status MessageFromJson(const std::string& json, google::protobuf::Message* message) {
  const auto status = google::protobuf::util::JsonStringToMessage(json, message);
  if (status.ok()) return absl::OkStatus();
  const absl::string_view what(status.message().data(), status.message().size());
  return absl::DataLossError(absl::StrCat("not what was written there: ",
                                          absl::StrReplaceAll(absl::Utf8SafeCHexEscape(what), {{"\\n", " "}})));
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
