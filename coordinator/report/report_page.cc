#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "coordinator/observe/proto_json.h"
#include "coordinator/report/page_template.h"
#include "coordinator/report/report.h"

namespace lockstep {

std::string ReportPage(const Report& report) {
  // Inside a script element only "</" could end it.
  const std::string json = absl::StrReplaceAll(
      ToJson(report).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), {{"</", "<\\/"}});
  const absl::string_view page = PageTemplate();
  constexpr absl::string_view kMark = "@REPORT@";
  const size_t at = page.rfind(kMark);
  if (at == absl::string_view::npos) return "";
  std::string text(page.substr(0, at));
  text += json;
  text.append(page.data() + at + kMark.size(), page.size() - at - kMark.size());
  return text;
}

}  // namespace lockstep
