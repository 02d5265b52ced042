#pragma once

#include <exception>
#include <string>

#include "absl/status/status.h"

namespace lockstep {

// One line of what LibTorch threw: without the C++ backtrace, and of an error inside TorchScript the error itself, not
// the interpreter's traceback.
std::string TorchMessage(const std::exception& error);

// InvalidArgument with `where` before it: "net.pt: mat1 and mat2 shapes cannot be multiplied (…)".
absl::Status TorchStatus(const std::exception& error, const std::string& where);

}  // namespace lockstep
