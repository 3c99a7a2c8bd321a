#include "evaluate/branch.h"

#include "base/error.h"
#include "passes/quantizers.h"

namespace octet {

ValueId Branch::Copy(ValueId value, const std::string& prefix) {
  if (value == kNoValue) return kNoValue;
  if (const auto it = copies_.find(value); it != copies_.end()) return it->second;
  const Value& v = from_.value(value);
  if (v.constant) {
    return copies_[value] = to_.AddConstant(v.name, v.constant);
  }
  if (const auto replacement = boundary_(value)) return copies_[value] = *replacement;
  if (v.producer == kNoNode) {
    Fail(ErrorCode::kInvalidArgument, "'", v.name, "' has no counterpart");
  }
  const Node& n = from_.node(v.producer);
  Node copy = n;
  copy.name = prefix + n.name;
  for (ValueId& in : copy.inputs) in = Copy(in, prefix);
  for (size_t i = 0; i < n.outputs.size(); ++i) {
    if (n.outputs[i] == kNoValue) continue;
    const Value& out = from_.value(n.outputs[i]);
    copy.outputs[i] = to_.AddValue(prefix + out.name, out.type);
    copies_[n.outputs[i]] = copy.outputs[i];
  }
  to_.AddNode(std::move(copy));
  return copies_.at(value);
}

LayerEnd FindLayerEnd(const Graph& graph, const std::vector<std::vector<Graph::Use>>& uses,
                      NodeId node) {
  LayerEnd end{graph.node(node).outputs[0], kNoNode};
  while (true) {
    const auto& readers = uses[static_cast<size_t>(end.real)];
    for (const Graph::Use& use : readers) {
      const auto q = QuantizerOf(graph, use.node);
      if (q && q->is_activation() && q->real == end.real) {
        end.quantizer = use.node;
        return end;
      }
      const Node& reader = graph.node(use.node);
      if (reader.domain == "octet" && reader.op == "FakeQuantize" && use.input == 0) {
        end.fake = reader.outputs[0];
        return end;
      }
    }
    if (readers.size() != 1 || graph.IsOutput(end.real)) return end;
    const Node& n = graph.node(readers[0].node);
    if (!n.Is("Relu") && !n.Is("Clip") && !n.Is("Min") && !n.Is("Max")) return end;
    for (size_t i = 0; i < n.inputs.size();
         ++i) {  // Min and Max of two computed values are a layer of their own
      if (i != readers[0].input && n.inputs[i] != kNoValue &&
          graph.ConstantOf(n.inputs[i]) == nullptr)
        return end;
    }
    end.real = n.outputs[0];
  }
}

}  // namespace octet
