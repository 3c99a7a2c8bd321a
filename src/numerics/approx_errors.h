// How wrong a multiplier is: over all pairs of normal mantissas away from both ends of the range,
// and over all codes of a table. Self-check figures of one layer.
// Spec: spec/fp8.md 6.4 (self_check_mode), 6.6.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "numerics/approx_product.h"

namespace octet {

// Errors relative to the exact product, in per cent.
struct RelativeErrors {
  int64_t pairs = 0;
  int64_t inexact = 0;  // pairs whose product is not the exact one
  double rmse = 0;
  double bias = 0;     // mean, signed
  double largest = 0;  // magnitude
};
// Of every pair of mantissas: both operands 1.m, the product neither subnormal nor too large. What
// the multiplier would do at the ends of a range does not count.
[[nodiscard]] RelativeErrors MantissaErrors(const Multiplier& multiplier, int mantissa_bits);
// Pairs of mantissas of which two multipliers give different products.
[[nodiscard]] int64_t DifferingMantissas(const Multiplier& a, const Multiplier& b,
                                         int mantissa_bits);

// Over all pairs of codes, both of which mean something: `exact` has the real products, in units of
// `table`. rms is of the exact products, errors in the same units.
struct TableErrors {
  int64_t pairs = 0, inexact = 0;
  double rms = 0, rmse = 0, bias = 0, largest = 0;
};
[[nodiscard]] TableErrors ErrorsOfTable(std::span<const int64_t> table,
                                        std::span<const double> exact);
// The real products of all codes [x * 256 + w], in units of `unit`.
[[nodiscard]] std::vector<double> ExactProducts(const CodeFormat& x, const CodeFormat& w,
                                                double unit);

// ---- One layer ----

struct CodeShares {
  double normal = 0, subnormal = 0, zero = 0;  // of 1
};
[[nodiscard]] CodeShares SharesOf(std::span<const uint8_t> codes, const CodeFormat& format);

// Results of a layer with the multiplier less exact ones, summed up piece by piece.
struct ProductErrors {
  int64_t results = 0;
  double error_sum = 0, error_squares = 0, exact_squares = 0, largest = 0;

  void Add(double approximate, double exact) {
    const double error = approximate - exact;
    ++results;
    error_sum += error;
    error_squares += error * error;
    exact_squares += exact * exact;
    largest = std::max(largest, std::fabs(error));
  }
  void Add(const ProductErrors& other);
  [[nodiscard]] double mean() const;  // signed
  [[nodiscard]] double rmse() const;
  [[nodiscard]] double exact_rms() const;
  // 10 log10 of signal over noise; infinite without noise.
  [[nodiscard]] double sqnr_db() const;
};

}  // namespace octet
