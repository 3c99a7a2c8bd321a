#include "calibrate/range_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"

namespace octet {

constexpr double kSmoothing = 1e-4;

double EntropyThreshold(const ValueDensity& density, IntFormat format, bool symmetric,
                        std::string_view name) {
  if (format.bits > 8) {
    Fail(ErrorCode::kUnsupported, "range of value '", name, "': entropy for ", format.Name(),
         "; expected at most 8 bits");
  }
  const double absmax = std::max(std::fabs(density.min()), std::fabs(density.max()));
  const bool both_signs = symmetric || (density.min() < 0 && density.max() > 0);
  const size_t levels = size_t{1} << (both_signs ? format.bits - 1 : format.bits);
  const size_t bins = 16 * levels;
  const double width = absmax / static_cast<double>(bins);
  if (!(density.count() > density.zeros()) || width == 0) return absmax;

  // count[j]: bin j. The running sums have one more entry, [j] being of the bins before j.
  std::vector<double> count(bins);
  std::vector<double> mass(bins + 1);
  std::vector<double> entropy(bins + 1);  // of count log count
  std::vector<size_t> filled(bins + 1);   // bins that are not empty
  const auto p_log_p = [](double p) { return p > 0 ? p * std::log(p) : 0; };
  double inside = density.zeros();
  for (size_t j = 0; j < bins; ++j) {
    const double edge = absmax * static_cast<double>(j + 1) / static_cast<double>(bins);
    const double now =
        j + 1 == bins ? density.count() : density.count() - density.CountOutside(-edge, edge);
    // A difference of two large sums: what is below their rounding is no element.
    const double own = now - inside;
    count[j] = own > density.count() * 0x1p-48 ? own : 0;
    inside = now;
    mass[j + 1] = mass[j] + count[j];
    entropy[j + 1] = entropy[j] + p_log_p(count[j]);
    filled[j + 1] = filled[j] + (count[j] > 0 ? 1 : 0);
  }
  const double total = mass[bins];

  double best = std::numeric_limits<double>::infinity();
  size_t best_bins = bins;
  const size_t step = std::max<size_t>(1, levels / 64);
  for (size_t i = bins; i >= levels; i -= step) {
    const double beyond = total - mass[i];
    const double last = count[i - 1];
    // Count that makes the share of an otherwise empty last bin kSmoothing of all of Q.
    const double smoothed = last == 0 && beyond > 0 ? mass[i] * kSmoothing / (1 - kSmoothing) : 0;
    if (mass[i] == 0) break;
    double cross = smoothed > 0 ? beyond * std::log(smoothed) : 0;  // sum of P log Q
    for (size_t k = 0; k < levels; ++k) {
      const size_t first = k * i / levels;
      const size_t end = (k + 1) * i / levels;
      const double run = mass[end] - mass[first];
      if (filled[end] == filled[first]) continue;
      const double p = k + 1 == levels && smoothed == 0 ? run + beyond : run;
      cross += p * std::log(run / static_cast<double>(filled[end] - filled[first]));
    }
    const double own = entropy[i] - p_log_p(last) + p_log_p(last + beyond);
    const double divergence = (own - cross) / total + std::log((mass[i] + smoothed) / total);
    if (divergence < best) {
      best = divergence;
      best_bins = i;
    }
  }
  return absmax * static_cast<double>(best_bins) / static_cast<double>(bins);
}

}  // namespace octet
