// What a target runtime will make of a quantized model: which operators run on 8-bit codes there,
// which do not and why, and what it refuses to load. The rules are those of each runtime's own
// optimizer, simulated on the graph:
//
//   octet         what Lower() fuses
//   onnxruntime   the node groups of its QDQ selectors (DQ on every input, one Q behind), checked
//                 against ONNX Runtime 1.31; CPU execution provider
//   tensorrt      explicit quantization of TensorRT 10 and 11: signed, zero point 0, float bias
#pragma once

#include "graph/graph.h"
#include "octet/results.h"
#include "passes/macs.h"
#include "passes/place_quantizers.h"
#include "passes/simplify.h"

namespace octet {

// `graph` holds QuantizeLinear/DequantizeLinear (or integer operators already); multiply-adds are
// counted for batch 1 and `shapes`. `evaluate` serves the octet target, as in Lower().
[[nodiscard]] AuditResult AuditGraph(const Graph& graph, Target target, const EvaluateFn& evaluate,
                                     const InputShapes& shapes = {});

}  // namespace octet
