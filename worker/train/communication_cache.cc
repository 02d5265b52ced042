#include "worker/train/communication_cache.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "worker/train/communication.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxFileBytes = 64 << 10;

// Its digest names the file, itself stands in `said`, so that two keys of one digest are told apart.
std::string KeyText(CommunicationKey key) {
  std::sort(key.hosts.begin(), key.hosts.end());
  return absl::StrCat("lockstep ", key.build, "; ", key.mpi, "; ", key.structure, "; ",
                      absl::StrJoin(key.hosts, ", "));
}

uint64_t Fnv1a(absl::string_view text) {
  uint64_t digest = 0xcbf29ce484222325;
  for (const char c : text) digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return digest;
}

std::string PathOf(const std::string& folder, const std::string& key) {
  if (folder.empty()) return "";
  return JoinPath(folder, absl::StrCat("communication-", absl::Hex(Fnv1a(key), absl::kZeroPad16), ".json"));
}

}  // namespace

std::string CommunicationCacheFolder() {
  const auto absolute = [](const char* name) {
    const char* const value = std::getenv(name);
    return value != nullptr && absl::StartsWith(value, "/") ? std::string(value) : "";
  };
  if (const std::string cache = absolute("XDG_CACHE_HOME"); !cache.empty()) return JoinPath(cache, "lockstep");
  const std::string home = absolute("HOME");
  return home.empty() ? "" : JoinPath(home, ".cache/lockstep");
}

CommunicationCache::CommunicationCache(FileSystem* files, const std::string& folder, const CommunicationKey& key)
    : files_(files), folder_(folder), key_(KeyText(key)), path_(PathOf(folder, key_)) {}

std::optional<CommunicationChosen> CommunicationCache::Find() const {
  if (path_.empty()) return std::nullopt;
  const absl::StatusOr<std::string> json = files_->Read(path_, kMaxFileBytes);
  CommunicationChosen kept;
  if (!json.ok() || !google::protobuf::util::JsonStringToMessage(*json, &kept).ok()) return std::nullopt;
  if (kept.said() != key_ || !Ways(kept).ok()) return std::nullopt;
  CommunicationChosen found;
  *found.mutable_ways() = kept.ways();
  *found.mutable_measured() = kept.measured();
  return found;
}

absl::Status CommunicationCache::Keep(const CommunicationChosen& chosen) const {
  if (path_.empty()) return absl::OkStatus();
  CommunicationChosen kept;
  kept.set_said(key_);
  *kept.mutable_ways() = chosen.ways();
  *kept.mutable_measured() = chosen.measured();
  std::string json;
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  if (!google::protobuf::util::MessageToJsonString(kept, &json, options).ok()) {
    return absl::InternalError("the times of communication are no JSON");
  }
  RETURN_IF_ERROR(files_->MakeFolders(folder_));
  return WriteFileAtomically(files_, path_, json);
}

}  // namespace lockstep
