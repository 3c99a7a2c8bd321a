// octet_pack_tiles_avx512vnni: layout kTilesK64, a tile of 16 rows by 64 bytes at a time, as a
// transposition of 16x16 dwords: loads put rows r, r + 4, r + 8, r + 12 into the four lanes of a
// vector, so that two rounds of unpacking within lanes are left.
#include <string.h>

#include "kernels/epilogue_avx512vnni.h"
#include "kernels/linear_abi.h"

namespace octet::kernels {
namespace {

OCTET_INLINE __m128i Load16(const int8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
// v with 16 bytes at p in the lane of `lane` (0xf, 0xf0, ...): no shuffle, as an insertion is.
OCTET_INLINE __m512i LoadLane(__m512i v, __mmask16 lane, const int8_t* p) {
  return _mm512_mask_broadcast_i32x4(v, lane, Load16(p));
}

// 64 bytes of 16 rows -> a tile; their sums are added to `sums`.
template <bool kSums>
OCTET_INLINE Acc PackTile(const int8_t* const* rows, int64_t k, int8_t* out, Acc sums) {
  const __m512i ones = _mm512_set1_epi8(1);
  OCTET_UNROLL
  for (int c = 0; c < 4; ++c) {
    __m512i v[4];
    OCTET_UNROLL
    for (int r = 0; r < 4; ++r) {
      // Lane l: row 4l + r.
      const int64_t at = k + c * 16;
      v[r] = _mm512_castsi128_si512(Load16(rows[r] + at));
      v[r] = LoadLane(v[r], 0x00f0, rows[4 + r] + at);
      v[r] = LoadLane(v[r], 0x0f00, rows[8 + r] + at);
      v[r] = LoadLane(v[r], 0xf000, rows[12 + r] + at);
    }
    const __m512i low01 = _mm512_unpacklo_epi32(v[0], v[1]),
                  low23 = _mm512_unpacklo_epi32(v[2], v[3]),
                  high01 = _mm512_unpackhi_epi32(v[0], v[1]),
                  high23 = _mm512_unpackhi_epi32(v[2], v[3]);
    const __m512i dwords[4] = {
        _mm512_unpacklo_epi64(low01, low23), _mm512_unpackhi_epi64(low01, low23),
        _mm512_unpacklo_epi64(high01, high23), _mm512_unpackhi_epi64(high01, high23)};
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) {
      _mm512_store_si512(out + (c * 4 + j) * 64, dwords[j]);
      if (kSums) sums = Dot(sums, ones, dwords[j]);
    }
  }
  return sums;
}

// Up to 16 rows; tiles `step` bytes apart.
template <bool kSums>
void PackRows(const PackTilesArgs& p, int64_t n0, int64_t n, int8_t* out, int64_t step) {
  alignas(64) int8_t edge[16][64] = {};
  const int8_t* rows[16];
  const int8_t* edge_rows[16];
  // Rows that are missing stay zero in `edge`, and nobody reads them elsewhere.
  for (int64_t i = 0; i < 16; ++i) {
    rows[i] = p.b + (n0 + (i < n ? i : 0)) * p.stride;
    edge_rows[i] = edge[i];
  }
  Acc sums = AsAcc(_mm512_setzero_si512());
  const int64_t whole = n == 16 ? p.k / 64 * 64 : 0;
  for (int64_t k = 0; k < whole; k += 64, out += step) sums = PackTile<kSums>(rows, k, out, sums);
  for (int64_t k = whole; k < p.k; k += 64, out += step) {
    const __mmask64 some = Mask64(p.k - k);
    for (int64_t i = 0; i < n; ++i)
      _mm512_store_si512(edge[i], _mm512_maskz_loadu_epi8(some, rows[i] + k));
    sums = PackTile<kSums>(edge_rows, 0, out, sums);
  }
  if (kSums) _mm512_mask_storeu_epi32(p.sums + n0, Mask16(n), AsInt(sums));
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_pack_tiles_avx512vnni(const octet::kernels::PackTilesArgs* args) {
  using namespace octet::kernels;
  const PackTilesArgs& p = *args;
  const int64_t row = (p.k + 63) / 64 * 64;
  for (int64_t n0 = 0; n0 < p.n; n0 += 64) {
    const int64_t here = p.n - n0 < 64 ? p.n - n0 : 64, width = (here + 15) / 16 * 16;
    for (int64_t n = 0; n < here; n += 16) {
      const int64_t count = here - n < 16 ? here - n : 16;
      int8_t* out = p.out + n0 * row + n * 64;
      if (p.sums != nullptr) {
        PackRows<true>(p, n0 + n, count, out, width * 64);
      } else {
        PackRows<false>(p, n0 + n, count, out, width * 64);
      }
    }
  }
}
