#include "passes/macs.h"

#include <map>
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

// What symbols such as "N" stand for, and the input that says so.
struct SymbolSize {
  int64_t size;
  std::string input;
};
using SymbolSizes = std::map<std::string, SymbolSize>;

void SetInputShape(Value& input, const std::vector<int64_t>& dims, SymbolSizes& sizes) {
  ValueType& type = input.type;
  bool fits = !type.has_rank || type.dims.size() == dims.size();
  for (size_t i = 0; i < dims.size(); ++i) {
    fits = fits && dims[i] >= 0 &&
           (!type.has_rank || type.dims[i] == kUnknownDim || type.dims[i] == dims[i]);
  }
  if (!fits) {
    Fail(ErrorCode::kInvalidArgument, "shape of input '", input.name, "' is ", ToString(dims),
         ", expected ", type.ToString());
  }
  for (size_t i = 0; i < type.symbols.size(); ++i) {
    if (type.symbols[i].empty()) continue;
    const auto [known, added] = sizes.try_emplace(type.symbols[i], SymbolSize{dims[i], input.name});
    if (known->second.size != dims[i]) {
      Fail(ErrorCode::kInvalidArgument, "shape of input '", input.name, "' is ", ToString(dims),
           ", expected ", type.ToString(), ": its '", type.symbols[i], "' would be ", dims[i],
           ", which is ", known->second.size, " by the shape of input '", known->second.input, "'");
    }
  }
  type.has_rank = true;
  type.dims = dims;
  type.symbols.clear();
}

void CloseBySymbols(Graph& graph, const SymbolSizes& sizes) {
  for (ValueId id : graph.inputs) {
    ValueType& type = graph.value(id).type;
    for (size_t i = 0; i < type.symbols.size(); ++i) {
      const auto known = sizes.find(type.symbols[i]);
      if (known == sizes.end()) continue;
      type.dims[i] = known->second.size;
      type.symbols[i].clear();
    }
  }
}

void CloseBatch(Graph& graph, int64_t batch, SymbolSizes& sizes) {
  for (ValueId id : graph.inputs) {
    Value& input = graph.value(id);
    if (input.type.dims.empty() || input.type.dims[0] != kUnknownDim) continue;
    input.type.dims[0] = batch;
    if (input.type.symbols.empty()) continue;
    if (!input.type.symbols[0].empty())
      sizes.try_emplace(input.type.symbols[0], SymbolSize{batch, input.name});
    input.type.symbols[0].clear();
  }
  CloseBySymbols(graph, sizes);
}

// A graph that fits itself may not fit the sizes that its inputs were given.
void InferClosed(Graph& graph, bool was_open) {
  try {
    InferShapes(graph, false);
  } catch (const Error& e) {
    if (!was_open || e.code() != ErrorCode::kBadFile) throw;
    std::string inputs;
    for (ValueId id : graph.inputs) {
      const Value& input = graph.value(id);
      inputs += Cat(inputs.empty() ? "" : ", ", input.name, ": ", input.type.ToString());
    }
    Fail(ErrorCode::kInvalidArgument, "the model cannot have inputs of these sizes, ", inputs, ": ",
         e.what());
  }
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
  SymbolSizes sizes;
  std::map<ValueId, std::string> given;
  for (const auto& [name, dims] : shapes) {
    const ValueId id = InputNamed(g, name);
    const auto [first, added] = given.try_emplace(id, ToString(dims));
    if (!added) {
      Fail(ErrorCode::kInvalidArgument, "shape of input '", g.value(id).name, "' is given twice, ",
           first->second, " and ", ToString(dims));
    }
    SetInputShape(g.value(id), dims, sizes);
  }
  CloseBySymbols(g, sizes);
  CloseBatch(g, batch, sizes);
  // What was declared for the open batch must not outlive it.
  for (NodeId id : g.TopologicalOrder()) {
    for (ValueId v : g.node(id).outputs) {
      if (v == kNoValue || g.value(v).constant) continue;
      ValueType& type = g.value(v).type;
      type = ValueType::Unranked(type.dtype);
    }
  }
  InferClosed(g, !OpenInputs(graph).empty());
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
