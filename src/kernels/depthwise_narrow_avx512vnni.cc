// octet_depthwise3x3_narrow_u8s8_avx512vnni: 3x3 depthwise of 8, 16 or 32 channels, stride 1 or 2.
//
// A vector of 64 channels would be mostly empty. Here its 64 lanes are 64 neighbouring bytes of an
// output row, that is 64 / C pixels of C channels: lane i is channel i % C (layout
// kDepthwise3x3Tiled). Kernel column kx of those pixels is 64 neighbouring bytes of an input row
// too; at stride 2, every other pixel of 128. Bytes beyond the row's ends read as the zero point
// through masked loads, which do not touch memory.
#include <string.h>

#include "kernels/depthwise_avx512vnni.h"

namespace octet::kernels {
namespace {

struct Tables {
  alignas(64) int32_t bias[64];  // in the accumulators' order, see pack.h
  alignas(64) float multiplier[64];
  __m512i lo, hi, flip_y, flip_x, zero_y;
  __m512i zero;       // of x, as stored
  __m512i even, odd;  // 64-bit words of a pair of vectors: the pixels at even and odd places
};

Tables MakeTables(const DepthwiseArgs& d) {
  const EpilogueArgs& e = d.epilogue;
  Tables t;
  alignas(64) uint8_t lo[64], hi[64];
  for (int64_t i = 0; i < 64; ++i) {
    const int64_t j = i / 16, lane = i % 16 / 4;  // accumulator j, lane: channels 16 lane + 4 j ..
    const int64_t channel = (lane * 16 + j * 4 + i % 4) % d.channels;
    t.bias[i] = e.bias[channel];
    t.multiplier[i] = e.multiplier[channel];
    lo[i] = e.lo[i % d.channels];
    hi[i] = e.hi[i % d.channels];
  }
  t.lo = _mm512_load_si512(lo);
  t.hi = _mm512_load_si512(hi);
  t.flip_y = Flip(e);
  t.zero_y = Zero16(e);
  t.flip_x = _mm512_set1_epi8(static_cast<char>(d.x_flip));
  t.zero = _mm512_set1_epi8(static_cast<char>(d.zero_pixel[0]));
  const int64_t words = d.channels / 8;
  alignas(64) int64_t even[8];
  for (int64_t i = 0; i < 8; ++i) even[i] = i / words * 2 * words + i % words;
  t.even = _mm512_load_si512(even);
  t.odd = _mm512_add_epi64(t.even, _mm512_set1_epi64(words));
  return t;
}

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

// Kernel column kx for the 64 output bytes from `out` on. kInside: all it reads is in the row.
template <int kStride, bool kPlain, bool kInside>
OCTET_INLINE __m512i Column(const Tables& t, const Row& row, int64_t out, int kx, int64_t channels,
                            int64_t pad_left) {
  // At stride 2, kx = 1 takes the odd pixels of what kx = 0 reads.
  const int64_t start = out * kStride + ((kStride == 2 && kx == 1 ? 0 : kx) - pad_left) * channels;
  const auto bytes = [&](int64_t at) __attribute__((always_inline)) {
    return kInside ? _mm512_loadu_si512(row.x + at) : Bytes(row, at, t.zero);
  };
  __m512i x = bytes(start);
  if constexpr (kStride == 2)
    x = _mm512_permutex2var_epi64(x, kx == 1 ? t.odd : t.even, bytes(start + 64));
  return kPlain ? x : _mm512_xor_si512(x, t.flip_x);
}

OCTET_INLINE Quad<Wide> Bias(const Tables& t) {
  Quad<Wide> acc;
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) acc.v[j] = _mm512_load_si512(t.bias + j * 16);
  return acc;
}

// y: the output row; n: bytes of it from `out` on that are real. kPlain: see IsPlain.
template <bool kPlain>
OCTET_INLINE void Store(const DepthwiseArgs& d, const Tables& t, const Quad<Wide>& acc, uint8_t* y,
                        int64_t out, int64_t n) {
  const EpilogueArgs& e = d.epilogue;
  if (kPlain || e.output == kStoreCodes) {
    __m512i q[4];
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) q[j] = Wide::Requantized<kPlain>(acc.v[j], t.multiplier + j * 16);
    const __m512i packed = PackCodes(q[0], q[1], q[2], q[3], t.zero_y);
    const __m512i codes =
        kPlain ? Wide::Clamp8(packed, t.lo, t.hi) : Bound(packed, t.lo, t.hi, t.flip_y);
    if (n >= 64) {
      _mm512_storeu_si512(y + out, codes);
    } else {
      _mm512_mask_storeu_epi8(y + out, Mask64(n), codes);
    }
    return;
  }
  for (int64_t i = 0; i < 16 && i * 4 < n; ++i) {  // four lanes at a time: channels of one pixel
    const int64_t j = i % 4, lane = i / 4;
    alignas(64) int32_t sums[16];
    _mm512_store_si512(sums, acc.v[j]);
    const __m512i four =
        _mm512_castsi128_si512(_mm_load_si128(reinterpret_cast<const __m128i*>(sums + lane * 4)));
    const int64_t c = (out + i * 4) % d.channels;
    StoreWide(e, AsAcc(four), c, Mask16(4), y + (out + i * 4 - c) * 4);
  }
}

// One or two output rows, and the input rows they read.
struct Strip {
  Row rows[4];
  uint8_t *y, *below;
};

// 64 bytes of a strip's output from `out` on.
template <int kStride, bool kTwo, bool kPlain, bool kInside>
OCTET_INLINE void OutputBytes(const DepthwiseArgs& d, const Tables& t, const Strip& strip,
                              const int8_t* w, int64_t channels, int64_t pad_left, int64_t out,
                              int64_t n) {
  const auto column = [&](int row, int kx) __attribute__((always_inline)) {
    return Column<kStride, kPlain, kInside>(t, strip.rows[row], out, kx, channels, pad_left);
  };
  Quad<Wide> acc = Bias(t), next = Bias(t);
  OCTET_UNROLL
  for (int kx = 0; kx < 3; ++kx) {
    const __m512i r2 = column(2, kx);
    // The third row again meets zero weights.
    const Quad<Wide> x =
        Interleave<Wide>(column(0, kx), column(1, kx), r2, kTwo ? column(3, kx) : r2);
    DotQuad<Wide>(&acc, x, w + kx * 256);
    if constexpr (kTwo) DotQuad<Wide>(&next, x, w + (3 + kx) * 256);
  }
  Store<kPlain>(d, t, acc, strip.y, out, n);
  if constexpr (kTwo) Store<kPlain>(d, t, next, strip.below, out, n);
}

template <int kStride, bool kTwo, bool kPlain>
void OutputRows(const DepthwiseArgs& d, const Tables& t, int64_t oy) {
  constexpr int kRows = kTwo ? 4 : 3;
  const int64_t channels = d.channels, pad_left = d.pad_left, bytes = d.out_width * channels;
  const int64_t row_bytes = bytes * (d.epilogue.output == kStoreCodes ? 1 : 4);
  Strip strip{};
  strip.y = d.y + oy * row_bytes;
  strip.below = strip.y + (kTwo ? row_bytes : 0);
  int64_t readable = d.width * channels;
  for (int i = 0; i < kRows; ++i) {
    strip.rows[i] = RowAt(d, oy * kStride + i - d.pad_top);
    readable = strip.rows[i].bytes < readable ? strip.rows[i].bytes : readable;
  }
  const int8_t* w = static_cast<const int8_t*>(d.weight);
  const Strip here = strip;  // not what a store of bytes could change
  for (int64_t out = 0; out < bytes; out += 64) {
    const int64_t first = out * kStride - pad_left * channels;
    if (first >= 0 && first + 2 * channels + 64 * kStride <= readable && out + 64 <= bytes) {
      OutputBytes<kStride, kTwo, kPlain, true>(d, t, here, w, channels, pad_left, out, 64);
    } else {
      OutputBytes<kStride, kTwo, kPlain, false>(d, t, here, w, channels, pad_left, out,
                                                bytes - out);
    }
  }
}

template <bool kPlain>
void Run(const DepthwiseArgs& d, const Tables& t) {
  for (int64_t oy = d.oy_begin; oy < d.oy_end;) {
    if (d.stride_h == 2) {
      OutputRows<2, false, kPlain>(d, t, oy++);
    } else if (oy + 1 < d.oy_end) {
      OutputRows<1, true, kPlain>(d, t, oy);
      oy += 2;
    } else {
      OutputRows<1, false, kPlain>(d, t, oy++);
    }
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_depthwise3x3_narrow_u8s8_avx512vnni(
    const octet::kernels::DepthwiseArgs* args) {
  using namespace octet::kernels;
  const Tables t = MakeTables(*args);
  if (IsPlain(*args)) {
    Run<true>(*args, t);
  } else {
    Run<false>(*args, t);
  }
}
