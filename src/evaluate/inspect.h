// `octet inspect`: what a model is made of, what it costs, and what can be quantized, before
// anything runs.
#pragma once

#include "graph/graph.h"
#include "octet/results.h"
#include "passes/macs.h"
#include "passes/place_quantizers.h"

namespace octet {

// `target` decides what counts as quantizable.
[[nodiscard]] InspectResult InspectGraph(const Graph& graph, Target target = Target::kOnnxRuntime,
                                         const InputShapes& shapes = {});

}  // namespace octet
