#include "octet/report.h"

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "report/assets.h"
#include "report/document.h"
#include "sweep/database.h"

namespace octet {
namespace {

std::string Escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// No "</script>" and no "<!--" inside a script element: strings of JSON may write < otherwise.
std::string ScriptJson(const nlohmann::ordered_json& data) {
  const std::string json =
      data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string out;
  out.reserve(json.size());
  for (char c : json) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

// What stands for {{name}} in the template.
std::string Part(std::string_view name, const ReportDocument& document) {
  if (name == "title") return Escaped(document.title);
  if (name == "css") return std::string(PageStyle());
  if (name == "chart") return std::string(ChartScript());
  if (name == "js") return std::string(PageScript());
  if (name == "data") return ScriptJson(document.data);
  Fail(ErrorCode::kInternal, "report: the page names an unknown part '", name, "'");
}

}  // namespace

std::string RenderReport(const std::string& run, const std::string& title) {
  std::string path = run;
  if (std::filesystem::is_directory(path))
    path = (std::filesystem::path(path) / "sweep.db").string();
  ReportDocument document =
      IsSqliteFile(path) ? DocumentOfSweep(path) : DocumentOfJson(path, ReadFile(path));
  if (!title.empty()) document.title = title;
  std::string html;
  std::string_view rest = PageTemplate();
  while (true) {
    const auto open = rest.find("{{");
    html += rest.substr(0, open);
    if (open == std::string_view::npos) return html;
    const auto close = rest.find("}}", open);
    OCTET_INVARIANT(close != std::string_view::npos);
    html += Part(rest.substr(open + 2, close - open - 2), document);
    rest.remove_prefix(close + 2);
  }
}

}  // namespace octet
