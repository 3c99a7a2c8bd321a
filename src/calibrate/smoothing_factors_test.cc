#include "calibrate/smoothing_factors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "octet/error.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// spec/smoothquant.md 7.1, second vector: a = [8, .5, 0], W rows [.2, -.4, .1], [-.1, .3, .05].
TEST(SmoothingFactors, SpecVector) {
  const std::vector<float> w = {.2F, -.4F, .1F, -.1F, .3F, .05F};
  const std::vector<float> w_max = {.2F, .4F, .1F};
  const std::vector<float> a = {8, .5F, 0};

  const auto original = SmoothingFactors(a, w_max, {.alpha = .5F, .compat_smoothquant = true});
  EXPECT_NEAR(original[0], 6.324555, 5e-7);
  EXPECT_NEAR(original[1], 1.118034, 5e-7);
  EXPECT_EQ(original[2], 1e-5F);
  const float smoothed[] = {1.264911F, -.447214F, 1e-6F, -.632456F, .335410F, 5e-7F};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(w[i] * original[i % 3], smoothed[i], 5e-7) << i;
  }
  // The clamp hazard of the third channel does not exist here: it is dead, and 1.118 is the nearest
  // live factor to 1.
  const auto s = SmoothingFactors(a, w_max, {});
  EXPECT_EQ(s[0], original[0]);
  EXPECT_EQ(s[1], original[1]);
  EXPECT_EQ(s[2], s[1]);
}

TEST(SmoothingFactors, AlphaMovesTheDifficulty) {
  const std::vector<float> a = {16, 4, 1};
  const std::vector<float> w = {.5F, 2, 1};
  EXPECT_THAT(SmoothingFactors(a, w, {.alpha = 1}), ElementsAre(16, 4, 1));
  EXPECT_THAT(SmoothingFactors(a, w, {.alpha = 0}), ElementsAre(2, .5F, 1));
  // One half: both sides get the same maximum, sqrt(a w).
  const auto s = SmoothingFactors(a, w, {});
  for (size_t c = 0; c < 3; ++c) EXPECT_FLOAT_EQ(a[c] / s[c], w[c] * s[c]);
}

TEST(SmoothingFactors, ClampsBothSides) {
  // Small everywhere, so no channel is dead: a and w are clamped to 1e-5 before the powers.
  const std::vector<float> a = {1e-7F, 2e-7F};
  const std::vector<float> w = {1e-8F, 1e-8F};
  EXPECT_THAT(SmoothingFactors(a, w, {}), ElementsAre(1, 1));
  EXPECT_THAT(SmoothingFactors(a, w, {.alpha = 1}), ElementsAre(1e-5F, 1e-5F));
}

TEST(SmoothingFactors, DeadChannelsGetOneOrTheNearestLiveFactor) {
  EXPECT_THAT(SmoothingFactors(std::vector<float>{100, 0, 1}, std::vector<float>{1, 1, 4}, {}),
              ElementsAre(10, 1, .5F));
  EXPECT_THAT(
      SmoothingFactors(std::vector<float>{1e-4F, 1e-4F, 0}, std::vector<float>{1, 1, 1}, {}),
      ElementsAre(1e-2F, 1e-2F, 1e-2F));
  EXPECT_THAT(
      SmoothingFactors(std::vector<float>{100, 1, 100}, std::vector<float>{1, 1, 1e-6F}, {}),
      ElementsAre(10, 1, 1));
  EXPECT_THAT(SmoothingFactors(std::vector<float>{0, 0}, std::vector<float>{1, 1}, {}),
              ElementsAre(1, 1));
  EXPECT_TRUE(SmoothingFactors({}, {}, {}).empty());
}

TEST(SmoothingFactors, AlwaysPositiveAndFinite) {
  std::mt19937 random(13);
  std::uniform_real_distribution<float> exponent(-149, 127);
  std::uniform_real_distribution<float> alpha(0, 1);
  for (int i = 0; i < 2000; ++i) {
    std::vector<float> a(4);
    std::vector<float> w(4);
    for (float& v : a) v = random() % 8 == 0 ? 0 : std::exp2(exponent(random));
    for (float& v : w) v = random() % 8 == 0 ? 0 : std::exp2(exponent(random));
    for (const auto& s :
         {SmoothingFactors(a, w, {.alpha = alpha(random)}), EqualizationFactors(a, w)}) {
      for (float v : s) EXPECT_TRUE(std::isfinite(v) && v > 0 && std::isfinite(1 / v)) << v;
    }
  }
}

TEST(SmoothingFactors, RefusesBrokenInput) {
  const std::vector<float> one = {1};
  const std::vector<float> nan = {std::nanf("")};
  EXPECT_THROW((void)SmoothingFactors(nan, one, {}), Error);
  EXPECT_THROW((void)SmoothingFactors(one, nan, {}), Error);
  EXPECT_THROW((void)SmoothingFactors(std::vector<float>{-1}, one, {}), Error);
  EXPECT_THROW((void)SmoothingFactors(std::vector<float>{1, 2}, one, {}), Error);
  EXPECT_THROW((void)SmoothingFactors(one, one, {.alpha = 1.5F}), Error);
  EXPECT_THROW((void)SmoothingFactors(one, one, {.alpha = std::nanf("")}), Error);
  EXPECT_THROW((void)EqualizationFactors(nan, one), Error);
}

// Nagel et al. 2019: after equalization both ranges of a channel are sqrt(r1 r2).
TEST(EqualizationFactors, MakeBothRangesEqual) {
  const std::vector<float> r1 = {8, 1, .01F};
  const std::vector<float> r2 = {2, 4, 1};
  const auto s = EqualizationFactors(r1, r2);
  EXPECT_THAT(s, ElementsAre(2, .5F, testing::FloatEq(.1F)));
  for (size_t c = 0; c < 3; ++c) EXPECT_FLOAT_EQ(r1[c] / s[c], r2[c] * s[c]);
  EXPECT_THAT(EqualizationFactors(std::vector<float>{16, 0, 1}, std::vector<float>{1, 1, 4}),
              ElementsAre(4, 1, .5F));
}

TEST(ChannelMax, SeveralConsumers) {
  std::vector<float> into = {1, 5, 2};
  MaxInto(into, std::vector<float>{3, 4, 2});
  EXPECT_THAT(into, ElementsAre(3, 5, 2));
  EXPECT_THROW(MaxInto(into, std::vector<float>{1}), Error);
}

}  // namespace
}  // namespace octet
