#include "passes/prepare.h"

#include "passes/subpixel.h"

namespace octet {

std::vector<FoldedNode> SimplifyForQuantizers(Graph& graph, const EvaluateFn& evaluate,
                                              const PrepareOptions& options) {
  RemoveIdentities(graph, options.keep);
  FoldConstants(graph, evaluate);
  const auto folded =
      options.fold_batchnorm ? FoldIntoLayers(graph, options.keep) : FoldBias(graph, options.keep);
  graph.Compact();
  SplitTransposedConvolutions(graph, options.keep);
  return folded;
}

}  // namespace octet
