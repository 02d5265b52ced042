#pragma once

#include "absl/strings/string_view.h"

namespace lockstep {

// The report's page without its data, which goes where @REPORT@ stands; made by page/build_page.py. Empty: this
// Lockstep was built without the charts' library.
absl::string_view PageTemplate();

}  // namespace lockstep
