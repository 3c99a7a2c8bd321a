// `octet verify` on layers with approximate multipliers: what the kernels gave against the
// definition, int64 sums over the table one by one (docs/multipliers.md), and against exact
// products of the same codes. And the operands of one layer as files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "files/dataset.h"
#include "files/multiplier_table.h"
#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

[[nodiscard]] bool HasApproximateLayers(const Graph& graph);

// `graph` as it runs, lowered where it has quantizers. All samples run, each layer on the codes
// that the run gave it. Results do not depend on threads. Empty where no layer is approximate.
[[nodiscard]] std::vector<VerifyResult::Products> CheckProducts(const Graph& graph,
                                                                const Dataset& data,
                                                                const Progress& progress);

// Of the first sample. Throws kInvalidArgument, naming the layers there are, where none is called
// so.
std::vector<std::filesystem::path> DumpOperands(const Graph& graph, const Dataset& data,
                                                const std::string& layer,
                                                const std::filesystem::path& folder,
                                                OperandFiles files);

}  // namespace octet
