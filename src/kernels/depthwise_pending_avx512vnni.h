// Square depthwise filters of 5 and 7, plain codes (internal linkage throughout). Layout
// kDepthwiseColumns.
//
// A column of four input rows is interleaved once, in registers, and added to every output pixel of
// the row that it belongs to: the sums of those pixels stay in registers until their last column,
// and weights are operands in memory. A row too many is interleaved with itself, four columns at a
// time.
#pragma once

#include "kernels/depthwise_block_avx512vnni.h"

namespace octet::kernels {
namespace {

// acc += x (u8) . w (s8) per dword, w in memory. See DotInto of depthwise_columns_avx512vnni.cc.
template <class Int>
OCTET_INLINE void DotMemory(Int* acc, Int x, const int8_t* w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(*acc) : "v"(x), "m"(*reinterpret_cast<const Int*>(w)));
}

// One output row of a block, of at least kPixels - 1 pixels.
template <class V, bool kFull, int kSize, int kStride>
class PendingRow {
 public:
  using Int = typename V::Int;
  static constexpr int kPixels = (kSize + kStride - 1) / kStride;  // that a column belongs to

  PendingRow(const Block<V, kFull, true>& b, int64_t oy)
      : b_(b),
        zero_(b.d->zero_pixel + b.c),
        width_(b.d->width),
        channels_(b.d->channels),
        ix_(-b.d->pad_left),
        ahead_ix_(ix_),
        y_(b.d->y + oy * b.d->out_width * channels_ + b.c) {
    const DepthwiseArgs& d = *b.d;
    for (int ky = 0; ky < kRows; ++ky) {
      // Rows past the filter's meet zero weights.
      const int64_t iy = oy * d.stride_h + ky - d.pad_top;
      const bool inside = ky < kSize && iy >= 0 && iy < d.height;
      rows_[ky] = inside ? d.x + iy * width_ * channels_ + b.c : zero_;
      step_[ky] = inside ? channels_ : 0;
    }
    for (int i = 0; kSingle && i < 4; ++i) ahead_[i] = Ahead();
  }

  void Run() {
    Quad<V> acc[kPixels];
    Begin<0>(acc);
    int64_t left = b_.d->out_width - (kPixels - 1);
    if constexpr (kStride == 1) {  // sums change their names, not their registers
      for (; left >= kPixels; left -= kPixels) Round<0>(acc);
    }
    for (; left > 0; --left) {
      Step<0, kPixels, kPixels - 1>(acc);
      OCTET_UNROLL
      for (int i = 0; i + 1 < kPixels; ++i) acc[i] = acc[i + 1];
    }
    End<1>(acc);
  }

 private:
  static constexpr DepthwiseColumns kOf{kSize};
  static constexpr int kFours = kOf.fours;
  static constexpr bool kSingle = kOf.single;
  static constexpr int kRows = kFours * 4 + (kSingle ? 1 : 0);

  // The first pixels begin, one a step; then each step begins one and ends one; the last ones end.
  template <int kBegun>
  [[gnu::always_inline]] void Begin(Quad<V>* acc) {
    if constexpr (kBegun + 1 < kPixels) {
      Step<0, kBegun + 1, kBegun>(acc);
      Begin<kBegun + 1>(acc);
    }
  }
  template <int kMade>
  [[gnu::always_inline]] void Round(Quad<V>* acc) {
    if constexpr (kMade < kPixels) {
      Step<0, kPixels, (kPixels - 1 + kMade) % kPixels>(acc);
      Round<kMade + 1>(acc);
    }
  }
  template <int kEnded>
  [[gnu::always_inline]] void End(Quad<V>* acc) {
    if constexpr (kEnded < kPixels) {
      Step<kEnded, kPixels, kEnded - 1 + kPixels - 1>(acc);
      End<kEnded + 1>(acc);
    }
  }

  // The next kStride columns, to those of the pending pixels that began q in [kFrom, kTo) steps
  // ago. kPhase: the sums of the pixel that begins here.
  template <int kFrom, int kTo, int kPhase>
  [[gnu::always_inline]] void Step(Quad<V>* accs) {
    const auto acc = [&](int q) __attribute__((always_inline)) {
      return &accs[(kPhase + kPixels - q) % kPixels];
    };
    if constexpr (kFrom == 0) *acc(0) = b_.Bias();
    OCTET_UNROLL
    for (int s = 0; s < kStride; ++s) {
      const bool inside = static_cast<uint64_t>(ix_++) < static_cast<uint64_t>(width_);
      OCTET_UNROLL
      for (int g = 0; g < kFours; ++g) {
        const Quad<V> x = Rows(g * 4, inside);
        OCTET_UNROLL
        for (int q = kFrom; q < kTo; ++q) {
          const int kx = s + q * kStride;
          if (kx < kSize) Add(acc(q), x, kx * kFours + g);
        }
      }
    }
    if constexpr (kSingle) {
      const Quad<V> x = Interleave<V>(b_.Codes(ahead_[0]), b_.Codes(ahead_[1]), b_.Codes(ahead_[2]),
                                      b_.Codes(ahead_[3]));
      OCTET_UNROLL
      for (int q = kFrom; q < kTo; ++q) {
        if (q * kStride % 4 == 0) Add(acc(q), x, kSize * kFours + q * kStride / 4);
      }
      OCTET_UNROLL
      for (int i = 0; i < 4; ++i) ahead_[i] = i + kStride < 4 ? ahead_[i + kStride] : Ahead();
    }
    if constexpr (kTo == kPixels) {
      b_.StoreCodes(*acc(kPixels - 1), y_);
      y_ += channels_;
    }
  }

  // Four rows of a column; the zero pixel outside the image.
  [[gnu::always_inline]] Quad<V> Rows(int row, bool inside) {
    if (__builtin_expect(!inside, 0)) {
      const Int zero = b_.Codes(zero_);
      return Interleave<V>(zero, zero, zero, zero);
    }
    Int x[4];
    OCTET_UNROLL
    for (int i = 0; i < 4; ++i) {
      x[i] = b_.Codes(rows_[row + i]);
      rows_[row + i] += step_[row + i];
    }
    return Interleave<V>(x[0], x[1], x[2], x[3]);
  }

  // The last row's column three further on than ix_.
  [[gnu::always_inline]] const uint8_t* Ahead() {
    const int64_t ix = ahead_ix_++;
    const bool inside = static_cast<uint64_t>(ix) < static_cast<uint64_t>(width_);
    return inside ? rows_[kRows - 1] + ix * step_[kRows - 1] : zero_;
  }

  // dwords: how many of a channel lie before those of these weights.
  [[gnu::always_inline]] void Add(Quad<V>* acc, const Quad<V>& x, int dwords) const {
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j)
      DotMemory(&acc->v[j], x.v[j], b_.w + (dwords * 4 + j) * V::kChannels);
  }

  const Block<V, kFull, true>& b_;
  const uint8_t* zero_;
  int64_t width_, channels_;
  int64_t ix_, ahead_ix_;  // the next column, of all rows and of the last alone
  uint8_t* y_;
  const uint8_t* rows_[kRows];  // at the next column inside the image; the last alone at column 0
  int64_t step_[kRows];         // bytes to the next one; 0 outside the image
  const uint8_t* ahead_[4];     // columns of the last row alone
};

}  // namespace
}  // namespace octet::kernels
