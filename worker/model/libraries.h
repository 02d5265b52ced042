#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace lockstep {

// The libraries that the dynamic linker has given this process.

// Version of LibTorch, as that says itself: "1.13.0".
std::string LoadedTorch();

// The library that does the matrix products of this process: "openblas", "reference", "mkl", "blis", "atlas", one
// that is part of LibTorch itself: "mkl" or "built-in"; else "unknown".
std::string LoadedBlas();

// One line with what to do when that is the reference BLAS, to be said at start; else nothing.
std::optional<std::string> BlasWarning();

// Which BLAS a shared library's path, links resolved, belongs to.
std::string BlasOfPath(absl::string_view path);

}  // namespace lockstep
