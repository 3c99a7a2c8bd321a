// The epilogue on 8-lane accumulators, for kernel files of the avx2 and avxvnni levels (internal
// linkage throughout). A group is 16 channels of one row: two vectors.
//
// Codes: float(acc) * multiplier, min with 2^16, vcvtps2dq (nearest even), then saturating packs:
// int32 -> int16, + zero point, int16 -> uint8, bounds. Rounding before clamping to integer bounds
// gives what clamping first gives; what is below -2^31 converts to -2^31 and saturates to the
// lowest.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/abi.h"

#if !defined(__AVX2__) || defined(__AVX512F__)
#error "this file is for -mavx2 without AVX-512"
#endif

#define OCTET_INLINE [[maybe_unused]] static inline __attribute__((always_inline))
#if defined(__clang__)
#define OCTET_UNROLL _Pragma("unroll")
#else
#define OCTET_UNROLL _Pragma("GCC unroll 64")
#endif

namespace octet::kernels {
namespace {

OCTET_INLINE __m256i Load256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
OCTET_INLINE __m128i Load128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
OCTET_INLINE void Store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
OCTET_INLINE void Store128(void* p, __m128i v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }

// The first n of 16 bytes, zeros above.
OCTET_INLINE __m128i LoadSome128(const uint8_t* p, int64_t n) {
  if (n >= 16) return Load128(p);
  alignas(16) uint8_t some[16] = {};
  if (n > 0) memcpy(some, p, static_cast<size_t>(n));
  return Load128(some);
}
OCTET_INLINE void StoreSome128(uint8_t* p, int64_t n, __m128i v) {
  if (n >= 16) {
    Store128(p, v);
    return;
  }
  alignas(16) uint8_t some[16];
  Store128(some, v);
  if (n > 0) memcpy(p, some, static_cast<size_t>(n));
}

// The first n of 8 dwords: all ones in their lanes. None for n <= 0.
OCTET_INLINE __m256i Mask8(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n > 8 ? 8 : n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// max and min keep the bound where v is NaN: v is the first operand.
OCTET_INLINE __m256 ClampPs(__m256 v, __m256 lo, __m256 hi) {
  return _mm256_min_ps(_mm256_max_ps(v, lo), hi);
}

// Code minus zero point, not yet saturated to 8 bits.
OCTET_INLINE __m256i RoundToCode(__m256 v) {
  return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(65536.0F)));
}

OCTET_INLINE __m256 Product(__m256i acc, const float* multiplier) {
  return _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(multiplier));
}

// float(r - r_zero_point) * r_ratio of the low 8 residual codes.
OCTET_INLINE __m256 ResidualOf(const EpilogueArgs& e, __m128i r) {
  const __m256i codes =
      _mm256_cvtepu8_epi32(_mm_xor_si128(r, _mm_set1_epi8(static_cast<char>(e.r_flip))));
  return _mm256_mul_ps(
      _mm256_cvtepi32_ps(_mm256_sub_epi32(codes, _mm256_set1_epi32(e.r_zero_point))),
      _mm256_set1_ps(e.r_ratio));
}

// With a residual: the low 8 bytes of r hold its codes.
OCTET_INLINE __m256i RequantizeAdd(const EpilogueArgs& e, __m256i acc, const float* multiplier,
                                   __m128i r) {
  __m256 v = Product(acc, multiplier);
  if (e.residual == kResidualOnMidCodes) {
    v = ClampPs(v, _mm256_set1_ps(e.mid_lo), _mm256_set1_ps(e.mid_hi));
    v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtps_epi32(v)), _mm256_set1_ps(e.mid_ratio));
  }
  return RoundToCode(_mm256_add_ps(v, ResidualOf(e, r)));
}

// Two vectors of codes minus zero point -> 16 saturated int16 codes; lane l holds v0.l, v1.l.
OCTET_INLINE __m256i PackGroup(__m256i v0, __m256i v1, __m256i zero) {
  return _mm256_adds_epi16(_mm256_packs_epi32(v0, v1), zero);
}

// Two groups of PackGroup -> 16 bytes each, in channel order: the first in lane 0.
OCTET_INLINE __m256i PackGroups(__m256i first, __m256i second) {
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// What the epilogue of one group of channels needs. Made once per tile: a store of bytes may alias
// the arguments.
struct GroupBounds {
  __m256i zero, lo, hi, flip;
};
OCTET_INLINE GroupBounds BoundsOf(const EpilogueArgs& e, int64_t c) {
  return {_mm256_set1_epi16(static_cast<short>(e.y_zero_point)),
          _mm256_broadcastsi128_si256(Load128(e.lo + c)),
          _mm256_broadcastsi128_si256(Load128(e.hi + c)),
          _mm256_set1_epi8(static_cast<char>(e.y_flip))};
}
OCTET_INLINE __m256i Bound(const GroupBounds& b, __m256i codes) {
  return _mm256_xor_si256(_mm256_min_epu8(_mm256_max_epu8(codes, b.lo), b.hi), b.flip);
}

// The codes of a group, n of whose channels from c on are real. r: the row's residual channel 0.
OCTET_INLINE __m256i CodesOf(const EpilogueArgs& e, const GroupBounds& b, __m256i acc0,
                             __m256i acc1, int64_t c, int64_t n, const uint8_t* r) {
  if (e.residual == kNoResidual) {
    return PackGroup(RoundToCode(Product(acc0, e.multiplier + c)),
                     RoundToCode(Product(acc1, e.multiplier + c + 8)), b.zero);
  }
  const __m128i codes = LoadSome128(r + c, n);
  return PackGroup(RequantizeAdd(e, acc0, e.multiplier + c, codes),
                   RequantizeAdd(e, acc1, e.multiplier + c + 8, _mm_unpackhi_epi64(codes, codes)),
                   b.zero);
}

// One vector of n <= 8 channels from c on, stored as int32 or float32. y: the row's channel 0;
// row_scale: the row's factor, or null.
OCTET_INLINE void StoreWide(const EpilogueArgs& e, __m256i acc, int64_t c, int64_t n, uint8_t* y,
                            const float* row_scale) {
  const __m256i mask = Mask8(n);
  if (e.output == kStoreInt32) {
    _mm256_maskstore_epi32(reinterpret_cast<int*>(y) + c, mask, acc);
  } else {
    __m256 v = Product(acc, e.multiplier + c);
    if (row_scale != nullptr) v = _mm256_mul_ps(v, _mm256_set1_ps(*row_scale));
    v = _mm256_add_ps(v, _mm256_loadu_ps(e.float_bias + c));
    _mm256_maskstore_ps(reinterpret_cast<float*>(y) + c, mask,
                        ClampPs(v, _mm256_set1_ps(e.float_lo), _mm256_set1_ps(e.float_hi)));
  }
}

// Where rows of y, and of what joins them, start: channel 0 of the first.
struct RowsOut {
  uint8_t* y;
  int64_t y_stride;
  const uint8_t* r;  // null: none
  int64_t r_stride;
  const float* row_scale;  // null: none

  RowsOut(const DenseArgs& d, int64_t row)
      : y(d.y + row * d.y_stride),
        y_stride(d.y_stride),
        r(d.r == nullptr ? nullptr : d.r + row * d.r_stride),
        r_stride(d.r == nullptr ? 0 : d.r_stride),
        row_scale(d.epilogue.row_scale == nullptr ? nullptr : d.epilogue.row_scale + row) {}
  RowsOut(uint8_t* y_row, const uint8_t* r_row)
      : y(y_row), y_stride(0), r(r_row), r_stride(0), row_scale(nullptr) {}
};

// A group of kRows rows: channels from c on, n of them real. acc(i, v) gives vector v of row i.
template <int kRows, class Acc>
OCTET_INLINE void StoreGroup(const EpilogueArgs& e, const Acc& acc, int64_t c, int64_t n,
                             const RowsOut& out) {
  if (e.output != kStoreCodes) {
    OCTET_UNROLL
    for (int i = 0; i < kRows; ++i) {
      uint8_t* y = out.y + i * out.y_stride;
      const float* scale = out.row_scale == nullptr ? nullptr : out.row_scale + i;
      StoreWide(e, acc(i, 0), c, n, y, scale);
      StoreWide(e, acc(i, 1), c + 8, n - 8, y, scale);
    }
    return;
  }
  const GroupBounds b = BoundsOf(e, c);
  OCTET_UNROLL
  for (int i = 0; i < kRows; i += 2) {
    const __m256i first = CodesOf(e, b, acc(i, 0), acc(i, 1), c, n, out.r + i * out.r_stride);
    __m256i second = first;
    if (i + 1 < kRows) {
      second = CodesOf(e, b, acc(i + 1, 0), acc(i + 1, 1), c, n, out.r + (i + 1) * out.r_stride);
    }
    const __m256i codes = Bound(b, PackGroups(first, second));
    uint8_t* y = out.y + i * out.y_stride + c;
    StoreSome128(y, n, _mm256_castsi256_si128(codes));
    if (i + 1 < kRows) StoreSome128(y + out.y_stride, n, _mm256_extracti128_si256(codes, 1));
  }
}

}  // namespace
}  // namespace octet::kernels
