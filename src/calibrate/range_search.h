// Range estimators over values at hand: those of "FP8 Quantization: The Power of the Exponent" with
// what its programs promise and lack. Octet's own calibration works from statistics
// (calibrate/range.h); these are for weights, and to compare with the original.
// Spec: spec/fp8.md 3.
//
// Values come as `channels` rows of equal length; 1 channel is per tensor. Every class takes batch
// after batch, as the original does; a subject names the value in errors. All throw kBadData on
// NaN, infinity or no values, kInvalidArgument where channels change or do not divide the values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calibrate/range.h"
#include "calibrate/range_lines.h"
#include "numerics/number_format.h"
#include "numerics/qparams.h"

namespace octet {

enum class ObserverMode : uint8_t {
  kCurrent,  // of the last batch
  kAll,      // over all batches
  kRunning,  // momentum * before + (1 - momentum) * batch, beginning with the first batch
};

// Extrema, or percentiles: `trimmed` percent left out at either end.
class RangeObserver {
 public:
  explicit RangeObserver(ObserverMode mode, double trimmed = 0, double momentum = 0.9);
  void Update(std::span<const float> values, int64_t channels, std::string_view subject);
  [[nodiscard]] const std::vector<DataRange>& ranges() const { return ranges_; }

 private:
  ObserverMode mode_;
  double trimmed_;
  double momentum_;
  std::vector<DataRange> ranges_;
};

struct FloatSearchOptions {
  int candidates = 111;  // evenly from first to last times the largest magnitude of the first batch
  double first = 0.1;
  double last = 1.2;
  // Tries every split of the format's bits with at least one exponent and one mantissa bit. Each
  // channel votes for the split of its least error; the most votes win, ties go to the smallest
  // mantissa.
  bool search_mantissa = true;
};

// Grid search over the largest magnitude by mean squared error, summed over batches. The candidates
// are the first batch's: later outliers do not enlarge them.
class FloatRangeSearch {
 public:
  FloatRangeSearch(const FloatFormat& format, FloatSearchOptions options = {});
  void Update(std::span<const float> values, int64_t channels, std::string_view subject);
  [[nodiscard]] FloatFormat format() const;         // with the mantissa bits of the vote
  [[nodiscard]] std::vector<float> maxval() const;  // per channel, of that format

 private:
  [[nodiscard]] double& Error(size_t split, size_t channel, size_t candidate);
  [[nodiscard]] double Error(size_t split, size_t channel, size_t candidate) const;
  [[nodiscard]] size_t BestCandidate(size_t split, size_t channel) const;
  [[nodiscard]] size_t BestSplit() const;

  std::vector<FloatFormat> splits_;
  FloatSearchOptions options_;
  std::vector<float> candidates_;  // channels x candidates
  std::vector<double> error_;      // splits x channels x candidates
  size_t channels_ = 0;
};

struct WeightSearch {
  WeightScaleChoice choice;           // as ChooseWeightScales makes it
  double squared_error = 0;           // sum over all weights, on those scales
  std::vector<double> channel_error;  // the same, by channel (one, per tensor)
};

// How a channel of a weight gets its range, symmetric in any format: minmax, percentile (of
// magnitudes), mse (the grid of FloatSearchOptions), golden-section or line-search. The others make
// no sense for weights: throws kInvalidArgument with the reason.
void CheckWeightEstimator(const RangeEstimator& estimator);

// The scales of ChooseWeightScales, but of each channel's range by the estimator; dead channels
// keep the scale that gives them. Least of the candidates where they are as good.
[[nodiscard]] WeightSearch SearchWeightScales(
    std::span<const float> weights, const Extents& extents, int axis, const NumberFormat& format,
    std::string_view subject, const RangeEstimator& estimator = {.method = RangeMethod::kMse});

// The format of least squared error among those given, each on the scales of SearchWeightScales.
// Ties go to the first. Throws kInvalidArgument where none is given.
[[nodiscard]] WeightSearch BestWeightFormat(std::span<const float> weights, const Extents& extents,
                                            int axis, std::span<const NumberFormat> formats,
                                            std::string_view subject,
                                            const RangeEstimator& estimator = {
                                                .method = RangeMethod::kMse});

// The format that most channels err least in: each channel votes for one, ties (in a channel and
// among votes) go to the first. With SplitsOf and mse: FloatRangeSearch's, of one batch.
[[nodiscard]] WeightSearch VotedWeightFormat(std::span<const float> weights, const Extents& extents,
                                             int axis, std::span<const NumberFormat> formats,
                                             std::string_view subject,
                                             const RangeEstimator& estimator = {
                                                 .method = RangeMethod::kMse});

// Every split of a format's bits with at least one exponent and one mantissa bit, by ascending
// mantissa; sign and bias rule as they are. Throws kInvalidArgument where the format has NaN or
// infinity: those go with one split.
[[nodiscard]] std::vector<FloatFormat> SplitsOf(const FloatFormat& format);

// Search along one line: [-c, c], or [0, c] where the first batch holds nothing below 0 (an integer
// format then loses its sign). Least total squared error over all batches.
class LineSearch {
 public:
  LineSearch(const NumberFormat& format, LineSearchOptions options = {});
  void Update(std::span<const float> values, int64_t channels, std::string_view subject);
  [[nodiscard]] double step() const { return step_; }
  [[nodiscard]] bool one_sided() const { return one_sided_; }
  [[nodiscard]] std::vector<double> maxval() const;  // per channel

 private:
  NumberFormat format_;
  LineSearchOptions options_;
  std::vector<double> error_;  // channels x candidates
  size_t channels_ = 0;
  double step_ = 0;
  bool one_sided_ = false;
};

// The largest magnitude of least squared error between first and last times the largest there is,
// by golden section: exact where the error has one minimum (integers), near a local one otherwise.
[[nodiscard]] float GoldenSectionSearch(std::span<const float> values, const NumberFormat& format,
                                        std::string_view subject, double first = 0.1,
                                        double last = 1.2);

// Search over width and skew of an asymmetric integer grid, by squared error.
[[nodiscard]] DataRange AsymmetricSearch(std::span<const float> values, const IntFormat& format,
                                         std::string_view subject,
                                         AsymmetricSearchOptions options = {});

// For logits, rows of `classes`: the range whose grid makes the least cross-entropy between the
// softmax of the rows and that of the quantized rows. Symmetric, of the largest magnitude's
// candidates; in integer formats with a zero point both ends are the candidates' share of theirs.
// Throws kInvalidArgument for float formats without a sign.
[[nodiscard]] DataRange CrossEntropySearch(std::span<const float> logits, int64_t classes,
                                           const NumberFormat& format, std::string_view subject,
                                           FloatSearchOptions options = {});

}  // namespace octet
