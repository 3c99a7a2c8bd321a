// Map, Softmax, LayerNorm: the stated errors against float64, and the same bits on every level,
// with buffers that end at a guard page.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::GuardedBuffer;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int64_t kSizes[] = {1,  3,  4,  5,  8,  9,   15,  16,  17,
                              31, 32, 33, 64, 67, 128, 197, 768, 1001};

double Exact(Function f, double x) {
  switch (f) {
    case Function::kErf:
      return std::erf(x);
    case Function::kTanh:
      return std::tanh(x);
    case Function::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Function::kSilu:
      return x / (1 + std::exp(-x));
    case Function::kGelu:
      return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
    case Function::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case Function::kHardSwish:
      return x * (std::min(std::max(x + 3, 0.0), 6.0) / 6);
  }
  return 0;
}

double UlpOf(double v) {
  int exponent = 0;
  std::frexp(v, &exponent);
  return std::ldexp(1.0, std::max(exponent - 24, -149));
}

// Every 613th float. Where 1 - |f| cancels (GELU far below 0) the error is absolute, in units of
// the last place of x, as it is for every program that adds 1 to a float32 erf or tanh.
TEST(FloatFunctions, StatedErrors) {
  struct Case {
    Function f;
    double ulps;
    bool of_x;
  };
  // What float_functions.h states. erf and tanh: two polynomials, whose last steps leave about one
  // unit each, a product, a quotient, and near 1 results of half the unit of their factors.
  for (const Case& c : {Case{Function::kErf, 6, false}, Case{Function::kTanh, 7, false},
                        Case{Function::kSigmoid, 3, false}, Case{Function::kSilu, 4, false},
                        Case{Function::kGelu, 3, true}, Case{Function::kGeluTanh, 4, true},
                        Case{Function::kHardSwish, 3, false}}) {
    std::vector<float> x, y;
    for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 613) {
      const auto b = static_cast<uint32_t>(bits);
      float v = 0;
      std::memcpy(&v, &b, 4);
      if (!std::isnan(v)) x.push_back(v);
    }
    y.resize(x.size());
    Map(c.f, x.data(), static_cast<int64_t>(x.size()), y.data());
    double worst = 0;
    float at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = std::isinf(x[i]) && x[i] < 0 && c.f >= Function::kSilu
                               ? 0.0
                               : Exact(c.f, static_cast<double>(x[i]));
      if (std::isinf(exact)) {
        ASSERT_EQ(static_cast<double>(y[i]), exact) << x[i];
        continue;
      }
      // A sigmoid below the least normal number may come out as 0.
      const double least = c.f == Function::kSilu ? std::fabs(static_cast<double>(x[i])) : 1.0;
      if (std::fabs(exact) < 1.2e-38 * least && y[i] == 0) continue;
      const double unit = c.of_x ? UlpOf(static_cast<double>(x[i])) : UlpOf(exact);
      const double ulps = std::fabs(static_cast<double>(y[i]) - exact) / unit;
      if (!(ulps <= worst)) {
        worst = ulps;
        at = x[i];
      }
    }
    std::printf("function %d: %.2f units at %.9g\n", static_cast<int>(c.f), worst,
                static_cast<double>(at));
    EXPECT_LE(worst, c.ulps) << static_cast<int>(c.f) << " at " << at;
  }
}

TEST(FloatFunctions, Specials) {
  const auto at = [](Function f, float x) {
    float y = 0;
    Map(f, &x, 1, &y);
    return y;
  };
  for (const Function f : {Function::kErf, Function::kTanh, Function::kSigmoid, Function::kSilu,
                           Function::kGelu, Function::kGeluTanh, Function::kHardSwish}) {
    EXPECT_TRUE(std::isnan(at(f, NAN)));
  }
  EXPECT_EQ(at(Function::kErf, kInf), 1.0F);
  EXPECT_EQ(at(Function::kErf, -kInf), -1.0F);
  EXPECT_EQ(at(Function::kTanh, -kInf), -1.0F);
  EXPECT_EQ(at(Function::kSigmoid, kInf), 1.0F);
  EXPECT_EQ(at(Function::kSigmoid, -kInf), 0.0F);
  for (const Function f :
       {Function::kSilu, Function::kGelu, Function::kGeluTanh, Function::kHardSwish}) {
    EXPECT_EQ(at(f, kInf), kInf);
    EXPECT_EQ(at(f, -kInf), 0.0F);
    EXPECT_EQ(at(f, 0.0F), 0.0F);
  }
  EXPECT_TRUE(std::signbit(at(Function::kErf, -0.0F)));
}

void Fill(float* x, int64_t n, int mode, std::mt19937* rng) {
  std::normal_distribution<float> normal(0.0F, 3.0F);
  const float special[] = {0.0F, -0.0F, 1e-42F, -87.4F, 88.9F, 3.92F, -9.01F, 1e15F, -1e15F};
  for (int64_t i = 0; i < n; ++i) {
    x[i] = normal(*rng);
    const auto r = (*rng)();
    if (mode == 1 && r % 4 == 0) x[i] = special[r / 4 % std::size(special)];
    if (mode == 2) x[i] += 1000.0F;
  }
  if (mode == 3) x[(*rng)() % static_cast<uint64_t>(n)] = NAN;
  if (mode == 4) x[(*rng)() % static_cast<uint64_t>(n)] = kInf;
  if (mode == 5) std::fill(x, x + n, -kInf);
}

// Bytes of results, all NaNs alike.
std::vector<uint8_t> Bytes(const GuardedBuffer& b) {
  std::vector<uint8_t> bytes = b.Copy();
  auto* f = reinterpret_cast<float*>(bytes.data());
  for (size_t i = 0; i < bytes.size() / 4; ++i)
    if (std::isnan(f[i])) f[i] = NAN;
  return bytes;
}

float* Floats(const GuardedBuffer& b) { return reinterpret_cast<float*>(b.data()); }

// Runs `body` on every level; each must leave the same bytes in every buffer as the first.
template <typename Body>
void ExpectSameOnAll(const std::vector<GuardedBuffer*>& floats,
                     const std::vector<GuardedBuffer*>& codes, const Body& body) {
  std::vector<std::vector<uint8_t>> first;
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    body();
    std::vector<std::vector<uint8_t>> now;
    for (const GuardedBuffer* b : floats) now.push_back(Bytes(*b));
    for (const GuardedBuffer* b : codes) now.push_back(b->Copy());
    if (first.empty()) first = now;
    ASSERT_EQ(first, now) << IsaName(isa);
  }
}

TEST(FloatRows, MapIsTheSameOnAllLevels) {
  std::mt19937 rng(61);
  for (const int64_t n : kSizes)
    for (int mode = 0; mode < 6; ++mode)
      for (int f = 0; f <= static_cast<int>(Function::kHardSwish); ++f) {
        GuardedBuffer x(n * 4), y(n * 4), q(n), only(n);
        Fill(Floats(x), n, mode, &rng);
        ExpectSameOnAll({&y}, {&q, &only}, [&] {
          const auto function = static_cast<Function>(f);
          const CodesOut codes{q.data(), CodeType::kInt8, 0.03F, 5};
          Map(function, Floats(x), n, Floats(y), codes);
          Map(function, Floats(x), n, nullptr, {only.data(), CodeType::kInt8, 0.03F, 5});
        });
        GuardedBuffer expected(n);
        Quantize(Floats(y), n, 0.03F, 5, CodeType::kInt8, expected.data());
        ASSERT_EQ(q.Copy(), expected.Copy());
        ASSERT_EQ(only.Copy(), expected.Copy());
      }
}

TEST(FloatRows, Softmax) {
  std::mt19937 rng(62);
  for (const int64_t n : kSizes)
    for (int mode = 0; mode < 6; ++mode) {
      const int64_t rows = 3;
      GuardedBuffer x(rows * n * 4), y(rows * n * 4), q(rows * n), expected(rows * n);
      for (int64_t r = 0; r < rows; ++r) Fill(Floats(x) + r * n, n, mode, &rng);
      ExpectSameOnAll({&y}, {&q}, [&] {
        Softmax(Floats(x), rows, n, Floats(y), {q.data(), CodeType::kUint8, 1 / 255.0F, 0});
      });
      Quantize(Floats(y), rows * n, 1 / 255.0F, 0, CodeType::kUint8, expected.data());
      ASSERT_EQ(q.Copy(), expected.Copy());
      for (int64_t r = 0; r < rows; ++r) {
        const float* from = Floats(x) + r * n;
        if (mode >= 3) {
          ASSERT_TRUE(std::isnan(Floats(y)[r * n])) << mode;
          continue;
        }
        const auto largest = static_cast<double>(*std::max_element(from, from + n));
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(from[i]) - largest);
        for (int64_t i = 0; i < n; ++i) {
          const double d = static_cast<double>(from[i]) - largest;
          const double exact = std::exp(d) / sum;
          // The rounding of the difference moves the exponential by |d| half units, exp is off by 2
          // units, the sum of n by at most 2 + n / 32 more (32 partial sums), and two roundings
          // follow; a unit is up to 2^-23 of the value.
          const double bound =
              exact * std::ldexp(1.0, -23) * (0.5 * std::fabs(d) + 6 + static_cast<double>(n) / 32);
          ASSERT_NEAR(static_cast<double>(Floats(y)[r * n + i]), exact, bound + 1.2e-38) << n;
        }
      }
    }
}

TEST(FloatRows, LayerNorm) {
  std::mt19937 rng(63);
  for (const int64_t n : kSizes)
    for (int mode = 0; mode < 5; ++mode)
      for (int variant = 0; variant < 16; ++variant) {
        const bool rms = (variant & 1) != 0, residual = (variant & 2) != 0;
        using Input = LayerNormProblem::Input;
        const auto input = static_cast<Input>((variant >> 2) % 3);
        const bool residual_codes = variant >> 2 == 3;
        if (residual_codes && !residual) continue;
        const int64_t rows = 2, total = rows * n;
        const int64_t size = input == Input::kCodes ? 1 : 4;
        GuardedBuffer x(total * size), r(total * 4), gamma(n * 4), beta(n * 4), sum(total * 4),
            y(total * 4), mean(rows * 4), inverse(rows * 4), q(total), expected(total);
        std::vector<double> value(static_cast<size_t>(total));
        if (input == Input::kFloat32) {
          Fill(Floats(x), total, mode, &rng);
        } else {
          if (mode > 1) continue;
          testing::FillCodes(x.data(), x.size(), 0, &rng);
        }
        Fill(Floats(r), total, 0, &rng);
        Fill(Floats(gamma), n, 0, &rng);
        Fill(Floats(beta), n, 0, &rng);
        LayerNormProblem p;
        p.rows = rows;
        p.n = n;
        p.rms = rms;
        p.x = x.data();
        p.input = input;
        p.x_type = CodeType::kInt8;
        p.x_scale = input == Input::kInt32 ? 1e-9F : 0.07F;
        p.x_zero_point = 11;
        GuardedBuffer codes_in(total);
        if (residual_codes) {
          testing::FillCodes(codes_in.data(), total, 0, &rng);
          Dequantize(codes_in.data(), CodeType::kUint8, total, 0.2F, 100, Floats(r));
          p.residual_codes = codes_in.data();
          p.residual_scale = 0.2F;
          p.residual_zero_point = 100;
        } else if (residual) {
          p.residual = Floats(r);
        }
        p.gamma = Floats(gamma);
        p.beta = mode == 1 ? nullptr : Floats(beta);
        p.sum = Floats(sum);
        p.y = Floats(y);
        p.mean = Floats(mean);
        p.inverse = Floats(inverse);
        p.codes = {q.data(), CodeType::kUint8, 0.05F, 120};
        ExpectSameOnAll({&sum, &y, &mean, &inverse}, {&q}, [&] { LayerNorm(p); });
        Quantize(Floats(y), total, 0.05F, 120, CodeType::kUint8, expected.data());
        ASSERT_EQ(q.Copy(), expected.Copy());
        // Without the sum, in place over the residual: the same.
        const std::vector<uint8_t> with_sum = Bytes(y);
        p.sum = nullptr;
        if (residual_codes) {
          p.residual_codes = nullptr;
          p.residual = Floats(r);  // as floats: the same
        }
        if (residual) p.y = Floats(r);
        LayerNorm(p);
        ASSERT_EQ(Bytes(residual ? r : y), with_sum);
        if (mode >= 3) {
          for (int64_t row = 0; row < rows; ++row) {
            const float* s = Floats(sum) + row * n;
            const bool finite = std::all_of(s, s + n, [](float v) { return std::isfinite(v); });
            const auto* out = reinterpret_cast<const float*>(with_sum.data()) + row * n;
            const bool has_nan = std::any_of(out, out + n, [](float v) { return std::isnan(v); });
            ASSERT_EQ(has_nan, !finite);
          }
          continue;
        }
        for (int64_t row = 0; row < rows; ++row) {
          const float* s = Floats(sum) + row * n;
          for (int64_t i = 0; i < n; ++i) {
            const int64_t at = row * n + i;
            double v = 0;
            if (input == Input::kFloat32) {
              v = static_cast<double>(Floats(x)[at]);
            } else if (input == Input::kInt32) {
              v = static_cast<double>(reinterpret_cast<const int32_t*>(x.data())[at]) * 1e-9;
            } else {
              v = (static_cast<int8_t>(x.data()[at]) - 11) * 0.07;
            }
            if (!residual) {
              ASSERT_NEAR(static_cast<double>(s[i]), v, 3e-7 * std::fabs(v) + 1e-30);
            }
          }
          double m = 0, squares = 0, largest = 0;
          for (int64_t i = 0; i < n; ++i) m += static_cast<double>(s[i]) / static_cast<double>(n);
          if (rms) m = 0;
          for (int64_t i = 0; i < n; ++i) {
            const double d = static_cast<double>(s[i]) - m;
            squares += d * d / static_cast<double>(n);
            largest = std::max(largest, std::fabs(d));
          }
          const double scale = 1 / std::sqrt(squares + 1e-5);
          for (int64_t i = 0; i < n; ++i) {
            const auto g = static_cast<double>(Floats(gamma)[i]);
            const double b = p.beta != nullptr ? static_cast<double>(Floats(beta)[i]) : 0.0;
            const double exact = (static_cast<double>(s[i]) - m) * scale * g + b;
            // Deviation: three roundings; its scale: the sum of squares is off by at most n / 32 +
            // 5 half units, halved by the root, and three roundings; product and sum: one each.
            const double unit = std::ldexp(1.0, -24);
            const double bound =
                unit * ((12 + static_cast<double>(n) / 32) * largest * scale * std::fabs(g) +
                        std::fabs(b) + std::fabs(exact));
            const auto got =
                static_cast<double>(reinterpret_cast<const float*>(with_sum.data())[row * n + i]);
            ASSERT_NEAR(got, exact, bound + 1e-37) << n << " mode " << mode << " " << variant;
          }
        }
      }
}

// Scales where products and quotients part, ties and their neighbours: always the quotient's code.
TEST(FloatRows, CodesAreThoseOfTheDivision) {
  std::mt19937 rng(64);
  for (const float scale : {0.1F, 0.0173F, 1.0F, 3e-7F, 1e-38F, 1e35F})
    for (const Isa isa : testing::IsasToTest()) {
      const ForcedChoice forced(isa);
      const int64_t n = 4096;
      std::vector<float> x(n), y(n), gamma(n, 1.0F);
      for (int64_t i = 0; i < n; ++i) {
        const auto tie = (static_cast<float>(rng() % 255) - 126.5F) * scale;
        const auto steps = static_cast<int>(rng() % 5) - 2;
        float v = tie;
        for (int s = 0; s < std::abs(steps); ++s) v = std::nextafter(v, steps < 0 ? -kInf : kInf);
        x[static_cast<size_t>(i)] = v;
      }
      std::vector<uint8_t> q(n), expected(n);
      Map(Function::kErf, x.data(), n, y.data(), {q.data(), CodeType::kInt8, scale, -3});
      Quantize(y.data(), n, scale, -3, CodeType::kInt8, expected.data());
      ASSERT_EQ(q, expected) << IsaName(isa) << " " << scale;
      LayerNormProblem p;
      p.rows = 1;
      p.n = n;
      p.x = x.data();
      p.gamma = gamma.data();
      p.y = y.data();
      p.codes = {q.data(), CodeType::kInt8, scale, -3};
      LayerNorm(p);
      Quantize(y.data(), n, scale, -3, CodeType::kInt8, expected.data());
      ASSERT_EQ(q, expected) << IsaName(isa) << " " << scale;
    }
}

// torch-int's LayerNormQ: round(clamp(LN(x))) with gamma and beta divided by the output scale.
TEST(FloatRows, LayerNormQByHand) {
  const float x[] = {1, 2, 3, 6}, gamma[] = {10, 10, 10, 200}, beta[] = {0.25F, 0, 0, 0};
  int8_t codes[4];
  LayerNormProblem p;
  p.rows = 1;
  p.n = 4;
  p.epsilon = 0;
  p.x = x;
  p.gamma = gamma;
  p.beta = beta;
  p.codes = {codes, CodeType::kInt8, 1.0F, 0};
  LayerNorm(p);
  // Mean 3, variance 14 / 4: deviations -2, -1, 0, 3 over 1.870829.
  EXPECT_EQ(codes[0], -10);  // -10.69 + 0.25
  EXPECT_EQ(codes[1], -5);   // -5.345
  EXPECT_EQ(codes[2], 0);
  EXPECT_EQ(codes[3], 127);  // 320.7
}

// dq_add_layernorm_q: r = residual + s * x, then LayerNorm, then codes; r is left in the residual.
TEST(FloatRows, DequantizeAddLayerNormQuantizeByHand) {
  const int32_t x[] = {2, 4, 6, 12};
  float residual[] = {0, 0, 0, 0};
  const float gamma[] = {1, 1, 1, 1}, beta[] = {0, 0, 0, 0};
  uint8_t codes[4];
  LayerNormProblem p;
  p.rows = 1;
  p.n = 4;
  p.epsilon = 0;
  p.x = x;
  p.input = LayerNormProblem::Input::kInt32;
  p.x_scale = 0.5F;
  p.residual = residual;
  p.gamma = gamma;
  p.beta = beta;
  p.sum = residual;
  p.codes = {codes, CodeType::kUint8, 0.01F, 128};
  LayerNorm(p);
  EXPECT_EQ(std::vector<float>(residual, residual + 4), (std::vector<float>{1, 2, 3, 6}));
  EXPECT_EQ(std::vector<uint8_t>(codes, codes + 4), (std::vector<uint8_t>{21, 75, 128, 255}));
}

TEST(FloatRows, RefusesWhatMakesNoSense) {
  float x[4] = {}, y[4];
  uint8_t q[4];
  EXPECT_THROW(Softmax(x, 1, 0, y), Error);
  EXPECT_THROW(Softmax(x, -1, 4, y), Error);
  EXPECT_THROW(Map(Function::kErf, x, 4, y, {q, CodeType::kUint8, 0.0F, 0}), Error);
  EXPECT_THROW(Map(Function::kErf, x, 4, y, {q, CodeType::kInt8, 1.0F, 128}), Error);
  LayerNormProblem p;
  p.rows = 1;
  p.n = 4;
  p.x = x;
  EXPECT_THROW(LayerNorm(p), Error);
  p.gamma = x;
  p.epsilon = -1;
  EXPECT_THROW(LayerNorm(p), Error);
}

}  // namespace
}  // namespace octet::kernels
