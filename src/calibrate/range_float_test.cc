#include "calibrate/range_float.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "base/test_folder.h"
#include "calibrate/range.h"

namespace octet {
namespace {

std::vector<float> Draw(size_t n, const std::function<float(std::mt19937&)>& draw) {
  std::mt19937 random(11);
  std::vector<float> x(n);
  for (float& v : x) v = draw(random);
  return x;
}

float Gauss(std::mt19937& random) { return std::normal_distribution<float>()(random); }
float Uniform(std::mt19937& random) { return std::uniform_real_distribution<float>(-1, 1)(random); }
float Relu(std::mt19937& random) { return std::max(Gauss(random), 0.0F); }
float Relu6(std::mt19937& random) { return std::clamp(3 + 4 * Gauss(random), 0.0F, 6.0F); }
// Normal, one in a thousand a hundred times as large.
float Outliers(std::mt19937& random) {
  const float x = Gauss(random);
  return random() % 1000 == 0 ? 100 * x : x;
}

ValueStatistics StatisticsOf(const std::vector<float>& x) {
  ValueStatistics value(-1, 1);
  value.Update(x, {1, 1, static_cast<int64_t>(x.size())});
  return value;
}

double RawMse(const std::vector<float>& x, const FloatFormat& format, float scale, float limit) {
  FloatGrid grid(format);
  grid.max = limit;
  double sum = 0;
  for (float v : x) {
    const double e = static_cast<double>(v) - static_cast<double>(grid.Round(v / scale) * scale);
    sum += e * e;
  }
  return sum / static_cast<double>(x.size());
}

// The histogram's expectation is the error on the data: within the share of a bin's elements that
// fall evenly by chance, which for 2e5 elements is below 2 %. Relu6's plateaus are exact.
TEST(FloatSquaredError, IsTheErrorOnTheData) {
  for (const auto& draw : {Gauss, Uniform, Relu, Relu6, Outliers}) {
    const std::vector<float> x = Draw(200'000, draw);
    const ValueDensity density(StatisticsOf(x));
    const double most = std::max(-density.min(), density.max());
    for (const char* name : {"e5m2", "e4m3", "e3m4", "e2m5", "e1m6", "e0m7", "e4m3fnuz", "e2m1",
                             "e3m4:bias=int", "e4m3:bias=int-round", "e5m2:bias=int-round"}) {
      const FloatFormat format = FloatFormat::Parse(name);
      for (const double factor : {1.0, 0.83, 0.31, 1.7}) {
        const FloatRange range = FloatRangeOf(density, format, factor * most, "x");
        const double raw = RawMse(x, format, range.scale, range.limit);
        EXPECT_NEAR(range.squared_error / density.count(), raw, 0.02 * raw)
            << name << " " << factor;
      }
    }
  }
}

// Beside a scan of the data itself, forty steps to the octave.
TEST(LeastErrorFloatRange, FindsTheLeastErrorOfTheData) {
  for (const auto& draw : {Gauss, Uniform, Relu, Relu6, Outliers}) {
    const std::vector<float> x = Draw(20'000, draw);
    const ValueDensity density(StatisticsOf(x));
    const double most = std::max(-density.min(), density.max());
    for (const char* name :
         {"e5m2", "e4m3", "e3m4", "e2m5", "e3m4:bias=int", "e2m3", "e3m4:bias=int-round"}) {
      const FloatFormat format = FloatFormat::Parse(name);
      const FloatRange found = LeastErrorFloatRange(density, format, "x");
      double least = std::numeric_limits<double>::infinity();
      for (int i = -40; i < 320; ++i) {
        const auto maxval = static_cast<float>(most * std::exp2(-i / 40.0));
        const float scale = FloatScaleFor(format, maxval);
        least = std::min(least, RawMse(x, format, scale, FloatLimitFor(format, maxval, scale)));
      }
      // 20,000 elements know their error on a grid to 5 %.
      EXPECT_LE(RawMse(x, format, found.scale, found.limit), 1.05 * least) << name;
    }
  }
}

TEST(EstimateRange, OfFloatFormatsCoversWhatTheGridDoes) {
  const std::vector<float> x = Draw(50'000, Outliers);
  const ValueStatistics statistics = StatisticsOf(x);
  const float most = std::max(-statistics.min(), statistics.max());
  const auto estimate = [&](const char* estimator, const char* format) {
    return EstimateRange("x", statistics, RangeEstimator::Parse(estimator),
                         NumberFormat::Parse(format), false);
  };
  const RangeChoice whole = estimate("minmax", "e4m3");
  EXPECT_EQ(whole.hi, most);
  EXPECT_EQ(whole.lo, -most);
  EXPECT_EQ(whole.grid.scale, FloatScaleFor(FloatFormat::Parse("e4m3"), most));
  EXPECT_EQ(whole.grid.zero_point, 0);
  EXPECT_EQ(whole.clipped_fraction, 0);
  EXPECT_NEAR(whole.mse, ExpectedMse(statistics, whole.grid, FloatFormat::Parse("e4m3")),
              1e-12 * whole.mse);
  const RangeChoice power = estimate("minmax", "e4m3:bias=int");
  EXPECT_EQ(power.hi, 480 * power.grid.scale);
  EXPECT_GE(power.hi, most);
  EXPECT_LT(power.hi, 2 * most);
  const RangeChoice fixed = estimate("mse", "e2m3:bias=standard");
  EXPECT_EQ(fixed.hi, 7.5F);
  EXPECT_EQ(fixed.grid.scale, 1.0F);
  EXPECT_GT(fixed.clipped_fraction, 0);
  const RangeChoice share = estimate("percentile:99", "e3m4");
  EXPECT_NEAR(share.clipped_fraction, 0.01, 1e-3);
  EXPECT_LT(share.hi, 4);
  // Outliers a hundred times as large: clipping them costs, dropping the small values' bits too.
  EXPECT_LT(estimate("mse", "e2m5").mse, estimate("minmax", "e2m5").mse);
  EXPECT_EQ(estimate("auto", "e2m5").method, RangeMethod::kMse);
  const RangeChoice positive = estimate("minmax", "ue4m4");
  EXPECT_EQ(positive.lo, 0);
  EXPECT_EQ(positive.hi, statistics.max());
  ExpectError(
      ErrorCode::kUnsupported, [&] { (void)estimate("entropy", "e4m3"); }, "'x'", "e4m3");
}

TEST(EstimateRange, OfFloatFormatsTakesZerosAndExtremes) {
  for (const char* name : {"e4m3", "ue4m4", "e4m3:bias=int", "e4m3:bias=int-round", "e0m7"}) {
    for (const char* estimator : {"minmax", "percentile", "mse", "auto"}) {
      const auto scale = [&](const std::vector<float>& x) {
        return EstimateRange("x", StatisticsOf(x), RangeEstimator::Parse(estimator),
                             NumberFormat::Parse(name), true)
            .grid.scale;
      };
      EXPECT_EQ(scale({0, 0, 0}), 1.0F) << name << estimator;
      EXPECT_GE(scale({1e-45F, 0}), kMinScale) << name << estimator;
      EXPECT_TRUE(std::isfinite(scale({std::numeric_limits<float>::max() / 4, 1}))) << name;
    }
  }
}

TEST(BestFormat, FollowsTheTailOfTheDistribution) {
  const std::vector<NumberFormat> formats = {
      NumberFormat::Parse("int8"), NumberFormat::Parse("e2m5"), NumberFormat::Parse("e3m4"),
      NumberFormat::Parse("e4m3"), NumberFormat::Parse("e5m2")};
  const auto best = [&](const std::function<float(std::mt19937&)>& draw) {
    const ValueStatistics statistics = StatisticsOf(Draw(50'000, draw));
    const FormatChoice choice =
        BestFormat("x", statistics, RangeEstimator::Parse("mse"), formats, true);
    for (const NumberFormat& f : formats) {
      const RangeChoice other =
          EstimateRange("x", statistics, RangeEstimator::Parse("mse"), f, true);
      EXPECT_LE(choice.range.mse, other.mse);
    }
    return choice.format.Name();
  };
  EXPECT_EQ(best(Uniform), "int8");
  EXPECT_EQ(best(Gauss), "e2m5");
  EXPECT_EQ(best(Outliers), "e3m4");
  ExpectError(ErrorCode::kInvalidArgument, [&] {
    (void)BestFormat("x", StatisticsOf({1}), RangeEstimator::Parse("mse"), {}, true);
  });
}

}  // namespace
}  // namespace octet
