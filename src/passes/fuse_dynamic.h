// What tools write for dynamic quantization becomes one operator per layer, with the same results
// to the last bit. For running, like passes/fuse_float.h: ids of values that remain stay valid.
//
// Recognised, where nobody else reads what lies between:
//   MatMulInteger | ConvInteger -> Cast to float -> Mul by (x_scale * w_scale)
//                               -> Add of a constant per channel, or not -> Relu | Clip, or not
// and, before that, equal Reshapes of one value, and DynamicQuantizeLinear of one value, are
// merged: query, key and value of attention quantize the same rows.
//
// Operators made in domain octet (codes on a grid that is computed, float32 out):
//   octet.GridGemm  inputs 0 x uint8 [..., K], 1 w int8 (K,N), 2 x_scale float32 scalar,
//                   3 x_zero_point uint8 scalar?, 4 w_scale float32 [1|N], 5 bias float32 [N]?
//                   attributes float_lo, float_hi (default: no bound)
//                   y = clamp(float(sum((x - x_zero_point) * w)) * (x_scale * w_scale) + bias)
//   octet.GridConv  the same with w int8 OIHW and the attributes of Conv; taps in the padding read
//   0
#pragma once

#include <set>

#include "graph/graph.h"

namespace octet {

// `kept`: values that must still be computed besides the graph's outputs. Types must have been
// inferred. Returns how many operators were made.
int FuseDynamic(Graph& graph, const std::set<ValueId>& kept = {});

}  // namespace octet
