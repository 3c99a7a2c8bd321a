// Weights too small to matter, and slow: training with weight decay leaves whole channels of
// subnormal floats behind, each of which costs a multiply-add some hundred cycles.
#pragma once

#include <span>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Replaces subnormal elements of the known float32 factors of convolutions, matrix products and
// recurrent layers by zero; `known` is by ValueId. A sum of K products with activations up to m
// moves by less than K m 2^-126, which is nothing beside the rounding of the sum, unless all of its
// terms are as small. Biases, states, what another operator reads as well, graph outputs and what
// is `kept` to be looked at stay as they are.
void FlushSubnormalWeights(const Graph& graph, std::span<const ValueId> kept,
                           std::vector<ConstantPtr>& known);

}  // namespace octet
