#include "coordinator/cli/worker_program.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr char kName[] = "lockstep-worker";
// Loading LibTorch from a cold disk takes several seconds.
constexpr absl::Duration kTimeout = absl::Seconds(60);

absl::Status Mend(const absl::Status& status) {
  if (!absl::IsNotFound(status)) return status;
  return absl::FailedPreconditionError(
      absl::StrCat(status.message(), "; put it beside lockstep, in PATH, or name it in LOCKSTEP_WORKER"));
}

}  // namespace

std::string WorkerProgram() {
  const char* named = std::getenv("LOCKSTEP_WORKER");
  if (named != nullptr && named[0] != '\0') return named;
  const std::string beside = std::filesystem::path(OwnProgram()).parent_path() / kName;
  return access(beside.c_str(), X_OK) == 0 ? beside : kName;
}

std::string FindWorkerProgram() {
  const std::string program = WorkerProgram();
  if (absl::StrContains(program, '/')) return access(program.c_str(), X_OK) == 0 ? program : "";
  const char* const path = std::getenv("PATH");
  for (const absl::string_view folder : absl::StrSplit(path == nullptr ? "" : path, ':')) {
    const std::string candidate = absl::StrCat(folder, "/", program);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

absl::StatusOr<Captured> RunWorker(const std::vector<std::string>& arguments, const std::string& input,
                                   bool errors_too) {
  ChildOptions child;
  child.errors_too = errors_too;
  child.argv = arguments;
  child.argv.insert(child.argv.begin(), WorkerProgram());
  absl::StatusOr<Captured> captured = RunAndCapture(child, input, kTimeout);
  if (!captured.ok()) return Mend(captured.status());
  return captured;
}

absl::StatusOr<std::string> AskWorker(const std::vector<std::string>& arguments, const std::string& input) {
  ASSIGN_OR_RETURN(const Captured captured, RunWorker(arguments, input));
  if (captured.exit_code == 0) return captured.output;
  const std::string what =
      absl::StrCat(kName, " ", absl::StrJoin(arguments, " "), " ended with exit code ", captured.exit_code);
  return captured.exit_code == 2 ? absl::FailedPreconditionError(what) : absl::InternalError(what);
}

absl::Status BecomeWorker(const std::vector<std::string>& arguments) {
  const std::string program = WorkerProgram();
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::cout << std::flush;
  execvp(program.c_str(), argv.data());
  return Mend(ErrnoStatus(errno, absl::StrCat("starting ", program)));
}

}  // namespace lockstep
