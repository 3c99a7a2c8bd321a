#include "calibrate/range_float.h"

#include <algorithm>
#include <cmath>

namespace octet {

double FloatSquaredError(const ValueDensity& density, const FloatFormat& format, float scale,
                         float limit) {
  const std::vector<float> values = FloatValues(format, limit);
  const double unit = scale;
  double total = 0;
  DensityMoments below;
  for (size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    DensityMoments upto;
    if (i + 1 < values.size()) {
      upto = density.Below((value + static_cast<double>(values[i + 1])) / 2 * unit);
    } else {
      upto = density.All();
    }
    total += (upto - below).SquaresAbout(value * unit);
    below = upto;
  }
  return total;
}

FloatRange FloatRangeOf(const ValueDensity& density, const FloatFormat& format, double maxval,
                        std::string_view name) {
  FloatRange range;
  range.maxval = static_cast<float>(maxval);
  range.scale = FloatScaleFor(format, range.maxval, name);
  range.limit = FloatLimitFor(format, range.maxval, range.scale);
  range.squared_error = FloatSquaredError(density, format, range.scale, range.limit);
  return range;
}

FloatRange LeastErrorFloatRange(const ValueDensity& density, const FloatFormat& format,
                                std::string_view name) {
  // Largest magnitude that counts: an unsigned format knows nothing below 0.
  const double most = format.is_signed
                          ? std::max(std::fabs(density.min()), std::fabs(density.max()))
                          : std::max(density.max(), 0.0);
  FloatRange best = FloatRangeOf(density, format, most, name);
  if (most == 0 || format.bias_rule == BiasRule::kStandard) return best;
  constexpr double kStep = 1.0218971486541166;  // 2^(1/32)
  constexpr double kSmallest = 0x1p-40;         // of the largest: beyond any outlier worth keeping
  constexpr double kHopeless = 16;  // times the best: clipping has set in, less cannot be better
  // Not where a power of two would take the largest value out of float32.
  const double highest = most * 2 < 0x1p126 ? 2.0 : 1.0;
  for (double factor = highest; factor > kSmallest; factor /= kStep) {
    const FloatRange candidate = FloatRangeOf(density, format, most * factor, name);
    if (candidate.squared_error < best.squared_error) best = candidate;
    if (factor < 1 && candidate.squared_error > kHopeless * best.squared_error) break;
  }
  for (double step = std::sqrt(kStep); step > 1.0001; step = std::sqrt(step)) {
    const double middle = best.maxval;
    for (const double factor : {1 / step, step}) {
      if (middle * factor > most * highest) continue;
      const FloatRange candidate = FloatRangeOf(density, format, middle * factor, name);
      if (candidate.squared_error < best.squared_error) best = candidate;
    }
  }
  return best;
}

}  // namespace octet
