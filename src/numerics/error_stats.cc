#include "numerics/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace octet {

void ErrorStats::Add(std::span<const float> reference, std::span<const float> test) {
  if (reference.size() != test.size()) {
    Fail(ErrorCode::kInvalidArgument, "error statistics: ", test.size(), " values against ",
         reference.size());
  }
  // Sums of this call are taken on their own, then added once: long runs of calls lose less.
  ErrorStats part;
  for (size_t i = 0; i < reference.size(); ++i) {
    if (!std::isfinite(reference[i]) || !std::isfinite(test[i])) {
      ++part.non_finite;
      continue;
    }
    const double r = reference[i];
    const double t = test[i];
    const double e = t - r;
    ++part.count;
    part.nonzero += r != 0 ? 1 : 0;
    part.flushed += r != 0 && t == 0 ? 1 : 0;
    part.reference_sq += r * r;
    part.test_sq += t * t;
    part.product += r * t;
    part.error_abs += std::fabs(e);
    part.error_sq += e * e;
    part.error += e;
    part.max_abs = std::max(part.max_abs, std::fabs(e));
  }
  Merge(part);
}

void ErrorStats::Merge(const ErrorStats& other) {
  count += other.count;
  non_finite += other.non_finite;
  nonzero += other.nonzero;
  flushed += other.flushed;
  reference_sq += other.reference_sq;
  test_sq += other.test_sq;
  product += other.product;
  error_abs += other.error_abs;
  error_sq += other.error_sq;
  error += other.error;
  max_abs = std::max(max_abs, other.max_abs);
}

double ErrorStats::SqnrDb() const {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (error_sq == 0) return kInfinity;
  if (reference_sq == 0) return -kInfinity;
  return 10 * std::log10(reference_sq / error_sq);
}

double ErrorStats::Cosine() const {
  if (reference_sq == 0 && test_sq == 0) return 1;
  if (reference_sq == 0 || test_sq == 0) return 0;
  // Two roots, not the root of a product: squares of large sums would overflow.
  return std::clamp(product / (std::sqrt(reference_sq) * std::sqrt(test_sq)), -1.0, 1.0);
}

double ErrorStats::Mse() const { return count == 0 ? 0 : error_sq / static_cast<double>(count); }
double ErrorStats::L1() const { return count == 0 ? 0 : error_abs / static_cast<double>(count); }
double ErrorStats::Bias() const { return count == 0 ? 0 : error / static_cast<double>(count); }

double ErrorStats::FlushedFraction() const {
  return nonzero == 0 ? 0 : static_cast<double>(flushed) / static_cast<double>(nonzero);
}

}  // namespace octet
