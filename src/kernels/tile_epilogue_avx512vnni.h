// The epilogue of sums that a tile unit has left in memory, in pieces small enough to be put
// between its products, for kernel files above the avx512vnni level.
#pragma once

#include "kernels/epilogue_avx512vnni.h"

namespace octet::kernels {
namespace {

constexpr int kRows = 16;  // rows of a tile

// Sixteen rows of A lda apart, the first `rows` of them real, and the row of y that each makes.
// What lies between two runs makes the row after it, which is stored later: in order, every row of
// y is right in the end.
struct RowTile {
  const uint8_t* a;
  int64_t lda;
  int rows;
  int32_t y[kRows];
};

OCTET_INLINE Acc LoadSums(const int32_t* p) { return AsAcc(_mm512_load_si512(p)); }

// What the epilogue of NT vectors of channels from c on, n of them real, keeps in registers.
template <int NT>
struct Column {
  int64_t c, n;
  bool is_signed;  // codes
  __m512i zero, flip, lo, hi;
  __m512 multiplier[NT];  // where codes or float32 are stored
  // Of float32.
  __mmask16 some[NT];
  __m512 float_bias[NT], float_lo, float_hi;
  // Of the residual.
  __m256i r_flip;
  __m512i r_zero;
  __m512 r_ratio, mid_lo, mid_hi, mid_ratio;

  Column(const EpilogueArgs& e, int64_t channel, int64_t count)
      : c(channel),
        n(count),
        is_signed(e.y_flip != 0),
        zero(Zero16(e)),
        flip(Flip(e)),
        lo(Twice(e, e.lo, c)),
        hi(Twice(e, e.hi, c)),
        float_lo(_mm512_set1_ps(e.float_lo)),
        float_hi(_mm512_set1_ps(e.float_hi)),
        r_flip(_mm256_set1_epi8(static_cast<char>(e.r_flip))),
        r_zero(_mm512_set1_epi32(e.r_zero_point)),
        r_ratio(_mm512_set1_ps(e.r_ratio)),
        mid_lo(_mm512_set1_ps(e.mid_lo)),
        mid_hi(_mm512_set1_ps(e.mid_hi)),
        mid_ratio(_mm512_set1_ps(e.mid_ratio)) {
    for (int v = 0; e.output != kStoreInt32 && v < NT; ++v)
      multiplier[v] = _mm512_loadu_ps(e.multiplier + c + v * 16);
    for (int v = 0; e.output == kStoreFloat && v < NT; ++v) {
      float_bias[v] = _mm512_loadu_ps(e.float_bias + c + v * 16);
      some[v] = Mask16(n - v * 16);
    }
  }

 private:
  // Bounds of one row, repeated for the rows that are stored together. Where no codes are stored
  // there are none.
  static __m512i Twice(const EpilogueArgs& e, const uint8_t* bounds, int64_t c) {
    if (e.output != kStoreCodes) return _mm512_setzero_si512();
    const uint8_t* p = bounds + c;
    return NT == 2 ? _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))
                   : _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};

// What an epilogue does; known for a whole call.
enum Store { kInts, kFloats, kCodesPlain, kCodes, kCodesClamped, kCodesOnMid, kCodesWithResidual };

// Residual on middle codes, where all is small: RequantizeAdd with its constants in registers. r:
// the codes' vector v of a row's NT.
template <int NT>
OCTET_INLINE __m512i AddToMidCode(const Column<NT>& k, Acc acc, int v, __m256i r) {
  __m512 mid = _mm512_mul_ps(_mm512_cvtepi32_ps(AsInt(acc)), k.multiplier[v]);
  mid = ClampPs(mid, k.mid_lo, k.mid_hi);
  mid = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtps_epi32(mid)), k.mid_ratio);
  const __m128i half = v == 0 ? _mm256_castsi256_si128(r) : _mm256_extracti128_si256(r, 1);
  const __m512i codes = _mm512_sub_epi32(_mm512_cvtepu8_epi32(half), k.r_zero);
  return _mm512_cvtps_epi32(
      _mm512_add_ps(mid, _mm512_mul_ps(_mm512_cvtepi32_ps(codes), k.r_ratio)));
}

// Codes of 4 / NT rows, `rows` of them real. y: which rows of the output; sums: (4 / NT, NT * 16).
template <int NT, Store S>
OCTET_INLINE void StoreCodes(const DenseArgs& d, const Column<NT>& column, const int32_t* y,
                             const int32_t* sums, int rows) {
  const EpilogueArgs& e = d.epilogue;
  const int64_t c = column.c, n = column.n;
  __m256i residual[4 / NT];
  if (S == kCodesOnMid) {
    const auto some = static_cast<__mmask32>(Mask64(n < NT * 16 ? n : NT * 16));
    OCTET_UNROLL
    for (int k = 0; k < 4 / NT; ++k) {
      const uint8_t* r = d.r + y[k < rows ? k : 0] * d.r_stride + c;
      residual[k] = _mm256_xor_si256(_mm256_maskz_loadu_epi8(some, r), column.r_flip);
    }
  }
  __m512i codes[4];
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int k = j / NT, v = j % NT;
    const Acc acc = LoadSums(sums + j * 16);
    if (S == kCodesWithResidual) {
      const uint8_t* r = d.r + y[k] * d.r_stride + c + v * 16;
      codes[j] = RequantizeAdd(e, acc, column.multiplier[v],
                               _mm_maskz_loadu_epi8(Mask16(k < rows ? n - v * 16 : 0), r));
    } else if (S == kCodesOnMid) {
      codes[j] = AddToMidCode<NT>(column, acc, v, residual[j / NT]);
    } else if (S == kCodesClamped) {
      codes[j] = Requantize(acc, column.multiplier[v]);
    } else {
      codes[j] = RequantizeSmall(acc, column.multiplier[v]);
    }
  }
  __m512i stored;
  if (S == kCodesPlain) {
    const __m512i low = _mm512_packs_epi32(codes[0], codes[1]);
    const __m512i high = _mm512_packs_epi32(codes[2], codes[3]);
    stored =
        _mm512_permutexvar_epi32(PackOrder(), column.is_signed ? _mm512_packs_epi16(low, high)
                                                               : _mm512_packus_epi16(low, high));
  } else {
    const __m512i packed = _mm512_permutexvar_epi32(
        PackOrder(), PackCodes(codes[0], codes[1], codes[2], codes[3], column.zero));
    stored = Bound(packed, column.lo, column.hi, column.flip);
  }
  uint8_t* to = d.y + c;
  if (NT == 2 && n >= 32 && rows == 2) {  // the upper half needs no shuffle
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + y[0] * d.y_stride),
                        _mm512_castsi512_si256(stored));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + y[1] * d.y_stride),
                        _mm512_extracti64x4_epi64(stored, 1));
  } else if constexpr (NT == 2) {
    const auto some = static_cast<__mmask32>(Mask64(n));
    _mm256_mask_storeu_epi8(to + y[0] * d.y_stride, some, _mm512_castsi512_si256(stored));
    if (rows > 1)
      _mm256_mask_storeu_epi8(to + y[1] * d.y_stride, some, _mm512_extracti64x4_epi64(stored, 1));
  } else {
    const __mmask16 some = Mask16(n);
    _mm_mask_storeu_epi8(to + y[0] * d.y_stride, some, _mm512_castsi512_si128(stored));
    if (rows > 1)
      _mm_mask_storeu_epi8(to + y[1] * d.y_stride, some, _mm512_extracti32x4_epi32(stored, 1));
    if (rows > 2)
      _mm_mask_storeu_epi8(to + y[2] * d.y_stride, some, _mm512_extracti32x4_epi32(stored, 2));
    if (rows > 3)
      _mm_mask_storeu_epi8(to + y[3] * d.y_stride, some, _mm512_extracti32x4_epi32(stored, 3));
  }
}

// float32 of rows y[0, rows): StoreWide with its constants in registers.
template <int NT, bool Scaled>
OCTET_INLINE void StoreFloats(const DenseArgs& d, const Column<NT>& column, const int32_t* y,
                              const int32_t* sums, int rows) {
  for (int i = 0; i < rows; ++i, sums += NT * 16) {
    uint8_t* to = d.y + y[i] * d.y_stride + column.c * 4;
    const __m512 scale = _mm512_set1_ps(Scaled ? d.epilogue.row_scale[y[i]] : 1.0F);
    OCTET_UNROLL
    for (int v = 0; v < NT; ++v) {
      const Acc acc = LoadSums(sums + v * 16);
      __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(AsInt(acc)), column.multiplier[v]);
      if (Scaled) f = _mm512_mul_ps(f, scale);
      f = ClampPs(_mm512_add_ps(f, column.float_bias[v]), column.float_lo, column.float_hi);
      _mm512_mask_storeu_ps(to + v * 64, column.some[v], f);
    }
  }
}

// Rows y[0, rows), at most 4 / NT of them.
template <int NT, Store S>
OCTET_INLINE void StorePiece(const DenseArgs& d, const Column<NT>& column, const int32_t* y,
                             const int32_t* sums, int rows) {
  if (S == kInts) {
    for (int i = 0; i < rows; ++i) {
      for (int v = 0; v < NT; ++v) {
        StoreWide(d.epilogue, LoadSums(sums + (i * NT + v) * 16), column.c + v * 16,
                  Mask16(column.n - v * 16), d.y + y[i] * d.y_stride);
      }
    }
  } else if (S == kFloats && d.epilogue.row_scale == nullptr) {
    StoreFloats<NT, false>(d, column, y, sums, rows);
  } else if (S == kFloats) {
    StoreFloats<NT, true>(d, column, y, sums, rows);
  } else {
    StoreCodes<NT, S>(d, column, y, sums, rows);
  }
}

// The sums of a block (MT row tiles x NT vectors of channels from c on) waiting for their epilogue,
// done a piece at a time: the vector units have nothing else to do while tiles are multiplied.
template <int MT, int NT, Store S>
class Epilogue {
 public:
  static constexpr int kPacked = 4 / NT;  // rows of a piece
  static constexpr int kOfTile = kRows / kPacked;
  static constexpr int kPieces = MT * kOfTile;

  Epilogue(const DenseArgs& d, const RowTile* tiles, const int32_t* sums, int64_t c, int64_t count)
      : d_(d), column_(d.epilogue, c, count), sums_(sums) {
    if (tiles == nullptr) return;
    left_ = kPieces;
    y_ = tiles[0].y;
    y_after_ = tiles[MT - 1].y;
    rows_ = tiles[0].rows;
    rows_after_ = tiles[MT - 1].rows;
  }

  [[gnu::always_inline]] void Do(int pieces) {
    for (; pieces > 0 && left_ > 0; --pieces) {
      if (rows_ >= kPacked) {
        StorePiece<NT, S>(d_, column_, y_, sums_, kPacked);
      } else if (rows_ > 0) {
        StorePiece<NT, S>(d_, column_, y_, sums_, rows_);
      }
      --left_;
      const bool next_tile = MT > 1 && left_ == kOfTile;
      y_ = next_tile ? y_after_ : y_ + kPacked;
      rows_ = next_tile ? rows_after_ : rows_ - kPacked;
      sums_ += 64;
    }
  }

 private:
  const DenseArgs& d_;
  const Column<NT> column_;
  const int32_t* sums_;
  const int32_t *y_ = nullptr, *y_after_ = nullptr;
  int left_ = 0, rows_ = 0, rows_after_ = 0;
};

}  // namespace
}  // namespace octet::kernels
