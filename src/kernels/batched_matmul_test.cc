// BatchedMatMul against 64-bit sums, every dense kernel; packing in vectors against packing by
// bytes.
#include <gtest/gtest.h>

#include "base/parallel.h"
#include "kernels/pack.h"
#include "kernels/test_support.h"
#include "numerics/rounding.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

int64_t ElementBytes(OutputType type) {
  return type == OutputType::kUint8 || type == OutputType::kInt8 ? 1 : 4;
}

const int8_t* Codes(const GuardedBuffer& b) { return reinterpret_cast<const int8_t*>(b.data()); }

// Where row r of a matrix starts, in elements; `rows` of `columns` each.
int64_t RowAt(const MatrixPlaces& p, int64_t matrix, int64_t r, int64_t rows, int64_t columns) {
  const int64_t stride = p.row_stride != 0 ? p.row_stride : columns;
  const int64_t first =
      p.offsets.empty() ? matrix * rows * stride : p.offsets[static_cast<size_t>(matrix)];
  return first + r * stride;
}

// Elements up to the last one of all matrices.
int64_t Extent(const MatrixPlaces& p, int64_t matrices, int64_t rows, int64_t columns) {
  int64_t end = 0;
  for (int64_t i = 0; i < matrices; ++i)
    end = std::max(end, RowAt(p, i, rows - 1, rows, columns) + columns);
  return end;
}

int64_t ExtentOfB(const BatchedMatMulProblem& p) {
  return p.b_is_kn ? Extent(p.b_places, p.batch, p.k, p.n) : Extent(p.b_places, p.batch, p.n, p.k);
}
int64_t BytesOfY(const BatchedMatMulProblem& p) {
  return Extent(p.y_places, p.batch, p.m, p.n) * ElementBytes(p.output);
}

// What is not written stays 0xa5.
std::vector<uint8_t> Expected(const BatchedMatMulProblem& p, const int8_t* a, const int8_t* b) {
  std::vector<uint8_t> y(static_cast<size_t>(BytesOfY(p)), 0xa5);
  for (int64_t i = 0; i < p.batch; ++i)
    for (int64_t m = 0; m < p.m; ++m)
      for (int64_t n = 0; n < p.n; ++n) {
        int64_t sum = 0;
        for (int64_t k = 0; k < p.k; ++k) {
          const int8_t code = a[RowAt(p.a_places, i, m, p.m, p.k) + k];
          const int32_t value = p.a_type == CodeType::kInt8 ? code : static_cast<uint8_t>(code);
          sum += int64_t{value - p.a_zero_point} *
                 b[p.b_is_kn ? RowAt(p.b_places, i, k, p.k, p.n) + n
                             : RowAt(p.b_places, i, n, p.n, p.k) + k];
        }
        const int64_t at = RowAt(p.y_places, i, m, p.m, p.n) + n;
        const float scaled = static_cast<float>(sum) * p.alpha;
        const auto acc = static_cast<int32_t>(std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX));
        const auto zero = static_cast<float>(p.y_zero_point);
        if (p.output == OutputType::kInt8) {
          y[static_cast<size_t>(at)] =
              static_cast<uint8_t>(RoundClamped(scaled, -128 - zero, 127 - zero) + p.y_zero_point);
        } else if (p.output == OutputType::kUint8) {
          y[static_cast<size_t>(at)] =
              static_cast<uint8_t>(RoundClamped(scaled, -zero, 255 - zero) + p.y_zero_point);
        } else if (p.output == OutputType::kInt32) {
          std::memcpy(y.data() + at * 4, &acc, 4);
        } else {
          std::memcpy(y.data() + at * 4, &scaled, 4);
        }
      }
  return y;
}

std::vector<uint8_t> Product(const BatchedMatMulProblem& p, const int8_t* a, const int8_t* b) {
  GuardedBuffer y(BytesOfY(p));
  std::memset(y.data(), 0xa5, static_cast<size_t>(y.size()));
  BatchedMatMul(p, a, b, y.data());
  return y.Copy();
}

void CheckEveryKernel(const BatchedMatMulProblem& p, int mode, std::mt19937* rng) {
  const GuardedBuffer a(Extent(p.a_places, p.batch, p.m, p.k)), b(ExtentOfB(p));
  FillCodes(a.data(), a.size(), mode, rng);
  FillCodes(b.data(), b.size(), mode == 2 ? 1 : mode, rng);
  const auto expected = Expected(p, Codes(a), Codes(b));
  for (const auto& [isa, kernel] : testing::KernelsOf(Op::Dense)) {
    const ForcedChoice forced(isa, kernel);
    ASSERT_EQ(Product(p, Codes(a), Codes(b)), expected)
        << kernel << " " << p.batch << "x" << p.m << "x" << p.k << "x" << p.n << ", output "
        << static_cast<int>(p.output) << ", data " << mode << ", a " << static_cast<int>(p.a_type)
        << " about " << p.a_zero_point << (p.b_is_kn ? ", b (K,N)" : "");
  }
}

TEST(BatchedMatMul, EveryKernelSizeAndOutput) {
  std::mt19937 rng(31);
  for (const int64_t m : {1, 3, 16, 17, 61})
    for (const int64_t n : {1, 16, 33, 64, 100})
      for (const int64_t k : {1, 16, 63, 64, 65, 197}) {
        const auto output = static_cast<OutputType>(rng() % 4);
        CheckEveryKernel({2, m, n, k, output, 0.02F / static_cast<float>(k)},
                         static_cast<int>(rng() % 4), &rng);
      }
}

TEST(BatchedMatMul, ShapesOfAttention) {
  std::mt19937 rng(32);
  for (const OutputType output : {OutputType::kInt8, OutputType::kFloat32, OutputType::kInt32}) {
    CheckEveryKernel({3, 197, 197, 64, output, 0.001F}, 0, &rng);
    CheckEveryKernel({3, 197, 64, 197, output, 0.001F}, 1, &rng);
    CheckEveryKernel({1, 130, 32, 512, output, 0.001F}, 0, &rng);
  }
}

TEST(BatchedMatMul, TypesZeroPointsAndEitherB) {
  std::mt19937 rng(35);
  for (const int64_t m : {1, 4, 17, 40})
    for (const int64_t n : {1, 16, 47, 64, 100})
      for (const int64_t k : {1, 15, 16, 33, 64, 197}) {
        BatchedMatMulProblem p{
            2, m, n, k, static_cast<OutputType>(rng() % 4), 0.02F / static_cast<float>(k)};
        p.a_type = rng() % 2 == 0 ? CodeType::kUint8 : CodeType::kInt8;
        const int32_t least = p.a_type == CodeType::kInt8 ? -128 : 0;
        const int32_t zeros[] = {0, least, least + 255, least + 131};
        p.a_zero_point = zeros[rng() % 4];
        if (p.output == OutputType::kUint8) p.y_zero_point = static_cast<int32_t>(rng() % 256);
        if (p.output == OutputType::kInt8) p.y_zero_point = static_cast<int32_t>(rng() % 256) - 128;
        p.b_is_kn = rng() % 2 == 0;
        CheckEveryKernel(p, static_cast<int>(rng() % 4), &rng);
        if (HasFatalFailure()) return;
      }
}

// Heads of attention where the layers before and behind leave them: side by side in rows of tokens.
TEST(BatchedMatMul, HeadsInPlace) {
  std::mt19937 rng(36);
  const int64_t heads = 3, width = 40;
  const MatrixPlaces in_rows{heads * width, {0, width, 2 * width}};
  for (const bool kn : {false, true})
    for (const auto type : {CodeType::kInt8, CodeType::kUint8})
      for (const int64_t tokens : {5, 33}) {
        BatchedMatMulProblem p{heads,
                               tokens,
                               kn ? width : tokens,
                               kn ? tokens : width,
                               kn ? OutputType::kInt8 : OutputType::kFloat32,
                               0.0007F};
        p.a_type = type;
        p.b_is_kn = kn;
        p.b_places = in_rows;
        (kn ? p.y_places : p.a_places) = in_rows;
        CheckEveryKernel(p, 0, &rng);
        // One matrix of b for all.
        p.b_places.offsets = {width, width, width};
        CheckEveryKernel(p, 0, &rng);
        if (HasFatalFailure()) return;
      }
}

// -128 * -128 * 131,071 is the largest sum that fits; one more product does not.
TEST(BatchedMatMul, DeepSums) {
  for (const int64_t k : {131071, 131072}) {
    const std::vector<int8_t> lowest(static_cast<size_t>(k), -128);
    int32_t acc = 0;
    BatchedMatMul({1, 1, 1, k, OutputType::kInt32, 1.0F}, lowest.data(), lowest.data(), &acc);
    EXPECT_EQ(acc, std::min<int64_t>(k * 16384, INT32_MAX));
    float value = 0;
    BatchedMatMul({1, 1, 1, k, OutputType::kFloat32, 0.5F}, lowest.data(), lowest.data(), &value);
    EXPECT_EQ(value, static_cast<float>(k * 16384) * 0.5F);
    int8_t code = 0;
    BatchedMatMul({1, 1, 1, k, OutputType::kInt8, 0x1p-26F}, lowest.data(), lowest.data(), &code);
    EXPECT_EQ(code, 32);
    BatchedMatMul({1, 1, 1, k, OutputType::kUint8, 0x1p-24F}, lowest.data(), lowest.data(), &code);
    EXPECT_EQ(static_cast<uint8_t>(code), 128);
  }
  // 255 * -128 * 65,793 is the largest of unsigned codes.
  for (const int64_t k : {65793, 65794}) {
    const std::vector<uint8_t> highest(static_cast<size_t>(k), 255);
    const std::vector<int8_t> lowest(static_cast<size_t>(k), -128);
    BatchedMatMulProblem p{1, 1, 1, k, OutputType::kInt32, 1.0F};
    p.a_type = CodeType::kUint8;
    int32_t acc = 0;
    BatchedMatMul(p, highest.data(), lowest.data(), &acc);
    EXPECT_EQ(acc, std::max<int64_t>(-k * 32640, INT32_MIN));
  }
}

TEST(BatchedMatMul, ThreadsDoNotChangeTheResult) {
  std::mt19937 rng(33);
  for (const auto& [batch, m, n, k] : {std::tuple{3, 300, 200, 64}, std::tuple{1, 700, 64, 200},
                                       std::tuple{1, 64, 800, 128}, std::tuple{8, 64, 64, 256}}) {
    const BatchedMatMulProblem p{batch, m, n, k, OutputType::kInt8, 0.001F};
    const GuardedBuffer a(p.batch * p.m * p.k), b(p.batch * p.n * p.k);
    FillCodes(a.data(), a.size(), 0, &rng);
    FillCodes(b.data(), b.size(), 0, &rng);
    std::vector<uint8_t> results[2];
    for (const int threads : {1, 5}) {
      const ThreadScope scope(threads);
      results[threads / 5] = Product(p, Codes(a), Codes(b));
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

TEST(BatchedMatMul, BadArgumentsAreNamed) {
  int8_t a[4] = {}, b[4] = {}, y[4];
  EXPECT_THROW(BatchedMatMul({1, 2, 0, 2, OutputType::kInt8, 1.0F}, a, b, y), Error);
  EXPECT_THROW(BatchedMatMul({1, 2, 2, 0, OutputType::kInt8, 1.0F}, a, b, y), Error);
  EXPECT_THROW(BatchedMatMul({-1, 2, 2, 2, OutputType::kInt8, 1.0F}, a, b, y), Error);
  EXPECT_THROW(BatchedMatMul({1, 2, 2, 2, OutputType::kInt8, 1.0F / 0.0F}, a, b, y), Error);
  EXPECT_THROW(BatchedMatMul({1 << 20, 1 << 20, 1, 2, OutputType::kInt8, 1.0F}, a, b, y), Error);
  BatchedMatMulProblem p{1, 2, 2, 2, OutputType::kInt8, 1.0F};
  p.a_zero_point = 128;
  EXPECT_THROW(BatchedMatMul(p, a, b, y), Error);
  p.a_zero_point = 0;
  p.y_zero_point = -129;
  EXPECT_THROW(BatchedMatMul(p, a, b, y), Error);
  p.y_zero_point = 0;
  p.b_places.row_stride = 1;
  EXPECT_THROW(BatchedMatMul(p, a, b, y), Error);
  p.b_places = {2, {0, 4}};
  EXPECT_THROW(BatchedMatMul(p, a, b, y), Error);
  p.b_places = {2, {-1}};
  EXPECT_THROW(BatchedMatMul(p, a, b, y), Error);
  BatchedMatMul({1, 0, 2, 2, OutputType::kInt8, 1.0F}, a, b, y);
  BatchedMatMul({0, 2, 2, 2, OutputType::kInt8, 1.0F}, a, b, y);
}

TEST(PackTiles, VectorsPackAsBytesDo) {
  std::mt19937 rng(34);
  for (const int64_t n : {1, 15, 16, 17, 48, 63, 64, 65, 130})
    for (const int64_t k : {1, 4, 63, 64, 65, 127, 200}) {
      const int64_t stride = k + 3;
      const GuardedBuffer b((n - 1) * stride + k);
      FillCodes(b.data(), b.size(), 0, &rng);
      const int64_t bytes = PackedBytes(n, 1, k, Layout::kTilesK64);
      std::vector<int8_t> dense;
      for (int64_t i = 0; i < n; ++i)
        dense.insert(dense.end(), Codes(b) + i * stride, Codes(b) + i * stride + k);
      const AlignedBytes expected = PackWeights({dense, n, 1, k}, Layout::kTilesK64);
      for (const KernelInfo& kernel : Registry()) {
        if (kernel.op != Op::PackTiles || !IsaAllows(ActiveIsa(), kernel.isa)) continue;
        const AlignedBytes out(bytes);
        const GuardedBuffer sums(n * 4);
        Call(kernel, PackTilesArgs{Codes(b), stride, n, k, reinterpret_cast<int8_t*>(out.data()),
                                   reinterpret_cast<int32_t*>(sums.data())});
        ASSERT_EQ(std::memcmp(out.data(), expected.data(), static_cast<size_t>(bytes)), 0)
            << kernel.name << " " << n << "x" << k;
        for (int64_t i = 0; i < n; ++i) {
          int32_t sum = 0, got = 0;
          for (int64_t j = 0; j < k; ++j) sum += Codes(b)[i * stride + j];
          std::memcpy(&got, sums.data() + i * 4, 4);
          ASSERT_EQ(got, sum) << kernel.name;
        }
      }
    }
}

}  // namespace
}  // namespace octet::kernels
