#include "numerics/fixed_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace octet {
namespace {

double SumOf(const std::vector<double>& terms) {
  FixedSum sum;
  for (double term : terms) sum.Add(term);
  return sum.Value();
}

TEST(FixedSum, OneTermComesBackExactly) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> mantissa(1, 2);
  // 2^-60 x a 53-bit mantissa has its last bit at 2^-112: still exact.
  for (int exponent = -60; exponent < 100; ++exponent) {
    for (int i = 0; i < 20; ++i) {
      const double term = std::ldexp(mantissa(random), exponent) * (i % 2 == 0 ? 1 : -1);
      EXPECT_EQ(SumOf({term}), term);
    }
  }
  EXPECT_EQ(SumOf({}), 0.0);
  EXPECT_EQ(SumOf({0.0, -0.0}), 0.0);
}

TEST(FixedSum, RoundsSmallTermsToNearestEven) {
  const double unit = 0x1p-112;
  EXPECT_EQ(SumOf({unit / 2}), 0.0);         // tie, to even
  EXPECT_EQ(SumOf({unit * 1.5}), 2 * unit);  // tie, to even
  EXPECT_EQ(SumOf({unit * 2.5}), 2 * unit);
  EXPECT_EQ(SumOf({unit * 0.75}), unit);
  EXPECT_EQ(SumOf({-unit * 0.75}), -unit);
  EXPECT_EQ(SumOf({std::nextafter(unit / 2, 1.0)}), unit);
  EXPECT_EQ(SumOf({unit / 4}), 0.0);
  EXPECT_EQ(SumOf({std::numeric_limits<double>::denorm_min()}), 0.0);
}

TEST(FixedSum, KeepsWhatDoubleLoses) {
  EXPECT_EQ(SumOf({0x1p99, 1.0, -0x1p99}), 1.0);
  EXPECT_EQ(SumOf({0x1p99, 0x1p-112, -0x1p99}), 0x1p-112);
  EXPECT_EQ(SumOf({1.0, -0x1p-112, -1.0}), -0x1p-112);
}

TEST(FixedSum, ValueRoundsToNearestEven) {
  EXPECT_EQ(SumOf({0x1p60, 0x1p7}), 0x1p60);                    // half an ulp: tie, to even
  EXPECT_EQ(SumOf({0x1p60, 0x1p7, 0x1p-112}), 0x1p60 + 0x1p8);  // just above the tie
  EXPECT_EQ(SumOf({0x1p60, 0x1p8, 0x1p7}), 0x1p60 + 0x1p9);     // tie, to even, upwards
  EXPECT_EQ(SumOf({-0x1p60, -0x1p7, -0x1p-112}), -0x1p60 - 0x1p8);
}

TEST(FixedSum, SameBitsInAnyOrderAndGrouping) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> exponent(-130, 95);
  std::normal_distribution<double> normal;
  std::vector<double> terms(1000);
  for (double& term : terms) term = normal(random) * std::exp2(exponent(random));
  FixedSum forward;
  for (double term : terms) forward.Add(term);
  for (int round = 0; round < 20; ++round) {
    std::shuffle(terms.begin(), terms.end(), random);
    FixedSum parts[3];
    for (size_t i = 0; i < terms.size(); ++i) parts[random() % 3].Add(terms[i]);
    FixedSum merged;
    for (int i : {2, 0, 1}) merged.Merge(parts[i]);
    EXPECT_EQ(merged, forward);
  }
}

TEST(FixedSum, MatchesIntegerArithmetic) {
  std::mt19937_64 random(3);
  FixedSum sum;
  int64_t expected = 0;
  for (int i = 0; i < 10000; ++i) {
    const int64_t term = static_cast<int64_t>(random() % 2000001) - 1000000;
    sum.Add(static_cast<double>(term));
    expected += term;
    ASSERT_EQ(sum.Value(), static_cast<double>(expected));
  }
}

TEST(FixedSum, SaturatesForGoodWhereverTheTermStands) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (double term : {0x1p100, -0x1p100, infinity, -infinity, std::nan("")}) {
    FixedSum first;
    first.Add(term);
    first.Add(1);
    FixedSum last;
    last.Add(1);
    last.Add(term);
    FixedSum merged;
    merged.Add(1);
    merged.Merge(last);
    EXPECT_TRUE(first.saturated());
    EXPECT_EQ(first, last);
    EXPECT_EQ(first, merged);
    EXPECT_TRUE(std::isnan(first.Value()));
  }
  EXPECT_FALSE(FixedSum().saturated());
}

TEST(FixedSum, WordsRoundTrip) {
  FixedSum sum;
  sum.Add(-12345.678);
  EXPECT_EQ(FixedSum::FromWords(sum.words()), sum);
  EXPECT_EQ(FixedSum::FromWords(sum.words()).Value(), -12345.678);
}

}  // namespace
}  // namespace octet
