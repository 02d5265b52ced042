#include "coordinator/supervise/hosts.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr int kMostSlots = 100000;

bool IsHostCharacter(char c) { return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_'; }

absl::Status Wrong(absl::string_view word, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("'", word, "' ", what));
}

absl::StatusOr<int> ParseSlots(absl::string_view word, absl::string_view number) {
  int slots = 0;
  if (!absl::SimpleAtoi(number, &slots) || slots < 1 || slots > kMostSlots) {
    return Wrong(word, absl::StrCat("has '", number, "' for slots; write a number from 1 to ", kMostSlots));
  }
  return slots;
}

// host, host:4
absl::StatusOr<HostSlots> ParseHost(absl::string_view word) {
  HostSlots one;
  absl::string_view rest = word;
  const size_t end = rest.find(':');
  one.host = std::string(rest.substr(0, end));
  rest.remove_prefix(one.host.size());
  if (rest.find(':', 1) != absl::string_view::npos) {
    return Wrong(word, "is no host; mpirun takes IPv4 addresses and names");
  }
  // No option of ssh, whatever is written.
  if (!std::all_of(one.host.begin(), one.host.end(), IsHostCharacter) || absl::StartsWith(one.host, "-")) {
    return Wrong(word, "is no host; write host or host:slots");
  }
  if (one.host.empty()) return Wrong(word, "is no host; write host or host:slots");
  if (rest.empty()) return one;
  if (!absl::ConsumePrefix(&rest, ":")) return Wrong(word, "is no host; write host or host:slots");
  ASSIGN_OR_RETURN(one.slots, ParseSlots(word, rest));
  return one;
}

absl::Status Add(const HostSlots& one, std::vector<HostSlots>* hosts) {
  const bool again =
      std::any_of(hosts->begin(), hosts->end(), [&](const HostSlots& other) { return other.host == one.host; });
  if (again) return Wrong(one.host, "is named twice; give it once, with all of its slots");
  hosts->push_back(one);
  return absl::OkStatus();
}

// The words after a host.
absl::Status ReadAttribute(absl::string_view word, HostSlots* one) {
  const std::vector<absl::string_view> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
  const bool most = parts[0] == "max_slots" || parts[0] == "max-slots";
  if (parts.size() == 2 && parts[0] == "worker") {
    if (!absl::StartsWith(parts[1], "/"))
      return Wrong(word, "is no path from the root, as worker=/opt/lockstep-worker is");
    one->worker = std::string(parts[1]);
    return absl::OkStatus();
  }
  if (parts.size() != 2 || (parts[0] != "slots" && !most)) {
    return Wrong(word, "is not known here; after a host stands slots=N or worker=PATH");
  }
  ASSIGN_OR_RETURN(const int slots, ParseSlots(word, parts[1]));
  one->slots = most && one->slots > 0 ? std::min(one->slots, slots) : slots;
  return absl::OkStatus();
}

absl::Status ReadLine(absl::string_view line, std::vector<HostSlots>* hosts) {
  const std::vector<std::string> words =
      absl::StrSplit(line.substr(0, line.find('#')), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  if (words.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(HostSlots one, ParseHost(words[0]));
  for (size_t i = 1; i < words.size(); ++i) RETURN_IF_ERROR(ReadAttribute(words[i], &one));
  return Add(one, hosts);
}

}  // namespace

absl::StatusOr<std::vector<HostSlots>> ParseHosts(absl::string_view text) {
  std::vector<HostSlots> hosts;
  for (const absl::string_view word : absl::StrSplit(text, ',')) {
    ASSIGN_OR_RETURN(const HostSlots one, ParseHost(absl::StripAsciiWhitespace(word)));
    RETURN_IF_ERROR(Add(one, &hosts));
  }
  return hosts;
}

absl::StatusOr<std::vector<HostSlots>> ParseHostfile(const std::string& path, absl::string_view text) {
  std::vector<HostSlots> hosts;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (const absl::Status read = ReadLine(line, &hosts); !read.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", read.message()));
    }
  }
  if (hosts.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": names no host; write one a line"));
  return hosts;
}

std::string HostsText(const std::vector<HostSlots>& hosts) {
  return absl::StrJoin(hosts, ",", [](std::string* out, const HostSlots& one) {
    absl::StrAppend(out, one.host, one.slots > 0 ? absl::StrCat(":", one.slots) : "");
  });
}

}  // namespace lockstep
