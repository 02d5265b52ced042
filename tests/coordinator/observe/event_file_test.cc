#include "coordinator/observe/event_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using nlohmann::json;

class EventFileTest : public testing::Test {
 protected:
  std::unique_ptr<EventFile> Create() {
    auto events = EventFile::Create(FileSystem::Real(), folder_ + "/events", 1700000000.75, "node-1", "7");
    EXPECT_TRUE(events.ok()) << events.status();
    return *std::move(events);
  }
  std::string path() const { return folder_ + "/events/events.out.tfevents.1700000000.node-1.7"; }

  // What the independent parser says.
  static int Parse(const std::string& path, std::string* output) {
    FILE* pipe = popen(absl::StrCat("tests/coordinator/observe/read_events.py ", path, " 2>&1").c_str(), "r");
    if (pipe == nullptr) return -1;
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output->append(buffer, n);
    return WEXITSTATUS(pclose(pipe));
  }
  json Parsed() const {
    std::string output;
    EXPECT_EQ(Parse(path(), &output), 0) << output;
    return json::parse(output, nullptr, false);
  }

  const TempFolder temp_;
  const std::string folder_ = temp_.path();
};

// RFC 3720, appendix B.4.
TEST(Crc32cTest, GivesTheKnownAnswersOfRfc3720) {
  std::string up, down;
  for (int i = 0; i < 32; ++i) {
    up += static_cast<char>(i);
    down += static_cast<char>(31 - i);
  }
  constexpr unsigned char kRead[48] = {0x01, 0xc0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
                                       0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
                                       0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0};
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(Crc32c(up), 0x46dd794eu);
  EXPECT_EQ(Crc32c(down), 0x113fdb5cu);
  EXPECT_EQ(Crc32c({reinterpret_cast<const char*>(kRead), sizeof(kRead)}), 0xd9963a56u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(Crc32cTest, IsTheSameForEveryLengthAndStartAsBitByBit) {
  std::string data;
  for (int i = 0; i < 100; ++i) data += static_cast<char>(37 * i * i + 11);
  for (size_t start = 0; start < 9; ++start) {
    for (size_t length = 0; start + length <= data.size(); ++length) {
      uint32_t crc = 0xffffffff;
      for (size_t i = start; i < start + length; ++i) {
        crc ^= static_cast<unsigned char>(data[i]);
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
      }
      ASSERT_EQ(Crc32c(absl::string_view(data).substr(start, length)), ~crc) << start << " " << length;
    }
  }
}

TEST_F(EventFileTest, AnIndependentParserReadsWhatWasWritten) {
  auto events = Create();
  ASSERT_TRUE(events->Write(1700000001.5, 1, {{"train/loss", 2.5}, {"train/lr", 0.0625}}).ok());
  ASSERT_TRUE(events->Write(1700000002.5, int64_t{1} << 40, {{"val/accuracy", -0.5}}).ok());
  ASSERT_TRUE(events->Close().ok());
  const json expected = json::parse(R"([
    {"wall_time": 1700000000.75, "step": 0, "file_version": "brain.Event:2", "values": []},
    {"wall_time": 1700000001.5, "step": 1, "values": [["train/loss", "2.5"], ["train/lr", "0.0625"]]},
    {"wall_time": 1700000002.5, "step": 1099511627776, "values": [["val/accuracy", "-0.5"]]}])");
  EXPECT_EQ(Parsed(), expected);
}

TEST_F(EventFileTest, KeepsValuesThatAreNotFiniteAndLongAndForeignTags) {
  auto events = Create();
  const std::string tag = std::string(300, 'x') + "/größe";
  ASSERT_TRUE(events->Write(1, 2, {{tag, std::numeric_limits<double>::quiet_NaN()}, {"", -HUGE_VAL}}).ok());
  const json values = Parsed().at(1).at("values");
  EXPECT_EQ(values, json::array({json::array({tag, "nan"}), json::array({"", "-inf"})}));
}

TEST_F(EventFileTest, EachWriteCanBeReadAtOnce) {
  auto events = Create();
  EXPECT_EQ(Parsed().size(), 1u);
  ASSERT_TRUE(events->Write(1, 1, {{"a", 1}}).ok());
  EXPECT_EQ(Parsed().size(), 2u);
}

TEST_F(EventFileTest, TheParserSeesEveryBitThatFlips) {
  ASSERT_TRUE(Create()->Write(1, 1, {{"a", 1}}).ok());
  const std::string good = *FileSystem::Real()->Read(path());
  for (size_t at = 0; at < good.size(); at += 11) {
    std::string bad = good, output;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    ASSERT_TRUE(WriteFileAtomically(FileSystem::Real(), path(), bad).ok());
    EXPECT_EQ(Parse(path(), &output), 1) << "byte " << at << ": " << output;
  }
}

TEST_F(EventFileTest, NothingIsWrittenAfterClose) {
  auto events = Create();
  ASSERT_TRUE(events->Close().ok());
  EXPECT_TRUE(events->Close().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(events->Write(1, 1, {{"a", 1}})));
  EXPECT_EQ(Parsed().size(), 1u);
}

TEST_F(EventFileTest, ASystemsErrorNamesTheFile) {
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Real(), folder_ + "/events", "a file where the folder belongs").ok());
  const auto events = EventFile::Create(FileSystem::Real(), folder_ + "/events", 1, "h", "1");
  EXPECT_FALSE(events.ok());
  EXPECT_TRUE(absl::StrContains(events.status().message(), "/events")) << events.status();
}

// A file that takes `room` bytes, then is full.
class SmallFile : public WritableFile {
 public:
  SmallFile(size_t room, std::string* content) : room_(room), content_(content) {}
  absl::Status Append(absl::string_view data) override {
    const size_t taken = std::min(room_ - content_->size(), data.size());
    content_->append(data.data(), taken);
    return taken == data.size() ? absl::OkStatus() : absl::ResourceExhaustedError("events: No space left on device");
  }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::Status Close() override { return absl::OkStatus(); }

 private:
  const size_t room_;
  std::string* const content_;
};

class SmallDisk : public FileSystem {
 public:
  SmallDisk(size_t room, std::string* content) : room_(room), content_(content) {}
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string&, int) override {
    return std::make_unique<SmallFile>(room_, content_);
  }
  absl::Status MakeFolders(const std::string&, int) override { return absl::OkStatus(); }
  absl::Status ForEachPiece(const std::string&, int64_t, absl::FunctionRef<void(absl::string_view)> take) override {
    take(*content_);
    return absl::OkStatus();
  }
  absl::Status Rename(const std::string&, const std::string&) override { return absl::OkStatus(); }
  absl::Status SyncFolder(const std::string&) override { return absl::OkStatus(); }
  absl::Status RemoveAll(const std::string&) override { return absl::OkStatus(); }
  absl::Status ReplaceLink(const std::string&, const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> List(const std::string&) override { return std::vector<std::string>(); }
  bool Exists(const std::string&) override { return true; }

 private:
  const size_t room_;
  std::string* const content_;
};

TEST_F(EventFileTest, AfterAnErrorTheFileEndsThere) {
  std::string content;
  SmallDisk disk(100, &content);
  auto events = *EventFile::Create(&disk, "events", 1, "h", "1");
  ASSERT_TRUE(events->Write(1, 1, {{"a", 1}}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(events->Write(1, 2, {{std::string(80, 'x'), 1}})));
  const std::string before = content;
  EXPECT_TRUE(absl::IsResourceExhausted(events->Write(1, 3, {})));
  EXPECT_TRUE(absl::IsResourceExhausted(events->Close()));
  EXPECT_EQ(content, before);
}

}  // namespace
}  // namespace lockstep
