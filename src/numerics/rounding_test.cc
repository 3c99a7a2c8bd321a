#include "numerics/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace octet {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(RoundClamped, TiesGoToEven) {
  const struct {
    float value;
    int32_t code;
  } cases[] = {{-2.5F, -2},
               {-1.5F, -2},
               {-0.5F, 0},
               {0.5F, 0},
               {1.5F, 2},
               {2.5F, 2},
               {3.5F, 4},
               {std::nextafter(0.5F, 1.0F), 1},
               {std::nextafter(1.5F, 0.0F), 1},
               {126.5F, 126}};
  for (const auto& c : cases) EXPECT_EQ(RoundClamped(c.value, -128, 127), c.code) << c.value;
}

TEST(RoundClamped, SaturatesAndSendsNanToTheLowest) {
  EXPECT_EQ(RoundClamped(127.5F, -128, 127), 127);  // never rounds to 128
  EXPECT_EQ(RoundClamped(1e30F, -128, 127), 127);
  EXPECT_EQ(RoundClamped(kInf, -128, 127), 127);
  EXPECT_EQ(RoundClamped(-kInf, -128, 127), -128);
  EXPECT_EQ(RoundClamped(kNan, -128, 127), -128);
  EXPECT_EQ(RoundClamped(-128.5F, -128, 127), -128);
}

// FBGEMM's counter-example to a reciprocal: x · (1/s) is 127.5 and rounds to 128, x / s is
// 127.499992.
TEST(QuantizeOne, DividesByTheScale) {
  const float scale = 0.00214854861F, x = 0.273939937F;
  EXPECT_EQ(std::nearbyint(x * (1.0F / scale)), 128.0F);
  EXPECT_EQ(QuantizeOne(x, scale, 0, -1000, 1000), 127);
}

TEST(QuantizeOne, ZeroPointIsAddedAfterRounding) {
  // rne(0.5) + 1 is 1; rne(0.5 + 1) would be 2.
  EXPECT_EQ(QuantizeOne(0.5F, 1.0F, 1, 0, 255), 1);
  EXPECT_EQ(QuantizeOne(-3.0F, 1.0F, 1, 0, 255), 0);
  EXPECT_EQ(QuantizeOne(300.0F, 1.0F, 1, 0, 255), 255);
  EXPECT_EQ(QuantizeOne(kNan, 1.0F, 7, 0, 255), 0);
  EXPECT_EQ(QuantizeOne(std::numeric_limits<float>::denorm_min(), 1.0F, 7, 0, 255), 7);
}

TEST(QuantizeOne, DequantizedCodesComeBack) {
  for (const float scale : {1e-30F, 0.0078125F, 0.1F, 3.0F}) {
    for (const int32_t zero : {0, 1, 128, 255}) {
      for (int32_t q = 0; q <= 255; ++q) {
        EXPECT_EQ(QuantizeOne(DequantizeOne(q, scale, zero), scale, zero, 0, 255), q)
            << scale << " " << zero;
      }
    }
  }
}

TEST(RequantizeOne, AccumulatorBecomesFloatFirst) {
  // 2^24 + 1 is no float32: nearest even is 2^24, which times 2^-24 is 1 and not a hair more.
  EXPECT_EQ(RequantizeOne((1 << 24) + 1, 0x1p-24F, 0, -128, 127), 1);
  EXPECT_EQ(RequantizeOne((1 << 24) + 1, 0x1.8p-24F, 0, -128, 127), 2);  // 1.5: tie to even
  EXPECT_EQ(RequantizeOne(5, 0.5F, 3, 0, 255), 5);                       // rne(2.5) + 3
  EXPECT_EQ(RequantizeOne(-100, 1.0F, 3, 0, 255), 0);
  EXPECT_EQ(RequantizeOne(std::numeric_limits<int32_t>::max(), 1.0F, 0, -128, 127), 127);
  EXPECT_EQ(RequantizeOne(std::numeric_limits<int32_t>::min(), 1.0F, 0, -128, 127), -128);
  EXPECT_EQ(RequantizeOne(100, 1.0F, 0, 0, 6), 6);  // a fused Clip is a tighter bound
}

TEST(AddCodesOne, SumOfTwoProductsOnce) {
  // (3 − 1) · 0.25 + (10 − 4) · 0.5 = 3.5: to even 4, + 7
  EXPECT_EQ(AddCodesOne(3, 1, 0.25F, 10, 4, 0.5F, 7, 0, 255), 11);
  EXPECT_EQ(AddCodesOne(255, 0, 1.0F, 255, 0, 1.0F, 0, 0, 255), 255);
  EXPECT_EQ(AddCodesOne(0, 255, 1.0F, 0, 255, 1.0F, 0, 0, 255), 0);
  // Each product is rounded to float32 before the sum. (1 + 2^-12)² is 1 + 2^-11 + 2^-24, rounded 1
  // + 2^-11; less (0.5 + 2^-11) that leaves a tie, 0.5, which goes to 0. A fused multiply-add would
  // keep the 2^-24 and make it 1.
  const float ratio = 4097.0F * 0x1p-24F;
  EXPECT_EQ(AddCodesOne(4097, 0, ratio, -1, 0, 0.5F + 0x1p-11F, 0, -128, 127), 0);
}

}  // namespace
}  // namespace octet
