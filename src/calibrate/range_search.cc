#include "calibrate/range_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/parallel.h"
#include "calibrate/sorted_values.h"
#include "numerics/rounding.h"

namespace octet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The rows of a batch.
std::vector<std::span<const float>> RowsOf(std::span<const float> values, int64_t channels,
                                           size_t expected, std::string_view subject) {
  const auto n = static_cast<int64_t>(values.size());
  if (channels < 1 || n % channels != 0 ||
      (expected != 0 && static_cast<int64_t>(expected) != channels)) {
    Fail(ErrorCode::kInvalidArgument, subject, ": ", n, " values in ", channels,
         " channels, of earlier batches ", expected);
  }
  const auto length = static_cast<size_t>(n / channels);
  std::vector<std::span<const float>> rows;
  for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
    rows.push_back(values.subspan(c * length, length));
  }
  return rows;
}

// Squared error of the symmetric grid that covers maxval.
double ErrorAt(const SortedValues& values, const NumberFormat& format, float maxval,
               std::string_view subject) {
  if (format.is_float()) {
    const float scale = FloatScaleFor(format.floating(), maxval, subject);
    return values.SquaredError(format.floating(), scale,
                               FloatLimitFor(format.floating(), maxval, scale));
  }
  const IntFormat& integer = format.integer();
  const ScaleZero grid = integer.is_signed
                             ? ScaleZero{ChooseSymmetric(maxval, integer, {}, subject), 0}
                             : ChooseAsymmetric(0, maxval, integer, subject);
  return values.SquaredError(integer, grid);
}

// Evenly spaced, both ends included.
std::vector<float> Spaced(double first, double last, int n) {
  std::vector<float> points;
  for (int i = 0; i < n; ++i) {
    points.push_back(static_cast<float>(n > 1 ? first + (last - first) * i / (n - 1) : last));
  }
  return points;
}

void CheckOptions(const FloatSearchOptions& options) {
  if (options.candidates < 1 || !(options.first > 0) || !(options.last >= options.first)) {
    Fail(ErrorCode::kInvalidArgument, "range search: ", options.candidates, " candidates from ",
         options.first, " to ", options.last, " of the largest value");
  }
}

// -sum of p log q over the classes of one row, p and q softmaxes.
double CrossEntropy(std::span<const float> exact, std::span<const float> rounded) {
  const auto log_sum = [](std::span<const float> row) {
    const double most = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const float v : row) sum += std::exp(static_cast<double>(v) - most);
    return most + std::log(sum);
  };
  const double of_exact = log_sum(exact);
  const double of_rounded = log_sum(rounded);
  double total = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    total += std::exp(static_cast<double>(exact[i]) - of_exact) *
             (of_rounded - static_cast<double>(rounded[i]));
  }
  return total;
}

}  // namespace

RangeObserver::RangeObserver(ObserverMode mode, double trimmed, double momentum)
    : mode_(mode), trimmed_(trimmed), momentum_(momentum) {
  if (!(trimmed >= 0 && trimmed < 50) || !(momentum >= 0 && momentum < 1)) {
    Fail(ErrorCode::kInvalidArgument, "range observer: ", trimmed, " percent trimmed, momentum ",
         momentum, "; expected below 50 and below 1");
  }
}

void RangeObserver::Update(std::span<const float> values, int64_t channels,
                           std::string_view subject) {
  const auto rows = RowsOf(values, channels, ranges_.size(), subject);
  const bool first = ranges_.empty();
  ranges_.resize(rows.size());
  for (size_t c = 0; c < rows.size(); ++c) {
    const SortedValues row(rows[c], subject);
    const DataRange batch = {row.Percentile(trimmed_), row.Percentile(100 - trimmed_)};
    DataRange& range = ranges_[c];
    if (first || mode_ == ObserverMode::kCurrent) {
      range = batch;
    } else if (mode_ == ObserverMode::kAll) {
      range = {std::min(range.lo, batch.lo), std::max(range.hi, batch.hi)};
    } else {
      range = {momentum_ * range.lo + (1 - momentum_) * batch.lo,
               momentum_ * range.hi + (1 - momentum_) * batch.hi};
    }
  }
}

FloatRangeSearch::FloatRangeSearch(const FloatFormat& format, FloatSearchOptions options)
    : options_(options) {
  CheckOptions(options);
  if (!options.search_mantissa) {
    splits_ = {format};
    return;
  }
  splits_ = SplitsOf(format);
}

double& FloatRangeSearch::Error(size_t split, size_t channel, size_t candidate) {
  return error_[(split * channels_ + channel) * static_cast<size_t>(options_.candidates) +
                candidate];
}

double FloatRangeSearch::Error(size_t split, size_t channel, size_t candidate) const {
  return error_[(split * channels_ + channel) * static_cast<size_t>(options_.candidates) +
                candidate];
}

void FloatRangeSearch::Update(std::span<const float> values, int64_t channels,
                              std::string_view subject) {
  const auto rows = RowsOf(values, channels, channels_, subject);
  std::vector<SortedValues> sorted;
  for (const auto& row : rows) sorted.emplace_back(row, subject);
  const auto n = static_cast<size_t>(options_.candidates);
  if (channels_ == 0) {
    channels_ = rows.size();
    for (const SortedValues& row : sorted) {
      const double most = row.AbsMax();
      const auto spaced = Spaced(options_.first * most, options_.last * most, options_.candidates);
      candidates_.insert(candidates_.end(), spaced.begin(), spaced.end());
    }
    error_.assign(splits_.size() * channels_ * n, 0.0);
  }
  ParallelForEach(static_cast<int64_t>(channels_), [&](int64_t channel) {
    const auto c = static_cast<size_t>(channel);
    const auto count = static_cast<double>(sorted[c].size());
    for (size_t split = 0; split < splits_.size(); ++split) {
      for (size_t i = 0; i < n; ++i) {
        Error(split, c, i) +=
            ErrorAt(sorted[c], splits_[split], candidates_[c * n + i], subject) / count;
      }
    }
  });
}

size_t FloatRangeSearch::BestCandidate(size_t split, size_t channel) const {
  size_t best = 0;
  for (size_t i = 1; i < static_cast<size_t>(options_.candidates); ++i) {
    if (Error(split, channel, i) < Error(split, channel, best)) best = i;
  }
  return best;
}

size_t FloatRangeSearch::BestSplit() const {
  if (channels_ == 0) Fail(ErrorCode::kInvalidArgument, "range search: no batch was seen");
  std::vector<size_t> votes(splits_.size(), 0);
  for (size_t c = 0; c < channels_; ++c) {
    size_t best = 0;
    double least = kInfinity;
    for (size_t split = 0; split < splits_.size(); ++split) {
      const double error = Error(split, c, BestCandidate(split, c));
      if (error < least) {
        least = error;
        best = split;
      }
    }
    ++votes[best];
  }
  // Splits lie by ascending mantissa; max_element takes the first of equal ones.
  return static_cast<size_t>(std::max_element(votes.begin(), votes.end()) - votes.begin());
}

FloatFormat FloatRangeSearch::format() const { return splits_[BestSplit()]; }

std::vector<float> FloatRangeSearch::maxval() const {
  const size_t split = BestSplit();
  std::vector<float> result;
  for (size_t c = 0; c < channels_; ++c) {
    result.push_back(
        candidates_[c * static_cast<size_t>(options_.candidates) + BestCandidate(split, c)]);
  }
  return result;
}

std::vector<FloatFormat> SplitsOf(const FloatFormat& format) {
  if (format.specials != FloatSpecials::kNone) {
    Fail(ErrorCode::kInvalidArgument, "splits of ", format.Name(),
         ": NaN and infinity go with one split; expected a format whose codes are all finite");
  }
  std::vector<FloatFormat> splits;
  const int bits = format.exponent_bits + format.mantissa_bits;
  for (int m = 1; m < bits && m <= 7; ++m) {
    FloatFormat split = format;
    split.mantissa_bits = m;
    split.exponent_bits = bits - m;
    if (split.exponent_bits > 7) continue;
    split.Check();
    splits.push_back(split);
  }
  return splits;
}

void CheckWeightEstimator(const RangeEstimator& estimator) {
  const auto refuse = [&](const char* why) {
    Fail(ErrorCode::kInvalidArgument, "range estimator '", estimator.Name(), "' of weights: ", why,
         "; expected minmax, percentile, percentile:P, mse, golden-section or line-search");
  };
  switch (estimator.method) {
    case RangeMethod::kMinMax:
    case RangeMethod::kPercentile:
    case RangeMethod::kMse:
    case RangeMethod::kGoldenSection:
    case RangeMethod::kLineSearch:
      return;
    case RangeMethod::kMse2d:
      return refuse("their grids are symmetric about 0, with one end to search for");
    case RangeMethod::kCrossEntropy:
      return refuse("they are no logits");
    case RangeMethod::kEntropy:
      return refuse("a channel has too few values for a histogram");
    case RangeMethod::kAuto:
      return refuse("there is no choice to make");
  }
}

namespace {

// The largest magnitude of a channel's range.
float WeightMaxval(const SortedValues& values, const NumberFormat& format,
                   const RangeEstimator& estimator, std::string_view subject) {
  const float absmax = values.AbsMax();
  const auto most = static_cast<double>(absmax);
  const auto error = [&](double maxval) {
    return ErrorAt(values, format, static_cast<float>(maxval), subject);
  };
  const auto best_of = [&](std::span<const float> candidates) {
    float best = absmax;
    double least = kInfinity;
    for (const float maxval : candidates) {
      const double e = error(maxval);
      if (e < least) {
        least = e;
        best = maxval;
      }
    }
    return best;
  };
  if (absmax == 0) return 0;
  switch (estimator.method) {
    case RangeMethod::kPercentile:
      return static_cast<float>(values.MagnitudePercentile(estimator.percentile));
    case RangeMethod::kMse: {
      constexpr FloatSearchOptions kGrid;
      return best_of(Spaced(kGrid.first * most, kGrid.last * most, kGrid.candidates));
    }
    case RangeMethod::kGoldenSection:
      return static_cast<float>(
          GoldenSection(kFirstCandidate * most, kLastCandidate * most, 1e-6 * most, error));
    case RangeMethod::kLineSearch: {
      const double whole = kLineLast * most;
      return best_of(Spaced(whole / kLineCandidates, whole, kLineCandidates));
    }
    default:
      return absmax;
  }
}

}  // namespace

WeightSearch SearchWeightScales(std::span<const float> weights, const Extents& extents, int axis,
                                const NumberFormat& format, std::string_view subject,
                                const RangeEstimator& estimator) {
  CheckWeightEstimator(estimator);
  WeightSearch search{ChooseWeightScales(weights, extents, axis, format, subject), 0, {}};
  QuantParams& params = search.choice.params;
  const std::vector<int64_t>& dead = search.choice.dead;
  const auto channels = static_cast<size_t>(axis == -1 ? 1 : extents.channels);
  const auto inner = static_cast<size_t>(extents.inner);
  search.channel_error.assign(channels, 0.0);
  ParallelForEach(static_cast<int64_t>(channels), [&](int64_t channel) {
    const auto c = static_cast<size_t>(channel);
    std::vector<float> values;
    for (size_t first = axis == -1 ? 0 : c * inner; first < weights.size();
         first += axis == -1 ? weights.size() : channels * inner) {
      const auto row = weights.subspan(first, axis == -1 ? weights.size() : inner);
      values.insert(values.end(), row.begin(), row.end());
    }
    if (values.empty()) return;
    const SortedValues sorted(values, subject);
    const float best = WeightMaxval(sorted, format, estimator, subject);
    search.channel_error[c] = ErrorAt(sorted, format, best, subject);
    const bool is_dead = std::find(dead.begin(), dead.end(), channel) != dead.end();
    if (is_dead || best == 0) return;
    params.scale[c] = ChooseScale(best, format, {}, subject);
    if (!params.limit.empty()) {
      params.limit[c] = FloatLimitFor(format.floating(), best, params.scale[c]);
    }
  });
  for (const double e : search.channel_error) search.squared_error += e;
  return search;
}

WeightSearch BestWeightFormat(std::span<const float> weights, const Extents& extents, int axis,
                              std::span<const NumberFormat> formats, std::string_view subject,
                              const RangeEstimator& estimator) {
  if (formats.empty()) {
    Fail(ErrorCode::kInvalidArgument, subject, ": no number format to choose from");
  }
  WeightSearch best;
  for (const NumberFormat& format : formats) {
    WeightSearch found = SearchWeightScales(weights, extents, axis, format, subject, estimator);
    if (&format == formats.data() || found.squared_error < best.squared_error) {
      best = std::move(found);
    }
  }
  return best;
}

WeightSearch VotedWeightFormat(std::span<const float> weights, const Extents& extents, int axis,
                               std::span<const NumberFormat> formats, std::string_view subject,
                               const RangeEstimator& estimator) {
  if (formats.empty()) {
    Fail(ErrorCode::kInvalidArgument, subject, ": no number format to vote for");
  }
  std::vector<WeightSearch> found;
  for (const NumberFormat& format : formats) {
    found.push_back(SearchWeightScales(weights, extents, axis, format, subject, estimator));
  }
  std::vector<size_t> votes(formats.size(), 0);
  for (size_t c = 0; c < found[0].channel_error.size(); ++c) {
    const auto best = std::min_element(found.begin(), found.end(),
                                       [c](const WeightSearch& a, const WeightSearch& b) {
                                         return a.channel_error[c] < b.channel_error[c];
                                       });
    ++votes[static_cast<size_t>(best - found.begin())];
  }
  // max_element takes the first of equal ones.
  const auto most = std::max_element(votes.begin(), votes.end()) - votes.begin();
  return std::move(found[static_cast<size_t>(most)]);
}

LineSearch::LineSearch(const NumberFormat& format, LineSearchOptions options)
    : format_(format), options_(options) {
  if (options.candidates < 1 || !(options.margin >= 0) || !(options.expand > 0)) {
    Fail(ErrorCode::kInvalidArgument, "line search: ", options.candidates, " candidates, margin ",
         options.margin, ", expand ", options.expand);
  }
}

void LineSearch::Update(std::span<const float> values, int64_t channels, std::string_view subject) {
  const auto rows = RowsOf(values, channels, channels_, subject);
  std::vector<SortedValues> sorted;
  for (const auto& row : rows) sorted.emplace_back(row, subject);
  const auto n = static_cast<size_t>(options_.candidates);
  if (channels_ == 0) {
    channels_ = rows.size();
    float most = 0;
    one_sided_ = true;
    for (const SortedValues& row : sorted) {
      most = std::max(most, row.AbsMax());
      one_sided_ = one_sided_ && row.min() >= 0;
    }
    step_ = options_.expand * (static_cast<double>(most) + options_.margin) / options_.candidates;
    error_.assign(channels_ * n, 0.0);
    if (one_sided_ && !format_.is_float()) {
      format_ = IntFormat{format_.integer().bits, false, false};
    }
  }
  for (size_t c = 0; c < channels_; ++c) {
    for (size_t i = 0; i < n; ++i) {
      const auto maxval = static_cast<float>(step_ * static_cast<double>(i + 1));
      error_[c * n + i] += ErrorAt(sorted[c], format_, maxval, subject);
    }
  }
}

std::vector<double> LineSearch::maxval() const {
  const auto n = static_cast<ptrdiff_t>(options_.candidates);
  std::vector<double> result;
  for (auto row = error_.begin(); row != error_.end(); row += n) {
    result.push_back(step_ * static_cast<double>(std::min_element(row, row + n) - row + 1));
  }
  return result;
}

float GoldenSectionSearch(std::span<const float> values, const NumberFormat& format,
                          std::string_view subject, double first, double last) {
  CheckOptions({.candidates = 1, .first = first, .last = last});
  const SortedValues sorted(values, subject);
  const double most = sorted.AbsMax();
  const auto error = [&](double maxval) {
    return ErrorAt(sorted, format, static_cast<float>(maxval), subject);
  };
  // Down to a float's precision.
  return static_cast<float>(GoldenSection(first * most, last * most, 1e-6 * most, error));
}

DataRange AsymmetricSearch(std::span<const float> values, const IntFormat& format,
                           std::string_view subject, AsymmetricSearchOptions options) {
  if (options.thresholds < 1 || options.skews < 0) {
    Fail(ErrorCode::kInvalidArgument, subject, ": search over ", options.thresholds,
         " thresholds and ", options.skews, " skews");
  }
  const SortedValues sorted(values, subject);
  const double lo = std::min(static_cast<double>(sorted.min()), 0.0);
  const double hi = std::max(static_cast<double>(sorted.max()), 0.0);
  return AsymmetricRange(lo, hi, format, options, subject,
                         [&](const ScaleZero& grid) { return sorted.SquaredError(format, grid); });
}

DataRange CrossEntropySearch(std::span<const float> logits, int64_t classes,
                             const NumberFormat& format, std::string_view subject,
                             FloatSearchOptions options) {
  CheckOptions(options);
  if (classes < 2 || (format.is_float() && !format.is_signed())) {
    Fail(ErrorCode::kInvalidArgument, subject, ": cross-entropy of ", classes, " classes in ",
         format.Name(), "; expected 2 or more and, of float formats, a signed one");
  }
  const auto n = static_cast<int64_t>(logits.size());
  const auto rows = RowsOf(logits, n % classes == 0 ? n / classes : 0, 0, subject);
  const SortedValues sorted(logits, subject);
  DataRange whole = {std::min(static_cast<double>(sorted.min()), 0.0),
                     std::max(static_cast<double>(sorted.max()), 0.0)};
  if (format.is_signed()) whole = {-sorted.AbsMax(), sorted.AbsMax()};
  DataRange best = whole;
  double least = kInfinity;
  for (const float share : Spaced(options.first, options.last, options.candidates)) {
    const DataRange range = {whole.lo * static_cast<double>(share),
                             whole.hi * static_cast<double>(share)};
    const auto lo = static_cast<float>(range.lo), hi = static_cast<float>(range.hi);
    QuantParams params;
    params.format = format;
    const ScaleZero grid = format.is_signed() ? ScaleZero{ChooseScale(hi, format, {}, subject), 0}
                                              : ChooseAsymmetric(lo, hi, format.integer(), subject);
    params.scale = {grid.scale};
    params.zero_point = {grid.zero_point};
    if (format.is_float() && hi > 0) {
      params.limit = {FloatLimitFor(format.floating(), hi, params.scale[0])};
    }
    std::vector<float> rounded(logits.begin(), logits.end());
    FakeQuantizeArray(rounded, {1, 1, n}, params);
    double total = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto length = static_cast<size_t>(classes);
      total += CrossEntropy(rows[r], std::span(rounded).subspan(r * length, length));
    }
    if (total < least) {
      least = total;
      best = range;
    }
  }
  return best;
}

}  // namespace octet
