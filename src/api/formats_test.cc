#include "octet/formats.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/test_folder.h"

namespace octet {
namespace {

TEST(DescribeFormat, CountsAndBounds) {
  const FormatFacts e3m4 = DescribeFormat("e3m4", {.maxval = 62});
  EXPECT_EQ(e3m4.scale, 2);
  EXPECT_EQ(e3m4.max, 62);
  EXPECT_EQ(e3m4.min, -62);
  EXPECT_EQ(e3m4.min_normal, 0.5);
  EXPECT_EQ(e3m4.min_positive, 0x1p-5);
  EXPECT_EQ(e3m4.codes, 256);
  EXPECT_EQ(e3m4.values, 255);
  EXPECT_NEAR(e3m4.dynamic_range_db, 20 * std::log10(62 / 0x1p-5), 1e-12);
  const FormatFacts e5m2 = DescribeFormat("float8_e5m2");
  EXPECT_EQ(e5m2.nan_codes, 6);
  EXPECT_EQ(e5m2.infinity_codes, 2);
  EXPECT_EQ(e5m2.values, 247);
  const FormatFacts narrow = DescribeFormat("int8-narrow", {.maxval = 12.7});
  EXPECT_EQ(narrow.codes, 255);
  EXPECT_NEAR(narrow.max, 12.7, 1e-6);
  EXPECT_EQ(DescribeFormat("ue4m4").min, 0);
  EXPECT_EQ(DescribeFormat("e4m3", {.bias = 11}).scale, 0x1p-4);
}

TEST(FormatCodes, AreAllOfThem) {
  const auto codes = FormatCodes("e2m1");
  ASSERT_EQ(codes.size(), 16U);
  EXPECT_EQ(codes[0xd].code, 0xd);
  EXPECT_EQ(codes[0xd].bits, "1 10 1");
  EXPECT_EQ(codes[0xd].value, -3);
  const auto integers = FormatCodes("int3", {.maxval = 6});
  ASSERT_EQ(integers.size(), 8U);
  EXPECT_EQ(integers[0].code, -4);
  EXPECT_EQ(integers[0].bits, "100");
  EXPECT_EQ(integers[0].value, -8);
  EXPECT_EQ(FormatCodes("e0m3")[9].bits, "1 001");
}

TEST(EncodeValues, RoundsOntoTheScaledGrid) {
  const std::vector<float> x = {0.49F, -3, 100, -0.0F};
  EXPECT_EQ(EncodeValues("e2m1", x), (std::vector<int32_t>{1, 13, 7, 8}));
  EXPECT_EQ(EncodeValues("e2m1", x, {.maxval = 12}), (std::vector<int32_t>{0, 11, 7, 8}));
  EXPECT_EQ(EncodeValues("e4m3fn", std::vector<float>{1e9F}, {}, false)[0], 0x7f);
  EXPECT_EQ(EncodeValues("uint4", x), (std::vector<int32_t>{0, 0, 15, 0}));
}

TEST(CompareFormats, OnOneRangeOrEachOnItsBest) {
  const FormatComparison best = CompareFormats({"e2m5", "int8"}, "gauss");
  ASSERT_EQ(best.rows.size(), 2U);
  EXPECT_EQ(best.rows[0].format, "e2m5");
  EXPECT_NEAR(best.rows[0].sqnr_db, 42.67, 0.01);
  EXPECT_NEAR(best.rows[1].dot_sqnr_db, 37.56, 0.01);
  // spec/fp8.md 10.2: at the range of the largest of 4 million draws.
  const FormatComparison whole = CompareFormats({"e2m5", "int8"}, "gauss", {.alpha = 5.059});
  EXPECT_NEAR(whole.rows[0].sqnr_db, 42.39, 0.01);
  EXPECT_NEAR(whole.rows[1].sqnr_db, 38.79, 0.01);
  EXPECT_EQ(CompareFormats({}, "gauss", {.clip = 3}).clip, 3);
}

TEST(Formats, RefuseWhatMakesNoSense) {
  const auto refused = [](const auto& call) { ExpectError(ErrorCode::kInvalidArgument, call); };
  refused([] { (void)DescribeFormat("e9m9"); });
  refused([] { (void)DescribeFormat("int8", {.bias = 3}); });
  refused([] { (void)DescribeFormat("e4m3", {.maxval = 1, .bias = 3}); });
  refused([] { (void)DescribeFormat("e4m3", {.bias = 1000}); });
  refused([] { (void)DescribeFormat("e4m3", {.maxval = std::nan("")}); });
  refused([] { (void)EncodeValues("int8", {}, {}, false); });
  refused([] { (void)EncodeValues("e4m3", {}, {.bias = 300}); });
  refused([] { (void)CompareFormats({"e4m3"}, "gauss", {.clip = -1}); });
  refused([] { (void)CompareFormats({"e4m3"}, "gauss", {.alpha = 0}); });
}

}  // namespace
}  // namespace octet
