// Gemm: strides, transposed weights, deep K, threads. The kernels themselves are covered by
// conv_test.cc.
#include <gtest/gtest.h>

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
