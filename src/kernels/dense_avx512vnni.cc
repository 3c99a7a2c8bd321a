// octet_dense_u8s8_6x64_avx512vnni: implicit GEMM on vpdpbusd. Layout kTilesK64.
//
// A tile is MR rows by NV vectors of 16 channels, accumulators in registers: 6x64 for whole panels,
// 8x48, 12x32 and 12x16 for the last, 24 to 12 accumulators against a latency of 5 and 2 per cycle.
// Rows of A are read in place, four bytes broadcast at a time; a panel's weights stream through L1.
// Rows are shared out evenly among tiles (49 rows: five tiles of 5, four of 6), because a tile of 5
// runs at the full rate and a tile of 1 does not.
#include <string.h>

#include "kernels/dense_rows.h"
#include "kernels/epilogue_avx512vnni.h"

namespace octet::kernels {
namespace {

constexpr int64_t kSteps = 16;  // of four bytes of K in a tile
constexpr int64_t kTileBytes = 1024;

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

// Codes of kRows = 4 / NV rows (1 for NV = 3) from `row` on, NV vectors each, packed together;
// `rows` of them are real, and `n` of the panel's channels.
template <int NV>
OCTET_INLINE void StoreCodes(const DenseArgs& d, const Acc (*acc)[NV], int64_t row, int64_t rows,
                             int64_t c, int64_t n, __m512i zero, __m512i flip) {
  constexpr int kRows = NV == 3 ? 1 : 4 / NV;
  const EpilogueArgs& e = d.epilogue;
  __m512i codes[4];
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int i = j / NV, v = j % NV;
    if (i >= kRows) {
      codes[j] = _mm512_setzero_si512();
    } else if (e.residual == kNoResidual) {
      codes[j] = Requantize(acc[i][v], _mm512_loadu_ps(e.multiplier + c + v * 16));
    } else {
      const uint8_t* r = d.r + (row + (i < rows ? i : 0)) * d.r_stride + c + v * 16;
      codes[j] = RequantizeAdd(e, acc[i][v], _mm512_loadu_ps(e.multiplier + c + v * 16),
                               _mm_maskz_loadu_epi8(Mask16(n - v * 16), r));
    }
  }
  const __m512i packed = _mm512_permutexvar_epi32(
      PackOrder(), PackCodes(codes[0], codes[1], codes[2], codes[3], zero));
  uint8_t* y = d.y + row * d.y_stride + c;
  if constexpr (NV >= 3) {
    const __m512i bounded =
        Bound(packed, _mm512_loadu_si512(e.lo + c), _mm512_loadu_si512(e.hi + c), flip);
    if (n >= 64) {
      _mm512_storeu_si512(y, bounded);
    } else {
      _mm512_mask_storeu_epi8(y, Mask64(n), bounded);
    }
  } else if constexpr (NV == 2) {
    const __m512i lo =
        _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(e.lo + c)));
    const __m512i hi =
        _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(e.hi + c)));
    const __m512i bounded = Bound(packed, lo, hi, flip);
    if (n == 32 && d.y_stride == 32 && rows >= 2) {
      _mm512_storeu_si512(y, bounded);
      return;
    }
    const auto some = static_cast<__mmask32>(Mask64(n));
    _mm256_mask_storeu_epi8(y, some, _mm512_castsi512_si256(bounded));
    if (rows > 1)
      _mm256_mask_storeu_epi8(y + d.y_stride, some, _mm512_extracti64x4_epi64(bounded, 1));
  } else {
    const __m512i lo =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(e.lo + c)));
    const __m512i hi =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(e.hi + c)));
    const __m512i bounded = Bound(packed, lo, hi, flip);
    if (n == 16 && d.y_stride == 16 && rows >= 4) {
      _mm512_storeu_si512(y, bounded);
      return;
    }
    const __mmask16 some = Mask16(n);
    _mm_mask_storeu_epi8(y, some, _mm512_castsi512_si128(bounded));
    if (rows > 1) _mm_mask_storeu_epi8(y + d.y_stride, some, _mm512_extracti32x4_epi32(bounded, 1));
    if (rows > 2)
      _mm_mask_storeu_epi8(y + 2 * d.y_stride, some, _mm512_extracti32x4_epi32(bounded, 2));
    if (rows > 3)
      _mm_mask_storeu_epi8(y + 3 * d.y_stride, some, _mm512_extracti32x4_epi32(bounded, 3));
  }
}

template <int MR, int NV>
OCTET_INLINE void StoreTile(const DenseArgs& d, const Acc (&acc)[MR][NV], int64_t row, int64_t rows,
                            int64_t c, int64_t n) {
  if (d.epilogue.output != kStoreCodes) {
    const float* scale = d.epilogue.row_scale;
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) {
      if (i >= rows) return;
      OCTET_UNROLL
      for (int v = 0; v < NV; ++v) {
        StoreWide(d.epilogue, acc[i][v], c + v * 16, Mask16(n - v * 16),
                  d.y + (row + i) * d.y_stride, scale == nullptr ? nullptr : scale + row + i);
      }
    }
    return;
  }
  constexpr int kRows = NV == 3 ? 1 : 4 / NV;
  static_assert(MR % kRows == 0, "rows are packed together in groups");
  const __m512i zero = Zero16(d.epilogue), flip = Flip(d.epilogue);
  OCTET_UNROLL
  for (int i = 0; i < MR; i += kRows) {
    if (i < rows) StoreCodes<NV>(d, acc + i, row + i, rows - i, c, n, zero, flip);
  }
}

template <int MR, int NV>
OCTET_INLINE void LoadBias(const DenseArgs& d, int64_t c, Acc (&acc)[MR][NV]) {
  OCTET_UNROLL
  for (int v = 0; v < NV; ++v) {
    const Acc bias = AsAcc(_mm512_loadu_si512(d.epilogue.bias + c + v * 16));
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) acc[i][v] = bias;
  }
}

// Rows [row, row + rows), rows <= MR, of the panel at channel c, n of whose NV * 16 channels are
// real. pixels: where each row's pieces start.
template <int MR, int NV>
void Tile(const DenseArgs& d, const uint8_t* const* pixels, int64_t row, int64_t rows, int64_t c,
          int64_t n, const int8_t* weight) {
  Acc acc[MR][NV];
  LoadBias<MR, NV>(d, c, acc);
  const int64_t whole = d.kc / 4, tail = d.kc & 3;
  for (int64_t t = 0; t < d.taps; ++t) {
    const uint8_t* a[MR];
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) a[i] = pixels[i] + d.tap_offset[t];
    for (int64_t k = 0; k < whole; k += kSteps, weight += NV * kTileBytes) {
      const int64_t end = whole - k < kSteps ? whole : k + kSteps;
      const int8_t* w = weight;
      for (int64_t j = k; j < end; ++j, w += 64) {
        __m512i b[NV];
        OCTET_UNROLL
        for (int v = 0; v < NV; ++v) b[v] = _mm512_load_si512(w + v * kTileBytes);
        OCTET_UNROLL
        for (int i = 0; i < MR; ++i) {
          const __m512i x = _mm512_set1_epi32(LoadDword(a[i] + j * 4));
          OCTET_UNROLL
          for (int v = 0; v < NV; ++v) acc[i][v] = Dot(acc[i][v], x, b[v]);
        }
      }
    }
    if (tail != 0) {
      // In the tile that the whole dwords began, or in one of its own.
      const int64_t at = whole % kSteps;
      if (at != 0) weight -= NV * kTileBytes;
      const int8_t* w = weight + at * 64;
      OCTET_UNROLL
      for (int i = 0; i < MR; ++i) {
        const __m512i x = _mm512_set1_epi32(LoadTail(a[i] + whole * 4, tail));
        OCTET_UNROLL
        for (int v = 0; v < NV; ++v)
          acc[i][v] = Dot(acc[i][v], x, _mm512_load_si512(w + v * kTileBytes));
      }
      weight += NV * kTileBytes;
    }
  }
  StoreTile<MR, NV>(d, acc, row, rows, c, n);
}

// Four bytes of K of MR rows lda apart: groups of three share a register, which address modes
// reach.
template <int MR, int NV>
OCTET_INLINE void StridedStep(const uint8_t* const (&group)[(MR + 2) / 3], int64_t lda, int at,
                              const int8_t* w, Acc (&acc)[MR][NV]) {
  __m512i b[NV];
  OCTET_UNROLL
  for (int v = 0; v < NV; ++v) b[v] = _mm512_load_si512(w + v * kTileBytes);
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    const __m512i x = _mm512_set1_epi32(LoadDword(group[i / 3] + (i % 3) * lda + at));
    OCTET_UNROLL
    for (int v = 0; v < NV; ++v) acc[i][v] = Dot(acc[i][v], x, b[v]);
  }
}

// Tile of exactly MR rows lda apart, kc a multiple of 4: as many rows as fit the accumulators would
// not fit the registers as pointers.
template <int MR, int NV>
void StridedTile(const DenseArgs& d, const uint8_t* const* pixels, int64_t row, int64_t, int64_t c,
                 int64_t n, const int8_t* weight) {
  Acc acc[MR][NV];
  LoadBias<MR, NV>(d, c, acc);
  constexpr int kGroups = (MR + 2) / 3;
  const int64_t lda = d.lda;
  for (int64_t t = 0; t < d.taps; ++t) {
    const uint8_t* group[kGroups];
    OCTET_UNROLL
    for (int i = 0; i < kGroups; ++i) group[i] = pixels[0] + d.tap_offset[t] + i * 3 * lda;
    for (int64_t left = d.kc / 4; left > 0; left -= kSteps, weight += NV * kTileBytes) {
      const int8_t* w = weight;
      int64_t k = left < kSteps ? left : kSteps;
      for (; k >= 4; k -= 4) {
        OCTET_UNROLL
        for (int i = 0; i < 4; ++i) StridedStep<MR, NV>(group, lda, i * 4, w + i * 64, acc);
        w += 4 * 64;
        OCTET_UNROLL
        for (int i = 0; i < kGroups; ++i) group[i] += 16;
      }
      for (; k > 0; --k) {
        StridedStep<MR, NV>(group, lda, 0, w, acc);
        w += 64;
        OCTET_UNROLL
        for (int i = 0; i < kGroups; ++i) group[i] += 4;
      }
    }
  }
  StoreTile<MR, NV>(d, acc, row, MR, c, n);
}

typedef void (*TileFunction)(const DenseArgs&, const uint8_t* const*, int64_t, int64_t, int64_t,
                             int64_t, const int8_t*);

// The smallest tile of NV vectors that holds m rows.
template <int NV>
TileFunction TileFor(int64_t m) {
  if constexpr (NV == 4) {
    static constexpr TileFunction kTiles[] = {Tile<1, 4>, Tile<2, 4>, Tile<3, 4>,
                                              Tile<4, 4>, Tile<5, 4>, Tile<6, 4>};
    return kTiles[m - 1];
  } else if constexpr (NV == 3) {
    return m <= 1   ? Tile<1, 3>
           : m <= 2 ? Tile<2, 3>
           : m <= 4 ? Tile<4, 3>
           : m <= 6 ? Tile<6, 3>
                    : Tile<8, 3>;
  } else if constexpr (NV == 2) {
    return m <= 2 ? Tile<2, 2> : m <= 4 ? Tile<4, 2> : m <= 8 ? Tile<8, 2> : Tile<12, 2>;
  } else {
    return m <= 4 ? Tile<4, 1> : m <= 8 ? Tile<8, 1> : Tile<12, 1>;
  }
}

template <int NV>
void Panel(const DenseArgs& d, int64_t c, int64_t n, const int8_t* w) {
  constexpr int64_t kRows = NV == 4 ? 6 : NV == 3 ? 8 : 12;
  const int64_t tiles = (d.m + kRows - 1) / kRows;
  const bool whole_dwords = (d.kc & 3) == 0;
  RowCursor cursor(d);
  for (int64_t i = 0, row = 0; i < tiles; ++i) {
    const int64_t end = d.m * (i + 1) / tiles, rows = end - row;
    const bool strided = cursor.left >= rows;
    const uint8_t* pixels[kRows];
    for (int64_t j = 0; j < rows; ++j) pixels[j] = cursor.Take();
    // Missing rows repeat the last one; their sums are not stored.
    for (int64_t j = rows; j < kRows; ++j) pixels[j] = pixels[rows - 1];
    TileFunction tile = TileFor<NV>(rows);
    if constexpr (NV <= 2) {
      if (strided && whole_dwords && rows == 12) tile = StridedTile<12, NV>;
      if (strided && whole_dwords && rows == 8) tile = StridedTile<8, NV>;
    }
    tile(d, pixels, row, rows, c, n, w);
    row = end;
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_dense_u8s8_6x64_avx512vnni(const octet::kernels::DenseArgs* args) {
  using namespace octet::kernels;
  const DenseArgs& d = *args;
  const int64_t panel_row = d.taps * ((d.kc + 63) / 64 * 64);
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
