#include "sweep/views.h"

#include <algorithm>
#include <cmath>

#include "calibrate/pattern_bins.h"

namespace octet {

ActivationView ViewOf(const std::string& value, const ValueStatistics& statistics) {
  ActivationView view;
  view.value = value;
  view.channel_min.assign(statistics.channel_min().begin(), statistics.channel_min().end());
  view.channel_max.assign(statistics.channel_max().begin(), statistics.channel_max().end());
  view.lo = statistics.min();
  view.hi = statistics.max();
  view.counts.assign(kViewBins, 0.0);
  const double lo = static_cast<double>(view.lo);
  const double width = (static_cast<double>(view.hi) - lo) / kViewBins;
  const auto bin_of = [&](double x) {
    return std::clamp(static_cast<int>(std::floor((x - lo) / width)), 0, kViewBins - 1);
  };
  for (const auto& entry : statistics.histogram().NonZero()) {
    const PatternInterval whole = IntervalOf(entry.bin);
    const auto count = static_cast<double>(entry.count);
    // The outermost patterns reach beyond the extrema.
    const double a = std::clamp(whole.lo, lo, static_cast<double>(view.hi));
    const double b = std::clamp(whole.hi, lo, static_cast<double>(view.hi));
    if (!(width > 0) || !(b > a)) {
      view.counts[static_cast<size_t>(width > 0 ? bin_of(a) : 0)] += count;
      continue;
    }
    for (int bin = bin_of(a); bin <= bin_of(b); ++bin) {
      const double from = std::max(a, lo + bin * width);
      const double to = std::min(b, lo + (bin + 1) * width);
      if (to > from) view.counts[static_cast<size_t>(bin)] += count * (to - from) / (b - a);
    }
  }
  return view;
}

ViewSet ViewsOf(const std::string& id, const Statistics& statistics) {
  ViewSet set{id, {}};
  for (const auto& [name, value] : statistics.values()) set.values.push_back(ViewOf(name, value));
  return set;
}

}  // namespace octet
