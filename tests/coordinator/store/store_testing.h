#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "tests/support/temp_folder.h"

namespace lockstep {

// A folder that everybody may read.
class StoreFolder : public TempFolder {
 public:
  StoreFolder() { Writable(true); }
  ~StoreFolder() { Writable(true); }

  // The folder and the files in it.
  void Writable(bool writable) const {
    for (const auto& entry : std::filesystem::directory_iterator(path())) {
      chmod(entry.path().c_str(), writable ? 0644 : 0444);
    }
    chmod(path().c_str(), writable ? 0755 : 0555);
  }
  // Copies the files as they are now, as `cp -r` under a running coordinator would.
  void CopyTo(const StoreFolder& other, bool with_index = false) const {
    for (const auto& entry : std::filesystem::directory_iterator(path())) {
      if (!with_index && entry.path().extension() == ".db-shm") continue;
      std::filesystem::copy_file(entry.path(), other / entry.path().filename().string());
    }
  }
  int FileCount() const {
    return static_cast<int>(
        std::distance(std::filesystem::directory_iterator(path()), std::filesystem::directory_iterator()));
  }
};

// Root may write everywhere; while this lives, the process has no more rights than anybody.
class AsAnybody {
 public:
  AsAnybody() {
    if (was_ == 0 && seteuid(65534) != 0) abort();
  }
  ~AsAnybody() {
    if (was_ == 0 && seteuid(0) != 0) abort();
  }

 private:
  const uid_t was_ = geteuid();
};

inline void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// `status` has this code and names all of `words` in one line.
inline testing::AssertionResult Fails(const absl::Status& status, absl::StatusCode code,
                                      const std::vector<std::string>& words) {
  if (status.code() != code) return testing::AssertionFailure() << status;
  const std::string message(status.message());
  if (message.find('\n') != std::string::npos) return testing::AssertionFailure() << "more than a line: " << message;
  for (const std::string& word : words) {
    if (message.find(word) == std::string::npos)
      return testing::AssertionFailure() << "no '" << word << "' in: " << message;
  }
  return testing::AssertionSuccess();
}

}  // namespace lockstep
