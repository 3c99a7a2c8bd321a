#include "evaluate/intervals.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace octet {
namespace {

constexpr double kZ975 = 1.959963984540054;  // 97.5 % quantile of the standard normal distribution

}  // namespace

double StudentT975(int64_t degrees) {
  OCTET_INVARIANT(degrees >= 1);
  // Tabulated below ten degrees, where the expansion below is worse than 5e-5.
  static constexpr std::array<double, 10> kTable = {12.7062047, 4.3026527, 3.1824463, 2.7764451,
                                                    2.5705818,  2.4469119, 2.3646243, 2.3060041,
                                                    2.2621572,  2.2281389};
  if (degrees <= static_cast<int64_t>(kTable.size()))
    return kTable[static_cast<size_t>(degrees - 1)];
  // Abramowitz and Stegun 26.7.5.
  const double z = kZ975, v = static_cast<double>(degrees);
  const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z, z9 = z7 * z * z;
  return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v) +
         (79 * z9 + 776 * z7 + 1482 * z5 - 1920 * z3 - 945 * z) / (92160 * v * v * v * v);
}

Interval MeanInterval(std::span<const double> values, const Bounds& bounds) {
  if (values.empty()) Fail(ErrorCode::kBadData, "mean: there are no samples");
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (double v : values) sum += v;
  const double mean = sum / n;
  // Of the bounds and the mean, for the mean may lie an ulp beyond.
  const double least = std::min(bounds.least, mean), most = std::max(bounds.most, mean);
  if (values.size() < 2) return {mean, least, most};
  if (std::isinf(mean)) return {mean, mean, mean};
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  const double half =
      StudentT975(static_cast<int64_t>(values.size()) - 1) * std::sqrt(squares / (n - 1) / n);
  return {mean, std::max(mean - half, least), std::min(mean + half, most)};
}

Interval WilsonInterval(int64_t successes, int64_t n) {
  if (n <= 0) Fail(ErrorCode::kBadData, "share: there are no samples");
  const auto count = static_cast<double>(n);
  const double p = static_cast<double>(successes) / count;
  const double z2 = kZ975 * kZ975;
  const double center = p + z2 / (2 * count);
  const double half = kZ975 * std::sqrt(p * (1 - p) / count + z2 / (4 * count * count));
  const double scale = 1 + z2 / count;
  return {p, std::clamp((center - half) / scale, 0.0, p),
          std::clamp((center + half) / scale, p, 1.0)};
}

Interval PairedDifference(const PairCounts& counts) {
  const auto a = static_cast<double>(counts.both);
  const auto b = static_cast<double>(counts.second_only);
  const auto c = static_cast<double>(counts.first_only);
  const auto d = static_cast<double>(counts.neither);
  const int64_t n = counts.both + counts.first_only + counts.second_only + counts.neither;
  const Interval second = WilsonInterval(counts.both + counts.second_only, n);
  const Interval first = WilsonInterval(counts.both + counts.first_only, n);
  const double margins = (a + b) * (c + d) * (a + c) * (b + d);
  double phi = 0;
  if (margins > 0) {
    double determinant = a * d - b * c;
    // Newcombe's continuity correction: only a positive correlation is shrunk.
    if (determinant > 0) determinant = std::max(determinant - static_cast<double>(n) / 2, 0.0);
    phi = determinant / std::sqrt(margins);
  }
  const auto combine = [phi](double x, double y) {
    return std::sqrt(std::max(0.0, x * x - 2 * phi * x * y + y * y));
  };
  const double change = second.value - first.value;
  return {change, change - combine(second.value - second.lo, first.hi - first.value),
          change + combine(second.hi - second.value, first.value - first.lo)};
}

}  // namespace octet
