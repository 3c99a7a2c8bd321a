// Type and shape inference of one node after the other, for whoever changes the graph while it
// walks.
#pragma once

#include <map>
#include <optional>

#include "graph/graph.h"
#include "graph/ops.h"

namespace octet {

class ShapeInference {
 public:
  explicit ShapeInference(Graph& graph) : graph_(graph) {}

  // Sets the types of the node's outputs from those of its inputs, whose producers must have been
  // visited. An operator without a row is an error if `strict`, else leaves its outputs as they
  // were declared.
  void Visit(NodeId id, bool strict);

 private:
  // The elements of a value, as far as they are known; `whole` where all of them are.
  struct Known {
    PartialInts partial;
    std::optional<Tensor> whole;
  };

  const Known* KnownOf(ValueId id);

  Graph& graph_;
  std::map<ValueId, std::optional<Known>>
      known_;  // nullopt: a constant that is not a small integer tensor
};

}  // namespace octet
