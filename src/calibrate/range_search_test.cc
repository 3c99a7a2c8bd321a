#include "calibrate/range_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/test_folder.h"
#include "base/test_golden.h"
#include "calibrate/sorted_values.h"
#include "numerics/rounding.h"

namespace octet {
namespace {

std::vector<float> Batch(const char* name) {
  std::vector<float> values;
  for (const auto& row : GoldenNumbers(name, false)) {
    for (const double v : row) values.push_back(static_cast<float>(v));
  }
  EXPECT_EQ(values.size(), 128U);
  return values;
}

// The numbers in brackets behind `key`, or the one number.
std::vector<double> NumbersAfter(const std::string& line, const std::string& key) {
  const size_t at = line.find(key + " ");
  if (at == std::string::npos) {
    ADD_FAILURE() << key << " in " << line;
    return {};
  }
  size_t begin = at + key.size() + 1;
  size_t end = line.find(' ', begin);
  if (line[begin] == '[') {
    ++begin;
    end = line.find(']', begin);
  }
  std::vector<double> numbers;
  for (const std::string& cell : GoldenCells(line.substr(begin, end - begin))) {
    numbers.push_back(std::strtod(cell.c_str(), nullptr));
  }
  return numbers;
}

void ExpectNear(const std::vector<double>& got, const std::vector<double>& expected,
                const std::string& line) {
  ASSERT_EQ(got.size(), expected.size()) << line;
  for (size_t i = 0; i < got.size(); ++i) {
    // Seven digits in the file, of float32 results.
    EXPECT_NEAR(got[i], expected[i], 3e-7 * std::fabs(expected[i]) + 5e-7) << line;
  }
}

// estimators.txt: what each of the original's estimators says after either batch.
TEST(GoldenEstimators, AllOfThem) {
  const std::vector<float> batches[] = {Batch("est_batch1.csv"), Batch("est_batch2.csv")};
  int compared = 0;
  for (const std::string& line : GoldenLines("estimators.txt")) {
    const bool per_channel = line.find("per_channel True") != std::string::npos;
    const int64_t channels = per_channel ? 4 : 1;
    const size_t seen = line.find("after batch 2") != std::string::npos ? 2 : 1;
    ++compared;
    if (line.find("MinMaxEstimator") != std::string::npos) {
      const ObserverMode mode = line.starts_with("All")       ? ObserverMode::kAll
                                : line.starts_with("Running") ? ObserverMode::kRunning
                                                              : ObserverMode::kCurrent;
      RangeObserver observer(mode, line.find("percentile") != std::string::npos ? 5 : 0);
      for (size_t b = 0; b < seen; ++b) observer.Update(batches[b], channels, "x");
      std::vector<double> lo;
      std::vector<double> hi;
      for (const DataRange& r : observer.ranges()) {
        lo.push_back(r.lo);
        hi.push_back(r.hi);
      }
      ExpectNear(lo, NumbersAfter(line, "xmin"), line);
      ExpectNear(hi, NumbersAfter(line, "xmax"), line);
    } else if (line.starts_with("FP_MSE")) {
      const bool mantissa = line.find("include_mantissa True") != std::string::npos;
      FloatRangeSearch search(FloatFormat::Parse("e3m4"), {.search_mantissa = mantissa});
      for (size_t b = 0; b < seen; ++b) search.Update(batches[b], channels, "x");
      EXPECT_EQ(search.format().mantissa_bits, NumbersAfter(line, "M")[0]) << line;
      const auto maxval = search.maxval();
      ExpectNear({maxval.begin(), maxval.end()}, NumbersAfter(line, "maxval"), line);
    } else {
      ASSERT_TRUE(line.starts_with("LineSearch")) << line;
      const char* format = line.find("sym_int8") != std::string::npos   ? "int8"
                           : line.find("sym_int4") != std::string::npos ? "int4"
                           : line.find("fp_M3") != std::string::npos    ? "e4m3"
                                                                        : "e2m5";
      LineSearch search(NumberFormat::Parse(format),
                        {.candidates = static_cast<int>(NumbersAfter(line, "num_candidates")[0])});
      for (size_t b = 0; b < seen; ++b) search.Update(batches[b], 1, "x");
      ExpectNear({search.step()}, NumbersAfter(line, "step"), line);
      ExpectNear(search.maxval(), NumbersAfter(line, "xmax"), line);
      EXPECT_FALSE(search.one_sided());
    }
  }
  EXPECT_EQ(compared, 40);
}

std::vector<float> Draws(size_t n, float mean = 0) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(mean, 1);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

// By cells, for many values, the sums are those of the values one by one.
TEST(SortedValues, ErrorsAreThoseOfTheValues) {
  const std::vector<float> x = Draws(20'000, 0.3F);
  const SortedValues sorted(x, "x");
  for (const char* name : {"e4m3", "e2m1", "e2m5", "ue4m4", "e3m4:bias=int-round"}) {
    const FloatFormat format = FloatFormat::Parse(name);
    const float scale = FloatScaleFor(format, 2.9F);
    FloatGrid grid(format);
    grid.max = FloatLimitFor(format, 2.9F, scale);
    double sum = 0;
    for (const float v : x) {
      const double e = static_cast<double>(v) - static_cast<double>(grid.Round(v / scale) * scale);
      sum += e * e;
    }
    EXPECT_NEAR(sorted.SquaredError(format, scale, grid.max), sum, 1e-6 * sum) << name;
  }
  for (const char* name : {"int8", "uint4", "int4-narrow"}) {
    const IntFormat format = IntFormat::Parse(name);
    const ScaleZero grid = ChooseAsymmetric(-2, 2.9F, format);
    double sum = 0;
    for (const float v : x) {
      const double e = static_cast<double>(v) -
                       static_cast<double>(DequantizeOne(QuantizeOne(v, grid.scale, grid.zero_point,
                                                                     format.qmin(), format.qmax()),
                                                         grid.scale, grid.zero_point));
      sum += e * e;
    }
    EXPECT_NEAR(sorted.SquaredError(format, grid), sum, 1e-6 * sum) << name;
  }
}

TEST(SortedValues, PercentilesAreNumPys) {
  const SortedValues v(std::vector<float>{4, 1, 3, 2}, "x");
  EXPECT_EQ(v.Percentile(0), 1);
  EXPECT_EQ(v.Percentile(100), 4);
  EXPECT_EQ(v.Percentile(50), 2.5);
  EXPECT_NEAR(v.Percentile(10), 1.3, 1e-12);
}

// Of each split the best candidate, by brute force; most channels decide.
TEST(FloatRangeSearch, ChannelsVoteForTheSplit) {
  // Two heavy-tailed channels, one uniform: the tails' split wins for all.
  std::mt19937 random(3);
  std::student_t_distribution<float> tails(2);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x;
  for (int i = 0; i < 2000; ++i) x.push_back(tails(random));
  for (int i = 0; i < 2000; ++i) x.push_back(uniform(random));
  for (int i = 0; i < 2000; ++i) x.push_back(tails(random));
  const auto one = [&](size_t channel) {
    FloatRangeSearch search(FloatFormat::Parse("e4m3"));
    search.Update(std::span(x).subspan(channel * 2000, 2000), 1, "x");
    return search.format().mantissa_bits;
  };
  FloatRangeSearch search(FloatFormat::Parse("e4m3"));
  search.Update(x, 3, "x");
  EXPECT_EQ(one(1), 6);
  EXPECT_EQ(one(0), one(2));
  EXPECT_LT(one(0), 6);
  EXPECT_EQ(search.format().mantissa_bits, one(0));
  EXPECT_EQ(search.format().bits(), 8);
  // One vote each: the smallest mantissa.
  FloatRangeSearch tie(FloatFormat::Parse("e4m3"));
  tie.Update(std::span(x).first(4000), 2, "x");
  EXPECT_EQ(tie.format().mantissa_bits, one(0));
  // Zeros have a range, too.
  FloatRangeSearch zeros(FloatFormat::Parse("ue4m4"));
  zeros.Update(std::vector<float>(8, 0.0F), 2, "x");
  EXPECT_THAT(zeros.maxval(), testing::ElementsAre(0, 0));
  EXPECT_EQ(zeros.format().bits(), 8);
}

// Every channel of either axis: no candidate is better, the error is that of the array quantized,
// and the axis is the right one.
TEST(SearchWeightScales, FindsEachChannelsLeastError) {
  std::mt19937 random(12);
  std::student_t_distribution<float> tails(3);
  std::vector<float> w(6 * 40 * 9);
  for (size_t i = 0; i < w.size(); ++i) w[i] = tails(random) * static_cast<float>(1 + i % 7);
  for (const char* name :
       {"int8", "int4", "e3m4", "e2m1", "e4m3:bias=int", "e3m4:bias=int-round"}) {
    const NumberFormat format = NumberFormat::Parse(name);
    for (const int axis : {-1, 0, 1}) {
      const Extents extents = ExtentsOf(std::vector<int64_t>{6, 40, 9}, axis);
      const WeightSearch found = SearchWeightScales(w, extents, axis, format, "w");
      const auto error = [&](const QuantParams& params) {
        std::vector<float> y = w;
        FakeQuantizeArray(y, extents, params);
        double sum = 0;
        for (size_t i = 0; i < w.size(); ++i) {
          const double e = static_cast<double>(w[i]) - static_cast<double>(y[i]);
          sum += e * e;
        }
        return sum;
      };
      const double least = error(found.choice.params);
      EXPECT_NEAR(found.squared_error, least, 1e-6 * least) << name;
      const WeightScaleChoice whole = ChooseWeightScales(w, extents, axis, format, "w");
      EXPECT_EQ(found.choice.params.scale.size(), whole.params.scale.size());
      EXPECT_EQ(found.choice.params.limit.size(), whole.params.limit.size());
      EXPECT_LE(least, error(whole.params)) << name << axis;
      // Any one scale somewhat off costs more, or as much where the format's steps are powers of 2.
      for (size_t c = 0; c < found.choice.params.scale.size(); c += 3) {
        for (const float factor : {0.5F, 2.0F}) {
          QuantParams other = found.choice.params;
          other.scale[c] *= factor;
          EXPECT_GE(error(other), least * (1 - 1e-6)) << name << " " << axis << " " << c;
        }
      }
    }
  }
}

TEST(SearchWeightScales, KeepsDeadChannelsAndZeros) {
  const std::vector<float> w = {0, 0, 1, -2, 1e-9F, 0};
  const WeightSearch found = SearchWeightScales(w, {1, 3, 2}, 0, NumberFormat::Parse("e4m3"), "w");
  EXPECT_THAT(found.choice.dead, testing::ElementsAre(0, 2));
  const WeightScaleChoice whole =
      ChooseWeightScales(w, {1, 3, 2}, 0, NumberFormat::Parse("e4m3"), "w");
  EXPECT_EQ(found.choice.params.scale[0], whole.params.scale[0]);
  EXPECT_EQ(found.choice.params.scale[2], whole.params.scale[2]);
  const WeightSearch zeros =
      SearchWeightScales(std::vector<float>(4, 0.0F), {1, 1, 4}, -1, kInt8, "w");
  EXPECT_EQ(zeros.choice.params.scale[0], 1.0F);
  EXPECT_EQ(zeros.squared_error, 0);
}

TEST(BestWeightFormat, FollowsTheTail) {
  const std::vector<NumberFormat> formats = {
      NumberFormat::Parse("int8"), NumberFormat::Parse("e2m5"), NumberFormat::Parse("e4m3")};
  std::mt19937 random(13);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> w(5000);
  for (float& v : w) v = uniform(random);
  const auto best = [&] {
    return BestWeightFormat(w, {1, 2, 2500}, 1, formats, "w").choice.params.format.Name();
  };
  EXPECT_EQ(best(), "int8");
  std::normal_distribution<float> normal;
  for (float& v : w) v = normal(random);
  EXPECT_EQ(best(), "e2m5");
  // One in a hundred fifty times as large: they are 25 times the power of the rest.
  for (float& v : w) v = normal(random) * (random() % 100 == 0 ? 50.0F : 1.0F);
  EXPECT_EQ(best(), "e4m3");
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] {
        (void)BestWeightFormat(w, {1, 1, 5000}, -1, {}, "conv");
      },
      "conv");
}

TEST(LineSearch, IsOneSidedWhereNothingIsBelow0) {
  std::vector<float> x = Draws(1000);
  for (float& v : x) v = std::fabs(v);
  LineSearch search(NumberFormat::Parse("int4"));
  search.Update(x, 1, "x");
  EXPECT_TRUE(search.one_sided());
  const SortedValues sorted(x, "x");
  double least = std::numeric_limits<double>::infinity();
  double best = 0;
  for (int i = 1; i <= 1000; ++i) {
    const double maxval = search.step() * i;
    const double error = sorted.SquaredError(
        IntFormat::Parse("uint4"),
        ChooseAsymmetric(0, static_cast<float>(maxval), IntFormat::Parse("uint4")));
    if (error < least) {
      least = error;
      best = maxval;
    }
  }
  EXPECT_EQ(search.maxval()[0], best);
}

// Over integers the error has one valley, with a ripple of its own: within a hundredth of the least
// error of a grid ten times as fine as the original's.
TEST(GoldenSectionSearch, FindsTheValley) {
  const std::vector<float> x = Draws(50'000);
  const SortedValues sorted(x, "x");
  for (const char* name : {"int8", "int4"}) {
    const IntFormat format = IntFormat::Parse(name);
    const auto error = [&](float maxval) {
      return sorted.SquaredError(format, {ChooseSymmetric(maxval, format), 0});
    };
    double least = std::numeric_limits<double>::infinity();
    for (int i = 100; i <= 1200; ++i) {
      least = std::min(least, error(static_cast<float>(i) / 1000 * sorted.AbsMax()));
    }
    EXPECT_LE(error(GoldenSectionSearch(x, format, "x")), 1.01 * least) << name;
  }
  EXPECT_EQ(GoldenSectionSearch(std::vector<float>(3, 0.0F), kInt8, "x"), 0);
}

TEST(AsymmetricSearch, BeatsTheWholeRangeAndTheLine) {
  // Spread above 0, but for a few far below: only the lower end is to be clipped.
  std::vector<float> x = Draws(20'000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = i % 4000 == 0 ? -9 : 2 * std::fabs(x[i]);
  const SortedValues sorted(x, "x");
  const IntFormat format = IntFormat::Parse("uint4");
  const auto error = [&](double lo, double hi) {
    return sorted.SquaredError(
        format, ChooseAsymmetric(static_cast<float>(lo), static_cast<float>(hi), format));
  };
  const DataRange found = AsymmetricSearch(x, format, "x");
  const DataRange line = AsymmetricSearch(x, format, "x", {.thresholds = 100, .skews = 0});
  const double best = error(found.lo, found.hi);
  EXPECT_LT(best, 0.9 * error(line.lo, line.hi));
  EXPECT_LT(error(line.lo, line.hi), error(sorted.min(), sorted.max()));
  // Brute force over both ends, no nearer than a step of the search.
  double least = best;
  for (int i = 1; i <= 40; ++i) {
    for (int j = 1; j <= 200; ++j) {
      least = std::min(least, error(i / 40.0 * static_cast<double>(sorted.min()),
                                    j / 200.0 * static_cast<double>(sorted.max())));
    }
  }
  EXPECT_LT(best, 1.1 * least);
}

TEST(CrossEntropySearch, KeepsWhatDecides) {
  // The two largest of ten are close, far below lies noise with an outlier: squared error keeps the
  // outlier, cross-entropy what is near the top.
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  std::vector<float> logits;
  for (int row = 0; row < 200; ++row) {
    for (int i = 0; i < 10; ++i) {
      logits.push_back(i == 0   ? -40.0F
                       : i == 1 ? 6 + normal(random)
                       : i == 2 ? 6 + normal(random)
                                : normal(random));
    }
  }
  const NumberFormat format = NumberFormat::Parse("int4");
  const DataRange found = CrossEntropySearch(logits, 10, format, "logits");
  EXPECT_LT(found.hi, 15);
  EXPECT_GT(found.hi, 6);
  EXPECT_EQ(found.lo, -found.hi);
  EXPECT_GT(GoldenSectionSearch(logits, format, "logits"), 30);
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { (void)CrossEntropySearch(logits, 7, format, "logits"); },
      "logits");
  // With a zero point both ends move together.
  const DataRange skewed = CrossEntropySearch(logits, 10, NumberFormat::Parse("uint8"), "logits");
  EXPECT_NEAR(skewed.lo / skewed.hi,
              static_cast<double>(*std::min_element(logits.begin(), logits.end())) /
                  static_cast<double>(*std::max_element(logits.begin(), logits.end())),
              1e-6);
}

// The vote of a recipe is the original's: FloatRangeSearch with search_mantissa.
TEST(VotedWeightFormat, IsTheMantissaSearch) {
  std::mt19937 random(3);
  std::student_t_distribution<float> tails(2);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> w;
  for (int c = 0; c < 5; ++c) {
    for (int i = 0; i < 500; ++i) w.push_back(c % 2 == 0 ? tails(random) : uniform(random));
  }
  for (const char* name : {"e4m3", "e3m2", "e4m3:bias=int"}) {
    const FloatFormat format = FloatFormat::Parse(name);
    FloatRangeSearch original(format);
    original.Update(w, 5, "w");
    std::vector<NumberFormat> splits;
    for (const FloatFormat& f : SplitsOf(format)) splits.emplace_back(f);
    const WeightSearch found = VotedWeightFormat(w, {1, 5, 500}, 0, splits, "w");
    EXPECT_EQ(found.choice.params.format, NumberFormat(original.format())) << name;
    const auto maxval = original.maxval();
    for (size_t c = 0; c < 5; ++c) {
      EXPECT_EQ(found.choice.params.scale[c], FloatScaleFor(original.format(), maxval[c])) << name;
    }
  }
  // By squared error the tails' channels, which hold most of the power, decide alone; by vote the
  // uniform ones do, once they are more.
  std::vector<NumberFormat> formats = {NumberFormat::Parse("e4m3"), NumberFormat::Parse("e2m5")};
  std::normal_distribution<float> normal;
  std::vector<float> mixed;
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 500; ++i) {
      const float tail = normal(random) * (i % 100 == 0 ? 50.0F : 1.0F);
      mixed.push_back(c == 0 ? tail : 0.01F * uniform(random));
    }
  }
  const RangeEstimator whole = RangeEstimator::Parse("minmax");
  EXPECT_EQ(BestWeightFormat(mixed, {1, 3, 500}, 0, formats, "w", whole).choice.params.format,
            formats[0]);
  EXPECT_EQ(VotedWeightFormat(mixed, {1, 3, 500}, 0, formats, "w", whole).choice.params.format,
            formats[1]);
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { (void)SplitsOf(FloatFormat::Parse("e4m3fn")); }, "e4m3fn");
}

TEST(SearchWeightScales, TakesEveryEstimatorThatMakesSense) {
  std::vector<float> w = Draws(4000);
  const auto error = [&](const char* estimator, const char* format) {
    return SearchWeightScales(w, {1, 4, 1000}, 0, NumberFormat::Parse(format), "w",
                              RangeEstimator::Parse(estimator))
        .squared_error;
  };
  for (const char* format : {"int4", "e2m1"}) {
    const double whole = error("minmax", format);
    const double grid = error("mse", format);
    EXPECT_LT(grid, 0.9 * whole) << format;
    // A grid nine times as fine, beyond which there is little to gain.
    EXPECT_LE(error("line-search", format), 1.001 * grid) << format;
    EXPECT_LT(error("percentile:99", format), whole) << format;
    EXPECT_EQ(error("percentile:100", format), whole) << format;
  }
  // One valley: golden section finds it.
  EXPECT_LT(error("golden-section", "int4"), 1.01 * error("mse", "int4"));
  for (const char* none : {"mse-2d", "cross-entropy", "entropy", "auto"}) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)error(none, "int8"); }, none);
  }
}

TEST(RangeSearch, RefusesBrokenData) {
  const float nan = std::nanf("");
  const auto refused = [](const auto& call) { ExpectError(ErrorCode::kBadData, call, "conv"); };
  refused([&] { RangeObserver(ObserverMode::kAll).Update(std::vector{1.0F, nan}, 1, "conv"); });
  refused([&] {
    FloatRangeSearch(FloatFormat::Parse("e4m3")).Update(std::vector{1.0F, nan}, 1, "conv");
  });
  refused([&] { LineSearch(kInt8).Update(std::vector{1.0F, nan}, 1, "conv"); });
  refused([&] { (void)GoldenSectionSearch(std::vector{nan}, kInt8, "conv"); });
  refused([&] { (void)AsymmetricSearch({}, kInt8, "conv"); });
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] {
        RangeObserver(ObserverMode::kAll).Update(std::vector{1.0F, 2.0F}, 3, "conv");
      },
      "3 channels");
  RangeObserver changing(ObserverMode::kAll);
  changing.Update(std::vector{1.0F, 2.0F}, 2, "conv");
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] {
        changing.Update(std::vector{1.0F, 2.0F}, 1, "conv");
      },
      "earlier");
}

}  // namespace
}  // namespace octet
