#include "calibrate/sorted_values.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "numerics/rounding.h"

namespace octet {
namespace {

double PercentileOf(std::span<const float> ascending, double percent) {
  const double at = percent / 100 * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  const double low = ascending[below];
  return low + (static_cast<double>(ascending[above]) - low) * (at - static_cast<double>(below));
}

}  // namespace

SortedValues::SortedValues(std::span<const float> values, std::string_view subject)
    : x_(values.begin(), values.end()) {
  if (x_.empty()) Fail(ErrorCode::kBadData, subject, ": no values to find a range of");
  for (const float v : x_) {
    if (!std::isfinite(v)) {
      Fail(ErrorCode::kBadData, subject, ": ", v, " among the values; expected finite ones");
    }
  }
  std::sort(x_.begin(), x_.end());
  sum_.reserve(x_.size() + 1);
  sum_sq_.reserve(x_.size() + 1);
  sum_.push_back(0);
  sum_sq_.push_back(0);
  for (const float v : x_) {
    const double x = v;
    sum_.push_back(sum_.back() + x);
    sum_sq_.push_back(sum_sq_.back() + x * x);
  }
}

float SortedValues::AbsMax() const { return std::max(std::fabs(min()), std::fabs(max())); }

double SortedValues::Percentile(double percent) const { return PercentileOf(x_, percent); }

double SortedValues::MagnitudePercentile(double percent) const {
  std::vector<float> magnitudes(x_.size());
  std::transform(x_.begin(), x_.end(), magnitudes.begin(), [](float v) { return std::fabs(v); });
  std::sort(magnitudes.begin(), magnitudes.end());
  return PercentileOf(magnitudes, percent);
}

// A cell costs some six values: a search, and two differences of sums.
bool SortedValues::AreFew(int levels) const { return x_.size() < static_cast<size_t>(6 * levels); }

template <typename One>
double SortedValues::ErrorOneByOne(One one) const {
  double total = 0;
  for (const float v : x_) {
    const double e = static_cast<double>(v) - static_cast<double>(one(v));
    total += e * e;
  }
  return total;
}

double SortedValues::ErrorByCells(std::span<const double> levels, double scale) const {
  double total = 0;
  auto begin = x_.begin();
  for (size_t i = 0; i < levels.size() && begin != x_.end(); ++i) {
    auto end = x_.end();
    if (i + 1 < levels.size()) {
      const double border = (levels[i] + levels[i + 1]) / 2 * scale;
      end = std::partition_point(begin, x_.end(),
                                 [border](float v) { return static_cast<double>(v) < border; });
    }
    const auto from = static_cast<size_t>(begin - x_.begin());
    const auto to = static_cast<size_t>(end - x_.begin());
    const double q = levels[i] * scale;
    total += std::max(0.0, sum_sq_[to] - sum_sq_[from] - 2 * q * (sum_[to] - sum_[from]) +
                               q * q * static_cast<double>(to - from));
    begin = end;
  }
  return total;
}

double SortedValues::SquaredError(const FloatFormat& format, float scale, float limit) const {
  if (AreFew(format.code_count())) {
    FloatGrid grid(format);
    grid.max = limit;
    return ErrorOneByOne([&](float v) { return grid.Round(v / scale) * scale; });
  }
  const std::vector<float> values = FloatValues(format, limit);
  return ErrorByCells(std::vector<double>(values.begin(), values.end()), scale);
}

double SortedValues::SquaredError(const IntFormat& format, const ScaleZero& grid) const {
  if (AreFew(format.levels())) {
    return ErrorOneByOne([&](float v) {
      return DequantizeOne(
          QuantizeOne(v, grid.scale, grid.zero_point, format.qmin(), format.qmax()), grid.scale,
          grid.zero_point);
    });
  }
  std::vector<double> levels;
  for (int32_t q = format.qmin(); q <= format.qmax(); ++q) levels.push_back(q - grid.zero_point);
  return ErrorByCells(levels, grid.scale);
}

}  // namespace octet
