#include "numerics/error_stats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "octet/error.h"

namespace octet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

ErrorStats StatsOf(const std::vector<float>& reference, const std::vector<float>& test) {
  ErrorStats stats;
  stats.Add(reference, test);
  return stats;
}

TEST(ErrorStats, HandVector) {
  // Errors t - r: 1, -1, 0, 2. Signal 1 + 4 + 9 + 0 = 14, error energy 6.
  const ErrorStats stats = StatsOf({1, 2, 3, 0}, {2, 1, 3, 2});
  EXPECT_EQ(stats.count, 4U);
  EXPECT_EQ(stats.Mse(), 1.5);
  EXPECT_EQ(stats.L1(), 1.0);
  EXPECT_EQ(stats.Bias(), 0.5);
  EXPECT_EQ(stats.max_abs, 2.0);
  EXPECT_DOUBLE_EQ(stats.SqnrDb(), 10 * std::log10(14.0 / 6.0));
  EXPECT_DOUBLE_EQ(stats.Cosine(), (2 + 2 + 9) / std::sqrt(14.0 * 18.0));
  EXPECT_EQ(stats.FlushedFraction(), 0.0);
}

TEST(ErrorStats, CountsWhatIsRoundedToZero) {
  const ErrorStats stats = StatsOf({0.1F, 0.2F, 5, 0}, {0, 0, 5, 0});
  EXPECT_EQ(stats.nonzero, 3U);
  EXPECT_EQ(stats.flushed, 2U);
  EXPECT_DOUBLE_EQ(stats.FlushedFraction(), 2.0 / 3);
}

TEST(ErrorStats, LeavesOutNonFinitePairs) {
  const float nan = std::nanf("");
  const float inf = std::numeric_limits<float>::infinity();
  const ErrorStats stats = StatsOf({1, nan, 3, inf, 2}, {1, 2, nan, 1, -inf});
  EXPECT_EQ(stats.count, 1U);
  EXPECT_EQ(stats.non_finite, 4U);
  EXPECT_EQ(stats.SqnrDb(), kInfinity);
  EXPECT_EQ(stats.Cosine(), 1.0);
}

TEST(ErrorStats, DegenerateSignals) {
  EXPECT_EQ(StatsOf({}, {}).Mse(), 0.0);
  EXPECT_EQ(StatsOf({0, 0}, {0, 0}).SqnrDb(), kInfinity);
  EXPECT_EQ(StatsOf({0, 0}, {0, 0}).Cosine(), 1.0);
  EXPECT_EQ(StatsOf({0, 0}, {0, 1}).SqnrDb(), -kInfinity);
  EXPECT_EQ(StatsOf({0, 0}, {0, 1}).Cosine(), 0.0);
  // FLT_MAX squared is no trouble in double.
  const float big = std::numeric_limits<float>::max();
  EXPECT_DOUBLE_EQ(StatsOf({big, -big}, {-big, big}).Cosine(), -1.0);
}

TEST(ErrorStats, MergeEqualsOneSum) {
  // Small integers: every sum is exact, so the order cannot matter.
  std::vector<float> reference;
  std::vector<float> test;
  for (int i = 0; i < 100; ++i) {
    reference.push_back(static_cast<float>(i % 13 - 6));
    test.push_back(static_cast<float>(i % 7 - 3));
  }
  const ErrorStats whole = StatsOf(reference, test);
  ErrorStats parts;
  parts.Add(std::span(reference).first(33), std::span(test).first(33));
  ErrorStats rest;
  rest.Add(std::span(reference).subspan(33), std::span(test).subspan(33));
  parts.Merge(rest);
  EXPECT_EQ(parts.count, whole.count);
  EXPECT_EQ(parts.nonzero, whole.nonzero);
  EXPECT_EQ(parts.flushed, whole.flushed);
  EXPECT_EQ(parts.SqnrDb(), whole.SqnrDb());
  EXPECT_EQ(parts.Cosine(), whole.Cosine());
  EXPECT_EQ(parts.L1(), whole.L1());
  EXPECT_EQ(parts.Bias(), whole.Bias());
  EXPECT_EQ(parts.max_abs, whole.max_abs);
}

TEST(ErrorStats, RefusesDifferentLengths) {
  ErrorStats stats;
  const std::vector<float> two = {1, 2};
  EXPECT_THROW(stats.Add(two, std::span(two).first(1)), Error);
}

}  // namespace
}  // namespace octet
