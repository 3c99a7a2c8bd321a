#include "calibrate/range.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"
#include "calibrate/range_entropy.h"
#include "calibrate/range_float.h"
#include "calibrate/range_lines.h"
#include "calibrate/value_density.h"

namespace octet {
namespace {

constexpr std::string_view kMethodNames[] = {"minmax",      "percentile", "mse",
                                             "entropy",     "auto",       "golden-section",
                                             "line-search", "mse-2d",     "cross-entropy"};

// What the estimators share: the distribution, and what a range costs on the grid it leads to.
struct Problem {
  const ValueDensity& density;
  NumberFormat format;
  bool symmetric;  // of a float format: signed
  std::string_view name;

  // The choice that a float grid is.
  [[nodiscard]] RangeChoice Of(const FloatRange& range, RangeMethod method) const {
    RangeChoice choice;
    choice.method = method;
    const FloatFormat& f = format.floating();
    const bool steps = f.bias_rule == BiasRule::kInteger || f.bias_rule == BiasRule::kStandard;
    choice.hi = steps ? f.Max() * range.scale : range.maxval;
    choice.lo = symmetric ? -choice.hi : 0;
    choice.grid = {range.scale, 0};
    choice.mse = range.squared_error / density.count();
    return choice;
  }

  [[nodiscard]] RangeChoice Evaluate(double lo, double hi, RangeMethod method) const {
    if (format.is_float()) {
      const double maxval = std::max(symmetric ? -lo : 0.0, std::max(hi, 0.0));
      return Of(FloatRangeOf(density, format.floating(), maxval, name), method);
    }
    RangeChoice choice;
    choice.method = method;
    choice.lo = static_cast<float>(std::min(lo, 0.0));
    choice.hi = static_cast<float>(std::max(hi, 0.0));
    if (symmetric) {
      choice.hi = std::max(choice.hi, -choice.lo);
      choice.lo = -choice.hi;
      choice.grid = {ChooseSymmetric(choice.hi, format.integer(), {}, name), 0};
    } else {
      choice.grid = ChooseAsymmetric(choice.lo, choice.hi, format.integer(), name);
    }
    choice.mse = density.SquaredError(choice.grid, format.integer()) / density.count();
    return choice;
  }

  [[nodiscard]] RangeChoice MinMax() const {
    return Evaluate(density.min(), density.max(), RangeMethod::kMinMax);
  }
};

RangeChoice PercentileRange(const Problem& problem, double percentile) {
  const ValueDensity& density = problem.density;
  const double left_out = 1 - percentile / 100;
  if (!problem.symmetric) {
    return problem.Evaluate(density.Quantile(left_out / 2), density.Quantile(1 - left_out / 2),
                            RangeMethod::kPercentile);
  }
  // The least t with at most the given share outside of [-t, t]; bisected down to a float's
  // precision.
  double low = 0;
  double high = std::max(std::fabs(density.min()), std::fabs(density.max()));
  for (int i = 0; i < 64 && high > low; ++i) {
    const double middle = low + (high - low) / 2;
    if (density.CountOutside(-middle, middle) <= left_out * density.count()) {
      high = middle;
    } else {
      low = middle;
    }
  }
  return problem.Evaluate(-high, high, RangeMethod::kPercentile);
}

// Search over lo and hi. The error is nearly (range^2 / 12 steps^2) plus two clipping terms: convex
// in (lo, hi), with a ripple from how the values fall on the grid. So: descend along three
// directions (both ends, hi, lo) in factors of sqrt(2), then in ever smaller factors until the
// ripple is all that is left.
RangeChoice MseRange(const Problem& problem) {
  if (problem.format.is_float()) {
    return problem.Of(
        LeastErrorFloatRange(problem.density, problem.format.floating(), problem.name),
        RangeMethod::kMse);
  }
  RangeChoice best = problem.MinMax();
  best.method = RangeMethod::kMse;
  const RangeChoice whole = best;
  struct Direction {
    bool lo;
    bool hi;
  };
  std::vector<Direction> directions = {{true, true}};
  if (!problem.symmetric && whole.lo < 0 && whole.hi > 0) {
    directions.push_back({false, true});
    directions.push_back({true, false});
  }
  // Evaluates (and keeps, if better) the range with the ends of a direction times factor.
  const auto try_factor = [&](const RangeChoice& from, Direction direction, double factor) {
    const double lo = from.lo * (direction.lo ? factor : 1);
    const double hi = from.hi * (direction.hi ? factor : 1);
    if (lo < whole.lo || hi > whole.hi) return std::numeric_limits<double>::infinity();
    const RangeChoice candidate = problem.Evaluate(lo, hi, RangeMethod::kMse);
    if (candidate.mse < best.mse) best = candidate;
    return candidate.mse;
  };
  constexpr double kCoarse = 1.4142135623730951;
  constexpr double kSmallest = 0x1p-40;  // of the whole range: beyond any outlier worth keeping
  constexpr double kHopeless = 16;  // times the best: clipping has set in, less cannot be better
  for (int round = 0; round < 4; ++round) {
    const double before = best.mse;
    for (const Direction direction : directions) {
      const RangeChoice from = best;
      for (double factor = 1 / kCoarse; factor > kSmallest; factor /= kCoarse) {
        if (try_factor(from, direction, factor) > kHopeless * best.mse) break;
      }
      for (double factor = kCoarse; round > 0 && factor < 1 / kSmallest; factor *= kCoarse) {
        if (try_factor(from, direction, factor) > kHopeless * best.mse) break;
      }
    }
    if (!(best.mse < before)) break;
  }
  for (double step : {0x1p-2, 0x1p-3, 0x1p-4, 0x1p-5, 0x1p-6, 0x1p-7, 0x1p-8}) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      const double before = best.mse;
      for (const Direction direction : directions) {
        const RangeChoice from = best;
        try_factor(from, direction, 1 - step);
        try_factor(from, direction, 1 + step);
      }
      if (!(best.mse < before)) break;
    }
  }
  return best;
}

// One share of both ends.
RangeChoice GoldenSectionRange(const Problem& problem) {
  const RangeChoice whole = problem.MinMax();
  const auto at = [&](double share) {
    return problem.Evaluate(whole.lo * share, whole.hi * share, RangeMethod::kGoldenSection);
  };
  // Down to a float's precision.
  return at(GoldenSection(kFirstCandidate, kLastCandidate, 1e-6,
                          [&](double share) { return at(share).mse; }));
}

RangeChoice LineSearchRange(const Problem& problem) {
  const RangeChoice whole = problem.MinMax();
  RangeChoice best = whole;
  best.method = RangeMethod::kLineSearch;
  for (int i = 1; i <= kLineCandidates; ++i) {
    const double share = kLineLast * i / kLineCandidates;
    const RangeChoice candidate =
        problem.Evaluate(whole.lo * share, whole.hi * share, RangeMethod::kLineSearch);
    if (candidate.mse < best.mse) best = candidate;
  }
  return best;
}

RangeChoice AsymmetricSearchRange(const Problem& problem) {
  if (problem.format.is_float() || problem.symmetric) {
    Fail(ErrorCode::kInvalidArgument, "range of value '", problem.name, "': mse-2d searches for ",
         "both ends of a grid with a zero point, and ", problem.format.Name(),
         " is symmetric about 0; expected an unsigned integer format, as uint8, or another "
         "estimator");
  }
  const DataRange range =
      AsymmetricRange(std::min(problem.density.min(), 0.0), std::max(problem.density.max(), 0.0),
                      problem.format.integer(), {}, problem.name, [&](const ScaleZero& grid) {
                        return problem.density.SquaredError(grid, problem.format.integer());
                      });
  return problem.Evaluate(range.lo, range.hi, RangeMethod::kMse2d);
}

RangeChoice EntropyRange(const Problem& problem) {
  if (problem.format.is_float()) {
    Fail(ErrorCode::kUnsupported, "range of value '", problem.name,
         "': entropy compares with the steps of an integer grid; expected minmax, percentile, mse "
         "or auto for ",
         problem.format.Name());
  }
  const double threshold =
      EntropyThreshold(problem.density, problem.format.integer(), problem.symmetric, problem.name);
  return problem.Evaluate(std::max(problem.density.min(), -threshold),
                          std::min(problem.density.max(), threshold), RangeMethod::kEntropy);
}

}  // namespace

RangeEstimator RangeEstimator::Parse(std::string_view text) {
  const auto colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (size_t i = 0; i < std::size(kMethodNames); ++i) {
    if (kMethodNames[i] != name) continue;
    RangeEstimator estimator;
    estimator.method = static_cast<RangeMethod>(i);
    if (colon == std::string_view::npos) return estimator;
    if (estimator.method != RangeMethod::kPercentile) break;
    const std::string_view number = text.substr(colon + 1);
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), estimator.percentile);
    if (error == std::errc() && end == number.data() + number.size() && estimator.percentile > 50 &&
        estimator.percentile <= 100) {
      return estimator;
    }
    Fail(ErrorCode::kInvalidArgument, "range estimator '", text,
         "'; expected a percentile above 50 and up to 100, such as percentile:99.99");
  }
  Fail(ErrorCode::kInvalidArgument, "range estimator '", text,
       "'; expected minmax, percentile, percentile:P, mse, mse-2d, golden-section, line-search, "
       "entropy, "
       "cross-entropy or auto");
}

std::string RangeEstimator::Name() const {
  std::string name(kMethodNames[static_cast<size_t>(method)]);
  if (method == RangeMethod::kPercentile && percentile != RangeEstimator().percentile) {
    char digits[32];
    const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), percentile);
    OCTET_INVARIANT(error == std::errc());
    name.append(1, ':').append(digits, end);
  }
  return name;
}

RangeChoice EstimateRange(std::string_view name, const ValueStatistics& statistics,
                          const RangeEstimator& estimator, const NumberFormat& format,
                          bool symmetric) {
  if (statistics.non_finite() != 0) {
    Fail(ErrorCode::kBadData, "range of value '", name, "': ", statistics.non_finite(), " of ",
         statistics.elements() + statistics.non_finite(),
         " calibration values are NaN or infinite; expected none");
  }
  if (statistics.elements() == 0) {
    Fail(ErrorCode::kBadData, "range of value '", name, "': calibration saw no values");
  }
  const ValueDensity density(statistics);
  const Problem problem{density, format, format.is_float() ? format.is_signed() : symmetric, name};
  RangeChoice choice;
  switch (estimator.method) {
    case RangeMethod::kMinMax:
      choice = problem.MinMax();
      break;
    case RangeMethod::kPercentile:
      choice = PercentileRange(problem, estimator.percentile);
      break;
    case RangeMethod::kMse:
      choice = MseRange(problem);
      break;
    case RangeMethod::kEntropy:
      choice = EntropyRange(problem);
      break;
    case RangeMethod::kGoldenSection:
      choice = GoldenSectionRange(problem);
      break;
    case RangeMethod::kLineSearch:
      choice = LineSearchRange(problem);
      break;
    case RangeMethod::kMse2d:
      choice = AsymmetricSearchRange(problem);
      break;
    case RangeMethod::kCrossEntropy:
      Fail(ErrorCode::kInvalidArgument, "range of value '", name,
           "': cross-entropy compares rows of logits, which statistics do not keep");
    case RangeMethod::kAuto: {
      choice = problem.MinMax();
      const RangeChoice clipped = MseRange(problem);
      if (clipped.mse < choice.mse * (1 - kAutoMargin)) choice = clipped;
      break;
    }
  }
  choice.clipped_fraction = density.CountOutside(choice.lo, choice.hi) / density.count();
  return choice;
}

FormatChoice BestFormat(std::string_view name, const ValueStatistics& statistics,
                        const RangeEstimator& estimator, std::span<const NumberFormat> formats,
                        bool symmetric) {
  if (formats.empty()) {
    Fail(ErrorCode::kInvalidArgument, "format of value '", name, "': none to choose from");
  }
  FormatChoice best;
  for (const NumberFormat& format : formats) {
    const RangeChoice range = EstimateRange(name, statistics, estimator, format, symmetric);
    if (&format == formats.data() || range.mse < best.range.mse) best = {format, range};
  }
  return best;
}

RangeChoice GivenRange(std::string_view name, const ValueStatistics& statistics, double lo,
                       double hi, RangeMethod method, const NumberFormat& format, bool symmetric) {
  const ValueDensity density(statistics);
  const Problem problem{density, format, format.is_float() ? format.is_signed() : symmetric, name};
  RangeChoice choice = problem.Evaluate(lo, hi, method);
  choice.clipped_fraction = density.CountOutside(choice.lo, choice.hi) / density.count();
  return choice;
}

double ExpectedMse(const ValueStatistics& statistics, const ScaleZero& grid,
                   const NumberFormat& format) {
  if (statistics.elements() == 0) return 0;
  const ValueDensity density(statistics);
  const double squares = format.is_float() ? FloatSquaredError(density, format.floating(),
                                                               grid.scale, format.floating().Max())
                                           : density.SquaredError(grid, format.integer());
  return squares / density.count();
}

}  // namespace octet
