// Fp8Linear: all codes decoded exactly; the sums of its definition, bit by bit on every kernel; its
// error beside double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::GuardedBuffer;
using Format = Fp8Problem::Format;

// OCP 8-bit floating point, from the definition. E4M3: bias 7, S.1111.111 is NaN, no infinities.
// E5M2: bias 15, the highest exponent as IEEE has it.
double ValueOf(Format format, int code) {
  const bool e4m3 = format == Format::kE4M3;
  const int bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15;
  const int exponent = (code & 0x7f) >> bits, mantissa = code & ((1 << bits) - 1);
  const double sign = code >= 128 ? -1 : 1;
  if (e4m3 && (code & 0x7f) == 0x7f) return std::nan("");
  if (!e4m3 && exponent == 31) return mantissa == 0 ? sign * HUGE_VAL : std::nan("");
  const double fraction = mantissa / static_cast<double>(1 << bits);
  return sign * (exponent == 0 ? fraction * std::exp2(1 - bias)
                               : (1 + fraction) * std::exp2(exponent - bias));
}

TEST(Fp8Linear, DecodesEveryCode) {
  std::vector<uint8_t> codes(256);
  for (int i = 0; i < 256; ++i) codes[static_cast<size_t>(i)] = static_cast<uint8_t>(i);
  const std::vector<float> scale(256, 1.0F);
  // Few rows and many take different roads.
  for (const Format format : {Format::kE4M3, Format::kE5M2})
    for (const int64_t m : {1, 4, 5, 13})
      for (const auto& [isa, kernel] : testing::KernelsOf(Op::Fp8Linear)) {
        const ForcedChoice forced(isa, kernel);
        const std::vector<float> x(static_cast<size_t>(m), 1.0F);
        std::vector<float> y(static_cast<size_t>(m * 256));
        Fp8Linear({256, 1, format, codes.data(), scale.data(), nullptr})
            .Run(m, x.data(), 1, y.data(), 256);
        for (int64_t i = 0; i < m; ++i)
          for (int c = 0; c < 256; ++c) {
            const auto got = static_cast<double>(y[static_cast<size_t>(i * 256 + c)]);
            const double expected = ValueOf(format, c);
            if (std::isnan(expected)) {
              EXPECT_TRUE(std::isnan(got)) << kernel << " code " << c;
            } else {
              EXPECT_EQ(got, expected) << kernel << " code " << c;
            }
          }
      }
}

struct Layer {
  int64_t m, n, k, x_stride, y_stride;
  Format format;
  std::vector<uint8_t> weight;
  std::vector<float> scale, bias, x;
};

// `subnormal`: codes next to zero only.
Layer Make(int64_t m, int64_t n, int64_t k, Format format, bool subnormal, std::mt19937* rng) {
  Layer l{m, n, k, k + 3, n + 2, format, {}, {}, {}, {}};
  const uint32_t finite = subnormal ? 8 : format == Format::kE4M3 ? 0x7f : 0x7c;
  for (int64_t i = 0; i < n * k; ++i)
    l.weight.push_back(static_cast<uint8_t>((*rng)() % finite | ((*rng)() & 0x80)));
  std::uniform_real_distribution<float> spread(0.001F, 0.02F);
  for (int64_t i = 0; i < n; ++i) l.scale.push_back(spread(*rng));
  for (int64_t i = 0; i < n; ++i) l.bias.push_back(spread(*rng) - 0.01F);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < (m - 1) * l.x_stride + k; ++i) l.x.push_back(normal(*rng));
  return l;
}

std::vector<float> Product(const Layer& l) {
  const GuardedBuffer x(static_cast<int64_t>(l.x.size()) * 4),
      y(((l.m - 1) * l.y_stride + l.n) * 4);
  std::memcpy(x.data(), l.x.data(), l.x.size() * 4);
  std::memset(y.data(), 0x5a, static_cast<size_t>(y.size()));
  auto* floats = reinterpret_cast<float*>(y.data());
  Fp8Linear({l.n, l.k, l.format, l.weight.data(), l.scale.data(), l.bias.data()})
      .Run(l.m, reinterpret_cast<const float*>(x.data()), l.x_stride, floats, l.y_stride);
  return {floats, floats + y.size() / 4};
}

float Defined(const Layer& l, int64_t i, int64_t c) {
  float total = 0;
  for (int64_t begin = 0; begin < l.k; begin += 128) {
    float sum = 0;
    for (int64_t k = begin; k < std::min(l.k, begin + 128); ++k) {
      const double w = ValueOf(l.format, l.weight[static_cast<size_t>(c * l.k + k)]);
      sum = std::fma(l.x[static_cast<size_t>(i * l.x_stride + k)], static_cast<float>(w), sum);
    }
    total += sum;
  }
  const auto at = static_cast<size_t>(c);
  return std::fma(total, l.scale[at], l.bias[at]);
}

TEST(Fp8Linear, EveryKernelGivesTheBitsOfTheDefinition) {
  std::mt19937 rng(51);
  for (const int64_t m : {1, 2, 4, 5, 14})
    for (const int64_t n : {1, 17, 64, 100, 130})
      for (const int64_t k : {1, 7, 128, 129, 300}) {
        const Layer l =
            Make(m, n, k, rng() % 2 == 0 ? Format::kE4M3 : Format::kE5M2, rng() % 3 == 0, &rng);
        for (const auto& [isa, kernel] : testing::KernelsOf(Op::Fp8Linear)) {
          const ForcedChoice forced(isa, kernel);
          const std::vector<float> y = Product(l);
          for (int64_t i = 0; i < m; ++i)
            for (int64_t c = 0; c < n; ++c)
              ASSERT_EQ(y[static_cast<size_t>(i * l.y_stride + c)], Defined(l, i, c))
                  << kernel << " " << m << "x" << k << "x" << n;
        }
      }
}

// Sums of at most 128 fused multiply-adds and K / 128 additions: each rounds by 2^-24 of what is at
// most the sum of absolute products; the last two roundings are of y.
TEST(Fp8Linear, ErrorIsBounded) {
  std::mt19937 rng(52);
  for (const Format format : {Format::kE4M3, Format::kE5M2}) {
    const Layer l = Make(9, 70, 1000, format, false, &rng);
    const std::vector<float> y = Product(l);
    for (int64_t i = 0; i < l.m; ++i)
      for (int64_t c = 0; c < l.n; ++c) {
        double exact = 0, magnitude = 0;
        for (int64_t k = 0; k < l.k; ++k) {
          const double product = ValueOf(format, l.weight[static_cast<size_t>(c * l.k + k)]) *
                                 static_cast<double>(l.x[static_cast<size_t>(i * l.x_stride + k)]);
          exact += product;
          magnitude += std::fabs(product);
        }
        const auto scale = static_cast<double>(l.scale[static_cast<size_t>(c)]);
        exact = exact * scale + static_cast<double>(l.bias[static_cast<size_t>(c)]);
        const double bound = 0x1.01p-24 * (magnitude * scale * (128 + 8) + std::fabs(exact));
        ASSERT_LE(
            std::fabs(static_cast<double>(y[static_cast<size_t>(i * l.y_stride + c)]) - exact),
            bound);
      }
  }
}

TEST(Fp8Linear, ThreadsDoNotChangeTheResult) {
  std::mt19937 rng(53);
  for (const auto& [m, n, k] : {std::tuple{3, 900, 512}, std::tuple{200, 64, 256}}) {
    const Layer l = Make(m, n, k, Format::kE4M3, false, &rng);
    std::vector<float> one;
    {
      const ThreadScope threads(1);
      one = Product(l);
    }
    const ThreadScope threads(5);
    const std::vector<float> many = Product(l);
    EXPECT_EQ(std::memcmp(one.data(), many.data(), one.size() * 4), 0);
  }
}

TEST(Fp8Linear, NanWeightsAndBadArguments) {
  const uint8_t weight[4] = {0x38, 0x7f, 0x38, 0x38};
  float scale[2] = {1, 1}, x[2] = {0, 0}, y[2];
  const Fp8Linear linear({2, 2, Format::kE4M3, weight, scale, nullptr});
  linear.Run(1, x, 2, y, 2);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], 0.0F);
  EXPECT_THROW(linear.Run(1, x, 1, y, 2), Error);
  EXPECT_THROW(linear.Run(1, x, 2, y, 1), Error);
  EXPECT_THROW(linear.Run(-1, x, 2, y, 2), Error);
  linear.Run(0, x, 2, y, 2);
  EXPECT_THROW(Fp8Linear({2, 0, Format::kE4M3, weight, scale, nullptr}), Error);
  EXPECT_THROW(Fp8Linear({2, 2, Format::kE4M3, weight, nullptr, nullptr}), Error);
  scale[0] = 0x1p120F;
  EXPECT_THROW(Fp8Linear({2, 2, Format::kE4M3, weight, scale, nullptr}), Error);
}

}  // namespace
}  // namespace octet::kernels
