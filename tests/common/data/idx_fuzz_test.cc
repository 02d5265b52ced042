#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "common/base/stable_random.h"
#include "common/data/idx.h"
#include "tests/common/data/data_testing.h"

namespace lockstep {
namespace {

class IdxFuzzTest : public testing::Test {
 protected:
  // In memory: some disks take milliseconds to begin a file anew.
  IdxFuzzTest() : fd_(memfd_create("idx_fuzz_test", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(fd_)) {}
  ~IdxFuzzTest() override { close(fd_); }

  // One to four random changes: a byte, a bit, a cut, an insertion, a piece doubled, an extreme number in the header.
  std::string Mutated(std::string data, StableRandom* random) const {
    for (uint64_t changes = 1 + random->Below(4); changes > 0; --changes) {
      const uint64_t at = random->Below(data.size() + 1), length = random->Below(8);
      if (data.empty() || at == data.size()) {
        data.push_back(static_cast<char>(random->Below(256)));
        continue;
      }
      switch (random->Below(6)) {
        case 0:
          data[at] = static_cast<char>(random->Below(256));
          break;
        case 1:
          data[at] ^= static_cast<char>(1 << random->Below(8));
          break;
        case 2:
          data.resize(at);
          break;
        case 3:
          data.insert(at, std::string(length, static_cast<char>(random->Below(256))));
          break;
        case 4:
          data.insert(at, data.substr(at, 64));
          break;
        case 5:
          data.replace(std::min<uint64_t>(at % 20, data.size()), 4, std::string(4, random->Below(2) ? '\xff' : '\0'));
      }
    }
    return data;
  }

  // Whatever the file holds, it is read whole or refused in a line that names it.
  void ExpectReadOrRefused(const std::string& data) {
    ASSERT_EQ(ftruncate(fd_, data.size()), 0);
    ASSERT_EQ(pwrite(fd_, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
    const auto array = ReadIdx(path_);
    if (array.ok()) {
      ++read_;
      int64_t bytes = ElementSize(array->type), sum = 0;
      for (int64_t dim : array->dims) bytes *= dim;
      ASSERT_EQ(bytes, array->size_bytes);
      for (int64_t i = 0; i < bytes; ++i) sum += std::to_integer<int>(array->values[i]);  // all of it is there
      ASSERT_GE(sum, 0);
    } else {
      ++refused_;
      ASSERT_EQ(array.status().code(), absl::StatusCode::kInvalidArgument) << array.status();
      ASSERT_TRUE(absl::StartsWith(array.status().message(), path_ + ": byte ")) << array.status();
      ASSERT_FALSE(absl::StrContains(array.status().message(), "\n")) << array.status();
    }
  }

  const int fd_;
  const std::string path_;
  int read_ = 0, refused_ = 0;
};

TEST_F(IdxFuzzTest, NoMutatedFileDoesHarm) {
  std::vector<std::string> whole = {IdxHeader(kIdxU8, {3, 4, 5}) + std::string(60, 'u'),
                                    IdxHeader(kIdxU8, {7}) + "labels!", IdxHeader(0x0C, {2, 3}) + std::string(24, 'i'),
                                    IdxHeader(0x0E, {2, 1, 2}) + std::string(32, 'd')};
  for (size_t i = 0; i < 4; ++i) whole.push_back(Gzip(whole[i]));
  StableRandom random(2025);
  for (int i = 0; i < 4000; ++i) {
    ExpectReadOrRefused(Mutated(whole[random.Below(whole.size())], &random));
    if (HasFatalFailure()) FAIL() << "mutation " << i;
  }
  EXPECT_GT(read_, 100) << "the mutations are too wild to get past the header";
  EXPECT_GT(refused_, 2000);
}

TEST_F(IdxFuzzTest, EveryCutOfAFileIsRefused) {
  for (const std::string& whole :
       {IdxHeader(kIdxU8, {3, 4}) + std::string(12, 'u'), Gzip(IdxHeader(kIdxU8, {3, 4}) + "abcdefghijkl")}) {
    for (size_t size = 0; size < whole.size(); ++size) ExpectReadOrRefused(whole.substr(0, size));
  }
  EXPECT_EQ(read_, 0);
}

}  // namespace
}  // namespace lockstep
