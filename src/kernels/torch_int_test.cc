// The linear layers of torch-int (test_linear_modules: Linear(512,1024), x 128x512) through
// octet/kernels.h: against references in int64 and float64, and their relative mean square errors
//
//   MSE = sum((y - y_int8)^2) / sum(y^2)
//
// against the figures measured with torch-int's recipe on three seeds of its own.
//
// What another seed gives follows from three maxima. Rounding to a grid of step s adds noise of
// variance s^2 / 12, and s = largest / 127. For x normal of variance 1, w uniform in [-b, b]
// (variance b^2 / 3) and K = 512, the noise of y over its power K b^2 / 3 is
//
//   (max|x| / 127)^2 / 12 + 3 / (12 * 127^2)                     float32 out
//   ... + (max|y| / 127)^2 / 12 / mean(y^2)                      int8 out
//
// (the bias adds 1/512 to the power, and its own rounding 1/512 of the second term). Behind Relu
// noise and power are both halved, so the same holds for the y > 0. The sums below have that mean;
// they are spread by
//   0.35 %  sqrt(0.8 / 65,536), the noise of 65,536 codes of x (e^2 of a uniform e has the relative
//           deviation sqrt(0.8)), and likewise of y
//   0.6 %   sqrt(2 / 512 / 128), the power of 128 rows of x
// and the scale of w is its largest number, 1 - 2e-6 of b. Five deviations together: 4 %.
//
// max|x| of 65,536 normal numbers: P(max < m) = exp(-65,536 * 2 Q(m)), so 99 % of all seeds lie in
// [3.94, 5.38], half of them in [4.25, 4.59]: float32 out 0.96e-4 to 1.65e-4, half of them in
// 1.09e-4 to 1.24e-4. max|y| / sqrt(mean(y^2)), 131,072 numbers: [4.10, 5.51], half in
// [4.41, 4.74]: int8 out 1.8e-4 to 3.3e-4. The figures of the three seeds lie about the medians of
// that, which is what is asked of the median here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "octet/kernels.h"

namespace octet::kernels {
namespace {

constexpr int64_t kM = 128, kN = 1024, kK = 512;
constexpr uint32_t kSeeds = 9;

// The largest |v| / 127: torch-int's scale of everything.
float ScaleOf(const std::vector<float>& v) {
  float largest = 0;
  for (const float e : v) largest = std::max(largest, std::fabs(e));
  return largest / 127.0F;
}

std::vector<int8_t> CodesOf(const std::vector<float>& v, float scale) {
  std::vector<int8_t> codes(v.size());
  Quantize(v.data(), static_cast<int64_t>(v.size()), scale, 0, CodeType::kInt8, codes.data());
  return codes;
}

class Numbers {
 public:
  explicit Numbers(uint32_t seed) : rng_(seed) {}
  double Uniform() { return (static_cast<double>(rng_()) + 0.5) / 4294967296.0; }  // (0, 1)
  std::vector<float> Uniforms(int64_t n, double bound) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& e : v) e = static_cast<float>((2.0 * Uniform() - 1.0) * bound);
    return v;
  }
  std::vector<float> Normals(int64_t n) {  // Box and Muller
    std::vector<float> v(static_cast<size_t>(n));
    for (float& e : v) {
      const double radius = std::sqrt(-2.0 * std::log(Uniform()));
      e = static_cast<float>(radius * std::cos(2.0 * 3.14159265358979323846 * Uniform()));
    }
    return v;
  }

 private:
  std::mt19937 rng_;
};

// One seed: the float layer, its codes, and the exact sums.
struct Layer {
  explicit Layer(uint32_t seed) {
    Numbers numbers(seed);
    x = numbers.Normals(kM * kK);
    const double bound = 1.0 / std::sqrt(static_cast<double>(kK));
    w = numbers.Uniforms(kN * kK, bound);
    bias = numbers.Uniforms(kN, bound);
    x_scale = ScaleOf(x);
    w_scale = ScaleOf(w);
    x_codes = CodesOf(x, x_scale);
    w_codes = CodesOf(w, w_scale);
    real.resize(kM * kN);
    acc.resize(kM * kN);
    for (size_t i = 0; i < acc.size(); ++i) {
      const size_t row = i / kN * kK, column = i % kN * kK;
      double sum = 0;
      int64_t exact = 0;
      for (size_t k = 0; k < kK; ++k) {
        sum += static_cast<double>(x[row + k]) * static_cast<double>(w[column + k]);
        exact += int64_t{x_codes[row + k]} * int64_t{w_codes[column + k]};
      }
      real[i] = sum + static_cast<double>(bias[i % kN]);
      acc[i] = exact;
    }
  }

  [[nodiscard]] GemmProblem Problem(OutputType output) const {
    GemmProblem p;
    p.n = kN;
    p.k = kK;
    p.x_type = CodeType::kInt8;
    p.weight = w_codes.data();
    p.epilogue.output = output;
    return p;
  }
  template <typename T>
  std::vector<T> Run(const GemmProblem& problem) const {
    std::vector<T> y(kM * kN);
    Gemm(problem).Run(kM, x_codes.data(), kK, y.data(), kN);
    return y;
  }

  std::vector<float> x, w, bias;
  float x_scale = 0, w_scale = 0;
  std::vector<int8_t> x_codes, w_codes;
  std::vector<double> real;  // (M,N)
  std::vector<int64_t> acc;  // (M,N), without bias
};

struct Power {
  double noise = 0, signal = 0, largest = 0;
  int64_t count = 0;
  void Add(double exact, double got) {
    noise += (got - exact) * (got - exact);
    signal += exact * exact;
    largest = std::max(largest, std::fabs(exact));
    ++count;
  }
  [[nodiscard]] double Mse() const { return noise / signal; }
  // What rounding to 255 codes up to the largest adds.
  [[nodiscard]] double Rounding() const {
    const double step = largest / 127.0;
    return step * step / 12.0 / (signal / static_cast<double>(count));
  }
};

double PredictedFloatOut(const Layer& layer) {
  const auto s = static_cast<double>(layer.x_scale);
  return s * s / 12.0 + 3.0 / (12.0 * 127.0 * 127.0);
}

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// W8A8B32O32 without scaling, and W8A8BFP32OFP32. Returns the MSE of the second.
double CheckWideOutputs(const Layer& layer) {
  const auto sums = layer.Run<int32_t>(layer.Problem(OutputType::kInt32));
  for (size_t i = 0; i < sums.size(); ++i) {
    EXPECT_EQ(int64_t{sums[i]}, layer.acc[i]) << "at " << i;
    if (int64_t{sums[i]} != layer.acc[i]) return NAN;
  }
  GemmProblem problem = layer.Problem(OutputType::kFloat32);
  problem.epilogue.multiplier = {layer.x_scale * layer.w_scale};
  problem.epilogue.float_bias = layer.bias;
  const auto y = layer.Run<float>(problem);
  Power power;
  double farthest = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    // float(acc) is exact below 2^24; the product and the sum are rounded once each, by at most
    // 2^-24 = 6e-8 of themselves.
    const double product =
        static_cast<double>(layer.acc[i]) * static_cast<double>(problem.epilogue.multiplier[0]);
    const double expected = product + static_cast<double>(layer.bias[i % kN]);
    const double size = std::max(std::fabs(product), std::fabs(expected));
    if (size > 0)
      farthest = std::max(farthest, std::fabs(static_cast<double>(y[i]) - expected) / size);
    power.Add(layer.real[i], static_cast<double>(y[i]));
  }
  EXPECT_LE(farthest, 1e-6);
  EXPECT_NEAR(power.Mse() / PredictedFloatOut(layer), 1, 0.04);
  return power.Mse();
}

// W8A8B8O8 and W8A8B8O8LinearReLU: the bias in int8, which an accumulator takes in units of x_scale
// w_scale (its rounding there is half such a unit, some 3e-4 of an output code, so of 10,000 codes
// 3 lie on the other side of a tie).
double CheckCodes(const Layer& layer, bool relu) {
  Power power;  // first only for the largest output and the power
  std::vector<double> real = layer.real;
  for (double& v : real) {
    if (relu) v = std::max(v, 0.0);
    if (!relu || v > 0) power.Add(v, v);
  }
  const auto scale = static_cast<float>(power.largest / 127.0);
  const float bias_scale = ScaleOf(layer.bias);
  const std::vector<int8_t> bias_codes = CodesOf(layer.bias, bias_scale);
  GemmProblem problem = layer.Problem(OutputType::kInt8);
  const double unit = static_cast<double>(layer.x_scale) * static_cast<double>(layer.w_scale);
  const double alpha = unit / static_cast<double>(scale);
  const double beta = static_cast<double>(bias_scale) / static_cast<double>(scale);
  problem.epilogue.multiplier = {static_cast<float>(alpha)};
  if (relu) problem.epilogue.lo = {0};
  for (const int8_t b : bias_codes)
    problem.epilogue.bias.push_back(static_cast<int32_t>(
        std::nearbyint(static_cast<double>(b) * static_cast<double>(bias_scale) / unit)));
  const auto y = layer.Run<int8_t>(problem);
  int64_t equal = 0, farthest = 0;
  Power measured;
  for (size_t i = 0; i < y.size(); ++i) {
    const double exact =
        alpha * static_cast<double>(layer.acc[i]) + beta * static_cast<double>(bias_codes[i % kN]);
    const auto expected =
        static_cast<int64_t>(std::nearbyint(std::clamp(exact, relu ? 0.0 : -128.0, 127.0)));
    equal += expected == y[i] ? 1 : 0;
    farthest = std::max(farthest, std::abs(expected - y[i]));
    measured.Add(real[i], static_cast<double>(y[i]) * static_cast<double>(scale));
  }
  EXPECT_LE(farthest, 1);
  EXPECT_GE(static_cast<double>(equal), 0.99 * static_cast<double>(y.size()));
  EXPECT_NEAR(measured.Mse() / (PredictedFloatOut(layer) + power.Rounding()), 1, 0.04)
      << (relu ? "Relu" : "linear");
  return measured.Mse();
}

TEST(TorchInt, LinearModules) {
  std::vector<double> wide, codes, relu, largest;
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    const Layer layer(seed);
    wide.push_back(CheckWideOutputs(layer));
    codes.push_back(CheckCodes(layer, false));
    relu.push_back(CheckCodes(layer, true));
    const auto [lo, hi] = std::minmax_element(layer.acc.begin(), layer.acc.end());
    largest.push_back(static_cast<double>(std::max(-*lo, *hi)));
    std::printf("seed %u: float32 out %.3g, int8 out %.3g, Relu int8 out %.3g, max |acc| %.3g\n",
                seed, wide.back(), codes.back(), relu.back(), largest.back());
    EXPECT_GT(wide.back(), 0.96e-4);
    EXPECT_LT(wide.back(), 1.65e-4);
    EXPECT_GT(codes.back(), 1.8e-4);
    EXPECT_LT(codes.back(), 3.3e-4);
  }
  EXPECT_GE(Median(wide), 1.09e-4);
  EXPECT_LE(Median(wide), 1.18e-4);
  EXPECT_GE(Median(codes), 2.2e-4);
  EXPECT_LE(Median(codes), 2.4e-4);
  EXPECT_GE(Median(relu), 2.1e-4);
  EXPECT_LE(Median(relu), 2.2e-4);
  // max|acc| = (max|y| / x_scale) / w_scale: 2.2e5 with both maxima at their medians.
  EXPECT_NEAR(Median(largest), 2.3e5, 0.15e5);
}

}  // namespace
}  // namespace octet::kernels
