// The table of spec/fp8.md 6.6, and figures of tables and layers by hand.
#include "numerics/approx_errors.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace octet {
namespace {

// RMSE %, mean bias %, largest error % as printed there: rounded to the last digit from figures of
// one more (4.8649 is printed 4.87, 2.846 is 2.9), so off by up to 0.55 of it.
struct Row {
  int mantissa_bits;
  const char* d;
  int64_t differing;
  double hw_rmse, v9_rmse, exact_rmse;
  double hw_bias, v9_bias;
  double hw_largest, v9_largest;
};
constexpr double kNotPrinted = 1e9;

TEST(MantissaErrors, EqualTheSpecifiedTable) {
  const Row rows[] = {
      {3, "0", 2, 4.93, 5.27, 2.60, -3.78, -4.01, 11.1, 11.1},
      {3, "3", 0, 2.60, 2.60, 2.60, -0.74, -0.74, 5.2, 5.2},
      {4, "0", 53, 4.87, 3.74, 1.35, -3.83, -2.95, 11.1, 9.3},
      {4, "3", 4, 1.69, 1.84, 1.35, -0.70, -0.69, 5.2, 6.7},
      {4, "4", 0, 1.35, 1.35, 1.35, -0.23, -0.23, 3.0, 3.0},
      {5, "0", 380, 4.85, 3.58, 0.66, -3.84, -2.80, 11.1, 8.9},
      {5, "3", 13, 1.155, 1.161, 0.66, -0.10, kNotPrinted, 3.0, 3.7},
      {5, "4", 14, 0.87, 0.93, 0.66, -0.19, kNotPrinted, 2.9, 3.7},
      {5, "5", 0, 0.66, 0.66, 0.66, -0.07, -0.07, 1.5, 1.5},
  };
  for (const Row& r : rows) {
    const Multiplier hw = Multiplier::Parse("hw:d=" + std::string(r.d));
    const Multiplier v9 = Multiplier::Parse("v9:d=" + std::string(r.d));
    const Multiplier rounded = Multiplier::Parse("v9:approx=off");
    EXPECT_EQ(DifferingMantissas(hw, v9, r.mantissa_bits), r.differing) << r.d;
    const auto near = [&](double value, double printed, double half) {
      if (printed != kNotPrinted) {
        EXPECT_NEAR(value, printed, half) << "M " << r.mantissa_bits << " d " << r.d;
      }
    };
    const RelativeErrors eh = MantissaErrors(hw, r.mantissa_bits);
    const RelativeErrors ev = MantissaErrors(v9, r.mantissa_bits);
    const double half = r.hw_rmse == 1.155 ? 0.00055 : 0.0055;
    near(eh.rmse, r.hw_rmse, half);
    near(ev.rmse, r.v9_rmse, half);
    near(MantissaErrors(rounded, r.mantissa_bits).rmse, r.exact_rmse, 0.0055);
    near(eh.bias, r.hw_bias, 0.0055);
    near(ev.bias, r.v9_bias, 0.0055);
    near(eh.largest, r.hw_largest, 0.055);
    near(ev.largest, r.v9_largest, 0.055);
    EXPECT_EQ(eh.pairs, int64_t{1} << (2 * r.mantissa_bits));
  }
}

TEST(MantissaErrors, OfExactProductsIsNone) {
  for (int bits = 1; bits <= 6; ++bits) {
    const RelativeErrors e = MantissaErrors(Multiplier::Parse("exact"), bits);
    EXPECT_EQ(e.inexact, 0);
    EXPECT_EQ(e.rmse, 0);
    // Rounding with a carry is no worse than without.
    EXPECT_LE(MantissaErrors(Multiplier::Parse("qamaa"), bits).rmse,
              MantissaErrors(Multiplier::Parse("v9:approx=off"), bits).rmse);
    EXPECT_EQ(MantissaErrors(Multiplier::Parse("v9:d=7,quant=off"), bits).inexact, 0);
  }
  EXPECT_THROW((void)MantissaErrors(Multiplier::Parse("table:a.npy"), 3), Error);
}

TEST(ErrorsOfTable, ByHand) {
  const std::vector<int64_t> table = {1, -2, 3, 8};
  const std::vector<double> exact = {1, -2, 5, 7};
  const TableErrors e = ErrorsOfTable(table, exact);
  EXPECT_EQ(e.pairs, 4);
  EXPECT_EQ(e.inexact, 2);
  EXPECT_DOUBLE_EQ(e.bias, -0.25);
  EXPECT_DOUBLE_EQ(e.rmse, std::sqrt(5.0 / 4));
  EXPECT_DOUBLE_EQ(e.largest, 2);
  EXPECT_DOUBLE_EQ(e.rms, std::sqrt((1 + 4 + 25 + 49) / 4.0));
  const CodeFormat f{4, 3, true, 7};
  EXPECT_EQ(ExactProducts(f, f, 0.5)[0x38 * 256 + 0xb8], -2.0);
}

TEST(CodeShares, ByHand) {
  const CodeFormat f{4, 3, true, 7};
  const uint8_t codes[] = {0x00, 0x80, 0x07, 0x08, 0xff};
  const CodeShares s = SharesOf(codes, f);
  EXPECT_DOUBLE_EQ(s.normal, 0.4);
  EXPECT_DOUBLE_EQ(s.subnormal, 0.2);
  EXPECT_DOUBLE_EQ(s.zero, 0.4);
}

TEST(ProductErrors, ByHandAndInPieces) {
  const double a[] = {1, 2, 3}, b[] = {1, 4, 2};
  ProductErrors whole, first, rest;
  for (size_t i = 0; i < 3; ++i) {
    whole.Add(a[i], b[i]);
    (i == 0 ? first : rest).Add(a[i], b[i]);
  }
  first.Add(rest);
  for (const ProductErrors& e : {whole, first}) {
    EXPECT_EQ(e.results, 3);
    EXPECT_DOUBLE_EQ(e.largest, 2);
    EXPECT_DOUBLE_EQ(e.mean(), -1.0 / 3);
    EXPECT_DOUBLE_EQ(e.rmse(), std::sqrt(5.0 / 3));
    EXPECT_DOUBLE_EQ(e.exact_rms(), std::sqrt(7.0));
    EXPECT_DOUBLE_EQ(e.sqnr_db(), 10 * std::log10(21.0 / 5));
  }
  EXPECT_EQ(ProductErrors().mean(), 0);
}

}  // namespace
}  // namespace octet
