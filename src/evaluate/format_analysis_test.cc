#include "evaluate/format_analysis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/test_folder.h"
#include "base/test_golden.h"

namespace octet {
namespace {

double Decibels(double ratio) { return 10 * std::log10(ratio); }

// The density itself: what the closed forms are integrals of.
double Density(const Distribution& d, double x) {
  switch (d.kind) {
    case Distribution::Kind::kUniform:
      return x <= 1 ? 0.5 : 0;
    case Distribution::Kind::kGauss:
      return std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    case Distribution::Kind::kLaplace:
      return std::exp(-x) / 2;
    case Distribution::Kind::kStudent:
      return std::tgamma((d.degrees + 1) / 2) /
             (std::sqrt(d.degrees * M_PI) * std::tgamma(d.degrees / 2)) *
             std::pow(1 + x * x / d.degrees, -(d.degrees + 1) / 2);
  }
  return 0;
}

TEST(Distribution, UpperMomentsAreIntegralsOfTheDensity) {
  for (const char* name : {"uniform", "gauss", "laplace", "student:8", "student:3", "student:4",
                           "student:5", "student:2.5", "student:30", "student:7.3"}) {
    const Distribution d = Distribution::Parse(name);
    EXPECT_NEAR(d.Above(0).mass, 0.5, 1e-14) << name;
    EXPECT_EQ(d.Name(), name);
    for (const auto& [a, b] : {std::pair{0.0, 0.4},
                               {0.4, 0.7},
                               {0.9, 1.0},
                               {1.5, 2.5},
                               {5., 9.},
                               {11.0, 12.0},
                               {50.0, 50.5}}) {
      const UpperMoments from = d.Above(a);
      const UpperMoments to = d.Above(b);
      // Simpson's rule over 4000 steps: relative error far below 1e-10 for these densities.
      constexpr int kSteps = 4000;
      double sum[3] = {0, 0, 0};
      for (int i = 0; i <= kSteps; ++i) {
        const double x = a + (b - a) * i / kSteps;
        const double weight = i == 0 || i == kSteps ? 1 : i % 2 == 1 ? 4 : 2;
        for (int k = 0; k < 3; ++k) sum[k] += weight * std::pow(x, k) * Density(d, x);
      }
      for (double& s : sum) s *= (b - a) / (3 * kSteps);
      const double scale = 1e-9;
      EXPECT_NEAR(from.mass - to.mass, sum[0], scale * sum[0] + 1e-15) << name << " " << a;
      EXPECT_NEAR(from.first - to.first, sum[1], scale * sum[1] + 1e-15) << name << " " << a;
      EXPECT_NEAR(from.second - to.second, sum[2], scale * sum[2] + 2e-14) << name << " " << a;
    }
  }
  for (const char* name : {"", "normal", "student", "student:", "student:2", "student:x",
                           "student:8 ", "student:nan"}) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)Distribution::Parse(name); },
        std::string("'") + name + "'");
  }
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)Distribution::Parse("gauss", -1); }, "-1");
}

struct GoldenRow {
  Distribution distribution;
  double power = 0;
  std::string format;
  double alpha = 0;
  double mse = 0;
  double sqnr = 0;
  double dot_mse = 0;
  double dot_sqnr = 0;
};

// sqnr_closed_form.txt: a heading for each distribution, a line for each format.
std::vector<GoldenRow> GoldenRows() {
  std::vector<GoldenRow> rows;
  GoldenRow row;
  for (const std::string& line : GoldenLines("sqnr_closed_form.txt")) {
    const auto number = [&](const char* key) {
      const size_t at = line.find(key);
      if (at == std::string::npos) ADD_FAILURE() << key << " in " << line;
      return std::strtod(line.c_str() + at + std::string_view(key).size(), nullptr);
    };
    if (line.starts_with("##")) {
      const double clip = std::strtod(line.c_str() + line.find("clip=[-") + 7, nullptr);
      const size_t nu = line.find("nu=");
      row.distribution = Distribution::Parse(line.find("U[") != std::string::npos ? Cat("uniform")
                                             : line.find("N(0") != std::string::npos ? Cat("gauss")
                                             : line.find("Laplace") != std::string::npos
                                                 ? Cat("laplace")
                                                 : Cat("student:", line[nu + 3]),
                                             clip);
      row.power = number("power=");
    } else if (line.find("alpha*=") != std::string::npos) {
      row.format = line.starts_with("INT8") ? "int8" : Cat("e", line[1], "m", line[3]);
      row.alpha = number("alpha*=");
      row.mse = number(" MSE=");
      row.sqnr = number("  SQNR=");
      row.dot_mse = number("dotMSE=");
      row.dot_sqnr = number("dotSQNR=");
      rows.push_back(row);
    }
  }
  return rows;
}

TEST(FormatAnalysis, ReproducesTheTable) {
  const auto rows = GoldenRows();
  ASSERT_EQ(rows.size(), 36U);
  for (const GoldenRow& row : rows) {
    const NumberFormat format = NumberFormat::Parse(row.format);
    SCOPED_TRACE(row.distribution.Name() + " " + row.format);
    const double power = row.distribution.Power();
    EXPECT_NEAR(power, row.power, 6e-6 * row.power);  // printed with 6 digits
    // At the table's own range: its MSE has 6 digits, its range 4 decimals.
    const GridError there = ErrorAt(row.distribution, format, row.alpha);
    EXPECT_NEAR(there.mse, row.mse, 2e-5 * row.mse);
    // At the best range: 0.01 dB.
    const GridError best = LeastError(row.distribution, format);
    EXPECT_NEAR(Decibels(power / best.mse), row.sqnr, 0.01);
    EXPECT_LE(best.mse, there.mse * (1 + 1e-5));
    EXPECT_NEAR(ProductError(power, best), row.dot_mse, 0.0023 * row.dot_mse);  // 0.01 dB
    EXPECT_NEAR(Decibels(power * power / ProductError(power, best)), row.dot_sqnr, 0.01);
  }
}

// The closed form against draws, on a grid and range that no table has.
TEST(FormatAnalysis, IsTheErrorOfDraws) {
  std::mt19937 random(3);
  std::normal_distribution<double> gauss;
  const Distribution d = Distribution::Parse("gauss", 2.5);
  for (const char* name : {"e2m3", "ue3m3", "int4", "uint4", "int4-narrow", "e3m2:bias=int",
                           "e2m3:bias=int-round", "e4m3fn:bias=standard", "e0m5"}) {
    const NumberFormat format = NumberFormat::Parse(name);
    const GridError expected = ErrorAt(d, format, 1.3);
    double mse = 0;
    double cross = 0;
    constexpr int kDraws = 400'000;
    for (int i = 0; i < kDraws; ++i) {
      const double x = std::clamp(gauss(random), -2.5, 2.5);
      double q = 0;
      if (format.is_float()) {
        FloatGrid grid(format.floating());
        const float scale = FloatScaleFor(format.floating(), 1.3F);
        grid.max = FloatLimitFor(format.floating(), 1.3F, scale);
        q = static_cast<double>(grid.Round(static_cast<float>(x) / scale) * scale);
      } else {
        const double scale = 1.3 / format.integer().qmax();
        q = std::clamp<double>(std::nearbyint(x / scale), format.integer().qmin(),
                               format.integer().qmax()) *
            scale;
      }
      mse += (q - x) * (q - x);
      cross += x * (q - x);
    }
    // Five standard errors: |x| and |e| are at most 2.5, so the variances of e^2 and of x e are
    // below 2.5^2 E[e^2].
    EXPECT_NEAR(expected.mse, mse / kDraws, 5 * 2.5 * std::sqrt(expected.mse / kDraws)) << name;
    EXPECT_NEAR(expected.cross, cross / kDraws, 5 * 2.5 * std::sqrt(expected.mse / kDraws)) << name;
  }
}

TEST(FormatAnalysis, KeepsToTheBiasRule) {
  const Distribution d = Distribution::Parse("gauss");
  const GridError real = LeastError(d, NumberFormat::Parse("e3m4"));
  const GridError power = LeastError(d, NumberFormat::Parse("e3m4:bias=int"));
  const GridError fixed = LeastError(d, NumberFormat::Parse("e3m4:bias=standard"));
  EXPECT_LE(real.mse, power.mse);
  EXPECT_LE(power.mse, fixed.mse);
  EXPECT_EQ(power.alpha / 31, std::exp2(std::round(std::log2(power.alpha / 31))));
  EXPECT_EQ(fixed.alpha, 31);
  for (double bad : {0.0, -1.0, std::nan(""), 1e39}) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)ErrorAt(d, NumberFormat::Parse("int8"), bad); },
        "int8");
  }
}

}  // namespace
}  // namespace octet
