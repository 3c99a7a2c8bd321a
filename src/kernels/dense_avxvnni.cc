// octet_dense_u8s8_6x16_avxvnni: implicit GEMM on vpdpbusd of 32 bytes. Layout kTilesK64.
//
// A tile is MR rows by NV vectors of 8 channels, accumulators in 12 of 16 registers: 6x16, and, for
// few rows, 3x32 and 1x64, against a latency of 5 and 2 per cycle. Rows of A are read in place,
// four bytes broadcast at a time. The 16 channels' weights pass over all rows before the next 16
// come: they stay in L1. Rows are shared out evenly among tiles, because a tile of 5 runs at the
// full rate and a tile of 1 does not.
#include "kernels/dense_rows.h"
#include "kernels/epilogue_avx2.h"

#if !defined(__AVXVNNI__)
#error "this file needs -mavxvnni"
#endif

namespace octet::kernels {
namespace {

constexpr int64_t kSteps = 16;  // of four bytes of K in a tile of the layout
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kRows = 6;

// acc += a (u8) . b (s8) per dword. g++ 12 copies accumulators around its own intrinsic (GCC bug
// 94663) unless they are plain vectors and the builtin is called directly.
#if defined(__clang__)
typedef __m256i Acc;
OCTET_INLINE Acc Dot(Acc acc, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(acc, a, b); }
#else
typedef int Acc __attribute__((vector_size(32)));
OCTET_INLINE Acc Dot(Acc acc, __m256i a, __m256i b) {
  return __builtin_ia32_vpdpbusd_v8si(acc, reinterpret_cast<Acc>(a), reinterpret_cast<Acc>(b));
}
#endif

OCTET_INLINE int LoadDword(const uint8_t* p) {
  int v;
  memcpy(&v, p, 4);
  return v;
}

// Up to three bytes as a dword, zeros above.
OCTET_INLINE int LoadTail(const uint8_t* p, int64_t n) {
  uint32_t v = p[0];
  if (n > 1) v |= static_cast<uint32_t>(p[1]) << 8;
  if (n > 2) v |= static_cast<uint32_t>(p[2]) << 16;
  return static_cast<int>(v);
}

// Four bytes of K at a[i][at]; tail of them, where not 0.
template <int MR, int NV>
OCTET_INLINE void Step(const uint8_t* const* a, int64_t at, int64_t tail, const int8_t* w,
                       Acc (&acc)[MR][NV]) {
  __m256i b[NV];
  OCTET_UNROLL
  for (int v = 0; v < NV; ++v) b[v] = Load256(w + v / 2 * kTileBytes + v % 2 * 32);
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    const __m256i x =
        _mm256_set1_epi32(tail != 0 ? LoadTail(a[i] + at, tail) : LoadDword(a[i] + at));
    OCTET_UNROLL
    for (int v = 0; v < NV; ++v) acc[i][v] = Dot(acc[i][v], x, b[v]);
  }
}

// MR rows from `row` on, channels [c, c + NV * 8), n of them real. pixels: where each row's pieces
// start. weight_step: bytes from one 64 of K to the next.
template <int MR, int NV>
void Tile(const DenseArgs& d, const uint8_t* const* pixels, int64_t row, int64_t c, int64_t n,
          const int8_t* weight, int64_t weight_step) {
  Acc acc[MR][NV];
  OCTET_UNROLL
  for (int v = 0; v < NV; ++v) {
    const Acc bias = reinterpret_cast<Acc>(Load256(d.epilogue.bias + c + v * 8));
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) acc[i][v] = bias;
  }
  const int64_t tail = d.kc & 3;
  for (int64_t t = 0; t < d.taps; ++t) {
    const uint8_t* a[MR];
    OCTET_UNROLL
    for (int i = 0; i < MR; ++i) a[i] = pixels[i] + d.tap_offset[t];
    int64_t at = 0;
    for (int64_t left = d.kc; left > 0; left -= kSteps * 4, weight += weight_step) {
      const int8_t* w = weight;
      int64_t k = left < kSteps * 4 ? left / 4 : kSteps;
      for (; k >= 4; k -= 4, at += 16, w += 256) {
        OCTET_UNROLL
        for (int j = 0; j < 4; ++j) Step<MR, NV>(a, at + j * 4, 0, w + j * 64, acc);
      }
      for (; k > 0; --k, at += 4, w += 64) Step<MR, NV>(a, at, 0, w, acc);
      if (left < kSteps * 4 && tail != 0) Step<MR, NV>(a, at, tail, w, acc);
    }
  }
  OCTET_UNROLL
  for (int v = 0; v < NV; v += 2) {
    if (v * 8 < n) {
      StoreGroup<MR>(
          d.epilogue, [&](int i, int half) { return reinterpret_cast<__m256i>(acc[i][v + half]); },
          c + v * 8, n - v * 8, RowsOut(d, row));
    }
  }
}

typedef void (*TileFunction)(const DenseArgs&, const uint8_t* const*, int64_t, int64_t, int64_t,
                             const int8_t*, int64_t);

// All rows, channels [c, c + width); width is 16, 32 or 64.
void Columns(const DenseArgs& d, int64_t c, int64_t n, int64_t width, const int8_t* weight,
             int64_t weight_step) {
  static constexpr TileFunction kTiles[] = {Tile<1, 2>, Tile<2, 2>, Tile<3, 2>,
                                            Tile<4, 2>, Tile<5, 2>, Tile<6, 2>};
  static constexpr TileFunction kWider[] = {Tile<1, 4>, Tile<2, 4>, Tile<3, 4>};
  RowCursor cursor(d);
  const int64_t tiles = (d.m + kRows - 1) / kRows;
  for (int64_t i = 0, row = 0; i < tiles; ++i) {
    const int64_t end = d.m * (i + 1) / tiles, rows = end - row;
    const uint8_t* pixels[kRows];
    for (int64_t j = 0; j < rows; ++j) pixels[j] = cursor.Take();
    const TileFunction tile = width == 64   ? Tile<1, 8>
                              : width == 32 ? kWider[rows - 1]
                                            : kTiles[rows - 1];
    tile(d, pixels, row, c, n, weight, weight_step);
    row = end;
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_dense_u8s8_6x16_avxvnni(const octet::kernels::DenseArgs* args) {
  using namespace octet::kernels;
  const DenseArgs& d = *args;
  const int64_t panel_row = d.taps * ((d.kc + 63) / 64 * 64);
  for (int64_t panel = d.n_begin; panel < d.n_end; panel += 64) {
    const int8_t* w = static_cast<const int8_t*>(d.weight) + panel * panel_row;
    const int64_t n = d.n_end - panel < 64 ? d.n_end - panel : 64;
    const int64_t tiles = (n + 15) / 16;
    for (int64_t i = 0; i < tiles;) {
      const int64_t left = tiles - i;
      const int64_t take = d.m == 1 && left == 4 ? 4 : d.m <= 3 && left >= 2 ? 2 : 1;
      Columns(d, panel + i * 16, n - i * 16, take * 16, w + i * kTileBytes, tiles * kTileBytes);
      i += take;
    }
  }
}
