// Depthwise convolution on vpdpbusd, channels across lanes: 64, 32 or 16 at a time
// (DepthwiseBlock).
//
// vpdpbusd sums four neighbouring bytes; NHWC has a channel's taps in different pixels. Two rounds
// of unpacks turn four pixels into four vectors whose dwords hold one channel's four bytes; the
// packs of the epilogue undo the order that leaves (pack.h). Two kernels:
//   3x3   stride 1: a column of four input rows is interleaved once and used by three kernel
//         columns and two output rows. Stride 2: columns of three rows, one of three carried over.
//   taps  any filter, stride, dilation: taps in groups of four
#include "kernels/depthwise_block_avx512vnni.h"
#include "kernels/depthwise_sixteen_avx512vnni.h"

namespace octet::kernels {
namespace {

// Columns of kRows input rows from `first` on, interleaved, from left to right; the fourth of three
// repeats the third against zero weights. Outside the image all is the zero pixel.
template <class V, bool kFull, bool kPlain, int kRows>
struct Columns {
  const Block<V, kFull, kPlain>& b;
  const uint8_t* zero_pixel;
  int64_t ix, width;
  InputRows rows;  // at column ix, or the first

  Columns(const Block<V, kFull, kPlain>& block, int64_t first)
      : b(block),
        zero_pixel(block.d->zero_pixel),
        ix(-block.d->pad_left),
        width(block.d->width),
        rows(RowsFrom(*block.d, first, kRows, 0)) {}

  OCTET_INLINE Quad<V> Of(const Columns& k, const uint8_t* p0, const uint8_t* p1, const uint8_t* p2,
                          const uint8_t* p3) {
    const auto third = k.b.Pixel(p2);
    return Interleave<V>(k.b.Pixel(p0), k.b.Pixel(p1), third, kRows == 3 ? third : k.b.Pixel(p3));
  }

  OCTET_INLINE Quad<V> Next(Columns* k) {
    const bool inside = static_cast<uint64_t>(k->ix++) < static_cast<uint64_t>(k->width);
    if (__builtin_expect(!inside, 0))
      return Of(*k, k->zero_pixel, k->zero_pixel, k->zero_pixel, k->zero_pixel);
    const Quad<V> column =
        Of(*k, k->rows.base[0], k->rows.base[1], k->rows.base[2], k->rows.base[kRows - 1]);
    OCTET_UNROLL
    for (int i = 0; i < kRows; ++i) k->rows.base[i] += k->rows.step[i];
    return column;
  }
};

// One output pixel from its three columns.
template <class V, bool kFull, bool kPlain>
OCTET_INLINE void Pixel3x3(const Block<V, kFull, kPlain>& b, const int8_t* w, const Quad<V>& c0,
                           const Quad<V>& c1, const Quad<V>& c2, int64_t out, uint8_t* y) {
  constexpr int64_t kKernelColumn = 4 * V::kChannels;
  Quad<V> acc = b.Bias();
  DotQuad<V>(&acc, c0, w);
  DotQuad<V>(&acc, c1, w + kKernelColumn);
  DotQuad<V>(&acc, c2, w + 2 * kKernelColumn);
  if constexpr (kPlain) {
    b.StoreCodes(acc, y);
  } else {
    b.Store(acc, out);
  }
}

// 3x3, stride 1: output rows oy and, where kTwo, oy + 1.
template <class V, bool kFull, bool kPlain, bool kTwo>
void Row3x3Stride1(const Block<V, kFull, kPlain>& b, int64_t oy) {
  const DepthwiseArgs& d = *b.d;
  const int64_t channels = d.channels, width = d.out_width;
  const int8_t* w = b.w;
  Columns<V, kFull, kPlain, kTwo ? 4 : 3> columns(b, oy - d.pad_top);
  int64_t out = oy * width;
  uint8_t *y = d.y + out * channels + b.c, *below = y + (kTwo ? width * channels : 0);
  Quad<V> c0 = columns.Next(&columns), c1 = columns.Next(&columns), c2;
  const auto pixel = [&](const Quad<V>& a, const Quad<V>& m, Quad<V>* z)
      __attribute__((always_inline)) {
    *z = columns.Next(&columns);
    Pixel3x3(b, w, a, m, *z, out, y);
    if constexpr (kTwo) Pixel3x3(b, w + 12 * V::kChannels, a, m, *z, out + width, below);
    ++out;
    y += channels;
    below += channels;
  };
  int64_t left = width;
  if constexpr (kPlain) {
    // Three at a time: columns change their names, not their registers.
    for (; left >= 3; left -= 3) {
      pixel(c0, c1, &c2);
      pixel(c1, c2, &c0);
      pixel(c2, c0, &c1);
    }
  }
  for (; left > 0; --left) {
    pixel(c0, c1, &c2);
    c0 = c1;
    c1 = c2;
  }
}

template <class V, bool kFull, bool kPlain>
void Row3x3Stride2(const Block<V, kFull, kPlain>& b, int64_t oy) {
  const DepthwiseArgs& d = *b.d;
  const int64_t channels = d.channels;
  const int8_t* w = b.w;
  Columns<V, kFull, kPlain, 3> columns(b, oy * 2 - d.pad_top);
  int64_t out = oy * d.out_width;
  uint8_t* y = d.y + out * channels + b.c;
  Quad<V> c0 = columns.Next(&columns), c2;
  const auto pixel = [&](const Quad<V>& a, Quad<V>* z) __attribute__((always_inline)) {
    const Quad<V> m = columns.Next(&columns);
    *z = columns.Next(&columns);
    Pixel3x3(b, w, a, m, *z, out, y);
    ++out;
    y += channels;
  };
  int64_t left = d.out_width;
  if constexpr (kPlain) {
    for (; left >= 2; left -= 2) {
      pixel(c0, &c2);
      pixel(c2, &c0);
    }
  }
  for (; left > 0; --left) {
    pixel(c0, &c2);
    c0 = c2;
  }
}

template <class V, bool kFull, bool kPlain>
void Run3x3(const DepthwiseArgs& d, const int8_t* w, int64_t c) {
  const Block<V, kFull, kPlain> b(d, w, c);
  for (int64_t oy = d.oy_begin; oy < d.oy_end;) {
    if (d.stride_h == 2) {
      Row3x3Stride2(b, oy++);
    } else if (oy + 1 < d.oy_end) {
      Row3x3Stride1<V, kFull, kPlain, true>(b, oy);
      oy += 2;
    } else {
      Row3x3Stride1<V, kFull, kPlain, false>(b, oy++);
    }
  }
}

constexpr int64_t kMaxTaps = 256;

template <class V, bool kFull>
void RunTaps(const DepthwiseArgs& d, const int8_t* w, int64_t c) {
  const Block<V, kFull, false> b(d, w, c);
  const int64_t taps = d.kernel_h * d.kernel_w, groups = (taps + 3) / 4;
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
        const Quad<V> x = Interleave<V>(b.Pixel(p[g * 4]), b.Pixel(p[g * 4 + 1]),
                                        b.Pixel(p[g * 4 + 2]), b.Pixel(p[g * 4 + 3]));
        DotQuad<V>(&acc, x, w + g * 4 * V::kChannels);
      }
      b.Store(acc, oy * d.out_width + ox);
    }
}

template <class V, bool kFull>
void RunBlock(const DepthwiseArgs& d, const int8_t* w, int64_t c, bool is_3x3) {
  if (!is_3x3) {
    RunTaps<V, kFull>(d, w, c);
  } else if (kFull && IsPlain(d)) {
    Run3x3<V, kFull, kFull>(d, w, c);
  } else {
    Run3x3<V, kFull, false>(d, w, c);
  }
}

template <class V>
void RunBlock(const DepthwiseArgs& d, const int8_t* w, int64_t c, bool is_3x3) {
  if constexpr (V::kChannels == 16) {
    if (is_3x3 && d.channels - c >= 16 && d.out_width >= 4 && IsPlain(d))
      return Sixteen(d, w, c).Run();
  }
  if (d.channels - c >= V::kChannels) {
    RunBlock<V, true>(d, w, c, is_3x3);
  } else {
    RunBlock<V, false>(d, w, c, is_3x3);
  }
}

// Rows outermost, in strips whose input stays in L1 and L2 while all blocks of channels pass over
// it.
void Run(const DepthwiseArgs& d, bool is_3x3) {
  const int64_t per_channel = is_3x3 ? 24 : (d.kernel_h * d.kernel_w + 3) / 4 * 4;
  const int64_t strip = is_3x3 ? 2 : 1;
  DepthwiseArgs piece = d;
  for (int64_t oy = d.oy_begin; oy < d.oy_end; oy += strip) {
    piece.oy_begin = oy;
    piece.oy_end = oy + strip < d.oy_end ? oy + strip : d.oy_end;
    EachBlock(d, per_channel,
              [&]<class V>(const int8_t* w, int64_t c) { RunBlock<V>(piece, w, c, is_3x3); });
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_depthwise3x3_u8s8_64_avx512vnni(const octet::kernels::DepthwiseArgs* args) {
  octet::kernels::Run(*args, true);
}

extern "C" void octet_depthwise_u8s8_64_avx512vnni(const octet::kernels::DepthwiseArgs* args) {
  octet::kernels::Run(*args, false);
}
