// Rows of a depthwise convolution of few channels, read 64 neighbouring bytes at a time whatever
// pixels they are, for the kernel files from the avx512vnni level on (internal linkage throughout).
// Bytes beyond a row's ends read as the zero point through masked loads, which do not touch memory.
#pragma once

#include "kernels/depthwise_avx512vnni.h"

namespace octet::kernels {
namespace {

struct Row {
  const uint8_t* x;
  int64_t bytes;  // 0 outside the image
};

Row RowAt(const DepthwiseArgs& d, int64_t iy) {
  const bool inside = iy >= 0 && iy < d.height;
  return {d.x + (inside ? iy * d.width * d.channels : 0), inside ? d.width * d.channels : 0};
}

// 64 bytes from `start` on, in the code type of x.
OCTET_INLINE __m512i Bytes(const Row& row, int64_t start, __m512i zero) {
  if (start >= 0 && start + 64 <= row.bytes) return _mm512_loadu_si512(row.x + start);
  const int64_t first = start < 0 ? -start : 0;
  const int64_t last = row.bytes - start;
  if (first >= 64 || last <= first) return zero;
  const __mmask64 some = Mask64(last) & ~Mask64(first);
  return _mm512_mask_loadu_epi8(zero, some, row.x + start);
}

// What every such kernel needs of its arguments; channels divide 64.
struct RowTables {
  __m512i lo, hi;  // per byte of 64 of an output row
  __m512i flip_y, flip_x, zero_y;
  __m512i zero;  // of x, as stored

  explicit RowTables(const DepthwiseArgs& d)
      : flip_y(Flip(d.epilogue)),
        flip_x(_mm512_set1_epi8(static_cast<char>(d.x_flip))),
        zero_y(Zero16(d.epilogue)),
        zero(_mm512_set1_epi8(static_cast<char>(d.zero_pixel[0]))) {
    // Channels are a power of two: dividing 64 times would take as long as many a row.
    const int64_t within = d.channels - 1;
    alignas(64) uint8_t low[64], high[64];
    for (int64_t i = 0; i < 64; ++i) {
      low[i] = d.epilogue.lo[i & within];
      high[i] = d.epilogue.hi[i & within];
    }
    lo = _mm512_load_si512(low);
    hi = _mm512_load_si512(high);
  }
};

// 64 bytes of a row, the sign bit of int8 flipped unless kPlain. kInside: all of them are the
// row's.
template <bool kPlain, bool kInside>
OCTET_INLINE __m512i Codes(const RowTables& t, const Row& row, int64_t start) {
  const __m512i x = kInside ? _mm512_loadu_si512(row.x + start) : Bytes(row, start, t.zero);
  return kPlain ? x : _mm512_xor_si512(x, t.flip_x);
}

// packed: 64 codes in the order of the output row; n: how many of them are real.
template <bool kPlain>
OCTET_INLINE void StoreBounded(const RowTables& t, __m512i packed, uint8_t* y, int64_t n) {
  const __m512i codes =
      kPlain ? Wide::Clamp8(packed, t.lo, t.hi) : Bound(packed, t.lo, t.hi, t.flip_y);
  if (n >= 64) {
    _mm512_storeu_si512(y, codes);
  } else {
    _mm512_mask_storeu_epi8(y, Mask64(n), codes);
  }
}

// One or two output rows, and the input rows they read.
struct Strip {
  Row rows[4];
  uint8_t *y, *below;
  int64_t readable;  // bytes from the start that all input rows have

  Strip(const DepthwiseArgs& d, int64_t oy, int count, bool two) {
    const int64_t row_bytes = d.out_width * d.channels * (d.epilogue.output == kStoreCodes ? 1 : 4);
    y = d.y + oy * row_bytes;
    below = y + (two ? row_bytes : 0);
    readable = d.width * d.channels;
    for (int i = 0; i < count; ++i) {
      rows[i] = RowAt(d, oy * d.stride_h + i - d.pad_top);
      readable = rows[i].bytes < readable ? rows[i].bytes : readable;
    }
  }
};

}  // namespace
}  // namespace octet::kernels
