// The error of a number format on a distribution, in closed form: no data, no sampling.
// Spec: spec/fp8.md 10.1, 10.2.
#pragma once

#include <optional>

#include "evaluate/distribution.h"
#include "numerics/number_format.h"

namespace octet {

// Moments of e = Q(x) - x.
struct GridError {
  double alpha = 0;  // the range: largest magnitude of the grid; of intN (2^(N-1) - 1) steps
  double mse = 0;    // E[e^2]
  double cross = 0;  // E[x e]
};

// On the grid that the format makes of the range alpha > 0.
[[nodiscard]] GridError ErrorAt(const Distribution& distribution, const NumberFormat& format,
                                double alpha);

// At the range of least error: a dense scan over alpha, as there are many minima (a float grid
// nearly repeats when alpha doubles), then refinement. Of nearly equal ones the smallest.
[[nodiscard]] GridError LeastError(const Distribution& distribution, const NumberFormat& format);

// Mean squared error of the product of two independent draws, each quantized, against the exact
// product; power = E[x^2].
[[nodiscard]] double ProductError(double power, const GridError& error);

}  // namespace octet
