// The data of a report, as the page's scripts read them (src/report/page/): one JSON document.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace octet {

struct ReportDocument {
  std::string title;
  nlohmann::ordered_json data;
};

// Of a sweep's database. Layers and ranges of all points; activations of the most accurate ones.
[[nodiscard]] ReportDocument DocumentOfSweep(const std::string& database);
// Of what octet analyze or octet quantize print with --json, or a manifest.
[[nodiscard]] ReportDocument DocumentOfJson(const std::string& path, const std::string& text);

// Five digits: what a chart can show.
[[nodiscard]] nlohmann::ordered_json Rounded(double value);

}  // namespace octet
