// The epilogue for kernels of the portable level, on int32 accumulators in memory. Written so that
// a compiler vectorises it for baseline x86-64, which has no rounding instruction.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/abi.h"

namespace octet::kernels {
namespace {

// rne(v) for |v| <= 2^22, exactly: adding 1.5 * 2^23 leaves no bits for a fraction, and the sum is
// rounded to nearest even like every other.
[[maybe_unused]] inline int32_t RoundSmall(float v) {
  const float shifted = v + 12582912.0F;
  int32_t bits = 0;
  std::memcpy(&bits, &shifted, 4);
  return bits - 0x4B400000;
}

[[maybe_unused]] inline float Clamp(float v, float lo, float hi) {
  v = v > lo ? v : lo;
  return v < hi ? v : hi;
}

[[maybe_unused]] inline uint8_t StoredCode(float v, const EpilogueArgs& e, int64_t c) {
  const auto lo = static_cast<float>(e.lo[c] - e.y_zero_point);
  const auto hi = static_cast<float>(e.hi[c] - e.y_zero_point);
  return static_cast<uint8_t>((RoundSmall(Clamp(v, lo, hi)) + e.y_zero_point) ^ e.y_flip);
}

// acc (bias included) of channels [c0, c0 + n) -> y, r: the pixel's channel 0. row_scale: the row's
// factor, or null.
[[maybe_unused]] inline void StorePixel(const EpilogueArgs& e, const int32_t* acc, int64_t c0,
                                        int64_t n, const uint8_t* r, uint8_t* y,
                                        const float* row_scale = nullptr) {
  if (e.output == kStoreInt32) {
    std::memcpy(y + c0 * 4, acc, static_cast<size_t>(n) * 4);
  } else if (e.output == kStoreFloat) {
    for (int64_t i = 0; i < n; ++i) {
      float v = static_cast<float>(acc[i]) * e.multiplier[c0 + i];
      if (row_scale != nullptr) v *= *row_scale;
      v = Clamp(v + e.float_bias[c0 + i], e.float_lo, e.float_hi);
      std::memcpy(y + (c0 + i) * 4, &v, 4);
    }
  } else if (e.residual == kNoResidual) {
    for (int64_t i = 0; i < n; ++i) {
      y[c0 + i] = StoredCode(static_cast<float>(acc[i]) * e.multiplier[c0 + i], e, c0 + i);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      float v = static_cast<float>(acc[i]) * e.multiplier[c0 + i];
      if (e.residual == kResidualOnMidCodes) {
        v = static_cast<float>(RoundSmall(Clamp(v, e.mid_lo, e.mid_hi))) * e.mid_ratio;
      }
      const float fr = static_cast<float>((r[c0 + i] ^ e.r_flip) - e.r_zero_point) * e.r_ratio;
      y[c0 + i] = StoredCode(v + fr, e, c0 + i);
    }
  }
}

}  // namespace
}  // namespace octet::kernels
