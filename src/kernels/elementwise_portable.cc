// Quantize, dequantize and add, in plain loops.
#include <cstdint>

#include "kernels/abi.h"
#include "kernels/rounding_portable.h"

using namespace octet::kernels;

extern "C" {

void octet_extrema_portable(const ExtremaArgs* args) {
  float lo = 0.0F, hi = 0.0F;
  for (int64_t i = 0; i < args->n; ++i) {
    lo = args->x[i] < lo ? args->x[i] : lo;
    hi = args->x[i] > hi ? args->x[i] : hi;
  }
  args->extrema[0] = lo;
  args->extrema[1] = hi;
}

void octet_quantize_portable(const QuantizeArgs* args) {
  const QuantizeArgs q = *args;
  for (int64_t i = 0; i < q.n; ++i) {
    q.y[i] = static_cast<uint8_t>(RoundSmall(Clamp(q.x[i] / q.scale, q.lo, q.hi)) + q.zero_point);
  }
}

void octet_dequantize_portable(const DequantizeArgs* args) {
  const DequantizeArgs q = *args;
  for (int64_t i = 0; i < q.n; ++i) {
    q.y[i] = static_cast<float>((q.x[i] ^ q.x_flip) - q.zero_point) * q.scale;
  }
}

// Channel by channel: the reads are contiguous.
void octet_quantize_to_nhwc_portable(const QuantizeToNhwcArgs* args) {
  const QuantizeToNhwcArgs q = *args;
  for (int64_t c = 0; c < q.channels; ++c) {
    const float* x = q.x + c * q.space;
    for (int64_t i = q.begin; i < q.end; ++i) {
      q.y[i * q.channels + c] =
          static_cast<uint8_t>(RoundSmall(Clamp(x[i] / q.scale, q.lo, q.hi)) + q.zero_point);
    }
  }
}

void octet_dequantize_to_nchw_portable(const DequantizeToNchwArgs* args) {
  const DequantizeToNchwArgs q = *args;
  for (int64_t c = 0; c < q.channels; ++c)
    for (int64_t i = q.begin; i < q.end; ++i) {
      const int32_t code = q.x[i * q.channels + c] ^ q.x_flip;
      q.y[c * q.space + i] = static_cast<float>(code - q.zero_point) * q.scale;
    }
}

void octet_add_portable(const AddArgs* args) {
  const AddArgs p = *args;
  for (int64_t i = 0; i < p.n; ++i) {
    const float fa = static_cast<float>((p.a[i] ^ p.flip) - p.a_zero_point) * p.a_ratio;
    const float fb = static_cast<float>((p.b[i] ^ p.flip) - p.b_zero_point) * p.b_ratio;
    p.y[i] =
        static_cast<uint8_t>((RoundSmall(Clamp(fa + fb, p.lo, p.hi)) + p.y_zero_point) ^ p.flip);
  }
}

}  // extern "C"
