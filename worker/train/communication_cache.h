#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/base/file.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

// What measured times are good for: other hosts, another library or build, and they have to be measured anew.
struct CommunicationKey {
  std::vector<std::string> hosts;  // "name ranks", in any order
  std::string mpi, build, structure;
};

// $XDG_CACHE_HOME/lockstep, else ~/.cache/lockstep; empty: neither is set (both have to be absolute).
std::string CommunicationCacheFolder();

// One small JSON file a key, so that a run's start is not held up by what an earlier one has measured on the same
// hosts.
class CommunicationCache {
 public:
  // `folder` empty: keeps nothing. `files` outlives this.
  CommunicationCache(FileSystem* files, const std::string& folder, const CommunicationKey& key);
  const std::string& path() const { return path_; }  // empty: keeps nothing

  // Ways and times; nothing if there is none, or none that is whole and of this key.
  std::optional<CommunicationChosen> Find() const;
  // The file holds either what it held or all of this. An error costs the next run its second, and nothing else.
  absl::Status Keep(const CommunicationChosen& chosen) const;

 private:
  FileSystem* const files_;
  const std::string folder_, key_, path_;
};

}  // namespace lockstep
