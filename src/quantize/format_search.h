// Of several number formats, for every value and every weight the one of least error in what the
// operators that read them put out: each operator runs once more for every pair of formats, its
// input and its weight quantized, beside itself (quantize/probe.h).
#pragma once

#include <map>

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/recipe.h"
#include "octet/results.h"
#include "passes/place_quantizers.h"
#include "quantize/activation_ranges.h"

namespace octet {

struct FormatSearchResult {
  std::map<int, NumberFormat> activations;  // by grid, of those that search
  std::map<NodeId, NumberFormat> weights;   // by operator, of those that search
};

// A value's format is that of least error summed over its readers, each with the weight format that
// suits it best; a weight's is that one. Errors are relative to each reader's output; values that
// nobody reads are judged by themselves.
[[nodiscard]] FormatSearchResult SearchFormats(const Graph& graph, const QuantizerPlan& plan,
                                               const ActivationRanges& ranges, const Recipe& recipe,
                                               const Dataset& data, int threads,
                                               const Progress& progress);

}  // namespace octet
