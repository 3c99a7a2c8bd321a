// octet_dense_narrow_u8s8_16x16_avx512vbmi: implicit GEMM on vpdpbusd for few output channels.
// Layout kTilesK64. Codes are stored, no residual.
//
// Lanes are 16 pixels, and each channel has an accumulator: with 8 or 16 channels no lane is empty,
// as most are where lanes are channels, and a step of four bytes of K costs one product a channel.
// Pixels lie lda bytes apart: where 8 of them and four bytes of K are within 64 bytes, two
// permutations put a step's 16 dwords together. Elsewhere they are gathered.
#include <string.h>

#include "kernels/epilogue_avx512vnni.h"

#if !defined(__AVX512VBMI__)
#error "this file needs -mavx512vbmi"
#endif

namespace octet::kernels {
namespace {

constexpr int kPixels = 16;
constexpr int64_t kTileBytes = 1024;  // 64 of K by 16 channels
constexpr int64_t kWindow = 64;

// acc += x (u8) . four weights, the same for every lane. Compilers make two instructions of it, and
// twice as many to issue is what this kernel would wait for.
OCTET_INLINE Acc DotOfAll(Acc acc, __m512i x, const int8_t* w) {
  typedef int32_t __attribute__((may_alias)) Dword;
  __asm__("vpdpbusd %2%{1to16%}, %1, %0"
          : "+v"(acc)
          : "v"(x), "m"(*reinterpret_cast<const Dword*>(w)));
  return acc;
}

// NC channels from `c` on, `n` of them real.
template <int NC>
struct Channels {
  int64_t c, n;
  const int8_t* weight;  // of a step: NC dwords; steps of a tile are 64 bytes apart
  int64_t tile_step;     // bytes from a tile of 64 of K to the next
};

// The dwords at p, p + lda, ..., from 16 pixels: bytes [64) at p and at p + 8 lda are readable.
struct Windows {
  __m512i order;
  int64_t half;  // 8 lda

  explicit Windows(const DenseArgs& d) : half(8 * d.lda) {
    alignas(64) uint8_t bytes[64];
    for (int64_t i = 0; i < 64; ++i) bytes[i] = static_cast<uint8_t>(i / 4 % 8 * d.lda + i % 4);
    order = _mm512_load_si512(bytes);
  }
  [[gnu::always_inline]] __m512i Load(const uint8_t* p) const {
    const __m512i low = _mm512_permutexvar_epi8(order, _mm512_loadu_si512(p));
    return _mm512_mask_permutexvar_epi8(low, 0xffffffff00000000ULL, order,
                                        _mm512_loadu_si512(p + half));
  }
};

// The same, of `count` pixels, bytes from `end` on left out.
struct Dwords {
  const uint8_t* end;
  int64_t lda, count;
  __m512i offset;

  Dwords(const DenseArgs& d, int64_t pixels)
      : end(d.end),
        lda(d.lda),
        count(pixels),
        offset(_mm512_mullo_epi32(
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
            _mm512_set1_epi32(static_cast<int>(d.lda)))) {}
  [[gnu::always_inline]] __m512i Load(const uint8_t* p) const {
    if (lda < (1 << 26) && end - p >= (count - 1) * lda + 4)
      return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), Mask16(count), offset, p, 1);
    alignas(64) uint8_t dwords[64] = {};
    for (int64_t i = 0; i < count; ++i, p += lda) {
      const int64_t left = end - p;
      if (left > 0) memcpy(dwords + i * 4, p, static_cast<size_t>(left < 4 ? left : 4));
    }
    return _mm512_load_si512(dwords);
  }
};

// Sums of G times 16 pixels, lda apart from `pixel` on.
template <int NC, int G, typename Loader>
OCTET_INLINE void Sum(const DenseArgs& d, const Channels<NC>& channels, const uint8_t* pixel,
                      const Loader& loader, Acc (&acc)[G][NC]) {
  OCTET_UNROLL
  for (int i = 0; i < NC; ++i) {
    OCTET_UNROLL
    for (int g = 0; g < G; ++g)
      acc[g][i] = AsAcc(_mm512_set1_epi32(d.epilogue.bias[channels.c + i]));
  }
  const int8_t* tile = channels.weight;
  for (int64_t t = 0; t < d.taps; ++t) {
    const uint8_t* p = pixel + d.tap_offset[t];
    for (int64_t k = 0; k < d.kc; k += 64, tile += channels.tile_step) {
      const int64_t steps = ((d.kc - k < 64 ? d.kc - k : 64) + 3) / 4;
      const int8_t* w = tile;
      for (int64_t s = 0; s < steps; ++s, p += 4, w += 64) {
        __m512i x[G];
        OCTET_UNROLL
        for (int g = 0; g < G; ++g) x[g] = loader.Load(p + g * kPixels * d.lda);
        OCTET_UNROLL
        for (int i = 0; i < NC; ++i) {
          OCTET_UNROLL
          for (int g = 0; g < G; ++g) acc[g][i] = DotOfAll(acc[g][i], x[g], w + i * 4);
        }
      }
    }
  }
}

// Four channels of 16 pixels as bytes: lane l holds those of pixels 4 l to 4 l + 3.
template <bool Small>
OCTET_INLINE __m512i FourChannels(const DenseArgs& d, const Acc* acc, int64_t c, __m512i zero) {
  __m512i codes[4];
  OCTET_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512 multiplier = _mm512_set1_ps(d.epilogue.multiplier[c + i]);
    codes[i] = Small ? RequantizeSmall(acc[i], multiplier) : Requantize(acc[i], multiplier);
  }
  // In a lane: four pixels of the first channel, four of the second, ...
  const __m512i order =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return _mm512_shuffle_epi8(PackCodes(codes[0], codes[1], codes[2], codes[3], zero), order);
}

OCTET_INLINE void StoreLane(uint8_t* to, __m128i lane) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), lane);
}
// Lane l of v at to + l * stride.
OCTET_INLINE void StoreLanes(uint8_t* to, int64_t stride, __m512i v) {
  StoreLane(to, _mm512_castsi512_si128(v));
  StoreLane(to + stride, _mm512_extracti32x4_epi32(v, 1));
  StoreLane(to + 2 * stride, _mm512_extracti32x4_epi32(v, 2));
  StoreLane(to + 3 * stride, _mm512_extracti32x4_epi32(v, 3));
}

// Pairs of 8 bytes: those of lane l at to + 4 l * stride, and `stride` further on.
OCTET_INLINE void StorePairs(uint8_t* to, int64_t stride, __m512i v) {
  alignas(64) uint8_t pairs[64];
  _mm512_store_si512(pairs, v);
  OCTET_UNROLL
  for (int i = 0; i < 8; ++i) memcpy(to + (i / 2 * 4 + i % 2) * stride, pairs + i * 8, 8);
}

// Codes of 16 pixels of NC channels, pixels `stride` apart.
template <int NC, bool Small>
OCTET_INLINE void Store16(const DenseArgs& d, int64_t c, const Acc (&acc)[NC], uint8_t* to,
                          int64_t stride) {
  const EpilogueArgs& e = d.epilogue;
  const __m512i zero = Zero16(e), flip = Flip(e);
  __m512i four[NC / 4];
  OCTET_UNROLL
  for (int i = 0; i < NC / 4; ++i) four[i] = FourChannels<Small>(d, acc + i * 4, c + i * 4, zero);
  const __m128i lo16 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(e.lo + c));
  const __m128i hi16 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(e.hi + c));
  const __m512i low = _mm512_unpacklo_epi32(four[0], four[1]);   // pixels 0, 1 of each lane's four
  const __m512i high = _mm512_unpackhi_epi32(four[0], four[1]);  // pixels 2, 3
  if constexpr (NC == 8) {
    const __m512i lo = _mm512_broadcastq_epi64(lo16), hi = _mm512_broadcastq_epi64(hi16);
    if (stride == 8) {
      StoreLanes(to, 32, Bound(low, lo, hi, flip));
      StoreLanes(to + 16, 32, Bound(high, lo, hi, flip));
    } else {
      StorePairs(to, stride, Bound(low, lo, hi, flip));
      StorePairs(to + 2 * stride, stride, Bound(high, lo, hi, flip));
    }
  } else {
    const __m512i lo = _mm512_broadcast_i32x4(lo16), hi = _mm512_broadcast_i32x4(hi16);
    const __m512i low2 = _mm512_unpacklo_epi32(four[2], four[3]);
    const __m512i high2 = _mm512_unpackhi_epi32(four[2], four[3]);
    const __m512i pixels[4] = {_mm512_unpacklo_epi64(low, low2), _mm512_unpackhi_epi64(low, low2),
                               _mm512_unpacklo_epi64(high, high2),
                               _mm512_unpackhi_epi64(high, high2)};
    OCTET_UNROLL
    for (int i = 0; i < 4; ++i)
      StoreLanes(to + i * stride, 4 * stride, Bound(pixels[i], lo, hi, flip));
  }
}

// Codes of `count` pixels from row `row` of y on.
template <int NC, bool Small>
OCTET_INLINE void Store(const DenseArgs& d, const Channels<NC>& channels, int64_t row,
                        int64_t count, const Acc (&acc)[NC]) {
  uint8_t* y = d.y + row * d.y_stride + channels.c;
  if (count == kPixels && channels.n == NC) {
    Store16<NC, Small>(d, channels.c, acc, y, d.y_stride);
    return;
  }
  uint8_t codes[kPixels * NC];
  Store16<NC, Small>(d, channels.c, acc, codes, NC);
  for (int64_t i = 0; i < count; ++i, y += d.y_stride)
    memcpy(y, codes + i * NC, static_cast<size_t>(channels.n));
}

template <int NC, int G, bool Small, typename Loader>
void Group(const DenseArgs& d, const Channels<NC>& channels, const uint8_t* pixel, int64_t row,
           int64_t count, const Loader& loader) {
  Acc acc[G][NC];
  Sum<NC, G>(d, channels, pixel, loader, acc);
  OCTET_UNROLL
  for (int g = 0; g < G; ++g)
    Store<NC, Small>(d, channels, row + g * kPixels, G == 1 ? count : kPixels, acc[g]);
}

// Every run of pixels, the last 16 of a run starting early enough to be whole.
template <int NC, bool Small>
void Runs(const DenseNarrowArgs& args, const Channels<NC>& channels) {
  const DenseArgs& d = args.dense;
  int64_t furthest = 0;
  for (int64_t t = 0; t < d.taps; ++t)
    furthest = d.tap_offset[t] > furthest ? d.tap_offset[t] : furthest;
  const int64_t last_dword = (d.kc + 3) / 4 * 4 - 4;
  const bool close = 7 * d.lda + 4 <= kWindow;
  const Windows windows(d);
  // Of `pixels` from `pixel` on.
  const auto readable = [&](const uint8_t* pixel, int64_t pixels) {
    return close && d.end - pixel >= (pixels - 8) * d.lda + furthest + last_dword + kWindow;
  };
  for (int64_t run = 0; run < d.m / d.run; ++run) {
    const uint8_t* a = d.a + run * d.pitch * d.lda;
    const int64_t first = run * args.y_pitch;
    for (int64_t i = 0; i < d.run;) {
      constexpr int64_t kTwo = 2 * kPixels;
      if (NC == 8 && d.run - i >= kTwo && readable(a + i * d.lda, kTwo)) {
        Group<NC, NC == 8 ? 2 : 1, Small>(d, channels, a + i * d.lda, first + i, kTwo, windows);
        i += kTwo;
        continue;
      }
      const int64_t at = d.run < kPixels || i + kPixels <= d.run ? i : d.run - kPixels;
      const int64_t count = d.run < kPixels ? d.run : kPixels;
      const uint8_t* pixel = a + at * d.lda;
      if (readable(pixel, kPixels)) {
        Group<NC, 1, Small>(d, channels, pixel, first + at, count, windows);
      } else {
        Group<NC, 1, false>(d, channels, pixel, first + at, count, Dwords(d, count));
      }
      i = at + kPixels;
    }
  }
}

template <int NC>
void AllRuns(const DenseNarrowArgs& args, const Channels<NC>& channels) {
  if (args.dense.epilogue.small) {
    Runs<NC, true>(args, channels);
  } else {
    Runs<NC, false>(args, channels);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_dense_narrow_u8s8_16x16_avx512vbmi(
    const octet::kernels::DenseNarrowArgs* args) {
  using namespace octet::kernels;
  const DenseArgs& d = args->dense;
  const int64_t panel_row = d.taps * ((d.kc + 63) / 64 * 64);
  for (int64_t panel = d.n_begin; panel < d.n_end; panel += 64) {
    const int64_t width = d.n_end - panel < 64 ? d.n_end - panel : 64;
    const int8_t* w = static_cast<const int8_t*>(d.weight) + panel * panel_row;
    const int64_t step = (width + 15) / 16 * kTileBytes;
    for (int64_t c = 0; c < width; c += 16) {
      const int64_t n = width - c;
      if (n <= 8) {
        AllRuns<8>(*args, {panel + c, n, w + c / 16 * kTileBytes, step});
      } else {
        AllRuns<16>(*args, {panel + c, n < 16 ? n : 16, w + c / 16 * kTileBytes, step});
      }
    }
  }
}
