// Rows of floats as base-256 digits, and their products joined again, in vectors.
#include "kernels/epilogue_avx512vnni.h"
#include "kernels/linear_abi.h"

namespace octet::kernels {
namespace {

void SplitRow(const float* x, int64_t k, uint8_t* digits, int64_t lda, float* step) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < k; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(Mask16(k - i), x + i);
    largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(v), magnitude));
  }
  const DigitScale scale = ScaleForLargest(_mm512_reduce_max_epu32(largest));
  *step = scale.step;
  // Of a row that is not finite any digits will do.
  const __m512 inverse = _mm512_set1_ps(scale.inverse);
  const __m512i offset = _mm512_set1_epi32(kDigitsOffset);
  for (int64_t i = 0; i < k; i += 16) {
    const __mmask16 some = Mask16(k - i);
    const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(some, x + i), inverse);
    const __m512i u = _mm512_add_epi32(_mm512_cvtps_epi32(v), offset);
    _mm512_mask_cvtepi32_storeu_epi8(digits + i, some, u);
    _mm512_mask_cvtepi32_storeu_epi8(digits + lda + i, some, _mm512_srli_epi32(u, 8));
    _mm512_mask_cvtepi32_storeu_epi8(digits + 2 * lda + i, some, _mm512_srli_epi32(u, 16));
  }
}

// Eight columns, or the first of them.
template <bool kWhole>
OCTET_INLINE __m512d Doubles(const int32_t* p, __mmask8 some) {
  const auto* at = reinterpret_cast<const __m256i*>(p);
  return _mm512_cvtepi32_pd(kWhole ? _mm256_loadu_si256(at) : _mm256_maskz_loadu_epi32(some, p));
}
template <bool kWhole>
OCTET_INLINE __m512d Doubles(const float* p, __mmask8 some) {
  return _mm512_cvtps_pd(kWhole ? _mm256_loadu_ps(p) : _mm256_maskz_loadu_ps(some, p));
}

// Columns [n, n + 8), or those in `some`, of row i.
template <bool kFirst, bool kLast, bool kWhole>
OCTET_INLINE void JoinColumns(const JoinDigitsArgs& a, const int32_t* s, double* total, float* y,
                              __m512d step, int64_t n, __mmask8 some) {
  const __m512d base = _mm512_set1_pd(256.0);
  // These two are exact, fused or not.
  __m512d t = _mm512_fmadd_pd(Doubles<kWhole>(s + 2 * a.sums_stride + n, some), base,
                              Doubles<kWhole>(s + a.sums_stride + n, some));
  t = _mm512_fmadd_pd(t, base, Doubles<kWhole>(s + n, some));
  t = _mm512_mul_pd(t, Doubles<kWhole>(a.scale + n, some));
  if (!kFirst) t = _mm512_add_pd(_mm512_maskz_loadu_pd(some, total + n), t);
  if (kLast) {
    t = _mm512_add_pd(_mm512_mul_pd(t, step), Doubles<kWhole>(a.bias + n, some));
    _mm256_mask_storeu_ps(y + n, some, _mm512_cvtpd_ps(t));
  } else {
    _mm512_mask_storeu_pd(total + n, some, t);
  }
}

template <bool kFirst, bool kLast>
OCTET_INLINE void Join(const JoinDigitsArgs& a) {
  const int64_t whole = a.n / 8 * 8;
  const auto rest = static_cast<__mmask8>(Mask16(a.n - whole));
  for (int64_t i = 0; i < a.rows; ++i) {
    const int32_t* s = a.sums + 3 * i * a.sums_stride;
    double* total = kFirst && kLast ? nullptr : a.total + i * a.total_stride;
    float* y = kLast ? a.y + i * a.y_stride : nullptr;
    const __m512d step = _mm512_set1_pd(static_cast<double>(a.step[i]));
    for (int64_t n = 0; n < whole; n += 8)
      JoinColumns<kFirst, kLast, true>(a, s, total, y, step, n, 0xff);
    if (rest != 0) JoinColumns<kFirst, kLast, false>(a, s, total, y, step, whole, rest);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" {

void octet_split_rows_avx512vnni(const octet::kernels::SplitRowsArgs* args) {
  const octet::kernels::SplitRowsArgs& a = *args;
  for (int64_t i = 0; i < a.rows; ++i) {
    octet::kernels::SplitRow(a.x + i * a.x_stride, a.k, a.digits + 3 * i * a.lda, a.lda,
                             a.step + i);
  }
}

void octet_join_digits_avx512vnni(const octet::kernels::JoinDigitsArgs* args) {
  using namespace octet::kernels;
  const JoinDigitsArgs& a = *args;
  if (a.first) {
    a.last ? Join<true, true>(a) : Join<true, false>(a);
  } else {
    a.last ? Join<false, true>(a) : Join<false, false>(a);
  }
}

}  // extern "C"
