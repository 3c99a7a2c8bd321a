// The epilogue on 16-lane accumulators, for kernel files of the avx512vnni level only (internal
// linkage throughout).
//
// Codes: float(acc) * multiplier, min with 2^16, vcvtps2dq (nearest even), then saturating packs:
// int32 -> int16,
// + zero point, int16 -> uint8, bounds. Rounding before clamping to integer bounds gives what
// clamping first gives; what is below -2^31 (or NaN, which finite multipliers exclude) converts to
// -2^31 and saturates to the lowest.
#pragma once

// g++ 12 warns of its own headers' _mm512_undefined_*() (GCC bug 105593).
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>
#include <stdint.h>

#include "kernels/abi.h"

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512VL__) || \
    !defined(__AVX512DQ__)
#error "this file needs -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"
#endif

#define OCTET_INLINE [[maybe_unused]] static inline __attribute__((always_inline))
#if defined(__clang__)
#define OCTET_UNROLL _Pragma("unroll")
#else
#define OCTET_UNROLL _Pragma("GCC unroll 64")
#endif

namespace octet::kernels {
namespace {

// acc += a (u8) . b (s8) per dword. g++ 12 copies accumulators around its own intrinsic (GCC bug
// 94663) unless they are plain vectors and the builtin is called directly.
#if defined(__clang__)
typedef __m512i Acc;
OCTET_INLINE Acc Dot(Acc acc, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(acc, a, b); }
#else
typedef int Acc __attribute__((vector_size(64)));
OCTET_INLINE Acc Dot(Acc acc, __m512i a, __m512i b) {
  return __builtin_ia32_vpdpbusd_v16si(acc, reinterpret_cast<Acc>(a), reinterpret_cast<Acc>(b));
}
#endif

OCTET_INLINE __m512i AsInt(Acc a) { return reinterpret_cast<__m512i>(a); }
OCTET_INLINE Acc AsAcc(__m512i a) { return reinterpret_cast<Acc>(a); }

// The first n lanes; none for n <= 0.
OCTET_INLINE __mmask16 Mask16(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}
OCTET_INLINE __mmask64 Mask64(int64_t n) {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}

// max and min keep the bound where v is NaN: v is the first operand.
OCTET_INLINE __m512 ClampPs(__m512 v, __m512 lo, __m512 hi) {
  return _mm512_min_ps(_mm512_max_ps(v, lo), hi);
}

// Code minus zero point, not yet saturated to 8 bits.
OCTET_INLINE __m512i RoundToCode(__m512 v) {
  return _mm512_cvtps_epi32(_mm512_min_ps(v, _mm512_set1_ps(65536.0F)));
}

OCTET_INLINE __m512i Requantize(Acc acc, __m512 multiplier) {
  return RoundToCode(_mm512_mul_ps(_mm512_cvtepi32_ps(AsInt(acc)), multiplier));
}

// Where every multiplier is small: no product leaves int32.
OCTET_INLINE __m512i RequantizeSmall(Acc acc, __m512 multiplier) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(AsInt(acc)), multiplier));
}

// float(r - r_zero_point) * r_ratio of 16 residual codes.
OCTET_INLINE __m512 ResidualOf(const EpilogueArgs& e, __m128i r) {
  const __m512i codes =
      _mm512_cvtepu8_epi32(_mm_xor_si128(r, _mm_set1_epi8(static_cast<char>(e.r_flip))));
  return _mm512_mul_ps(
      _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, _mm512_set1_epi32(e.r_zero_point))),
      _mm512_set1_ps(e.r_ratio));
}

// The sum that a residual joins: float(acc) * multiplier, or what its middle code stands for.
OCTET_INLINE __m512 BeforeResidual(const EpilogueArgs& e, Acc acc, __m512 multiplier) {
  __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(AsInt(acc)), multiplier);
  if (e.residual == kResidualOnMidCodes) {
    v = ClampPs(v, _mm512_set1_ps(e.mid_lo), _mm512_set1_ps(e.mid_hi));
    v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtps_epi32(v)), _mm512_set1_ps(e.mid_ratio));
  }
  return v;
}

// With a residual: r holds 16 residual codes.
OCTET_INLINE __m512i RequantizeAdd(const EpilogueArgs& e, Acc acc, __m512 multiplier, __m128i r) {
  return RoundToCode(_mm512_add_ps(BeforeResidual(e, acc, multiplier), ResidualOf(e, r)));
}

// The zero point as PackCodes takes it. Made once per tile: a store of bytes may alias the
// arguments, so the compiler would broadcast it again for every row.
OCTET_INLINE __m512i Zero16(const EpilogueArgs& e) {
  return _mm512_set1_epi16(static_cast<short>(e.y_zero_point));
}
OCTET_INLINE __m512i Flip(const EpilogueArgs& e) {
  return _mm512_set1_epi8(static_cast<char>(e.y_flip));
}

// Four vectors of codes minus zero point -> 64 stored bytes in pack order: lane l holds v0.l, v1.l,
// v2.l, v3.l.
OCTET_INLINE __m512i PackCodes(__m512i v0, __m512i v1, __m512i v2, __m512i v3, __m512i zero) {
  const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v0, v1), zero);
  const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v2, v3), zero);
  return _mm512_packus_epi16(low, high);
}

OCTET_INLINE __m512i Bound(__m512i codes, __m512i lo, __m512i hi, __m512i flip) {
  return _mm512_xor_si512(_mm512_min_epu8(_mm512_max_epu8(codes, lo), hi), flip);
}

// One vector of 16 channels from c on: stored as int32 or float32. y: the pixel's channel 0.
// row_scale: the row's factor, or null.
OCTET_INLINE void StoreWide(const EpilogueArgs& e, Acc acc, int64_t c, __mmask16 mask, uint8_t* y,
                            const float* row_scale = nullptr) {
  if (e.output == kStoreInt32) {
    _mm512_mask_storeu_epi32(y + c * 4, mask, AsInt(acc));
  } else {
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(AsInt(acc)), _mm512_loadu_ps(e.multiplier + c));
    if (row_scale != nullptr) v = _mm512_mul_ps(v, _mm512_set1_ps(*row_scale));
    v = _mm512_add_ps(v, _mm512_loadu_ps(e.float_bias + c));
    v = ClampPs(v, _mm512_set1_ps(e.float_lo), _mm512_set1_ps(e.float_hi));
    _mm512_mask_storeu_ps(y + c * 4, mask, v);
  }
}

// Dword order that turns pack order into channel order.
OCTET_INLINE __m512i PackOrder() {
  return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

}  // namespace
}  // namespace octet::kernels
