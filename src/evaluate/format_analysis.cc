#include "evaluate/format_analysis.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace octet {
namespace {

// Magnitudes that values above 0, and those below, are quantized to: ascending, from 0, in units of
// the scale.
struct Levels {
  std::vector<double> above;
  std::vector<double> below;
};

Levels LevelsOf(const IntFormat& format) {
  Levels levels;
  for (int32_t q = 0; q <= format.qmax(); ++q) levels.above.push_back(q);
  for (int32_t q = 0; q <= -format.qmin(); ++q) levels.below.push_back(q);
  return levels;
}

Levels LevelsOf(const FloatFormat& format, float limit) {
  Levels levels;
  for (const float v : FloatValues(format, limit)) {
    if (v >= 0) levels.above.push_back(v);
  }
  levels.below = format.is_signed ? levels.above : std::vector<double>{0};
  return levels;
}

// Adds the part of one side of 0. Every cell of the grid takes its moments as differences; what is
// clipped lies on the distribution's last point.
void AddSide(const Distribution& d, const std::vector<double>& levels, double scale,
             GridError& error) {
  UpperMoments from = d.Above(0);
  const UpperMoments clipped = d.Above(d.clip);
  double q = 0;
  for (size_t i = 0; i < levels.size(); ++i) {
    q = levels[i] * scale;
    const double end = i + 1 < levels.size() ? (levels[i] + levels[i + 1]) / 2 * scale : d.clip;
    const bool last = i + 1 == levels.size() || end >= d.clip;
    const UpperMoments upto = last ? clipped : d.Above(end);
    const double mass = from.mass - upto.mass;
    const double first = from.first - upto.first;
    const double second = from.second - upto.second;
    error.mse += std::max(0.0, second - 2 * q * first + q * q * mass);
    error.cross += q * first - second;
    from = upto;
    if (last) break;
  }
  error.mse += (q - d.clip) * (q - d.clip) * clipped.mass;
  error.cross += d.clip * (q - d.clip) * clipped.mass;
}

GridError ErrorOf(const Distribution& d, const Levels& levels, double scale) {
  GridError error;
  AddSide(d, levels.above, scale, error);
  if (levels.below == levels.above) {
    error.mse *= 2;
    error.cross *= 2;
  } else {
    AddSide(d, levels.below, scale, error);
  }
  return error;
}

// The grids of one format over all ranges.
class Grids {
 public:
  Grids(const Distribution& distribution, const NumberFormat& format)
      : distribution_(distribution), format_(format) {
    if (!format.is_float()) {
      levels_ = LevelsOf(format.integer());
    } else if (format.floating().bias_rule != BiasRule::kIntegerRound) {
      levels_ = LevelsOf(format.floating(), 0);
    }
  }

  [[nodiscard]] GridError At(double alpha) const {
    GridError error;
    if (!format_.is_float()) {
      error = ErrorOf(distribution_, levels_, alpha / format_.integer().qmax());
      error.alpha = alpha;
      return error;
    }
    const FloatFormat& format = format_.floating();
    if (format.bias_rule == BiasRule::kReal) {
      error = ErrorOf(distribution_, levels_, alpha / static_cast<double>(format.Max()));
      error.alpha = alpha;
      return error;
    }
    const auto maxval = static_cast<float>(alpha);
    const float scale = FloatScaleFor(format, maxval);
    const double unit = scale;
    if (format.bias_rule == BiasRule::kIntegerRound) {
      error = ErrorOf(distribution_, LevelsOf(format, FloatLimitFor(format, maxval, scale)), unit);
      error.alpha = alpha;
    } else {
      error = ErrorOf(distribution_, levels_, unit);
      error.alpha = static_cast<double>(format.Max()) * unit;
    }
    return error;
  }

 private:
  const Distribution& distribution_;
  NumberFormat format_;
  Levels levels_;
};

}  // namespace

GridError ErrorAt(const Distribution& distribution, const NumberFormat& format, double alpha) {
  if (!(alpha > 0) || !(alpha < 1e38)) {
    Fail(ErrorCode::kInvalidArgument, "error of ", format.Name(), " on ", distribution.Name(),
         ": range ", alpha, "; expected above 0");
  }
  return Grids(distribution, format).At(alpha);
}

GridError LeastError(const Distribution& distribution, const NumberFormat& format) {
  const Grids grids(distribution, format);
  if (format.is_float() && format.floating().bias_rule == BiasRule::kStandard) return grids.At(1);
  // Integers have one minimum, floats a ripple of one octave; either is smooth over a step.
  const double step = std::exp2(format.is_float() ? 1.0 / 32 : 1.0 / 8);
  // Below a tenth of the rms clipping is nearly all of the error; 16 times the clip costs a float
  // grid four octaves of its exponents, an integer one four bits.
  const double lowest = std::sqrt(distribution.Power()) / 10;
  const double highest = distribution.clip * 16;
  GridError best = grids.At(lowest);
  for (double alpha = lowest; alpha <= highest; alpha *= step) {
    const GridError error = grids.At(alpha);
    // The octaves of a flat optimum differ by less than this.
    if (error.mse < best.mse * (1 - 1e-6)) best = error;
  }
  for (double factor = std::sqrt(step); factor > 1 + 1e-6; factor = std::sqrt(factor)) {
    for (const double alpha : {best.alpha / factor, best.alpha * factor}) {
      const GridError error = grids.At(alpha);
      if (error.mse < best.mse) best = error;
    }
  }
  return best;
}

double ProductError(double power, const GridError& error) {
  const double d = error.mse;
  const double r = error.cross;
  return 2 * power * d + d * d + 2 * r * r + 4 * r * d;
}

}  // namespace octet
