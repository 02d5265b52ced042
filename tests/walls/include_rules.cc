#include "tests/walls/include_rules.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace lockstep {
namespace {

struct Wall {
  std::string third_party;
  std::vector<std::string> headers;  // ending in '/': all of a folder; beginning with '*': by their ending
  std::vector<std::string> rooms;    // ending in '/': a folder; else one file
};

const std::vector<Wall>& Walls() {
  static const auto* const walls = new std::vector<Wall>{
      {"MPI", {"mpi.h", "mpi-ext.h"}, {"worker/comm/"}},
      {"Torch",
       {"torch/", "ATen/", "c10/", "caffe2/"},
       {"worker/model/", "worker/train/", "worker/rank.cc", "worker/torch_pch.cc"}},
      {"SQLite", {"sqlite3.h", "sqlite3ext.h"}, {"coordinator/store/"}},
      {"yaml-cpp", {"yaml-cpp/"}, {"common/config/"}},
      {"gRPC",
       {"grpc/", "grpcpp/", "grpc++/", "*.grpc.pb.h"},
       {"coordinator/service/", "coordinator/cli/", "worker/coordinator_client/"}},
      {"OpenSSL", {"openssl/"}, {"coordinator/launch/"}},
  };
  return *walls;
}

// The floor of a room; rooms of one number do not see each other. coordinator and worker share numbers, not stairs.
const std::map<std::string, int>& Floors() {
  static const auto* const floors = new std::map<std::string, int>{
      {"lockstep", 0},  // the messages of proto/lockstep
      {"common/base", 1},
      {"common/config", 2},
      {"common/credentials", 2},
      {"common/data", 2},
      {"common/checkpoint", 2},
      {"common/trace", 2},
      {"coordinator/state", 3},
      {"coordinator/store", 4},
      {"coordinator/observe", 5},
      {"coordinator/report", 6},
      {"coordinator/service", 6},
      {"coordinator/supervise", 7},
      {"coordinator/launch", 8},
      {"coordinator/cli", 9},
      {"worker/comm", 3},
      {"worker/bench", 4},
      {"worker/coordinator_client", 4},
      {"worker/model", 5},
      {"worker/train", 6},
      {"worker", 7},  // main, rank
  };
  return *floors;
}

std::string FolderOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return std::string(path.substr(0, slash == absl::string_view::npos ? 0 : slash));
}

std::string HouseOf(const std::string& room) { return room.substr(0, room.find('/')); }

bool IsOurs(const std::string& header) {
  const std::string house = HouseOf(header);
  return header != house && (house == "common" || house == "coordinator" || house == "worker" || house == "lockstep" ||
                             house == "proto" || house == "tests" || house == "deploy");
}

bool Matches(const std::string& name, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    if (pattern[0] == '*') return absl::EndsWith(name, pattern.substr(1));
    return pattern.back() == '/' ? absl::StartsWith(name, pattern) : name == pattern;
  });
}

// The rule that `path` breaks by including `header`, one of ours; "" if none.
std::string BrokenFloor(const std::string& path, const std::string& header) {
  const std::string from = FolderOf(path), to = FolderOf(header);
  if (from == to) return "";
  const auto lower = Floors().find(to), upper = Floors().find(from);
  if (upper == Floors().end()) return absl::StrCat(from, " is no room of the house; give it a floor in tests/walls");
  if (lower == Floors().end()) return absl::StrCat(to, " is no room that others include");
  const std::string from_house = HouseOf(from), to_house = HouseOf(to);
  if (from_house != to_house && (to_house == "coordinator" || to_house == "worker")) {
    return absl::StrCat(from_house, " never includes ", to_house, "; they meet in proto");
  }
  if (lower->second < upper->second) return "";
  return absl::StrCat(from, " lies ", lower->second == upper->second ? "beside " : "below ", to,
                      ", and floors include downwards only");
}

// The header that a line includes, with its delimiters; "" for any other line.
std::string Included(absl::string_view line) {
  line = absl::StripLeadingAsciiWhitespace(line);
  if (!absl::ConsumePrefix(&line, "#")) return "";
  line = absl::StripLeadingAsciiWhitespace(line);
  if (!absl::ConsumePrefix(&line, "include")) return "";
  line = absl::StripLeadingAsciiWhitespace(line);
  if (line.empty()) return "";
  const size_t end = line.find(line[0] == '<' ? '>' : '"', 1);
  return std::string(end == absl::string_view::npos ? line : line.substr(0, end + 1));
}

std::vector<std::string> RulesBrokenBy(const std::string& path, const std::string& included) {
  std::vector<std::string> rules;
  if (included.size() < 3 || (included[0] != '<' && included[0] != '"')) {
    return {"an include names its file, so that this test can read it"};
  }
  const std::string header = included.substr(1, included.size() - 2);
  const bool quoted = included[0] == '"';
  for (const Wall& wall : Walls()) {
    if (!Matches(header, wall.headers) || Matches(path, wall.rooms)) continue;
    rules.push_back(absl::StrCat(wall.third_party, " only in ", absl::StrJoin(wall.rooms, ", ")));
  }
  const bool is_generated = header == "build_id.inc";
  if (absl::StrContains(absl::StrCat("/", header), "/../") || (quoted && !is_generated && FolderOf(header).empty())) {
    rules.push_back("headers are named from the root of the tree, as \"common/base/file.h\"");
  } else if (IsOurs(header)) {
    const std::string rule = BrokenFloor(path, header);
    if (!rule.empty()) rules.push_back(rule);
  }
  return rules;
}

}  // namespace

std::vector<std::string> BrokenRules(const std::string& path, absl::string_view text) {
  std::vector<std::string> broken;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const std::string included = Included(line);
    if (included.empty()) continue;
    for (const std::string& rule : RulesBrokenBy(path, included)) {
      broken.push_back(absl::StrCat(path, ":", number, ": includes ", included, "; ", rule));
    }
  }
  return broken;
}

}  // namespace lockstep
