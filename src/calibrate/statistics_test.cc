#include "calibrate/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>

#include "calibrate/pattern_bins.h"
#include "calibrate/smoothing_factors.h"
#include "octet/error.h"

namespace octet {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> Normal(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

// Byte for byte what a file would hold.
std::string BytesOf(const Statistics& statistics) {
  const NamedTensors file = statistics.ToTensors();
  std::string bytes;
  for (const auto& [key, value] : file.metadata) bytes += key + "=" + value + "\n";
  for (const auto& [name, tensor] : file.tensors) {
    bytes += name + tensor.shape().ToString();
    if (tensor.bytes() > 0) {
      bytes.append(static_cast<const char*>(tensor.raw()), static_cast<size_t>(tensor.bytes()));
    }
  }
  return bytes;
}

std::string BytesOf(const ValueStatistics& value) {
  std::string bytes =
      Cat(value.channel_axis(), " ", value.elements(), " ", value.non_finite(), " ");
  const auto append = [&](const auto& span) {
    bytes.append(reinterpret_cast<const char*>(span.data()), span.size_bytes());
  };
  append(value.channel_min());
  append(value.channel_max());
  append(value.channel_sum());
  append(value.channel_sum_sq());
  for (const auto& entry : value.histogram().NonZero())
    bytes += Cat(entry.bin, ":", entry.count, " ");
  return bytes;
}

// Three values of each layout the counting and summing tell apart: long rows (NCHW), single
// elements (NHWC, matrices), short rows, no channels.
struct Layout {
  const char* name;
  std::vector<int64_t> dims;  // of one sample
  int axis;                   // in the batched shape
};
const Layout kLayouts[] = {{"nchw", {5, 7, 9}, 1},
                           {"large", {3, 151, 101}, 1},
                           {"nhwc", {7, 9, 5}, 3},
                           {"short", {5, 3}, 1},
                           {"none", {11}, -1}};

std::vector<int64_t> Batched(const Layout& layout, int64_t samples) {
  std::vector<int64_t> dims = {samples};
  dims.insert(dims.end(), layout.dims.begin(), layout.dims.end());
  return dims;
}

int64_t SampleSize(const Layout& layout) { return *CheckedProduct(layout.dims); }

TEST(ValueStatistics, HandVector) {
  // NCHW (1, 2, 1, 3): channel 0 holds -1 0 2, channel 1 holds 4 4 -0.
  ValueStatistics value(1, 2);
  const std::vector<float> x = {-1, 0, 2, 4, 4, -0.0F};
  value.Update(x, {1, 2, 3});
  EXPECT_THAT(value.channel_min(), ElementsAre(-1, 0));
  EXPECT_THAT(value.channel_max(), ElementsAre(2, 4));
  EXPECT_FALSE(std::signbit(value.channel_min()[1]));
  EXPECT_EQ(value.channel_sum()[0].Value(), 1);
  EXPECT_EQ(value.channel_sum()[1].Value(), 8);
  EXPECT_EQ(value.channel_sum_sq()[0].Value(), 5);
  EXPECT_EQ(value.channel_sum_sq()[1].Value(), 32);
  EXPECT_EQ(value.elements(), 6U);
  EXPECT_EQ(value.histogram()[0x0000], 1U);
  EXPECT_EQ(value.histogram()[0x8000], 1U);  // -0
  EXPECT_EQ(value.histogram()[0xbf80], 1U);  // -1
  EXPECT_EQ(value.histogram()[0x4000], 1U);  // 2
  EXPECT_EQ(value.histogram()[0x4080], 2U);  // 4
  EXPECT_EQ(value.histogram().NonZero().size(), 5U);
  EXPECT_THAT(value.ChannelAbsMax(), ElementsAre(2, 4));
  EXPECT_THAT(value.ChannelMean(), ElementsAre(1.0 / 3, 8.0 / 3));
  EXPECT_DOUBLE_EQ(value.ChannelVariance()[0], 5.0 / 3 - 1.0 / 9);
  EXPECT_EQ(value.min(), -1);
  EXPECT_EQ(value.max(), 4);
}

// Every layout against loops that share no code with the implementation.
TEST(ValueStatistics, MatchesPlainLoops) {
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(layout.name);
    const auto dims = Batched(layout, 1);
    const Extents extents = ExtentsOf(dims, layout.axis);
    const auto x = Normal(static_cast<size_t>(extents.elements()), 7);
    ValueStatistics value(layout.axis, extents.channels);
    value.Update(x, extents);
    std::vector<uint64_t> histogram(65536);
    for (float v : x) ++histogram[std::bit_cast<uint32_t>(v) >> 16];
    for (int bin = 0; bin < 65536; ++bin) {
      ASSERT_EQ(value.histogram()[static_cast<uint16_t>(bin)], histogram[static_cast<size_t>(bin)]);
    }
    for (int64_t c = 0; c < extents.channels; ++c) {
      float low = kInfinity;
      float high = -kInfinity;
      long double sum = 0;
      long double sum_sq = 0;
      long double magnitude = 0;
      for (int64_t i = 0; i < extents.elements(); ++i) {
        if (i / extents.inner % extents.channels != c) continue;
        const float v = x[static_cast<size_t>(i)];
        low = std::min(low, v);
        high = std::max(high, v);
        sum += v;
        sum_sq += static_cast<long double>(v) * v;
        magnitude += std::fabs(v);
      }
      const auto k = static_cast<size_t>(c);
      EXPECT_EQ(value.channel_min()[k], low);
      EXPECT_EQ(value.channel_max()[k], high);
      // n additions, each off by at most half an ulp of a partial sum: n 2^-53 sum|x|.
      const double bound = static_cast<double>(extents.elements()) * 0x1p-53;
      EXPECT_NEAR(value.channel_sum()[k].Value(), static_cast<double>(sum),
                  bound * static_cast<double>(magnitude));
      EXPECT_NEAR(value.channel_sum_sq()[k].Value(), static_cast<double>(sum_sq),
                  bound * static_cast<double>(sum_sq));
    }
  }
}

TEST(ValueStatistics, SameBytesForEveryBatch) {
  constexpr int64_t kSamples = 32;
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(layout.name);
    const int64_t size = SampleSize(layout);
    const auto x = Normal(static_cast<size_t>(kSamples * size), 8);
    std::string expected;
    for (int64_t batch : {1, 7, 32}) {
      const Extents one = ExtentsOf(Batched(layout, 1), layout.axis);
      ValueStatistics value(layout.axis, one.channels);
      for (int64_t first = 0; first < kSamples; first += batch) {
        const int64_t n = std::min(batch, kSamples - first);
        value.Update(
            std::span(x).subspan(static_cast<size_t>(first * size), static_cast<size_t>(n * size)),
            ExtentsOf(Batched(layout, n), layout.axis), n);
      }
      if (batch == 1) expected = BytesOf(value);
      EXPECT_EQ(BytesOf(value), expected) << "batch " << batch;
    }
  }
}

TEST(ValueStatistics, NonFiniteIsCountedAndLeftOut) {
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(layout.name);
    const Extents extents = ExtentsOf(Batched(layout, 1), layout.axis);
    auto x = Normal(static_cast<size_t>(extents.elements()), 9);
    auto clean = x;
    x[0] = std::nanf("");
    x[x.size() / 2] = kInfinity;
    x.back() = -kInfinity;
    // 0 adds nothing to the sums; the extrema of these data lie elsewhere, but where a channel is
    // short.
    clean[0] = clean[x.size() / 2] = clean.back() = 0;
    ValueStatistics value(layout.axis, extents.channels);
    value.Update(x, extents);
    ValueStatistics reference(layout.axis, extents.channels);
    reference.Update(clean, extents);
    EXPECT_EQ(value.non_finite(), 3U);
    EXPECT_EQ(value.elements(), x.size() - 3);
    for (size_t c = 0; c < static_cast<size_t>(extents.channels); ++c) {
      EXPECT_EQ(value.channel_sum()[c], reference.channel_sum()[c]);
      EXPECT_EQ(value.channel_sum_sq()[c], reference.channel_sum_sq()[c]);
      EXPECT_TRUE(std::isfinite(value.channel_max()[c]));
    }
    EXPECT_EQ(value.histogram()[0x7f80], 0U);
    EXPECT_THROW((void)value.ChannelMean(), Error);
  }
}

TEST(ValueStatistics, RefusesOtherShapes) {
  ValueStatistics value(1, 3);
  const std::vector<float> x(12);
  EXPECT_THROW(value.Update(x, {1, 4, 3}), Error);
  EXPECT_THROW(value.Update(x, {1, 3, 5}), Error);
  EXPECT_THROW(value.Update(x, {4, 3, 1}, 3), Error);
  EXPECT_THROW(value.Update(x, {4, 3, 1}, 0), Error);
  EXPECT_EQ(value.elements(), 0U);
  ValueStatistics other(0, 3);
  EXPECT_THROW(value.Merge(other), Error);
  EXPECT_THROW(ValueStatistics(-1, 2), Error);
}

TEST(ValueStatistics, EmptyValues) {
  ValueStatistics value(1, 2);
  value.Update({}, {0, 2, 5});
  EXPECT_EQ(value.elements(), 0U);
  EXPECT_THAT(value.ChannelAbsMax(), ElementsAre(0, 0));
  EXPECT_THAT(value.ChannelMean(), ElementsAre(0, 0));
  EXPECT_EQ(value.max(), 0);
}

// spec/smoothquant.md 5.0: the port of SmoothQuant to Conv2d took input.view(-1, C) of an NCHW
// tensor for its channels. The spec's toy: 16 channels, one of them 100 times the others.
TEST(ChannelAxis, ViewOfNchwIsNotPerChannel) {
  constexpr int64_t kN = 4;
  constexpr size_t kC = 16;
  constexpr size_t kHw = 100;  // 4 (mod 16): the columns of the view cut across channels
  constexpr size_t kOutlier = 5;
  auto x = Normal(kN * kC * kHw, 10);
  for (size_t i = 0; i < x.size(); ++i) {
    if (i / kHw % kC == kOutlier) x[i] *= 100;
  }
  std::vector<float> viewed(kC, 0.0F);
  for (size_t i = 0; i < x.size(); ++i) viewed[i % kC] = std::max(viewed[i % kC], std::fabs(x[i]));

  Statistics statistics;
  statistics.Observe("x", {DType::kFloat32, Shape{kN, kC, 10, 10}, x.data()}, 1, kN);
  const auto truth = statistics.At("x").ChannelAbsMax();

  // Largest of 400 standard normals: above 2 but for 1 in 10^4, below 5 but for 1 in 4000. Each
  // column of the view has 25 elements of the outlier channel: largest above 80 but for 1 in 10^5.
  for (size_t c = 0; c < kC; ++c) {
    EXPECT_GT(viewed[c], 80) << "column " << c;
    EXPECT_GT(truth[c], c == kOutlier ? 200 : 2) << "channel " << c;
    EXPECT_LT(truth[c], c == kOutlier ? 500 : 5) << "channel " << c;
  }
  // What it means for smoothing: factors of the view hardly differ, true ones differ tenfold (alpha
  // 0.5).
  const std::vector<float> weight(kC, 1.0F);
  const auto spread = [](const std::vector<float>& s) {
    return *std::max_element(s.begin(), s.end()) / *std::min_element(s.begin(), s.end());
  };
  EXPECT_LT(spread(SmoothingFactors(viewed, weight, {})), 2.5F);
  EXPECT_GT(spread(SmoothingFactors(truth, weight, {})), 6.3F);

  // On NHWC, where channels are last, the view is right, and so is the last axis.
  std::vector<float> nhwc(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t n = i / (kC * kHw);
    nhwc[(n * kHw + i % kHw) * kC + i / kHw % kC] = x[i];
  }
  Statistics last;
  last.Observe("x", {DType::kFloat32, Shape{kN, 10, 10, kC}, nhwc.data()}, 3, kN);
  EXPECT_EQ(last.At("x").ChannelAbsMax(), truth);
}

// The figures of spec/smoothquant.md 5.0 for [4,256,182,182]: HW = 100 (mod 256), 132,496 elements
// per column, from all 256 channels.
TEST(ChannelAxis, FiguresOfTheSpec) {
  constexpr int64_t kHw = 182 * 182;
  EXPECT_EQ(kHw % 256, 100);
  std::vector<bool> seen(256);
  int64_t elements = 0;
  for (int64_t f = 3; f < 4 * 256 * kHw; f += 256) {  // column 3
    seen[static_cast<size_t>(f / kHw % 256)] = true;
    ++elements;
  }
  EXPECT_EQ(elements, 132496);
  EXPECT_THAT(seen, Each(true));
}

Statistics SampleStatistics(int64_t sample, uint32_t seed = 100) {
  Statistics statistics;
  statistics.identity = {{"model", "abc"}, {"preprocessing", "none"}};
  statistics.AddSample("sample" + std::to_string(sample));
  for (const Layout& layout : kLayouts) {
    const auto dims = Batched(layout, 1);
    const auto x =
        Normal(static_cast<size_t>(SampleSize(layout)), seed + static_cast<uint32_t>(sample));
    statistics.Observe(layout.name, {DType::kFloat32, Shape(dims), x.data()}, layout.axis);
  }
  return statistics;
}

TEST(Statistics, SameBytesForEveryOrderAndGrouping) {
  constexpr int kSamples = 12;
  Statistics forward;
  for (int i = 0; i < kSamples; ++i) forward.Merge(SampleStatistics(i));
  const std::string expected = BytesOf(forward);
  std::mt19937 random(11);
  std::vector<int> order(kSamples);
  for (int i = 0; i < kSamples; ++i) order[static_cast<size_t>(i)] = i;
  for (int round = 0; round < 5; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    Statistics parts[3];
    for (int i : order) parts[random() % 3].Merge(SampleStatistics(i));
    Statistics merged;
    for (const Statistics& part : parts) merged.Merge(part);
    EXPECT_EQ(BytesOf(merged), expected);
  }
  EXPECT_THAT(forward.samples(), testing::SizeIs(kSamples));
}

TEST(Statistics, SameBytesForEveryThreadCount) {
  constexpr int kSamples = 8;
  std::string expected;
  for (int threads : {1, 2, 3}) {
    std::vector<Statistics> parts(static_cast<size_t>(threads));
    std::vector<std::thread> running;
    for (int t = 0; t < threads; ++t) {
      running.emplace_back([&, t] {
        for (int i = t; i < kSamples; i += threads) {
          parts[static_cast<size_t>(t)].Merge(SampleStatistics(i));
        }
      });
    }
    for (auto& thread : running) thread.join();
    for (int t = 1; t < threads; ++t) parts[0].Merge(parts[static_cast<size_t>(t)]);
    if (threads == 1) expected = BytesOf(parts[0]);
    EXPECT_EQ(BytesOf(parts[0]), expected) << threads << " threads";
  }
}

TEST(Statistics, MergeRefusesWhatDiffersAndStaysAsItWas) {
  const auto expect = [](const Statistics& other, const std::string& words) {
    Statistics statistics = SampleStatistics(0);
    const std::string before = BytesOf(statistics);
    try {
      statistics.Merge(other);
      ADD_FAILURE() << "merged; expected " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
    EXPECT_EQ(BytesOf(statistics), before);
  };
  Statistics other = SampleStatistics(1);
  other.identity["model"] = "def";
  expect(other, "model is 'abc' here and 'def' there");
  other = SampleStatistics(1);
  other.identity.erase("preprocessing");
  expect(other, "preprocessing is 'none' here and nothing there");
  other = SampleStatistics(1);
  const float one = 1;
  other.Observe("extra", {DType::kFloat32, Shape{1}, &one}, -1);
  expect(other, "'extra'");
  other = Statistics();
  other.identity = SampleStatistics(0).identity;
  other.AddSample("x");
  other.Observe("nchw", {DType::kFloat32, Shape{1}, &one}, 0);
  expect(other, "'nchw' has 5 channels on axis 1 here and 1 on axis 0 there");
}

TEST(Statistics, ObserveNamesTheValue) {
  Statistics statistics;
  const std::vector<float> x(12);
  statistics.Observe("conv1", {DType::kFloat32, Shape{1, 3, 4}, x.data()}, 1);
  statistics.Observe("conv1", {DType::kFloat32, Shape{2, 3, 2}, x.data()},
                     1);  // another size: fine
  const auto expect = [&](const TensorView& view, int axis, const std::string& words) {
    try {
      statistics.Observe("conv1", view, axis);
      ADD_FAILURE() << words;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("'conv1'"));
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
  };
  expect({DType::kFloat32, Shape{1, 4, 3}, x.data()}, 1, "4 channels; expected 3");
  expect({DType::kFloat32, Shape{1, 4, 3}, x.data()}, 2, "axis 2");
  expect({DType::kFloat32, Shape{1, 4, 3}, x.data()}, 3, "axis 3");
  expect({DType::kInt32, Shape{1, 3, 4}, x.data()}, 1, "int32");
  EXPECT_THROW((void)statistics.At("conv2"), Error);
}

TEST(PatternBins, IntervalsTileTheLine) {
  double end = 0;
  for (int bin = 0; bin < 0x7f80; ++bin) {
    const PatternInterval interval = IntervalOf(static_cast<uint16_t>(bin));
    ASSERT_EQ(interval.lo, end);
    ASSERT_GT(interval.hi, interval.lo);
    end = interval.hi;
    const PatternInterval mirrored = IntervalOf(static_cast<uint16_t>(bin | 0x8000));
    ASSERT_EQ(mirrored.lo, -interval.hi);
    ASSERT_EQ(mirrored.hi, -interval.lo);
  }
  EXPECT_EQ(end, 0x1p128);
}

}  // namespace
}  // namespace octet
