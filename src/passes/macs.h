// Multiply-adds of a node, and the graph with the shapes to count them by.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace octet {

// Of Conv, ConvTranspose, Gemm, MatMul and their integer forms (QLinearConv, octet.QConv, ...) for
// the shapes of their inputs; taps on padding counted. 0 for other operators and where shapes are
// not known.
[[nodiscard]] int64_t MacsOf(const Graph& graph, const Node& node);

// The graph with every open dimension of its inputs set to `batch` where it comes first and to 1
// elsewhere, and with shapes inferred again.
[[nodiscard]] Graph WithBatch(const Graph& graph, int64_t batch);

}  // namespace octet
