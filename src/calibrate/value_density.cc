#include "calibrate/value_density.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "calibrate/pattern_bins.h"

namespace octet {
namespace {

// Integral of (u - rne(u))^2 from 0 to t, for |t| < 2^31: every whole cell gives 1/12. Rounding by
// adding 1.5 x 2^52 is rne in double, and unlike nearbyint vectorizes without SSE4.1.
double SawtoothIntegral(double t) {
  constexpr double kShift = 6755399441055744.0;
  const double cell = (t + kShift) - kShift;
  const double u = t - cell;
  return cell * (1.0 / 12) + u * u * u * (1.0 / 3);
}

DensityMoments MomentsOf(double lo, double hi, double count) {
  return {count, count * 0.5 * (lo + hi), count * (lo * lo + lo * hi + hi * hi) / 3};
}

}  // namespace

ValueDensity::ValueDensity(const ValueStatistics& statistics) {
  const double least = statistics.min();
  const double most = statistics.max();
  const auto bins = BinsByValue(statistics.histogram());
  segments_.reserve(bins.size());
  below_.reserve(bins.size() + 1);
  below_.emplace_back();
  for (const auto& [bin, count] : bins) {
    const bool zero = (bin & 0x7fff) == 0;
    PatternInterval interval = IntervalOf(bin);
    // Denormals below 2^-133 are 0 to every grid (kMinScale / 2 is 2^-127): exact as one spike.
    if (zero) interval = {0, 0};
    const Segment segment = {zero ? 0 : std::clamp(interval.lo, least, most),
                             zero ? 0 : std::clamp(interval.hi, least, most),
                             static_cast<double>(count)};
    if (zero) zeros_ += segment.count;
    segments_.push_back(segment);
    const DensityMoments own = MomentsOf(segment.lo, segment.hi, segment.count);
    const DensityMoments& before = below_.back();
    below_.push_back({before.count + own.count, before.sum + own.sum, before.sum_sq + own.sum_sq});
  }
}

size_t ValueDensity::FirstFrom(double x) const {
  const auto first =
      std::partition_point(segments_.begin(), segments_.end(),
                           [x](const Segment& s) { return s.hi < x || (s.hi == x && s.lo < x); });
  return static_cast<size_t>(first - segments_.begin());
}

DensityMoments ValueDensity::Below(double x) const {
  const size_t i = FirstFrom(x);
  DensityMoments result = below_[i];
  if (i < segments_.size() && segments_[i].lo < x) {
    const Segment& s = segments_[i];
    const DensityMoments part = MomentsOf(s.lo, x, s.count * (x - s.lo) / (s.hi - s.lo));
    result = {result.count + part.count, result.sum + part.sum, result.sum_sq + part.sum_sq};
  }
  return result;
}

double ValueDensity::CountOutside(double lo, double hi) const {
  const double above = std::nextafter(hi, std::numeric_limits<double>::infinity());
  return Below(lo).count + std::max(0.0, count() - Below(above).count);
}

double ValueDensity::Quantile(double q) const {
  const double target = q * count();
  const auto found =
      std::partition_point(below_.begin() + 1, below_.end(),
                           [target](const DensityMoments& m) { return m.count < target; });
  const size_t i = std::min(static_cast<size_t>(found - below_.begin()) - 1, segments_.size() - 1);
  const Segment& s = segments_[i];
  return std::clamp(s.lo + (s.hi - s.lo) * (target - below_[i].count) / s.count, s.lo, s.hi);
}

double ValueDensity::RoundingError(double lo, double hi, double scale) const {
  if (!(lo < hi)) return 0;
  const double per_step = 1 / scale;
  double total = 0;  // in steps squared
  for (size_t i = FirstFrom(lo); i < segments_.size() && segments_[i].lo < hi; ++i) {
    const Segment& s = segments_[i];
    const double a = std::max(s.lo, lo) * per_step;
    const double b = std::min(s.hi, hi) * per_step;
    const double width = b - a;
    // Narrower than this, the difference of two integrals drowns in their rounding; the error of
    // taking the middle instead is below one part in 2^40.
    if (width > 0x1p-20) {
      const double share = (std::min(s.hi, hi) - std::max(s.lo, lo)) / (s.hi - s.lo);
      total += s.count * share * (SawtoothIntegral(b) - SawtoothIntegral(a)) / width;
    } else {
      const double middle = 0.5 * (a + b);
      const double e = middle - std::nearbyint(middle);
      const double share =
          s.hi > s.lo ? (std::min(s.hi, hi) - std::max(s.lo, lo)) / (s.hi - s.lo) : 1;
      total += s.count * share * e * e;
    }
  }
  return total * scale * scale;
}

double ValueDensity::SquaredError(const ScaleZero& grid, IntFormat format) const {
  const double scale = grid.scale;
  // The lowest and highest value the grid has; the cell of code 0 needs no loop: there Q(x) is 0.
  const double lowest = (format.qmin() - grid.zero_point) * scale;
  const double highest = (format.qmax() - grid.zero_point) * scale;
  const double zero_lo = std::max(lowest, -scale / 2);
  const double zero_hi = std::min(highest, scale / 2);
  const DensityMoments low = Below(lowest);
  const DensityMoments high = below_.back() - Below(highest);
  const DensityMoments zero = Below(zero_hi) - Below(zero_lo);
  return low.SquaresAbout(lowest) + high.SquaresAbout(highest) + std::max(0.0, zero.sum_sq) +
         RoundingError(lowest, zero_lo, scale) + RoundingError(zero_hi, highest, scale);
}

}  // namespace octet
