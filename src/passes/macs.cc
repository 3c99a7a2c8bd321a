#include "passes/macs.h"

#include <optional>
#include <set>
#include <string>

#include "base/error.h"
#include "graph/conv_geometry.h"
#include "graph/ops.h"
#include "graph/recurrent.h"

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
  return kOps.contains(n.op) || IsRecurrent(n.op);
}

ValueId InputNamed(const Graph& graph, const std::string& name) {
  if (name.empty() && graph.inputs.size() == 1) return graph.inputs[0];
  std::string names;
  for (ValueId id : graph.inputs) {
    if (graph.value(id).name == name) return id;
    names += Cat(names.empty() ? "'" : ", '", graph.value(id).name, "'");
  }
  Fail(ErrorCode::kInvalidArgument, "shape of input '", name, "': the model's inputs are ", names);
}

std::string ToString(const std::vector<int64_t>& dims) {
  std::string text;
  for (int64_t d : dims) text += Cat(text.empty() ? "" : "x", d);
  return text;
}

void SetInputShape(Graph& g, const Graph& original, const std::string& name,
                   const std::vector<int64_t>& dims) {
  const ValueId id = InputNamed(g, name);
  const ValueType& declared = original.value(id).type;
  bool fits = !declared.has_rank || declared.dims.size() == dims.size();
  for (size_t i = 0; i < dims.size(); ++i) {
    fits = fits && dims[i] >= 0 &&
           (!declared.has_rank || declared.dims[i] == kUnknownDim || declared.dims[i] == dims[i]);
  }
  if (!fits) {
    Fail(ErrorCode::kInvalidArgument, "shape of input '", g.value(id).name, "' is ", ToString(dims),
         ", expected ", declared.ToString());
  }
  ValueType& type = g.value(id).type;
  type.has_rank = true;
  type.dims = dims;
  type.symbols.clear();
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
  if (IsRecurrent(node.op)) {
    // Every row of x meets W (D,GH,I) and, as state, R (D,GH,H).
    const auto r = KnownShape(graph, node.input(2));
    return r && x->rank() == 3 && w->rank() == 3
               ? (*x)[0] * (*x)[1] * (w->elements() + r->elements())
               : 0;
  }
  if (node.op == "Gemm") {
    if (x->rank() != 2 || w->rank() != 2) return 0;
    return x->elements() * (*w)[node.GetInt("transB", 0) != 0 ? 0 : 1];
  }
  if (node.op == "QGemm") return x->elements() * (*w)[node.GetInt("transB", 0) != 0 ? 0 : 1];
  // MatMul: every output element costs K; batch dimensions broadcast.
  const auto y = KnownShape(graph, node.outputs.at(0));
  return y ? y->elements() * (*x)[x->rank() - 1] : 0;
}

Graph WithBatch(const Graph& graph, int64_t batch, const InputShapes& shapes) {
  Graph g = graph;
  for (ValueId id : g.inputs) {
    ValueType& type = g.value(id).type;
    if (!type.dims.empty() && type.dims[0] == kUnknownDim) {
      type.dims[0] = batch;
      if (!type.symbols.empty()) type.symbols[0].clear();
    }
  }
  for (const auto& [name, dims] : shapes) SetInputShape(g, graph, name, dims);
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

std::vector<std::string> OpenInputs(const Graph& graph) {
  std::vector<std::string> open;
  for (ValueId id : graph.inputs) {
    const Value& input = graph.value(id);
    if (!input.type.is_static()) open.push_back(input.name + ": " + input.type.ToString());
  }
  return open;
}

}  // namespace octet
