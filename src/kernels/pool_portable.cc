// Maximum and average over pixels, in plain loops.
#include <cstdint>

#include "kernels/abi.h"
#include "kernels/rounding_portable.h"

using namespace octet::kernels;

extern "C" {

void octet_max_pixels_portable(const MaxPixelsArgs* args) {
  const MaxPixelsArgs p = *args;
  for (int64_t i = 0; i < p.outputs; ++i) {
    const uint8_t* const* pixels = p.pixels + i * p.count;
    uint8_t* y = p.y + i * p.channels;
    for (int64_t c = 0; c < p.channels; ++c) y[c] = pixels[0][c] ^ p.flip;
    for (int64_t j = 1; j < p.count; ++j) {
      const uint8_t* x = pixels[j];
      for (int64_t c = 0; c < p.channels; ++c) {
        const auto v = static_cast<uint8_t>(x[c] ^ p.flip);
        y[c] = v > y[c] ? v : y[c];
      }
    }
    for (int64_t c = 0; c < p.channels; ++c) y[c] = static_cast<uint8_t>(y[c] ^ p.flip);
  }
}

void octet_average_pixels_portable(const AveragePixelsArgs* args) {
  const AveragePixelsArgs p = *args;
  constexpr int64_t kBlock = 64;
  const auto lo = static_cast<float>(-p.y_zero_point),
             hi = static_cast<float>(255 - p.y_zero_point);
  for (int64_t c0 = 0; c0 < p.channels; c0 += kBlock) {
    const int64_t n = p.channels - c0 < kBlock ? p.channels - c0 : kBlock;
    int32_t sum[kBlock];
    for (int64_t c = 0; c < n; ++c) sum[c] = p.bias;
    for (int64_t j = 0; j < p.count; ++j) {
      const uint8_t* x = (p.pixels != nullptr ? p.pixels[j] : p.first + j * p.stride) + c0;
      for (int64_t c = 0; c < n; ++c) sum[c] += x[c] ^ p.flip;
    }
    for (int64_t c = 0; c < n; ++c) {
      const float v = Clamp(static_cast<float>(sum[c]) * p.multiplier, lo, hi);
      p.y[c0 + c] = static_cast<uint8_t>((RoundSmall(v) + p.y_zero_point) ^ p.flip);
    }
  }
}

}  // extern "C"
