// Chains of float operators that exporters write out become one operator each, and normalization
// takes in the addition before it and the quantizer behind it. For running, not for files: the
// executor applies it to its own copy of a graph (ids of values that remain stay valid).
//
// Recognised, where nobody else reads what lies between:
//   x / sqrt 2 -> Erf -> + 1, times x and 1/2 in any order       -> Gelu
//   the same by Tanh of sqrt(2 / pi) (x + 0.044715 x^3)          -> Gelu, approximate = "tanh"
//   x Sigmoid(x)                                                 -> Swish (ai.onnx 24)
//   x Clip(x + 3, 0, 6) / 6 in any order, x HardSigmoid(x; 1/6)  -> HardSwish
//   ReduceMean, Sub, Pow | Mul, ReduceMean, Add, Sqrt, Div, Mul, Add over the last axis
//                                                                -> LayerNormalization
//   the same without the mean, with or without Add               -> octet.Norm, rms = 1
//   Add of equal shapes -> LayerNormalization or RMSNormalization -> QuantizeLinear
//                                                                -> octet.Norm
//   the same with a residual that is dequantized for it alone    -> its codes
//   Gelu, Swish, HardSwish, Sigmoid, Tanh, Erf -> QuantizeLinear -> octet.QMap
//   Div by a power of two or Mul by a number above 0 -> Softmax  -> octet.ScaledSoftmax
//   Transpose -> second operand of MatMul, last axis next to last -> a Transpose that moves rows,
//                                                                   octet.PermutedMatMul
//   octet.PermutedMatMul -> octet.ScaledSoftmax                  -> its attribute softmax_scale
//   octet.PermutedMatMul -> Mul | Div as above -> Add of a mask -> Softmax -> the same, input 2
//   Transpose -> octet.QMatMul -> Transpose, last axis last      -> its perm_a, perm_b, perm_y
//   octet.QMatMul -> the same softmaxes -> QuantizeLinear        -> its softmax_scale, inputs 2, 3,
//   4
//
// Operators made in domain octet:
//   octet.Norm  inputs 0 x, 1 residual?, 2 gamma, 3 beta?, 4 scale?, 5 zero_point? (8-bit);
//               outputs 0 y?, 1 sum = x + residual?, 2 codes of y?; attributes epsilon, rms;
//               kernels::LayerNorm over the last axis. A residual of 8-bit codes has attributes
//               residual_scale and residual_zero_point
//   octet.QMap  inputs 0 x, 1 scale, 2 zero_point?; output codes; attribute function (Erf, Tanh,
//               Sigmoid, Swish, HardSwish, Gelu) and the function's own; kernels::Map
//   octet.ScaledSoftmax   softmax of attribute scale times the input, over the last axis
//   octet.PermutedMatMul  MatMul of Transpose(a, perm_a) and Transpose(b, perm_b), attributes; an
//               absent one leaves its operand as it is. With attribute softmax_scale, softmax of
//               so many times the product, plus input 2, a mask that broadcasts to it
//   octet.QMatMul (passes/lower.h) of Transpose(a, perm_a) and Transpose(b, perm_b), the result
//               transposed by perm_y; with attribute softmax_scale the softmax of so many times the
//               product, plus input 4, a mask, in float32, or, with inputs 2 scale and 3
//               zero_point?, its codes
#pragma once

#include <set>

#include "graph/graph.h"

namespace octet {

// `kept`: values that must still be computed besides the graph's outputs. Returns how many
// operators were made.
int FuseFloat(Graph& graph, const std::set<ValueId>& kept = {});

}  // namespace octet
