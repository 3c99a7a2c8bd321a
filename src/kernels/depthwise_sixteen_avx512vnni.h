// 3x3 depthwise convolution of a block of 16 channels beside others, plain codes (IsPlain), for the
// kernel files of the avx512vnni level.
//
// A vector of 16 channels would be three quarters empty: here its four lanes of 16 bytes are four
// neighbouring output pixels, gathered from the input and scattered to the output.
#pragma once

#include <string.h>

#include "kernels/depthwise_avx512vnni.h"

namespace octet::kernels {
namespace {

class Sixteen {
 public:
  // w: the block's weights, packed for 16 channels (kDepthwise3x3).
  Sixteen(const DepthwiseArgs& d, const int8_t* w, int64_t c) : d_(d), c_(c) {
    const EpilogueArgs& e = d.epilogue;
    for (int64_t i = 0; i < 24; ++i) FourTimes(w + i * 16, w_ + i * 64);
    for (int64_t j = 0; j < 4; ++j) {
      FourTimes(e.bias + c + j * 4, bias_ + j * 16);
      FourTimes(e.multiplier + c + j * 4, multiplier_ + j * 16);
    }
    FourTimes(e.lo + c, lo_);
    FourTimes(e.hi + c, hi_);
  }

  void Run() const {
    for (int64_t oy = d_.oy_begin; oy < d_.oy_end;) {
      if (d_.stride_h == 2) {
        RunRows<2, false>(oy++);
      } else if (oy + 1 < d_.oy_end) {
        RunRows<1, true>(oy);
        oy += 2;
      } else {
        RunRows<1, false>(oy++);
      }
    }
  }

 private:
  template <typename T>
  static void FourTimes(const T* from, T* to) {
    for (int i = 0; i < 4; ++i) memcpy(reinterpret_cast<char*>(to) + i * 16, from, 16);
  }

  OCTET_INLINE __m128i Load(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  OCTET_INLINE __m512i Join(const uint8_t* p0, const uint8_t* p1, const uint8_t* p2,
                            const uint8_t* p3) {
    __m512i x = _mm512_castsi128_si512(Load(p0));
    x = _mm512_inserti32x4(x, Load(p1), 1);
    x = _mm512_inserti32x4(x, Load(p2), 2);
    return _mm512_inserti32x4(x, Load(p3), 3);
  }

  // Columns ix, ix + kStride, ... of kRows rows, interleaved.
  template <int kStride, int kRows>
  OCTET_INLINE Quad<Wide> Columns(const DepthwiseArgs& d, const InputRows& rows,
                                  const uint8_t* zero, int64_t ix) {
    __m512i x[4];
    if (ix >= 0 && ix + 3 * kStride < d.width) {
      OCTET_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const int64_t step = rows.step[i] * kStride;
        const uint8_t* p = rows.base[i] + ix * rows.step[i];
        x[i] = Join(p, p + step, p + 2 * step, p + 3 * step);
      }
    } else {
      for (int i = 0; i < kRows; ++i) {
        const uint8_t* p[4];
        for (int64_t l = 0; l < 4; ++l) {
          const int64_t at = ix + l * kStride;
          p[l] = at >= 0 && at < d.width ? rows.base[i] + at * rows.step[i] : zero;
        }
        x[i] = Join(p[0], p[1], p[2], p[3]);
      }
    }
    return Interleave<Wide>(x[0], x[1], x[2], x[kRows - 1]);
  }

  // The four pixels from the kPixels-th of `a` on, `b` following it.
  template <int kPixels>
  OCTET_INLINE Quad<Wide> Shift(const Quad<Wide>& a, const Quad<Wide>& b) {
    Quad<Wide> shifted;
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) shifted.v[j] = _mm512_alignr_epi64(b.v[j], a.v[j], kPixels * 2);
    return shifted;
  }

  // y: pixel 0 of four, n of them real.
  OCTET_INLINE void Store(const Sixteen& s, const Quad<Wide>& c0, const Quad<Wide>& c1,
                          const Quad<Wide>& c2, const int8_t* w, uint8_t* y, int64_t channels,
                          int64_t n) {
    Quad<Wide> acc;
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) acc.v[j] = _mm512_load_si512(s.bias_ + j * 16);
    DotQuad<Wide>(&acc, c0, w);
    DotQuad<Wide>(&acc, c1, w + 256);
    DotQuad<Wide>(&acc, c2, w + 512);
    __m512i q[4];
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) q[j] = Wide::Requantized<true>(acc.v[j], s.multiplier_ + j * 16);
    const __m512i codes = Wide::Clamp8(
        PackCodes(q[0], q[1], q[2], q[3], _mm512_set1_epi16(static_cast<short>(s.zero_))),
        _mm512_load_si512(s.lo_), _mm512_load_si512(s.hi_));
    const auto put = [&](int64_t pixel, __m128i v) __attribute__((always_inline)) {
      if (pixel < n) _mm_storeu_si128(reinterpret_cast<__m128i*>(y + pixel * channels), v);
    };
    put(0, _mm512_castsi512_si128(codes));
    put(1, _mm512_extracti32x4_epi32(codes, 1));
    put(2, _mm512_extracti32x4_epi32(codes, 2));
    put(3, _mm512_extracti32x4_epi32(codes, 3));
  }

  // Output rows oy and, where kTwo, oy + 1.
  template <int kStride, bool kTwo>
  void RunRows(int64_t oy) const {
    constexpr int kRows = kTwo ? 4 : 3;
    const int64_t channels = d_.channels, width = d_.out_width;
    const uint8_t* zero = d_.zero_pixel + c_;
    const InputRows rows = RowsFrom(d_, oy * kStride - d_.pad_top, kRows, c_);
    uint8_t* y = d_.y + oy * width * channels + c_;
    Quad<Wide> c0 = Columns<kStride, kRows>(d_, rows, zero, -d_.pad_left);
    for (int64_t ox = 0; ox < width; ox += 4) {
      const int64_t ix = ox * kStride - d_.pad_left;
      const Quad<Wide> after = Columns<kStride, kRows>(d_, rows, zero, ix + 4 * kStride);
      const Quad<Wide> c1 =
          kStride == 1 ? Shift<1>(c0, after) : Columns<kStride, kRows>(d_, rows, zero, ix + 1);
      const Quad<Wide> c2 = kStride == 1 ? Shift<2>(c0, after) : Shift<1>(c0, after);
      Store(*this, c0, c1, c2, w_, y + ox * channels, channels, width - ox);
      if constexpr (kTwo) {
        Store(*this, c0, c1, c2, w_ + 768, y + (width + ox) * channels, channels, width - ox);
      }
      c0 = after;
    }
  }

  const DepthwiseArgs& d_;
  int64_t c_;
  int32_t zero_ = d_.epilogue.y_zero_point;
  alignas(64) int8_t w_[24 * 64];
  alignas(64) int32_t bias_[64];
  alignas(64) float multiplier_[64];
  alignas(64) uint8_t lo_[64], hi_[64];
};

}  // namespace
}  // namespace octet::kernels
