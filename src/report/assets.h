// The files of src/report/page/ and Chart.js, as cmake/embed.cmake puts them into the program.
#pragma once

#include <string_view>

namespace octet {

[[nodiscard]] std::string_view PageTemplate();
[[nodiscard]] std::string_view PageStyle();
[[nodiscard]] std::string_view PageScript();
[[nodiscard]] std::string_view ChartScript();

}  // namespace octet
