#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "coordinator/observe/proto_json.h"
#include "coordinator/report/page_template.h"
#include "coordinator/report/report.h"

namespace lockstep {

std::string ReportPage(const Report& report) { return FillPage(PageTemplate(), report); }

std::string FillPage(absl::string_view page, const Report& report) {
  // Without any "<" nothing in a name can end the script element, nor hide its end.
  const std::string json = absl::StrReplaceAll(
      ToJson(report).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), {{"<", "\\u003c"}});
  constexpr absl::string_view kMark = "@REPORT@";
  const size_t at = page.rfind(kMark);
  if (at == absl::string_view::npos) return "";
  std::string text(page.substr(0, at));
  text += json;
  text.append(page.data() + at + kMark.size(), page.size() - at - kMark.size());
  return text;
}

}  // namespace lockstep
