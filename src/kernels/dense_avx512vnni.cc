// octet_dense_u8s8_6x64_avx512vnni: implicit GEMM on vpdpbusd. Layout kPanelsK4.
//
// A tile is MR rows by NV vectors of 16 channels, accumulators in registers: 6x64 for whole panels, 8x48, 12x32 and
// 12x16 for the last, 24 to 12 accumulators against a latency of 5 and 2 per cycle. Rows of A are read in place,
// four bytes broadcast at a time; a panel's weights stream through L1. Rows are shared out evenly among tiles
// (49 rows: five tiles of 5, four of 6), because a tile of 5 runs at the full rate and a tile of 1 does not.
#include "kernels/epilogue_avx512vnni.h"

#include <string.h>

namespace octet::kernels {
namespace {

// Up to three bytes as a dword, zeros above.
OCTET_INLINE int LoadTail(const uint8_t* p, int64_t n) {
  uint32_t v = p[0];
  if (n > 1) v |= static_cast<uint32_t>(p[1]) << 8;
  if (n > 2) v |= static_cast<uint32_t>(p[2]) << 16;
  return static_cast<int>(v);
}

OCTET_INLINE int LoadDword(const uint8_t* p) {
  int v;
  memcpy(&v, p, 4);
  return v;
}

// Codes of one row, NV vectors at channel c; `n` of the panel's channels are real.
template <int NV>
OCTET_INLINE void StoreRow(const EpilogueArgs& e, const Acc* acc, int64_t c, int64_t n, const uint8_t* r, uint8_t* y) {
  if (e.output != kStoreCodes) {
    OCTET_UNROLL
    for (int v = 0; v < NV; ++v) StoreWide(e, acc[v], c + v * 16, Mask16(n - v * 16), y);
    return;
  }
  __m512i codes[4];
  OCTET_UNROLL
  for (int v = 0; v < 4; ++v) {
    if (v >= NV) {
      codes[v] = _mm512_setzero_si512();
    } else if (e.residual == kNoResidual) {
      codes[v] = Requantize(acc[v], _mm512_loadu_ps(e.multiplier + c + v * 16));
    } else {
      const __m128i codes_r = _mm_maskz_loadu_epi8(Mask16(n - v * 16), r + c + v * 16);
      codes[v] = RequantizeAdd(e, acc[v], _mm512_loadu_ps(e.multiplier + c + v * 16), codes_r);
    }
  }
  __m512i packed = PackCodes(codes[0], codes[1], codes[2], codes[3], e.y_zero_point);
  packed = _mm512_permutexvar_epi32(PackOrder(), packed);
  packed = Bound(packed, _mm512_loadu_si512(e.lo + c), _mm512_loadu_si512(e.hi + c),
                 _mm512_set1_epi8(static_cast<char>(e.y_flip)));
  if (n >= 64) {
    _mm512_storeu_si512(y + c, packed);
  } else {
    _mm512_mask_storeu_epi8(y + c, Mask64(n), packed);
  }
}

// Rows [row, row + rows), rows <= MR, of the panel at channel c, n of whose NV * 16 channels are real.
template <int MR, int NV>
void Tile(const DenseArgs& d, int64_t row, int64_t rows, int64_t c, int64_t n, const int8_t* w) {
  Acc acc[MR][NV];
  OCTET_UNROLL
  for (int v = 0; v < NV; ++v) {
    const Acc bias = AsAcc(_mm512_loadu_si512(d.epilogue.bias + c + v * 16));
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) acc[i][v] = bias;
  }
  const int64_t whole = d.kc & ~int64_t{3}, tail = d.kc & 3;
  for (int64_t t = 0; t < d.taps; ++t) {
    const uint8_t* a[MR];
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) {
      // Missing rows repeat the last one; their sums are not stored.
      const int64_t from = row + (i < rows ? i : rows - 1);
      a[i] = d.rows != nullptr ? d.rows[t * d.rows_ld + from] + d.row_offset : d.a + from * d.lda;
    }
    for (int64_t k = 0; k < whole; k += 4) {
      __m512i b[NV];
      OCTET_UNROLL
      for (int v = 0; v < NV; ++v) b[v] = _mm512_load_si512(w + v * 64);
      w += NV * 64;
      OCTET_UNROLL
      for (int i = 0; i < MR; ++i) {
        const __m512i x = _mm512_set1_epi32(LoadDword(a[i] + k));
        OCTET_UNROLL
        for (int v = 0; v < NV; ++v) acc[i][v] = Dot(acc[i][v], x, b[v]);
      }
    }
    if (tail != 0) {
      OCTET_UNROLL
      for (int i = 0; i < MR; ++i) {
        const __m512i x = _mm512_set1_epi32(LoadTail(a[i] + whole, tail));
        OCTET_UNROLL
        for (int v = 0; v < NV; ++v) acc[i][v] = Dot(acc[i][v], x, _mm512_load_si512(w + v * 64));
      }
      w += NV * 64;
    }
  }
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    if (i < rows) {
      const uint8_t* r = d.r == nullptr ? nullptr : d.r + (row + i) * d.r_stride;
      StoreRow<NV>(d.epilogue, acc[i], c, n, r, d.y + (row + i) * d.y_stride);
    }
  }
}

typedef void (*TileFunction)(const DenseArgs&, int64_t, int64_t, int64_t, int64_t, const int8_t*);

// The smallest tile of NV vectors that holds m rows.
template <int NV>
TileFunction TileFor(int64_t m) {
  if constexpr (NV == 4) {
    static constexpr TileFunction kTiles[] = {Tile<1, 4>, Tile<2, 4>, Tile<3, 4>, Tile<4, 4>, Tile<5, 4>, Tile<6, 4>};
    return kTiles[m - 1];
  } else if constexpr (NV == 3) {
    return m <= 1 ? Tile<1, 3> : m <= 2 ? Tile<2, 3> : m <= 4 ? Tile<4, 3> : m <= 6 ? Tile<6, 3> : Tile<8, 3>;
  } else {
    return m <= 1   ? Tile<1, NV>
           : m <= 2 ? Tile<2, NV>
           : m <= 4 ? Tile<4, NV>
           : m <= 8 ? Tile<8, NV>
                    : Tile<12, NV>;
  }
}

template <int NV>
void Panel(const DenseArgs& d, int64_t c, int64_t n, const int8_t* w) {
  constexpr int64_t kRows = NV == 4 ? 6 : NV == 3 ? 8 : 12;
  const int64_t tiles = (d.m + kRows - 1) / kRows;
  for (int64_t i = 0, row = 0; i < tiles; ++i) {
    const int64_t end = d.m * (i + 1) / tiles;
    TileFor<NV>(end - row)(d, row, end - row, c, n, w);
    row = end;
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_dense_u8s8_6x64_avx512vnni(const octet::kernels::DenseArgs* args) {
  using namespace octet::kernels;
  const DenseArgs& d = *args;
  const int64_t panel_row = d.taps * ((d.kc + 3) / 4 * 4);
  for (int64_t c = d.n_begin; c < d.n_end; c += 64) {
    const int8_t* w = static_cast<const int8_t*>(d.weight) + c * panel_row;
    const int64_t n = d.n_end - c;
    if (n > 48) {
      Panel<4>(d, c, n < 64 ? n : 64, w);
    } else if (n > 32) {
      Panel<3>(d, c, n, w);
    } else if (n > 16) {
      Panel<2>(d, c, n, w);
    } else {
      Panel<1>(d, c, n, w);
    }
  }
}
