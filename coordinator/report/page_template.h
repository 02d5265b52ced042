#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "lockstep/report.pb.h"

namespace lockstep {

// The report's page without its data, which goes where @REPORT@ stands; made by page/build_page.py. Empty: this
// Lockstep was built without the charts' library.
absl::string_view PageTemplate();
// `page` with the report in it, as far as its charts have room: long lists thinned, spans that are too short to be seen
// left out and counted, numbers rounded. Empty if there is no place for it.
std::string FillPage(absl::string_view page, Report report);

}  // namespace lockstep
