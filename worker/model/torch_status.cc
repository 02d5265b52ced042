#include "worker/model/torch_status.h"

#include <c10/util/Exception.h>

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace lockstep {

std::string TorchMessage(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch != nullptr ? torch->what_without_backtrace() : error.what();
  std::vector<absl::string_view> lines;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty()) lines.push_back(line);
  }
  if (lines.empty()) return "unknown error in LibTorch";
  // The interpreter prints "The following operation failed …", the traceback, then "RuntimeError: …" or, for what a
  // script raised, the exception's own class.
  absl::string_view message = lines.front();
  if (absl::StrContains(message, "failed in the TorchScript interpreter")) {
    for (absl::string_view line : lines) {
      const size_t colon = line.find("Error: ");
      if (colon != absl::string_view::npos && line.find(' ') > colon) message = line;
    }
  }
  absl::ConsumePrefix(&message, "RuntimeError: ");
  return std::string(message);
}

absl::Status TorchStatus(const std::exception& error, const std::string& where) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", TorchMessage(error)));
}

}  // namespace lockstep
