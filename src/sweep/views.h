// Statistics as the report draws them.
#pragma once

#include <string>

#include "calibrate/statistics.h"
#include "sweep/record.h"

namespace octet {

inline constexpr int kViewBins = 64;

// Bins of the pattern histogram are spread evenly over the equal bins that they overlap.
[[nodiscard]] ActivationView ViewOf(const std::string& value, const ValueStatistics& statistics);
[[nodiscard]] ViewSet ViewsOf(const std::string& id, const Statistics& statistics);

}  // namespace octet
