// Window arithmetic against sizes worked out by hand and, for auto_pad and ceil_mode, by ONNX
// Runtime 1.31.
#include "graph/conv_geometry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octet {
namespace {

using ::testing::HasSubstr;
using Ints = std::vector<int64_t>;

Node Make(std::string op, std::map<std::string, Attribute> attributes) {
  return {std::move(op), "", "n", {}, {}, std::move(attributes), false};
}

TEST(ConvGeometry, StridesPadsAndDilations) {
  const Node conv = Make(
      "Conv", {{"strides", Ints{2, 1}}, {"pads", Ints{1, 2, 0, 3}}, {"dilations", Ints{2, 1}}});
  // H: 10 + 1 + 0 - (2 * 2 + 1) = 6, / 2 + 1 = 4. W: 11 + 2 + 3 - 5 + 1 = 12.
  const ConvGeometry g = ResolveConv(conv, {2, 6, 10, 11}, {8, 6, 3, 5});
  EXPECT_EQ(g.output_shape(), Shape({2, 8, 4, 12}));
  EXPECT_EQ(g.axes[0].extent(), 5);
  EXPECT_EQ(g.axes[0].pad_begin, 1);
  EXPECT_EQ(g.axes[1].pad_end, 3);
  EXPECT_EQ(g.macs(), int64_t{2} * 8 * 4 * 12 * 6 * 3 * 5);
}

TEST(ConvGeometry, GroupsCountTheirOwnChannels) {
  const Node conv = Make("Conv", {{"group", int64_t{6}}, {"pads", Ints{1, 1, 1, 1}}});
  const ConvGeometry g = ResolveConv(conv, {1, 6, 7, 7}, {12, 1, 3, 3});
  EXPECT_EQ(g.group, 6);
  EXPECT_EQ(g.output_shape(), Shape({1, 12, 7, 7}));
  EXPECT_EQ(g.macs(), 12 * 7 * 7 * 9);
  EXPECT_THROW((void)ResolveConv(conv, {1, 5, 7, 7}, {12, 1, 3, 3}), Error);
  EXPECT_THROW((void)ResolveConv(conv, {1, 6, 7, 7}, {10, 1, 3, 3}),
               Error);  // 6 does not divide 10
}

TEST(ConvGeometry, OneAndThreeDimensions) {
  const ConvGeometry one = ResolveConv(Make("Conv", {{"strides", Ints{3}}}), {1, 2, 10}, {4, 2, 4});
  EXPECT_EQ(one.output_shape(), Shape({1, 4, 3}));
  const ConvGeometry three = ResolveConv(Make("Conv", {}), {1, 2, 4, 5, 6}, {4, 2, 1, 2, 3});
  EXPECT_EQ(three.output_shape(), Shape({1, 4, 4, 4, 4}));
}

TEST(ConvGeometry, SamePaddingPutsTheOddOneBehindOrBefore) {
  // 5 / 2 rounded up is 3; (3 - 1) * 2 + 2 - 5 = 1 to pad.
  const Node upper = Make("Conv", {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{2}}});
  const Node lower = Make("Conv", {{"auto_pad", std::string("SAME_LOWER")}, {"strides", Ints{2}}});
  const WindowAxis u = ResolveConv(upper, {1, 1, 5}, {1, 1, 2}).axes[0];
  const WindowAxis l = ResolveConv(lower, {1, 1, 5}, {1, 1, 2}).axes[0];
  EXPECT_EQ(u.out, 3);
  EXPECT_EQ(u.pad_begin, 0);
  EXPECT_EQ(u.pad_end, 1);
  EXPECT_EQ(l.out, 3);
  EXPECT_EQ(l.pad_begin, 1);
  EXPECT_EQ(l.pad_end, 0);
}

TEST(ConvGeometry, ValidIgnoresPads) {
  const Node conv = Make("Conv", {{"auto_pad", std::string("VALID")}, {"pads", Ints{9, 9}}});
  EXPECT_EQ(ResolveConv(conv, {1, 1, 5}, {1, 1, 3}).axes[0].out, 3);
}

TEST(ConvGeometry, CeilModeRoundsUpUnlessTheWindowStartsInThePadding) {
  const auto out = [](int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t ceil) {
    const Node pool = Make("MaxPool", {{"kernel_shape", Ints{kernel}},
                                       {"strides", Ints{stride}},
                                       {"pads", Ints{pad, pad}},
                                       {"ceil_mode", ceil}});
    return ResolvePool(pool, {1, 1, in}).axes[0].out;
  };
  EXPECT_EQ(out(6, 3, 2, 0, 0), 2);
  EXPECT_EQ(out(6, 3, 2, 0, 1), 3);
  EXPECT_EQ(out(7, 3, 2, 0, 1), 3);  // divides: nothing to round
  // (2 + 2 - 1) / 2 rounded up + 1 = 3, but the third window would start at 4 - 1 = 3, behind the
  // input.
  EXPECT_EQ(out(2, 1, 2, 1, 0), 2);
  EXPECT_EQ(out(2, 1, 2, 1, 1), 2);
}

TEST(ConvGeometry, TransposedSizes) {
  const Node plain = Make(
      "ConvTranspose", {{"strides", Ints{2}}, {"pads", Ints{1, 1}}, {"output_padding", Ints{1}}});
  // (5 - 1) * 2 + 1 + 3 - 2 = 10
  const ConvGeometry g = ResolveConvTranspose(plain, {1, 4, 5}, {4, 3, 3});
  EXPECT_EQ(g.output_shape(), Shape({1, 3, 10}));

  // full size (3 - 1) * 3 + 3 = 9, wanted 8: one to cut, in front unless SAME_UPPER.
  const Node shaped = Make("ConvTranspose", {{"strides", Ints{3}}, {"output_shape", Ints{8}}});
  const WindowAxis a = ResolveConvTranspose(shaped, {1, 1, 3}, {1, 1, 3}).axes[0];
  EXPECT_EQ(a.out, 8);
  EXPECT_EQ(a.pad_begin, 1);
  EXPECT_EQ(a.pad_end, 0);

  const Node same =
      Make("ConvTranspose", {{"strides", Ints{2}}, {"auto_pad", std::string("SAME_UPPER")}});
  const WindowAxis s = ResolveConvTranspose(same, {1, 1, 3}, {1, 1, 3}).axes[0];
  EXPECT_EQ(s.out, 6);
  EXPECT_EQ(s.pad_begin, 0);
  EXPECT_EQ(s.pad_end, 1);
}

TEST(ConvGeometry, ContradictionsAreNamed) {
  const auto message = [](std::map<std::string, Attribute> attributes, const Shape& x,
                          const Shape& w) -> std::string {
    try {
      (void)ResolveConv(Make("Conv", std::move(attributes)), x, w);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadFile);
      return e.what();
    }
    return "no error";
  };
  const Shape x = {1, 1, 5};
  const Shape w = {1, 1, 3};
  EXPECT_THAT(message({{"strides", Ints{0}}}, x, w), HasSubstr("'strides' holds 0"));
  EXPECT_THAT(message({{"strides", Ints{1, 1}}}, x, w),
              HasSubstr("'strides' has 2 numbers, expected 1"));
  EXPECT_THAT(message({{"pads", Ints{-1, 0}}}, x, w), HasSubstr("'pads' holds -1"));
  EXPECT_THAT(message({{"kernel_shape", Ints{2}}}, x, w), HasSubstr("kernel_shape"));
  EXPECT_THAT(message({{"auto_pad", std::string("SAME")}}, x, w), HasSubstr("'SAME'"));
  EXPECT_THAT(message({{"dilations", Ints{3}}}, x, w), HasSubstr("a window of 7"));
  EXPECT_THAT(message({{"group", int64_t{0}}}, x, w), HasSubstr("group is 0"));
  EXPECT_THAT(message({{"dilations", Ints{int64_t{1} << 40}}}, x, w), HasSubstr("'dilations'"));
  EXPECT_THAT(message({}, {1, 1}, {1, 1}), HasSubstr("spatial"));
}

}  // namespace
}  // namespace octet
