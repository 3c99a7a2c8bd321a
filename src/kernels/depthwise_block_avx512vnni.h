// A block of 64, 32 or 16 channels of a depthwise convolution, and its epilogue, for the kernel
// files of the avx512vnni level (internal linkage throughout).
#pragma once

#include <string.h>

#include "kernels/depthwise_avx512vnni.h"

namespace octet::kernels {
namespace {

// One block of channels: its tables in the accumulators' order, and where it stands. kPlain: see
// IsPlain.
template <class V, bool kFull, bool kPlain>
struct Block {
  alignas(64) int32_t bias[V::kChannels];
  alignas(64) float multiplier[V::kChannels];
  const DepthwiseArgs* d;
  const int8_t* w;
  int64_t c, n;
  uint64_t mask;
  typename V::Int zero, flip_y, flip_x, lo, hi;

  // vector j, lane l holds channels 16l + 4j .. + 3
  static int64_t From(int64_t j, int64_t l) { return l * 16 + j * 4; }
  static int64_t At(int64_t j, int64_t l) { return j * V::kChannels / 4 + l * 4; }

  Block(const DepthwiseArgs& args, const int8_t* weight, int64_t channel)
      : d(&args),
        w(weight),
        c(channel),
        n(args.channels - channel < V::kChannels ? args.channels - channel : V::kChannels),
        mask(Mask64(n)),
        zero(V::Set16(args.epilogue.y_zero_point)),
        flip_y(V::Set8(args.epilogue.y_flip)),
        flip_x(V::Set8(args.x_flip)),
        lo(V::Load(args.epilogue.lo + c)),
        hi(V::Load(args.epilogue.hi + c)) {
    for (int64_t j = 0; j < 4; ++j)
      for (int64_t l = 0; l < V::kChannels / 16; ++l) {
        memcpy(bias + At(j, l), args.epilogue.bias + c + From(j, l), 16);
        memcpy(multiplier + At(j, l), args.epilogue.multiplier + c + From(j, l), 16);
      }
  }

  OCTET_INLINE typename V::Int Fetch(const uint8_t* pixel, uint64_t block_mask) {
    if constexpr (kFull) return V::Load(pixel);
    return V::LoadSome(pixel, block_mask);
  }
  [[nodiscard]] typename V::Int Pixel(const uint8_t* pixel) const { return Codes(pixel + c); }
  // x: a pixel's first byte of this block
  [[nodiscard]] typename V::Int Codes(const uint8_t* x) const {
    const auto codes = Fetch(x, mask);
    return kPlain ? codes : V::Xor(codes, flip_x);
  }
  [[nodiscard]] Quad<V> Bias() const {
    Quad<V> acc;
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) acc.v[j] = V::Load(bias + j * V::kChannels / 4);
    return acc;
  }

  // y: the pixel's first byte of this block
  void StoreCodes(const Quad<V>& acc, uint8_t* y) const {
    typename V::Int q[4];
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j)
      q[j] = V::template Requantized<kPlain>(acc.v[j], multiplier + j * V::kChannels / 4);
    auto codes =
        V::Pack16(V::Add16(V::Pack32(q[0], q[1]), zero), V::Add16(V::Pack32(q[2], q[3]), zero));
    codes = V::Clamp8(codes, lo, hi);
    if constexpr (!kPlain) codes = V::Xor(codes, flip_y);
    if constexpr (kFull) {
      V::Store(y, codes);
    } else {
      V::StoreSome(y, mask, codes);
    }
  }

  // out: output pixel index
  void Store(const Quad<V>& acc, int64_t out) const {
    const EpilogueArgs& e = d->epilogue;
    if (e.output == kStoreCodes && e.residual == kNoResidual) {
      StoreCodes(acc, d->y + out * d->channels + c);
    } else {
      StoreInOrder(acc, out);
    }
  }

  // The rarer epilogues: through memory into channel order, then 16 channels at a time.
  void StoreInOrder(const Quad<V>& acc, int64_t out) const {
    const EpilogueArgs& e = d->epilogue;
    alignas(64) int32_t permuted[V::kChannels], ordered[V::kChannels];
    for (int j = 0; j < 4; ++j)
      memcpy(permuted + j * V::kChannels / 4, &acc.v[j], sizeof(acc.v[j]));
    for (int64_t j = 0; j < 4; ++j)
      for (int64_t l = 0; l < V::kChannels / 16; ++l)
        memcpy(ordered + From(j, l), permuted + At(j, l), 16);
    uint8_t* y = d->y + out * d->channels * (e.output == kStoreCodes ? 1 : 4);
    for (int64_t i = 0; i < n; i += 16) {
      const Acc sum = AsAcc(_mm512_load_si512(ordered + i));
      const __mmask16 some = Mask16(n - i);
      if (e.output != kStoreCodes) {
        StoreWide(e, sum, c + i, some, y);
        continue;
      }
      const __m128i r = _mm_maskz_loadu_epi8(some, d->r + out * d->channels + c + i);
      const __m512i v = RequantizeAdd(e, sum, _mm512_loadu_ps(e.multiplier + c + i), r);
      const __m512i none = _mm512_setzero_si512();
      const __m512i codes =
          _mm512_permutexvar_epi32(PackOrder(), PackCodes(v, none, none, none, Zero16(e)));
      const __m512i bounded =
          Bound(codes, _mm512_loadu_si512(e.lo + c + i), _mm512_loadu_si512(e.hi + c + i), Flip(e));
      _mm_mask_storeu_epi8(y + c + i, some, _mm512_castsi512_si128(bounded));
    }
  }
};

// Calls f.template operator()<V>(weights, first channel) of every block of a layer that has
// `per_channel` packed bytes of weights.
template <class F>
OCTET_INLINE void EachBlock(const DepthwiseArgs& d, int64_t per_channel, const F& f) {
  const int8_t* w = static_cast<const int8_t*>(d.weight);
  for (int64_t c = 0; c < d.channels;) {
    const int64_t width = DepthwiseBlock(d.channels - c);
    if (width == 64) {
      f.template operator()<Wide>(w, c);
    } else if (width == 32) {
      f.template operator()<Middle>(w, c);
    } else {
      f.template operator()<Narrow>(w, c);
    }
    w += per_channel * width;
    c += width;
  }
}

}  // namespace
}  // namespace octet::kernels
