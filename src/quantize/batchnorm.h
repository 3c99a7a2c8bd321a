// Running statistics of BatchNorm, estimated again behind quantized layers.
// Spec: spec/fp8.md 4.5.
#pragma once

#include <cstdint>

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

// Mean and (unbiased) variance of every BatchNormalization become those of its input in this graph
// over the data, one after another in the order of the graph, each with those before it done. The
// original averages what single batches give; this is of all samples, up to kBatchNormSamples, and
// does not depend on their order. Returns how many were estimated.
inline constexpr int64_t kBatchNormSamples = 64;
int64_t ReestimateBatchNorm(Graph& graph, const Dataset& data, int threads,
                            const Progress& progress);

}  // namespace octet
