#include "common/base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "common/base/status.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

// Passes everything on to the machine's files but for one operation, after `operations` of them, which finds the disk
// full. Only that one: so an error that is passed over shows in what comes after it.
class FullDisk : public FileSystem {
 public:
  explicit FullDisk(int operations) : left_(operations) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, int mode) override {
    RETURN_IF_ERROR(Use(path));
    ASSIGN_OR_RETURN(auto file, real_->Create(path, mode));
    return std::make_unique<File>(this, path, std::move(file));
  }
  absl::Status ForEachPiece(const std::string& path, int64_t most,
                            absl::FunctionRef<void(absl::string_view)> take) override {
    return real_->ForEachPiece(path, most, take);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    RETURN_IF_ERROR(Use(from));
    return real_->Rename(from, to);
  }
  absl::Status SyncFolder(const std::string& path) override {
    RETURN_IF_ERROR(Use(path));
    return real_->SyncFolder(path);
  }
  absl::Status MakeFolders(const std::string& path, int mode) override { return real_->MakeFolders(path, mode); }
  absl::Status RemoveAll(const std::string& path) override { return real_->RemoveAll(path); }
  absl::Status ReplaceLink(const std::string& to, const std::string& link) override {
    return real_->ReplaceLink(to, link);
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override { return real_->List(folder); }
  bool Exists(const std::string& path) override { return real_->Exists(path); }

 private:
  class File : public WritableFile {
   public:
    File(FullDisk* disk, std::string path, std::unique_ptr<WritableFile> file)
        : disk_(disk), path_(std::move(path)), file_(std::move(file)) {}
    // A full disk takes half of the data.
    absl::Status Append(absl::string_view data) override {
      const absl::Status status = disk_->Use(path_);
      RETURN_IF_ERROR(file_->Append(status.ok() ? data : data.substr(0, data.size() / 2)));
      return status;
    }
    absl::Status Sync() override {
      RETURN_IF_ERROR(disk_->Use(path_));
      return file_->Sync();
    }
    absl::Status Close() override {
      RETURN_IF_ERROR(disk_->Use(path_));
      return file_->Close();
    }

   private:
    FullDisk* const disk_;
    const std::string path_;
    const std::unique_ptr<WritableFile> file_;
  };

  absl::Status Use(const std::string& path) { return left_-- == 0 ? ErrnoStatus(ENOSPC, path) : absl::OkStatus(); }

  FileSystem* const real_ = FileSystem::Real();
  int left_;
};

class FileTest : public testing::Test {
 protected:
  std::string Path(absl::string_view name) const { return JoinPath(folder_, name); }
  void Write(absl::string_view name, absl::string_view data) { std::ofstream(Path(name)) << data; }
  std::string Content(absl::string_view name) const {
    const auto data = files_->Read(Path(name));
    EXPECT_TRUE(data.ok()) << data.status();
    return data.value_or("");
  }

  FileSystem* const files_ = FileSystem::Real();
  const TempFolder temp_;
  const std::string folder_ = temp_.path();
};

TEST_F(FileTest, AnAtomicWriteReplacesTheFileAndLeavesNothingElse) {
  Write("a", "old");
  ASSERT_TRUE(WriteFileAtomically(files_, Path("a"), "new").ok());
  EXPECT_EQ(WriteFileAtomically(files_, Path("absent/a"), "new").message(),
            Path("absent/a") + ": No such file or directory");
  EXPECT_EQ(Content("a"), "new");
  EXPECT_THAT(*files_->List(folder_), ElementsAre("a"));
}

TEST_F(FileTest, AnAtomicWriteThatFailsAnywhereLeavesTheOldContentOrTheNew) {
  const std::string old_content(1000, 'o'), new_content(2000, 'n');
  int failures = 0;
  for (int operations = 0;; ++operations) {
    ASSERT_LT(operations, 100);
    Write("a", old_content);
    FullDisk disk(operations);
    const absl::Status status = WriteFileAtomically(&disk, Path("a"), new_content);
    const std::string content = Content("a");
    if (status.ok()) {
      EXPECT_EQ(content, new_content);
      break;
    }
    ++failures;
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
    EXPECT_TRUE(content == old_content || content == new_content) << content.size() << " bytes after " << operations;
  }
  EXPECT_EQ(failures, 6);  // create, append, sync, close, rename, sync of the folder
}

TEST_F(FileTest, AnAtomicWriteHasTheModeItWasAskedFor) {
  const mode_t before = umask(0);
  ASSERT_TRUE(WriteFileAtomically(files_, Path("token"), "secret", 0600).ok());
  umask(before);
  struct stat info;
  ASSERT_EQ(stat(Path("token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(FileTest, OutputGoesThroughLinksAndIntoWhatIsNoFile) {
  const std::string file = Path("file"), link = Path("link"), pipe = Path("pipe");
  std::ofstream(file) << "old";
  std::filesystem::create_symlink(file, link);
  ASSERT_TRUE(WriteOutput(link, "new").ok());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(*FileSystem::Real()->Read(file), "new");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_TRUE(WriteOutput(pipe, "piped").ok());
  char said[16] = "";
  EXPECT_EQ(read(reader, said, sizeof(said)), 5);
  close(reader);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_EQ(WriteOutput("/dev/full", "more than it takes").code(), StatusCode::kUnavailable);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
  EXPECT_EQ(WriteOutput(folder_, "x").code(), StatusCode::kInvalidArgument);
}

TEST_F(FileTest, ErrorsNameThePathAndTheReason) {
  EXPECT_EQ(files_->Read(Path("none")).status(), absl::NotFoundError(Path("none") + ": No such file or directory"));
  EXPECT_EQ(files_->Read(folder_).status(), absl::UnavailableError(folder_ + ": Is a directory"));
  EXPECT_EQ(ErrnoStatus(EACCES, "f"), absl::PermissionDeniedError("f: Permission denied"));
  EXPECT_EQ(ErrnoStatus(ENOSPC, "f"), absl::ResourceExhaustedError("f: No space left on device"));
}

TEST_F(FileTest, AFullDeviceIsReportedByTheWrite) {
  auto file = files_->Create("/dev/full");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->Append("x").code(), StatusCode::kResourceExhausted);
}

TEST_F(FileTest, ReadStopsAtItsLimit) {
  Write("a", std::string(200000, 'x'));
  EXPECT_EQ(Content("a").size(), 200000u);
  EXPECT_EQ(files_->Read(Path("a"), 200000)->size(), 200000u);
  EXPECT_EQ(files_->Read(Path("a"), 199999).status(),
            absl::InvalidArgumentError(Path("a") + ": larger than 199999 bytes"));
}

TEST_F(FileTest, FoldersAreMadeWithTheirParentsAndMayBeThereAlready) {
  EXPECT_TRUE(files_->MakeFolders(Path("x/y/z")).ok());
  EXPECT_TRUE(files_->MakeFolders(Path("x/y/z")).ok());
  EXPECT_TRUE(std::filesystem::is_directory(Path("x/y/z")));
  Write("file", "");
  EXPECT_EQ(files_->MakeFolders(Path("file")).code(), StatusCode::kUnavailable);
}

TEST_F(FileTest, RemoveAllTakesAFolderAwayAndLeavesWhatALinkPointsTo) {
  ASSERT_TRUE(files_->MakeFolders(Path("kept")).ok());
  Write("kept/a", "precious");
  ASSERT_TRUE(files_->MakeFolders(Path("gone/inner")).ok());
  Write("gone/inner/b", "");
  std::filesystem::create_directory_symlink(Path("kept"), Path("gone/link"));
  EXPECT_TRUE(files_->RemoveAll(Path("gone")).ok());
  EXPECT_FALSE(files_->Exists(Path("gone")));
  EXPECT_EQ(Content("kept/a"), "precious");
  EXPECT_TRUE(files_->RemoveAll(Path("gone")).ok()) << "nothing there is no error";
}

TEST_F(FileTest, ALinkIsReplacedWhateverItPointedTo) {
  for (const char* target : {"step-1", "step-2"}) {
    ASSERT_TRUE(files_->MakeFolders(Path(target)).ok());
    ASSERT_TRUE(files_->ReplaceLink(target, Path("latest")).ok());
    EXPECT_EQ(std::filesystem::read_symlink(Path("latest")), target);
  }
  EXPECT_THAT(*files_->List(folder_), ElementsAre("latest", "step-1", "step-2"));
}

TEST_F(FileTest, ListIsSorted) {
  for (const char* name : {"b", "c", "a", ".hidden"}) Write(name, "");
  EXPECT_THAT(*files_->List(folder_), ElementsAre(".hidden", "a", "b", "c"));
}

TEST(JoinPathTest, PutsOneSlashBetweenAndKeepsAnAbsoluteName) {
  EXPECT_EQ(JoinPath("runs", "a"), "runs/a");
  EXPECT_EQ(JoinPath("runs/", "a"), "runs/a");
  EXPECT_EQ(JoinPath("", "a"), "a");
  EXPECT_EQ(JoinPath("runs", "/a"), "/a");
}

}  // namespace
}  // namespace lockstep
