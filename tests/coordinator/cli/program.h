#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/support/temp_folder.h"

namespace lockstep {

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

// Runs the lockstep program as a person would, in a folder that is gone afterwards, with fake_worker.sh as worker and
// fake_mpirun.sh as mpirun, and with runtime records of its own.
class Program {
 public:
  Program();
  // Kills whatever it started that is still there.
  ~Program();
  Outcome Run(const std::vector<std::string>& arguments);
  // Without waiting; output goes to the file "out", errors to "err".
  pid_t Start(const std::vector<std::string>& arguments);
  void SetVariable(const std::string& name, const std::string& value) { environment_.emplace_back(name, value); }
  // A small data set and a config for it: digits/ and c.yaml.
  void MakeInputs();

  std::string path(const std::string& name = "") const { return name.empty() ? folder_.path() : folder_ / name; }
  std::string Read(const std::string& name) const;
  void Write(const std::string& name, const std::string& text) const;
  // Names in a folder, hidden ones too.
  std::vector<std::string> List(const std::string& name = "") const;
  // Processes that this started, however far down.
  std::vector<pid_t> Processes() const;

 private:
  std::vector<std::string> Command(const std::vector<std::string>& arguments) const;

  TempFolder folder_, runtime_, tools_;
  std::vector<std::pair<std::string, std::string>> environment_;
};

}  // namespace lockstep
