// Products of codes, in plain loops.
#include <cstdint>

#include "kernels/abi.h"
#include "kernels/rounding_portable.h"

using namespace octet::kernels;

extern "C" void octet_mul_portable(const MulArgs* args) {
  const MulArgs p = *args;
  for (int64_t r = 0; r < p.rows; ++r) {
    const uint8_t* a = p.a + r * p.n;
    uint8_t* y = p.y + r * p.n;
    for (int64_t i = 0; i < p.n; ++i) {
      const float fa = static_cast<float>((a[i] ^ p.flip) - p.a_zero_point) * p.a_scale;
      const float fb =
          p.b == nullptr
              ? p.factor[i]
              : static_cast<float>((p.b[r * p.n + i] ^ p.flip) - p.b_zero_point) * p.b_scale;
      const int32_t q = RoundSmall(Clamp(fa * fb / p.y_scale, p.lo, p.hi)) + p.y_zero_point;
      y[i] = static_cast<uint8_t>(q ^ p.flip);
    }
  }
}
