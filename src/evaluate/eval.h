// `octet eval`: a model's outputs judged by labels and by a float model's outputs, sample by
// sample.
//
// Samples run one by one, one per thread, and are summed up in their order: the figures do not
// depend on the number of threads. Which graphs are run, as they are or lowered, is the caller's
// choice.
#pragma once

#include <string>
#include <vector>

#include "evaluate/metrics.h"
#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

// A float model's first outputs, sample by sample: for many evaluations against it.
struct ReferenceOutputs {
  std::vector<Tensor> outputs;
  ScoredOutput info;
};
[[nodiscard]] ReferenceOutputs RunReference(const Graph& reference, const Dataset& data,
                                            int threads, const Progress& progress = {});

struct EvalRequest {
  std::vector<std::string>
      metrics;      // names of metrics.h; empty: all that data, reference and output allow
  int threads = 0;  // 0: all cores
  Progress progress;
  const ReferenceOutputs* outputs = nullptr;  // instead of a reference: what it gave on these data
};

// `reference` may be null. Throws kInvalidArgument for an unknown metric, and for one that needs
// labels, a reference or classes that are not there, naming what is missing; kBadData for outputs
// that are not finite.
[[nodiscard]] EvalResult EvaluateGraphs(const Graph& model, const Graph* reference,
                                        const Dataset& data, const EvalRequest& request = {});

}  // namespace octet
