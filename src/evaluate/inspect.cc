#include "evaluate/inspect.h"

#include <map>
#include <set>

#include "base/error.h"
#include "graph/ops.h"
#include "passes/macs.h"
#include "passes/prepare.h"
#include "passes/quantizers.h"
#include "runtime/executor.h"

namespace octet {
namespace {

std::string QualifiedOp(const Node& n) { return n.domain.empty() ? n.op : n.domain + "." + n.op; }

// Plan by value and node names: planning is done on a copy simplified as `quantize` will do it.
struct Quantizability {
  std::set<std::string> quantized;             // nodes
  std::map<std::string, std::string> reasons;  // nodes that stay float, or are folded away
};

Quantizability AskPlan(Graph graph, Target target) {
  const auto evaluate = [](const Graph& g, const Node& n, std::span<const Tensor* const> inputs) {
    return CanRun(g, n) ? EvaluateNode(g, n, inputs) : std::vector<Tensor>();
  };
  Quantizability q;
  for (const FoldedNode& f : SimplifyForQuantizers(graph, evaluate))
    q.reasons[f.node] = "folded into '" + f.into + "'";
  InferShapes(graph, false);
  const QuantizerPlan plan = PlanQuantizers(graph, {target, false, {}});
  for (const auto& w : plan.weighted) q.quantized.insert(graph.node(w.node).name);
  for (const auto& s : plan.skipped) q.reasons[s.node] = s.reason;
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (q.reasons.contains(n.name) && DequantizerOf(graph, n.input(1)))
      q.reasons[n.name] = "already quantized";
  }
  std::set<ValueId> grids;
  for (const auto& a : plan.activations) grids.insert(a.value);
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    static const std::set<std::string> kOnCodes = {"Add", "AveragePool", "GlobalAveragePool",
                                                   "MaxPool", "Concat"};
    if (!n.domain.empty() || !kOnCodes.contains(n.op)) continue;
    bool inputs = true;
    for (ValueId v : n.inputs) inputs = inputs && grids.contains(v);
    if (inputs) {
      q.quantized.insert(n.name);
    } else {
      q.reasons[n.name] = "its result is not read by an INT8 operator";
    }
  }
  return q;
}

int64_t ParametersOf(const Graph& graph, const Node& n) {
  int64_t total = 0;
  for (ValueId v : n.inputs) {
    const Tensor* t = graph.ConstantOf(v);
    if (t != nullptr && t->dtype() != DType::kInt64)
      total += t->elements();  // int64: shapes, axes, indices
  }
  return total;
}

}  // namespace

InspectResult InspectGraph(const Graph& original, Target target, const InputShapes& shapes) {
  const Graph graph = WithBatch(original, 1, shapes);
  InspectResult r;
  r.open_inputs = OpenInputs(graph);
  r.name = original.name;
  r.opset = original.opset();
  for (ValueId v : original.inputs) {
    r.inputs.push_back(original.value(v).name + ": " + original.value(v).type.ToString());
  }
  for (ValueId v : original.outputs) {
    r.outputs.push_back(original.value(v).name + ": " + original.value(v).type.ToString());
  }
  const Quantizability q = AskPlan(graph, target);
  std::set<ValueId> counted;
  std::map<std::string, std::string> unsupported;  // operator -> first node
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    ++r.operators[QualifiedOp(n)];
    if (!CanRun(graph, n)) unsupported.emplace(QualifiedOp(n), n.name);
    InspectResult::Layer layer;
    layer.node = n.name;
    layer.op = QualifiedOp(n);
    if (!n.outputs.empty() && n.outputs[0] != kNoValue)
      layer.shape = graph.value(n.outputs[0]).type.ToString();
    layer.macs = MacsOf(graph, n);
    layer.parameters = ParametersOf(graph, n);
    layer.quantizable = q.quantized.contains(n.name);
    if (const auto it = q.reasons.find(n.name); it != q.reasons.end() && !layer.quantizable)
      layer.reason = it->second;
    r.macs += layer.macs;
    if (layer.quantizable) r.quantizable_macs += layer.macs;
    for (ValueId v : n.inputs) {
      const Tensor* t = graph.ConstantOf(v);
      if (t != nullptr && t->dtype() != DType::kInt64 && counted.insert(v).second)
        r.parameters += t->elements();
    }
    r.layers.push_back(std::move(layer));
  }
  for (const auto& [op, node] : unsupported) r.unsupported.push_back(op + " (node '" + node + "')");
  return r;
}

}  // namespace octet
