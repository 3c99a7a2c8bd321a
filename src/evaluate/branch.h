// Copies a piece of one graph into another: the layer of a quantized model, fed by values of the
// float model, or by codes of a real run.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "graph/graph.h"

namespace octet {

class Branch {
 public:
  // Asked for every computed value before its producer is copied: the value of `to` to be read
  // instead, or nullopt to copy on.
  using Boundary = std::function<std::optional<ValueId>(ValueId)>;

  Branch(const Graph& from, Graph& to, Boundary boundary)
      : from_(from), to_(to), boundary_(std::move(boundary)) {}

  // The copy of `value`, with all it needs up to the boundary. Node names get `prefix`. Throws
  // kInvalidArgument where the way back ends at an input of `from` that is no boundary.
  ValueId Copy(ValueId value, const std::string& prefix);

 private:
  const Graph& from_;
  Graph& to_;
  Boundary boundary_;
  std::map<ValueId, ValueId> copies_;
};

// Behind a node: the value that Relu, Clip, Min or Max made of its output, with nobody else
// looking, and the quantizer that takes it: QuantizeLinear, or octet.FakeQuantize.
struct LayerEnd {
  ValueId real = kNoValue;
  NodeId quantizer = kNoNode;  // the QuantizeLinear
  ValueId fake = kNoValue;     // what octet.FakeQuantize makes of it
};
[[nodiscard]] LayerEnd FindLayerEnd(const Graph& graph,
                                    const std::vector<std::vector<Graph::Use>>& uses, NodeId node);

}  // namespace octet
