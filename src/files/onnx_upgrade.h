// Raises a graph to operator set 13.
#pragma once

#include "graph/graph.h"

namespace octet {

// Rewrites every ai.onnx operator whose meaning changed between graph.opset() and 13, and sets the
// operator set to 13. Nothing happens at 13 or above. Throws kUnsupported, naming node and
// operator, where an operator changed and no rule (or not enough known about its inputs) says how
// to write it today.
void UpgradeToOpset13(Graph& graph);

}  // namespace octet
