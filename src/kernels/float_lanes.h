// Vectors of floats as wide as the instruction set of the file that includes this, and the few
// functions that float kernels are made of. A kernel written with them gives the same bits at every
// width: elementwise arithmetic is IEEE addition, multiplication, division and square root without
// contraction (never a fused multiply-add), and sums run over kBlock partial sums in one order.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && !defined(__clang__)
// g++ 12 warns of its own headers' _mm512_undefined_*() (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define OCTET_LANES_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace octet::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float F __attribute__((vector_size(kLanes * 4)));
typedef int32_t I __attribute__((vector_size(kLanes * 4)));

OCTET_LANES_INLINE F Splat(float v) { return F{} + v; }
OCTET_LANES_INLINE I SplatInt(int32_t v) { return I{} + v; }
OCTET_LANES_INLINE I Bits(F v) { return reinterpret_cast<I>(v); }
OCTET_LANES_INLINE F FromBits(I v) { return reinterpret_cast<F>(v); }

// mask ? a : b, where lanes of the mask are all ones or all zeros.
OCTET_LANES_INLINE F Select(I mask, F a, F b) {
  return FromBits((mask & Bits(a)) | (~mask & Bits(b)));
}
// The second operand where either is NaN.
OCTET_LANES_INLINE F Max(F a, F b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  return Select(a > b, a, b);
#endif
}
OCTET_LANES_INLINE F Min(F a, F b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
  return _mm_min_ps(a, b);
#else
  return Select(a < b, a, b);
#endif
}
OCTET_LANES_INLINE F Abs(F v) { return FromBits(Bits(v) & SplatInt(0x7fffffff)); }
// |a| with the sign of b.
OCTET_LANES_INLINE F CopySign(F a, F b) {
  return FromBits((Bits(a) & SplatInt(0x7fffffff)) | (Bits(b) & SplatInt(INT32_MIN)));
}

// The low byte of every lane.
typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
OCTET_LANES_INLINE Bytes ToBytes(I v) {
#if defined(__AVX512F__)
  return reinterpret_cast<Bytes>(_mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v)));
#elif defined(__SSE2__)
  const I low = v & SplatInt(0xff);
  Bytes bytes;
#if defined(__AVX2__)
  const auto wide = reinterpret_cast<__m256i>(low);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
#else
  const __m128i words = _mm_packs_epi32(reinterpret_cast<__m128i>(low), _mm_setzero_si128());
#endif
  const __m128i packed = _mm_packus_epi16(words, words);
  memcpy(&bytes, &packed, sizeof(bytes));
  return bytes;
#else
  return __builtin_convertvector(v, Bytes);
#endif
}

OCTET_LANES_INLINE F Load(const float* p) {
  F v;
  memcpy(&v, p, sizeof(v));
  return v;
}
OCTET_LANES_INLINE void Store(float* p, F v) { memcpy(p, &v, sizeof(v)); }
// The first n lanes, 0 < n < kLanes; the others are `fill`.
OCTET_LANES_INLINE F LoadPart(const float* p, int64_t n, float fill) {
#if defined(__AVX512F__)
  return _mm512_mask_loadu_ps(Splat(fill), static_cast<__mmask16>((1U << n) - 1U), p);
#else
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < n ? p[i] : fill;
  return Load(lanes);
#endif
}
OCTET_LANES_INLINE void StorePart(float* p, F v, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << n) - 1U), v);
#else
  float lanes[kLanes];
  Store(lanes, v);
  memcpy(p, lanes, static_cast<size_t>(n) * 4);
#endif
}

// rne(v) for |v| <= 2^22, as float and as integer: adding 1.5 * 2^23 leaves no bits for a fraction.
OCTET_LANES_INLINE F RoundSmall(F v) { return (v + 12582912.0F) - 12582912.0F; }
OCTET_LANES_INLINE I RoundSmallInt(F v) { return Bits(v + 12582912.0F) - SplatInt(0x4B400000); }

#if defined(__clang__)
#define OCTET_LANES_UNROLL _Pragma("unroll")
#else
#define OCTET_LANES_UNROLL _Pragma("GCC unroll 16")
#endif

// Several vectors that go through a long chain of operations side by side: one chain alone leaves
// the vector units waiting for each result.
template <int kCount>
struct Pack {
  F v[kCount];
};
constexpr int kPack = kLanes == 16 ? 4 : 2;  // as many as the registers hold

template <int kCount, typename Function>
OCTET_LANES_INLINE Pack<kCount> Each(const Pack<kCount>& a, Function f) {
  Pack<kCount> r;
  OCTET_LANES_UNROLL
  for (int i = 0; i < kCount; ++i) r.v[i] = f(a.v[i]);
  return r;
}
template <int kCount, typename Function>
OCTET_LANES_INLINE Pack<kCount> Each(const Pack<kCount>& a, const Pack<kCount>& b, Function f) {
  Pack<kCount> r;
  OCTET_LANES_UNROLL
  for (int i = 0; i < kCount; ++i) r.v[i] = f(a.v[i], b.v[i]);
  return r;
}
// c[0] x^(n-1) + ... + c[n-1], by Horner's rule.
template <int kCount, int kTerms>
OCTET_LANES_INLINE Pack<kCount> Polynomial(const Pack<kCount>& x, const float (&c)[kTerms]) {
  Pack<kCount> p;
  OCTET_LANES_UNROLL
  for (int i = 0; i < kCount; ++i) p.v[i] = Splat(c[0]);
  OCTET_LANES_UNROLL
  for (int k = 1; k < kTerms; ++k) {
    OCTET_LANES_UNROLL
    for (int i = 0; i < kCount; ++i) p.v[i] = p.v[i] * x.v[i] + c[k];
  }
  return p;
}

// kBlock floats: what a sum keeps apart. Lane i of block sums holds elements i, i + kBlock, ...
constexpr int kBlock = 32;
constexpr int kVectors = kBlock / kLanes;
struct Block {
  F v[kVectors];
};

OCTET_LANES_INLINE Block SplatBlock(float value) {
  Block b;
  for (int i = 0; i < kVectors; ++i) b.v[i] = Splat(value);
  return b;
}

// Folds halves onto each other: 32 partial results to 16, 8, 4, 2, 1.
template <typename Fold>
OCTET_LANES_INLINE float Reduce(Block b, Fold fold) {
  for (int half = kVectors / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) b.v[i] = fold(b.v[i], b.v[i + half]);
#if defined(__AVX512F__)
  const F v = b.v[0];
  const auto eight = fold(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                          __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#elif defined(__AVX2__)
  const F eight = b.v[0];
#endif
#if defined(__AVX2__)
  const auto four = fold(__builtin_shufflevector(eight, eight, 0, 1, 2, 3),
                         __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
#else
  const F four = b.v[0];
#endif
  return fold(fold(four[0], four[2]), fold(four[1], four[3]));
}
OCTET_LANES_INLINE float Sum(const Block& b) {
  return Reduce(b, [](auto x, auto y) { return x + y; });
}

// Calls body(i, count) for every vector of [0, n): elements [i, i + count), all kLanes of them but
// perhaps for the last.
template <typename Body>
OCTET_LANES_INLINE void ForEachVector(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, int64_t{kLanes});
  if (i < n) body(i, n - i);
}

// Calls body(i, count, j) for every vector likewise; j is its place in its block, a constant once
// unrolled.
template <typename Body>
OCTET_LANES_INLINE void ForVectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    OCTET_LANES_UNROLL
    for (int j = 0; j < kVectors; ++j) body(i + j * kLanes, int64_t{kLanes}, j);
  }
  OCTET_LANES_UNROLL
  for (int j = 0; j < kVectors; ++j) {
    const int64_t at = i + j * kLanes;
    if (at < n) body(at, n - at < kLanes ? n - at : int64_t{kLanes}, j);
  }
}

}  // namespace
}  // namespace octet::kernels
