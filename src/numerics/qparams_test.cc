#include "numerics/qparams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "numerics/rounding.h"
#include "octet/error.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kDenormal = std::numeric_limits<float>::denorm_min();

template <typename T>
std::vector<T> Codes(const std::vector<float>& x, const Extents& extents, const QuantParams& params,
                     int64_t step = 0) {
  std::vector<T> codes(x.size());
  QuantizeArray<T>(x, extents, params, codes, step);
  return codes;
}

QuantParams PerTensor(float scale, int32_t zero, IntFormat format) {
  QuantParams params;
  params.scale = {scale};
  params.zero_point = {zero};
  params.format = format;
  return params;
}

template <typename Call>
void ExpectError(ErrorCode code, const std::string& words, Call call) {
  try {
    call();
    ADD_FAILURE() << "no error; expected " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(words));
  }
}

// spec/smoothquant.md 7.1, first vector.
TEST(QuantParams, SpecVectorOfOneToken) {
  const std::vector<float> x = {.10F, -.50F, 2.00F, .75F};
  QuantParams params = PerTensor(ChooseSymmetric(2, kInt8), 0, kInt8);
  EXPECT_NEAR(params.scale[0], .0157480, 5e-8);
  EXPECT_THAT(Codes<int8_t>(x, {1, 1, 4}, params), ElementsAre(6, -32, 127, 48));
  std::vector<float> fake = x;
  FakeQuantizeArray(fake, {1, 1, 4}, params);
  const float expected[] = {.094488F, -.503937F, 2, .755906F};  // six digits in the spec
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(fake[i], expected[i], 5e-7) << i;
}

// spec/smoothquant.md 7.1, third vector.
TEST(QuantParams, SpecVectorOfAnAsymmetricActivation) {
  const ScaleZero grid = ChooseAsymmetric(-.31F, 1.5F, kInt8);
  EXPECT_NEAR(grid.scale, .00709804, 5e-9);
  EXPECT_EQ(grid.zero_point, -84);
  EXPECT_THAT(Codes<int8_t>({-.31F, 0, .9F, 1.5F}, {1, 1, 4},
                            PerTensor(grid.scale, grid.zero_point, kInt8)),
              ElementsAre(-128, -84, 43, 127));
}

// spec/smoothquant.md 7.1, last vector: the two operands of a dot product. The weight's scale is
// 2/255 (its absmax is 1). In the spec's exact arithmetic -1 / scale = -127.5 is a tie and goes to
// -128; in float32 the quotient is -127.49999 and goes to -127.
TEST(QuantParams, SpecVectorOfADotProduct) {
  const ScaleZero x = ChooseAsymmetric(-.31F, 1.5F, kInt8);
  const float w_scale = ChooseSymmetric(1, kInt8, {.half_step = true, .floor = 0});
  EXPECT_EQ(w_scale, 2.0F / 255);
  const auto qx =
      Codes<int8_t>({-.31F, 0, .9F, 1.5F}, {1, 1, 4}, PerTensor(x.scale, x.zero_point, kInt8));
  auto qw = Codes<int8_t>({-1, .25F, .6F, .11F}, {1, 1, 4}, PerTensor(w_scale, 0, kInt8));
  EXPECT_THAT(qw, ElementsAre(-127, 32, 76, 14));
  EXPECT_EQ(RoundClamped(-127.5F, -128, 127), -128);
  qw[0] = -128;
  int32_t acc = 0;
  int32_t sum = 0;
  for (size_t i = 0; i < 4; ++i) {
    acc += qx[i] * qw[i];
    sum += qw[i];
  }
  EXPECT_EQ(acc, 18742);
  EXPECT_EQ(sum, -6);
  EXPECT_NEAR(
      (acc - x.zero_point * sum) * static_cast<double>(x.scale) * static_cast<double>(w_scale) + .5,
      1.515326, 5e-7);
}

TEST(ChooseAsymmetric, HoldsZeroExactly) {
  // Ranges that do not reach 0 are widened to it.
  ScaleZero grid = ChooseAsymmetric(2, 5.1F, kUint8);
  EXPECT_EQ(grid.zero_point, 0);
  EXPECT_FLOAT_EQ(grid.scale, 5.1F / 255);
  grid = ChooseAsymmetric(-5.1F, -2, kUint8);
  EXPECT_EQ(grid.zero_point, 255);
  EXPECT_FLOAT_EQ(grid.scale, 5.1F / 255);
  grid = ChooseAsymmetric(-5.1F, -2, kInt8);
  EXPECT_EQ(grid.zero_point, 127);
}

// Any range, any format: a valid grid, 0 exact, and the ends off by no more than the rounding of
// the zero point (half a step) plus that of the code (half a step).
TEST(ChooseAsymmetric, PropertiesOverRandomRanges) {
  std::mt19937 random(4);
  std::uniform_real_distribution<float> exponent(-140, 127);
  std::normal_distribution<float> normal;
  for (const char* name : {"int8", "uint8", "int8-narrow", "int4", "uint4", "int2", "int2-narrow",
                           "uint2", "int16", "uint16"}) {
    const IntFormat format = IntFormat::Parse(name);
    for (int i = 0; i < 500; ++i) {
      const float a = std::clamp(normal(random) * std::exp2(exponent(random)), -kMax, kMax);
      const float b = std::clamp(normal(random) * std::exp2(exponent(random)), -kMax, kMax);
      const float lo = std::min(a, b);
      const float hi = std::max(a, b);
      const ScaleZero grid = ChooseAsymmetric(lo, hi, format);
      SCOPED_TRACE(
          Cat(name, " [", lo, ", ", hi, "] scale ", grid.scale, " zero ", grid.zero_point));
      CheckQuantParams("grid", PerTensor(grid.scale, grid.zero_point, format), {1, 1, 1});
      EXPECT_TRUE(std::isfinite(1 / grid.scale));
      EXPECT_EQ(
          DequantizeOne(QuantizeOne(0, grid.scale, grid.zero_point, format.qmin(), format.qmax()),
                        grid.scale, grid.zero_point),
          0.0F);
      for (float x : {lo, hi}) {
        const int32_t q = QuantizeOne(x, grid.scale, grid.zero_point, format.qmin(), format.qmax());
        const double back = (q - grid.zero_point) * static_cast<double>(grid.scale);
        // 0.004 of a step: x / scale is rounded to float32 at up to 65535, where an ulp is 2^-8.
        EXPECT_LE(std::fabs(back - static_cast<double>(x)),
                  1.004 * static_cast<double>(grid.scale));
      }
    }
  }
}

TEST(ChooseAsymmetric, DegenerateRanges) {
  const ScaleZero empty = ChooseAsymmetric(0, 0, kUint8);
  EXPECT_EQ(empty.scale, 1.0F);
  EXPECT_EQ(empty.zero_point, 0);
  EXPECT_EQ(ChooseAsymmetric(-0.0F, 0, kInt8).zero_point, 0);
  EXPECT_EQ(ChooseAsymmetric(0, kDenormal, kUint8).scale, kMinScale);
  EXPECT_EQ(ChooseAsymmetric(-kDenormal, 0, kUint8).scale, kMinScale);
  const ScaleZero huge = ChooseAsymmetric(-kMax, kMax, kUint8);
  EXPECT_FLOAT_EQ(huge.scale, kMax / 127.5F);
  EXPECT_EQ(huge.zero_point, 128);  // 127.5, tie to even
  EXPECT_EQ(ChooseAsymmetric(-kMax, kMax, IntFormat::Parse("int2-narrow")).scale, kMax);
}

TEST(ChooseAsymmetric, RefusesBrokenRanges) {
  const float nan = std::nanf("");
  const float inf = std::numeric_limits<float>::infinity();
  ExpectError(ErrorCode::kBadData, "conv1",
              [&] { (void)ChooseAsymmetric(nan, 1, kInt8, "conv1"); });
  ExpectError(ErrorCode::kBadData, "conv1",
              [&] { (void)ChooseAsymmetric(0, inf, kInt8, "conv1"); });
  ExpectError(ErrorCode::kInvalidArgument, "[2, 1]", [&] { (void)ChooseAsymmetric(2, 1, kInt8); });
}

TEST(ChooseSymmetric, Scales) {
  EXPECT_EQ(ChooseSymmetric(12.7F, kInt8), static_cast<float>(12.7F / 127.0));
  EXPECT_EQ(ChooseSymmetric(12.7F, kInt8Narrow), static_cast<float>(12.7F / 127.0));
  EXPECT_EQ(ChooseSymmetric(7, IntFormat::Parse("int4")), 1.0F);
  EXPECT_EQ(ChooseSymmetric(0, kInt8), 1.0F);
  EXPECT_EQ(ChooseSymmetric(0, kInt8, {.half_step = false, .floor = 1e-5F}),
            static_cast<float>(static_cast<double>(1e-5F) / 127));
  EXPECT_EQ(ChooseSymmetric(kDenormal, kInt8), kMinScale);
  EXPECT_TRUE(std::isfinite(ChooseSymmetric(kMax, IntFormat::Parse("int2"))));
  ExpectError(ErrorCode::kInvalidArgument, "uint8", [] { (void)ChooseSymmetric(1, kUint8); });
  ExpectError(ErrorCode::kInvalidArgument, "half-step",
              [] { (void)ChooseSymmetric(1, kInt8Narrow, {.half_step = true, .floor = 0}); });
  ExpectError(ErrorCode::kBadData, "w",
              [] { (void)ChooseSymmetric(std::nanf(""), kInt8, {}, "w"); });
  ExpectError(ErrorCode::kBadData, "-1", [] { (void)ChooseSymmetric(-1, kInt8); });
}

TEST(ChooseWeightScales, OnePerChannelOfTheAxis) {
  // (2, 3) matrix: rows 1 2 -3 / 4 -5 6.
  const std::vector<float> w = {1, 2, -3, 4, -5, 6};
  const auto rows =
      ChooseWeightScales(w, ExtentsOf(std::vector<int64_t>{2, 3}, 0), 0, kInt8Narrow, "w");
  EXPECT_THAT(rows.params.scale, ElementsAre(3 / 127.0F, 6 / 127.0F));
  EXPECT_THAT(Codes<int8_t>(w, {1, 2, 3}, rows.params), ElementsAre(42, 85, -127, 85, -106, 127));
  const auto columns =
      ChooseWeightScales(w, ExtentsOf(std::vector<int64_t>{2, 3}, 1), 1, kInt8Narrow, "w");
  EXPECT_THAT(columns.params.scale, ElementsAre(4 / 127.0F, 5 / 127.0F, 6 / 127.0F));
  const auto whole =
      ChooseWeightScales(w, ExtentsOf(std::vector<int64_t>{2, 3}, -1), -1, kInt8Narrow, "w");
  EXPECT_THAT(whole.params.scale, ElementsAre(6 / 127.0F));
  EXPECT_TRUE(rows.dead.empty());
}

TEST(ChooseWeightScales, DeadChannelsTakeTheScaleOfTheFloor) {
  const std::vector<float> w = {1, 0, 2, -2, 1e-7F, 0, 3e-5F, 0};
  const auto choice = ChooseWeightScales(w, {1, 4, 2}, 0, kInt8, "w");
  EXPECT_THAT(choice.dead, ElementsAre(2));
  EXPECT_EQ(choice.params.scale[2], static_cast<float>(static_cast<double>(2 * 1e-5F) / 127));
  EXPECT_EQ(choice.params.scale[3], static_cast<float>(static_cast<double>(3e-5F) / 127));
  const auto zero = ChooseWeightScales(std::vector<float>(4, 0.0F), {1, 2, 2}, 0, kInt8, "w");
  EXPECT_THAT(zero.dead, ElementsAre(0, 1));
  EXPECT_THAT(zero.params.scale, ElementsAre(1.0F, 1.0F));
}

TEST(ChooseWeightScales, RefusesNonFiniteWeightsNamingTheChannel) {
  for (float bad : {std::nanf(""), -std::numeric_limits<float>::infinity()}) {
    ExpectError(ErrorCode::kBadData, "conv3.weight", [&] {
      (void)ChooseWeightScales(std::vector<float>{1, 2, bad, 4}, {1, 2, 2}, 0, kInt8,
                               "conv3.weight");
    });
    ExpectError(ErrorCode::kBadData, "channel 1 of 2", [&] {
      (void)ChooseWeightScales(std::vector<float>{1, 2, bad, 4}, {1, 2, 2}, 0, kInt8, "w");
    });
  }
}

TEST(RaiseScalesForBias, MakesTheBiasFit) {
  std::vector<float> scale = {1e-3F, 1e-12F, 1e-3F};
  const std::vector<float> bias = {1, 5, -1e8F};
  const auto raised = RaiseScalesForBias(scale, 1e-2F, bias, "conv");
  ASSERT_EQ(raised.size(), 2U);
  EXPECT_EQ(raised[0].channel, 1);
  EXPECT_EQ(raised[0].from, 1e-12F);
  EXPECT_EQ(raised[0].to, scale[1]);
  EXPECT_EQ(raised[1].channel, 2);
  EXPECT_EQ(scale[0], 1e-3F);
  for (size_t c = 0; c < 3; ++c) {
    const int32_t code = QuantizeBias(bias[c], 1e-2F, scale[c], "conv");
    EXPECT_LT(std::abs(code), 1 << 30) << c;
  }
  // Not raised further than needed: within the part in 2^20 that the header names, and rounding.
  EXPECT_GT(std::abs(QuantizeBias(bias[1], 1e-2F, scale[1], "conv")), (1 << 30) - (1 << 11));
}

TEST(RaiseScalesForBias, PropertiesOverRandomScales) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> exponent(-120, 40);
  for (int i = 0; i < 5000; ++i) {
    const float input = std::exp2(exponent(random) / 2);
    std::vector<float> scale = {std::exp2(exponent(random))};
    const std::vector<float> bias = {std::exp2(exponent(random) / 2) * (i % 2 == 0 ? 1.0F : -1.0F)};
    (void)RaiseScalesForBias(scale, input, bias, "conv");
    EXPECT_GE(input * scale[0], kMinScale);
    EXPECT_LT(std::abs(QuantizeBias(bias[0], input, scale[0], "conv")), 1 << 30);
  }
}

TEST(QuantizeBias, RoundsHalfToEven) {
  EXPECT_EQ(QuantizeBias(2.5F, 1, 1, "conv"), 2);
  EXPECT_EQ(QuantizeBias(3.5F, 1, 1, "conv"), 4);
  EXPECT_EQ(QuantizeBias(-1.75F, 0.5F, 2, "conv"), -2);
  EXPECT_EQ(QuantizeBias(1.75F, 0.5F, 0.5F, "conv"), 7);
}

TEST(RaiseScalesForBias, OneScaleServesTheWorstChannel) {
  std::vector<float> scale = {1e-12F};
  const std::vector<float> bias = {1, 100, 10};
  (void)RaiseScalesForBias(scale, 1, bias, "gemm");
  for (float b : bias) EXPECT_LT(std::abs(QuantizeBias(b, 1, scale[0], "gemm")), 1 << 30);
  EXPECT_GT(std::abs(QuantizeBias(100, 1, scale[0], "gemm")), (1 << 30) - (1 << 11));
}

TEST(RaiseScalesForBias, RefusesWhatCannotFit) {
  std::vector<float> scale = {1};
  ExpectError(ErrorCode::kBadData, "bias", [&] {
    (void)RaiseScalesForBias(scale, 1, std::vector<float>{std::nanf("")}, "conv");
  });
  ExpectError(ErrorCode::kBadData, "input scale",
              [&] { (void)RaiseScalesForBias(scale, 0, std::vector<float>{1}, "conv"); });
  scale = {1e30F};
  ExpectError(ErrorCode::kBadData, "not finite",
              [&] { (void)RaiseScalesForBias(scale, 1e30F, std::vector<float>{1}, "conv"); });
  ExpectError(ErrorCode::kBadData, "int32", [] { (void)QuantizeBias(1e10F, 1, 1, "conv"); });
}

TEST(QuantizeArray, EveryGranularityPicksItsScale) {
  // (2, 4, 1) holding 8 everywhere: the code is 8 / scale.
  const std::vector<float> x(8, 8.0F);
  const Extents extents = {2, 4, 1};
  QuantParams params;
  params.granularity = Granularity::kChannel;
  params.axis = 1;
  params.scale = {1, 2, 4, 8};
  params.zero_point = {0, 0, 0, 1};
  EXPECT_THAT(Codes<int8_t>(x, extents, params), ElementsAre(8, 4, 2, 2, 8, 4, 2, 2));
  params.granularity = Granularity::kToken;
  params.scale = {1, 2};
  params.zero_point = {0, 0};
  EXPECT_THAT(Codes<int8_t>(x, extents, params), ElementsAre(8, 8, 8, 8, 4, 4, 4, 4));
  params.granularity = Granularity::kGroup;
  params.group = 3;  // 3 + 1 channels
  params.scale = {1, 2, 4, 8};
  params.zero_point = {0, 0, 0, 0};
  EXPECT_THAT(Codes<int8_t>(x, extents, params), ElementsAre(8, 8, 8, 4, 2, 2, 2, 1));
  params.granularity = Granularity::kStep;
  params.steps = 2;
  params.scale = {1, 2};
  params.zero_point = {0, 0};
  EXPECT_THAT(Codes<int8_t>(x, extents, params, 1), ElementsAre(4, 4, 4, 4, 4, 4, 4, 4));
  ExpectError(ErrorCode::kInvalidArgument, "step 2",
              [&] { (void)Codes<int8_t>(x, extents, params, 2); });
}

TEST(QuantizeArray, RoundsHalfToEvenAndSaturates) {
  const auto codes = Codes<int8_t>({0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 1e30F, -1e30F}, {1, 1, 7},
                                   PerTensor(1, 0, kInt8));
  EXPECT_THAT(codes, ElementsAre(0, 2, 2, 0, -2, 127, -128));
  EXPECT_THAT(Codes<int8_t>({-1e30F}, {1, 1, 1}, PerTensor(1, 0, kInt8Narrow)), ElementsAre(-127));
  EXPECT_THAT(
      Codes<uint16_t>({-1, 70000, 3}, {1, 1, 3}, PerTensor(1, 2, IntFormat::Parse("uint16"))),
      ElementsAre(1, 65535, 5));
}

TEST(QuantizeArray, FakeQuantizeIsQuantizeThenDequantize) {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  std::vector<float> x(2 * 3 * 5);
  for (float& v : x) v = normal(random);
  const Extents extents = {2, 3, 5};
  QuantParams params;
  params.granularity = Granularity::kChannel;
  params.format = kUint8;
  params.axis = 1;
  params.scale = {0.01F, 0.02F, 0.03F};
  params.zero_point = {3, 128, 250};
  std::vector<float> expected(x.size());
  DequantizeArray<uint8_t>(Codes<uint8_t>(x, extents, params), extents, params, expected);
  FakeQuantizeArray(x, extents, params);
  EXPECT_EQ(x, expected);
}

// Every granularity and float format: codes, values and both together agree with the format's own
// Encode and Decode of x / scale.
TEST(QuantizeArray, FloatFormatsByEveryGranularity) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const Extents extents = {3, 4, 5};
  std::vector<float> x(60);
  for (float& v : x) v = 3 * normal(random);
  x[7] = 0;
  x[8] = std::numeric_limits<float>::infinity();
  for (const char* name : {"e4m3", "ue4m4", "e2m5:bias=int", "e4m3fn", "e5m2fnuz", "e2m1"}) {
    const FloatFormat format = FloatFormat::Parse(name);
    for (const Granularity granularity :
         {Granularity::kTensor, Granularity::kChannel, Granularity::kToken, Granularity::kGroup,
          Granularity::kStep}) {
      QuantParams params;
      params.format = format;
      params.granularity = granularity;
      params.axis = 1;
      params.group = 3;
      params.steps = granularity == Granularity::kStep ? 2 : 1;
      const int64_t step = params.steps - 1;
      const auto scales = static_cast<size_t>(ScaleCount(params, extents));
      for (size_t i = 0; i < scales; ++i) {
        params.scale.push_back(FloatScaleFor(format, 1.7F * static_cast<float>(i + 1)));
      }
      params.zero_point.assign(scales, 0);
      std::vector<uint8_t> codes(x.size());
      QuantizeArray<uint8_t>(x, extents, params, codes, step);
      std::vector<float> back(x.size());
      DequantizeArray<uint8_t>(codes, extents, params, back, step);
      std::vector<float> fake = x;
      FakeQuantizeArray(fake, extents, params, step);
      for (int64_t i = 0; i < extents.elements(); ++i) {
        const auto at = static_cast<size_t>(i);
        const float scale =
            params.scale[static_cast<size_t>(ScaleIndex(params, extents, i / 20, i / 5 % 4, step))];
        EXPECT_EQ(codes[at], format.Encode(x[at] / scale)) << name;
        EXPECT_EQ(back[at], format.Decode(codes[at]) * scale) << name;
        EXPECT_EQ(fake[at], back[at]) << name;
        EXPECT_EQ(std::signbit(fake[at]), std::signbit(back[at])) << name;
      }
    }
  }
}

TEST(QuantizeArray, FloatFormatsWithoutCodesAreValuesOnly) {
  const FloatFormat format = FloatFormat::Parse("e3m4:bias=int-round");
  QuantParams params;
  params.format = format;
  params.scale = {FloatScaleFor(format, 5)};  // the bias 5.63 becomes 6: values up to 3.875 only
  params.zero_point = {0};
  params.limit = {FloatLimitFor(format, 5, params.scale[0])};
  std::vector<float> x = {4.9F, -7};
  FakeQuantizeArray(x, {1, 1, 2}, params);
  EXPECT_THAT(x, ElementsAre(5, -5));
  ExpectError(ErrorCode::kUnsupported, "no codes", [&] {
    (void)Codes<uint8_t>(x, {1, 1, 2}, params);
  });
  params.limit = {0};
  ExpectError(ErrorCode::kBadData, "limit 0", [&] { FakeQuantizeArray(x, {1, 1, 2}, params); });
  params.limit = {1, 1};
  ExpectError(ErrorCode::kInvalidArgument, "2 limits", [&] {
    FakeQuantizeArray(x, {1, 1, 2}, params);
  });
  params = PerTensor(1, 0, kInt8);
  params.limit = {1};
  ExpectError(ErrorCode::kInvalidArgument, "int8", [&] {
    FakeQuantizeArray(x, {1, 1, 2}, params);
  });
}

TEST(QuantizeArray, FloatFormatsTakeUint8CodesAndZeroPoint0) {
  QuantParams params;
  params.format = FloatFormat::Parse("e4m3fn");
  params.scale = {1};
  params.zero_point = {0};
  ExpectError(ErrorCode::kInvalidArgument, "uint8", [&] {
    (void)Codes<int8_t>({1, 2}, {1, 1, 2}, params);
  });
  params.zero_point = {1};
  ExpectError(ErrorCode::kBadData, "zero point", [&] {
    (void)Codes<uint8_t>({1, 2}, {1, 1, 2}, params);
  });
}

TEST(ChooseWeightScales, OfFloatFormats) {
  const std::vector<float> w = {1, 0, 2, -2, 1e-7F, 0, 31, 0};
  const FloatFormat real = FloatFormat::Parse("e3m4");
  const auto choice = ChooseWeightScales(w, {1, 4, 2}, 0, real, "w");
  EXPECT_THAT(choice.dead, ElementsAre(2));
  EXPECT_EQ(choice.params.scale[0], FloatScaleFor(real, 1));
  EXPECT_EQ(choice.params.scale[2], FloatScaleFor(real, 31e-5F));
  EXPECT_EQ(choice.params.scale[3], 1.0F);
  EXPECT_TRUE(choice.params.limit.empty());
  const auto zero = ChooseWeightScales(std::vector<float>(4, 0.0F), {1, 2, 2}, 0, real, "w");
  EXPECT_THAT(zero.params.scale, ElementsAre(1.0F, 1.0F));
  const FloatFormat rounded = FloatFormat::Parse("e3m4:bias=int-round");
  const auto whole = ChooseWeightScales(std::vector<float>{5, -1}, {1, 1, 2}, -1, rounded, "w");
  EXPECT_THAT(whole.params.limit, ElementsAre(5 / whole.params.scale[0]));
  ExpectError(ErrorCode::kInvalidArgument, "half-step",
              [&] { (void)ChooseScale(1, real, {.half_step = true, .floor = 0}); });
  ExpectError(ErrorCode::kBadData, "conv", [&] {
    (void)ChooseScale(std::nanf(""), real, {.half_step = false, .floor = 1}, "conv");
  });
}

TEST(QuantizeArray, RefusesParametersThatDoNotFit) {
  const std::vector<float> x(4, 1.0F);
  const Extents extents = {1, 2, 2};
  QuantParams params = PerTensor(1, 0, kUint8);
  ExpectError(ErrorCode::kInvalidArgument, "uint8 do not fit int8",
              [&] { (void)Codes<int8_t>(x, extents, params); });
  params.scale = {1, 2};
  ExpectError(ErrorCode::kInvalidArgument, "2 scales",
              [&] { (void)Codes<uint8_t>(x, extents, params); });
  for (float scale :
       {0.0F, -1.0F, kDenormal, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    params = PerTensor(scale, 0, kUint8);
    ExpectError(ErrorCode::kBadData, "scale 0 of 1",
                [&] { (void)Codes<uint8_t>(x, extents, params); });
  }
  params = PerTensor(1, 256, kUint8);
  ExpectError(ErrorCode::kBadData, "zero point", [&] { (void)Codes<uint8_t>(x, extents, params); });
  params = PerTensor(1, 0, kUint8);
  ExpectError(ErrorCode::kInvalidArgument, "4 values", [&] {
    (void)Codes<uint8_t>(x, {1, 1, 3}, params);
  });
}

TEST(Granularity, NamesRoundTrip) {
  for (const char* name : {"tensor", "channel", "token", "group", "step"}) {
    EXPECT_EQ(GranularityName(ParseGranularity(name)), name);
  }
  ExpectError(ErrorCode::kInvalidArgument, "'row'", [] { (void)ParseGranularity("row"); });
}

TEST(Extents, AroundAnAxis) {
  const std::vector<int64_t> dims = {2, 3, 4, 5};
  const Extents nchw = ExtentsOf(dims, 1);
  EXPECT_EQ(nchw.outer, 2);
  EXPECT_EQ(nchw.channels, 3);
  EXPECT_EQ(nchw.inner, 20);
  EXPECT_EQ(ExtentsOf(dims, -1).inner, 120);
  EXPECT_EQ(ExtentsOf(std::vector<int64_t>{}, -1).inner, 1);
  EXPECT_THROW((void)ExtentsOf(dims, 4), Error);
  EXPECT_THROW((void)ExtentsOf(dims, -2), Error);
  const int64_t big = int64_t{1} << 62;
  EXPECT_THROW((void)ExtentsOf(std::vector<int64_t>{big, big}, 0), Error);
  EXPECT_THROW((void)ExtentsOf(std::vector<int64_t>{0, big, big}, 0), Error);
}

}  // namespace
}  // namespace octet
