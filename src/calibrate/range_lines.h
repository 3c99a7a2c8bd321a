// The searches that range estimators share, whatever tells them the error of a range: statistics
// (calibrate/range.h) or values at hand (calibrate/range_search.h). Spec: spec/fp8.md 3.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "numerics/int_format.h"
#include "numerics/qparams.h"

namespace octet {

struct DataRange {
  double lo = 0;
  double hi = 0;
};

// Evenly spaced candidates for the largest magnitude, in units of the largest there is.
inline constexpr double kFirstCandidate = 0.1;
inline constexpr double kLastCandidate = 1.2;
// A line search of an estimator: so many candidates, evenly spaced up to kLineLast of the largest.
inline constexpr int kLineCandidates = 1000;
inline constexpr double kLineLast = 2;

struct LineSearchOptions {
  int candidates = 1000;  // i / candidates of the whole, i = 1...
  double margin = 0.5;    // the whole is expand * (largest magnitude of the first batch + margin)
  double expand = 10;
};

struct AsymmetricSearchOptions {
  int thresholds = 100;  // widths: i / thresholds of that of the values
  // The zero point is shifted by up to a quarter of the codes to either side of where the width
  // alone puts it, in `skews` steps to a side.
  int skews = 16;
};

// Where error(x) is least between low and high, by golden section, down to `precision`.
template <typename Error>
[[nodiscard]] double GoldenSection(double low, double high, double precision, Error error) {
  constexpr double kRatio = 0.6180339887498949;  // (sqrt 5 - 1) / 2
  double left = high - kRatio * (high - low);
  double right = low + kRatio * (high - low);
  double at_left = error(left);
  double at_right = error(right);
  while (high - low > precision) {
    if (at_left <= at_right) {
      high = right;
      right = left;
      at_right = at_left;
      left = high - kRatio * (high - low);
      at_left = error(left);
    } else {
      low = left;
      left = right;
      at_left = at_right;
      right = low + kRatio * (high - low);
      at_right = error(right);
    }
  }
  return (low + high) / 2;
}

// Over width and skew of an asymmetric integer grid on values in [lo, hi], lo <= 0 <= hi:
// error(grid) least. Wide ranges win ties.
template <typename Error>
[[nodiscard]] DataRange AsymmetricRange(double lo, double hi, const IntFormat& format,
                                        const AsymmetricSearchOptions& options,
                                        std::string_view subject, Error error) {
  // A width whose best skew errs this many times the best so far is hopeless: clipping has set in,
  // and grows as widths shrink.
  constexpr double kHopeless = 16;
  const double steps = format.qmax() - format.qmin();
  DataRange best = {lo, hi};
  double least = std::numeric_limits<double>::infinity();
  for (int t = options.thresholds; t >= 1; --t) {
    const double width = static_cast<double>(t) / options.thresholds;
    const double step = width * (hi - lo) / steps;
    double least_here = std::numeric_limits<double>::infinity();
    for (int s = -options.skews; s <= options.skews; ++s) {
      const double shift =
          options.skews == 0 ? 0 : step * std::round(s * (steps + 1) / (4.0 * options.skews));
      // Widened to hold 0, which would change the step: such a skew is no grid of this width.
      const DataRange range = {width * lo + shift, width * hi + shift};
      if (range.lo > 0 || range.hi < 0) continue;
      const double e = error(ChooseAsymmetric(static_cast<float>(range.lo),
                                              static_cast<float>(range.hi), format, subject));
      least_here = std::min(least_here, e);
      if (e < least) {
        least = e;
        best = range;
      }
    }
    if (least_here > kHopeless * least) break;
  }
  return best;
}

}  // namespace octet
