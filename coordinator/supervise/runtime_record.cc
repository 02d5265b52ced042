#include "coordinator/supervise/runtime_record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxRecordBytes = 64 << 10;
constexpr absl::Duration kSoon = absl::Minutes(10);
constexpr char kCredentials[] = ".credentials", kSocket[] = ".sock";

std::string Canonical(const std::string& path) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, error);
  std::string text = error ? path : canonical.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

Json ToJson(const ProcessId& process) { return {{"pid", process.pid}, {"start", process.start}}; }

ProcessId ProcessFromJson(const Json& json) { return {json.at("pid").get<pid_t>(), json.at("start").get<int64_t>()}; }

absl::StatusOr<RuntimeRecord> ReadRecord(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Real()->Read(path, kMaxRecordBytes));
  try {
    const Json json = Json::parse(text);
    RuntimeRecord record;
    record.run_folder = json.at("run_folder").get<std::string>();
    record.address = json.at("address").get<std::string>();
    record.token = json.at("token").get<std::string>();
    record.scratch = json.at("scratch").get<std::string>();
    record.supervisor = ProcessFromJson(json.at("supervisor"));
    record.coordinator = ProcessFromJson(json.at("coordinator"));
    return record;
  } catch (const Json::exception& error) {
    return absl::DataLossError(absl::StrCat(path, ": not a runtime record: ", error.what()));
  }
}

// A coordinator that outlives its supervisor for a moment still counts: it holds the run folder.
bool IsLive(const RuntimeRecord& record) { return IsAlive(record.coordinator) || IsAlive(record.supervisor); }

absl::Status CheckPrivate(const std::string& folder) {
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0) return ErrnoStatus(errno, folder);
  if (!S_ISDIR(info.st_mode)) return absl::PermissionDeniedError(absl::StrCat(folder, ": is not a folder; remove it"));
  if (info.st_uid != geteuid()) {
    return absl::PermissionDeniedError(
        absl::StrCat(folder, ": belongs to another user; set XDG_RUNTIME_DIR to a folder of your own"));
  }
  if ((info.st_mode & 077) != 0) {
    return absl::PermissionDeniedError(absl::StrCat(folder, ": is open to other users; run: chmod 700 ", folder));
  }
  return absl::OkStatus();
}

}  // namespace

ProcessId IdentifyProcess(pid_t pid) {
  if (pid <= 0) return {pid, 0};
  const absl::StatusOr<std::string> stat = FileSystem::Real()->Read(absl::StrCat("/proc/", pid, "/stat"));
  if (!stat.ok()) return {pid, 0};
  // The name in brackets may hold spaces and brackets; what follows its last bracket begins with field 3.
  const size_t bracket = stat->rfind(')');
  if (bracket == std::string::npos) return {pid, 0};
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(*stat).substr(bracket + 1), ' ', absl::SkipEmpty());
  int64_t start = 0;
  if (fields.size() < 20 || fields[0] == "Z" || fields[0] == "X" || !absl::SimpleAtoi(fields[19], &start))
    return {pid, 0};
  return {pid, start};
}

bool IsAlive(const ProcessId& process) {
  return process.pid > 0 && process.start > 0 && IdentifyProcess(process.pid).start == process.start;
}

absl::StatusOr<RuntimeRecords> RuntimeRecords::Open() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/' && access(runtime, W_OK | X_OK) == 0) {
    return OpenAt(JoinPath(runtime, "lockstep"));
  }
  return OpenAt(absl::StrCat("/tmp/lockstep-", geteuid()));
}

absl::StatusOr<RuntimeRecords> RuntimeRecords::OpenAt(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoStatus(errno, folder);
  RETURN_IF_ERROR(CheckPrivate(folder));
  return RuntimeRecords(folder);
}

std::string RuntimeRecords::RecordPath(const std::string& run_folder) const {
  const std::string canonical = Canonical(run_folder);
  return JoinPath(folder_, absl::StrFormat("run-%016x.json", XXH3_64bits(canonical.data(), canonical.size())));
}

std::string RuntimeRecords::PathBeside(const std::string& run_folder, absl::string_view ending) const {
  return absl::StrCat(absl::StripSuffix(RecordPath(run_folder), ".json"), ending);
}

absl::Status RuntimeRecords::Write(const RuntimeRecord& record) const {
  const Json json = {{"run_folder", Canonical(record.run_folder)},
                     {"address", record.address},
                     {"token", record.token},
                     {"scratch", record.scratch},
                     {"supervisor", ToJson(record.supervisor)},
                     {"coordinator", ToJson(record.coordinator)}};
  return WriteFileAtomically(FileSystem::Real(), RecordPath(record.run_folder), json.dump(1) + "\n", 0600);
}

absl::StatusOr<RuntimeRecord> RuntimeRecords::Find(const std::string& run_folder) const {
  absl::StatusOr<RuntimeRecord> record = ReadRecord(RecordPath(run_folder));
  if (record.ok() && record->run_folder == Canonical(run_folder) && IsLive(*record)) return record;
  if (record.ok()) Remove(run_folder);
  return absl::NotFoundError(absl::StrCat(run_folder, ": no run is live there"));
}

void RuntimeRecords::Remove(const std::string& run_folder) const {
  unlink(RecordPath(run_folder).c_str());
  for (const char* ending : {kCredentials, kSocket}) unlink(PathBeside(run_folder, ending).c_str());
}

// A run that ended before it had a record; one that is being started gets its record soon.
void RuntimeRecords::RemoveIfAlone(const std::string& name) const {
  const std::string path = JoinPath(folder_, name);
  const std::string record = absl::StrCat(path.substr(0, path.rfind('.')), ".json");
  struct stat info {};
  const bool old = lstat(path.c_str(), &info) == 0 && absl::FromTimeT(info.st_mtime) < absl::Now() - kSoon;
  if (old && access(record.c_str(), F_OK) != 0) unlink(path.c_str());
}

void RuntimeRecords::Sweep() const {
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List(folder_);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, "run-")) continue;
    if (!absl::EndsWith(name, ".json")) {
      RemoveIfAlone(name);
      continue;
    }
    const absl::StatusOr<RuntimeRecord> record = ReadRecord(JoinPath(folder_, name));
    if (record.ok() && !IsLive(*record)) Remove(record->run_folder);
  }
}

absl::StatusOr<std::string> RuntimeRecords::WriteCredentials(const std::string& run_folder,
                                                             const std::string& text) const {
  const std::string path = PathBeside(run_folder, kCredentials);
  RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Real(), path, text + "\n", 0600));
  return path;
}

absl::StatusOr<std::string> RuntimeRecords::SocketPath(const std::string& run_folder) const {
  const std::string path = PathBeside(run_folder, kSocket);
  if (path.size() < sizeof(sockaddr_un::sun_path)) return path;
  return absl::FailedPreconditionError(
      absl::StrCat(folder_, ": is too long a path for a socket; set XDG_RUNTIME_DIR to a folder with a shorter one"));
}

bool IsRunFolderHeld(const std::string& run_folder) {
  const UniqueFd fd(open(run_folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.get() >= 0 && flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace lockstep
