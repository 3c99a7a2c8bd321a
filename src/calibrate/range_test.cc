#include "calibrate/range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "calibrate/range_entropy.h"
#include "calibrate/value_density.h"
#include "numerics/rounding.h"
#include "octet/error.h"

namespace octet {
namespace {

using testing::HasSubstr;

constexpr float kMax = std::numeric_limits<float>::max();

std::vector<float> Draw(size_t n, uint32_t seed, const std::function<float(std::mt19937&)>& draw) {
  std::mt19937 random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = draw(random);
  return x;
}

float Gauss(std::mt19937& random) { return std::normal_distribution<float>()(random); }

ValueStatistics StatisticsOf(const std::vector<float>& x) {
  ValueStatistics value(-1, 1);
  value.Update(x, {1, 1, static_cast<int64_t>(x.size())});
  return value;
}

RangeChoice Estimate(const std::vector<float>& x, std::string_view estimator,
                     IntFormat format = kUint8, bool symmetric = false) {
  return EstimateRange("x", StatisticsOf(x), RangeEstimator::Parse(estimator), format, symmetric);
}

double RawMse(const std::vector<float>& x, const ScaleZero& grid, IntFormat format) {
  double sum = 0;
  for (float v : x) {
    const int32_t q = QuantizeOne(v, grid.scale, grid.zero_point, format.qmin(), format.qmax());
    const double e =
        static_cast<double>(v) - static_cast<double>(DequantizeOne(q, grid.scale, grid.zero_point));
    sum += e * e;
  }
  return sum / static_cast<double>(x.size());
}

struct Distribution {
  const char* name;
  std::vector<float> x;
};

std::vector<Distribution> Distributions(size_t n) {
  const auto heavy = [](std::mt19937& random) {
    return std::student_t_distribution<float>(3)(random);
  };
  return {
      {"normal", Draw(n, 1, Gauss)},
      {"relu", Draw(n, 2, [](auto& r) { return std::max(0.0F, Gauss(r)); })},
      {"relu6", Draw(n, 3, [](auto& r) { return std::clamp(4 * Gauss(r), 0.0F, 6.0F); })},
      {"student", Draw(n, 4, heavy)},
      {"skewed", Draw(n, 5, [](auto& r) { return std::exp(Gauss(r)) - 0.3F; })},
      {"negative", Draw(n, 6, [](auto& r) { return -std::exp(Gauss(r)); })},
      {"outliers", Draw(n, 7, [](auto& r) { return Gauss(r) * (r() % 1000 == 0 ? 50.0F : 1.0F); })},
      {"offset", Draw(n, 8, [](auto& r) { return 100 + Gauss(r); })},
      {"uniform",
       Draw(n, 9, [](auto& r) { return std::uniform_real_distribution<float>(-1, 3)(r); })},
  };
}

TEST(RangeEstimator, ParsesAndNames) {
  for (const char* name :
       {"minmax", "percentile", "percentile:99.9", "mse", "entropy", "auto", "percentile:100"}) {
    EXPECT_EQ(RangeEstimator::Parse(name).Name(), name);
  }
  EXPECT_EQ(RangeEstimator::Parse("percentile").percentile, 99.99);
  EXPECT_EQ(RangeEstimator::Parse("percentile:99.99").Name(), "percentile");
  EXPECT_EQ(RangeEstimator().Name(), "auto");
  for (const char* name : {"", "max", "percentile:", "percentile:50", "percentile:101",
                           "percentile:99x", "percentile:nan", "mse:2", "minmax ", ":"}) {
    try {
      (void)RangeEstimator::Parse(name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr(std::string("'") + name + "'"));
    }
  }
}

TEST(MinMax, IsExact) {
  const RangeChoice choice = Estimate({-1.23456F, 0, 7.654321F}, "minmax");
  EXPECT_EQ(choice.lo, -1.23456F);
  EXPECT_EQ(choice.hi, 7.654321F);
  EXPECT_EQ(choice.clipped_fraction, 0);
  EXPECT_EQ(choice.method, RangeMethod::kMinMax);
  const RangeChoice positive = Estimate({2, 3}, "minmax");
  EXPECT_EQ(positive.lo, 0);
  EXPECT_EQ(positive.hi, 3);
  const RangeChoice symmetric = Estimate({-1, 3}, "minmax", kInt8, true);
  EXPECT_EQ(symmetric.lo, -3);
  EXPECT_EQ(symmetric.hi, 3);
  EXPECT_EQ(symmetric.grid.zero_point, 0);
  EXPECT_EQ(symmetric.grid.scale, 3 / 127.0F);
}

// A bin is at most 2^-7 of its value wide, so is the error of a quantile. 20,000 samples: the ranks
// of the exact quantiles are whole.
TEST(Percentile, MatchesSortedData) {
  for (const auto& [name, x] : Distributions(20000)) {
    SCOPED_TRACE(name);
    auto sorted = x;
    std::sort(sorted.begin(), sorted.end());
    const RangeChoice choice = Estimate(x, "percentile:99");
    const float lo = std::min(0.0F, sorted[100]);
    const float hi = std::max(0.0F, sorted[19899]);
    EXPECT_NEAR(choice.lo, lo, 0x1p-7 * std::fabs(lo) + 1e-30);
    EXPECT_NEAR(choice.hi, hi, 0x1p-7 * std::fabs(hi) + 1e-30);
    EXPECT_LE(choice.clipped_fraction, 0.0101);
    for (float& v : sorted) v = std::fabs(v);
    std::sort(sorted.begin(), sorted.end());
    const RangeChoice symmetric = Estimate(x, "percentile:99", kInt8, true);
    EXPECT_NEAR(symmetric.hi, sorted[19799], 0x1p-7 * sorted[19799]);
    EXPECT_EQ(symmetric.lo, -symmetric.hi);
    const RangeChoice all = Estimate(x, "percentile:100");
    const RangeChoice minmax = Estimate(x, "minmax");
    EXPECT_EQ(all.lo, minmax.lo);
    EXPECT_EQ(all.hi, minmax.hi);
  }
}

// What the histogram expects against what the data give, on the same grid. 100,000 samples measure
// an MSE to sqrt(0.8 / n) = 0.3 % (kurtosis of a uniform error); beyond, the data are not even
// within a bin: 3 % in all. "offset" is the worst case: at 100 a bin is h = 0.5 wide against a
// deviation of 1. Where its tail is cut, taking it as even inside a bin adds h^2/12 = 0.02 to
// squares of 0.53 per element (4 %), and shifts it outwards by slope x h^2/12 = 0.04, times twice
// the distance of 0.6 (9 %).
TEST(ExpectedMse, MatchesTheData) {
  for (const auto& [name, x] : Distributions(100000)) {
    const ValueStatistics statistics = StatisticsOf(x);
    for (const char* estimator : {"minmax", "percentile:99", "percentile:90"}) {
      for (const char* format_name : {"uint8", "int8", "int4"}) {
        const IntFormat format = IntFormat::Parse(format_name);
        SCOPED_TRACE(Cat(name, " ", estimator, " ", format_name));
        const RangeChoice choice = Estimate(x, estimator, format);
        const double raw = RawMse(x, choice.grid, format);
        const bool coarse = std::string_view(name) == "offset" && choice.clipped_fraction > 0;
        EXPECT_NEAR(choice.mse, raw, (coarse ? 0.13 : 0.03) * raw);
        EXPECT_EQ(ExpectedMse(statistics, choice.grid, format), choice.mse);
      }
    }
  }
}

TEST(ExpectedMse, SpikesAreExact) {
  // A plateau at the largest value and exact zeros: Relu6 over data that are all cut. Both are on
  // the grid, or off it by the rounding of the scale alone: 255 (6 / 255) differs from 6 by less
  // than an ulp of 6, 2^-21.
  std::vector<float> x(1000, 0.0F);
  std::fill(x.begin(), x.begin() + 400, 6.0F);
  EXPECT_LT(Estimate(x, "minmax").mse, 0x1p-42);
  EXPECT_EQ(Estimate(x, "auto").hi, 6);
  // A constant.
  const std::vector<float> constant(10, 0.7F);
  EXPECT_LT(Estimate(constant, "minmax").mse, 1e-12);
  EXPECT_EQ(Estimate(constant, "auto").hi, 0.7F);
  // Clipping of a plateau is exact too.
  const ScaleZero grid = {1, 0};
  EXPECT_DOUBLE_EQ(ExpectedMse(StatisticsOf(x), grid, IntFormat::Parse("uint2")), 0.4 * 9);
}

// The chosen range against brute force over the data: 60 x 60 ends, evenly spaced up to the
// extrema. The histogram may mistake the error by the 3 % derived above (at 8 bits; ripple and
// all), so the choice may be that much above the best, and is allowed to be below it.
TEST(Mse, AsGoodAsBruteForceOverTheData) {
  constexpr int kGrid = 60;
  for (const auto& [name, x] : Distributions(4000)) {
    for (const auto& [format_name, symmetric] :
         {std::pair("uint8", false), std::pair("int8", true), std::pair("uint4", false)}) {
      SCOPED_TRACE(Cat(name, " ", format_name));
      const IntFormat format = IntFormat::Parse(format_name);
      const RangeChoice chosen = Estimate(x, "mse", format, symmetric);
      const RangeChoice whole = Estimate(x, "minmax", format, symmetric);
      double best = RawMse(x, whole.grid, format);
      for (int i = 1; i <= kGrid; ++i) {
        for (int j = 1; j <= kGrid; ++j) {
          const float hi = whole.hi * static_cast<float>(i) / kGrid;
          const float lo = whole.lo * static_cast<float>(j) / kGrid;
          if (symmetric || whole.lo == 0) {
            if (j > 1) break;
          } else if (whole.hi == 0 && i > 1) {
            continue;
          }
          const ScaleZero grid = symmetric ? ScaleZero{ChooseSymmetric(hi, format), 0}
                                           : ChooseAsymmetric(lo, hi, format);
          best = std::min(best, RawMse(x, grid, format));
        }
      }
      EXPECT_LE(RawMse(x, chosen.grid, format), 1.03 * best);
      EXPECT_LE(chosen.mse, whole.mse);
    }
  }
}

// N = 3.2 million values of variance 1 and one outlier v. On a range of width R they err by R^2 /
// A, A = 12 x 255^2 (symmetric, R the larger end: 12 x 127^2), as long as the step is below the
// deviation; cutting the outlier costs (v + L - R)^2 / N, L what the range keeps on the other side
// (symmetric: none). The sum is least at R = (v + L) A / (A + N). The minimum is flat: an R 5 % off
// costs 0.25 % of error, about what the ripple is.
TEST(Mse, BalancesAnOutlierAgainstTheBulk) {
  ValueStatistics bulk = StatisticsOf(Draw(100000, 16, Gauss));
  for (int i = 0; i < 5; ++i) bulk.Merge(ValueStatistics(bulk));
  constexpr double kN = 3.2e6;
  for (const float outlier : {200.0F, 1000.0F, -200.0F, -1000.0F}) {
    SCOPED_TRACE(outlier);
    ValueStatistics value = bulk;
    value.Merge(StatisticsOf({outlier}));
    const double v = std::fabs(outlier);
    const RangeChoice choice =
        EstimateRange("x", value, RangeEstimator::Parse("mse"), kUint8, false);
    const double other = outlier > 0 ? -choice.lo : choice.hi;
    EXPECT_GT(other, 3);
    EXPECT_LT(other, 6);
    const double width = static_cast<double>(choice.hi) - static_cast<double>(choice.lo);
    const double asymmetric = (v + other) * 780300 / (780300 + kN);
    EXPECT_NEAR(width, asymmetric, 0.05 * asymmetric);
    const RangeChoice both = EstimateRange("x", value, RangeEstimator::Parse("mse"), kInt8, true);
    const double symmetric = v * 193548 / (193548 + kN);
    EXPECT_NEAR(both.hi, symmetric, 0.05 * symmetric);
  }
  // An outlier of 10,000 costs 31 per value if cut; kept, at most 1, the variance: it stays nearly
  // whole.
  bulk.Merge(StatisticsOf({1e4F}));
  EXPECT_GT(EstimateRange("x", bulk, RangeEstimator::Parse("mse"), kUint8, false).hi, 9000);
}

TEST(Auto, TakesTheSmallerErrorAndSaysWhich) {
  auto x = Draw(100000, 11, Gauss);
  x[5] = 100;
  const RangeChoice clipped = Estimate(x, "auto");
  EXPECT_EQ(clipped.method, RangeMethod::kMse);
  EXPECT_LT(clipped.mse, Estimate(x, "minmax").mse);
  EXPECT_GT(clipped.clipped_fraction, 0);
  const auto uniform =
      Draw(100000, 12, [](auto& r) { return std::uniform_real_distribution<float>(0, 1)(r); });
  const RangeChoice whole = Estimate(uniform, "auto");
  EXPECT_EQ(whole.method, RangeMethod::kMinMax);
  EXPECT_EQ(whole.clipped_fraction, 0);
}

// The definition in range_entropy.h, taken literally.
double PlainEntropyThreshold(const ValueDensity& density, size_t levels) {
  const double absmax = std::max(std::fabs(density.min()), std::fabs(density.max()));
  const size_t bins = 16 * levels;
  std::vector<double> count(bins);
  double inside = density.zeros();
  for (size_t j = 0; j < bins; ++j) {
    const double edge = absmax * static_cast<double>(j + 1) / static_cast<double>(bins);
    const double now =
        j + 1 == bins ? density.count() : density.count() - density.CountOutside(-edge, edge);
    count[j] = now - inside > density.count() * 0x1p-48 ? now - inside : 0;
    inside = now;
  }
  double best = std::numeric_limits<double>::infinity();
  size_t best_bins = bins;
  for (size_t i = bins; i >= levels; i -= std::max<size_t>(1, levels / 64)) {
    std::vector<double> p(count.begin(), count.begin() + static_cast<std::ptrdiff_t>(i));
    std::vector<double> q(i, 0.0);
    for (size_t k = 0; k < levels; ++k) {
      double sum = 0;
      double filled = 0;
      for (size_t j = k * i / levels; j < (k + 1) * i / levels; ++j) {
        sum += p[j];
        filled += p[j] > 0 ? 1 : 0;
      }
      for (size_t j = k * i / levels; j < (k + 1) * i / levels; ++j) {
        if (p[j] > 0) q[j] = sum / filled;
      }
    }
    for (size_t j = i; j < bins; ++j) p[i - 1] += count[j];
    if (p[i - 1] > 0 && q[i - 1] == 0) {
      double others = 0;
      for (double v : q) others += v;
      if (others == 0) break;
      q[i - 1] = others * 1e-4 / (1 - 1e-4);
    }
    double p_sum = 0;
    double q_sum = 0;
    for (size_t j = 0; j < i; ++j) {
      p_sum += p[j];
      q_sum += q[j];
    }
    double divergence = 0;
    for (size_t j = 0; j < i; ++j) {
      if (p[j] > 0) divergence += p[j] / p_sum * std::log(p[j] / p_sum / (q[j] / q_sum));
    }
    // Sums in another order: equal divergences may differ in the last bits.
    if (divergence < best - 1e-12) {
      best = divergence;
      best_bins = i;
    }
  }
  return absmax * static_cast<double>(best_bins) / static_cast<double>(bins);
}

TEST(Entropy, MatchesItsDefinition) {
  for (const auto& [name, x] : Distributions(20000)) {
    SCOPED_TRACE(name);
    const ValueDensity density(StatisticsOf(x));
    const bool both = density.min() < 0 && density.max() > 0;
    EXPECT_EQ(EntropyThreshold(density, kInt8, true, "x"), PlainEntropyThreshold(density, 128));
    for (const char* coarse : {"int4", "int3", "int2"}) {
      const IntFormat format = IntFormat::Parse(coarse);
      EXPECT_EQ(EntropyThreshold(density, format, true, "x"),
                PlainEntropyThreshold(density, size_t{1} << (format.bits - 1)));
    }
    EXPECT_EQ(EntropyThreshold(density, kUint8, false, "x"),
              PlainEntropyThreshold(density, both ? 128 : 256));
  }
}

TEST(Entropy, CutsOutliersAndKeepsUniformData) {
  auto x = Draw(100000, 13, Gauss);
  x[5] = 100;
  const RangeChoice cut = Estimate(x, "entropy", kInt8, true);
  EXPECT_LT(cut.hi, 20);
  EXPECT_GT(cut.hi, 2);
  const std::vector<float> zeros(10, 0.0F);
  EXPECT_EQ(Estimate(zeros, "entropy").hi, 0);
  EXPECT_THROW((void)Estimate(x, "entropy", IntFormat::Parse("int16")), Error);
}

// Whatever the data: a range around 0 within the extrema, a valid grid, finite figures.
TEST(EstimateRange, PropertiesOverOddData) {
  const float denormal = std::numeric_limits<float>::denorm_min();
  const std::vector<std::vector<float>> data = {
      {0},
      {-0.0F},
      {1},
      {-1},
      {kMax},
      {-kMax, kMax},
      {denormal},
      {-denormal, denormal, 1e-38F},
      {0, denormal, kMax},
      {1e-30F, 2e-30F, -3e-30F},
      Draw(1000, 14,
           [](auto& r) {
             return static_cast<float>(static_cast<int>(r() % 256) - 128);  // on a grid already
           }),
      Draw(1000, 15,
           [](auto& r) { return std::ldexp(Gauss(r), static_cast<int>(r() % 200) - 100); })};
  for (size_t i = 0; i < data.size(); ++i) {
    const auto [least, most] = std::minmax_element(data[i].begin(), data[i].end());
    for (const char* estimator :
         {"minmax", "percentile", "percentile:60", "mse", "entropy", "auto"}) {
      for (const char* format_name :
           {"uint8", "int8", "int8-narrow", "int4", "uint2", "int2-narrow"}) {
        const IntFormat format = IntFormat::Parse(format_name);
        for (const bool symmetric : {false, true}) {
          if (symmetric && !format.is_signed) continue;
          SCOPED_TRACE(
              Cat("data ", i, " ", estimator, " ", format_name, symmetric ? " symmetric" : ""));
          const RangeChoice c = Estimate(data[i], estimator, format, symmetric);
          EXPECT_LE(c.lo, 0);
          EXPECT_GE(c.hi, 0);
          const float absmax = std::max(std::fabs(*least), std::fabs(*most));
          EXPECT_GE(c.lo, symmetric ? -absmax : std::min(0.0F, *least));
          EXPECT_LE(c.hi, symmetric ? absmax : std::max(0.0F, *most));
          EXPECT_TRUE(std::isfinite(c.mse) && c.mse >= 0) << c.mse;
          EXPECT_TRUE(c.clipped_fraction >= 0 && c.clipped_fraction <= 1) << c.clipped_fraction;
          EXPECT_NE(c.method, RangeMethod::kAuto);
          QuantParams params;
          params.scale = {c.grid.scale};
          params.zero_point = {c.grid.zero_point};
          params.format = format;
          CheckQuantParams("grid", params, {1, 1, 1});
        }
      }
    }
  }
}

TEST(EstimateRange, RefusesBrokenDataNamingTheValue) {
  const auto expect = [](const std::vector<float>& x, const std::string& words) {
    for (const char* estimator : {"minmax", "auto"}) {
      try {
        (void)EstimateRange("conv3_out", StatisticsOf(x), RangeEstimator::Parse(estimator), kUint8,
                            false);
        ADD_FAILURE() << words;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kBadData);
        EXPECT_THAT(error.what(), HasSubstr("'conv3_out'"));
        EXPECT_THAT(error.what(), HasSubstr(words));
      }
    }
  };
  expect({1, std::nanf(""), 2}, "1 of 3");
  expect({std::numeric_limits<float>::infinity()}, "1 of 1");
  expect({}, "no values");
  try {
    (void)EstimateRange("y", StatisticsOf({1}), {}, kUint8, true);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("y: symmetric quantization to uint8"));
  }
}

// Each search does what its definition says, by the same expected error as all others.
TEST(RangeSearches, FindWhatTheySearchFor) {
  std::vector<float> x = Draw(20'000, 5, Gauss);
  for (size_t i = 0; i < x.size(); ++i) x[i] = i % 4000 == 0 ? -9 : 2 * std::fabs(x[i]);
  const ValueStatistics statistics = StatisticsOf(x);
  const IntFormat uint4{4, false, false};
  const auto mse = [&](const char* estimator, const NumberFormat& format, bool symmetric) {
    return EstimateRange("x", statistics, RangeEstimator::Parse(estimator), format, symmetric).mse;
  };
  const double whole = mse("minmax", uint4, false);
  // Both ends shrink together: no better than the best share on a grid ten times as fine.
  const RangeChoice all =
      EstimateRange("x", statistics, RangeEstimator::Parse("minmax"), uint4, false);
  double best_share = whole;
  for (int i = 1; i <= 12'000; ++i) {
    const double share = i / 10'000.0;
    best_share = std::min(best_share, GivenRange("x", statistics, all.lo * share, all.hi * share,
                                                 RangeMethod::kMse, uint4, false)
                                          .mse);
  }
  EXPECT_LT(best_share, whole);
  EXPECT_GE(mse("golden-section", uint4, false), best_share * (1 - 1e-3));
  EXPECT_LE(mse("golden-section", uint4, false), 1.05 * best_share);
  EXPECT_LE(mse("line-search", uint4, false), 1.01 * best_share);
  // The outliers lie at one end: two ends are worth more than one share.
  EXPECT_LT(mse("mse-2d", uint4, false), 0.9 * best_share);
  EXPECT_LE(mse("mse-2d", uint4, false), 1.1 * mse("mse", uint4, false));
  EXPECT_EQ(Estimate(x, "mse-2d", uint4).method, RangeMethod::kMse2d);
  // Float formats and symmetric integers have one end.
  for (const char* name : {"e2m1", "int4"}) {
    const NumberFormat format = NumberFormat::Parse(name);
    EXPECT_LT(mse("line-search", format, true), mse("minmax", format, true)) << name;
    for (const char* none : {"mse-2d", "cross-entropy"}) {
      try {
        (void)mse(none, format, true);
        FAIL() << none << " " << name;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
        EXPECT_THAT(e.what(), HasSubstr(none));
      }
    }
  }
  for (const char* name : {"golden-section", "line-search", "mse-2d", "cross-entropy"}) {
    EXPECT_EQ(RangeEstimator::Parse(name).Name(), name);
  }
}

}  // namespace
}  // namespace octet
