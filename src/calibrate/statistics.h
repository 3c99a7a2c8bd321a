// What calibration keeps of an activation: design.md 3.4. Never the values themselves, but
// per-channel extrema, per-channel sums, and one histogram over the top 16 bits of the float32
// pattern (sign, exponent, 7 bits of mantissa: 128 bins per octave), from which every range
// estimator of calibrate/range.h works.
//
// Everything is an integer count, an extremum, or an order-independent sum: merging is exact,
// associative and commutative, so the statistics are the same bytes for every batch size, thread
// count and sample order.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "numerics/extents.h"
#include "numerics/fixed_sum.h"
#include "tensor/named_tensors.h"
#include "tensor/tensor.h"

namespace octet {

// 65,536 counters in pages of 256, allocated when touched: a real activation uses 10 to 40 pages (2
// KiB).
class PatternHistogram {
 public:
  static constexpr int kBins = 65536;

  PatternHistogram() = default;
  PatternHistogram(const PatternHistogram& other);
  PatternHistogram& operator=(const PatternHistogram& other);
  PatternHistogram(PatternHistogram&&) noexcept = default;
  PatternHistogram& operator=(PatternHistogram&&) noexcept = default;

  [[nodiscard]] uint64_t operator[](uint16_t bin) const;
  void Add(uint16_t bin, uint64_t count);
  void Merge(const PatternHistogram& other);

  struct Entry {
    uint16_t bin;
    uint64_t count;
  };
  [[nodiscard]] std::vector<Entry> NonZero() const;  // by ascending bin

 private:
  using Page = std::array<uint64_t, 256>;
  std::array<std::unique_ptr<Page>, 256> pages_;
};

class ValueStatistics {
 public:
  // channel_axis is the axis the consuming operator contracts or scales (1 for Conv, the last for
  // MatMul), or -1 for a value without channels (then channels is 1).
  ValueStatistics(int channel_axis, int64_t channels);

  // Takes `samples` consecutive samples of equal size lying along the leading dimension; extents
  // are those of all of them together. The sums of one sample are taken in the order of its
  // elements, whatever the batch. Throws kInvalidArgument where the channels are not those of the
  // constructor, or outer is not a multiple of samples.
  void Update(std::span<const float> values, const Extents& extents, int64_t samples = 1);

  // Throws kInvalidArgument where axis or channels differ.
  void Merge(const ValueStatistics& other);

  [[nodiscard]] int channel_axis() const { return channel_axis_; }
  [[nodiscard]] int64_t channels() const { return static_cast<int64_t>(minimum_.size()); }
  [[nodiscard]] uint64_t elements() const { return elements_; }  // finite ones
  [[nodiscard]] uint64_t non_finite() const {
    return non_finite_;
  }  // NaN or infinity: counted, not kept
  // Per channel, over the finite elements; +infinity and -infinity where there are none. Never -0.
  [[nodiscard]] std::span<const float> channel_min() const { return minimum_; }
  [[nodiscard]] std::span<const float> channel_max() const { return maximum_; }
  [[nodiscard]] std::span<const FixedSum> channel_sum() const { return sum_; }
  [[nodiscard]] std::span<const FixedSum> channel_sum_sq() const { return sum_sq_; }
  [[nodiscard]] const PatternHistogram& histogram() const { return histogram_; }

  [[nodiscard]] float min() const;  // over all channels; 0 where there is no finite element
  [[nodiscard]] float max() const;
  // max |x| per channel, for smoothing; 0 for a channel without finite elements.
  [[nodiscard]] std::vector<float> ChannelAbsMax() const;
  // Mean per channel (every channel has elements() / channels() elements), for bias correction.
  // Throws kBadData where non-finite values were seen or a sum is saturated.
  [[nodiscard]] std::vector<double> ChannelMean() const;
  [[nodiscard]] std::vector<double> ChannelVariance() const;  // mean square less squared mean, >= 0

 private:
  friend class Statistics;

  int channel_axis_;
  std::vector<float> minimum_;
  std::vector<float> maximum_;
  std::vector<FixedSum> sum_;
  std::vector<FixedSum> sum_sq_;
  uint64_t elements_ = 0;
  uint64_t non_finite_ = 0;
  PatternHistogram histogram_;
};

// The statistics of a model's values over a set of samples. Not thread-safe: one per thread, then
// Merge.
class Statistics {
 public:
  // What must agree for two sets to be merged: "model" (hash of the float model), preprocessing,
  // and what else the caller finds decisive. Never anything that depends on batch, threads or
  // order.
  std::map<std::string, std::string> identity;

  // Counts a sample, by a hash of its content; kept sorted.
  void AddSample(std::string hash);
  [[nodiscard]] const std::vector<std::string>& samples() const { return samples_; }

  // Finds or creates the value's statistics and updates them. view is float32; channel_axis -1 for
  // none, otherwise within the rank. Throws kInvalidArgument naming the value where axis or
  // channels changed.
  void Observe(const std::string& name, const TensorView& view, int channel_axis,
               int64_t samples = 1);

  [[nodiscard]] const std::map<std::string, ValueStatistics>& values() const { return values_; }
  [[nodiscard]] const ValueStatistics& At(
      const std::string& name) const;  // throws kInvalidArgument

  // Throws kInvalidArgument, naming what differs, where identities, values, axes or channels do.
  // Either side may be empty (no samples and no values), and then takes over the other's. Strong
  // guarantee: on an error this object is unchanged.
  void Merge(const Statistics& other);

  // The content of a statistics file: docs in statistics_file.cc. Equal statistics give equal
  // tensors.
  [[nodiscard]] NamedTensors ToTensors() const;
  // Throws kBadFile, naming the tensor, on anything ToTensors could not have written.
  [[nodiscard]] static Statistics FromTensors(const NamedTensors& file);

 private:
  std::vector<std::string> samples_;
  std::map<std::string, ValueStatistics> values_;
};

}  // namespace octet
