// What a float model goes through before quantizers are placed.
#pragma once

#include <vector>

#include "graph/graph.h"
#include "passes/simplify.h"

namespace octet {

struct PrepareOptions {
  bool fold_batchnorm = true;
  NodePredicate keep = {};  // of what is removed, folded or split
};

// Identities out, constants computed, constant addends and BatchNorms folded as long as one of them
// uncovers another, transposed convolutions split (subpixel.h). Leaves the shapes of what is new
// for InferShapes. Returns what was folded.
std::vector<FoldedNode> SimplifyForQuantizers(Graph& graph, const EvaluateFn& evaluate,
                                              const PrepareOptions& options = {});

}  // namespace octet
