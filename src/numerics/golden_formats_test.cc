// Fake quantization beside the original programs: spec/fp8.md 2.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/test_golden.h"
#include "numerics/qparams.h"
#include "numerics/test_golden.h"

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

// Without exponent bits the originals' step is maxval / (2^M - 0.5), a bias like any other; maxval
// itself then lies half way between two steps, and rounds to 2^M, for which there is no code
// (spec/fp8.md 2.1). Here that is a scale, and a limit of 2^M - 0.5 steps, as bias=int-round has
// limits: values, not codes. Signed ones are E0MM. Unsigned ones have a mantissa of all 8 bits,
// which no format has: they are integers of 9 bits, clamped before.
bool HasNoExponent(const std::vector<double>& row) { return row[kExponent] == 0; }

float QuantizedWithoutExponent(const std::vector<double>& row, bool integer_bias) {
  const int m = static_cast<int>(row[kMantissa]);
  const double maxval = static_cast<float>(row[kMaxval]);
  double bias = std::log2(2 - std::exp2(-m)) - std::log2(maxval);
  if (integer_bias) bias = std::nearbyint(bias);
  const double scale = std::exp2(1 - m - bias);
  QuantParams params;
  params.scale = {static_cast<float>(scale)};
  params.zero_point = {0};
  float x = static_cast<float>(row[kX]);
  if (row[kSign] == 1) {
    params.format = FloatFormat{.exponent_bits = 0, .mantissa_bits = m};
    params.limit = {static_cast<float>(maxval / scale)};
  } else {
    params.format = IntFormat{m + 1, false, false};
    x = std::clamp(x, 0.0F, static_cast<float>(maxval));
  }
  FakeQuantizeArray(std::span(&x, 1), {1, 1, 1}, params);
  return x;
}

TEST(GoldenFormats, RealBias) {
  int compared = 0;
  for (const auto& row : GoldenNumbers("fpq_original.csv", true)) {
    ASSERT_EQ(row.size(), 9U);
    const FloatFormat format = FormatOf(row, BiasRule::kReal);
    const auto maxval = static_cast<float>(row[kMaxval]);
    const auto x = static_cast<float>(row[kX]);
    const double got =
        HasNoExponent(row) ? QuantizedWithoutExponent(row, false) : Quantized(format, maxval, x);
    ++compared;
    // The relative noise of float32 torch, 3e-6, and the 9 digits of the file.
    if (std::fabs(got - row[kQ]) <= 5e-6 * std::fabs(row[kQ])) continue;
    // At a tie both neighbours are right: as far from x, clamped to the range, as each other.
    const double clamped = std::clamp(row[kX], row[kSign] == 1 ? -row[kMaxval] : 0, row[kMaxval]);
    ASSERT_EQ(row[kNearTie], 1) << format.Name() << " maxval " << maxval << " x " << x << " -> "
                                << got << ", not " << row[kQ];
    EXPECT_NEAR(std::fabs(got - clamped), std::fabs(row[kQ] - clamped),
                2 * 2e-4 * std::fabs(got - row[kQ]) + 1e-5 * std::fabs(clamped));
  }
  EXPECT_EQ(compared, 8835);
}

TEST(GoldenFormats, BiasRoundedToAnInteger) {
  int compared = 0;
  int beyond = 0;  // values that no code of the format has
  for (const auto& row : GoldenNumbers("fpq_fork_intbias.csv", true)) {
    ASSERT_EQ(row.size(), 9U);
    if (HasNoExponent(row)) {
      ASSERT_EQ(QuantizedWithoutExponent(row, true), static_cast<float>(row[kQ]))
          << "E0M" << row[kMantissa] << " maxval " << row[kMaxval] << " x " << row[kX];
      ++compared;
      continue;
    }
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
  EXPECT_EQ(compared, 8835);
  EXPECT_GT(beyond, 0);
}

// The operands of qamaa_E2M5 are not among the sets (src/kernels/approx_test.cc computes the other
// two), but its sums are: each was rounded last, by the fork's quantizer for the maxval given.
TEST(GoldenFormats, SumsOfQamaaAreOnTheGrid) {
  const auto golden = testing::ReadGolden();
  struct Set {
    const char* name;
    int exponent_bits;
    float maxval;
    double bias;
  };
  for (const Set& set : {Set{"qamaa_E3M4_R", 3, 12.719503402709961F, 4},
                         Set{"qamaa_E2M5_R", 2, 6.292748928070068F, 1},
                         Set{"qamaa_E4M3_R", 4, 173.96620178222656F, 8}}) {
    const FloatFormat format{.exponent_bits = set.exponent_bits,
                             .mantissa_bits = 7 - set.exponent_bits,
                             .bias_rule = BiasRule::kIntegerRound};
    EXPECT_EQ(set.bias,
              format.bias() - std::log2(static_cast<double>(FloatScaleFor(format, set.maxval))));
    const testing::GoldenArray& sums = golden.at(set.name);
    EXPECT_EQ(sums.values.size(), 24U * 12U);
    for (const double sum : sums.values) {
      const auto v = static_cast<float>(sum);
      EXPECT_EQ(Quantized(format, set.maxval, v), v) << set.name;
    }
  }
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
