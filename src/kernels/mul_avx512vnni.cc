// Products of codes, 64 at a time.
//
// First by one product, (a - zero point) * (a_scale * real(b) / y_scale): against the definition's
// two products and a division it is off by less than 6 units in the last place, 256 * 6 * 2^-24 <
// 1e-4 for what is not clamped, so only a number that near to half a code could round otherwise; a
// group that holds one is computed as defined.
#include "kernels/epilogue_avx512vnni.h"

using namespace octet::kernels;

namespace octet::kernels {
namespace {

constexpr float kNearTie = 0.5F - 1.2e-4F;

struct Codes {
  __m128i flip;
  __m512i zero_point;

  // code - zero point
  [[nodiscard]] __m512 operator()(__m128i codes) const {
    const __m512i q = _mm512_cvtepu8_epi32(_mm_xor_si128(codes, flip));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero_point));
  }
};

OCTET_INLINE __m128i LoadCodes(const uint8_t* p, int64_t left) {
  return left >= 16 ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))
                    : _mm_maskz_loadu_epi8(Mask16(left), p);
}

struct Multiplier {
  Codes a, b;
  __m512 a_scale, b_scale, y_scale, ratio, lo, hi;
  __m512i y_zero;
  __m512i flip;
  bool approximates;  // no number on the way leaves the range of normal floats

  // 64 products; `left` of the codes and factors are readable and wanted. b may be null.
  template <bool kFull>
  __attribute__((always_inline)) void Run(const uint8_t* pa, const uint8_t* pb, const float* factor,
                                          int64_t left, uint8_t* y) const {
    __m512 fa[4], fb[4];
    __m512i codes[4];
    __mmask16 risky = 0;
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int64_t here = kFull ? 16 : left - 16 * j;
      fa[j] = a(LoadCodes(pa + 16 * j, here));
      fb[j] = pb != nullptr ? _mm512_mul_ps(b(LoadCodes(pb + 16 * j, here)), b_scale)
              : kFull       ? _mm512_loadu_ps(factor + 16 * j)
                            : _mm512_maskz_loadu_ps(Mask16(here), factor + 16 * j);
      const __m512 v = ClampPs(_mm512_mul_ps(fa[j], _mm512_mul_ps(fb[j], ratio)), lo, hi);
      codes[j] = _mm512_cvtps_epi32(v);
      const __m512 rest = _mm512_abs_ps(_mm512_sub_ps(v, _mm512_cvtepi32_ps(codes[j])));
      risky = static_cast<__mmask16>(
          risky | _mm512_cmp_ps_mask(rest, _mm512_set1_ps(kNearTie), _CMP_NLT_UQ));
    }
    if (risky != 0 || !approximates) {
      OCTET_UNROLL
      for (int j = 0; j < 4; ++j) {
        const __m512 product = _mm512_mul_ps(_mm512_mul_ps(fa[j], a_scale), fb[j]);
        codes[j] = _mm512_cvtps_epi32(ClampPs(_mm512_div_ps(product, y_scale), lo, hi));
      }
    }
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) codes[j] = _mm512_add_epi32(codes[j], y_zero);
    const __m512i packed = _mm512_xor_si512(
        _mm512_permutexvar_epi32(PackOrder(),
                                 _mm512_packus_epi16(_mm512_packs_epi32(codes[0], codes[1]),
                                                     _mm512_packs_epi32(codes[2], codes[3]))),
        flip);
    if (kFull) {
      _mm512_storeu_si512(y, packed);
    } else {
      _mm512_mask_storeu_epi8(y, Mask64(left), packed);
    }
  }
};

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_mul_avx512vnni(const MulArgs* args) {
  const MulArgs& p = *args;
  const auto flip = static_cast<char>(p.flip);
  const float ratio = p.a_scale / p.y_scale;
  const auto normal = [](float s) { return s > 0x1p-60F && s < 0x1p60F; };
  // Factors below 2^-60 of the largest that counts make products below half a code.
  const Multiplier m = {{_mm_set1_epi8(flip), _mm512_set1_epi32(p.a_zero_point)},
                        {_mm_set1_epi8(flip), _mm512_set1_epi32(p.b_zero_point)},
                        _mm512_set1_ps(p.a_scale),
                        _mm512_set1_ps(p.b_scale),
                        _mm512_set1_ps(p.y_scale),
                        _mm512_set1_ps(ratio),
                        _mm512_set1_ps(p.lo),
                        _mm512_set1_ps(p.hi),
                        _mm512_set1_epi32(p.y_zero_point),
                        _mm512_set1_epi8(flip),
                        normal(p.a_scale) && normal(p.b_scale) && normal(p.y_scale)};
  for (int64_t r = 0; r < p.rows; ++r) {
    const uint8_t* a = p.a + r * p.n;
    const uint8_t* b = p.b == nullptr ? nullptr : p.b + r * p.n;
    uint8_t* y = p.y + r * p.n;
    int64_t i = 0;
    for (; i + 64 <= p.n; i += 64)
      m.Run<true>(a + i, b == nullptr ? nullptr : b + i, p.factor + i, 64, y + i);
    if (i < p.n) m.Run<false>(a + i, b == nullptr ? nullptr : b + i, p.factor + i, p.n - i, y + i);
  }
}
