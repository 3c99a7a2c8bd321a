// The quantized constants of Conv, Gemm and MatMul as INT8 operators take them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

struct QuantizedWeights {
  const Tensor* codes = nullptr;  // int8 about 0
  ValueId value = kNoValue;
  std::vector<float> scale;  // per output channel
  int64_t channels = 0;
  std::string refused;  // why they are not such; empty where they are
};
[[nodiscard]] QuantizedWeights ReadQuantizedWeights(const Graph& graph, const Node& node);

// A bias on the accumulator's grid, s_x * s_w[c]; empty for kNoValue. Nullopt with `refused` where
// it is no constant of one number per output channel, or does not fit int32.
[[nodiscard]] std::optional<std::vector<int32_t>> ReadBiasCodes(const Graph& graph, ValueId value,
                                                                float x_scale,
                                                                const QuantizedWeights& weights,
                                                                std::string& refused);

}  // namespace octet
