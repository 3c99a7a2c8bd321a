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
  int64_t axis = 0;
};

class Approximation {
 public:
  explicit Approximation(Graph& graph) : graph_(graph) {}

  void Replace(const std::string& name, const ApproximateLayer& layer) {
    const NodeId id = graph_.FindNode(name);
    OCTET_INVARIANT(id != kNoNode);
    const Node node = graph_.node(id);
    const Codes x = InputCodes(node), w = WeightCodes(node);
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

  // One octet.Quantize for all layers that read a value.
  Codes InputCodes(const Node& node) {
    const Node& q = ProducerOf(node, 0);
    if (q.Is("DequantizeLinear")) {
      const Tensor* zero = graph_.ConstantOf(q.input(2));
      const auto* bytes = zero == nullptr ? nullptr : static_cast<const uint8_t*>(zero->raw());
      if (bytes != nullptr &&
          std::any_of(bytes, bytes + zero->bytes(), [](uint8_t b) { return b != 0; }))
        Refuse(node, "the zero point of its input is not 0; expected a symmetric format, as int8");
      return {q.inputs[0], q.inputs[1], std::string(NameOf(graph_.value(q.inputs[0]).type.dtype)),
              0};
    }
    if (q.domain != "octet" || q.op != "FakeQuantize") Refuse(node, "its input is not quantized");
    if (q.inputs.size() > 2) {
      Refuse(node,
             "its input's format has a zero point or values beyond its codes; expected a "
             "symmetric format with codes for all values");
    }
    const std::string format = q.GetString("format", "");
    const ValueId real = q.inputs[0], scale = q.inputs[1];
    ValueId& codes = codes_.try_emplace({real, scale}, kNoValue).first->second;
    if (codes == kNoValue) {
      ValueType type = graph_.value(real).type;
      type.dtype = NumberFormat::Parse(format).is_float() ? DType::kUint8 : DType::kInt8;
      const std::string name = graph_.value(real).name;
      codes = graph_.AddValue(name + "_codes", type);
      graph_.AddOp("Quantize", {real, scale}, {codes}, {{"format", format}}, name + "_Quantize",
                   "octet");
    }
    return {codes, scale, format, 0};
  }

  Codes WeightCodes(const Node& node) const {
    const Node& q = ProducerOf(node, 1);
    if (q.Is("DequantizeLinear"))
      return {q.inputs[0], q.inputs[1], std::string(NameOf(graph_.value(q.inputs[0]).type.dtype)),
              0};
    if (q.domain != "octet" || q.op != "Dequantize")
      Refuse(node, "its weight is not kept as codes");
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
