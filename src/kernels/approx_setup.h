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
};

// Owns the tables that `multiply` points to; bias is the caller's to set.
struct ApproxTables {
  std::vector<std::vector<int64_t>> tables;
  ApproxMultiply multiply;
};

// Throws kInvalidArgument, naming the layer, where multiplier, formats and scales do not go
// together:
//   hw, v9   formats without NaN and infinity, of equal mantissas; scales that are powers of two
//   qamaa, exact   any float formats without NaN and infinity and any scales; for qamaa no more
//   than
//            64 different weight scales
// For kTable `user_table` is the file's (256 * 256), and formats are not looked at: the unit is
// x.scale * w_scale * multiplier.table_unit. Where multiplier.format is set, x, w and the result
// must have it.
[[nodiscard]] ApproxTables MakeApproxTables(const Multiplier& multiplier,
                                            const ApproxLayerFormats& formats, int64_t n,
                                            std::span<const int64_t> user_table = {});

}  // namespace octet::kernels
