// Smoothing and equalization rescale channels inside a network and leave its function as it is. A
// quantized model's values can then not be laid beside the float model's; this finds the factors
// again and gives the float model the same ones.
//
// The factors of a group of channels (passes/channel_groups.h) are read from its producers'
// weights: where the float weight of channel c is w and the dequantized one is w' = w / s +
// rounding, s = <w,w> / <w,w'>.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Rescales `reference` (BatchNorm folded, shapes inferred) as `quantized` was. Nodes are matched by
// name. Returns the names of the groups rescaled; none where no factor differs from 1 by more than
// rounding explains.
std::vector<std::string> AlignRescaling(Graph& reference, const Graph& quantized);

}  // namespace octet
