// Arguments of the kernels behind ApproxLinear and ApproxConv, plain data as in kernels/abi.h.
#pragma once

#include <stdint.h>

namespace octet::kernels {

// Positions ("lanes": rows of a linear layer, pixels of a convolution) that are summed side by
// side.
constexpr int64_t kApproxLanes = 256;
// Steps of K between two times that sums leave registers. Sums of as many biased digits, at most
// 254 each, fit 16 bits; and 256 lanes of as many steps stay in L1.
constexpr int64_t kApproxDepth = 128;

// How a code finds its product in a table's row.
enum ApproxMode : int32_t {
  kApprox64,      // codes below 64; rows of 64 entries
  kApprox128,     // codes below 128
  kApproxSigned,  // 128 entries; codes with bit 7 mean the negative of the code without
  kApprox256,
};

// For channels o in [0, n): sums[o][...] += for each of k steps the product of lane's code and
// weight code, rows[table_of[o]][weight code][lane's code].
//
// Digits (layouts of vector kernels): a product is sum over planes p of d_p (2h + 1)^p, digits in
// [-h, h]; a row is `planes` tables of int8 digits, entries each; sums are int32 (planes, 256).
// h is 127, 63, 31 or 15, so that 1, 2, 4 or 8 digits add up in a byte. In kApproxDifferences,
// sixteens of a plane are stored less the sixteen before, modulo 256, but the first of each 128.
// Integers (the portable layout): a row is 256 products of int32, or int64 where `wide`; sums are
// int64 (256).
struct ApproxRowsArgs {
  const uint8_t* x;       // codes, row of 256 lanes by row of k, aligned to 64
  int64_t lanes;          // to make: 1...256; rounded up to 64 by vector kernels
  const uint8_t* weight;  // codes of channel 0, channels weight_stride apart
  int64_t weight_stride;
  int64_t k, n;             // k <= kApproxDepth
  const uint8_t* rows;      // aligned to 64
  const int32_t* table_of;  // of channel 0
  int64_t row_bytes, table_bytes;
  ApproxMode mode;
  int32_t planes, half;  // half = h
  bool wide;
  void* sums;
  int64_t sums_stride;  // bytes between channels
};

}  // namespace octet::kernels
