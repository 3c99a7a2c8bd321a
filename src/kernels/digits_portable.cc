// Rows of floats as base-256 digits, and their products joined again, in plain loops.
#include <cmath>
#include <cstring>

#include "kernels/linear_abi.h"

namespace octet::kernels {
namespace {

// rne(v), modulo 2^32, for |v| <= 2^31: adding 1.5 * 2^52 leaves no bits for a fraction.
uint32_t RoundedBits(float v) {
  const double shifted = static_cast<double>(v) + 0x1.8p52;
  uint64_t bits = 0;
  std::memcpy(&bits, &shifted, 8);
  return static_cast<uint32_t>(bits);
}

void SplitRow(const float* x, int64_t k, uint8_t* digits, int64_t lda, float* step) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < k; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7fffffffU;
    largest = bits > largest ? bits : largest;
  }
  const DigitScale scale = ScaleForLargest(largest);
  *step = scale.step;
  for (int64_t i = 0; i < k; ++i) {
    // Of a row that is not finite any digits will do.
    const float v = std::isfinite(scale.step) ? x[i] * scale.inverse : 0.0F;
    const uint32_t u = RoundedBits(v) + uint32_t{kDigitsOffset};
    digits[i] = static_cast<uint8_t>(u);
    digits[lda + i] = static_cast<uint8_t>(u >> 8);
    digits[2 * lda + i] = static_cast<uint8_t>(u >> 16);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" {

void octet_split_rows_portable(const octet::kernels::SplitRowsArgs* args) {
  const octet::kernels::SplitRowsArgs& a = *args;
  for (int64_t i = 0; i < a.rows; ++i) {
    octet::kernels::SplitRow(a.x + i * a.x_stride, a.k, a.digits + 3 * i * a.lda, a.lda,
                             a.step + i);
  }
}

void octet_join_digits_portable(const octet::kernels::JoinDigitsArgs* args) {
  const octet::kernels::JoinDigitsArgs& a = *args;
  for (int64_t i = 0; i < a.rows; ++i) {
    const int32_t* s = a.sums + 3 * i * a.sums_stride;
    double* total = a.first && a.last ? nullptr : a.total + i * a.total_stride;
    const auto step = static_cast<double>(a.step[i]);
    for (int64_t n = 0; n < a.n; ++n) {
      const double sum = (static_cast<double>(s[2 * a.sums_stride + n]) * 256.0 +
                          static_cast<double>(s[a.sums_stride + n])) *
                             256.0 +
                         static_cast<double>(s[n]);
      double t = sum * static_cast<double>(a.scale[n]);
      if (!a.first) t = total[n] + t;
      if (a.last) {
        a.y[i * a.y_stride + n] = static_cast<float>(t * step + static_cast<double>(a.bias[n]));
      } else {
        total[n] = t;
      }
    }
  }
}

}  // extern "C"
