// Fake quantization on every level: the bits of the scalar definition, for every kind of format,
// granularity and tail, with buffers that end at a guard page.
#include "kernels/fake_quantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/test_support.h"

namespace octet::kernels {
namespace {

using testing::GuardedBuffer;

constexpr const char* kFormats[] = {"int8",
                                    "uint8",
                                    "int4-narrow",
                                    "int16",
                                    "uint2",
                                    "e4m3",
                                    "e5m2",
                                    "e2m5",
                                    "e0m7",
                                    "e7m0",
                                    "e1m6",
                                    "ue4m4",
                                    "ue0m7",
                                    "e4m3fn",
                                    "float8_e5m2",
                                    "float8_e3m4",
                                    "e4m3fnuz",
                                    "e5m2fnuz",
                                    "e2m3",
                                    "e3m2",
                                    "e2m1",
                                    "e3m4:bias=int",
                                    "e4m3:bias=int-round"};

// Floats of every kind: zeros, denormals, infinities, NaN, ties of the grids, and any pattern.
float AnyFloat(std::mt19937* rng) {
  const auto r = static_cast<uint32_t>((*rng)());
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kOdd[] = {0.0F,
                            -0.0F,
                            kInf,
                            -kInf,
                            std::numeric_limits<float>::quiet_NaN(),
                            -std::numeric_limits<float>::quiet_NaN(),
                            1e-45F,
                            -1e-45F,
                            3.4e38F,
                            -3.4e38F};
  switch (r % 8) {
    case 0:
      return kOdd[(r >> 3) % std::size(kOdd)];
    case 1:
      return std::bit_cast<float>(static_cast<uint32_t>((*rng)()));
    case 2:  // ties of a scale that is a power of two
      return static_cast<float>(static_cast<int32_t>((r >> 3) % 1024) - 512) / 64;
    default:
      return std::normal_distribution<float>(0, 3)(*rng);
  }
}

QuantParams ParamsFor(const NumberFormat& format, Granularity granularity, const Extents& extents,
                      std::mt19937* rng) {
  QuantParams params;
  params.format = format;
  params.granularity = granularity;
  params.axis = 1;
  params.group = 3;
  params.steps = granularity == Granularity::kStep ? 3 : 1;
  const int64_t scales = ScaleCount(params, extents);
  for (int64_t i = 0; i < scales; ++i) {
    const float maxval = std::exp2(std::uniform_real_distribution<float>(-3, 5)(*rng));
    if (format.is_float()) {
      params.scale.push_back(i % 5 == 4 ? 0.125F : FloatScaleFor(format.floating(), maxval));
      params.zero_point.push_back(0);
      if (format.floating().bias_rule == BiasRule::kIntegerRound)
        params.limit.push_back(FloatLimitFor(format.floating(), maxval, params.scale.back()));
    } else {
      const ScaleZero grid = ChooseAsymmetric(-maxval, maxval / 2, format.integer());
      params.scale.push_back(i % 5 == 4 ? 0.125F : grid.scale);
      params.zero_point.push_back(grid.zero_point);
    }
  }
  return params;
}

TEST(FakeQuantize, IsTheScalarDefinitionOnEveryLevel) {
  std::mt19937 rng(17);
  int compared = 0;
  for (const auto& [isa, kernel] : testing::KernelsOf(Op::FakeQuantize)) {
    const ForcedChoice forced(isa);
    for (const char* name : kFormats) {
      const NumberFormat format = NumberFormat::Parse(name);
      for (const Granularity granularity :
           {Granularity::kTensor, Granularity::kChannel, Granularity::kToken, Granularity::kGroup,
            Granularity::kStep}) {
        for (const Extents& extents :
             {Extents{1, 1, 1}, Extents{2, 5, 1}, Extents{3, 4, 9}, Extents{1, 7, 16},
              Extents{2, 33, 1}, Extents{2, 3, 67}, Extents{5, 64, 1}, Extents{0, 3, 4}}) {
          const QuantParams params = ParamsFor(format, granularity, extents, &rng);
          const int64_t n = extents.elements();
          GuardedBuffer x(n * 4), y(n * 4);
          auto* in = reinterpret_cast<float*>(x.data());
          auto* out = reinterpret_cast<float*>(y.data());
          for (int64_t i = 0; i < n; ++i) in[i] = AnyFloat(&rng);
          std::vector<float> expected(in, in + n);
          const int64_t step = params.steps - 1;
          FakeQuantizeArray(expected, extents, params, step);
          FakeQuantize(in, extents, params, out, step);
          for (int64_t i = 0; i < n; ++i) {
            ASSERT_EQ(std::bit_cast<uint32_t>(out[i]),
                      std::bit_cast<uint32_t>(expected[static_cast<size_t>(i)]))
                << kernel << " " << name << " " << GranularityName(granularity) << " x " << in[i]
                << " -> " << out[i] << ", not " << expected[static_cast<size_t>(i)];
          }
          FakeQuantize(in, extents, params, in, step);  // in place
          ASSERT_EQ(n == 0 ? 0 : std::memcmp(in, out, static_cast<size_t>(n) * 4), 0);
          ++compared;
        }
      }
    }
  }
  EXPECT_GE(compared, static_cast<int>(std::size(kFormats)) * 40);
}

TEST(FakeQuantize, ManyElementsOnSeveralThreads) {
  std::mt19937 rng(18);
  const Extents extents = {3, 70, 1001};
  for (const Granularity granularity :
       {Granularity::kTensor, Granularity::kChannel, Granularity::kToken, Granularity::kGroup}) {
    const QuantParams params = ParamsFor(NumberFormat::Parse("e4m3"), granularity, extents, &rng);
    std::vector<float> x(static_cast<size_t>(extents.elements()));
    for (float& v : x) v = AnyFloat(&rng);
    std::vector<float> expected = x;
    FakeQuantizeArray(expected, extents, params);
    FakeQuantize(x.data(), extents, params, x.data());
    ASSERT_EQ(std::memcmp(x.data(), expected.data(), x.size() * 4), 0);
  }
}

TEST(FakeQuantize, RefusesWhatDoesNotFit) {
  float x = 1;
  QuantParams params;
  params.scale = {0};
  params.zero_point = {0};
  EXPECT_THROW(FakeQuantize(&x, {1, 1, 1}, params, &x), Error);
  params.scale = {1};
  EXPECT_THROW(FakeQuantize(&x, {1, 1, 1}, params, &x, 1), Error);
}

}  // namespace
}  // namespace octet::kernels
