// Multiply-adds of a node, and the graph with the shapes to count them by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

// Of Conv, ConvTranspose, Gemm, MatMul, their integer forms (QLinearConv, octet.QConv, ...), LSTM,
// GRU, RNN, for the shapes of their inputs; taps on padding counted. 0 for other operators and
// where shapes are not known.
[[nodiscard]] int64_t MacsOf(const Graph& graph, const Node& node);

// The graph with open dimensions of its inputs closed and shapes inferred again: as `shapes` says,
// else to `batch` where the dimension comes first; a size holds wherever its symbol stands. Others
// stay open. Throws kInvalidArgument where a shape is of no input, contradicts what the model
// fixes, gives a symbol a second size, or the graph cannot have these sizes.
[[nodiscard]] Graph WithBatch(const Graph& graph, int64_t batch, const InputShapes& shapes = {});

// Inputs with dimensions that are open still, as "x: float32[1,3,?,?]".
[[nodiscard]] std::vector<std::string> OpenInputs(const Graph& graph);

}  // namespace octet
