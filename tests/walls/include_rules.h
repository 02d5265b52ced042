#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace lockstep {

// Reads the #include lines of `text`, the source file `path` (from the root, as "common/base/file.cc"), and returns a
// line for each that breaks a rule of the house: "common/base/file.cc:3: includes … ; <rule>". The rules:
//   floors  a room includes itself and rooms below it; coordinator and worker never include each other
//   walls   a third party's headers are seen in its own rooms alone
//   roots   our headers are named from the root of the tree, so that the two above can be read off the line
std::vector<std::string> BrokenRules(const std::string& path, absl::string_view text);

}  // namespace lockstep
