// octet_depthwise_u8s8_portable: channels in blocks, products in int16 (|x * w| <= 255 * 128 fits),
// sums in int32. Layout kDepthwiseS16: weights (taps, C) int16.
#include <cstdint>

#include "kernels/abi.h"
#include "kernels/rounding_portable.h"

namespace octet::kernels {
namespace {

constexpr int64_t kBlock = 64;

// Modulo 2^32: a bias near int32's end may pass it before the sum comes back.
void Accumulate(const uint8_t* x, uint8_t flip, const int16_t* w, int64_t n, int32_t* acc) {
  for (int64_t c = 0; c < n; ++c) {
    const auto product = static_cast<int16_t>(static_cast<int16_t>(x[c] ^ flip) * w[c]);
    acc[c] = static_cast<int32_t>(static_cast<uint32_t>(acc[c]) + static_cast<uint32_t>(product));
  }
}

void Pixel(const DepthwiseArgs& d, int64_t oy, int64_t ox) {
  alignas(64) int32_t acc[kBlock];
  const int64_t out = (oy * d.out_width + ox) * d.channels;
  uint8_t* y = d.y + out * (d.epilogue.output == kStoreCodes ? 1 : 4);
  const uint8_t* r = d.r == nullptr ? nullptr : d.r + out;
  for (int64_t c0 = 0; c0 < d.channels; c0 += kBlock) {
    const int64_t n = d.channels - c0 < kBlock ? d.channels - c0 : kBlock;
    for (int64_t c = 0; c < n; ++c) acc[c] = d.epilogue.bias[c0 + c];
    for (int64_t ky = 0; ky < d.kernel_h; ++ky)
      for (int64_t kx = 0; kx < d.kernel_w; ++kx) {
        const int64_t iy = oy * d.stride_h + ky * d.dilation_h - d.pad_top;
        const int64_t ix = ox * d.stride_w + kx * d.dilation_w - d.pad_left;
        const bool inside = iy >= 0 && iy < d.height && ix >= 0 && ix < d.width;
        const uint8_t* pixel = inside ? d.x + (iy * d.width + ix) * d.channels : d.zero_pixel;
        const int16_t* w =
            static_cast<const int16_t*>(d.weight) + (ky * d.kernel_w + kx) * d.channels;
        Accumulate(pixel + c0, d.x_flip, w + c0, n, acc);
      }
    StorePixel(d.epilogue, acc, c0, n, r, y);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_depthwise_u8s8_portable(const octet::kernels::DepthwiseArgs* args) {
  for (int64_t oy = args->oy_begin; oy < args->oy_end; ++oy)
    for (int64_t ox = 0; ox < args->out_width; ++ox) octet::kernels::Pixel(*args, oy, ox);
}
