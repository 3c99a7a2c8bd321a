// Passes that leave the function as it is and the graph smaller: identities, constants, BatchNorm.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Evaluates one node on constant inputs (null where omitted). Handed in by a higher layer, which
// has an executor.
using EvaluateFn =
    std::function<std::vector<Tensor>(const Graph&, const Node&, std::span<const Tensor* const>)>;

// Removes Identity and Dropout (inference: its mask output must be unused). Returns how many.
int RemoveIdentities(Graph& graph);

// Replaces every node whose inputs are all constants by its value; quantizers are left alone
// (folding the DequantizeLinear of a weight would undo the quantization), and so is what would grow
// beyond `max_bytes`. Returns how many nodes went.
int FoldConstants(Graph& graph, const EvaluateFn& evaluate, int64_t max_bytes = 64 << 20);

// Conv or ConvTranspose followed by Add of a constant per channel: the constant becomes, or joins,
// its bias. Applies where the intermediate value has no other reader. Returns how many Adds went.
int FoldBias(Graph& graph);

// Conv, ConvTranspose or Gemm followed by BatchNormalization: W' = W * k, b' = (b - mean) * k +
// beta with k = gamma / sqrt(var + epsilon) per output channel, in double, stored float32. Applies
// where the intermediate value has no other reader. Returns the names of the BatchNormalization
// nodes folded.
std::vector<std::string> FoldBatchNorm(Graph& graph);

}  // namespace octet
