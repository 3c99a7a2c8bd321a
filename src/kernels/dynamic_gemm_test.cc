// DynamicGemm against its definition written out, for every dense kernel and every row quantizer:
// equal bytes, no access outside the buffers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::GuardedBuffer;

// A matrix of floats that ends at a guard page, rows `stride` apart.
struct Floats {
  Floats(int64_t m, int64_t n, int64_t s)
      : rows(m), columns(n), stride(s), bytes(((m - 1) * s + n) * 4) {
    for (int64_t i = 0; i < bytes.size() / 4; ++i) data()[i] = -77.0F;
  }
  [[nodiscard]] float* data() const { return reinterpret_cast<float*>(bytes.data()); }
  [[nodiscard]] float& at(int64_t i, int64_t j) const { return data()[i * stride + j]; }
  int64_t rows, columns, stride;
  GuardedBuffer bytes;
};

float ScaleOf(const Floats& x, int64_t first, int64_t last) {
  float largest = 1e-8F;
  for (int64_t i = first; i < last; ++i)
    for (int64_t k = 0; k < x.columns; ++k)
      if (std::fabs(x.at(i, k)) > largest) largest = std::fabs(x.at(i, k));
  return largest / 127.0F;
}

int64_t CodeOf(float x, float scale) {
  const float v = x / scale;
  if (!(v > -128.0F)) return -128;
  return static_cast<int64_t>(std::nearbyint(std::fmin(v, 127.0F)));
}

// y of the definition, row after row.
std::vector<float> Expected(const DynamicGemmProblem& p, const Floats& x) {
  std::vector<float> y;
  for (int64_t i = 0; i < x.rows; ++i) {
    const float scale =
        p.range == DynamicRange::kPerToken ? ScaleOf(x, i, i + 1) : ScaleOf(x, 0, x.rows);
    std::vector<int64_t> codes;
    for (int64_t k = 0; k < p.k; ++k) codes.push_back(CodeOf(x.at(i, k), scale));
    for (int64_t n = 0; n < p.n; ++n) {
      int64_t sum = 0;
      for (int64_t k = 0; k < p.k; ++k)
        sum += codes[static_cast<size_t>(k)] * p.weight[n * p.k + k];
      float v = static_cast<float>(sum) *
                p.weight_scale[p.weight_scale.size() == 1 ? 0 : static_cast<size_t>(n)];
      v = v * scale;
      if (!p.bias.empty()) v += p.bias[static_cast<size_t>(n)];
      y.push_back(std::fmin(std::fmax(v, p.lo), p.hi));
    }
  }
  return y;
}

void Expect(const std::vector<float>& expected, const Floats& y, const std::string& what) {
  for (int64_t i = 0; i < y.rows; ++i)
    for (int64_t n = 0; n < y.columns; ++n)
      ASSERT_EQ(y.at(i, n), expected[static_cast<size_t>(i * y.columns + n)])
          << what << " at " << i << ", " << n;
  for (int64_t i = 0; i + 1 < y.rows; ++i)
    for (int64_t n = y.columns; n < y.stride; ++n) ASSERT_EQ(y.data()[i * y.stride + n], -77.0F);
}

// Mostly ordinary numbers; halves of the grid, zeros, a row of zeros, one of a single peak, one of
// tiny numbers, a NaN.
void Fill(const Floats& x, std::mt19937* rng) {
  std::normal_distribution<float> normal(0.0F, 3.0F);
  for (int64_t i = 0; i < x.rows; ++i) {
    const int kind = static_cast<int>(i % 6);
    for (int64_t k = 0; k < x.columns; ++k) {
      const float v = normal(*rng);
      x.at(i, k) = kind == 1   ? 0.0F
                   : kind == 2 ? (k == 0 ? 127.0F : std::floor(v * 20.0F) + 0.5F)
                   : kind == 3 ? (k == x.columns / 2 ? -1e30F : v)
                   : kind == 4 ? v * 1e-12F
                               : v;
    }
  }
  if (x.rows > 6) x.at(5, 0) = std::numeric_limits<float>::quiet_NaN();
}

TEST(DynamicGemm, EqualsItsDefinition) {
  std::mt19937 rng(21);
  for (const int64_t m : {1, 3, 17, 70})
    for (const int64_t n : {1, 33, 64, 130})
      for (const int64_t k : {1, 63, 64, 200, 1024})
        for (const DynamicRange range : {DynamicRange::kPerToken, DynamicRange::kPerTensor}) {
          std::vector<int8_t> weight(static_cast<size_t>(n * k));
          testing::FillCodes(reinterpret_cast<uint8_t*>(weight.data()), n * k, 0, &rng);
          DynamicGemmProblem p;
          p.n = n;
          p.k = k;
          p.range = range;
          p.weight = weight.data();
          const bool plain = m == 3;
          for (int64_t i = 0; i < (plain ? 1 : n); ++i)
            p.weight_scale.push_back(0.001F * static_cast<float>(1 + i % 7));
          if (!plain)
            for (int64_t i = 0; i < n; ++i) p.bias.push_back(static_cast<float>(i % 11) - 5.0F);
          if (m == 17) p.lo = 0.0F;
          const Floats x(m, k, k + 3);
          Fill(x, &rng);
          const std::vector<float> expected = Expected(p, x);
          for (const auto& [isa, kernel] : testing::KernelsOf(Op::Dense)) {
            const ForcedChoice forced(isa, kernel);
            const Floats y(m, n, n + 2);
            DynamicGemm(p).Run(m, x.data(), x.stride, y.data(), y.stride);
            Expect(expected, y, Cat(kernel, " ", m, "x", k, "x", n));
            if (HasFatalFailure()) return;
          }
        }
}

// Every multiple of half a code, and its neighbours: where a product by 1 / scale could round the
// other way.
TEST(DynamicGemm, TiesAreThoseOfTheDivision) {
  for (const float largest : {1.0F, 3.7F, 0.1F, 1e-3F, 6e4F, 1e-8F, 1e-30F}) {
    const float scale = std::fmax(largest, 1e-8F) / 127.0F;
    std::vector<float> values = {largest};
    for (int i = -254; i <= 254; ++i) {
      const float v = static_cast<float>(i) * 0.5F * scale;
      values.insert(values.end(), {v, std::nextafter(v, 1e9F), std::nextafter(v, -1e9F)});
    }
    const Floats x(1, static_cast<int64_t>(values.size()), static_cast<int64_t>(values.size()));
    std::copy(values.begin(), values.end(), x.data());
    for (const auto& [isa, kernel] : testing::KernelsOf(Op::QuantizeRows)) {
      const ForcedChoice forced(isa);
      std::vector<uint8_t> y(values.size());
      float made = 0.0F;
      QuantizeRowsArgs args{};
      args.x = x.data();
      args.rows = 1;
      args.k = x.columns;
      args.scale = &made;
      args.y = y.data();
      for (const KernelInfo& info : Registry())
        if (info.name == kernel) Call(info, args);
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(y[i] - 128, CodeOf(values[i], made))
            << kernel << ": " << values[i] << " / " << made;
    }
  }
}

TEST(DynamicGemm, ThreadsDoNotChangeTheResult) {
  std::mt19937 rng(22);
  const int64_t m = 300, n = 500, k = 260;
  std::vector<int8_t> weight(static_cast<size_t>(n * k));
  testing::FillCodes(reinterpret_cast<uint8_t*>(weight.data()), n * k, 0, &rng);
  DynamicGemmProblem p;
  p.n = n;
  p.k = k;
  p.weight = weight.data();
  p.weight_scale = {0.01F};
  const Floats x(m, k, k);
  Fill(x, &rng);
  const DynamicGemm gemm(p);
  const std::vector<float> expected = Expected(p, x);
  for (const int threads : {1, 2}) {
    const ThreadScope scope(threads);
    const Floats y(m, n, n);
    gemm.Run(m, x.data(), k, y.data(), n);
    Expect(expected, y, Cat(threads, " threads"));
  }
}

TEST(DynamicGemm, BadArgumentsAreNamed) {
  const std::vector<int8_t> weight(6, 1);
  DynamicGemmProblem p;
  p.n = 2;
  p.k = 3;
  p.weight = weight.data();
  const auto message = [&](auto run) -> std::string {
    try {
      run();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_NE(message([&] { DynamicGemm{p}; }).find("multiplier"), std::string::npos);
  p.weight_scale = {1.0F};
  float x[3] = {1, 2, 3}, y[2];
  EXPECT_NE(message([&] { DynamicGemm(p).Run(1, x, 2, y, 2); }).find("strides"), std::string::npos);
  DynamicGemm(p).Run(0, x, 3, y, 2);
  std::vector<int8_t> deep(1 << 18, -128);
  p.n = 1;
  p.k = 1 << 18;
  p.weight = deep.data();
  EXPECT_NE(message([&] { DynamicGemm{p}; }).find("int32"), std::string::npos);
}

}  // namespace
}  // namespace octet::kernels
