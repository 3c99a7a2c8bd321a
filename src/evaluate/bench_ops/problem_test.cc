#include "evaluate/bench_ops/problem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/error.h"

namespace octet {
namespace {

TEST(OperatorProblem, LinearIsAnImageOfOneRow) {
  const OperatorProblem p = ParseProblem("linear 7x33x65");
  EXPECT_EQ(p.width, 7);
  EXPECT_EQ(p.conv.in_channels, 33);
  EXPECT_EQ(p.conv.out_channels, 65);
  EXPECT_EQ(p.macs(), 7 * 33 * 65);
  EXPECT_EQ(p.inputs(), 7 * 33);
  EXPECT_EQ(p.outputs(), 7 * 65);
}

TEST(OperatorProblem, ConvolutionTakesItsOptionsInAnyOrder) {
  const OperatorProblem p =
      ParseProblem("conv2d 2x8x9x11 12 3x5 pad=1x2 groups=4 stride=2 zero-point=7 dilation=1x2");
  EXPECT_EQ(p.text, "conv2d 2x8x9x11 12 3x5 stride=2 pad=1x2 dilation=1x2 groups=4 zero-point=7");
  EXPECT_EQ(p.batch, 2);
  EXPECT_EQ(p.out_height(), (9 + 2 - 2 - 1) / 2 + 1);
  EXPECT_EQ(p.out_width(), (11 + 4 - 8 - 1) / 2 + 1);
  EXPECT_EQ(p.depth(), 2 * 3 * 5);
  EXPECT_EQ(p.macs(), 2 * 12 * p.out_height() * p.out_width() * 30);
  EXPECT_EQ(p.conv.x_zero_point, 7);
  EXPECT_EQ(p.conv.pad_bottom, 1);
  EXPECT_EQ(p.conv.pad_right, 2);
}

TEST(OperatorProblem, MultipliersAreTextOfTheirOwn) {
  const OperatorProblem p = ParseProblem("linear 7x33x65 multiplier=hw:e3m4,d=3+v9:e4m3");
  EXPECT_EQ(p.multipliers, "hw:e3m4,d=3+v9:e4m3");
  EXPECT_EQ(p.text, "linear 7x33x65 multiplier=hw:e3m4,d=3+v9:e4m3");
  EXPECT_EQ(ParseProblem("conv2d 1x2x5x5 2 3x3 multiplier=hw:e3m4").multipliers, "hw:e3m4");
}

TEST(OperatorProblem, BmmIsALinearLayerForEachImage) {
  const OperatorProblem p = ParseProblem("bmm 12x128x64x32");
  EXPECT_EQ(p.text, "bmm 12x128x64x32");
  EXPECT_EQ(p.batch, 12);
  EXPECT_EQ(p.inputs(), 12 * 128 * 64);
  EXPECT_EQ(p.outputs(), 12 * 128 * 32);
  EXPECT_EQ(p.depth(), 64);
  EXPECT_EQ(p.macs(), 12 * 128 * 64 * 32);
}

TEST(OperatorProblem, QuantizeTakesImagesAndMatrices) {
  EXPECT_EQ(ParseProblem("quantize 1x3x4x5").conv.in_channels, 3);
  EXPECT_EQ(ParseProblem("quantize 6x7").inputs(), 42);
  EXPECT_EQ(ParseProblem("quantize 100").inputs(), 100);
  EXPECT_EQ(ParseProblem("quantize 100").macs(), 0);
}

TEST(OperatorProblem, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "ends where an operator"},
      {"gemm 1x2x3", "no operator 'gemm'"},
      {"linear", "ends where MxKxN"},
      {"linear 1x2", "has 2 numbers"},
      {"linear 1x2x3x4", "has 4 numbers"},
      {"linear 1x0x3", "'1x0x3' is not MxKxN"},
      {"linear 1x-2x3", "'1x-2x3' is not MxKxN"},
      {"linear 1x2x3x", "'1x2x3x' is not MxKxN"},
      {"linear 1,2,3", "'1,2,3' is not MxKxN"},
      {"linear 1x2x99999999999999999999", "is not MxKxN"},
      {"linear 1x2x3 stride=2", "unexpected 'stride=2'"},
      {"linear 1x2x3 zero-point=256", "expected 0 to 255"},
      {"linear 1x2x3 zero-point=1 zero-point=2", "given twice"},
      {"linear 65536x65536x1", "the input has more than 2^31 elements"},
      {"linear 1x65536x65536", "the weight has more than 2^31 elements"},
      {"conv2d 1x8x9x9 8", "ends where KHxKW"},
      {"conv2d 1x8x9x9 8 3x3 groups=3", "expected a divisor of 8 and 8"},
      {"conv2d 1x8x2x9 8 3x3", "smaller than the filter"},
      {"conv2d 1x8x9x9 8 3x3 stride=0", "is not S or SHxSW"},
      {"conv2d 1x8x9x9 8 3x3 speed=2", "unexpected 'speed=2'"},
      {"bmm 1x2x3", "has 3 numbers"},
      {"bmm 1x2x3x4 zero-point=1", "unexpected 'zero-point=1'"},
      {"bmm 65536x1x65536x1", "has more than 2^31 elements"},
      {"quantize 1x2x3", "three dimensions"},
      {"layernorm 2x3x4", "has 3 numbers"},
      {"layernorm 2x3 zero-point=1", "unexpected 'zero-point=1'"},
  };
  for (const auto& [text, message] : cases) {
    try {
      (void)ParseProblem(text);
      ADD_FAILURE() << text << " is taken";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument) << text;
      EXPECT_THAT(e.what(), testing::HasSubstr(message)) << text;
    }
  }
}

TEST(OperatorProblem, SuitesHoldCanonicalProblems) {
  EXPECT_FALSE(SuiteNames().empty());
  for (const std::string& suite : SuiteNames()) {
    EXPECT_FALSE(SuiteProblems(suite).empty()) << suite;
    for (const std::string& text : SuiteProblems(suite)) EXPECT_EQ(ParseProblem(text).text, text);
  }
  EXPECT_THROW((void)SuiteProblems("resnet"), Error);
}

}  // namespace
}  // namespace octet
