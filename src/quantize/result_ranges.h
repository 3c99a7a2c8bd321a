// Where approximate multipliers round products to a format: the scale of that format.
//
// On the range of a layer's exact results, the products that add up to them lie far below: most in
// the format's subnormals, or lost. A smaller scale keeps them, and saturates what is large: the
// power of two below it of least error in the layer's results, with its approximate products.
#pragma once

#include <map>
#include <string>

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"
#include "passes/approximate.h"
#include "passes/place_quantizers.h"

namespace octet {

// `layers` by node name, with the scales of exact results; those with a table of their own are left
// alone. `reference` is the float graph that plan and params are of.
void SearchResultRanges(const Graph& reference, const QuantizerPlan& plan,
                        const QuantizerParams& params, const Dataset& data, int threads,
                        const Progress& progress, std::map<std::string, ApproximateLayer>& layers);

}  // namespace octet
