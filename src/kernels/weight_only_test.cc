// WeightOnlyLinear: its definition in 64-bit integers, bit by bit on every kernel; its error beside
// double precision; special values.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

struct Layer {
  int64_t m, n, k, group, groups;
  std::vector<int8_t> weight;
  std::vector<float> scale, bias;
  int64_t x_stride, y_stride;

  [[nodiscard]] WeightOnlyProblem problem() const {
    return {n, k, weight.data(), group, scale.data(), bias.data()};
  }
  [[nodiscard]] float ScaleAt(int64_t c, int64_t i) const {
    return scale[static_cast<size_t>(c * groups + (group == 0 ? 0 : i / group))];
  }
};

Layer Make(int64_t m, int64_t n, int64_t k, int64_t group, int mode, std::mt19937* rng) {
  Layer l{m, n, k, group, group == 0 ? 1 : (k + group - 1) / group, {}, {}, {}, k + 3, n + 2};
  l.weight.resize(static_cast<size_t>(n * k));
  FillCodes(reinterpret_cast<uint8_t*>(l.weight.data()), n * k, mode, rng);
  std::uniform_real_distribution<float> spread(0.001F, 0.02F);
  for (int64_t i = 0; i < n * l.groups; ++i) l.scale.push_back(spread(*rng));
  for (int64_t i = 0; i < n; ++i) l.bias.push_back(spread(*rng) - 0.01F);
  return l;
}

// Normal numbers; some rows with an outlier, some exactly representable, one of zeros.
void FillFloats(const Layer& l, float* x, std::mt19937* rng) {
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < l.m; ++i) {
    float* row = x + i * l.x_stride;
    for (int64_t k = 0; k < l.k; ++k)
      row[k] = i % 5 == 4 ? 0.0F : i % 5 == 3 ? std::floor(normal(*rng) * 8) : normal(*rng);
    if (i % 5 == 1) row[(*rng)() % static_cast<uint64_t>(l.k)] = -300.0F;
  }
}

double StepFor(const float* x, int64_t k) {
  double largest = 0;
  for (int64_t i = 0; i < k; ++i) largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
  double step = 0x1p-123;
  while (largest > 8355711 * step) step *= 2;
  return step;
}

// The definition, from include/octet/kernels.h.
float Exact(const Layer& l, const float* x, double step, int64_t c) {
  double total = 0;
  const int64_t group = l.group == 0 ? l.k : l.group;
  for (int64_t begin = 0; begin < l.k; begin += group) {
    int64_t sum = 0;
    for (int64_t k = begin; k < std::min(l.k, begin + group); ++k)
      sum += static_cast<int64_t>(std::nearbyint(static_cast<double>(x[k]) / step)) *
             l.weight[static_cast<size_t>(c * l.k + k)];
    const double t = static_cast<double>(sum) * static_cast<double>(l.ScaleAt(c, begin));
    total = begin == 0 ? t : total + t;
  }
  return static_cast<float>(total * step + static_cast<double>(l.bias[static_cast<size_t>(c)]));
}

std::vector<float> Product(const Layer& l, const float* x) {
  const GuardedBuffer y(((l.m - 1) * l.y_stride + l.n) * 4);
  std::memset(y.data(), 0x5a, static_cast<size_t>(y.size()));
  auto* floats = reinterpret_cast<float*>(y.data());
  WeightOnlyLinear(l.problem()).Run(l.m, x, l.x_stride, floats, l.y_stride);
  return {floats, floats + y.size() / 4};
}

TEST(WeightOnlyLinear, EveryKernelGivesTheBitsOfTheDefinition) {
  std::mt19937 rng(41);
  for (const int64_t m : {1, 2, 7, 20})
    for (const int64_t n : {1, 16, 70, 200})
      for (const int64_t k : {1, 15, 64, 130, 300})
        for (const int64_t group : {0, 32, 64}) {
          const Layer l = Make(m, n, k, group, static_cast<int>(rng() % 4), &rng);
          const GuardedBuffer x(((m - 1) * l.x_stride + k) * 4);
          auto* floats = reinterpret_cast<float*>(x.data());
          FillFloats(l, floats, &rng);
          for (const auto& [isa, kernel] : testing::KernelsOf(Op::Dense)) {
            const ForcedChoice forced(isa, kernel);
            const std::vector<float> y = Product(l, floats);
            for (int64_t i = 0; i < m; ++i) {
              const float* row = floats + i * l.x_stride;
              const double step = StepFor(row, k);
              for (int64_t c = 0; c < n; ++c)
                ASSERT_EQ(y[static_cast<size_t>(i * l.y_stride + c)], Exact(l, row, step, c))
                    << kernel << " " << m << "x" << k << "x" << n << ", group " << group << ", row "
                    << i << ", channel " << c;
            }
          }
        }
}

// The bound of include/octet/kernels.h, with each group's rounding to double counted as well.
TEST(WeightOnlyLinear, ErrorIsBounded) {
  std::mt19937 rng(42);
  for (const int64_t group : {0, 64, 128}) {
    const Layer l = Make(20, 130, 1000, group, 0, &rng);
    std::vector<float> x(static_cast<size_t>(l.m * l.x_stride));
    FillFloats(l, x.data(), &rng);
    const std::vector<float> y = Product(l, x.data());
    for (int64_t i = 0; i < l.m; ++i)
      for (int64_t c = 0; c < l.n; ++c) {
        const float* row = x.data() + i * l.x_stride;
        double exact = static_cast<double>(l.bias[static_cast<size_t>(c)]), weights = 0;
        double magnitude = std::fabs(exact);
        for (int64_t k = 0; k < l.k; ++k) {
          const double w = static_cast<double>(l.weight[static_cast<size_t>(c * l.k + k)]) *
                           static_cast<double>(l.ScaleAt(c, k));
          exact += static_cast<double>(row[k]) * w;
          weights += std::fabs(w);
          magnitude += std::fabs(static_cast<double>(row[k]) * w);
        }
        const double bound = StepFor(row, l.k) / 2 * weights + 0x1.01p-24 * std::fabs(exact) +
                             magnitude * 0x1p-52 * static_cast<double>(l.k + l.groups);
        ASSERT_LE(
            std::fabs(static_cast<double>(y[static_cast<size_t>(i * l.y_stride + c)]) - exact),
            bound);
      }
  }
}

TEST(WeightOnlyLinear, SpecialRows) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kMax = std::numeric_limits<float>::max();
  const int8_t weight[] = {1, 2};
  const float scale = 0.5F, bias = 0.25F;
  const WeightOnlyProblem p{1, 2, weight, 0, &scale, &bias};
  // 8,355,712 doubles the step, of which 1 is half then. The largest float is 2^22 steps, rounded.
  const float x[][2] = {{kInf, 0},
                        {8355712.0F, 1.0F},
                        {std::nanf(""), 1},
                        {kMax, -kMax},
                        {0x1p-126F, 0x1p-149F},
                        {8355711.0F, 0.5F},
                        {kMax, kMax},
                        {1, -kInf}};
  const float expected[] = {std::nanf(""), 4177856.25F, std::nanf(""), -0x1p127F,
                            0.25F,         4177855.75F, kInf,          std::nanf("")};
  for (const auto& [isa, kernel] : testing::KernelsOf(Op::SplitRows)) {
    const ForcedChoice forced(isa);
    float y[8];
    WeightOnlyLinear(p).Run(8, x[0], 2, y, 1);
    for (int i = 0; i < 8; ++i) {
      if (std::isnan(expected[i])) {
        EXPECT_TRUE(std::isnan(y[i])) << i;
      } else {
        EXPECT_EQ(y[i], expected[i]) << kernel << " " << i;
      }
    }
  }
}

// Longer than the sums of one dense product may be.
TEST(WeightOnlyLinear, DeepSums) {
  constexpr int64_t k = 140000;
  const std::vector<int8_t> weight(k, -128);
  const std::vector<float> x(k, 3.0F);
  const float scale = 0.5F;
  float y = 0;
  WeightOnlyLinear({1, k, weight.data(), 0, &scale, nullptr}).Run(1, x.data(), k, &y, 1);
  EXPECT_EQ(y, -static_cast<float>(k) * 192.0F);
}

TEST(WeightOnlyLinear, ThreadsDoNotChangeTheResult) {
  std::mt19937 rng(43);
  for (const auto& [m, n, k] :
       {std::tuple{3, 900, 512}, std::tuple{200, 64, 256}, std::tuple{150, 300, 200}}) {
    const Layer l = Make(m, n, k, 128, 0, &rng);
    std::vector<float> x(static_cast<size_t>(l.m * l.x_stride)), one, many;
    FillFloats(l, x.data(), &rng);
    {
      const ThreadScope threads(1);
      one = Product(l, x.data());
    }
    const ThreadScope threads(5);
    many = Product(l, x.data());
    EXPECT_EQ(std::memcmp(one.data(), many.data(), one.size() * 4), 0);
  }
}

TEST(WeightOnlyLinear, BadArgumentsAreNamed) {
  const int8_t weight[8] = {};
  float scale[2] = {1, 1}, x[8] = {}, y[8];
  const WeightOnlyLinear linear({2, 4, weight, 0, scale, nullptr});
  EXPECT_THROW(linear.Run(1, x, 3, y, 2), Error);
  EXPECT_THROW(linear.Run(1, x, 4, y, 1), Error);
  EXPECT_THROW(linear.Run(-1, x, 4, y, 2), Error);
  linear.Run(0, x, 4, y, 2);
  EXPECT_THROW(WeightOnlyLinear({0, 4, weight, 0, scale, nullptr}), Error);
  EXPECT_THROW(WeightOnlyLinear({2, 4, nullptr, 0, scale, nullptr}), Error);
  EXPECT_THROW(WeightOnlyLinear({2, 4, weight, -1, scale, nullptr}), Error);
  scale[1] = std::nanf("");
  EXPECT_THROW(WeightOnlyLinear({2, 4, weight, 0, scale, nullptr}), Error);
}

}  // namespace
}  // namespace octet::kernels
