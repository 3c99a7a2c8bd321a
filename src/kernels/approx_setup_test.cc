// Tables for a layer: equal to the scalar definitions at the biases that the scales mean, and the
// refusals of what does not go together.
#include "kernels/approx_setup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/test_folder.h"

namespace octet::kernels {
namespace {

ApproxLayerFormats Formats(const char* format) {
  const FloatFormat f = FloatFormat::Parse(format);
  // Biases: x own + 2; weights own + 4, own + 5, own + 4; result own + 3.
  return {"conv1", {f, 0x1p-2F}, f, {0x1p-4F, 0x1p-5F, 0x1p-4F}, {f, 0x1p-3F}, 0};
}

TEST(ApproxTables, AreTheDefinedProducts) {
  for (const char* text : {"hw:d=3", "v9:d=3", "v9:quant=off", "hw:e3m4,overflow=wrap"}) {
    const Multiplier m = Multiplier::Parse(text);
    const ApproxTables t = MakeApproxTables(m, Formats("e3m4"), 3);
    ASSERT_EQ(t.tables.size(), 2U);
    EXPECT_EQ(t.multiply.table_of_channel, (std::vector<int32_t>{0, 1, 0}));
    EXPECT_EQ(t.multiply.x_bits, 8);
    for (const int channel : {0, 1}) {
      const ProductTable expected =
          MakeProductTable(m, {{3, 4, true, 5}, {3, 4, true, 7 + channel}, {3, 4, true, 6}, 0});
      EXPECT_EQ(t.tables[static_cast<size_t>(channel)], expected.value) << text;
      EXPECT_EQ(static_cast<double>(t.multiply.unit[static_cast<size_t>(channel)]), expected.unit);
    }
    EXPECT_FALSE(t.multiply.rounding.enabled);
  }
  EXPECT_EQ(MakeApproxTables(Multiplier::Parse("hw"), Formats("e2m3"), 3).multiply.x_bits, 6);
}

// Real scales: table entries times unit are the products' nearest values on the result's grid.
TEST(ApproxTables, RoundedProductsOfAnyScale) {
  ApproxLayerFormats f = Formats("e4m3");
  f.x.scale = 0.013F;
  f.w_scale = {0.7F};
  f.result.scale = 0.3F;
  const ApproxTables t = MakeApproxTables(Multiplier::Parse("qamaa:each_add=on"), f, 3);
  ASSERT_EQ(t.tables.size(), 1U);
  EXPECT_TRUE(t.multiply.rounding.enabled);
  EXPECT_TRUE(t.multiply.rounding.each_add);
  EXPECT_EQ(t.multiply.rounding.largest, 15 << 14);
  const FloatFormat e4m3 = f.w_format;
  for (int x = 0; x < 256; x += 7)
    for (int w = 0; w < 256; w += 5) {
      const double product = static_cast<double>(e4m3.Decode(static_cast<uint8_t>(x))) *
                             static_cast<double>(e4m3.Decode(static_cast<uint8_t>(w))) *
                             static_cast<double>(f.x.scale) * static_cast<double>(f.w_scale[0]);
      const double got = static_cast<double>(t.tables[0][static_cast<size_t>(x * 256 + w)]) *
                         static_cast<double>(t.multiply.unit[0]);
      const auto nearest = static_cast<double>(
          e4m3.Round(static_cast<float>(product / static_cast<double>(f.result.scale))));
      // The unit is a float.
      EXPECT_NEAR(got, nearest * static_cast<double>(f.result.scale), 1e-6 * std::fabs(got));
    }
}

// Of bias=int-round: magnitudes saturate at the range, wherever the format's largest value lies.
TEST(ApproxTables, RoundedProductsSaturateAtALimit) {
  ApproxLayerFormats f = Formats("e4m3");
  f.x.scale = f.w_scale[0] = 1;
  f.w_scale.resize(1);
  f.result.scale = 0.25F;
  f.result_limit =
      25;  // 100 times the scale, 100 * 2^9 of the grid's steps, between 12 and 13 * 2^12
  const ApproxTables t = MakeApproxTables(Multiplier::Parse("qamaa"), f, 3);
  EXPECT_EQ(t.multiply.rounding.largest, 51200);
  const auto [least, most] = std::minmax_element(t.tables[0].begin(), t.tables[0].end());
  EXPECT_EQ(*most, 12 << 12);
  EXPECT_EQ(*least, -(12 << 12));
}

TEST(ApproxTables, ExactAndUserTables) {
  ApproxLayerFormats f = Formats("e4m3");
  f.x.scale = 0.3F;
  f.w_scale = {0.7F, 0.5F, 0.1F};
  const ApproxTables exact = MakeApproxTables(Multiplier::Parse("exact"), f, 3);
  EXPECT_EQ(exact.tables.size(), 1U);
  EXPECT_NEAR(static_cast<double>(exact.tables[0][0x38 * 256 + 0xb8]) *
                  static_cast<double>(exact.multiply.unit[1]),
              -0.15, 1e-7);
  std::vector<int64_t> user(65536, 3);
  const ApproxTables t = MakeApproxTables(Multiplier::Parse("table:a.npy,unit=2"), f, 3, user);
  EXPECT_EQ(t.tables[0], user);
  EXPECT_EQ(t.multiply.unit[1], 0.3F);
}

TEST(ApproxTables, RefuseWhatDoesNotGoTogether) {
  const auto refused = [](const char* text, const ApproxLayerFormats& f, const char* word) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)MakeApproxTables(Multiplier::Parse(text), f, 3); },
        "conv1", word);
  };
  ApproxLayerFormats f = Formats("e4m3");
  f.x.scale = 0.3F;
  refused("hw", f, "bias=int");
  refused("hw:e3m4", Formats("e4m3"), "leave the multiplier's format out");
  refused("v9", Formats("e4m3fn"), "no finite number");
  refused("table:a.npy", Formats("e4m3"), "65536");
  f = Formats("e4m3");
  f.w_scale = {1.0F, 2.0F};
  refused("hw", f, "2 weight scales");
  f.w_scale = {0.0F};
  refused("exact", f, "above 0");
  f = Formats("e4m3");
  f.w_scale.clear();
  for (int i = 0; i < 65; ++i) f.w_scale.push_back(1.0F + static_cast<float>(i) / 128);
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] { (void)MakeApproxTables(Multiplier::Parse("qamaa"), f, 65); }, "conv1", "more than 64");
  ApproxLayerFormats mixed = Formats("e4m3");
  mixed.w_format = FloatFormat::Parse("e3m4");
  refused("hw", mixed, "one format");
}

}  // namespace
}  // namespace octet::kernels
