// octet_depthwise_columns_u8s8_64_avx512vnni: depthwise convolution of filters of several rows, any
// stride and dilation; 64, 32 or 16 channels at a time. Layout kDepthwiseColumns.
//
// Of an output row's input rows, four at a time, every column is interleaved once, into memory that
// stays in L1: dwords of four rows of a channel. Every output pixel is then one product of each
// kernel column and four rows. A row too many (5x5, 9x9, 1xN) is interleaved with itself: dwords of
// four columns, those dilation_w further on. Four pixels share a load of weights.
//
// The usual filters keep what is interleaved in registers (depthwise_pending_avx512vnni.h): 1.3 to
// 1.7 times as fast, for unpacking and products then overlap.
#include "kernels/depthwise_pending_avx512vnni.h"

namespace octet::kernels {
namespace {

constexpr int kPixels = 4;

// acc += x (u8) . w (s8) per dword. g++ 12 copies accumulators in and out around its intrinsics
// (GCC bug 94663).
template <class Int>
OCTET_INLINE void DotInto(Int* acc, Int x, Int w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(*acc) : "v"(x), "v"(w));
}

// Of one output row.
template <class V, bool kFull, bool kPlain>
class RowOf {
 public:
  RowOf(const Block<V, kFull, kPlain>& b, int64_t oy)
      : b_(b),
        d_(*b.d),
        of_(d_.kernel_h),
        column_bytes_(of_.of_column() * 4 * V::kChannels),
        every_(d_.stride_w == 2 || d_.stride_w == 4 ? d_.stride_w : 1),
        extent_((d_.kernel_w - 1) * d_.dilation_w + 1),
        out_(oy * d_.out_width) {
    for (int64_t ky = 0; ky < of_.of_column() * 4; ++ky) {
      // Rows past the filter's meet zero weights.
      const int64_t iy = oy * d_.stride_h + ky * d_.dilation_h - d_.pad_top;
      const bool inside = ky < d_.kernel_h && iy >= 0 && iy < d_.height;
      rows_[ky] = inside ? d_.x + iy * d_.width * d_.channels : d_.zero_pixel;
      step_[ky] = inside ? d_.channels : 0;
    }
  }

  void Run() {
    const int64_t at_once = (kColumnsKept / of_.of_column() - extent_) / d_.stride_w + 1;
    for (int64_t ox = 0; ox < d_.out_width; ox += at_once) {
      const int64_t n = d_.out_width - ox < at_once ? d_.out_width - ox : at_once;
      Fill(ox * d_.stride_w - d_.pad_left, (n - 1) * d_.stride_w + extent_);
      int64_t i = 0;
      for (; i + kPixels <= n; i += kPixels) Make<kPixels>(i, ox + i);
      for (; i < n; ++i) Make<1>(i, ox + i);
    }
  }

 private:
  [[gnu::always_inline]] typename V::Int Pixel(int64_t row, int64_t ix) const {
    const bool inside = ix >= 0 && ix < d_.width;
    return b_.Pixel(inside ? rows_[row] + ix * step_[row] : d_.zero_pixel);
  }
  OCTET_INLINE void Keep(int8_t* to, const Quad<V>& x) {
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) V::Store(reinterpret_cast<uint8_t*>(to) + j * V::kChannels, x.v[j]);
  }

  // Input columns [ix, ix + n).
  void Fill(int64_t ix, int64_t n) {
    int8_t* to = columns_;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t row = 0; row < of_.fours * 4; row += 4, to += 4 * V::kChannels) {
        Keep(to, Interleave<V>(Pixel(row, ix + i), Pixel(row + 1, ix + i), Pixel(row + 2, ix + i),
                               Pixel(row + 3, ix + i)));
      }
      if (!of_.single) continue;
      if (i % every_ == 0) {
        const int64_t row = d_.kernel_h - 1, step = d_.dilation_w;
        Keep(to, Interleave<V>(Pixel(row, ix + i), Pixel(row, ix + i + step),
                               Pixel(row, ix + i + 2 * step), Pixel(row, ix + i + 3 * step)));
      }
      to += 4 * V::kChannels;
    }
  }

  // N output pixels from the i-th of those filled in for; ox: the first one's column.
  template <int N>
  void Make(int64_t i, int64_t ox) const {
    Quad<V> acc[N];
    OCTET_UNROLL
    for (int p = 0; p < N; ++p) acc[p] = b_.Bias();
    const int8_t* w = b_.w;
    const int64_t pixel_bytes = d_.stride_w * column_bytes_, step = d_.dilation_w * column_bytes_;
    const auto add = [&](const int8_t* x) __attribute__((always_inline)) {
      OCTET_UNROLL
      for (int j = 0; j < 4; ++j) {
        const auto weight = V::Load(w + j * V::kChannels);
        OCTET_UNROLL
        for (int p = 0; p < N; ++p)
          DotInto(&acc[p].v[j], V::Load(x + p * pixel_bytes + j * V::kChannels), weight);
      }
      w += 4 * V::kChannels;
    };
    const int8_t* column = columns_ + i * pixel_bytes;
    for (int64_t kx = 0; kx < d_.kernel_w; ++kx, column += step)
      for (int64_t g = 0; g < of_.fours; ++g) add(column + g * 4 * V::kChannels);
    column = columns_ + i * pixel_bytes + of_.fours * 4 * V::kChannels;
    for (int64_t kx = 0; of_.single && kx < d_.kernel_w; kx += 4, column += 4 * step) add(column);
    OCTET_UNROLL
    for (int p = 0; p < N; ++p) {
      if constexpr (kPlain) {
        b_.StoreCodes(acc[p], d_.y + (out_ + ox + p) * d_.channels + b_.c);
      } else {
        b_.Store(acc[p], out_ + ox + p);
      }
    }
  }

  const Block<V, kFull, kPlain>& b_;
  const DepthwiseArgs& d_;
  DepthwiseColumns of_;
  int64_t column_bytes_;
  int64_t every_;  // dwords of four columns are read at every so many columns only
  int64_t extent_, out_;
  const uint8_t* rows_[kMostRowsOfColumns];  // at column 0
  int64_t step_[kMostRowsOfColumns];         // bytes to the next column; 0 outside the image
  alignas(64) int8_t columns_[kColumnsKept * 4 * V::kChannels];
};

template <int kSize, int kStride, class V, bool kFull>
bool RunPending(const Block<V, kFull, true>& b, int64_t oy) {
  using Row = PendingRow<V, kFull, kSize, kStride>;
  const DepthwiseArgs& d = *b.d;
  if (d.kernel_h != kSize || d.kernel_w != kSize || d.stride_w != kStride || d.dilation_h != 1 ||
      d.dilation_w != 1 || d.out_width < Row::kPixels - 1)
    return false;
  Row(b, oy).Run();
  return true;
}

template <class V, bool kFull, bool kPlain>
void RunBlock(const DepthwiseArgs& d, const int8_t* w, int64_t c, int64_t begin, int64_t end) {
  const Block<V, kFull, kPlain> b(d, w, c);
  for (int64_t oy = begin; oy < end; ++oy) {
    if constexpr (kPlain) {
      if (RunPending<5, 1>(b, oy) || RunPending<5, 2>(b, oy) || RunPending<7, 1>(b, oy)) continue;
    }
    RowOf<V, kFull, kPlain>(b, oy).Run();
  }
}

template <class V>
void RunBlock(const DepthwiseArgs& d, const int8_t* w, int64_t c, int64_t begin, int64_t end) {
  if (d.channels - c >= V::kChannels) {
    IsPlain(d) ? RunBlock<V, true, true>(d, w, c, begin, end)
               : RunBlock<V, true, false>(d, w, c, begin, end);
  } else {
    IsPlain(d) ? RunBlock<V, false, true>(d, w, c, begin, end)
               : RunBlock<V, false, false>(d, w, c, begin, end);
  }
}

// Output rows that a block of channels makes in turn: what they share of the input comes from L1.
constexpr int64_t kRowsOfBlock = 4;

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_depthwise_columns_u8s8_64_avx512vnni(
    const octet::kernels::DepthwiseArgs* args) {
  using namespace octet::kernels;
  const DepthwiseArgs& d = *args;
  const int64_t per_channel = DepthwiseColumns(d.kernel_h).of_filter(d.kernel_w) * 4;
  for (int64_t oy = d.oy_begin; oy < d.oy_end; oy += kRowsOfBlock) {
    const int64_t end = oy + kRowsOfBlock < d.oy_end ? oy + kRowsOfBlock : d.oy_end;
    EachBlock(d, per_channel,
              [&]<class V>(const int8_t* w, int64_t c) { RunBlock<V>(d, w, c, oy, end); });
  }
}
