// Where approximate multipliers round products to a format: the scale of that format.
//
// On the range of a layer's exact results, the products that add up to them lie far below: most in
// the format's subnormals, or lost. A smaller scale keeps them, and saturates what is large: the
// power of two below it of least error in the layer's results, with its approximate products.
//
// The float model runs once; what layers read (codes) and make is kept, and each layer alone runs
// again for each of its scales.
#pragma once

#include <map>
#include <string>

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"
#include "passes/approximate.h"

namespace octet {

// `layers` by node name, with the scales of exact results; those with a table of their own are left
// alone. `reference` is the float graph, `approximate` the same network with those layers as
// ApproximateLayers() makes them.
void SearchResultRanges(const Graph& reference, const Graph& approximate, const Dataset& data,
                        int threads, const Progress& progress,
                        std::map<std::string, ApproximateLayer>& layers);

}  // namespace octet
