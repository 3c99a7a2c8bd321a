// octet_depthwise3x3s2_narrow_u8s8_avx512vbmi: 3x3 depthwise of 8, 16 or 32 channels, stride 2,
// codes stored. Layout kDepthwise3x3Twos.
//
// What a dword needs lies within 64 neighbouring bytes of a row, so that one permutation of bytes
// makes 16 dwords, where unpacking whole rows takes two a dword and pixels at odd places another.
// 8 and 16 channels: a dword is the three columns of a kernel row.
// 32: words are two neighbouring columns; a dword is words of two rows, or of the same row one
// pixel further on. Columns 2 of rows 0 and 1 are the next pixel's columns 0, and column 3 meets
// zero weights.
#include "kernels/depthwise_rows_avx512vnni.h"

#if !defined(__AVX512VBMI__)
#error "this file needs -mavx512vbmi"
#endif

namespace octet::kernels {
namespace {

// Every row takes a copy, which no store can change, so that registers hold it.
struct Tables : RowTables {
  // Of four accumulators, 64 bytes of output: pixels in order, or, of 32 channels, two of each
  // pixel, of channels 8 l + i and 8 l + 4 + i (lane l, dword i).
  __m512i bias[2];
  __m512 multiplier[2];
  __m512i weight[6];
  __m512i bytes;  // the permutation
  __m512i order;  // dwords of packed accumulators -> bytes of the output row

  explicit Tables(const DepthwiseArgs& d) : RowTables(d) {}
};

Tables MakeTables(const DepthwiseArgs& d) {
  const EpilogueArgs& e = d.epilogue;
  const uint32_t channels = static_cast<uint32_t>(d.channels), within = channels - 1;
  Tables t(d);
  alignas(64) uint8_t bytes[64];
  alignas(64) int32_t bias[32];
  alignas(64) float multiplier[32];
  for (uint32_t i = 0; i < 32; ++i) {
    const uint32_t of_32 = i % 16 / 4 * 8 + i / 16 * 4 + i % 4;
    const uint32_t channel = channels == 32 ? of_32 : i & within;
    bias[i] = e.bias[channel];
    multiplier[i] = e.multiplier[channel];
  }
  for (int64_t i = 0; i < 2; ++i) {
    t.bias[i] = _mm512_load_si512(bias + i * 16);
    t.multiplier[i] = _mm512_load_ps(multiplier + i * 16);
  }
  for (int64_t i = 0; i < 6; ++i)
    t.weight[i] = _mm512_load_si512(static_cast<const int8_t*>(d.weight) + i * 64);
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t dword = i / 4, column = i % 4 < 3 ? i % 4 : 0, channel = dword & within;
    const uint32_t at =
        channels == 32 ? i % 2 * 32 + i / 2 : (dword - channel) * 2 + column * channels + channel;
    bytes[i] = static_cast<uint8_t>(at);
  }
  t.bytes = _mm512_load_si512(bytes);
  t.order = channels == 32 ? _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)
                           : PackOrder();
  return t;
}

// n: bytes of the output row from y on that are real; kOfPixel: accumulators of a pixel, 1 or 2.
template <int kOfPixel, bool kPlain>
OCTET_INLINE void Store(const Tables& t, const Acc (&acc)[4], uint8_t* y, int64_t n) {
  __m512i q[4];
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) {
    const __m512 multiplier = t.multiplier[j % kOfPixel];
    q[j] = kPlain ? RequantizeSmall(acc[j], multiplier) : Requantize(acc[j], multiplier);
  }
  const __m512i packed = PackCodes(q[0], q[1], q[2], q[3], t.zero_y);
  StoreBounded<kPlain>(t, _mm512_permutexvar_epi32(t.order, packed), y, n);
}

// 64 bytes of output of 8 or 16 channels, from input byte `start` on: each accumulator's pixels
// begin 32 bytes after those of the one before.
template <bool kPlain, bool kInside>
OCTET_INLINE void OutputBytes(const Tables& t, const Strip& strip, int64_t start, uint8_t* y,
                              int64_t n) {
  Acc acc[4];
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) {
    acc[j] = AsAcc(t.bias[0]);
    OCTET_UNROLL
    for (int row = 0; row < 3; ++row) {
      const __m512i x = Codes<kPlain, kInside>(t, strip.rows[row], start + j * 32);
      acc[j] = Dot(acc[j], _mm512_permutexvar_epi8(t.bytes, x), t.weight[row]);
    }
  }
  Store<1, kPlain>(t, acc, y, n);
}

template <int kChannels, bool kPlain>
void OutputRow(const DepthwiseArgs& d, const Tables& tables, int64_t oy) {
  const Tables t = tables;
  const int64_t bytes = d.out_width * kChannels, pad = d.pad_left * kChannels;
  const Strip strip(d, oy, 3, false);
  for (int64_t out = 0; out < bytes; out += 64) {
    const int64_t start = out * 2 - pad;
    if (start >= 0 && start + 3 * 32 + 64 <= strip.readable) {
      OutputBytes<kPlain, true>(t, strip, start, strip.y + out, bytes - out);
    } else {
      OutputBytes<kPlain, false>(t, strip, start, strip.y + out, bytes - out);
    }
  }
}

// An output pixel's columns 0 and 1 of 32 channels: of rows 0 and 1 as dwords, of row 2 as words.
struct Columns {
  __m512i low, high, row2;
};

template <bool kPlain, bool kInside>
OCTET_INLINE Columns ColumnsAt(const Tables& t, const Strip& strip, int64_t start) {
  __m512i words[3];
  OCTET_UNROLL
  for (int row = 0; row < 3; ++row) {
    words[row] =
        _mm512_permutexvar_epi8(t.bytes, Codes<kPlain, kInside>(t, strip.rows[row], start));
  }
  return {_mm512_unpacklo_epi16(words[0], words[1]), _mm512_unpackhi_epi16(words[0], words[1]),
          words[2]};
}

// Two accumulators of the pixel at `now`, `next` following it.
OCTET_INLINE void PixelOf32(const Tables& t, const Columns& now, const Columns& next, Acc* acc) {
  acc[0] = Dot(acc[0], now.low, t.weight[0]);
  acc[1] = Dot(acc[1], now.high, t.weight[1]);
  acc[0] = Dot(acc[0], _mm512_unpacklo_epi16(now.row2, next.row2), t.weight[2]);
  acc[1] = Dot(acc[1], _mm512_unpackhi_epi16(now.row2, next.row2), t.weight[3]);
  acc[0] = Dot(acc[0], next.low, t.weight[4]);
  acc[1] = Dot(acc[1], next.high, t.weight[5]);
}

template <bool kPlain>
void OutputRowOf32(const DepthwiseArgs& d, const Tables& tables, int64_t oy) {
  const Tables t = tables;
  const int64_t bytes = d.out_width * 32, pad = d.pad_left * 32;
  const Strip strip(d, oy, 3, false);
  Columns first = ColumnsAt<kPlain, false>(t, strip, -pad);
  for (int64_t out = 0; out < bytes; out += 64) {
    const int64_t start = out * 2 - pad + 64;
    const bool inside = start >= 0 && start + 128 <= strip.readable;
    const Columns second = inside ? ColumnsAt<kPlain, true>(t, strip, start)
                                  : ColumnsAt<kPlain, false>(t, strip, start);
    const Columns third = inside ? ColumnsAt<kPlain, true>(t, strip, start + 64)
                                 : ColumnsAt<kPlain, false>(t, strip, start + 64);
    const Acc low = AsAcc(t.bias[0]), high = AsAcc(t.bias[1]);
    Acc acc[4] = {low, high, low, high};
    PixelOf32(t, first, second, acc);
    PixelOf32(t, second, third, acc + 2);
    Store<2, kPlain>(t, acc, strip.y + out, bytes - out);
    first = third;
  }
}

template <bool kPlain>
void Run(const DepthwiseArgs& d) {
  const Tables t = MakeTables(d);
  for (int64_t oy = d.oy_begin; oy < d.oy_end; ++oy) {
    if (d.channels == 32) {
      OutputRowOf32<kPlain>(d, t, oy);
    } else if (d.channels == 16) {
      OutputRow<16, kPlain>(d, t, oy);
    } else {
      OutputRow<8, kPlain>(d, t, oy);
    }
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_depthwise3x3s2_narrow_u8s8_avx512vbmi(
    const octet::kernels::DepthwiseArgs* args) {
  using namespace octet::kernels;
  if (IsPlain(*args)) {
    Run<true>(*args);
  } else {
    Run<false>(*args);
  }
}
