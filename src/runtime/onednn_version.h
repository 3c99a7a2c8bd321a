// For `octet info`.
#pragma once

#include <string>

namespace octet {

[[nodiscard]] std::string OneDnnVersion();  // "2.6.3"

}  // namespace octet
