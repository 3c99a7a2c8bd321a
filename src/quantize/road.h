// The road from a float graph to a quantized one: prepare, calibrate, rescale, choose parameters,
// correct biases, insert quantizers. Every stage leaves a runnable graph, verified, and can be
// handed out.
#pragma once

#include <functional>
#include <string>

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/recipe.h"
#include "octet/results.h"
#include "passes/simplify.h"
#include "quantize/calibration.h"

namespace octet {

// The executor's EvaluateNode, as the passes want it.
[[nodiscard]] EvaluateFn Evaluator();

// SimplifyForQuantizers, shapes inferred, graph verified. Throws kUnsupported naming every operator
// that cannot run, kBadData naming a weight with NaN or infinity.
std::vector<FoldedNode> Prepare(Graph& graph, bool fold_batchnorm);

struct RoadOptions {
  int threads = 0;
  bool allow_noise = false;  // see CalibrationOptions
  Progress progress;
  const Statistics* statistics = nullptr;  // instead of running the data
  // Instead of CollectStatistics, for who remembers what it has collected before; empty: that.
  std::function<CalibrationResult(const Graph&, const std::vector<Watch>&, const Dataset&,
                                  const CalibrationOptions&)>
      collect;
  // Called with each stage's name and graph: fold, equalize, smooth, quantize. Each is reached,
  // also where the recipe leaves it nothing to do.
  std::function<void(const std::string&, const Graph&)> on_stage;
};

// `data` may be null where statistics are given and the recipe neither smooths nor corrects
// empirically.
[[nodiscard]] QuantizeResult QuantizeGraph(Graph& graph, const Dataset* data, const Recipe& recipe,
                                           const RoadOptions& options);

// Statistics of a prepared graph for this recipe: what `octet calibrate` writes.
[[nodiscard]] CalibrationResult CalibrateGraph(const Graph& graph, const Dataset& data,
                                               const Recipe& recipe,
                                               const CalibrationOptions& options);

}  // namespace octet
