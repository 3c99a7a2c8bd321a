// octet_fp8_linear_avx512vnni: codes become IEEE halves by moving bits, these float32 by
// vcvtph2ps, which takes subnormal ones at full speed.
//
// Few rows: codes are decoded beside the multiply-adds, 64 channels at a time. More rows: a block
// of 128 of K by 64 channels is decoded to L1 once, and tiles of 6 rows read it there.
#include "kernels/epilogue_avx512vnni.h"
#include "kernels/linear_abi.h"

namespace octet::kernels {
namespace {

constexpr int64_t kFewRows = 4, kTileRows = 6;

// The two vectors of 16 channels in 32 bytes of codes h, as halves.
template <Fp8Format F>
OCTET_INLINE void Halves(__m512i codes, __m512i* even, __m512i* odd) {
  if constexpr (F == kFp8E5M2) {
    *odd = _mm512_and_si512(codes, _mm512_set1_epi16(static_cast<short>(0xff00)));
    *even = _mm512_slli_epi16(codes, 8);
  } else {
    // s eeee mmm in the high byte -> s 0 eeee mmm 0...: the sign stays, the rest moves by one.
    const __m512i keep = _mm512_set1_epi16(static_cast<short>(0xbf80));
    *odd = _mm512_and_si512(_mm512_srai_epi16(codes, 1), keep);
    *even = _mm512_and_si512(_mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 1), keep);
  }
}

// 64 codes in the order of Fp8LinearArgs::weight -> 4 vectors of channels.
template <Fp8Format F>
OCTET_INLINE void Decode(const uint8_t* codes, __m512 (&w)[4]) {
  __m512i even, odd;
  Halves<F>(_mm512_load_si512(codes), &even, &odd);
  w[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(even));
  w[1] = _mm512_cvtph_ps(_mm512_castsi512_si256(odd));
  w[2] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(even, 1));
  w[3] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(odd, 1));
}

OCTET_INLINE void StoreRow(const Fp8LinearArgs& a, const __m512 (&total)[4], int64_t m, int64_t n) {
  OCTET_UNROLL
  for (int v = 0; v < 4; ++v) {
    const int64_t c = n + v * 16;
    const __mmask16 some = Mask16(a.n_end - c);
    const __m512 y =
        _mm512_fmadd_ps(total[v], _mm512_loadu_ps(a.scale + c), _mm512_loadu_ps(a.bias + c));
    _mm512_mask_storeu_ps(a.y + m * a.y_stride + c, some, y);
  }
}

template <Fp8Format F, int MR>
void Rows(const Fp8LinearArgs& a, int64_t m, int64_t n, const uint8_t* w) {
  __m512 total[MR][4];
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) total[i][v] = _mm512_setzero_ps();
  }
  for (int64_t k0 = 0; k0 < a.k; k0 += kFp8Block) {
    const int64_t end = a.k - k0 < kFp8Block ? a.k : k0 + kFp8Block;
    __m512 sum[MR][4];
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) {
      OCTET_UNROLL
      for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_setzero_ps();
    }
    for (int64_t k = k0; k < end; ++k, w += 64) {
      // Ahead of what hardware prefetches past the ends of pages.
      _mm_prefetch(reinterpret_cast<const char*>(w + 1024), _MM_HINT_T0);
      __m512 b[4];
      Decode<F>(w, b);
      OCTET_UNROLL
      for (int i = 0; i < MR; ++i) {
        const __m512 x = _mm512_set1_ps(a.x[(m + i) * a.x_stride + k]);
        OCTET_UNROLL
        for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_fmadd_ps(x, b[v], sum[i][v]);
      }
    }
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) {
      OCTET_UNROLL
      for (int v = 0; v < 4; ++v) total[i][v] = _mm512_add_ps(total[i][v], sum[i][v]);
    }
  }
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) StoreRow(a, total[i], m + i, n);
}

// Rows [m, m + MR) over `depth` of K from k0 on, weights decoded in a.scratch. Totals wait in y.
template <int MR>
void Tile(const Fp8LinearArgs& a, int64_t m, int64_t n, int64_t k0, int64_t depth) {
  __m512 sum[MR][4];
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_setzero_ps();
  }
  const float* x = a.x + m * a.x_stride + k0;
  const float* w = a.scratch;
  for (int64_t k = 0; k < depth; ++k, w += 64) {
    __m512 b[4];
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) b[v] = _mm512_load_ps(w + v * 16);
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) {
      const __m512 broadcast = _mm512_set1_ps(x[i * a.x_stride + k]);
      OCTET_UNROLL
      for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_fmadd_ps(broadcast, b[v], sum[i][v]);
    }
  }
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    float* y = a.y + (m + i) * a.y_stride;
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) {
      const int64_t c = n + v * 16;
      const __mmask16 some = Mask16(a.n_end - c);
      const __m512 before = k0 == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(some, y + c);
      sum[i][v] = _mm512_add_ps(before, sum[i][v]);
      if (k0 + depth < a.k) _mm512_mask_storeu_ps(y + c, some, sum[i][v]);
    }
    if (k0 + depth == a.k) StoreRow(a, sum[i], m + i, n);
  }
}

typedef void (*TileFunction)(const Fp8LinearArgs&, int64_t, int64_t, int64_t, int64_t);

template <Fp8Format F>
void Panel(const Fp8LinearArgs& a, int64_t n, const uint8_t* w) {
  if (a.m <= kFewRows) {
    static constexpr void (*kRows[])(const Fp8LinearArgs&, int64_t, int64_t, const uint8_t*) = {
        Rows<F, 1>, Rows<F, 2>, Rows<F, 3>, Rows<F, 4>};
    kRows[a.m - 1](a, 0, n, w);
    return;
  }
  static constexpr TileFunction kTiles[] = {Tile<1>, Tile<2>, Tile<3>, Tile<4>, Tile<5>, Tile<6>};
  const int64_t tiles = (a.m + kTileRows - 1) / kTileRows;
  for (int64_t k0 = 0; k0 < a.k; k0 += kFp8Block) {
    const int64_t depth = a.k - k0 < kFp8Block ? a.k - k0 : kFp8Block;
    for (int64_t k = 0; k < depth; ++k, w += 64) {
      __m512 b[4];
      Decode<F>(w, b);
      OCTET_UNROLL
      for (int v = 0; v < 4; ++v) _mm512_store_ps(a.scratch + k * 64 + v * 16, b[v]);
    }
    // Rows shared out evenly: a tile of 5 is nearly as fast as one of 6, a tile of 1 is not.
    for (int64_t i = 0, m = 0; i < tiles; ++i) {
      const int64_t end = a.m * (i + 1) / tiles;
      kTiles[end - m - 1](a, m, n, k0, depth);
      m = end;
    }
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_fp8_linear_avx512vnni(const octet::kernels::Fp8LinearArgs* args) {
  using namespace octet::kernels;
  const Fp8LinearArgs& a = *args;
  for (int64_t n = a.n_begin; n < a.n_end; n += 64) {
    const uint8_t* w = a.weight + n * a.k;
    a.format == kFp8E5M2 ? Panel<kFp8E5M2>(a, n, w) : Panel<kFp8E4M3>(a, n, w);
  }
}
