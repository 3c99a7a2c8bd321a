// What ONNX Runtime must not see in front of a float8 QuantizeLinear.
#pragma once

#include "graph/graph.h"

namespace octet {

// Relu becomes Max(x, 0) and Clip Min(Max(x, lo), hi) where a QuantizeLinear to float8 reads it.
// ONNX Runtime (1.31 was tried) takes a Relu there for redundant, as it would be before uint8 with
// zero point 0, and drops it: negative values come through. A Clip there makes it refuse the model
// ("Unexpected data type for QuantizeLinear input y_zero_point"). Returns how many were rewritten.
int GuardFloat8Quantizers(Graph& graph);

}  // namespace octet
