// Reading Q and DQ nodes: what a pass needs to know about the quantizer before or behind a value.
#pragma once

#include <optional>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Parameters of one QuantizeLinear or DequantizeLinear whose scale and zero point are constants.
struct QuantizerInfo {
  NodeId node = kNoNode;
  ValueId real = kNoValue;   // the float32 side
  ValueId codes = kNoValue;  // the integer side
  DType dtype = DType::kUndefined;
  std::vector<float> scale;         // 1, or one per channel of `axis`
  std::vector<int32_t> zero_point;  // as long as scale
  int axis = -1;                    // -1: per tensor

  [[nodiscard]] bool per_tensor() const { return scale.size() == 1; }
  // 8-bit codes with one scale: what the INT8 operators take as activations.
  [[nodiscard]] bool is_activation() const {
    return per_tensor() && (dtype == DType::kUint8 || dtype == DType::kInt8);
  }
  [[nodiscard]] bool SameGrid(const QuantizerInfo& other) const {
    return dtype == other.dtype && scale == other.scale && zero_point == other.zero_point &&
           axis == other.axis;
  }
  [[nodiscard]] int32_t qmin() const { return dtype == DType::kUint8 ? 0 : -128; }
  [[nodiscard]] int32_t qmax() const { return dtype == DType::kUint8 ? 255 : 127; }
};

// Of the node itself, or nullopt where it is no such node or its parameters are computed.
[[nodiscard]] std::optional<QuantizerInfo> QuantizerOf(const Graph& graph, NodeId id);
// Whether `value` comes out of a quantizer of any format, DequantizeLinear or one of the domain
// octet; whether a graph holds such.
[[nodiscard]] bool IsQuantized(const Graph& graph, ValueId value);
[[nodiscard]] bool HasQuantizers(const Graph& graph);
// Of the DequantizeLinear that makes `value`, or nullopt.
[[nodiscard]] std::optional<QuantizerInfo> DequantizerOf(const Graph& graph, ValueId value);

// Whether an addend of this shape gives each of the `columns` of a product one number, and leaves
// the product's shape as it is: then it is a layer's bias.
[[nodiscard]] bool IsNumberPerColumn(const Shape& addend, int64_t columns,
                                     const ValueType& product);

}  // namespace octet
