// Vectors of 64, 32 and 16 channels for the depthwise kernel files of the avx512vnni level
// (internal linkage throughout), and the interleaving that puts a channel's taps side by side.
#pragma once

#include "kernels/epilogue_avx512vnni.h"

namespace octet::kernels {
namespace {

// The same operations on 64, 32 and 16 channels.
struct Wide {
  typedef __m512i Int;
  typedef __m512 Float;
  static constexpr int64_t kChannels = 64;
  OCTET_INLINE Int Load(const void* p) { return _mm512_loadu_si512(p); }
  OCTET_INLINE Int LoadSome(const void* p, uint64_t mask) {
    return _mm512_maskz_loadu_epi8(mask, p);
  }
  OCTET_INLINE void Store(uint8_t* p, Int v) { _mm512_storeu_si512(p, v); }
  OCTET_INLINE void StoreSome(uint8_t* p, uint64_t mask, Int v) {
    _mm512_mask_storeu_epi8(p, mask, v);
  }
  OCTET_INLINE Int Set8(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  OCTET_INLINE Int Set16(int v) { return _mm512_set1_epi16(static_cast<short>(v)); }
  OCTET_INLINE Int Xor(Int a, Int b) { return _mm512_xor_si512(a, b); }
  OCTET_INLINE Int LowBytes(Int a, Int b) { return _mm512_unpacklo_epi8(a, b); }
  OCTET_INLINE Int HighBytes(Int a, Int b) { return _mm512_unpackhi_epi8(a, b); }
  OCTET_INLINE Int LowWords(Int a, Int b) { return _mm512_unpacklo_epi16(a, b); }
  OCTET_INLINE Int HighWords(Int a, Int b) { return _mm512_unpackhi_epi16(a, b); }
  template <bool kSmall>
  OCTET_INLINE Int Requantized(Int acc, const float* m) {
    return kSmall ? RequantizeSmall(AsAcc(acc), _mm512_loadu_ps(m))
                  : Requantize(AsAcc(acc), _mm512_loadu_ps(m));
  }
  OCTET_INLINE Int Pack32(Int a, Int b) { return _mm512_packs_epi32(a, b); }
  OCTET_INLINE Int Pack16(Int a, Int b) { return _mm512_packus_epi16(a, b); }
  OCTET_INLINE Int Add16(Int a, Int b) { return _mm512_adds_epi16(a, b); }
  OCTET_INLINE Int Clamp8(Int v, Int lo, Int hi) {
    return _mm512_min_epu8(_mm512_max_epu8(v, lo), hi);
  }
  OCTET_INLINE Int Dot4(Int acc, Int x, Int w) { return AsInt(Dot(AsAcc(acc), x, w)); }
};

struct Middle {
  typedef __m256i Int;
  static constexpr int64_t kChannels = 32;
  OCTET_INLINE Int Load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  OCTET_INLINE Int LoadSome(const void* p, uint64_t mask) {
    return _mm256_maskz_loadu_epi8(static_cast<__mmask32>(mask), p);
  }
  OCTET_INLINE void Store(uint8_t* p, Int v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  OCTET_INLINE void StoreSome(uint8_t* p, uint64_t mask, Int v) {
    _mm256_mask_storeu_epi8(p, static_cast<__mmask32>(mask), v);
  }
  OCTET_INLINE Int Set8(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
  OCTET_INLINE Int Set16(int v) { return _mm256_set1_epi16(static_cast<short>(v)); }
  OCTET_INLINE Int Xor(Int a, Int b) { return _mm256_xor_si256(a, b); }
  OCTET_INLINE Int LowBytes(Int a, Int b) { return _mm256_unpacklo_epi8(a, b); }
  OCTET_INLINE Int HighBytes(Int a, Int b) { return _mm256_unpackhi_epi8(a, b); }
  OCTET_INLINE Int LowWords(Int a, Int b) { return _mm256_unpacklo_epi16(a, b); }
  OCTET_INLINE Int HighWords(Int a, Int b) { return _mm256_unpackhi_epi16(a, b); }
  template <bool kSmall>
  OCTET_INLINE Int Requantized(Int acc, const float* m) {
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(m));
    return _mm256_cvtps_epi32(kSmall ? v : _mm256_min_ps(v, _mm256_set1_ps(65536.0F)));
  }
  OCTET_INLINE Int Pack32(Int a, Int b) { return _mm256_packs_epi32(a, b); }
  OCTET_INLINE Int Pack16(Int a, Int b) { return _mm256_packus_epi16(a, b); }
  OCTET_INLINE Int Add16(Int a, Int b) { return _mm256_adds_epi16(a, b); }
  OCTET_INLINE Int Clamp8(Int v, Int lo, Int hi) {
    return _mm256_min_epu8(_mm256_max_epu8(v, lo), hi);
  }
  OCTET_INLINE Int Dot4(Int acc, Int x, Int w) { return _mm256_dpbusd_epi32(acc, x, w); }
};

struct Narrow {
  typedef __m128i Int;
  static constexpr int64_t kChannels = 16;
  OCTET_INLINE Int Load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  OCTET_INLINE Int LoadSome(const void* p, uint64_t mask) {
    return _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), p);
  }
  OCTET_INLINE void Store(uint8_t* p, Int v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
  OCTET_INLINE void StoreSome(uint8_t* p, uint64_t mask, Int v) {
    _mm_mask_storeu_epi8(p, static_cast<__mmask16>(mask), v);
  }
  OCTET_INLINE Int Set8(int v) { return _mm_set1_epi8(static_cast<char>(v)); }
  OCTET_INLINE Int Set16(int v) { return _mm_set1_epi16(static_cast<short>(v)); }
  OCTET_INLINE Int Xor(Int a, Int b) { return _mm_xor_si128(a, b); }
  OCTET_INLINE Int LowBytes(Int a, Int b) { return _mm_unpacklo_epi8(a, b); }
  OCTET_INLINE Int HighBytes(Int a, Int b) { return _mm_unpackhi_epi8(a, b); }
  OCTET_INLINE Int LowWords(Int a, Int b) { return _mm_unpacklo_epi16(a, b); }
  OCTET_INLINE Int HighWords(Int a, Int b) { return _mm_unpackhi_epi16(a, b); }
  template <bool kSmall>
  OCTET_INLINE Int Requantized(Int acc, const float* m) {
    const __m128 v = _mm_mul_ps(_mm_cvtepi32_ps(acc), _mm_loadu_ps(m));
    return _mm_cvtps_epi32(kSmall ? v : _mm_min_ps(v, _mm_set1_ps(65536.0F)));
  }
  OCTET_INLINE Int Pack32(Int a, Int b) { return _mm_packs_epi32(a, b); }
  OCTET_INLINE Int Pack16(Int a, Int b) { return _mm_packus_epi16(a, b); }
  OCTET_INLINE Int Add16(Int a, Int b) { return _mm_adds_epi16(a, b); }
  OCTET_INLINE Int Clamp8(Int v, Int lo, Int hi) { return _mm_min_epu8(_mm_max_epu8(v, lo), hi); }
  OCTET_INLINE Int Dot4(Int acc, Int x, Int w) { return _mm_dpbusd_epi32(acc, x, w); }
};

// Unsigned codes in and out, no residual, nothing to clamp before it is rounded: the usual case,
// for which a third of the instructions can be left out.
OCTET_INLINE bool IsPlain(const DepthwiseArgs& d) {
  const EpilogueArgs& e = d.epilogue;
  return d.x_flip == 0 && e.y_flip == 0 && e.small && e.output == kStoreCodes &&
         e.residual == kNoResidual;
}

// Up to four input rows, from channel c on. Those outside the image read the zero pixel, at step 0.
struct InputRows {
  const uint8_t* base[4];
  int64_t step[4];
};

OCTET_INLINE InputRows RowsFrom(const DepthwiseArgs& d, int64_t first, int64_t count, int64_t c) {
  InputRows rows{};
  for (int64_t i = 0; i < count; ++i) {
    const int64_t iy = first + i;
    const bool inside = iy >= 0 && iy < d.height;
    rows.base[i] = (inside ? d.x + iy * d.width * d.channels : d.zero_pixel) + c;
    rows.step[i] = inside ? d.channels : 0;
  }
  return rows;
}

template <class V>
struct Quad {
  typename V::Int v[4];
};

// Four pixels (already unsigned) -> dword per channel, in the order of pack.h.
template <class V>
OCTET_INLINE Quad<V> Interleave(typename V::Int p0, typename V::Int p1, typename V::Int p2,
                                typename V::Int p3) {
  const auto low01 = V::LowBytes(p0, p1), high01 = V::HighBytes(p0, p1);
  const auto low23 = V::LowBytes(p2, p3), high23 = V::HighBytes(p2, p3);
  return {{V::LowWords(low01, low23), V::HighWords(low01, low23), V::LowWords(high01, high23),
           V::HighWords(high01, high23)}};
}

template <class V>
OCTET_INLINE void DotQuad(Quad<V>* acc, const Quad<V>& x, const int8_t* w) {
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) acc->v[j] = V::Dot4(acc->v[j], x.v[j], V::Load(w + j * V::kChannels));
}

}  // namespace
}  // namespace octet::kernels
