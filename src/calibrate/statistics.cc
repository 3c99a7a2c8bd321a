#include "calibrate/statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"

namespace octet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool IsNonFiniteBin(size_t bin) { return (bin & 0x7f80) == 0x7f80; }

// Counts by bin into a table of this thread, all zero between calls. Two tables by turns: equal
// neighbours (the zeros after a Relu) would otherwise wait for each other's store. Returns the
// non-finite elements.
uint64_t CountPatterns(std::span<const float> values, PatternHistogram& histogram) {
  constexpr size_t kBins = PatternHistogram::kBins;
  constexpr size_t kFewest = 32768;  // below it, sweeping the tables costs more than it saves
  constexpr size_t kMost = size_t{1} << 31;  // cannot overflow a 32-bit counter
  uint64_t non_finite = 0;
  if (values.size() < kFewest) {
    for (const float value : values) {
      const auto bin = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
      if (IsNonFiniteBin(bin)) {
        ++non_finite;
      } else {
        histogram.Add(bin, 1);
      }
    }
    return non_finite;
  }
  thread_local std::vector<uint32_t> tables(2 * kBins);
  uint32_t* even = tables.data();
  uint32_t* odd = tables.data() + kBins;
  while (!values.empty()) {
    const auto part = values.first(std::min(values.size(), kMost));
    values = values.subspan(part.size());
    size_t i = 0;
    for (; i + 2 <= part.size(); i += 2) {
      ++even[std::bit_cast<uint32_t>(part[i]) >> 16];
      ++odd[std::bit_cast<uint32_t>(part[i + 1]) >> 16];
    }
    if (i < part.size()) ++even[std::bit_cast<uint32_t>(part[i]) >> 16];
    for (size_t bin = 0; bin < kBins; ++bin) {
      const uint64_t count = uint64_t{even[bin]} + odd[bin];
      if (count == 0) continue;
      even[bin] = odd[bin] = 0;
      if (IsNonFiniteBin(bin)) {
        non_finite += count;
      } else {
        histogram.Add(static_cast<uint16_t>(bin), count);
      }
    }
  }
  return non_finite;
}

struct Moments {
  float minimum = kInfinity;
  float maximum = -kInfinity;
  double sum = 0;
  double sum_sq = 0;

  void Take(float x) {
    minimum = x < minimum ? x : minimum;
    maximum = x > maximum ? x : maximum;
    const double d = x;
    sum += d;
    sum_sq += d * d;
  }
};

// Adds a row of one channel. Element i is summed in lane i % 8, lanes are added in order: the order
// is the same with and without vector instructions. kAllFinite false leaves NaN and infinity out.
template <bool kAllFinite>
void TakeRow(std::span<const float> row, Moments& moments) {
  constexpr size_t kLanes = 8;
  float low[kLanes];
  float high[kLanes];
  double sum[kLanes] = {};
  double sum_sq[kLanes] = {};
  std::fill_n(low, kLanes, kInfinity);
  std::fill_n(high, kLanes, -kInfinity);
  const auto take = [&](size_t lane, float x) {
    if constexpr (!kAllFinite) {
      if (!std::isfinite(x)) return;
    }
    low[lane] = x < low[lane] ? x : low[lane];
    high[lane] = x > high[lane] ? x : high[lane];
    const double d = x;
    sum[lane] += d;
    sum_sq[lane] += d * d;
  };
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) take(lane, row[i + lane]);
  }
  for (size_t lane = 0; i < row.size(); ++i, ++lane) take(lane, row[i]);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    moments.minimum = std::min(moments.minimum, low[lane]);
    moments.maximum = std::max(moments.maximum, high[lane]);
    moments.sum += sum[lane];
    moments.sum_sq += sum_sq[lane];
  }
}

template <bool kAllFinite>
void TakeSample(const float* values, const Extents& extents, std::span<Moments> moments) {
  const auto inner = static_cast<size_t>(extents.inner);
  for (int64_t o = 0; o < extents.outer; ++o) {
    for (Moments& channel : moments) {
      if (inner >= 8) {
        TakeRow<kAllFinite>({values, inner}, channel);
      } else {
        for (size_t i = 0; i < inner; ++i) {
          if (kAllFinite || std::isfinite(values[i])) channel.Take(values[i]);
        }
      }
      values += inner;
    }
  }
}

}  // namespace

PatternHistogram::PatternHistogram(const PatternHistogram& other) { *this = other; }

PatternHistogram& PatternHistogram::operator=(const PatternHistogram& other) {
  if (this == &other) return *this;
  for (size_t p = 0; p < pages_.size(); ++p) {
    pages_[p] = other.pages_[p] ? std::make_unique<Page>(*other.pages_[p]) : nullptr;
  }
  return *this;
}

uint64_t PatternHistogram::operator[](uint16_t bin) const {
  const auto& page = pages_[bin >> 8];
  return page ? (*page)[bin & 0xff] : 0;
}

void PatternHistogram::Add(uint16_t bin, uint64_t count) {
  auto& page = pages_[bin >> 8];
  if (!page) page = std::make_unique<Page>();
  (*page)[bin & 0xff] += count;
}

void PatternHistogram::Merge(const PatternHistogram& other) {
  for (const Entry& entry : other.NonZero()) Add(entry.bin, entry.count);
}

std::vector<PatternHistogram::Entry> PatternHistogram::NonZero() const {
  std::vector<Entry> entries;
  for (size_t p = 0; p < pages_.size(); ++p) {
    if (!pages_[p]) continue;
    for (size_t i = 0; i < pages_[p]->size(); ++i) {
      if ((*pages_[p])[i] != 0) {
        entries.push_back({static_cast<uint16_t>(p << 8 | i), (*pages_[p])[i]});
      }
    }
  }
  return entries;
}

ValueStatistics::ValueStatistics(int channel_axis, int64_t channels) : channel_axis_(channel_axis) {
  if (channel_axis < -1 || channels < 0 || (channel_axis == -1 && channels != 1)) {
    Fail(ErrorCode::kInvalidArgument, "statistics: ", channels, " channels on axis ", channel_axis);
  }
  const auto n = static_cast<size_t>(channels);
  minimum_.assign(n, kInfinity);
  maximum_.assign(n, -kInfinity);
  sum_.resize(n);
  sum_sq_.resize(n);
}

void ValueStatistics::Update(std::span<const float> values, const Extents& extents,
                             int64_t samples) {
  if (extents.channels != channels()) {
    Fail(ErrorCode::kInvalidArgument, "statistics: ", extents.channels, " channels; expected ",
         channels());
  }
  // Without channels the samples lie along `inner`.
  const bool along_inner = channel_axis_ == -1 && extents.outer == 1;
  const int64_t divided = along_inner ? extents.inner : extents.outer;
  if (samples < 1 || divided % samples != 0 ||
      static_cast<int64_t>(values.size()) != extents.elements()) {
    Fail(ErrorCode::kInvalidArgument, "statistics: ", values.size(), " values as ", samples,
         " samples of (", extents.outer, ", ", extents.channels, ", ", extents.inner, ")");
  }
  const Extents one = {along_inner ? 1 : extents.outer / samples, extents.channels,
                       along_inner ? extents.inner / samples : extents.inner};
  const uint64_t non_finite = CountPatterns(values, histogram_);
  non_finite_ += non_finite;
  elements_ += values.size() - non_finite;

  std::vector<Moments> moments(minimum_.size());
  for (int64_t s = 0; s < samples; ++s) {
    std::fill(moments.begin(), moments.end(), Moments());
    const float* sample = values.data() + s * one.elements();
    if (non_finite == 0) {
      TakeSample<true>(sample, one, moments);
    } else {
      TakeSample<false>(sample, one, moments);
    }
    for (size_t c = 0; c < moments.size(); ++c) {
      // + 0 makes -0 to 0: which zero is the smaller would depend on the order.
      minimum_[c] = std::min(minimum_[c], moments[c].minimum + 0.0F);
      maximum_[c] = std::max(maximum_[c], moments[c].maximum + 0.0F);
      sum_[c].Add(moments[c].sum);
      sum_sq_[c].Add(moments[c].sum_sq);
    }
  }
}

void ValueStatistics::Merge(const ValueStatistics& other) {
  if (other.channel_axis_ != channel_axis_ || other.channels() != channels()) {
    Fail(ErrorCode::kInvalidArgument, "merge statistics: ", other.channels(), " channels on axis ",
         other.channel_axis_, " into ", channels(), " on axis ", channel_axis_);
  }
  for (size_t c = 0; c < minimum_.size(); ++c) {
    minimum_[c] = std::min(minimum_[c], other.minimum_[c]);
    maximum_[c] = std::max(maximum_[c], other.maximum_[c]);
    sum_[c].Merge(other.sum_[c]);
    sum_sq_[c].Merge(other.sum_sq_[c]);
  }
  elements_ += other.elements_;
  non_finite_ += other.non_finite_;
  histogram_.Merge(other.histogram_);
}

float ValueStatistics::min() const {
  return elements_ == 0 ? 0 : *std::min_element(minimum_.begin(), minimum_.end());
}

float ValueStatistics::max() const {
  return elements_ == 0 ? 0 : *std::max_element(maximum_.begin(), maximum_.end());
}

std::vector<float> ValueStatistics::ChannelAbsMax() const {
  std::vector<float> absmax(minimum_.size());
  for (size_t c = 0; c < absmax.size(); ++c) {
    // Without elements minimum is above maximum.
    absmax[c] =
        minimum_[c] > maximum_[c] ? 0 : std::max(std::fabs(minimum_[c]), std::fabs(maximum_[c]));
  }
  return absmax;
}

std::vector<double> ValueStatistics::ChannelMean() const {
  if (non_finite_ != 0) {
    Fail(ErrorCode::kBadData, "channel means: ", non_finite_, " of ", elements_ + non_finite_,
         " values are NaN or infinite");
  }
  std::vector<double> mean(sum_.size());
  if (elements_ == 0) return mean;
  const double each = static_cast<double>(elements_ / sum_.size());
  for (size_t c = 0; c < mean.size(); ++c) {
    if (sum_[c].saturated()) {
      Fail(ErrorCode::kBadData, "channel means: the sum of channel ", c, " of ", mean.size(),
           " is beyond 2^100");
    }
    mean[c] = sum_[c].Value() / each;
  }
  return mean;
}

std::vector<double> ValueStatistics::ChannelVariance() const {
  std::vector<double> variance = ChannelMean();
  if (elements_ == 0) return variance;
  const double each = static_cast<double>(elements_ / sum_.size());
  for (size_t c = 0; c < variance.size(); ++c) {
    if (sum_sq_[c].saturated()) {
      Fail(ErrorCode::kBadData, "channel variances: the sum of squares of channel ", c, " of ",
           variance.size(), " is beyond 2^100");
    }
    variance[c] = std::max(0.0, sum_sq_[c].Value() / each - variance[c] * variance[c]);
  }
  return variance;
}

void Statistics::AddSample(std::string hash) {
  samples_.insert(std::upper_bound(samples_.begin(), samples_.end(), hash), std::move(hash));
}

void Statistics::Observe(const std::string& name, const TensorView& view, int channel_axis,
                         int64_t samples) {
  if (view.dtype != DType::kFloat32) {
    Fail(ErrorCode::kInvalidArgument, "calibrate: value '", name, "' is ", NameOf(view.dtype),
         "; expected float32");
  }
  try {
    const Extents extents = ExtentsOf(view.shape.dims(), channel_axis);
    auto found = values_.find(name);
    if (found == values_.end()) {
      found = values_.emplace(name, ValueStatistics(channel_axis, extents.channels)).first;
    }
    if (found->second.channel_axis() != channel_axis) {
      Fail(ErrorCode::kInvalidArgument, "channel axis ", channel_axis, "; so far ",
           found->second.channel_axis());
    }
    found->second.Update(view.data<float>(), extents, samples);
  } catch (const Error& error) {
    Fail(error.code(), "calibrate: value '", name, "' ", view.shape, ": ", error.what());
  }
}

const ValueStatistics& Statistics::At(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) {
    Fail(ErrorCode::kInvalidArgument, "no statistics of value '", name, "'");
  }
  return found->second;
}

void Statistics::Merge(const Statistics& other) {
  const bool nothing = other.samples_.empty() && other.values_.empty();
  if (nothing && (other.identity.empty() || other.identity == identity)) return;
  if (samples_.empty() && values_.empty() && identity.empty()) {
    Statistics copy = other;
    *this = std::move(copy);
    return;
  }
  for (const auto* side : {&std::as_const(identity), &other.identity}) {
    for (const auto& [key, unused] : *side) {
      const auto mine = identity.find(key);
      const auto theirs = other.identity.find(key);
      const std::string a = mine == identity.end() ? "nothing" : "'" + mine->second + "'";
      const std::string b = theirs == other.identity.end() ? "nothing" : "'" + theirs->second + "'";
      if (a != b) {
        Fail(ErrorCode::kInvalidArgument, "merge statistics: ", key, " is ", a, " here and ", b,
             " there; only statistics of the same ", key, " can be merged");
      }
    }
  }
  if (nothing) return;
  if (samples_.empty() && values_.empty()) {
    samples_ = other.samples_;
    values_ = other.values_;
    return;
  }
  for (const auto& [name, theirs] : other.values_) {
    const auto mine = values_.find(name);
    if (mine == values_.end()) {
      Fail(ErrorCode::kInvalidArgument, "merge statistics: value '", name, "' is not in both");
    }
    if (mine->second.channel_axis() != theirs.channel_axis() ||
        mine->second.channels() != theirs.channels()) {
      Fail(ErrorCode::kInvalidArgument, "merge statistics: value '", name, "' has ",
           mine->second.channels(), " channels on axis ", mine->second.channel_axis(), " here and ",
           theirs.channels(), " on axis ", theirs.channel_axis(), " there");
    }
  }
  for (const auto& [name, unused] : values_) {
    if (!other.values_.contains(name)) {
      Fail(ErrorCode::kInvalidArgument, "merge statistics: value '", name, "' is not in both");
    }
  }
  for (auto& [name, mine] : values_) mine.Merge(other.values_.at(name));
  std::vector<std::string> samples;
  samples.reserve(samples_.size() + other.samples_.size());
  std::merge(samples_.begin(), samples_.end(), other.samples_.begin(), other.samples_.end(),
             std::back_inserter(samples));
  samples_ = std::move(samples);
}

}  // namespace octet
