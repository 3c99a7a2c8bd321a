// A sweep's points as CSV (RFC 4180) and as JSON.
#pragma once

#include <string>

#include "sweep/database.h"

namespace octet {

[[nodiscard]] std::string PointsAsCsv(const SweepDatabase& database);
[[nodiscard]] std::string PointsAsJson(const SweepDatabase& database);

}  // namespace octet
