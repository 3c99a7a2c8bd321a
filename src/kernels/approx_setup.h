// From a multiplier and the quantizers around a layer to what ApproxLinear and ApproxConv take.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "numerics/approx_product.h"
#include "octet/approx.h"

namespace octet::kernels {

// A quantizer: values are scale * format.Decode(code).
struct ApproxQuantizer {
  FloatFormat format;
  float scale = 1;
};

struct ApproxLayerFormats {
  std::string layer;  // for messages
  ApproxQuantizer x;
  FloatFormat w_format;
  std::vector<float> w_scale;  // [N] or [1]
  // What products (and, of qamaa, sums) are rounded to: calibrated on exact results. Not read by
  // exact and table. result_limit: magnitudes saturate there (qamaa); 0: at the largest value.
  ApproxQuantizer result;
  double result_limit = 0;
  // Zero points of integer codes; kTable only.
  int32_t x_zero = 0, w_zero = 0;
};

// Owns the tables that `multiply` points to; bias is the caller's to set.
struct ApproxTables {
  std::vector<std::vector<int64_t>> tables;
  ApproxMultiply multiply;
};

// Of different weight scales in one layer.
inline constexpr size_t kMostApproxTables = 64;

// Throws kInvalidArgument, naming the layer, where multiplier, formats and scales do not go
// together:
//   hw, v9   formats without NaN and infinity, of equal mantissas; scales that are powers of two
//   qamaa, exact   any float formats without NaN and infinity and any scales; for qamaa no more
//            than kMostApproxTables different ones of weights
// For kTable `user_table` is the file's (256 * 256), products of the codes themselves, and float
// formats are not looked at: the unit is x.scale * w_scale * multiplier.table_unit. Zero points are
// taken off by exact adders:
//   sum (x - zx)(w - zw) = sum table[x][w] - zx sum w - zw sum x + K zx zw
// so the layer's table is table[x][w] - zx w - zw x + zx zw, the same sum. Both have to be whole in
// units of the table (or it in theirs); else kInvalidArgument. Where multiplier.format is set, x, w
// and the result must have it.
[[nodiscard]] ApproxTables MakeApproxTables(const Multiplier& multiplier,
                                            const ApproxLayerFormats& formats, int64_t n,
                                            std::span<const int64_t> user_table = {});

}  // namespace octet::kernels
