// From operator sets 13 to 18 up to 19, the first whose QuantizeLinear knows float8.
#pragma once

#include "graph/graph.h"

namespace octet {

// Leaves graphs of operator set 19 and above alone. Reductions' axes become inputs, Split says its
// number of outputs; everything else of ai.onnx 13 means the same in 19 (ONNX's Changelog.md).
void RaiseOperatorSetTo19(Graph& graph);

}  // namespace octet
