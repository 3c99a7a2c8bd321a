// octet_depthwise3x3_narrow_u8s8_avx512vnni: 3x3 depthwise of 8, 16 or 32 channels, stride 1 or 2.
//
// A vector of 64 channels would be mostly empty. Here its 64 lanes are 64 neighbouring bytes of an
// output row, that is 64 / C pixels of C channels: lane i is channel i % C (layout
// kDepthwise3x3Tiled). Kernel column kx of those pixels is 64 neighbouring bytes of an input row
// too; at stride 2, every other pixel of 128, and column 2 is column 0 a pixel further on, made of
// what is interleaved already. Bytes beyond the row's ends read as the zero point through masked
// loads, which do not touch memory.
#include "kernels/depthwise_rows_avx512vnni.h"

namespace octet::kernels {
namespace {

struct Tables : RowTables {
  alignas(64) int32_t bias[64];  // in the accumulators' order, see pack.h
  alignas(64) float multiplier[64];
  __m512i even, odd;  // 64-bit words of a pair of vectors: the pixels at even and odd places

  explicit Tables(const DepthwiseArgs& d) : RowTables(d) {
    for (int64_t i = 0; i < 64; ++i) {
      const int64_t j = i / 16, lane = i % 16 / 4;  // accumulator j, lane: channels 16 lane + 4 j
      const int64_t channel = (lane * 16 + j * 4 + i % 4) & (d.channels - 1);
      bias[i] = d.epilogue.bias[channel];
      multiplier[i] = d.epilogue.multiplier[channel];
    }
    const int64_t words = d.channels / 8;
    alignas(64) int64_t places[8];
    for (int64_t i = 0; i < 8; ++i) places[i] = i / words * 2 * words + i % words;
    even = _mm512_load_si512(places);
    odd = _mm512_add_epi64(even, _mm512_set1_epi64(words));
  }
};

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
    return StoreBounded<kPlain>(t, PackCodes(q[0], q[1], q[2], q[3], t.zero_y), y + out, n);
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

// Stride 1: 64 bytes of a strip's output from `out` on.
template <int kChannels, bool kTwo, bool kPlain, bool kInside>
OCTET_INLINE void OutputBytes(const DepthwiseArgs& d, const Tables& t, const Strip& strip,
                              const int8_t* w, int64_t out, int64_t n) {
  const int64_t start = out - d.pad_left * kChannels;
  const auto column = [&](int row, int kx) __attribute__((always_inline)) {
    return Codes<kPlain, kInside>(t, strip.rows[row], start + kx * kChannels);
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

template <int kChannels, bool kTwo, bool kPlain>
void OutputRows(const DepthwiseArgs& d, const Tables& t, int64_t oy) {
  const int64_t bytes = d.out_width * kChannels, pad = d.pad_left * kChannels;
  const Strip strip(d, oy, kTwo ? 4 : 3, kTwo);
  const int8_t* w = static_cast<const int8_t*>(d.weight);
  for (int64_t out = 0; out < bytes; out += 64) {
    if (out >= pad && out - pad + 2 * kChannels + 64 <= strip.readable && out + 64 <= bytes) {
      OutputBytes<kChannels, kTwo, kPlain, true>(d, t, strip, w, out, 64);
    } else {
      OutputBytes<kChannels, kTwo, kPlain, false>(d, t, strip, w, out, bytes - out);
    }
  }
}

// Stride 2: pixels at even and odd places of 128 bytes of the three rows, interleaved.
struct EvenOdd {
  Quad<Wide> even, odd;
};

template <bool kPlain, bool kInside>
OCTET_INLINE EvenOdd Split(const Tables& t, const Strip& strip, int64_t start) {
  __m512i even[3], odd[3];
  OCTET_UNROLL
  for (int i = 0; i < 3; ++i) {
    const __m512i low = Codes<kPlain, kInside>(t, strip.rows[i], start);
    const __m512i high = Codes<kPlain, kInside>(t, strip.rows[i], start + 64);
    even[i] = _mm512_permutex2var_epi64(low, t.even, high);
    odd[i] = _mm512_permutex2var_epi64(low, t.odd, high);
  }
  return {Interleave<Wide>(even[0], even[1], even[2], even[2]),
          Interleave<Wide>(odd[0], odd[1], odd[2], odd[2])};
}

// The pixels from the second of `a` on, `b` following it. A vector of a Quad has four channels of a
// pixel, or of two, in each of its lanes of 16 bytes.
template <int kChannels>
OCTET_INLINE Quad<Wide> NextPixel(const Quad<Wide>& a, const Quad<Wide>& b) {
  Quad<Wide> next;
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) {
    if (kChannels == 8) {
      next.v[j] = j < 2 ? a.v[j + 2] : _mm512_alignr_epi64(b.v[j - 2], a.v[j - 2], 2);
    } else {
      next.v[j] = _mm512_alignr_epi64(b.v[j], a.v[j], kChannels == 16 ? 2 : 4);
    }
  }
  return next;
}

template <int kChannels, bool kPlain>
void OutputRowOfTwos(const DepthwiseArgs& d, const Tables& t, int64_t oy) {
  const int64_t bytes = d.out_width * kChannels, pad = d.pad_left * kChannels;
  const Strip strip(d, oy, 3, false);
  const int8_t* w = static_cast<const int8_t*>(d.weight);
  EvenOdd now = Split<kPlain, false>(t, strip, -pad);
  for (int64_t out = 0; out < bytes; out += 64) {
    const int64_t after = (out + 64) * 2 - pad;
    const EvenOdd next = after >= 0 && after + 128 <= strip.readable
                             ? Split<kPlain, true>(t, strip, after)
                             : Split<kPlain, false>(t, strip, after);
    Quad<Wide> acc = Bias(t);
    DotQuad<Wide>(&acc, now.even, w);
    DotQuad<Wide>(&acc, now.odd, w + 256);
    DotQuad<Wide>(&acc, NextPixel<kChannels>(now.even, next.even), w + 512);
    Store<kPlain>(d, t, acc, strip.y, out, bytes - out);
    now = next;
  }
}

template <int kChannels, bool kPlain>
void Run(const DepthwiseArgs& d) {
  const Tables t(d);
  for (int64_t oy = d.oy_begin; oy < d.oy_end;) {
    if (d.stride_h == 2) {
      OutputRowOfTwos<kChannels, kPlain>(d, t, oy++);
    } else if (oy + 1 < d.oy_end) {
      OutputRows<kChannels, true, kPlain>(d, t, oy);
      oy += 2;
    } else {
      OutputRows<kChannels, false, kPlain>(d, t, oy++);
    }
  }
}

template <int kChannels>
void Run(const DepthwiseArgs& d) {
  if (IsPlain(d)) {
    Run<kChannels, true>(d);
  } else {
    Run<kChannels, false>(d);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_depthwise3x3_narrow_u8s8_avx512vnni(
    const octet::kernels::DepthwiseArgs* args) {
  using namespace octet::kernels;
  switch (args->channels) {
    case 8:
      return Run<8>(*args);
    case 16:
      return Run<16>(*args);
    default:
      return Run<32>(*args);
  }
}
