// How far a test array is from a reference: mergeable sums from which SQNR, cosine, L1, MSE and the
// rest are read. All sums are double, taken in one fixed order within a call; merging adds in the
// order of the calls.
#pragma once

#include <cstdint>
#include <span>

namespace octet {

struct ErrorStats {
  uint64_t count = 0;       // pairs taken: both finite
  uint64_t non_finite = 0;  // pairs left out: NaN or infinity on either side
  uint64_t nonzero = 0;     // pairs whose reference is not 0 ...
  uint64_t flushed = 0;     // ... and of those, whose test value is 0: lost below the first step
  double reference_sq = 0;  // sum of r^2
  double test_sq = 0;       // sum of t^2
  double product = 0;       // sum of r t
  double error_abs = 0;     // sum of |r - t|
  double error_sq = 0;      // sum of (r - t)^2
  double error = 0;         // sum of t - r
  double max_abs = 0;       // max |r - t|

  // Throws kInvalidArgument where the lengths differ.
  void Add(std::span<const float> reference, std::span<const float> test);
  void Merge(const ErrorStats& other);

  // 10 log10(signal / error): +infinity for no error, -infinity for an error on a zero signal.
  [[nodiscard]] double SqnrDb() const;
  [[nodiscard]] double Cosine() const;  // 1 for two zero arrays, 0 where one of them is zero
  [[nodiscard]] double Mse() const;     // 0 for no pairs, as below
  [[nodiscard]] double L1() const;      // mean |r - t|
  [[nodiscard]] double Bias() const;    // mean t - r
  [[nodiscard]] double FlushedFraction() const;  // of the nonzero reference values
};

}  // namespace octet
