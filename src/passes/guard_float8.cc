#include "passes/guard_float8.h"

#include <algorithm>

#include "base/error.h"
#include "passes/quantizers.h"

namespace octet {
namespace {

bool FeedsFloat8(const Graph& graph, ValueId value) {
  const auto uses = graph.UsesOf(value);
  return std::any_of(uses.begin(), uses.end(), [&](const Graph::Use& use) {
    const Node& n = graph.node(use.node);
    return n.Is("QuantizeLinear") && IsFloat8(graph.value(n.outputs[0]).type.dtype);
  });
}

}  // namespace

int GuardFloat8Quantizers(Graph& graph) {
  int rewritten = 0;
  for (NodeId id : graph.TopologicalOrder()) {
    const Node n = graph.node(id);
    if (!(n.Is("Relu") || n.Is("Clip")) || !FeedsFloat8(graph, n.outputs[0])) continue;
    const ValueId x = n.inputs[0], y = n.outputs[0];
    ValueId lo = n.input(1), hi = n.input(2);
    if (n.Is("Relu")) lo = graph.AddConstant(n.name + "/zero", Tensor::Scalar(0.0F));
    if (lo == kNoValue && hi == kNoValue) continue;
    graph.RemoveNode(id);
    if (lo != kNoValue && hi != kNoValue) {
      const ValueId above = graph.AddValue(n.name + "/above", graph.value(y).type);
      graph.AddOp("Max", {x, lo}, {above}, {}, n.name + "/Max");
      graph.AddOp("Min", {above, hi}, {y}, {}, n.name + "/Min");
    } else if (lo != kNoValue) {
      graph.AddOp("Max", {x, lo}, {y}, {}, n.name + "/Max");
    } else {
      graph.AddOp("Min", {x, hi}, {y}, {}, n.name + "/Min");
    }
    ++rewritten;
  }
  return rewritten;
}

}  // namespace octet
