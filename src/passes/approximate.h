// Layers whose multiplier is approximate: from quantizers around a Conv, Gemm or MatMul to
// octet.ApproxConv or octet.ApproxMatMul, which take codes and look products up (octet/approx.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "numerics/number_format.h"

namespace octet {

struct ApproximateLayer {
  std::string multiplier;  // numerics/approx_multiplier.h
  // What products are rounded to, of multipliers that round them: calibrated on exact results.
  NumberFormat result_format;
  float result_scale = 1;
  float result_limit = 0;      // magnitudes saturate there; 0: at the format's largest value
  std::vector<int64_t> table;  // of multiplier table:FILE: its 256 x 256 products
};

// By node name; every node must be there. Its input must come out of octet.FakeQuantize or of
// DequantizeLinear, its weight out of octet.Dequantize or DequantizeLinear. Zero points other than
// 0 are for tables only. Throws kInvalidArgument, naming the node, where it does not.
void ApproximateLayers(Graph& graph, const std::map<std::string, ApproximateLayer>& layers);

}  // namespace octet
