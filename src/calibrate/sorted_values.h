// Values at hand (a weight, a batch), sorted: the squared error of any grid on them in time that
// depends on the grid, not on how many they are.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "numerics/number_format.h"
#include "numerics/qparams.h"

namespace octet {

class SortedValues {
 public:
  // Throws kBadData, naming subject, on NaN, infinity or no values.
  SortedValues(std::span<const float> values, std::string_view subject);

  [[nodiscard]] size_t size() const { return x_.size(); }
  [[nodiscard]] float min() const { return x_.front(); }
  [[nodiscard]] float max() const { return x_.back(); }
  [[nodiscard]] float AbsMax() const;
  // NumPy's percentile, 0...100: linear between the two values it lies between.
  [[nodiscard]] double Percentile(double percent) const;
  // The same of |x|.
  [[nodiscard]] double MagnitudePercentile(double percent) const;

  // Sum of (x - Q(x))^2, clipping included.
  [[nodiscard]] double SquaredError(const FloatFormat& format, float scale, float limit) const;
  [[nodiscard]] double SquaredError(const IntFormat& format, const ScaleZero& grid) const;

 private:
  // Few values are taken one by one, many by the cells of the grid. The two differ by the rounding
  // of double alone: a value half way between two levels is as far from either.
  [[nodiscard]] bool AreFew(int levels) const;
  template <typename One>
  [[nodiscard]] double ErrorOneByOne(One one) const;
  // Levels ascending, in units of scale.
  [[nodiscard]] double ErrorByCells(std::span<const double> levels, double scale) const;

  std::vector<float> x_;
  std::vector<double> sum_, sum_sq_;  // of all values before i; one more than values
};

}  // namespace octet
