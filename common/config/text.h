#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace lockstep {

// `text` for a message: one line, at most 60 bytes and then "…", control characters and broken UTF-8 escaped.
std::string Shown(absl::string_view text);
// The same in single quotes.
std::string Quote(absl::string_view text);

// The shortest decimal that reads back as the same bits: "0.1", "1000000", "1e-08".
std::string FormatNumber(double value);

// "a, b or c".
std::string JoinOr(const std::vector<std::string>& words);

// "; did you mean 'batch_size'?" when one of `candidates` is close to `word`, else empty. Case does not count.
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& candidates);

bool IsUtf8(absl::string_view text);

// `path` in absolute form without ".", ".." and doubled slashes; `folder` is what a relative one starts from, and is
// itself relative to the working folder.
std::string AbsolutePath(const std::string& folder, const std::string& path);

// A file or folder of this name, or, where there is none and the name has *, ? or [, anything that matches it.
bool PathExists(const std::string& path);

}  // namespace lockstep
