// Plain-data contract between the dispatcher and one kernel. Kernel files of an instruction set
// include this, <immintrin.h> and C headers only: they are compiled with flags the rest of the
// program must not catch, so they define nothing with weak linkage (tools/check_kernel_objects.sh).
//
// Unsigned codes. Kernels compute on codes in [0, 255]. An int8 code s is the unsigned code s +
// 128, that is the byte s ^ 0x80: zero points and bounds below are shifted alike, so nothing else
// changes. Kernels check nothing: the dispatcher has.
#pragma once

#include <stdint.h>

namespace octet::kernels {

enum EpilogueOutput : int32_t { kStoreCodes, kStoreInt32, kStoreFloat };
enum EpilogueResidual : int32_t { kNoResidual, kResidualOnMidCodes, kResidualOnFloat };

// The epilogue of octet/kernels.h. Arrays are indexed by output channel; 64 elements past the last
// channel are readable (values there do not matter).
struct EpilogueArgs {
  // bias - x_zero_point * sum(w), modulo 2^32. Null: zero, which kernels on AMX alone take.
  const int32_t* bias;
  const float* multiplier;  // finite
  const float* float_bias;  // kStoreFloat
  // kStoreFloat: one factor per row of y, applied after the multiplier; null: none
  const float* row_scale;
  const uint8_t* lo;  // bounds of unsigned codes, kStoreCodes
  const uint8_t* hi;
  EpilogueOutput output;
  // No number that is rounded to a code leaves int32, so none need be clamped before.
  bool small;
  // kStoreCodes: small, no residual, no bounds but the code type's, and its zero point is 0.
  bool plain;
  int32_t y_zero_point;  // of unsigned codes, [0, 255]
  uint8_t y_flip;        // 0x80 where int8 is stored, else 0
  float float_lo, float_hi;
  EpilogueResidual residual;
  uint8_t r_flip;
  int32_t r_zero_point;  // of unsigned codes
  float r_ratio;
  float mid_lo, mid_hi;  // bounds of the middle code minus its zero point
  float mid_ratio;
};

// y (m,n) = epilogue(A (m, taps*kc) u8 * W s8). Row i of A is `taps` pieces of kc bytes, piece t at
//   a + ((i / run) * pitch + i % run) * lda + tap_offset[t]:
// an image padded in memory, where `run` output pixels lie lda apart and the next output row starts
// `pitch` >= run pixels after this one. Every byte in [a, end) may be read, none from `end` on.
// With several taps, all of the 16 pixels that end with the last row may be read 64 bytes at a
// time. Accumulators wrap modulo 2^32: exact whenever the sum itself fits int32, which the
// dispatcher has proved.
struct DenseArgs {
  const uint8_t* a;
  const uint8_t* end;
  int64_t lda;
  int64_t m, run, pitch;  // m is a multiple of run
  bool a_signed;          // A is int8, which kernels on AMX alone take
  int64_t taps, kc;
  const int64_t* tap_offset;
  uint8_t* scratch;  // room for 32 pieces, each rounded up to 64 bytes and 64 more
  int64_t scratch_bytes;
  const void* weight;      // packed in the kernel's layout; of channel n_begin = 0
  int64_t n_begin, n_end;  // channels to make; n_begin is a multiple of 64
  uint8_t* y;              // row 0, channel 0; rows y_stride bytes apart
  int64_t y_stride;
  const uint8_t* r;  // residual codes, laid out likewise
  int64_t r_stride;
  EpilogueArgs epilogue;  // arrays start at channel 0
};

// For kernels made for few output channels: codes are stored, there is no residual, and the rows of
// y that run i makes begin at row i * y_pitch.
struct DenseNarrowArgs {
  DenseArgs dense;
  int64_t y_pitch;
};

// Depthwise convolution of one NHWC image: output rows [oy_begin, oy_end), all columns, all
// channels.
struct DepthwiseArgs {
  const uint8_t* x;
  int64_t height, width, channels;
  int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  int64_t oy_begin, oy_end, out_width;
  uint8_t x_flip;             // 0x80 where x holds int8
  const uint8_t* zero_pixel;  // `channels` bytes that read as real 0, in x's own code type
  const void* weight;         // packed in the kernel's layout
  uint8_t* y;                 // output row 0; one pixel is channels elements, dense
  const uint8_t* r;
  EpilogueArgs epilogue;
};

// x (batch, channels, space) f32 -> y (batch, space, channels) codes; positions [begin, end) of
// space.
struct QuantizeToNhwcArgs {
  const float* x;
  uint8_t* y;
  int64_t channels, space, begin, end;
  float scale;
  float lo, hi;        // bounds of the code minus the zero point
  int32_t zero_point;  // of the stored code type
};
// x (space, channels) codes -> y (channels, space) f32; positions [begin, end) of space.
struct DequantizeToNchwArgs {
  const uint8_t* x;
  float* y;
  int64_t channels, space, begin, end;
  float scale;
  int32_t zero_point;  // of unsigned codes
  uint8_t x_flip;
};
// Rows of x f32, each on its own symmetric grid: scale = max(largest |x|, 1e-8) / 127 (or the one
// shared), y = rne(x / scale) + 128, a division's result. NaN counts for nothing in the scale and
// becomes 0. y null: scales alone.
struct QuantizeRowsArgs {
  const float* x;
  int64_t x_stride;  // elements
  int64_t rows, k;
  float shared_scale;  // 0: none
  float* scale;        // (rows)
  uint8_t* y;
  int64_t y_stride;
};
// extrema[0] = min(0, every x), extrema[1] = max(0, every x); NaN counts for nothing.
struct ExtremaArgs {
  const float* x;
  int64_t n;
  float* extrema;
};
struct QuantizeArgs {
  const float* x;
  uint8_t* y;
  int64_t n;
  float scale, lo, hi;
  int32_t zero_point;
};
struct DequantizeArgs {
  const uint8_t* x;
  float* y;
  int64_t n;
  float scale;
  int32_t zero_point;  // of unsigned codes
  uint8_t x_flip;
};
// Rows of n bytes, to = from ^ flip: uint8 codes of int8 ones (0x80), or a copy (0).
struct FlipRowsArgs {
  const uint8_t* from;
  int64_t from_stride;
  int64_t rows, n;
  uint8_t* to;
  int64_t to_stride;
  uint8_t flip;
};
// Two rows of pixels as one, to (pixels, 2, channels) = from ^ flip: what lies below each other in
// an image lies beside each other in memory.
struct InterleaveRowsArgs {
  const uint8_t* upper;
  const uint8_t* lower;
  int64_t pixels, channels;
  uint8_t* to;
  uint8_t flip;
};
struct AddArgs {
  const uint8_t* a;
  const uint8_t* b;
  uint8_t* y;
  int64_t n;
  uint8_t flip;                        // 0x80 where the codes are int8
  int32_t a_zero_point, b_zero_point;  // of unsigned codes
  float a_ratio, b_ratio;
  int32_t y_zero_point;  // of unsigned codes
  float lo, hi;          // bounds of unsigned codes minus y_zero_point
};

// Products of codes: rows of n elements, y = rne(clamp(real(a) * real(b) / y_scale)) +
// y_zero_point, real(code) = (code - zero point) * scale. Where b is null, `factor` holds n reals,
// the same for every row.
struct MulArgs {
  const uint8_t* a;
  const uint8_t* b;
  const float* factor;
  uint8_t* y;
  int64_t rows, n;
  uint8_t flip;                        // 0x80 where the codes are int8
  int32_t a_zero_point, b_zero_point;  // of unsigned codes
  float a_scale, b_scale, y_scale;
  int32_t y_zero_point;  // of unsigned codes
  float lo, hi;          // bounds of unsigned codes minus y_zero_point
};
// y[i] = table[x[i]]; y may be x.
struct LookupArgs {
  const uint8_t* table;  // 256 bytes
  const uint8_t* x;
  uint8_t* y;
  int64_t n;
};

// y[i][c] = max over j < count of pixels[i * count + j][c]; int8 codes are flipped to compare and
// flipped back.
struct MaxPixelsArgs {
  const uint8_t* const* pixels;
  int64_t outputs, count, channels;  // count >= 1
  uint8_t flip;
  uint8_t* y;
};
// y[c] = requantize(sum over `count` pixels of x[p][c] + bias): pixels + i * stride where `pixels`
// is null.
struct AveragePixelsArgs {
  const uint8_t* const* pixels;
  const uint8_t* first;
  int64_t stride;
  int64_t count, channels;  // count < 2^23
  uint8_t flip;             // of x and y
  int32_t bias;             // -count * zero point of unsigned codes
  float multiplier;
  int32_t y_zero_point;  // of unsigned codes
  uint8_t* y;
};

// Widths of the channel blocks that vector depthwise kernels and their weight layouts cut C into.
static inline int64_t DepthwiseBlock(int64_t channels_left) {
  return channels_left > 48 ? 64 : channels_left > 16 ? 32 : 16;
}

// Layout kDepthwiseColumns: a filter's rows are taken four at a time, and the last alone where it
// is one too many: then four of its columns are taken together.
struct DepthwiseColumns {
  int64_t fours;  // of rows
  bool single;    // one more row
  constexpr explicit DepthwiseColumns(int64_t kernel_h)
      : fours(kernel_h % 4 == 1 ? kernel_h / 4 : (kernel_h + 3) / 4), single(kernel_h % 4 == 1) {}
  // Dwords per channel: of an input column, of a filter.
  int64_t of_column() const { return fours + (single ? 1 : 0); }
  int64_t of_filter(int64_t kernel_w) const {
    return fours * kernel_w + (single ? (kernel_w + 3) / 4 : 0);
  }
};
constexpr int64_t kMostRowsOfColumns = 16;  // of a filter
constexpr int64_t kColumnsKept = 128;       // dwords per channel that a kernel keeps at once

}  // namespace octet::kernels
