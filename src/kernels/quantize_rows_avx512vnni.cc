// Dynamic quantization of rows, 64 numbers at a time: one pass for the largest, one for the codes.
//
// Codes come from a multiplication by 1 / scale. It is off from the division by less than 3 units
// in the last place, 127 * 3 * 2^-24 < 3e-5, so only a product that near to half a code could round
// otherwise: a group of 64 that holds one is divided.
#include "kernels/epilogue_avx512vnni.h"

namespace octet::kernels {
namespace {

constexpr float kNearTie = 0.5F - 4e-5F;

OCTET_INLINE __m512 LoadRow(const float* x, int64_t left) {
  return left >= 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(Mask16(left), x);
}

float LargestOf(const float* x, int64_t k) {
  __m512 largest[4];
  OCTET_UNROLL
  for (int v = 0; v < 4; ++v) largest[v] = _mm512_set1_ps(1e-8F);
  int64_t i = 0;
  // max keeps its second operand where the first is NaN.
  for (; i + 64 <= k; i += 64) {
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v)
      largest[v] = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + i + v * 16)), largest[v]);
  }
  for (; i < k; i += 16)
    largest[0] = _mm512_max_ps(_mm512_abs_ps(LoadRow(x + i, k - i)), largest[0]);
  return _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3])));
}

// What lies above 127 (an infinite x, or a shared scale too small) saturates in the packs; so does
// what converts to -2^31: after the clamp what is low or NaN, which min leaves in its second
// operand.
OCTET_INLINE __m512i Rounded(__m512 v) {
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(65536.0F), v));
}

void QuantizeRow(const float* x, int64_t k, float scale, uint8_t* y) {
  const __m512 inverse = _mm512_set1_ps(1.0F / scale), divisor = _mm512_set1_ps(scale);
  const __m512 near_tie = _mm512_set1_ps(kNearTie);
  const __m512i order = PackOrder(), sign = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int64_t i = 0; i < k; i += 64) {
    __m512 v[4];
    __m512i codes[4];
    __mmask16 risky = 0;
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) {
      v[j] = LoadRow(x + i + j * 16, k - i - j * 16);
      const __m512 product = _mm512_mul_ps(v[j], inverse);
      codes[j] = Rounded(product);
      const __m512 rest = _mm512_abs_ps(_mm512_sub_ps(product, _mm512_cvtepi32_ps(codes[j])));
      // True for NaN as well: an infinite inverse meets zeros so.
      risky = static_cast<__mmask16>(risky | _mm512_cmp_ps_mask(rest, near_tie, _CMP_NLT_UQ));
    }
    if (risky != 0) {
      OCTET_UNROLL
      for (int j = 0; j < 4; ++j) codes[j] = Rounded(_mm512_div_ps(v[j], divisor));
    }
    const __m512i packed = _mm512_xor_si512(
        _mm512_permutexvar_epi32(order, _mm512_packs_epi16(_mm512_packs_epi32(codes[0], codes[1]),
                                                           _mm512_packs_epi32(codes[2], codes[3]))),
        sign);
    if (k - i >= 64) {
      _mm512_storeu_si512(y + i, packed);
    } else {
      _mm512_mask_storeu_epi8(y + i, Mask64(k - i), packed);
    }
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_quantize_rows_avx512vnni(const octet::kernels::QuantizeRowsArgs* args) {
  using namespace octet::kernels;
  const QuantizeRowsArgs& a = *args;
  for (int64_t i = 0; i < a.rows; ++i) {
    const float* x = a.x + i * a.x_stride;
    const float scale = a.shared_scale != 0.0F ? a.shared_scale : LargestOf(x, a.k) / 127.0F;
    a.scale[i] = scale;
    if (a.y != nullptr) QuantizeRow(x, a.k, scale, a.y + i * a.y_stride);
  }
}
