// Range estimators: from the statistics of a value to the interval its quantization grid covers.
//
// Which format suits a value best is asked the same way: BestFormat.
//
// All of them read the pattern histogram alone. Inside a bin values are taken as spread evenly; the
// outermost bins are cut at the exact extrema, so a plateau at the largest value (Relu6) and the
// spike at 0 are exact.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "calibrate/statistics.h"
#include "numerics/qparams.h"

namespace octet {

enum class RangeMethod : uint8_t {
  kMinMax,      // the exact extrema
  kPercentile,  // leaves out (100 - p)/2 percent on either side; symmetric: 100 - p percent of |x|
  kMse,         // least E[(x - Q(x))^2], clipping included, over lo and hi (symmetric: over absmax)
  kEntropy,     // least Kullback-Leibler divergence after TensorRT: see range_entropy.cc
  kAuto,        // kMse where it beats kMinMax by more than kAutoMargin, otherwise kMinMax
  // The searches of spec/fp8.md 3, by the same expected error: one share of both ends, by golden
  // section or among kLineCandidates; width and skew of an asymmetric integer grid.
  kGoldenSection,
  kLineSearch,
  kMse2d,
  kCrossEntropy,  // of logits, by rows of values: calibrate/range_search.h
};

// Below this relative gain in expected error the whole range is kept: the histogram knows the error
// of a grid to about this, and what lies beyond the calibration set is clipped least.
inline constexpr double kAutoMargin = 0.01;

struct RangeEstimator {
  RangeMethod method = RangeMethod::kAuto;
  double percentile = 99.99;  // of kPercentile; 50 < p <= 100

  // "minmax", "percentile" (99.99), "percentile:99.9", "mse", "entropy", "auto", "golden-section",
  // "line-search", "mse-2d", "cross-entropy". Throws kInvalidArgument.
  [[nodiscard]] static RangeEstimator Parse(std::string_view text);
  [[nodiscard]] std::string Name() const;
  friend bool operator==(const RangeEstimator&, const RangeEstimator&) = default;
};

struct RangeChoice {
  float lo = 0;                               // <= 0
  float hi = 0;                               // >= 0; symmetric: hi == -lo
  RangeMethod method = RangeMethod::kMinMax;  // the one taken: never kAuto
  double mse = 0;               // expected (x - Q(x))^2 on the grid of these parameters
  double clipped_fraction = 0;  // of all elements: outside [lo, hi]
  // ChooseAsymmetric(lo, hi), {ChooseSymmetric(hi), 0} or, of float formats, {FloatScaleFor(hi),
  // 0}.
  ScaleZero grid;
};

// Throws kBadData naming the value where the statistics hold NaN, infinity or no element at all;
// kUnsupported for entropy above 8 bits and in float formats; kInvalidArgument for mse-2d of
// symmetric grids and cross-entropy, which no statistics tell. A float format's range is symmetric
// by its sign, whatever `symmetric` says: [-maxval, maxval], unsigned [0, maxval]; where the bias
// rule lets the scale take steps only, it is what the grid then covers.
[[nodiscard]] RangeChoice EstimateRange(std::string_view name, const ValueStatistics& statistics,
                                        const RangeEstimator& estimator, const NumberFormat& format,
                                        bool symmetric);

// The choice that a range found elsewhere is, by `method`. The statistics hold at least one
// element.
[[nodiscard]] RangeChoice GivenRange(std::string_view name, const ValueStatistics& statistics,
                                     double lo, double hi, RangeMethod method,
                                     const NumberFormat& format, bool symmetric);

struct FormatChoice {
  NumberFormat format;
  RangeChoice range;
};

// The format of least expected error among those given, each on the range that the estimator takes
// for it; ties go to the first. symmetric is of integer formats. Throws kInvalidArgument where none
// is given.
[[nodiscard]] FormatChoice BestFormat(std::string_view name, const ValueStatistics& statistics,
                                      const RangeEstimator& estimator,
                                      std::span<const NumberFormat> formats, bool symmetric);

// Expected (x - Q(x))^2 of a value on a given grid.
[[nodiscard]] double ExpectedMse(const ValueStatistics& statistics, const ScaleZero& grid,
                                 const NumberFormat& format);

}  // namespace octet
