// Arguments of the kernels behind ApproxLinear and ApproxConv, plain data as in kernels/abi.h.
#pragma once

#include <stdint.h>

namespace octet::kernels {

// Positions ("lanes": rows of a linear layer, pixels of a convolution) that are summed side by
// side.
constexpr int64_t kApproxLanes = 512;
// Steps of K between two times that sums of digits leave registers. Sums of as many biased digits,
// at most 254 each, fit 16 bits; and 256 lanes of as many steps stay in L1, where channels find
// them.
constexpr int64_t kApproxDepth = 128;
// Products that are summed in an entry's width: of int32 and int64, of int16.
constexpr int kApproxSteps = 4, kApproxShortSteps = 8;
constexpr int64_t kApproxScratch = 192 * 1024;

// How a code finds its product in a table's row.
enum ApproxMode : int32_t {
  kApprox64,      // codes below 64; rows of 64 entries
  kApprox128,     // codes below 128
  kApproxSigned,  // 128 entries; codes with bit 7 mean the negative of the code without
  kApprox256,
};
static constexpr int ApproxEntries(ApproxMode mode) {
  return mode == kApprox64 ? 64 : mode == kApprox256 ? 256 : 128;
}

// For channels o in [0, n): sums over k steps of the product of lane's code and weight code,
// rows[table_of[o]][weight code][lane's code].
//
// kApproxDigits: a product is sum over planes p of d_p (2h + 1)^p, digits in [-h, h]; a row is
// `planes` tables of int8 digits, entries each; sums are int32 (planes, kApproxLanes), added to.
// h is 127, 63, 31 or 15, so that 1, 2, 4 or 8 digits add up in a byte.
// kApproxIntegers: a row is products of entry_bytes, those of codes with bit 7 included; sums are
// of sum_bytes, written; what a line of 64 bytes of entries would hold behind the last channel or
// lane is written, too. (2,4), (4,4), (4,8) or (8,8) bytes. n <= kApproxLanes.
struct ApproxRowsArgs {
  const uint8_t* x;       // codes, row of kApproxLanes by row of k, aligned to 64
  int64_t lanes;          // to make: 1...kApproxLanes; rounded up to 64 by some kernels
  const uint8_t* weight;  // codes of channel 0, channels weight_stride apart
  int64_t weight_stride;
  int64_t k, n;             // digits: k <= kApproxDepth
  const uint8_t* rows;      // aligned to 64
  const int32_t* table_of;  // of channel 0
  int64_t row_bytes, table_bytes;
  ApproxMode mode;
  int32_t planes, half;            // digits; half = h
  int32_t entry_bytes, sum_bytes;  // integers
  const uint8_t* columns;          // integers: rows by x's code instead, where there is one table
  uint8_t* scratch;                // integers: kApproxScratch, aligned to 64
  void* sums;
  int64_t sums_stride;  // bytes between channels
  // ApproxEachAdd: a row is 256 products in float32, integers of at most M + 1 significant bits and
  // `largest`, which is such a one, too; sums, rounded to them after each addition, are float32,
  // written, up to the next multiple of 64 lanes. Codes past the lanes are any within the table.
  int32_t mantissa_bits;  // M, 0...7
  float largest;          // below 2^53
};
using ApproxEachAddArgs = ApproxRowsArgs;

}  // namespace octet::kernels
