// Small graphs for the tests of this layer.
#pragma once

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "runtime/executor.h"

namespace octet::testing_graph {

using Attributes = std::map<std::string, Attribute>;

inline Tensor Floats(const Shape& shape, std::vector<float> values) {
  return Tensor::Of<float>(shape, std::span<const float>(values));
}
inline Tensor Ints(std::vector<int64_t> values) {
  return Tensor::Of<int64_t>(Shape{static_cast<int64_t>(values.size())},
                             std::span<const int64_t>(values));
}

// Normally distributed, the same for the same seed.
inline Tensor Noise(const Shape& shape, uint32_t seed, float scale = 1.0F) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  Tensor t(DType::kFloat32, shape);
  for (float& v : t.mutable_data<float>()) v = normal(engine);
  return t;
}

struct TestGraph {
  Graph graph;

  explicit TestGraph(int64_t opset = 17) {
    graph.opsets = {{"", opset}, {"com.microsoft", 1}, {"octet", 1}};
  }

  // A dimension of -1 may be anything.
  ValueId Input(std::vector<int64_t> dims, DType dtype = DType::kFloat32) {
    ValueType type;
    type.dtype = dtype;
    type.has_rank = true;
    type.dims = std::move(dims);
    return graph.AddInput("input", type);
  }
  ValueId Constant(Tensor t) { return graph.AddConstant("constant", std::move(t)); }
  std::vector<ValueId> Nodes(const std::string& op, std::vector<ValueId> inputs,
                             Attributes attributes, size_t outputs,
                             const std::string& domain = "") {
    Node node;
    node.op = op;
    node.domain = domain;
    node.inputs = std::move(inputs);
    node.attributes = std::move(attributes);
    for (size_t i = 0; i < outputs; ++i) node.outputs.push_back(graph.AddValue(op + "_out"));
    const std::vector<ValueId> made = node.outputs;
    graph.AddNode(std::move(node));
    return made;
  }
  ValueId Op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {},
             const std::string& domain = "") {
    return Nodes(op, std::move(inputs), std::move(attributes), 1, domain)[0];
  }
  void Output(ValueId id) { graph.outputs.push_back(id); }

  [[nodiscard]] std::vector<Tensor> Run(const std::vector<const Tensor*>& inputs,
                                        ExecutorOptions options = {}, const Tap& tap = {}) const {
    std::vector<TensorView> views;
    for (const Tensor* t : inputs) views.push_back(t->view());
    return Executor(graph, std::move(options)).Run(views, tap);
  }
};

// One node, its inputs as graph inputs ("run") and as constants ("known"): both must give these
// outputs.
inline std::vector<Tensor> RunOp(const std::string& op, std::vector<Tensor> inputs,
                                 Attributes attributes = {}, size_t outputs = 1,
                                 const std::string& domain = "", int64_t opset = 17) {
  TestGraph g(opset);
  std::vector<ValueId> ids;
  for (const Tensor& t : inputs) {
    // Small integer tensors steer shapes; operators need them known.
    const bool steers = t.dtype() == DType::kInt64;
    const bool omitted = t.dtype() == DType::kUndefined;
    ids.push_back(omitted ? kNoValue
                  : steers
                      ? g.Constant(t.Clone())
                      : g.Input({t.shape().dims().begin(), t.shape().dims().end()}, t.dtype()));
  }
  for (ValueId id : g.Nodes(op, ids, std::move(attributes), outputs, domain)) g.Output(id);
  std::vector<const Tensor*> given;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (ids[i] != kNoValue && g.graph.ConstantOf(ids[i]) == nullptr) given.push_back(&inputs[i]);
  }
  return g.Run(given);
}

}  // namespace octet::testing_graph
