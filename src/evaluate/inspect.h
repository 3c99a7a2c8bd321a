// `octet inspect`: what a model is made of, what it costs, and what can be quantized, before anything runs.
#pragma once

#include "graph/graph.h"
#include "octet/results.h"
#include "passes/place_quantizers.h"

namespace octet {

// The graph with every open dimension of its inputs set to `batch` where it comes first and to 1 elsewhere, and
// with shapes inferred again.
[[nodiscard]] Graph WithBatch(const Graph& graph, int64_t batch);

// `target` decides what counts as quantizable.
[[nodiscard]] InspectResult InspectGraph(const Graph& graph, Target target = Target::kOnnxRuntime);

}  // namespace octet
