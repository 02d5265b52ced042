#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tests/support/temp_folder.h"

namespace lockstep {

// A test with a folder of its own, taken away afterwards.
class FolderTest : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  // Makes Path(name) hold `data`; returns the path.
  std::string Write(const std::string& name, const std::string& data) const;

  const TempFolder temp_;
  const std::string folder_ = temp_.path();
};

// "1f8b" → two bytes; spaces count for nothing.
std::string Hex(const std::string& text);
// A gzip file that holds `data`.
std::string Gzip(const std::string& data);

}  // namespace lockstep
