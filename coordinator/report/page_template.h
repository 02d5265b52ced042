#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "lockstep/report.pb.h"

namespace lockstep {

// The report's page without its data, which goes where @REPORT@ stands; made by page/build_page.py. Empty: this
// Lockstep was built without the charts' library.
absl::string_view PageTemplate();
// `page` with the report in it; empty if there is no place for it.
std::string FillPage(absl::string_view page, const Report& report);

}  // namespace lockstep
