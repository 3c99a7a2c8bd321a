#include "passes/quantizers.h"

#include "base/error.h"

namespace octet {
namespace {

bool ReadZeroPoints(const Tensor& t, std::vector<int32_t>& out) {
  const auto copy = [&](auto span) { out.assign(span.begin(), span.end()); };
  switch (t.dtype()) {
    case DType::kUint8:
      copy(t.data<uint8_t>());
      return true;
    case DType::kInt8:
      copy(t.data<int8_t>());
      return true;
    case DType::kInt16:
      copy(t.data<int16_t>());
      return true;
    case DType::kUint16:
      copy(t.data<uint16_t>());
      return true;
    case DType::kInt32:
      copy(t.data<int32_t>());
      return true;
    default:
      return false;
  }
}

}  // namespace

std::optional<QuantizerInfo> QuantizerOf(const Graph& graph, NodeId id) {
  if (id == kNoNode) return std::nullopt;
  const Node& n = graph.node(id);
  const bool dequantize = n.Is("DequantizeLinear");
  if (!dequantize && !n.Is("QuantizeLinear")) return std::nullopt;
  if (n.GetInt("block_size", 0) != 0) return std::nullopt;
  QuantizerInfo q;
  q.node = id;
  q.codes = dequantize ? n.inputs[0] : n.outputs[0];
  q.real = dequantize ? n.outputs[0] : n.inputs[0];
  const Tensor* scale = graph.ConstantOf(n.input(1));
  if (scale == nullptr || scale->dtype() != DType::kFloat32) return std::nullopt;
  q.scale.assign(scale->data<float>().begin(), scale->data<float>().end());
  const Tensor* zero = graph.ConstantOf(n.input(2));
  if (zero != nullptr) {
    if (!ReadZeroPoints(*zero, q.zero_point) || q.zero_point.size() != q.scale.size())
      return std::nullopt;
    q.dtype = zero->dtype();
  } else {
    if (n.input(2) != kNoValue) return std::nullopt;
    q.zero_point.assign(q.scale.size(), 0);
    q.dtype = dequantize ? graph.value(q.codes).type.dtype : DType::kUint8;
  }
  if (q.scale.size() > 1) q.axis = static_cast<int>(n.GetInt("axis", 1));
  return q;
}

namespace {

bool MakesQuantized(const Node& n) {
  return n.Is("DequantizeLinear") ||
         (n.domain == "octet" && (n.op == "FakeQuantize" || n.op == "Dequantize"));
}

}  // namespace

bool IsQuantized(const Graph& graph, ValueId value) {
  if (value == kNoValue) return false;
  const NodeId producer = graph.value(value).producer;
  return producer != kNoNode && MakesQuantized(graph.node(producer));
}

bool HasQuantizers(const Graph& graph) {
  for (NodeId id : graph.TopologicalOrder()) {
    if (MakesQuantized(graph.node(id))) return true;
  }
  return false;
}

std::optional<QuantizerInfo> DequantizerOf(const Graph& graph, ValueId value) {
  if (value == kNoValue) return std::nullopt;
  const NodeId producer = graph.value(value).producer;
  if (producer == kNoNode || !graph.node(producer).Is("DequantizeLinear")) return std::nullopt;
  return QuantizerOf(graph, producer);
}

bool IsNumberPerColumn(const Shape& addend, int64_t columns, const ValueType& product) {
  return addend.rank() >= 1 && addend[addend.rank() - 1] == columns &&
         addend.elements() == columns && product.has_rank &&
         addend.rank() <= static_cast<int>(product.dims.size());
}

}  // namespace octet
