// Quantize, dequantize, layout changes, add, lookup: every kernel against numerics/rounding.h,
// equal bits.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "numerics/rounding.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

struct Type {
  CodeType code;
  int32_t lo, hi, zero_point;
};
constexpr Type kTypes[] = {{CodeType::kUint8, 0, 255, 113},
                           {CodeType::kInt8, -128, 127, -5},
                           {CodeType::kUint8, 0, 255, 255}};

int32_t CodeAt(const uint8_t* p, int64_t i, CodeType type) {
  return type == CodeType::kUint8 ? int32_t{p[i]} : int32_t{static_cast<int8_t>(p[i])};
}

// Ordinary values with ties, infinities, NaN, denormals and zeros of both signs strewn in.
void FillFloats(float* x, int64_t n, float scale, std::mt19937* rng) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float special[] = {0.0F,         -0.0F,           kInf,          -kInf,
                           NAN,          1e-42F,          -1e-42F,       3e38F,
                           -3e38F,       0.5F * scale,    1.5F * scale,  -0.5F * scale,
                           2.5F * scale, -127.5F * scale, 127.5F * scale};
  std::normal_distribution<float> normal(0.0F, 60.0F * scale);
  for (int64_t i = 0; i < n; ++i) {
    const auto r = (*rng)();
    // Near-ties: (k + 1/2) * scale, where a product with 1 / scale falls on the other side for many
    // k.
    const auto tie = (static_cast<float>(r / 4 % 255) - 126.5F) * scale;
    x[i] = r % 4 == 0 ? special[r / 4 % std::size(special)] : r % 4 == 1 ? tie : normal(*rng);
  }
}

constexpr float kScales[] = {0.25F, 0.0173F, 1e-30F};

TEST(Elementwise, QuantizeAndDequantize) {
  std::mt19937 rng(21);
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (const Type& t : kTypes)
      for (const float scale : kScales)
        for (const int64_t n : {0, 1, 15, 16, 17, 35, 1000}) {
          GuardedBuffer x(n * 4), q(n), back(n * 4);
          auto* xf = reinterpret_cast<float*>(x.data());
          FillFloats(xf, n, scale, &rng);
          Quantize(xf, n, scale, t.zero_point, t.code, q.data());
          Dequantize(q.data(), t.code, n, scale, t.zero_point,
                     reinterpret_cast<float*>(back.data()));
          for (int64_t i = 0; i < n; ++i) {
            const int32_t code = QuantizeOne(xf[i], scale, t.zero_point, t.lo, t.hi);
            ASSERT_EQ(CodeAt(q.data(), i, t.code), code) << IsaName(isa) << " " << xf[i];
            const float value = DequantizeOne(code, scale, t.zero_point);
            ASSERT_EQ(reinterpret_cast<float*>(back.data())[i], value) << IsaName(isa);
          }
        }
  }
}

TEST(Elementwise, DynamicQuantize) {
  std::mt19937 rng(27);
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (const float scale : {0.25F, 0.0173F, 1e-30F, 1e-40F, 3e35F})
      for (const int sign : {0, 1, -1})  // both, none negative, none positive
        for (const int64_t n : {0, 1, 15, 16, 17, 33, 63, 64, 65, 1000, 200'001}) {
          GuardedBuffer x(n * 4), y(n);
          auto* xf = reinterpret_cast<float*>(x.data());
          float lo = 0.0F, hi = 0.0F;
          for (int64_t i = 0; i < n; ++i) {
            const auto r = static_cast<float>(rng() % 4096) / 2048.0F - 1.0F;
            xf[i] = (sign == 0 ? r : static_cast<float>(sign) * std::fabs(r)) * scale * 100.0F;
            if (rng() % 97 == 0) xf[i] = std::numeric_limits<float>::quiet_NaN();
            lo = std::fmin(lo, xf[i]);
            hi = std::fmax(hi, xf[i]);
          }
          const Grid grid = DynamicQuantize(xf, n, y.data());
          ASSERT_EQ(grid.scale, hi == lo ? 1.0F : (hi - lo) / 255.0F) << IsaName(isa) << " " << n;
          ASSERT_EQ(grid.zero_point, RoundClamped((0.0F - lo) / grid.scale, 0.0F, 255.0F));
          for (int64_t i = 0; i < n; ++i) {
            ASSERT_EQ(y.data()[i], QuantizeOne(xf[i], grid.scale, grid.zero_point, 0, 255))
                << IsaName(isa) << " " << xf[i] << " of scale " << grid.scale;
          }
        }
  }
}

TEST(Elementwise, LayoutChanges) {
  std::mt19937 rng(22);
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (const Type& t : kTypes)
      for (const int64_t batch : {1, 2})
        for (const int64_t channels : {1, 2, 3, 4, 5, 15, 16, 17, 35})
          for (const int64_t space : {1, 3, 15, 16, 17, 35, 300}) {
            const float scale = 0.25F;
            const int64_t n = batch * channels * space;
            GuardedBuffer x(n * 4), q(n), back(n * 4);
            auto* xf = reinterpret_cast<float*>(x.data());
            FillFloats(xf, n, scale, &rng);
            QuantizeToNhwc(xf, batch, channels, space, scale, t.zero_point, t.code, q.data());
            DequantizeToNchw(q.data(), t.code, batch, channels, space, scale, t.zero_point,
                             reinterpret_cast<float*>(back.data()));
            for (int64_t b = 0; b < batch; ++b)
              for (int64_t c = 0; c < channels; ++c)
                for (int64_t i = 0; i < space; ++i) {
                  const int64_t nchw = (b * channels + c) * space + i,
                                nhwc = (b * space + i) * channels + c;
                  const int32_t code = QuantizeOne(xf[nchw], scale, t.zero_point, t.lo, t.hi);
                  ASSERT_EQ(CodeAt(q.data(), nhwc, t.code), code)
                      << IsaName(isa) << " " << batch << "x" << channels << "x" << space << " at "
                      << b << " " << c << " " << i;
                  ASSERT_EQ(reinterpret_cast<float*>(back.data())[nchw],
                            DequantizeOne(code, scale, t.zero_point));
                }
          }
  }
}

TEST(Elementwise, Add) {
  std::mt19937 rng(23);
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (const Type& t : kTypes)
      for (const int mode : {0, 1})
        for (const float ratio : {0.5F, 0.731F, 300.0F})
          for (const int64_t n : {1, 15, 16, 17, 35, 5000}) {
            AddProblem p;
            p.type = t.code;
            p.a_zero_point = t.zero_point;
            p.b_zero_point = t.lo + 3;
            p.y_zero_point = t.lo + 100;
            p.a_ratio = ratio;
            p.b_ratio = 0.5F;
            p.lo = t.lo + (mode == 0 ? 0 : 20);
            p.hi = t.hi - (mode == 0 ? 0 : 30);
            GuardedBuffer a(n), b(n), y(n);
            FillCodes(a.data(), n, mode, &rng);
            FillCodes(b.data(), n, mode, &rng);
            Add(p, a.data(), b.data(), n, y.data());
            for (int64_t i = 0; i < n; ++i) {
              const int32_t want =
                  AddCodesOne(CodeAt(a.data(), i, t.code), p.a_zero_point, p.a_ratio,
                              CodeAt(b.data(), i, t.code), p.b_zero_point, p.b_ratio,
                              p.y_zero_point, p.lo, p.hi);
              ASSERT_EQ(CodeAt(y.data(), i, t.code), want) << IsaName(isa) << " " << i;
            }
          }
  }
}

TEST(Elementwise, ThreadsDoNotChangeTheResult) {
  std::mt19937 rng(24);
  const int64_t channels = 20, space = 30001;
  std::vector<float> x(static_cast<size_t>(channels * space));
  FillFloats(x.data(), channels * space, 0.1F, &rng);
  std::vector<uint8_t> one(x.size()), many(x.size());
  {
    const ThreadScope threads(1);
    QuantizeToNhwc(x.data(), 1, channels, space, 0.1F, 3, CodeType::kUint8, one.data());
  }
  {
    const ThreadScope threads(7);
    QuantizeToNhwc(x.data(), 1, channels, space, 0.1F, 3, CodeType::kUint8, many.data());
  }
  EXPECT_EQ(one, many);
}

// Every pair of codes.
TEST(Elementwise, Mul) {
  constexpr int64_t kPairs = 256 * 256;
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (const Type& t : kTypes)
      for (const float scale : {0.004F, 0.25F, 3.0F, 1e-39F}) {
        const MulProblem p = {t.code,
                              {0.5F, t.zero_point},
                              {0.031F, t.lo + 3},
                              {scale, t.lo + 100},
                              t.lo,
                              t.hi - (scale == 0.25F ? 30 : 0)};
        for (const int64_t n : {kPairs, int64_t{1}, int64_t{7}, int64_t{17}, int64_t{70}}) {
          GuardedBuffer a(n), b(n), y(n);
          for (int64_t i = 0; i < n; ++i) {
            a.data()[i] = static_cast<uint8_t>(i);
            b.data()[i] = static_cast<uint8_t>(i >> 8);
          }
          Mul(p, a.data(), b.data(), n, y.data());
          for (int64_t i = 0; i < n; ++i) {
            const int32_t want = MulCodesOne(CodeAt(a.data(), i, t.code), p.a.zero_point, p.a.scale,
                                             CodeAt(b.data(), i, t.code), p.b.zero_point, p.b.scale,
                                             p.y.zero_point, p.y.scale, p.lo, p.hi);
            ASSERT_EQ(CodeAt(y.data(), i, t.code), want) << IsaName(isa) << " " << i;
          }
        }
      }
  }
}

TEST(Elementwise, MulChannels) {
  std::mt19937 rng(28);
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (const Type& t : kTypes)
      for (const int64_t batch : {1, 2})
        for (const int64_t space : {1, 2, 9, 50})
          for (const int64_t channels : {1, 3, 16, 40, 64, 65, 200}) {
            const MulProblem p = {
                t.code, {0.5F, t.zero_point}, {0.031F, t.lo + 3}, {0.7F, t.lo + 100}, t.lo, t.hi};
            GuardedBuffer a(batch * space * channels), b(batch * channels), y(a.size());
            FillCodes(a.data(), a.size(), 0, &rng);
            FillCodes(b.data(), b.size(), 0, &rng);
            MulChannels(p, batch, space, channels, a.data(), b.data(), y.data());
            for (int64_t i = 0; i < a.size(); ++i) {
              const int64_t gate = i / (space * channels) * channels + i % channels;
              ASSERT_EQ(CodeAt(y.data(), i, t.code),
                        MulCodesOne(CodeAt(a.data(), i, t.code), p.a.zero_point, p.a.scale,
                                    CodeAt(b.data(), gate, t.code), p.b.zero_point, p.b.scale,
                                    p.y.zero_point, p.y.scale, p.lo, p.hi))
                  << IsaName(isa) << " " << batch << "x" << space << "x" << channels << " " << i;
            }
          }
  }
}

TEST(Elementwise, Lookup) {
  std::mt19937 rng(25);
  uint8_t table[256];
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i * 7 + 3);
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    GuardedBuffer x(3 * 10 + 7), y(3 * 9 + 7);
    FillCodes(x.data(), x.size(), 0, &rng);
    std::memset(y.data(), 0x11, static_cast<size_t>(y.size()));
    Lookup(table, 4, 7, x.data(), 10, y.data(), 9);
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 7; ++j) EXPECT_EQ(y.data()[i * 9 + j], table[x.data()[i * 10 + j]]);
      for (int64_t j = 7; i < 3 && j < 9; ++j) EXPECT_EQ(y.data()[i * 9 + j], 0x11);
    }
    EXPECT_THROW(Lookup(table, 1, 8, x.data(), 7, y.data(), 8), Error);
    for (const int64_t n : {1, 31, 32, 33, 63, 64, 65, 256, 1000}) {
      GuardedBuffer from(n), to(n);
      for (int64_t i = 0; i < n; ++i) from.data()[i] = static_cast<uint8_t>(i * 5);
      Lookup(table, 1, n, from.data(), n, to.data(), n);
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(to.data()[i], table[from.data()[i]]) << IsaName(isa) << " " << n << " " << i;
    }
  }
}

TEST(Elementwise, BadArgumentsAreNamed) {
  float x = 0.0F;
  uint8_t y = 0;
  for (const float scale : {0.0F, -1.0F, NAN, std::numeric_limits<float>::infinity()}) {
    EXPECT_THROW(Quantize(&x, 1, scale, 0, CodeType::kUint8, &y), Error);
  }
  EXPECT_THROW(Quantize(&x, 1, 1.0F, -1, CodeType::kUint8, &y), Error);
  EXPECT_THROW(Dequantize(&y, CodeType::kInt8, 1, 1.0F, 128, &x), Error);
  AddProblem p;
  p.lo = 10;
  p.hi = 9;
  EXPECT_THROW(Add(p, &y, &y, 1, &y), Error);
}

}  // namespace
}  // namespace octet::kernels
