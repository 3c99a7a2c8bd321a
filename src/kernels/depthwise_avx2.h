// Depthwise convolution for kernel files of the avx2 and avxvnni levels: 32 or 16 channels at a
// time (internal linkage throughout).
//
// NHWC has a channel's taps in different pixels. Two rounds of unpacks turn four pixels into four
// vectors whose dwords hold one channel's four bytes; the packs of the epilogue undo the order that
// leaves (pack.h). vpdpbusd multiplies such dwords by four weights at once; avx2 widens their even
// and odd bytes to int16 and takes vpmaddwd twice, against weights widened once per block. A block
// of 64 channels of the layout is two of 32 here. Two kernels:
//   3x3   stride 1: a column of four input rows is interleaved once and used by three kernel
//         columns and two output rows. Stride 2: columns of three rows, one of three carried over.
//   taps  any filter, stride, dilation: taps in groups of four
#pragma once

#include "kernels/epilogue_avx2.h"

namespace octet::kernels {
namespace {

struct Ymm {
  typedef __m256i Int;
  static constexpr int64_t kChannels = 32;
  OCTET_INLINE Int Load(const void* p) { return Load256(p); }
  OCTET_INLINE void Store(void* p, Int v) { Store256(p, v); }
  // n a multiple of 4
  OCTET_INLINE Int LoadDwords(const void* p, Int mask) {
    return _mm256_maskload_epi32(static_cast<const int*>(p), mask);
  }
  OCTET_INLINE void StoreDwords(void* p, Int mask, Int v) {
    _mm256_maskstore_epi32(static_cast<int*>(p), mask, v);
  }
  OCTET_INLINE Int DwordMask(int64_t n) { return Mask8(n / 4); }
  OCTET_INLINE Int Set8(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
  OCTET_INLINE Int Set16(int v) { return _mm256_set1_epi16(static_cast<short>(v)); }
  OCTET_INLINE Int Xor(Int a, Int b) { return _mm256_xor_si256(a, b); }
  OCTET_INLINE Int LowBytes(Int a, Int b) { return _mm256_unpacklo_epi8(a, b); }
  OCTET_INLINE Int HighBytes(Int a, Int b) { return _mm256_unpackhi_epi8(a, b); }
  OCTET_INLINE Int LowWords(Int a, Int b) { return _mm256_unpacklo_epi16(a, b); }
  OCTET_INLINE Int HighWords(Int a, Int b) { return _mm256_unpackhi_epi16(a, b); }
  OCTET_INLINE Int Requantized(Int acc, const float* m) { return RoundToCode(Product(acc, m)); }
  OCTET_INLINE Int Pack32(Int a, Int b) { return _mm256_packs_epi32(a, b); }
  OCTET_INLINE Int Pack16(Int a, Int b) { return _mm256_packus_epi16(a, b); }
  OCTET_INLINE Int Add16(Int a, Int b) { return _mm256_adds_epi16(a, b); }
  OCTET_INLINE Int Clamp8(Int v, Int lo, Int hi) {
    return _mm256_min_epu8(_mm256_max_epu8(v, lo), hi);
  }
  OCTET_INLINE Int EvenU8(Int v) { return _mm256_and_si256(v, _mm256_set1_epi16(0xff)); }
  OCTET_INLINE Int OddU8(Int v) { return _mm256_srli_epi16(v, 8); }
  OCTET_INLINE Int EvenS8(Int v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
  OCTET_INLINE Int OddS8(Int v) { return _mm256_srai_epi16(v, 8); }
  OCTET_INLINE Int AddPairs(Int acc, Int x, Int w) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
  }
#if defined(__AVXVNNI__)
  OCTET_INLINE Int Dot4(Int acc, Int x, Int w) { return _mm256_dpbusd_avx_epi32(acc, x, w); }
#endif
};

struct Xmm {
  typedef __m128i Int;
  static constexpr int64_t kChannels = 16;
  OCTET_INLINE Int Load(const void* p) { return Load128(p); }
  OCTET_INLINE void Store(void* p, Int v) { Store128(p, v); }
  OCTET_INLINE Int LoadDwords(const void* p, Int mask) {
    return _mm_maskload_epi32(static_cast<const int*>(p), mask);
  }
  OCTET_INLINE void StoreDwords(void* p, Int mask, Int v) {
    _mm_maskstore_epi32(static_cast<int*>(p), mask, v);
  }
  OCTET_INLINE Int DwordMask(int64_t n) { return _mm256_castsi256_si128(Mask8(n / 4)); }
  OCTET_INLINE Int Set8(int v) { return _mm_set1_epi8(static_cast<char>(v)); }
  OCTET_INLINE Int Set16(int v) { return _mm_set1_epi16(static_cast<short>(v)); }
  OCTET_INLINE Int Xor(Int a, Int b) { return _mm_xor_si128(a, b); }
  OCTET_INLINE Int LowBytes(Int a, Int b) { return _mm_unpacklo_epi8(a, b); }
  OCTET_INLINE Int HighBytes(Int a, Int b) { return _mm_unpackhi_epi8(a, b); }
  OCTET_INLINE Int LowWords(Int a, Int b) { return _mm_unpacklo_epi16(a, b); }
  OCTET_INLINE Int HighWords(Int a, Int b) { return _mm_unpackhi_epi16(a, b); }
  OCTET_INLINE Int Requantized(Int acc, const float* m) {
    const __m128 v = _mm_mul_ps(_mm_cvtepi32_ps(acc), _mm_loadu_ps(m));
    return _mm_cvtps_epi32(_mm_min_ps(v, _mm_set1_ps(65536.0F)));
  }
  OCTET_INLINE Int Pack32(Int a, Int b) { return _mm_packs_epi32(a, b); }
  OCTET_INLINE Int Pack16(Int a, Int b) { return _mm_packus_epi16(a, b); }
  OCTET_INLINE Int Add16(Int a, Int b) { return _mm_adds_epi16(a, b); }
  OCTET_INLINE Int Clamp8(Int v, Int lo, Int hi) { return _mm_min_epu8(_mm_max_epu8(v, lo), hi); }
  OCTET_INLINE Int EvenU8(Int v) { return _mm_and_si128(v, _mm_set1_epi16(0xff)); }
  OCTET_INLINE Int OddU8(Int v) { return _mm_srli_epi16(v, 8); }
  OCTET_INLINE Int EvenS8(Int v) { return _mm_srai_epi16(_mm_slli_epi16(v, 8), 8); }
  OCTET_INLINE Int OddS8(Int v) { return _mm_srai_epi16(v, 8); }
  OCTET_INLINE Int AddPairs(Int acc, Int x, Int w) {
    return _mm_add_epi32(acc, _mm_madd_epi16(x, w));
  }
#if defined(__AVXVNNI__)
  OCTET_INLINE Int Dot4(Int acc, Int x, Int w) { return _mm_dpbusd_avx_epi32(acc, x, w); }
#endif
};

template <class V>
struct Quad {
  typename V::Int v[4];
};

// Four pixels' bytes as a dot product takes them.
#if defined(__AVXVNNI__)
constexpr int kParts = 4;
#else
constexpr int kParts = 8;  // even bytes of the four vectors, then odd ones
#endif
template <class V>
struct Column {
  typename V::Int v[kParts];
};

// Four pixels (already unsigned) -> dword per channel, in the order of pack.h.
template <class V>
OCTET_INLINE Column<V> Interleave(typename V::Int p0, typename V::Int p1, typename V::Int p2,
                                  typename V::Int p3) {
  const auto low01 = V::LowBytes(p0, p1), high01 = V::HighBytes(p0, p1);
  const auto low23 = V::LowBytes(p2, p3), high23 = V::HighBytes(p2, p3);
  const typename V::Int dwords[4] = {V::LowWords(low01, low23), V::HighWords(low01, low23),
                                     V::LowWords(high01, high23), V::HighWords(high01, high23)};
  Column<V> out;
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) {
#if defined(__AVXVNNI__)
    out.v[j] = dwords[j];
#else
    out.v[j] = V::EvenU8(dwords[j]);
    out.v[j + 4] = V::OddU8(dwords[j]);
#endif
  }
  return out;
}

constexpr int64_t kMaxTaps = 256;

// One block of channels: its tables in the accumulators' order, and where it stands. kGroups: of
// four taps, at most.
template <class V, bool kFull, int64_t kGroups>
struct Block {
  alignas(32) int32_t bias[V::kChannels];
  alignas(32) float multiplier[V::kChannels];
#if !defined(__AVXVNNI__)
  alignas(32) int8_t wide[kGroups * 8 * V::kChannels];
#endif
  const DepthwiseArgs* d;
  const int8_t* w;
  int64_t vector_bytes;  // from one vector of weights to the next: those of the layout's block
  int64_t c, n;
  typename V::Int mask, zero, flip_y, flip_x, lo, hi;

  // vector j, lane l holds channels 16l + 4j .. + 3
  static int64_t From(int64_t j, int64_t l) { return l * 16 + j * 4; }
  static int64_t At(int64_t j, int64_t l) { return j * V::kChannels / 4 + l * 4; }

  Block(const DepthwiseArgs& args, const int8_t* weight, int64_t weight_stride, int64_t groups,
        int64_t channel)
      : d(&args),
        w(weight),
        vector_bytes(weight_stride),
        c(channel),
        n(args.channels - channel < V::kChannels ? args.channels - channel : V::kChannels),
        mask(V::DwordMask(n)),
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
#if defined(__AVXVNNI__)
    (void)groups;
#else
    for (int64_t i = 0; i < groups * 4; ++i) {
      const auto v = V::Load(w + i * vector_bytes);
      V::Store(wide + i * 2 * V::kChannels, V::EvenS8(v));
      V::Store(wide + (i * 2 + 1) * V::kChannels, V::OddS8(v));
    }
#endif
  }

  [[nodiscard]] typename V::Int Pixel(const uint8_t* pixel) const {
    if constexpr (kFull) return V::Xor(V::Load(pixel + c), flip_x);
    if (n % 4 == 0) return V::Xor(V::LoadDwords(pixel + c, mask), flip_x);
    alignas(32) uint8_t some[V::kChannels] = {};
    memcpy(some, pixel + c, static_cast<size_t>(n));
    return V::Xor(V::Load(some), flip_x);
  }
  [[nodiscard]] Quad<V> Bias() const {
    Quad<V> acc;
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) acc.v[j] = V::Load(bias + j * V::kChannels / 4);
    return acc;
  }
  // acc += x . weights of the group of four taps.
  void Dot(Quad<V>* acc, const Column<V>& x, int64_t group) const {
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) {
#if defined(__AVXVNNI__)
      acc->v[j] = V::Dot4(acc->v[j], x.v[j], V::Load(w + (group * 4 + j) * vector_bytes));
#else
      const int8_t* pair = wide + (group * 4 + j) * 2 * V::kChannels;
      acc->v[j] = V::AddPairs(acc->v[j], x.v[j], V::Load(pair));
      acc->v[j] = V::AddPairs(acc->v[j], x.v[j + 4], V::Load(pair + V::kChannels));
#endif
    }
  }

  // out: output pixel index
  void Store(const Quad<V>& acc, int64_t out) const {
    const EpilogueArgs& e = d->epilogue;
    if (e.output != kStoreCodes || e.residual != kNoResidual) {
      StoreInOrder(acc, out);
      return;
    }
    typename V::Int q[4];
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) q[j] = V::Requantized(acc.v[j], multiplier + j * V::kChannels / 4);
    auto codes =
        V::Pack16(V::Add16(V::Pack32(q[0], q[1]), zero), V::Add16(V::Pack32(q[2], q[3]), zero));
    codes = V::Xor(V::Clamp8(codes, lo, hi), flip_y);
    uint8_t* y = d->y + out * d->channels + c;
    if constexpr (kFull) {
      V::Store(y, codes);
    } else if (n % 4 == 0) {
      V::StoreDwords(y, mask, codes);
    } else {
      alignas(32) uint8_t some[V::kChannels];
      V::Store(some, codes);
      memcpy(y, some, static_cast<size_t>(n));
    }
  }

  // The rarer epilogues: through memory into channel order, then 16 channels at a time.
  void StoreInOrder(const Quad<V>& acc, int64_t out) const {
    const EpilogueArgs& e = d->epilogue;
    alignas(32) int32_t permuted[V::kChannels], ordered[V::kChannels];
    for (int j = 0; j < 4; ++j)
      memcpy(permuted + j * V::kChannels / 4, &acc.v[j], sizeof(acc.v[j]));
    for (int64_t j = 0; j < 4; ++j)
      for (int64_t l = 0; l < V::kChannels / 16; ++l)
        memcpy(ordered + From(j, l), permuted + At(j, l), 16);
    const RowsOut row(d->y + out * d->channels * (e.output == kStoreCodes ? 1 : 4),
                      d->r == nullptr ? nullptr : d->r + out * d->channels);
    for (int64_t i = 0; i < n; i += 16) {
      StoreGroup<1>(
          e, [&](int, int half) { return Load256(ordered + i + half * 8); }, c + i, n - i, row);
    }
  }
};

// Input rows of one or two output rows. Rows outside the image read the zero pixel, at step 0.
struct Rows {
  const uint8_t* base[4];
  int64_t step[4];
};

Rows RowsAt(const DepthwiseArgs& d, int64_t first) {
  Rows rows;
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t iy = first + i;
    const bool inside = iy >= 0 && iy < d.height;
    rows.base[i] = inside ? d.x + iy * d.width * d.channels : d.zero_pixel;
    rows.step[i] = inside ? d.channels : 0;
  }
  return rows;
}

// Column ix of kRows input rows, interleaved; the fourth of three repeats the third against zero
// weights.
template <class V, int kRows, class B>
OCTET_INLINE Column<V> ColumnAt(const B& b, const Rows& rows, int64_t ix) {
  const uint8_t* p[4];
  if (ix >= 0 && ix < b.d->width) {
    OCTET_UNROLL
    for (int i = 0; i < kRows; ++i) p[i] = rows.base[i] + ix * rows.step[i];
  } else {
    OCTET_UNROLL
    for (int i = 0; i < kRows; ++i) p[i] = b.d->zero_pixel;
  }
  const auto third = b.Pixel(p[2]);
  if constexpr (kRows == 3) {
    return Interleave<V>(b.Pixel(p[0]), b.Pixel(p[1]), third, third);
  } else {
    return Interleave<V>(b.Pixel(p[0]), b.Pixel(p[1]), third, b.Pixel(p[3]));
  }
}

// 3x3, stride 1: output rows oy and, where kTwo, oy + 1. Groups of taps: kernel column, and + 3 for
// the lower row.
template <class V, bool kTwo, class B>
void Row3x3Stride1(const B& b, int64_t oy) {
  const DepthwiseArgs& d = *b.d;
  constexpr int kRows = kTwo ? 4 : 3;
  const Rows rows = RowsAt(d, oy - d.pad_top);
  Column<V> c0 = ColumnAt<V, kRows>(b, rows, -d.pad_left);
  Column<V> c1 = ColumnAt<V, kRows>(b, rows, 1 - d.pad_left);
  for (int64_t ox = 0; ox < d.out_width; ++ox) {
    const Column<V> c2 = ColumnAt<V, kRows>(b, rows, ox + 2 - d.pad_left);
    Quad<V> acc = b.Bias();
    b.Dot(&acc, c0, 0);
    b.Dot(&acc, c1, 1);
    b.Dot(&acc, c2, 2);
    b.Store(acc, oy * d.out_width + ox);
    if constexpr (kTwo) {
      Quad<V> next = b.Bias();
      b.Dot(&next, c0, 3);
      b.Dot(&next, c1, 4);
      b.Dot(&next, c2, 5);
      b.Store(next, (oy + 1) * d.out_width + ox);
    }
    c0 = c1;
    c1 = c2;
  }
}

template <class V, class B>
void Row3x3Stride2(const B& b, int64_t oy) {
  const DepthwiseArgs& d = *b.d;
  const Rows rows = RowsAt(d, oy * 2 - d.pad_top);
  Column<V> c0 = ColumnAt<V, 3>(b, rows, -d.pad_left);
  for (int64_t ox = 0; ox < d.out_width; ++ox) {
    const Column<V> c1 = ColumnAt<V, 3>(b, rows, ox * 2 + 1 - d.pad_left);
    const Column<V> c2 = ColumnAt<V, 3>(b, rows, ox * 2 + 2 - d.pad_left);
    Quad<V> acc = b.Bias();
    b.Dot(&acc, c0, 0);
    b.Dot(&acc, c1, 1);
    b.Dot(&acc, c2, 2);
    b.Store(acc, oy * d.out_width + ox);
    c0 = c2;
  }
}

template <class V, bool kFull>
void Run3x3(const DepthwiseArgs& d, const int8_t* w, int64_t vector_bytes, int64_t c) {
  const Block<V, kFull, 6> b(d, w, vector_bytes, 6, c);
  for (int64_t oy = d.oy_begin; oy < d.oy_end;) {
    if (d.stride_h == 2) {
      Row3x3Stride2<V>(b, oy++);
    } else if (oy + 1 < d.oy_end) {
      Row3x3Stride1<V, true>(b, oy);
      oy += 2;
    } else {
      Row3x3Stride1<V, false>(b, oy++);
    }
  }
}

template <class V, bool kFull>
void RunTaps(const DepthwiseArgs& d, const int8_t* w, int64_t vector_bytes, int64_t c) {
  const int64_t taps = d.kernel_h * d.kernel_w, groups = (taps + 3) / 4;
  const Block<V, kFull, kMaxTaps / 4> b(d, w, vector_bytes, groups, c);
  const uint8_t* p[kMaxTaps + 3];
  for (int64_t t = taps; t < groups * 4; ++t) p[t] = d.zero_pixel;
  for (int64_t oy = d.oy_begin; oy < d.oy_end; ++oy)
    for (int64_t ox = 0; ox < d.out_width; ++ox) {
      for (int64_t ky = 0, t = 0; ky < d.kernel_h; ++ky) {
        const int64_t iy = oy * d.stride_h + ky * d.dilation_h - d.pad_top;
        for (int64_t kx = 0; kx < d.kernel_w; ++kx, ++t) {
          const int64_t ix = ox * d.stride_w + kx * d.dilation_w - d.pad_left;
          const bool inside = iy >= 0 && iy < d.height && ix >= 0 && ix < d.width;
          p[t] = inside ? d.x + (iy * d.width + ix) * d.channels : d.zero_pixel;
        }
      }
      Quad<V> acc = b.Bias();
      for (int64_t g = 0; g < groups; ++g) {
        const Column<V> x = Interleave<V>(b.Pixel(p[g * 4]), b.Pixel(p[g * 4 + 1]),
                                          b.Pixel(p[g * 4 + 2]), b.Pixel(p[g * 4 + 3]));
        b.Dot(&acc, x, g);
      }
      b.Store(acc, oy * d.out_width + ox);
    }
}

template <class V>
void RunBlock(const DepthwiseArgs& d, const int8_t* w, int64_t vector_bytes, int64_t c,
              bool is_3x3) {
  if (c >= d.channels) return;
  if (d.channels - c >= V::kChannels) {
    is_3x3 ? Run3x3<V, true>(d, w, vector_bytes, c) : RunTaps<V, true>(d, w, vector_bytes, c);
  } else {
    is_3x3 ? Run3x3<V, false>(d, w, vector_bytes, c) : RunTaps<V, false>(d, w, vector_bytes, c);
  }
}

// Rows outermost, in strips whose input stays in L1 and L2 while all blocks of channels pass over
// it.
void Run(const DepthwiseArgs& d, bool is_3x3) {
  const int64_t per_block = is_3x3 ? 24 : (d.kernel_h * d.kernel_w + 3) / 4 * 4;
  // A block's tables are made again for every strip: 32 pixels make up for that.
  const int64_t strip = 2 * ((32 + 2 * d.out_width - 1) / (2 * d.out_width));
  DepthwiseArgs piece = d;
  for (int64_t oy = d.oy_begin; oy < d.oy_end; oy += strip) {
    piece.oy_begin = oy;
    piece.oy_end = oy + strip < d.oy_end ? oy + strip : d.oy_end;
    const int8_t* w = static_cast<const int8_t*>(d.weight);
    for (int64_t c = 0; c < d.channels;) {
      const int64_t width = DepthwiseBlock(d.channels - c);
      if (width == 16) {
        RunBlock<Xmm>(piece, w, 16, c, is_3x3);
      } else {
        for (int64_t half = 0; half < width; half += 32)
          RunBlock<Ymm>(piece, w + half, width, c + half, is_3x3);
      }
      w += per_block * width;
      c += width;
    }
  }
}

}  // namespace
}  // namespace octet::kernels
