// Gemm: strides, transposed weights, deep K, threads. The kernels themselves are covered by
// conv_test.cc.
#include <gtest/gtest.h>

#include <cmath>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

struct Layer {
  int64_t m, n, k;
  std::vector<int8_t> weight;
  GemmProblem problem;
};

Layer Make(int64_t m, int64_t n, int64_t k, OutputType output, int mode, std::mt19937* rng) {
  Layer s{m, n, k, std::vector<int8_t>(static_cast<size_t>(n * k)), {}};
  FillCodes(reinterpret_cast<uint8_t*>(s.weight.data()), n * k, mode, rng);
  s.problem.n = n;
  s.problem.k = k;
  s.problem.x_zero_point = 3;
  s.problem.weight = s.weight.data();
  s.problem.epilogue.output = output;
  s.problem.epilogue.multiplier.assign(1, 0.002F);
  s.problem.epilogue.y_zero_point = output == OutputType::kUint8 ? 128 : 0;
  return s;
}

std::vector<uint8_t> RunLayer(const Layer& s, const GuardedBuffer& x, int64_t x_stride,
                              int64_t y_stride) {
  const int64_t bytes = s.problem.epilogue.output == OutputType::kInt32 ? 4 : 1;
  GuardedBuffer y(((s.m - 1) * y_stride + s.n) * bytes);
  std::memset(y.data(), 0x5a, static_cast<size_t>(y.size()));
  Gemm(s.problem).Run(s.m, x.data(), x_stride, y.data(), y_stride);
  return y.Copy();
}

TEST(Gemm, StridesAndTails) {
  std::mt19937 rng(11);
  for (const int64_t m : {1, 2, 6, 13, 100})
    for (const int64_t n : {1, 48, 64, 70, 200})
      for (const int64_t k : {1, 7, 64, 130}) {
        Layer s = Make(m, n, k, OutputType::kUint8, 0, &rng);
        const int64_t x_stride = k + 5, y_stride = n + 3;
        GuardedBuffer x((m - 1) * x_stride + k);
        FillCodes(x.data(), x.size(), 0, &rng);
        std::vector<uint8_t> expected;
        {
          const ForcedChoice forced(Isa::kPortable, "octet_conv_reference");
          expected = RunLayer(s, x, x_stride, y_stride);
        }
        for (const auto& [isa, kernel] : testing::KernelsOf(Op::Dense)) {
          const ForcedChoice forced(isa, kernel);
          ASSERT_EQ(RunLayer(s, x, x_stride, y_stride), expected)
              << kernel << " " << m << "x" << n << "x" << k;
        }
      }
}

TEST(Gemm, WeightsInEitherOrder) {
  std::mt19937 rng(12);
  Layer s = Make(5, 37, 29, OutputType::kInt32, 0, &rng);
  GuardedBuffer x(5 * 29);
  FillCodes(x.data(), x.size(), 0, &rng);
  const auto expected = RunLayer(s, x, 29, 37);
  std::vector<int8_t> transposed(s.weight.size());
  for (size_t n = 0; n < 37; ++n)
    for (size_t k = 0; k < 29; ++k) transposed[k * 37 + n] = s.weight[n * 29 + k];
  s.problem.weight = transposed.data();
  s.problem.weight_is_nk = false;
  EXPECT_EQ(RunLayer(s, x, 29, 37), expected);
}

// A grid that comes with the run: float(sum((x - zero) * w) + bias) * (scale * multiplier) +
// float_bias, clamped.
TEST(Gemm, GridAtRun) {
  std::mt19937 rng(16);
  for (const int64_t m : {1, 5, 33})
    for (const int64_t n : {1, 48, 70})
      for (const int64_t k : {1, 7, 64, 130}) {
        Layer s = Make(m, n, k, OutputType::kFloat32, 0, &rng);
        Epilogue& e = s.problem.epilogue;
        s.problem.x_zero_point = 0;
        s.problem.grid_at_run = true;
        e.multiplier.clear();
        for (int64_t i = 0; i < n; ++i) {
          e.bias.push_back(static_cast<int32_t>(rng() % 4001) - 2000);
          e.multiplier.push_back(static_cast<float>(rng() % 1000) * 1e-4F);
          e.float_bias.push_back(static_cast<float>(rng() % 1000) * 1e-2F - 5.0F);
        }
        e.float_lo = -300.0F;
        e.float_hi = 400.0F;
        const int64_t x_stride = k + 5, y_stride = n + 3;
        GuardedBuffer x((m - 1) * x_stride + k);
        FillCodes(x.data(), x.size(), 0, &rng);
        for (const auto& [isa, kernel] : testing::KernelsOf(Op::Dense)) {
          const ForcedChoice forced(isa, kernel);
          const Gemm gemm(s.problem);
          for (const Grid grid : {Grid{0.0173F, 0}, Grid{1.5F, 119}, Grid{1e-7F, 255}}) {
            GuardedBuffer out(((m - 1) * y_stride + n) * 4);
            auto* y = reinterpret_cast<float*>(out.data());
            gemm.RunOnGrid(m, x.data(), x_stride, grid, y, y_stride);
            for (int64_t i = 0; i < m; ++i)
              for (int64_t j = 0; j < n; ++j) {
                const auto c = static_cast<size_t>(j);
                int32_t sum = e.bias[c];
                for (int64_t l = 0; l < k; ++l)
                  sum += (x.data()[i * x_stride + l] - grid.zero_point) *
                         s.weight[static_cast<size_t>(j * k + l)];
                const float v =
                    static_cast<float>(sum) * (grid.scale * e.multiplier[c]) + e.float_bias[c];
                ASSERT_EQ(y[i * y_stride + j], std::fmin(std::fmax(v, e.float_lo), e.float_hi))
                    << kernel << " " << m << "x" << n << "x" << k << " zero " << grid.zero_point;
              }
          }
        }
      }
}

TEST(Gemm, GridAtRunIsChecked) {
  std::mt19937 rng(17);
  Layer s = Make(1, 4, 8, OutputType::kFloat32, 0, &rng);
  uint8_t x[8] = {};
  float y[4];
  EXPECT_THROW(Gemm(s.problem).RunOnGrid(1, x, 8, {}, y, 4), Error);
  s.problem.grid_at_run = true;
  EXPECT_THROW(Gemm{s.problem}, Error);  // the zero point of Make
  s.problem.x_zero_point = 0;
  const Gemm gemm(s.problem);
  EXPECT_THROW(gemm.Run(1, x, 8, y, 4), Error);
  EXPECT_THROW(gemm.RunOnGrid(1, x, 8, {1.0F, 256}, y, 4), Error);
  EXPECT_THROW(gemm.RunOnGrid(1, x, 7, {}, y, 4), Error);
  // 255 * 128 * K is the largest distance from 0.
  Layer deep = Make(1, 1, 65800, OutputType::kFloat32, 3, &rng);
  deep.problem.x_zero_point = 0;
  deep.problem.grid_at_run = true;
  EXPECT_THROW(Gemm{deep.problem}, Error);
}

// K = 65,536 of 255 * -128 is the largest sum that fits; one more leaves int32 and takes the 64-bit
// kernel.
TEST(Gemm, DeepSums) {
  std::mt19937 rng(13);
  for (const int64_t k : {65536, 65800, 70000}) {
    Layer s = Make(2, 3, k, OutputType::kInt32, 3, &rng);
    s.problem.x_zero_point = 0;
    GuardedBuffer x(2 * k);
    FillCodes(x.data(), x.size(), 2, &rng);
    const Gemm gemm(s.problem);
    const bool reference = gemm.candidates().back().refused_because.empty();
    EXPECT_EQ(reference, k * 255 * 128 > int64_t{1} << 31) << k;
    int32_t y[6];
    gemm.Run(2, x.data(), k, y, 3);
    const int64_t exact = -k * 255 * 128;
    EXPECT_EQ(y[0], static_cast<int32_t>(std::max<int64_t>(exact, INT32_MIN)));
  }
}

TEST(Gemm, ThreadsDoNotChangeTheResult) {
  std::mt19937 rng(14);
  for (const auto& [m, n, k] :
       {std::tuple{300, 200, 512}, std::tuple{48, 1024, 256}, std::tuple{2000, 64, 64}}) {
    Layer s = Make(m, n, k, OutputType::kUint8, 0, &rng);
    GuardedBuffer x(int64_t{m} * k);
    FillCodes(x.data(), x.size(), 0, &rng);
    std::vector<uint8_t> one, many;
    {
      const ThreadScope threads(1);
      one = RunLayer(s, x, k, n);
    }
    {
      const ThreadScope threads(5);
      many = RunLayer(s, x, k, n);
    }
    EXPECT_EQ(one, many);
  }
}

TEST(Gemm, BadArgumentsAreNamed) {
  std::mt19937 rng(15);
  Layer s = Make(1, 4, 8, OutputType::kUint8, 0, &rng);
  const Gemm gemm(s.problem);
  uint8_t x[8] = {}, y[4];
  EXPECT_THROW(gemm.Run(1, x, 7, y, 4), Error);
  EXPECT_THROW(gemm.Run(1, x, 8, y, 3), Error);
  EXPECT_THROW(gemm.Run(-1, x, 8, y, 4), Error);
  EXPECT_THROW(gemm.Run(1, x, 8, y, 4, x, 4), Error);
  s.problem.k = 0;
  EXPECT_THROW(Gemm{s.problem}, Error);
  gemm.Run(0, x, 8, y, 4);
}

}  // namespace
}  // namespace octet::kernels
