// What an ApproxConv or ApproxMatMul of the domain octet multiplies, read from its node: formats,
// zero points, weight codes and the tables of its multiplier. For the runtime, and for who looks at
// the operands or computes a layer from its definition.
//
// Inputs: codes of x, x scale, codes of w, w scale, bias?, 256 x 256 products? All but the first
// are constants.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "kernels/approx_setup.h"
#include "numerics/number_format.h"

namespace octet {

enum ApproxInput : size_t {
  kApproxX,
  kApproxXScale,
  kApproxWeight,
  kApproxWeightScale,
  kApproxBias,
  kApproxTable
};

[[nodiscard]] bool IsApproximate(const Node& node);

struct ApproxOperands {
  Multiplier multiplier;
  NumberFormat x_format, w_format;
  int32_t x_zero = 0, w_zero = 0;     // zero points; of float formats 0
  kernels::ApproxLayerFormats layer;  // scales; the float formats of x, w and the result
  kernels::ApproxTables tables;       // of this layer's biases, zero points included; no bias set
  int64_t n = 0, k = 0;
  std::vector<uint8_t> weight;  // codes (n,k): of a convolution OIHW
  std::vector<float> bias;      // [n], or empty

  // The byte that stands for 0 in x: what padding is.
  [[nodiscard]] uint8_t pad_code() const { return static_cast<uint8_t>(x_zero); }
  // What the 256 bytes of x and w mean, zero points taken off, scales apart.
  [[nodiscard]] std::vector<double> XValues() const;
  [[nodiscard]] std::vector<double> WValues() const;
};

// `constant` is the node's input, or null where it is omitted or computed. Throws, naming the node,
// kUnsupported for computed weights and scales, kInvalidArgument where the multiplier makes no
// sense of the formats.
[[nodiscard]] ApproxOperands ReadApproxNode(const Node& node,
                                            const std::function<const Tensor*(size_t)>& constant);

}  // namespace octet
