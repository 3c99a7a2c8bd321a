// The bins of a PatternHistogram as intervals of the real line.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "calibrate/statistics.h"

namespace octet {

// Closed hull of the values of a bin. The two bins of zero also hold the denormals below 2^-133.
struct PatternInterval {
  double lo;
  double hi;
};

[[nodiscard]] inline PatternInterval IntervalOf(uint16_t bin) {
  const uint32_t magnitude = static_cast<uint32_t>(bin & 0x7fff) << 16;
  const double near = std::bit_cast<float>(magnitude);
  // The pattern after the largest finite bin is infinity, which stands for 2^128.
  const double far = (bin & 0x7fff) == 0x7f7f ? 0x1p128 : std::bit_cast<float>(magnitude + 0x10000);
  return (bin & 0x8000) == 0 ? PatternInterval{near, far} : PatternInterval{-far, -near};
}

// Nonzero bins by ascending value: negative ones (whose patterns run the other way), then positive
// ones.
[[nodiscard]] inline std::vector<PatternHistogram::Entry> BinsByValue(
    const PatternHistogram& histogram) {
  const auto entries = histogram.NonZero();
  std::vector<PatternHistogram::Entry> ordered;
  ordered.reserve(entries.size());
  for (auto entry = entries.rbegin(); entry != entries.rend() && entry->bin >= 0x8000; ++entry) {
    ordered.push_back(*entry);
  }
  for (const auto& entry : entries) {
    if (entry.bin >= 0x8000) break;
    ordered.push_back(entry);
  }
  return ordered;
}

}  // namespace octet
