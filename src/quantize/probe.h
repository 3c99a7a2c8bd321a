// What quantizing one operator does to its own output: beside it the same operator once more, of
// the same inputs, with quantizers before it. Smoothing, the format search and the ranges of
// approximate results are all judged this way.
#pragma once

#include <vector>

#include "files/dataset.h"
#include "graph/graph.h"
#include "numerics/error_stats.h"

namespace octet {

class Probe {
 public:
  explicit Probe(const Graph& graph) : graph_(graph) { graph_.outputs.clear(); }

  [[nodiscard]] Graph& graph() { return graph_; }
  // A copy of a node, named after it; the first outputs of both will be compared.
  NodeId AddTwin(NodeId original);
  // The same of a value that nobody reads: an Identity.
  NodeId AddTwinOf(ValueId value);
  [[nodiscard]] size_t size() const { return graph_.outputs.size() / 2; }

  // Per twin, in the order they were added, how far it is from its original over the first samples.
  [[nodiscard]] std::vector<ErrorStats> Measure(const Dataset& data, int64_t samples) const;

 private:
  Graph graph_;  // its outputs: an original's, its twin's, and so on
};

// Noise over signal; 0 of a signal of zeros.
[[nodiscard]] double RelativeError(const ErrorStats& stats);

// The error of a few samples is known to a few percent.
inline constexpr int64_t kProbeSamples = 8;

}  // namespace octet
