// The distribution of a value as range estimators see it: evenly spread inside each histogram bin,
// the outermost bins cut at the exact extrema.
#pragma once

#include <cstdint>
#include <vector>

#include "calibrate/statistics.h"
#include "numerics/int_format.h"
#include "numerics/qparams.h"

namespace octet {

// Mass, sum and sum of squares of a part of the distribution.
struct DensityMoments {
  double count = 0;
  double sum = 0;
  double sum_sq = 0;

  // Sum of (x - c)^2; not negative, however the differences round.
  [[nodiscard]] double SquaresAbout(double c) const {
    const double squares = sum_sq - 2 * c * sum + c * c * count;
    return squares > 0 ? squares : 0;
  }
  friend DensityMoments operator-(const DensityMoments& a, const DensityMoments& b) {
    return {a.count - b.count, a.sum - b.sum, a.sum_sq - b.sum_sq};
  }
};

class ValueDensity {
 public:
  explicit ValueDensity(const ValueStatistics& statistics);  // statistics hold at least one element

  [[nodiscard]] double count() const { return below_.back().count; }
  [[nodiscard]] double min() const { return segments_.front().lo; }
  [[nodiscard]] double max() const { return segments_.back().hi; }
  [[nodiscard]] double zeros() const { return zeros_; }  // elements of magnitude below 2^-133

  [[nodiscard]] const DensityMoments& All() const { return below_.back(); }
  // What lies below x; a segment of no width that lies at x is left out.
  [[nodiscard]] DensityMoments Below(double x) const;
  // Elements outside of the closed interval.
  [[nodiscard]] double CountOutside(double lo, double hi) const;
  // The x below which a share q of the elements lies; 0 gives min, 1 gives max.
  [[nodiscard]] double Quantile(double q) const;

  // Sum of (x - Q(x))^2 over all elements, clipping included. Exact for this density, but for the
  // rounding of double.
  [[nodiscard]] double SquaredError(const ScaleZero& grid, IntFormat format) const;

 private:
  struct Segment {
    double lo;
    double hi;  // == lo: all elements have this value
    double count;
  };
  // Index of the first segment that reaches beyond x, or lies at or beyond it.
  [[nodiscard]] size_t FirstFrom(double x) const;
  // The part of SquaredError from elements in [lo, hi), where Q rounds to the nearest multiple of
  // scale.
  [[nodiscard]] double RoundingError(double lo, double hi, double scale) const;

  std::vector<Segment> segments_;      // ascending, not overlapping
  std::vector<DensityMoments> below_;  // of all segments before i; one more than segments
  double zeros_ = 0;
};

}  // namespace octet
