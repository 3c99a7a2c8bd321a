// Transposed convolutions whose windows do not overlap, as decoders and text detectors have them:
// every input pixel is a block of output pixels of its own.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "passes/simplify.h"

namespace octet {

// Replaces ConvTranspose with a square kernel that equals its stride, no padding and one group by a
// 1x1 Conv to kernel^2 times the channels (of the same name) and DepthToSpace. Relu, LeakyRelu and
// Clip behind it stay next to the Conv, where they cost nothing. Unlike ConvTranspose, both run in
// INT8 in every target. Returns the names of the nodes replaced.
std::vector<std::string> SplitTransposedConvolutions(Graph& graph, const NodePredicate& keep = {});

}  // namespace octet
