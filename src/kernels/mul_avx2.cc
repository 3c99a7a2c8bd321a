// Products of codes, 8 at a time.
#include "kernels/epilogue_avx2.h"

using namespace octet::kernels;

namespace octet::kernels {
namespace {

struct Real {
  __m128i flip;
  __m256i zero_point;
  __m256 scale;

  [[nodiscard]] __m256 operator()(__m128i codes) const {
    const __m256i q = _mm256_cvtepu8_epi32(_mm_xor_si128(codes, flip));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero_point)), scale);
  }
};

// The low 8 of up to 8 bytes.
OCTET_INLINE __m128i LoadCodes(const uint8_t* p, int64_t n) {
  if (n >= 8) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  alignas(8) uint8_t bytes[8] = {};
  for (int64_t i = 0; i < n; ++i) bytes[i] = p[i];
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes));
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_mul_avx2(const MulArgs* args) {
  const MulArgs& p = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(p.flip));
  const Real a_real = {flip, _mm256_set1_epi32(p.a_zero_point), _mm256_set1_ps(p.a_scale)};
  const Real b_real = {flip, _mm256_set1_epi32(p.b_zero_point), _mm256_set1_ps(p.b_scale)};
  const __m256 y_scale = _mm256_set1_ps(p.y_scale);
  const __m256 lo = _mm256_set1_ps(p.lo), hi = _mm256_set1_ps(p.hi);
  const __m256i y_zero = _mm256_set1_epi32(p.y_zero_point);
  for (int64_t r = 0; r < p.rows; ++r) {
    const uint8_t* a = p.a + r * p.n;
    uint8_t* y = p.y + r * p.n;
    for (int64_t i = 0; i < p.n; i += 8) {
      const int64_t left = p.n - i;
      const __m256 fa = a_real(LoadCodes(a + i, left));
      const __m256 fb = p.b != nullptr ? b_real(LoadCodes(p.b + r * p.n + i, left))
                        : left >= 8    ? _mm256_loadu_ps(p.factor + i)
                                       : _mm256_maskload_ps(p.factor + i, Mask8(left));
      const __m256 v = _mm256_div_ps(_mm256_mul_ps(fa, fb), y_scale);
      const __m256i q = _mm256_add_epi32(_mm256_cvtps_epi32(ClampPs(v, lo, hi)), y_zero);
      const __m256i words = _mm256_packs_epi32(q, q);
      const __m128i pairs =
          _mm_unpacklo_epi64(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
      const __m128i codes = _mm_xor_si128(_mm_packus_epi16(pairs, pairs), flip);
      if (left >= 8) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(y + i), codes);
      } else {
        alignas(16) uint8_t bytes[16];
        _mm_store_si128(reinterpret_cast<__m128i*>(bytes), codes);
        for (int64_t j = 0; j < left; ++j) y[i + j] = bytes[j];
      }
    }
  }
}
