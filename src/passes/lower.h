// Lowering: DequantizeLinear -> operator -> QuantizeLinear becomes one INT8 operator of domain
// "octet". The result is a graph like any other: it can be written, read, run, tapped.
//
// Operators made (x, a, b, y, residual are uint8 or int8 codes; logical NCHW as everything in a
// graph):
//
//   octet.QConv   inputs  0 x, 1 w int8 OIHW, 2 bias int32[OC]?, 3 multiplier float32[OC],
//                         4 lo int32[1|OC]?, 5 hi int32[1|OC]?  (code bounds; default: the
//                         type's),
//                         6 residual?, 7 float_bias float32[OC]? (float output only)
//                 attributes of Conv (kernel_shape, strides, pads, dilations, group, auto_pad) and
//                         x_zero_point, y_zero_point,
//                         output_dtype (ONNX id: 2 uint8, 3 int8, 1 float),
//                         float_lo, float_hi (float output only; default: no bound),
//                         residual_zero_point, residual_ratio,
//                         mid_codes (0/1), mid_zero_point, mid_lo, mid_hi, mid_ratio beside it
//                 means   kernels::Epilogue in include/octet/kernels.h, word for word
//   octet.QGemm   the same with w (K,N), or (N,K) if transB = 1; x [..., K], rank >= 2 -> [..., N]
//   octet.QMatMul inputs a, b (b int8 about 0), both computed: MatMul of rank >= 2; attributes
//                 a_zero_point, multiplier, y_zero_point, output_dtype:
//                 kernels::BatchedMatMulProblem
//   octet.QAdd    inputs a, b (same shape); attributes a_zero_point, b_zero_point, y_zero_point,
//                 a_ratio, b_ratio, lo, hi: kernels::AddProblem
//   octet.QMul    inputs a, b (same shape, or b one number per image and channel: [N,C,1,1] beside
//                 [N,C,H,W]); attributes a_scale, a_zero_point, b_..., y_..., lo, hi:
//                 kernels::MulProblem. x Sigmoid(x) and its like become one QLookup
//   octet.QAveragePool, octet.QGlobalAveragePool   attributes of the float operator and
//                 x_zero_point, y_zero_point, ratio: kernels::PoolProblem
//   octet.QLookup inputs x, table uint8[256] (indexed by the byte of the code): kernels::Lookup
//
// MaxPool, Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Concat, Split, Slice, nearest Resize
// run on codes as they are; a ReduceMean over both axes of images is a QGlobalAveragePool.
// Functions of one tensor, sums and products with a number among them, are a QLookup, or nothing at
// all where the quantizer behind gives every code back.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "passes/simplify.h"

namespace octet {

struct LoweringReport {
  struct Kept {
    std::string node;
    std::string op;
    std::string reason;  // "weight is float"
  };
  int lowered = 0;         // float operators that now run on codes
  std::vector<Kept> kept;  // Conv, Gemm, MatMul, Add, pooling ... that stay float, and why
};

struct LoweringOptions {
  // Every value that was quantized keeps its codes in the graph: Conv and the Add behind it stay
  // two operators. For looking at codes; the numbers are the same.
  bool keep_codes = false;
};

// `evaluate` computes the tables of elementwise operators (Sigmoid, HardSwish, ...) over all 256
// codes.
LoweringReport Lower(Graph& graph, const EvaluateFn& evaluate, const LoweringOptions& options = {});

}  // namespace octet
