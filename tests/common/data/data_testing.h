#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace lockstep {

// A test with a folder of its own, taken away afterwards.
class FolderTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  // Makes Path(name) hold `data`; returns the path.
  std::string Write(const std::string& name, const std::string& data) const;

  std::string folder_;
};

// "1f8b" → two bytes; spaces count for nothing.
std::string Hex(const std::string& text);
// A gzip file that holds `data`.
std::string Gzip(const std::string& data);

}  // namespace lockstep
