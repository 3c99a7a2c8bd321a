// octet_fp8_linear_portable: a table of 256 floats, and std::fma, which is exact on every CPU.
#include <cmath>

#include "kernels/linear_abi.h"

namespace octet::kernels {
namespace {

// What a code counts as: both formats with the exponent bias 15 of IEEE half, which is E5M2's, and
// leaves 2^-8 of E4M3's values. NaN codes of E4M3 do not come here.
float ValueOf(Fp8Format format, int code) {
  const int mantissa_bits = format == kFp8E4M3 ? 3 : 2;
  const int exponent = (code & 0x7f) >> mantissa_bits;
  const int mantissa = code & ((1 << mantissa_bits) - 1);
  const float sign = (code & 0x80) != 0 ? -1.0F : 1.0F;
  if (format == kFp8E5M2 && exponent == 31) return mantissa != 0 ? std::nanf("") : sign * HUGE_VALF;
  const int whole = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  return sign *
         std::ldexp(static_cast<float>(whole), (exponent == 0 ? 1 : exponent) - 15 - mantissa_bits);
}

struct Table {
  float value[2][256];
  Table() {
    for (int code = 0; code < 256; ++code) {
      value[kFp8E4M3][code] = ValueOf(kFp8E4M3, code);
      value[kFp8E5M2][code] = ValueOf(kFp8E5M2, code);
    }
  }
};

// Where channel c of a panel's 64 lies.
int64_t PlaceOf(int64_t c) { return c / 32 * 32 + c % 16 * 2 + c % 32 / 16; }

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_fp8_linear_portable(const octet::kernels::Fp8LinearArgs* args) {
  using namespace octet::kernels;
  static const Table table;
  const Fp8LinearArgs& a = *args;
  const float* value = table.value[a.format];
  for (int64_t n = a.n_begin; n < a.n_end; ++n) {
    const uint8_t* w = a.weight + n / 64 * 64 * a.k + PlaceOf(n % 64);
    for (int64_t m = 0; m < a.m; ++m) {
      const float* x = a.x + m * a.x_stride;
      float total = 0.0F;
      for (int64_t k0 = 0; k0 < a.k; k0 += kFp8Block) {
        const int64_t end = a.k - k0 < kFp8Block ? a.k : k0 + kFp8Block;
        float sum = 0.0F;
        for (int64_t k = k0; k < end; ++k) sum = std::fma(x[k], value[w[k * 64]], sum);
        total = total + sum;
      }
      a.y[m * a.y_stride + n] = std::fma(total, a.scale[n], a.bias[n]);
    }
  }
}
