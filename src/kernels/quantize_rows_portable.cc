// Dynamic quantization of rows, by the definition.
#include <cmath>
#include <cstdint>

#include "kernels/abi.h"

extern "C" void octet_quantize_rows_portable(const octet::kernels::QuantizeRowsArgs* args) {
  const auto& a = *args;
  for (int64_t i = 0; i < a.rows; ++i) {
    const float* x = a.x + i * a.x_stride;
    float scale = a.shared_scale;
    if (scale == 0.0F) {
      float largest = 1e-8F;
      for (int64_t k = 0; k < a.k; ++k) {
        const float v = std::fabs(x[k]);
        largest = v > largest ? v : largest;
      }
      scale = largest / 127.0F;
    }
    a.scale[i] = scale;
    if (a.y == nullptr) continue;
    uint8_t* y = a.y + i * a.y_stride;
    for (int64_t k = 0; k < a.k; ++k) {
      float v = x[k] / scale;
      v = v > -128.0F ? v : -128.0F;  // NaN, too
      v = v < 127.0F ? v : 127.0F;
      y[k] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(v)) + 128);
    }
  }
}
