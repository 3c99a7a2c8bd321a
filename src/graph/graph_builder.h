// Hand-written graphs for tests: a few lines per network.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Weights are deterministic noise in [-1, 1); shapes are static.
class GraphBuilder {
 public:
  explicit GraphBuilder(uint32_t seed = 1) : state_(seed) { graph_.opsets[""] = 17; }

  ValueId Input(const std::string& name, const Shape& shape) {
    return graph_.AddInput(name, ValueType::Of(DType::kFloat32, shape));
  }
  ValueId Noise(const std::string& name, const Shape& shape, float scale = 1.0F) {
    Tensor t(DType::kFloat32, shape);
    for (float& v : t.mutable_data<float>()) v = scale * Next();
    return graph_.AddConstant(name, std::move(t));
  }
  ValueId Constant(const std::string& name, const Shape& shape,
                   std::initializer_list<float> values) {
    return graph_.AddConstant(name, Tensor::Of<float>(shape, values));
  }
  // A node of one output named like itself.
  ValueId Op(const std::string& op, const std::string& name, std::vector<ValueId> inputs,
             const Shape& shape, std::map<std::string, Attribute> attributes = {}) {
    const ValueId out = graph_.AddValue(name, ValueType::Of(DType::kFloat32, shape));
    graph_.AddOp(op, std::move(inputs), {out}, std::move(attributes), name);
    return out;
  }
  // Same-size convolution with noise weights and bias; kernel is odd.
  ValueId Conv(const std::string& name, ValueId x, int64_t out_channels, int64_t kernel,
               int64_t groups = 1) {
    const Shape in = graph_.value(x).type.static_shape();
    const float scale = 1.5F / static_cast<float>(kernel * kernel * in[1] / groups) * 2.0F;
    const ValueId w =
        Noise(name + ".weight", {out_channels, in[1] / groups, kernel, kernel}, scale * 1.5F);
    const ValueId b = Noise(name + ".bias", {out_channels}, 0.1F);
    const int64_t pad = kernel / 2;
    return Op("Conv", name, {x, w, b}, {in[0], out_channels, in[2], in[3]},
              {{"group", groups},
               {"kernel_shape", std::vector<int64_t>{kernel, kernel}},
               {"pads", std::vector<int64_t>{pad, pad, pad, pad}}});
  }
  ValueId Like(const std::string& op, const std::string& name, ValueId x) {
    return Op(op, name, {x}, graph_.value(x).type.static_shape());
  }
  ValueId Add(const std::string& name, ValueId a, ValueId b) {
    return Op("Add", name, {a, b}, graph_.value(a).type.static_shape());
  }
  void Output(ValueId v) { graph_.outputs.push_back(v); }

  [[nodiscard]] Graph& graph() { return graph_; }
  float Next() {
    state_ = state_ * 1664525U + 1013904223U;
    return static_cast<float>(state_ >> 8U) / 8388608.0F - 1.0F;
  }

 private:
  Graph graph_;
  uint32_t state_;
};

}  // namespace octet
