// Ranges of float formats: the error a range costs on the format's grid, and the range of least
// error.
#pragma once

#include "calibrate/value_density.h"
#include "numerics/float_format.h"

namespace octet {

// A float grid over [-maxval, maxval] (unsigned: [0, maxval]).
struct FloatRange {
  float maxval = 0;  // largest magnitude: what FloatScaleFor makes scale of
  float scale = 1;
  float limit = 0;           // FloatLimitFor(maxval, scale)
  double squared_error = 0;  // sum of (x - Q(x))^2 over all elements
};

// Sum of (x - Q(x))^2 over all elements, clipping included: exact for this density, but for the
// rounding of double, as every cell of the grid takes a closed form of the moments in it.
[[nodiscard]] double FloatSquaredError(const ValueDensity& density, const FloatFormat& format,
                                       float scale, float limit);

// The grid that the format's bias rule makes of maxval.
[[nodiscard]] FloatRange FloatRangeOf(const ValueDensity& density, const FloatFormat& format,
                                      double maxval, std::string_view name);

// The maxval of least error. Unlike that of integers the error has many minima: it nearly repeats
// when maxval doubles, as long as the exponents last, and a maxval beyond the largest value can put
// the grid's finer half to use. So: a dense scan from twice the largest magnitude downwards until
// clipping has set in, then refinement around the best.
[[nodiscard]] FloatRange LeastErrorFloatRange(const ValueDensity& density,
                                              const FloatFormat& format, std::string_view name);

}  // namespace octet
