// Dynamic quantization of rows, 32 numbers at a time: one pass for the largest, one for the codes.
//
// Codes come from a multiplication by 1 / scale. It is off from the division by less than 3 units
// in the last place, 127 * 3 * 2^-24 < 3e-5, so only a product that near to half a code could round
// otherwise: a group of 32 that holds one is divided.
#include "kernels/epilogue_avx2.h"

namespace octet::kernels {
namespace {

constexpr float kNearTie = 0.5F - 4e-5F;

OCTET_INLINE __m256 LoadRow(const float* x, int64_t left) {
  return left >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, Mask8(left));
}
OCTET_INLINE __m256 Abs(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), v); }

float LargestOf(const float* x, int64_t k) {
  __m256 largest[4];
  OCTET_UNROLL
  for (int v = 0; v < 4; ++v) largest[v] = _mm256_set1_ps(1e-8F);
  int64_t i = 0;
  // max keeps its second operand where the first is NaN.
  for (; i + 32 <= k; i += 32) {
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v)
      largest[v] = _mm256_max_ps(Abs(_mm256_loadu_ps(x + i + v * 8)), largest[v]);
  }
  for (; i < k; i += 8) largest[0] = _mm256_max_ps(Abs(LoadRow(x + i, k - i)), largest[0]);
  const __m256 all =
      _mm256_max_ps(_mm256_max_ps(largest[0], largest[1]), _mm256_max_ps(largest[2], largest[3]));
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, all);
  float best = lanes[0];
  for (int j = 1; j < 8; ++j) best = lanes[j] > best ? lanes[j] : best;
  return best;
}

// What lies above 127 (an infinite x, or a shared scale too small) saturates in the packs; so does
// what converts to -2^31: what is low or NaN, which min leaves in its second operand.
OCTET_INLINE __m256i Rounded(__m256 v) {
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(65536.0F), v));
}

void QuantizeRow(const float* x, int64_t k, float scale, uint8_t* y) {
  const __m256 inverse = _mm256_set1_ps(1.0F / scale), divisor = _mm256_set1_ps(scale);
  const __m256 near_tie = _mm256_set1_ps(kNearTie);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
  for (int64_t i = 0; i < k; i += 32) {
    __m256 v[4];
    __m256i codes[4];
    __m256 risky = _mm256_setzero_ps();
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) {
      v[j] = LoadRow(x + i + j * 8, k - i - j * 8);
      const __m256 product = _mm256_mul_ps(v[j], inverse);
      codes[j] = Rounded(product);
      const __m256 rest = Abs(_mm256_sub_ps(product, _mm256_cvtepi32_ps(codes[j])));
      // True for NaN as well: an infinite inverse meets zeros so.
      risky = _mm256_or_ps(risky, _mm256_cmp_ps(rest, near_tie, _CMP_NLT_UQ));
    }
    if (_mm256_movemask_ps(risky) != 0) {
      OCTET_UNROLL
      for (int j = 0; j < 4; ++j) codes[j] = Rounded(_mm256_div_ps(v[j], divisor));
    }
    const __m256i packed = _mm256_xor_si256(
        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]),
                                                       _mm256_packs_epi32(codes[2], codes[3])),
                                    order),
        sign);
    if (k - i >= 32) {
      Store256(y + i, packed);
    } else {
      StoreSome128(y + i, k - i, _mm256_castsi256_si128(packed));
      StoreSome128(y + i + 16, k - i - 16, _mm256_extracti128_si256(packed, 1));
    }
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_quantize_rows_avx2(const octet::kernels::QuantizeRowsArgs* args) {
  using namespace octet::kernels;
  const QuantizeRowsArgs& a = *args;
  for (int64_t i = 0; i < a.rows; ++i) {
    const float* x = a.x + i * a.x_stride;
    const float scale = a.shared_scale != 0.0F ? a.shared_scale : LargestOf(x, a.k) / 127.0F;
    a.scale[i] = scale;
    if (a.y != nullptr) QuantizeRow(x, a.k, scale, a.y + i * a.y_stride);
  }
}
