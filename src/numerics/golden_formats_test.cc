// Fake quantization beside the original programs: spec/fp8.md 2.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/test_golden.h"
#include "numerics/qparams.h"

namespace octet {
namespace {

enum Column { kBits, kSign, kMantissa, kExponent, kMaxval, kX, kQ, kBias, kNearTie };

FloatFormat FormatOf(const std::vector<double>& row, BiasRule rule) {
  return {.exponent_bits = static_cast<int>(row[kExponent]),
          .mantissa_bits = static_cast<int>(row[kMantissa]),
          .is_signed = row[kSign] == 1,
          .specials = FloatSpecials::kNone,
          .bias_rule = rule};
}

// x on the grid of this format and range.
float Quantized(const FloatFormat& format, float maxval, float x) {
  QuantParams params;
  params.format = format;
  params.scale = {FloatScaleFor(format, maxval)};
  params.zero_point = {0};
  if (format.bias_rule == BiasRule::kIntegerRound) {
    params.limit = {FloatLimitFor(format, maxval, params.scale[0])};
  }
  FakeQuantizeArray(std::span(&x, 1), {1, 1, 1}, params);
  return x;
}

// Without exponent bits the originals have a step of maxval / (2^M - 0.5), whose outermost values
// have no code (spec/fp8.md 2.1); with 8 mantissa bits they leave the formats that Octet has.
bool IsNoFormat(const std::vector<double>& row) { return row[kExponent] == 0; }

TEST(GoldenFormats, RealBias) {
  int compared = 0;
  for (const auto& row : GoldenNumbers("fpq_original.csv", true)) {
    ASSERT_EQ(row.size(), 9U);
    if (IsNoFormat(row)) continue;
    const FloatFormat format = FormatOf(row, BiasRule::kReal);
    const auto maxval = static_cast<float>(row[kMaxval]);
    const auto x = static_cast<float>(row[kX]);
    const double got = Quantized(format, maxval, x);
    ++compared;
    // The relative noise of float32 torch, 3e-6, and the 9 digits of the file.
    if (std::fabs(got - row[kQ]) <= 5e-6 * std::fabs(row[kQ])) continue;
    // At a tie both neighbours are right: as far from x as each other.
    ASSERT_EQ(row[kNearTie], 1) << format.Name() << " maxval " << maxval << " x " << x << " -> "
                                << got << ", not " << row[kQ];
    EXPECT_NEAR(std::fabs(got - row[kX]), std::fabs(row[kQ] - row[kX]),
                2 * 2e-4 * std::fabs(got - row[kQ]) + 1e-5 * std::fabs(row[kX]));
  }
  EXPECT_EQ(compared, 7980);
}

TEST(GoldenFormats, BiasRoundedToAnInteger) {
  int compared = 0;
  int beyond = 0;  // values that no code of the format has
  for (const auto& row : GoldenNumbers("fpq_fork_intbias.csv", true)) {
    ASSERT_EQ(row.size(), 9U);
    if (IsNoFormat(row)) continue;
    const FloatFormat format = FormatOf(row, BiasRule::kIntegerRound);
    const auto maxval = static_cast<float>(row[kMaxval]);
    const auto x = static_cast<float>(row[kX]);
    const float got = Quantized(format, maxval, x);
    ++compared;
    ASSERT_EQ(got, static_cast<float>(row[kQ]))
        << format.Name() << " maxval " << maxval << " x " << x;
    const float scale = FloatScaleFor(format, maxval);
    beyond += std::fabs(got) > format.Max() * scale;
    // The bias they name is the scale here: powers of two about the format's own bias.
    EXPECT_EQ(row[kBias], format.bias() - std::log2(static_cast<double>(scale)));
  }
  EXPECT_EQ(compared, 7980);
  EXPECT_GT(beyond, 0);
}

TEST(GoldenFormats, Integers) {
  int compared = 0;
  for (const std::string& line : GoldenLines("uniform.csv")) {
    const auto cell = GoldenCells(line);
    ASSERT_EQ(cell.size(), 11U);
    if (cell[0] == "scheme") continue;
    const auto number = [&](size_t i) { return std::strtof(cell[i].c_str(), nullptr); };
    const bool symmetric = cell[0] == "symmetric";
    IntFormat format{static_cast<int>(number(1)), symmetric && number(2) < 0, false};
    ScaleZero grid;
    if (format.is_signed) {
      grid.scale = ChooseSymmetric(std::max(-number(2), number(3)), format);
    } else {
      grid = ChooseAsymmetric(symmetric ? 0 : number(2), number(3), format);
    }
    // Both ends of the range and the scale are rounded to float there.
    ASSERT_NEAR(grid.scale, number(4), 1.2e-7 * static_cast<double>(number(4)) * 3) << line;
    ASSERT_EQ(grid.zero_point, static_cast<int>(number(5))) << line;
    ASSERT_EQ(format.qmin(), static_cast<int>(number(6))) << line;
    ASSERT_EQ(format.qmax(), static_cast<int>(number(7))) << line;
    QuantParams params;
    params.format = format;
    params.scale = {number(4)};
    params.zero_point = {grid.zero_point};
    float x = number(8);
    int32_t code = 0;
    QuantizeArray<int32_t>(std::span<const float>(&x, 1), {1, 1, 1}, params, std::span(&code, 1));
    ASSERT_EQ(code, static_cast<int>(number(9))) << line;
    FakeQuantizeArray(std::span(&x, 1), {1, 1, 1}, params);
    ASSERT_EQ(x, number(10)) << line;
    ++compared;
  }
  EXPECT_EQ(compared, 1548);
}

}  // namespace
}  // namespace octet
