// Pooling: every kernel against loops over the definition in octet/kernels.h.
#include <gtest/gtest.h>

#include "kernels/test_support.h"
#include "numerics/rounding.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

int32_t CodeAt(const uint8_t* p, int64_t i, CodeType type) {
  return type == CodeType::kUint8 ? int32_t{p[i]} : int32_t{static_cast<int8_t>(p[i])};
}

struct Shape {
  int64_t batch, height, width, channels;
};

// Windows are clipped to the image for values, to the padded image for the count with
// count_include_pad.
void Check(const PoolProblem& p, const Shape& s, bool average, std::mt19937* rng) {
  const int64_t oh = PoolOutHeight(p, s.height), ow = PoolOutWidth(p, s.width);
  GuardedBuffer x(s.batch * s.height * s.width * s.channels), y(s.batch * oh * ow * s.channels);
  FillCodes(x.data(), x.size(), static_cast<int>((*rng)() % 4), rng);
  (average ? AveragePool : MaxPool)(p, s.batch, s.height, s.width, s.channels, x.data(), y.data());
  const int32_t lowest = p.type == CodeType::kUint8 ? 0 : -128;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t oy = 0; oy < oh; ++oy)
      for (int64_t ox = 0; ox < ow; ++ox)
        for (int64_t c = 0; c < s.channels; ++c) {
          int32_t best = lowest, sum = 0, inside = 0, padded = 0;
          for (int64_t ky = 0; ky < p.kernel_h; ++ky)
            for (int64_t kx = 0; kx < p.kernel_w; ++kx) {
              const int64_t iy = oy * p.stride_h + ky - p.pad_top,
                            ix = ox * p.stride_w + kx - p.pad_left;
              if (iy < s.height + p.pad_bottom && ix < s.width + p.pad_right) ++padded;
              if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
              const int32_t v =
                  CodeAt(x.data(), ((b * s.height + iy) * s.width + ix) * s.channels + c, p.type);
              best = std::max(best, v);
              sum += v - p.x_zero_point;
              ++inside;
            }
          const float multiplier =
              p.ratio / static_cast<float>(p.count_include_pad ? padded : inside);
          const int32_t want =
              average ? RequantizeOne(sum, multiplier, p.y_zero_point, lowest, lowest + 255) : best;
          ASSERT_EQ(CodeAt(y.data(), ((b * oh + oy) * ow + ox) * s.channels + c, p.type), want)
              << "average " << average << " at " << oy << " " << ox << " " << c << " of "
              << s.channels;
        }
}

TEST(Pool, MaxAndAverage) {
  std::mt19937 rng(31);
  const auto pick = [&](std::initializer_list<int64_t> of) {
    return *(of.begin() + rng() % of.size());
  };
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (int i = 0; i < 300; ++i) {
      PoolProblem p;
      p.type = i % 2 == 0 ? CodeType::kUint8 : CodeType::kInt8;
      p.kernel_h = pick({1, 2, 3, 5});
      p.kernel_w = pick({1, 2, 3, 5});
      p.stride_h = pick({1, 2, 3});
      p.stride_w = pick({1, 2, 3});
      p.pad_top = pick({0, 1}) % p.kernel_h;
      p.pad_left = pick({0, 1, 2}) % p.kernel_w;
      p.pad_bottom = pick({0, 1, 2}) % p.kernel_h;
      p.pad_right = pick({0, 1}) % p.kernel_w;
      p.ceil_mode = pick({0, 1}) != 0;
      p.count_include_pad = pick({0, 1}) != 0;
      p.x_zero_point = p.type == CodeType::kUint8 ? 77 : -20;
      p.y_zero_point = p.type == CodeType::kUint8 ? 130 : 11;
      p.ratio = 1.37F;
      const Shape s{pick({1, 2}), pick({5, 6, 7}), pick({5, 6, 9}),
                    pick({1, 15, 16, 17, 63, 64, 65, 131})};
      Check(p, s, false, &rng);
      Check(p, s, true, &rng);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Pool, GlobalAverageIsAverageOverTheSpace) {
  std::mt19937 rng(32);
  for (const Isa isa : testing::IsasToTest()) {
    const ForcedChoice forced(isa);
    for (const auto type : {CodeType::kUint8, CodeType::kInt8})
      for (const int64_t channels : {1, 16, 64, 67, 1024})
        for (const int64_t side : {1, 7}) {
          PoolProblem p;
          p.type = type;
          p.kernel_h = p.kernel_w = side;
          p.x_zero_point = 5;
          p.y_zero_point = 9;
          p.ratio = 0.9F;
          GuardedBuffer x(2 * side * side * channels), global(2 * channels), windowed(2 * channels);
          FillCodes(x.data(), x.size(), 0, &rng);
          GlobalAveragePool(p, 2, side * side, channels, x.data(), global.data());
          AveragePool(p, 2, side, side, channels, x.data(), windowed.data());
          ASSERT_EQ(global.Copy(), windowed.Copy());
        }
  }
}

// The sizes ONNX gives: a ceil-mode window that would start in the end padding is dropped.
TEST(Pool, OutputSizes) {
  PoolProblem p;
  p.kernel_h = 3;
  p.stride_h = 2;
  EXPECT_EQ(PoolOutHeight(p, 8), 3);
  p.ceil_mode = true;
  EXPECT_EQ(PoolOutHeight(p, 8), 4);
  p.kernel_h = 2;
  p.pad_bottom = 1;
  p.stride_h = 3;
  EXPECT_EQ(PoolOutHeight(p, 6), 2);  // ceil gives 3; the third would start at 6
  p.pad_bottom = 2;
  EXPECT_THROW(static_cast<void>(PoolOutHeight(p, 6)), Error);
}

}  // namespace
}  // namespace octet::kernels
