// Passes that leave the function as it is and the graph smaller: identities, constants, biases,
// BatchNorm. What they take in which order: prepare.h.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Evaluates one node on constant inputs (null where omitted); no results where it cannot run.
// Handed in by a higher layer, which has an executor.
using EvaluateFn =
    std::function<std::vector<Tensor>(const Graph&, const Node&, std::span<const Tensor* const>)>;

// Nodes that a pass is to leave as they are; empty: none.
using NodePredicate = std::function<bool(const Node&)>;

// A node that became part of another.
struct FoldedNode {
  std::string node, op, into;
};

// Removes Identity and Dropout (inference: its mask output must be unused). Returns how many.
int RemoveIdentities(Graph& graph, const NodePredicate& keep = {});

// Replaces every node whose inputs are all constants by its value; quantizers are left alone
// (folding the DequantizeLinear of a weight would undo the quantization), and so is what would grow
// beyond `max_bytes`. Returns how many nodes went.
int FoldConstants(Graph& graph, const EvaluateFn& evaluate, int64_t max_bytes = 64 << 20);

// Folding leaves the ids of values as they are, and dead weights to Graph::Compact().

// Conv or ConvTranspose followed by Add of a constant per channel: the constant becomes, or joins,
// its bias. Applies where the intermediate value has no other reader.
std::vector<FoldedNode> FoldBias(Graph& graph, const NodePredicate& keep = {});

// Conv, ConvTranspose or Gemm followed by BatchNormalization: W' = W * k, b' = (b - mean) * k +
// beta with k = gamma / sqrt(var + epsilon) per output channel, in double, stored float32. Applies
// where the intermediate value has no other reader.
std::vector<FoldedNode> FoldBatchNorm(Graph& graph, const NodePredicate& keep = {});

// Both of them, as long as one uncovers another.
std::vector<FoldedNode> FoldIntoLayers(Graph& graph, const NodePredicate& keep = {});

}  // namespace octet
