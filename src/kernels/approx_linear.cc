// ApproxLinear of octet/approx.h: blocks of rows are transposed, so that a kernel finds the rows'
// codes of one k side by side.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/approx_layer.h"
#include "kernels/dense_choice.h"

namespace octet::kernels {
namespace {

constexpr int64_t kGrainMacs = 500'000;  // worth a second thread: some 20 us of one core

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// 8 rows of 8 bytes, little-endian, become their columns.
void Transpose8x8(uint64_t (&r)[8]) {
  const auto swap = [&](int i, int j, int shift, uint64_t mask) {
    const uint64_t t = ((r[i] >> shift) ^ r[j]) & mask;
    r[j] ^= t;
    r[i] ^= t << shift;
  };
  for (int i = 0; i < 4; ++i) swap(i, i + 4, 32, 0x00000000ffffffffULL);
  for (const int i : {0, 1, 4, 5}) swap(i, i + 2, 16, 0x0000ffff0000ffffULL);
  for (const int i : {0, 2, 4, 6}) swap(i, i + 1, 8, 0x00ff00ff00ff00ffULL);
}

// x (m,k) -> codes (k, kApproxLanes), zeros up to the next multiple of 64 lanes. True if some code
// has its highest bit set.
bool PackRows(const uint8_t* x, int64_t stride, int64_t m, int64_t k, uint8_t* codes) {
  uint64_t all = 0;
  const int64_t lanes = CeilDiv(m, 64) * 64;
  for (int64_t m0 = 0; m0 < lanes; m0 += 8)
    for (int64_t k0 = 0; k0 < k; k0 += 8) {
      uint64_t r[8] = {};
      const auto width = static_cast<size_t>(std::min<int64_t>(8, k - k0));
      for (int64_t i = 0; i < 8 && m0 + i < m; ++i)
        std::memcpy(&r[i], x + (m0 + i) * stride + k0, width);
      for (const uint64_t v : r) all |= v;
      Transpose8x8(r);
      for (size_t i = 0; i < width; ++i)
        std::memcpy(codes + (k0 + static_cast<int64_t>(i)) * kApproxLanes + m0, &r[i], 8);
    }
  return (all & 0x8080808080808080ULL) != 0;
}

}  // namespace

struct ApproxLinear::Impl {
  ApproxLayer layer;
};

ApproxLinear::ApproxLinear(const ApproxLinearProblem& p)
    : impl_(new Impl{ApproxLayer(p.multiply, p.n, p.k, p.weight, "ApproxLinear")}) {}
ApproxLinear::~ApproxLinear() = default;
ApproxLinear::ApproxLinear(ApproxLinear&&) noexcept = default;
ApproxLinear& ApproxLinear::operator=(ApproxLinear&&) noexcept = default;

void ApproxLinear::Run(int64_t m, const uint8_t* x, int64_t x_stride, float* y,
                       int64_t y_stride) const {
  const ApproxLayer& layer = impl_->layer;
  const int64_t n = layer.n(), k = layer.k();
  if (m < 0 || x_stride < k || y_stride < n) {
    Fail(ErrorCode::kInvalidArgument, "ApproxLinear: M is ", m, ", row strides of x, y are ",
         x_stride, ", ", y_stride, "; expected M >= 0, strides >= K = ", k, " and N = ", n);
  }
  if (m == 0) return;
  const auto run = [&](int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    uint8_t* codes = BufferOfThread(kBufferRows, k * kApproxLanes);
    auto* block = reinterpret_cast<float*>(
        BufferOfThread(kBufferScratch, kApproxSums * int64_t{sizeof(float)}));
    const int64_t channels = ApproxChannels(m1 - m0), stride = CeilDiv(m1 - m0, 64) * 64;
    const bool negative = PackRows(x + m0 * x_stride, x_stride, m1 - m0, k, codes);
    for (int64_t c = n0; c < n1; c += channels) {
      const int64_t end = std::min(n1, c + channels);
      layer.Run(codes, m1 - m0, negative, c, end, block, stride);
      for (int64_t lane = 0; lane < m1 - m0; ++lane) {
        float* out = y + (m0 + lane) * y_stride;
        for (int64_t j = c; j < end; ++j) out[j] = block[(j - c) * stride + lane];
      }
    }
  };
  const int64_t threads = std::clamp<int64_t>(m * n * k / kGrainMacs, 1, MaxThreads());
  const int64_t rows = ApproxBlock(m), blocks = CeilDiv(m, rows);
  const int64_t parts =
      std::clamp<int64_t>(CeilDiv(threads, blocks), 1, CeilDiv(n, kApproxChannels));
  ParallelFor(blocks * parts, CeilDiv(blocks * parts, threads), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i / parts, part = i % parts;
      run(block * rows, std::min(m, (block + 1) * rows), ApproxCut(n, part, parts),
          ApproxCut(n, part + 1, parts));
    }
  });
}

const std::vector<Candidate>& ApproxLinear::candidates() const { return impl_->layer.candidates(); }
int64_t ApproxLinear::packed_bytes() const { return impl_->layer.packed_bytes(); }

}  // namespace octet::kernels
