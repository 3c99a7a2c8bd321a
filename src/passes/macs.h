// Multiply-adds of a node.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace octet {

// Of Conv, ConvTranspose, Gemm, MatMul and their integer forms (QLinearConv, octet.QConv, ...) for the shapes of
// their inputs; taps on padding counted. 0 for other operators and where shapes are not known.
[[nodiscard]] int64_t MacsOf(const Graph& graph, const Node& node);

}  // namespace octet
