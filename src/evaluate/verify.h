// `octet verify`: does the INT8 run do what fake quantization promised (design.md §1)?
//
// Layer by layer: every layer of the lowered graph is given the codes that the real run gave it,
// and its piece of the QDQ graph, run in float32, is given the same; so only this layer's
// difference counts. Wherever the two codes differ, the element is computed exactly
// (evaluate/exact_element.h): the difference is explained if both codes lie within the bound of
// float32 rounding around the exact value, which is possible at a rounding tie alone. A fault of
// either side (a wrong bound, multiplier or zero point) lies elsewhere and is counted as
// unexplained. Layers with approximate multipliers must equal their definition
// (evaluate/check_products.h).
#pragma once

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

struct VerifyRequest {
  int threads = 0;  // 0: all cores; results do not depend on it
  Progress progress;
};

// `quantized` holds QuantizeLinear/DequantizeLinear pairs or approximate multipliers; it is lowered
// here. Throws kInvalidArgument where no layer of it can be.
[[nodiscard]] VerifyResult VerifyGraph(const Graph& quantized, const Dataset& data,
                                       const VerifyRequest& request = {});
// The same for a lowered graph made elsewhere; its inputs, outputs and codes bear the names of the
// quantized one's.
[[nodiscard]] VerifyResult VerifyLowered(const Graph& quantized, const Graph& lowered,
                                         const Dataset& data, const VerifyRequest& request = {});

}  // namespace octet
