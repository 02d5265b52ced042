#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/checkpoint/safetensors.h"

namespace lockstep {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own bound
constexpr char kMetadata[] = "__metadata__";
constexpr std::pair<const char*, int> kDTypes[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                                                   {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1}};

std::string Quoted(absl::string_view name) {
  constexpr size_t kShown = 80;
  const std::string escaped = absl::Utf8SafeCHexEscape(name.substr(0, kShown));
  return absl::StrCat("'", escaped, name.size() > kShown ? "…'" : "'");
}

absl::Status Invalid(absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("safetensors header: ", message));
}

std::string KnownDTypes() {
  return absl::StrJoin(kDTypes, " ", [](std::string* out, const auto& dtype) { out->append(dtype.first); });
}

// Bytes of a tensor from its dtype and shape.
absl::StatusOr<int64_t> SizeOf(const TensorInfo& tensor) {
  int64_t bytes = DTypeSize(tensor.dtype);
  if (bytes == 0) {
    return Invalid(absl::StrCat("tensor ", Quoted(tensor.name), " has dtype ", Quoted(tensor.dtype),
                                ", which is none of ", KnownDTypes()));
  }
  for (const int64_t size : tensor.shape) {
    if (size < 0) return Invalid(absl::StrCat("tensor ", Quoted(tensor.name), " has a negative size in its shape"));
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return Invalid(absl::StrCat("tensor ", Quoted(tensor.name), " has a shape of more than 2^63 bytes"));
    }
  }
  return bytes;
}

// Takes the header's JSON event by event, so that nothing is ever built but what the format has: an object of tensors,
// each an object of dtype, shape and data_offsets. Whatever else comes ends the parse at once, however deep or long.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return Unexpected("a number that is not whole or too large");
  }
  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return Unexpected("a number");
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<int64_t>::max())) {
      return Unexpected("a number that is too large");
    }
    (place_ == Place::kShape ? tensors.back().shape : offsets_).push_back(static_cast<int64_t>(value));
    if (place_ == Place::kOffsets && offsets_.size() > 2) return Unexpected("a third offset");
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      metadata[key_] = std::move(value);
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return Unexpected("a string");
    tensors.back().dtype = std::move(value);
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && key_ == kMetadata) {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      place_ = Place::kTensor;
      tensors.push_back({key_});
      offsets_.clear();
      fields_.clear();
    } else {
      return Unexpected("an object");
    }
    return true;
  }

  bool key(string_t& key) override {
    if (place_ == Place::kTop && !names_.insert(key).second)
      return Fail(absl::StrCat(Quoted(key), " stands there twice"));
    if (place_ == Place::kMetadata && metadata.count(key) > 0) {
      return Fail(absl::StrCat("metadata ", Quoted(key), " stands there twice"));
    }
    if (place_ == Place::kTensor) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        return Fail(absl::StrCat("tensor ", Quoted(tensors.back().name), " has an unknown field ", Quoted(key)));
      }
      if (!fields_.insert(key).second) {
        return Fail(absl::StrCat("tensor ", Quoted(tensors.back().name), " has its ", key, " twice"));
      }
    }
    key_ = std::move(key);
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (fields_.count(field) > 0) continue;
        return Fail(absl::StrCat("tensor ", Quoted(tensors.back().name), " has no ", field));
      }
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::kTensor || key_ == "dtype") return Unexpected("an array");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets) {
      if (offsets_.size() != 2) {
        return Fail(absl::StrCat("tensor ", Quoted(tensors.back().name), " needs two data_offsets"));
      }
      tensors.back().begin = offsets_[0];
      tensors.back().end = offsets_[1];
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("not valid JSON at byte ", kLengthBytes + static_cast<int64_t>(position)));
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool Fail(std::string message) {
    error = std::move(message);
    return false;
  }

  bool Unexpected(absl::string_view what) {
    switch (place_) {
      case Place::kMetadata:
        return Fail(absl::StrCat("metadata ", Quoted(key_), " is ", what, ", not a string"));
      case Place::kTensor:
      case Place::kShape:
      case Place::kOffsets:
        return Fail(absl::StrCat(key_, " of tensor ", Quoted(tensors.back().name), " holds ", what));
      case Place::kTop:
        return Fail(absl::StrCat(Quoted(key_), " is ", what, ", not an object"));
      default:
        return Fail(absl::StrCat(what, " stands where the header's object should"));
    }
  }

  Place place_ = Place::kStart;
  std::string key_;
  std::set<std::string> names_, fields_;
  std::vector<int64_t> offsets_;
};

// Sorts by place and requires that the tensors fill the data without a gap or an overlap.
absl::Status CheckLayout(SafetensorsHeader* header) {
  std::sort(header->tensors.begin(), header->tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  int64_t at = 0;
  for (const TensorInfo& tensor : header->tensors) {
    ASSIGN_OR_RETURN(const int64_t bytes, SizeOf(tensor));
    const std::string name = Quoted(tensor.name);
    if (tensor.end - tensor.begin != bytes) {
      return Invalid(absl::StrCat("tensor ", name, ": ", tensor.dtype, " [", absl::StrJoin(tensor.shape, ", "), "] is ",
                                  bytes, " bytes, but its data_offsets are ", tensor.begin, " to ", tensor.end));
    }
    if (tensor.begin != at) {
      return Invalid(absl::StrCat("tensor ", name, " begins at ", tensor.begin, ", but the one before ends at ", at));
    }
    at = tensor.end;
  }
  if (at == header->data_bytes) return absl::OkStatus();
  return Invalid(absl::StrCat("the tensors are ", at, " bytes, but the file has ", header->data_bytes,
                              " after its header; it is cut off or damaged"));
}

// The header's length from the file's first bytes.
absl::StatusOr<int64_t> ParseLength(absl::string_view prefix, int64_t file_bytes) {
  if (file_bytes < kLengthBytes) return Invalid(absl::StrCat("the file has ", file_bytes, " bytes, fewer than 8"));
  if (static_cast<int64_t>(prefix.size()) < kLengthBytes) return absl::OutOfRangeError("fewer than 8 bytes are here");
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(prefix[i]);
  if (length > kMaxHeaderBytes) {
    return Invalid(absl::StrCat("its length is ", length, " bytes, more than the format's ", kMaxHeaderBytes));
  }
  if (static_cast<int64_t>(length) > file_bytes - kLengthBytes) {
    return Invalid(absl::StrCat("its length is ", length, " bytes, but the file ends after ", file_bytes));
  }
  return static_cast<int64_t>(length);
}

std::string JsonString(const std::string& text) { return nlohmann::json(text).dump(); }

absl::StatusOr<std::string> HeaderJson(const std::vector<TensorInfo>& tensors,
                                       const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> members;
  try {
    std::vector<std::string> pairs;
    for (const auto& [key, value] : metadata) pairs.push_back(absl::StrCat(JsonString(key), ":", JsonString(value)));
    if (!pairs.empty()) members.push_back(absl::StrCat("\"", kMetadata, "\":{", absl::StrJoin(pairs, ","), "}"));
    for (const TensorInfo& tensor : tensors) {
      members.push_back(absl::StrCat(JsonString(tensor.name), ":{\"dtype\":\"", tensor.dtype, "\",\"shape\":[",
                                     absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", tensor.begin, ",",
                                     tensor.end, "]}"));
    }
  } catch (const nlohmann::json::exception&) {
    return Invalid("a name or metadata is not UTF-8 text; rename it");
  }
  return absl::StrCat("{", absl::StrJoin(members, ","), "}");
}

}  // namespace

int DTypeSize(absl::string_view dtype) {
  for (const auto& [name, size] : kDTypes) {
    if (dtype == name) return size;
  }
  return 0;
}

absl::StatusOr<std::string> MakeSafetensorsHeader(std::vector<TensorInfo>* tensors,
                                                  const std::map<std::string, std::string>& metadata) {
  std::set<std::string> names;
  int64_t at = 0;
  for (TensorInfo& tensor : *tensors) {
    if (tensor.name == kMetadata) return Invalid(absl::StrCat("no tensor can be called ", kMetadata));
    if (!names.insert(tensor.name).second) return Invalid(absl::StrCat(Quoted(tensor.name), " stands there twice"));
    ASSIGN_OR_RETURN(const int64_t bytes, SizeOf(tensor));
    tensor.begin = at;
    if (__builtin_add_overflow(at, bytes, &at)) return Invalid("the tensors are more than 2^63 bytes");
    tensor.end = at;
  }
  ASSIGN_OR_RETURN(std::string json, HeaderJson(*tensors, metadata));
  json.append((kLengthBytes - json.size() % kLengthBytes) % kLengthBytes, ' ');
  if (static_cast<int64_t>(json.size()) > kMaxHeaderBytes) {
    return Invalid(absl::StrCat("names and shapes take ", json.size(), " bytes, more than ", kMaxHeaderBytes));
  }
  std::string length;
  for (int i = 0; i < kLengthBytes; ++i) length += static_cast<char>(json.size() >> (8 * i) & 0xFF);
  return length + json;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view prefix, int64_t file_bytes) {
  ASSIGN_OR_RETURN(const int64_t length, ParseLength(prefix, file_bytes));
  if (static_cast<int64_t>(prefix.size()) - kLengthBytes < length) {
    return absl::OutOfRangeError(
        absl::StrCat("the header needs ", kLengthBytes + length, " bytes, here are ", prefix.size()));
  }
  const absl::string_view json = prefix.substr(kLengthBytes, length);
  if (json.substr(0, 1) != "{") return Invalid("it does not begin with '{'; this is no safetensors file");
  if (const size_t nul = json.find('\0'); nul != absl::string_view::npos) {  // the parser would stop there, content
    return Invalid(absl::StrCat("not valid JSON at byte ", kLengthBytes + static_cast<int64_t>(nul) + 1));
  }
  HeaderHandler handler;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &handler)) return Invalid(handler.error);
  SafetensorsHeader header;
  header.tensors = std::move(handler.tensors);
  header.metadata = std::move(handler.metadata);
  header.data_offset = kLengthBytes + length;
  header.data_bytes = file_bytes - header.data_offset;
  RETURN_IF_ERROR(CheckLayout(&header));
  return header;
}

}  // namespace lockstep
