#include "passes/prepare.h"

#include "passes/subpixel.h"

namespace octet {

std::vector<FoldedNode> SimplifyForQuantizers(Graph& graph, const EvaluateFn& evaluate,
                                              const PrepareOptions& options) {
  RemoveIdentities(graph, options.keep);
  FoldConstants(graph, evaluate);
  std::vector<FoldedNode> folded;
  for (bool uncovered = true; uncovered;) {
    const auto biases = FoldBias(graph, options.keep);
    folded.insert(folded.end(), biases.begin(), biases.end());
    if (!options.fold_batchnorm) break;
    const auto batchnorms = FoldBatchNorm(graph, options.keep);
    folded.insert(folded.end(), batchnorms.begin(), batchnorms.end());
    uncovered = !batchnorms.empty();
  }
  SplitTransposedConvolutions(graph, options.keep);
  return folded;
}

}  // namespace octet
