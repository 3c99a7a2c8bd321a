#include "passes/quantized_weights.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "passes/quantizers.h"

namespace octet {

QuantizedWeights ReadQuantizedWeights(const Graph& graph, const Node& n) {
  QuantizedWeights w;
  const auto q = DequantizerOf(graph, n.input(1));
  if (!q) {
    w.refused = "the weight is not quantized";
    return w;
  }
  w.value = q->codes;
  w.codes = graph.ConstantOf(q->codes);
  if (w.codes == nullptr) {
    w.refused = "the weight is computed";
    return w;
  }
  if (w.codes->dtype() != DType::kInt8) {
    w.refused = Cat("the weight is ", NameOf(w.codes->dtype()), ", expected int8");
    return w;
  }
  if (std::any_of(q->zero_point.begin(), q->zero_point.end(), [](int32_t z) { return z != 0; })) {
    w.refused = "the weight has a zero point other than 0";
    return w;
  }
  const Shape& shape = w.codes->shape();
  if (!n.Is("Conv") && shape.rank() != 2) {
    w.refused = Cat("the weight has rank ", shape.rank(), ", expected 2");
    return w;
  }
  const int axis = n.Is("Conv") || (n.Is("Gemm") && n.GetInt("transB", 0) != 0) ? 0 : 1;
  w.channels = shape[axis];
  if (!q->per_tensor() && (q->axis + shape.rank()) % shape.rank() != axis) {
    w.refused = Cat("the weight is quantized along axis ", q->axis, ", expected ", axis);
    return w;
  }
  w.scale = q->scale;
  w.scale.resize(static_cast<size_t>(w.channels), q->scale[0]);
  return w;
}

std::optional<std::vector<int32_t>> ReadBiasCodes(const Graph& graph, ValueId value, float x_scale,
                                                  const QuantizedWeights& w, std::string& refused) {
  const auto channels = static_cast<size_t>(w.channels);
  std::vector<int32_t> bias;
  if (value == kNoValue) return bias;
  std::vector<float> real;
  if (const auto q = DequantizerOf(graph, value)) {
    const Tensor* codes = graph.ConstantOf(q->codes);
    if (codes == nullptr || codes->dtype() != DType::kInt32 || codes->elements() != w.channels) {
      refused = "the bias is not an int32 constant of one element per output channel";
      return std::nullopt;
    }
    const auto c = codes->data<int32_t>();
    bool same = true;
    for (size_t i = 0; i < channels; ++i) {
      const float s = q->per_tensor() ? q->scale[0] : q->scale[i];
      same = same && s == x_scale * w.scale[i];
      real.push_back(static_cast<float>(c[i]) * s);
    }
    if (same) return std::vector<int32_t>(c.begin(), c.end());
  } else if (const Tensor* b = graph.ConstantOf(value);
             b != nullptr && b->dtype() == DType::kFloat32 && b->elements() == w.channels) {
    real.assign(b->data<float>().begin(), b->data<float>().end());
  } else {
    refused = "the bias is not a constant of one element per output channel";
    return std::nullopt;
  }
  for (size_t i = 0; i < channels; ++i) {
    const double v = static_cast<double>(real[i]) /
                     (static_cast<double>(x_scale) * static_cast<double>(w.scale[i]));
    if (!(std::fabs(v) < 2147483000.0)) {
      refused =
          Cat("the bias of output channel ", i, " does not fit int32 on the grid of x times w");
      return std::nullopt;
    }
    bias.push_back(static_cast<int32_t>(std::nearbyint(v)));
  }
  return bias;
}

}  // namespace octet
