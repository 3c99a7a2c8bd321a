// octet_dense_u8s8_4x64_portable: int16 dot products in plain loops, which compilers turn into
// pmaddwd. Layout kRowsS16: weights (N, taps, kc) int16.
#include <cstdint>

#include "kernels/abi.h"
#include "kernels/rounding_portable.h"

namespace octet::kernels {
namespace {

constexpr int64_t kRows = 4, kChannels = 64, kChunk = 512;

// acc[i][n] += a[i][0..k) . w[n][0..k); |a * w| <= 32640 and k <= 512, so a chunk's sum is far from
// int32's ends.
void Dot(const int16_t (*a)[kChunk], const int16_t* w, int64_t w_stride, int64_t channels,
         int64_t k, int32_t (*acc)[kChannels]) {
  for (int64_t n = 0; n < channels; ++n) {
    const int16_t* wn = w + n * w_stride;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int64_t i = 0; i < k; ++i) {
      s0 += a[0][i] * wn[i];
      s1 += a[1][i] * wn[i];
      s2 += a[2][i] * wn[i];
      s3 += a[3][i] * wn[i];
    }
    const int32_t sums[kRows] = {s0, s1, s2, s3};
    for (int64_t i = 0; i < kRows; ++i) {
      acc[i][n] =
          static_cast<int32_t>(static_cast<uint32_t>(acc[i][n]) + static_cast<uint32_t>(sums[i]));
    }
  }
}

void Tile(const DenseArgs& d, int64_t row, int64_t rows, int64_t n0, int64_t channels) {
  alignas(64) int32_t acc[kRows][kChannels];
  alignas(64) int16_t a[kRows][kChunk];
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t n = 0; n < channels; ++n) acc[i][n] = d.epilogue.bias[n0 + n];
  const int64_t w_stride = d.taps * d.kc;
  const int16_t* w = static_cast<const int16_t*>(d.weight) + n0 * w_stride;
  const uint8_t* pixel[kRows];
  for (int64_t i = 0; i < kRows; ++i) {
    const int64_t from = row + (i < rows ? i : rows - 1);
    pixel[i] = d.a + (from / d.run * d.pitch + from % d.run) * d.lda;
  }
  for (int64_t t = 0; t < d.taps; ++t)
    for (int64_t k0 = 0; k0 < d.kc; k0 += kChunk) {
      const int64_t k = d.kc - k0 < kChunk ? d.kc - k0 : kChunk;
      for (int64_t i = 0; i < kRows; ++i) {
        const uint8_t* piece = pixel[i] + d.tap_offset[t] + k0;
        for (int64_t j = 0; j < k; ++j) a[i][j] = piece[j];
      }
      Dot(a, w + t * d.kc + k0, w_stride, channels, k, acc);
    }
  for (int64_t i = 0; i < rows; ++i) {
    const uint8_t* r = d.r == nullptr ? nullptr : d.r + (row + i) * d.r_stride;
    const float* scale = d.epilogue.row_scale;
    StorePixel(d.epilogue, acc[i], n0, channels, r, d.y + (row + i) * d.y_stride,
               scale == nullptr ? nullptr : scale + row + i);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_dense_u8s8_4x64_portable(const octet::kernels::DenseArgs* args) {
  using namespace octet::kernels;
  const DenseArgs& d = *args;
  for (int64_t row = 0; row < d.m; row += kRows) {
    const int64_t rows = d.m - row < kRows ? d.m - row : kRows;
    for (int64_t n = d.n_begin; n < d.n_end; n += kChannels) {
      Tile(d, row, rows, n, d.n_end - n < kChannels ? d.n_end - n : kChannels);
    }
  }
}
