#include "passes/macs.h"

#include <optional>
#include <set>
#include <string>

#include "base/error.h"
#include "graph/conv_geometry.h"
#include "graph/ops.h"

namespace octet {
namespace {

std::optional<Shape> KnownShape(const Graph& graph, ValueId v) {
  if (v == kNoValue) return std::nullopt;
  if (const Tensor* t = graph.ConstantOf(v)) return t->shape();
  const ValueType& type = graph.value(v).type;
  if (!type.is_static()) return std::nullopt;
  return type.static_shape();
}

// Position of the weight among the inputs.
size_t WeightInput(const Node& n) {
  return n.op == "QLinearConv" || n.op == "QLinearMatMul" ? 3 : 1;
}

bool IsWeighted(const Node& n) {
  static const std::set<std::string> kOps = {
      "Conv",  "ConvTranspose", "Gemm",          "MatMul",      "QConv",
      "QGemm", "QLinearConv",   "QLinearMatMul", "ConvInteger", "MatMulInteger"};
  return kOps.contains(n.op);
}

}  // namespace

int64_t MacsOf(const Graph& graph, const Node& node) {
  if (!IsWeighted(node)) return 0;
  const auto x = KnownShape(graph, node.input(0)),
             w = KnownShape(graph, node.input(WeightInput(node)));
  if (!x || !w) return 0;
  try {
    if (node.op == "ConvTranspose") return ResolveConvTranspose(node, *x, *w).macs();
    if (node.op == "Conv" || node.op == "QConv" || node.op == "QLinearConv" ||
        node.op == "ConvInteger") {
      return ResolveConv(node, *x, *w).macs();
    }
  } catch (const Error&) {
    return 0;  // a geometry that does not fit is the runtime's to refuse
  }
  if (x->rank() < 1 || w->rank() < 1) return 0;
  if (node.op == "Gemm") {
    if (x->rank() != 2 || w->rank() != 2) return 0;
    return x->elements() * (*w)[node.GetInt("transB", 0) != 0 ? 0 : 1];
  }
  if (node.op == "QGemm") return x->elements() * (*w)[node.GetInt("transB", 0) != 0 ? 0 : 1];
  // MatMul: every output element costs K; batch dimensions broadcast.
  const auto y = KnownShape(graph, node.outputs.at(0));
  return y ? y->elements() * (*x)[x->rank() - 1] : 0;
}

Graph WithBatch(const Graph& graph, int64_t batch) {
  Graph g = graph;
  for (ValueId id : g.inputs) {
    ValueType& type = g.value(id).type;
    for (size_t i = 0; i < type.dims.size(); ++i) {
      if (type.dims[i] == kUnknownDim) type.dims[i] = i == 0 ? batch : 1;
    }
    type.symbols.clear();
  }
  // What was declared for the open batch must not outlive it.
  for (NodeId id : g.TopologicalOrder()) {
    for (ValueId v : g.node(id).outputs) {
      if (v == kNoValue || g.value(v).constant) continue;
      ValueType& type = g.value(v).type;
      type = ValueType::Unranked(type.dtype);
    }
  }
  InferShapes(g, false);
  return g;
}

}  // namespace octet
