#include "passes/approximate.h"

#include <algorithm>

#include "base/error.h"

namespace octet {
namespace {

// Codes, their scale, and the format's name.
struct Codes {
  ValueId codes = kNoValue;
  ValueId scale = kNoValue;
  std::string format;
  int64_t zero_point = 0;
};

class Approximation {
 public:
  explicit Approximation(Graph& graph) : graph_(graph) {}

  void Replace(const std::string& name, const ApproximateLayer& layer) {
    const NodeId id = graph_.FindNode(name);
    OCTET_INVARIANT(id != kNoNode);
    const Node node = graph_.node(id);
    const Codes x = InputCodes(node), w = WeightCodes(node);
    if (layer.table.empty() && (x.zero_point != 0 || w.zero_point != 0))
      Refuse(node, Cat("zero points ", x.zero_point, " and ", w.zero_point,
                       " cannot go through multiplier ", layer.multiplier,
                       "; expected symmetric formats"));
    std::vector<ValueId> inputs = {x.codes, x.scale, w.codes, w.scale};
    if (node.input(2) != kNoValue) inputs.push_back(node.inputs[2]);
    if (!layer.table.empty()) {
      inputs.resize(5, kNoValue);
      inputs.push_back(graph_.AddConstant(name + "_products",
                                          Tensor::Of<int64_t>(Shape{256, 256}, layer.table)));
    }
    std::map<std::string, Attribute> attributes = node.attributes;
    attributes["multiplier"] = layer.multiplier;
    attributes["x_format"] = x.format;
    attributes["w_format"] = w.format;
    if (x.zero_point != 0) attributes["x_zero_point"] = x.zero_point;
    if (w.zero_point != 0) attributes["w_zero_point"] = w.zero_point;
    attributes["result_format"] = layer.result_format.Name();
    attributes["result_scale"] = layer.result_scale;
    if (layer.result_limit > 0) attributes["result_limit"] = layer.result_limit;
    const ValueId y = node.outputs[0];
    graph_.RemoveNode(id);
    graph_.AddOp(node.Is("Conv") ? "ApproxConv" : "ApproxMatMul", std::move(inputs), {y},
                 std::move(attributes), name, "octet");
  }

 private:
  [[noreturn]] void Refuse(const Node& node, const std::string& why) const {
    Fail(ErrorCode::kInvalidArgument, "approximate multiplier: node '", node.name, "' (", node.op,
         "): ", why);
  }

  const Node& ProducerOf(const Node& node, size_t input) const {
    const NodeId id = graph_.value(node.inputs[input]).producer;
    if (id == kNoNode) Refuse(node, Cat("input ", input, " is not quantized"));
    return graph_.node(id);
  }

  // Of one zero point for all channels.
  Codes DequantizedCodes(const Node& node, const Node& dequantize) const {
    int64_t zero_point = 0;
    if (dequantize.input(2) != kNoValue) {
      const Tensor* zero = graph_.ConstantOf(dequantize.inputs[2]);
      if (zero == nullptr || zero->elements() < 1) Refuse(node, "a zero point is computed");
      if (zero->dtype() == DType::kInt8) {
        zero_point = SameOf(node, zero->data<int8_t>());
      } else if (zero->dtype() == DType::kUint8) {
        zero_point = SameOf(node, zero->data<uint8_t>());
      } else {
        const auto* bytes = static_cast<const uint8_t*>(zero->raw());
        zero_point = SameOf(node, std::span(bytes, static_cast<size_t>(zero->bytes())));
      }
    }
    return {dequantize.inputs[0], dequantize.inputs[1],
            std::string(NameOf(graph_.value(dequantize.inputs[0]).type.dtype)), zero_point};
  }

  template <typename T>
  int64_t SameOf(const Node& node, std::span<const T> zero) const {
    if (std::any_of(zero.begin(), zero.end(), [&](T z) { return z != zero[0]; }))
      Refuse(node, "channels have different zero points; expected one of all");
    return zero[0];
  }

  // One octet.Quantize for all layers that read a value.
  Codes InputCodes(const Node& node) {
    const Node& q = ProducerOf(node, 0);
    if (q.Is("DequantizeLinear")) return DequantizedCodes(node, q);
    if (q.domain != "octet" || q.op != "FakeQuantize") Refuse(node, "its input is not quantized");
    if (q.input(3) != kNoValue)
      Refuse(node, "its input's format has values beyond its codes; expected codes for all values");
    const std::string format = q.GetString("format", "");
    const ValueId real = q.inputs[0], scale = q.inputs[1];
    const ValueId zero = q.input(2);
    int64_t zero_point = 0;
    if (zero != kNoValue) {
      const Tensor* t = graph_.ConstantOf(zero);
      if (t == nullptr || t->dtype() != DType::kInt32) Refuse(node, "a zero point is no constant");
      zero_point = SameOf(node, t->data<int32_t>());
    }
    ValueId& codes = codes_.try_emplace({real, scale}, kNoValue).first->second;
    if (codes == kNoValue) {
      ValueType type = graph_.value(real).type;
      const NumberFormat parsed = NumberFormat::Parse(format);
      type.dtype = !parsed.is_float() && parsed.is_signed() ? DType::kInt8 : DType::kUint8;
      const std::string name = graph_.value(real).name;
      codes = graph_.AddValue(name + "_codes", type);
      std::vector<ValueId> inputs = {real, scale};
      if (zero != kNoValue) inputs.push_back(zero);
      graph_.AddOp("Quantize", std::move(inputs), {codes}, {{"format", format}}, name + "_Quantize",
                   "octet");
    }
    return {codes, scale, format, zero_point};
  }

  Codes WeightCodes(const Node& node) const {
    const Node& q = ProducerOf(node, 1);
    if (q.Is("DequantizeLinear")) return DequantizedCodes(node, q);
    if (q.domain != "octet" || q.op != "Dequantize")
      Refuse(node, "its weight is not kept as codes");
    if (q.input(2) != kNoValue) Refuse(node, "its weight has zero points; expected codes about 0");
    return {q.inputs[0], q.inputs[1], q.GetString("format", ""), 0};
  }

  Graph& graph_;
  std::map<std::pair<ValueId, ValueId>, ValueId> codes_;
};

}  // namespace

void ApproximateLayers(Graph& graph, const std::map<std::string, ApproximateLayer>& layers) {
  Approximation approximation(graph);
  for (const auto& [name, layer] : layers) approximation.Replace(name, layer);
  graph.Compact();
}

}  // namespace octet
