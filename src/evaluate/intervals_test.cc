#include "evaluate/intervals.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace octet {
namespace {

TEST(Intervals, StudentTMatchesTables) {
  EXPECT_NEAR(StudentT975(1), 12.7062047, 1e-6);
  EXPECT_NEAR(StudentT975(10), 2.2281389, 1e-6);
  // From the usual tables, four digits.
  EXPECT_NEAR(StudentT975(11), 2.2010, 5e-5);
  EXPECT_NEAR(StudentT975(20), 2.0860, 5e-5);
  EXPECT_NEAR(StudentT975(30), 2.0423, 5e-5);
  EXPECT_NEAR(StudentT975(120), 1.9799, 5e-5);
  EXPECT_NEAR(StudentT975(1000000), 1.9600, 5e-5);
}

TEST(Intervals, WilsonMatchesPublishedExamples) {
  // Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3.
  const Interval a = WilsonInterval(81, 263);
  EXPECT_NEAR(a.lo, 0.2553, 5e-5);
  EXPECT_NEAR(a.hi, 0.3662, 5e-5);
  const Interval b = WilsonInterval(15, 148);
  EXPECT_NEAR(b.lo, 0.0624, 5e-5);
  EXPECT_NEAR(b.hi, 0.1605, 5e-5);
  const Interval c = WilsonInterval(0, 20);
  EXPECT_EQ(c.lo, 0.0);
  EXPECT_NEAR(c.hi, 0.1611, 5e-5);
  const Interval d = WilsonInterval(1, 29);
  EXPECT_NEAR(d.lo, 0.0061, 5e-5);
  EXPECT_NEAR(d.hi, 0.1718, 5e-5);
}

TEST(Intervals, PairedDifferenceOfIdenticalModelsIsZeroWithWidth) {
  const Interval i = PairedDifference({60, 0, 0, 40});
  EXPECT_EQ(i.value, 0.0);
  EXPECT_LT(i.lo, 0.0);
  EXPECT_GT(i.hi, 0.0);
  EXPECT_LT(i.hi, 0.05);
}

TEST(Intervals, PairedDifferenceIsAntisymmetricAndNarrowerThanUnpaired) {
  const Interval up = PairedDifference({80, 2, 6, 12});
  const Interval down = PairedDifference({80, 6, 2, 12});
  EXPECT_NEAR(up.value, 0.04, 1e-12);
  EXPECT_NEAR(up.value, -down.value, 1e-12);
  EXPECT_NEAR(up.lo, -down.hi, 1e-12);
  EXPECT_NEAR(up.hi, -down.lo, 1e-12);
  // The same margins without correlation: wider.
  const Interval loose = PairedDifference({71, 11, 15, 3});
  EXPECT_NEAR(loose.value, 0.04, 1e-12);
  EXPECT_GT(loose.hi - loose.lo, 1.5 * (up.hi - up.lo));
}

TEST(Intervals, MeanUsesTheSampleDeviation) {
  const std::array<double, 4> v = {1, 2, 3, 6};
  const Interval i = MeanInterval(v);
  EXPECT_DOUBLE_EQ(i.value, 3.0);
  // s^2 = (4 + 1 + 0 + 9) / 3, half width = t(3) * s / 2.
  EXPECT_NEAR(i.hi - i.value, 3.1824463 * std::sqrt(14.0 / 3.0) / 2, 1e-6);
  const std::array<double, 1> one = {1};
  EXPECT_TRUE(std::isinf(MeanInterval(one).hi));
}

TEST(Intervals, MeanStaysWithinTheBoundsOfItsFigures) {
  const std::array<double, 4> v = {1, 1, 1, 0.98};  // Student's t: 0.995 +- 0.016
  const Interval i = MeanInterval(v, {0, 1});
  EXPECT_EQ(i.hi, 1.0);
  EXPECT_NEAR(i.lo, 0.995 - 3.1824463 * 0.005, 1e-6);
  const std::array<double, 2> far = {0, 1};
  EXPECT_EQ(MeanInterval(far, {0, 1}).lo, 0.0);
  const std::array<double, 1> one = {0.75};
  EXPECT_EQ(MeanInterval(one, {0, 1}).lo, 0.0);
  EXPECT_EQ(MeanInterval(one, {0, 1}).hi, 1.0);
  // A cosine may be an ulp above 1.
  const std::array<double, 2> above = {1 + 0x1p-52, 1 + 0x1p-52};
  const Interval a = MeanInterval(above, {-1, 1});
  EXPECT_LE(a.lo, a.value);
  EXPECT_GE(a.hi, a.value);
}

}  // namespace
}  // namespace octet
