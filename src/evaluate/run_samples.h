// What eval, analyze and verify share: samples as inputs of a graph, and values looked up by name.
#pragma once

#include <string_view>
#include <vector>

#include "files/dataset.h"
#include "graph/graph.h"
#include "runtime/executor.h"

namespace octet {

// For every input of `graph`, its position in a sample of the data: by name, or by place where the
// two graphs name their inputs differently. Throws kInvalidArgument where the numbers differ.
[[nodiscard]] std::vector<size_t> MatchInputs(const Graph& graph, const Dataset& data,
                                              std::string_view what);

[[nodiscard]] std::vector<TensorView> InputViews(const Sample& sample,
                                                 const std::vector<size_t>& order);

// Throws kBadData where the data hold no sample.
void RequireSamples(const Dataset& data, std::string_view operation);

}  // namespace octet
