#include "octet/multipliers.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/test_folder.h"

namespace octet {
namespace {

TEST(DescribeMultiplier, FiguresOfTheSpecification) {
  const MultiplierFacts f = DescribeMultiplier("hw:e3m4,d=3", {}, "v9:e3m4,d=3");
  EXPECT_EQ(f.multiplier, "hw:e3m4,d=3");
  EXPECT_EQ(f.x_bias, 3);
  EXPECT_EQ(f.unit, 0x1p-6);
  ASSERT_TRUE(f.mantissas);
  EXPECT_NEAR(f.mantissas->rmse, 1.69, 0.0055);
  EXPECT_NEAR(f.mantissas->bias, -0.70, 0.0055);
  EXPECT_NEAR(f.mantissas->largest, 5.2, 0.055);
  EXPECT_EQ(f.mantissas->differing, 4);
  EXPECT_EQ(f.pairs, 65536);
  EXPECT_EQ(f.largest, 31);
  EXPECT_EQ(DescribeMultiplier("hw:e3m4,d=3", {}, "hw:e3m4,d=3").differing, 0);
  EXPECT_EQ(DescribeMultiplier("hw:e3m4", {}, "hw:e4m3").differing, std::nullopt);
  const MultiplierFacts biased = DescribeMultiplier("v9:e3m4", {.x = 5, .w = 9, .result = 6});
  EXPECT_EQ(biased.unit, 0x1p-9);
  EXPECT_EQ(DescribeMultiplier("exact:e4m3").inexact, 0);
}

// 4 bits: 16 codes an operand, though their tables have 256 rows.
TEST(DescribeMultiplier, CountsCodesThatOccur) {
  const MultiplierFacts f = DescribeMultiplier("exact:e2m1");
  EXPECT_EQ(f.pairs, 256);
  EXPECT_EQ(f.zero, 256 - 14 * 14);
  EXPECT_DOUBLE_EQ(f.exact_rms, 8.5625);  // the mean square of 0, .5, 1, 1.5, 2, 3, 4, 6
  const TestFolder folder;
  MultiplierTable t = TableOfMultiplier("exact:e4m3", "product", {});
  for (int i = 0; i < 65536; ++i) {
    const int x = static_cast<int8_t>(i / 256), w = i % 256;
    const bool codes = -8 <= x && x < 8 && w < 16;
    t.values[static_cast<size_t>(i)] = codes ? x * w : 1'000'000;
  }
  WriteMultiplierTable(folder / "t.npy", t);
  const MultiplierFacts ints =
      DescribeMultiplier("table:" + (folder / "t.npy").string() + ",x=int4,w=uint4");
  EXPECT_EQ(ints.pairs, 256);
  EXPECT_EQ(ints.inexact, 0);
  EXPECT_EQ(ints.largest, 8 * 15);
  EXPECT_EQ(DescribeMultiplier("table:" + (folder / "t.npy").string() + ",x=e4m3fn,w=e4m3fn").pairs,
            254 * 254);
}

TEST(DescribeMultiplier, OfATable) {
  const TestFolder folder;
  MultiplierTable t = TableOfMultiplier("exact:e3m4", "product", {});
  WriteMultiplierTable(folder / "t.npy", t);
  const std::string text = (folder / "t.npy").string() + ",x=e3m4,w=e3m4,unit=6.103515625e-05";
  EXPECT_EQ(t.unit, 0x1p-12);
  const MultiplierFacts wrong = DescribeMultiplier("table:" + text);
  EXPECT_GT(wrong.inexact, 60000);
  const MultiplierFacts f = DescribeMultiplier(
      "table:" + (folder / "t.npy").string() + ",x=e3m4,w=e3m4,unit=0.000244140625", {},
      "exact:e3m4");
  EXPECT_EQ(f.inexact, 0);
  EXPECT_EQ(f.differing, 0);
  EXPECT_FALSE(f.mantissas);
  for (auto& v : t.values) v = 0;
  t.values[0x81 * 256 + 0x7f] = -127;
  WriteMultiplierTable(folder / "t.csv", t);
  const MultiplierFacts ints = DescribeMultiplier("table:" + (folder / "t.csv").string());
  EXPECT_EQ(ints.zero, 65535);
  EXPECT_EQ(ints.largest, 127);
  EXPECT_EQ(ints.largest_error, 128 * 128);  // -128 x -128, 0 in the table
}

TEST(TableOfMultiplier, OfEveryKind) {
  const MultiplierTable lut = TableOfMultiplier("hw:e2m5,d=3", "lut", {});
  EXPECT_EQ(lut.rows, 8);
  EXPECT_EQ(std::vector<int64_t>(lut.values.begin() + 16, lut.values.begin() + 24),
            (std::vector<int64_t>{0, 2, 3, 4, 5, 4, 2, 1}));
  EXPECT_EQ(lut.identifier, "lut_hw_e2m5_d_3");
  EXPECT_EQ(TableOfMultiplier("hw:e2m5,d=3", "C", {}).rows, 32);
  const MultiplierTable f = TableOfMultiplier("v9:e4m3", "F", {});
  EXPECT_EQ(f.values, TableOfMultiplier("v9:e4m3", "T", {}).values);
  EXPECT_EQ(TableOfMultiplier("qamaa:e4m3", "product", {}).values.size(), 65536U);
}

TEST(TableOfMultiplier, SaysWhatMakesNoSense) {
  const auto refused = [](const char* text, const char* table, const char* word) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)TableOfMultiplier(text, table, {}); }, text, word);
  };
  refused("hw:e3m4", "lut", "no lut");
  refused("qamaa:e3m4", "C", "of hw and v9");
  refused("hw:e3m4", "G", "expected F, C");
  refused("hw:d=3", "F", "hw:e3m4");
  refused("hw:e4m3fn", "product", "e4m3");
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)DescribeMultiplier("hw:e5m0"); }, "e5m0");
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)DescribeMultiplier("hw:e3m4", {.x = 1000}); },
      "1000");
}

}  // namespace
}  // namespace octet
