// Arguments of the kernels behind BatchedMatMul, WeightOnlyLinear and Fp8Linear, plain data as in
// kernels/abi.h.
#pragma once

#include <stdint.h>
#include <string.h>

namespace octet::kernels {

// Rows of b (n of them, k bytes, `stride` apart) as layout kTilesK64 of kernels/pack.h, one tap;
// sums[i] = sum of row i, for i < n; null: not wanted.
struct PackTilesArgs {
  const int8_t* b;
  int64_t stride, n, k;
  int8_t* out;  // aligned to 64
  int32_t* sums;
};

// Rows of floats as fixed-point numbers of three base-256 digits:
//   x = step * (d0 + 256 d1 + 65536 d2) + rounding, digits in [-128, 127], stored + 128.
// `step` is the least power of two, from 2^-123 on, of which max |x| is at most kLargestFixed; the
// rounding is to nearest even. A row that holds NaN or an infinity has step NaN.
constexpr int32_t kLargestFixed = 0x7f7f7f;
struct SplitRowsArgs {
  const float* x;
  int64_t x_stride, rows, k;
  uint8_t* digits;  // digit j of row i is row 3i + j, `lda` apart
  int64_t lda;
  float* step;  // one per row
};
// What the three digits of 0 are as one number.
constexpr int32_t kDigitsOffset = 128 * (1 + 256 + 65536);
struct DigitScale {
  float step, inverse;
};
// From the bits of max |x|.
[[maybe_unused]] static inline DigitScale ScaleForLargest(uint32_t bits) {
  uint32_t exponent = bits >> 23;
  if (exponent == 255) bits = 0x7fc00000U, exponent = 0;
  const bool finite = bits < 0x7f800000U;
  // step = 2^(exponent - 149) has 2^22 <= max / step < 2^23; twice that where it is more than
  // kLargestFixed.
  if ((bits & 0x7fffffU) > ((static_cast<uint32_t>(kLargestFixed) << 1) & 0x7fffffU)) ++exponent;
  if (exponent < 26) exponent = 26;
  const uint32_t step = finite ? (exponent - 22) << 23 : bits, inverse = (276 - exponent) << 23;
  DigitScale scale;
  memcpy(&scale.step, &step, 4);
  memcpy(&scale.inverse, &inverse, 4);
  return scale;
}

// total = (first ? 0 : total) + (s0 + 256 s1 + 65536 s2) * scale, in double precision, sums exact;
// where `last`, y = float(total * step + bias).
struct JoinDigitsArgs {
  const int32_t* sums;  // rows 3i + j
  int64_t sums_stride, rows, n;
  const float* scale;  // of column 0, as `bias`
  double* total;       // not touched where both first and last
  int64_t total_stride;
  bool first, last;
  const float* step;
  const float* bias;
  float* y;
  int64_t y_stride;
};

enum Fp8Format : int32_t { kFp8E4M3, kFp8E5M2 };

// K is summed in blocks of so many; part of the definition of Fp8Linear.
constexpr int64_t kFp8Block = 128;
// Codes mean this times their value: E4M3 becomes IEEE half by moving bits.
constexpr float kFp8E4M3Unit = 0x1p-8F;

// Rows of y, channels [n_begin, n_end): y = fma(sum, scale, bias), see Fp8Linear.
struct Fp8LinearArgs {
  const float* x;
  int64_t x_stride, m, k;
  // Panels of 64 channels, (K, 64) bytes each, aligned to 64. In a row of 64, byte 32 h + 2 i + b
  // is channel 32 h + 16 b + i: even bytes are a vector of 16 channels, odd ones the next.
  const uint8_t* weight;
  Fp8Format format;
  int64_t n_begin, n_end;  // n_begin is a multiple of 64
  const float* scale;      // divided by the format's unit; 64 past the last are readable
  const float* bias;
  float* y;
  int64_t y_stride;
  float* scratch;  // kFp8Block * 64, aligned to 64
};

}  // namespace octet::kernels
