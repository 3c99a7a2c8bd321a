#include "calibrate/smoothing_factors.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "numerics/qparams.h"

namespace octet {
namespace {

void CheckMaxima(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) {
    Fail(ErrorCode::kInvalidArgument, "channel factors: ", a.size(), " channels against ",
         b.size());
  }
  for (size_t c = 0; c < a.size(); ++c) {
    if (!(std::isfinite(a[c]) && std::isfinite(b[c]) && a[c] >= 0 && b[c] >= 0)) {
      Fail(ErrorCode::kBadData, "channel factors: maxima ", a[c], " and ", b[c], " of channel ", c,
           " of ", a.size(), "; expected finite and not negative");
    }
  }
}

float Most(std::span<const float> x) {
  return x.empty() ? 0 : *std::max_element(x.begin(), x.end());
}

// factor(c) for live channels; 1, drawn into the interval of the live factors, for dead ones.
std::vector<float> LiveFactors(std::span<const float> a, std::span<const float> b,
                               const std::function<float(size_t)>& factor) {
  const float floor_a = Most(a) * kDeadChannelFloor;
  const float floor_b = Most(b) * kDeadChannelFloor;
  const auto dead = [&](size_t c) {
    return a[c] < floor_a || b[c] < floor_b || a[c] == 0 || b[c] == 0;
  };
  std::vector<float> s(a.size(), 1.0F);
  bool any = false;
  float least = 1;
  float most = 1;
  for (size_t c = 0; c < s.size(); ++c) {
    if (dead(c)) continue;
    s[c] = factor(c);
    least = any ? std::min(least, s[c]) : s[c];
    most = any ? std::max(most, s[c]) : s[c];
    any = true;
  }
  for (size_t c = 0; c < s.size(); ++c) {
    if (dead(c)) s[c] = std::clamp(1.0F, least, most);
  }
  return s;
}

}  // namespace

void MaxInto(std::span<float> into, std::span<const float> other) {
  if (into.size() != other.size()) {
    Fail(ErrorCode::kInvalidArgument, "channel maxima: ", other.size(), " channels into ",
         into.size());
  }
  for (size_t c = 0; c < into.size(); ++c) into[c] = std::max(into[c], other[c]);
}

std::vector<float> SmoothingFactors(std::span<const float> activation_max,
                                    std::span<const float> weight_max,
                                    const SmoothingOptions& options) {
  if (!(options.alpha >= 0 && options.alpha <= 1)) {
    Fail(ErrorCode::kInvalidArgument, "smoothing: alpha ", options.alpha, "; expected 0 to 1");
  }
  CheckMaxima(activation_max, weight_max);
  const double alpha = options.alpha;
  const float least_a = options.compat_smoothquant ? 0 : kSmoothingFloor;
  const auto factor = [&](size_t c) {
    const double a = std::max(activation_max[c], least_a);
    const double w = std::max(weight_max[c], kSmoothingFloor);
    return std::max(static_cast<float>(std::pow(a, alpha) / std::pow(w, 1 - alpha)),
                    kSmoothingFloor);
  };
  if (options.compat_smoothquant) {
    std::vector<float> s(activation_max.size());
    for (size_t c = 0; c < s.size(); ++c) s[c] = factor(c);
    return s;
  }
  return LiveFactors(activation_max, weight_max, factor);
}

std::vector<float> EqualizationFactors(std::span<const float> producer_max,
                                       std::span<const float> consumer_max) {
  CheckMaxima(producer_max, consumer_max);
  return LiveFactors(producer_max, consumer_max, [&](size_t c) {
    const double r1 = producer_max[c];
    const double r2 = consumer_max[c];
    return static_cast<float>(std::sqrt(r1 * r2) / r2);
  });
}

}  // namespace octet
