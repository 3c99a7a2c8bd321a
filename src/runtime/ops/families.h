// The factories of every family, for the table in runtime/ops.cc.
#pragma once

#include "runtime/step.h"

namespace octet::ops {

// conv.cc
Step MakeConv(const StepRequest& r);
Step MakeConvTranspose(const StepRequest& r);

// gemm.cc
Step MakeGemm(const StepRequest& r);
Step MakeMatMul(const StepRequest& r);
Step MakePermutedMatMul(const StepRequest& r);  // domain octet, made by passes/fuse_float.h

// recurrent.cc
Step MakeRecurrent(const StepRequest& r);  // RNN, GRU, LSTM

// unary.cc: one float32 or integer function of each element
Step MakeUnary(const StepRequest& r);
Step MakeClip(const StepRequest& r);
Step MakeNot(const StepRequest& r);

// approx.cc: domain octet, made by passes/approximate.h
Step MakeApproxConv(const StepRequest& r);
Step MakeApproxMatMul(const StepRequest& r);

// formats.cc: domain octet, and float8 codes of QuantizeLinear and DequantizeLinear
Step MakeFakeQuantize(const StepRequest& r);
Step MakeQuantizeFormat(const StepRequest& r);
Step MakeDequantizeFormat(const StepRequest& r);
Step MakeQuantizeFloat8(const StepRequest& r);
Step MakeDequantizeFloat8(const StepRequest& r);

// cast.cc
Step MakeCast(const StepRequest& r);

// binary.cc: numpy broadcasting
Step MakeBinary(const StepRequest& r);
Step MakeVariadic(const StepRequest& r);  // Min, Max, Sum, Mean
Step MakeWhere(const StepRequest& r);
Step MakePRelu(const StepRequest& r);
Step MakeExpand(const StepRequest& r);

// pool.cc
Step MakeMaxPool(const StepRequest& r);
Step MakeAveragePool(const StepRequest& r);
Step MakeGlobalPool(const StepRequest& r);

// norm.cc
Step MakeBatchNormalization(const StepRequest& r);
Step MakeInstanceNormalization(const StepRequest& r);
Step MakeGroupNormalization(const StepRequest& r);
Step MakeLayerNormalization(const StepRequest& r);
Step MakeLrn(const StepRequest& r);
Step MakeSoftmax(const StepRequest& r);  // and LogSoftmax

// movement.cc: bytes move or are seen under another shape, whatever they mean
Step MakeAlias(const StepRequest& r);  // Reshape, Flatten, Squeeze, Unsqueeze, Identity
Step MakeDropout(const StepRequest& r);
Step MakeTranspose(const StepRequest& r);
Step MakeConcat(const StepRequest& r);
Step MakeSplit(const StepRequest& r);
Step MakeSlice(const StepRequest& r);
Step MakeDepthToSpace(const StepRequest& r);
Step MakeSpaceToDepth(const StepRequest& r);

// pad.cc
Step MakePad(const StepRequest& r);
Step MakeTile(const StepRequest& r);
Step MakeTrilu(const StepRequest& r);

// gather.cc
Step MakeGather(const StepRequest& r);
Step MakeGatherElements(const StepRequest& r);
Step MakeGatherNd(const StepRequest& r);
Step MakeScatterElements(const StepRequest& r);
Step MakeScatterNd(const StepRequest& r);

// reduce.cc
Step MakeReduce(const StepRequest& r);
Step MakeArg(const StepRequest& r);  // ArgMax, ArgMin
Step MakeTopK(const StepRequest& r);
Step MakeCumSum(const StepRequest& r);

// shape.cc
Step MakeShape(const StepRequest& r);
Step MakeSize(const StepRequest& r);
Step MakeConstantOfShape(const StepRequest& r);
Step MakeRange(const StepRequest& r);

// one_hot.cc
Step MakeOneHot(const StepRequest& r);

// resize.cc
Step MakeResize(const StepRequest& r);

// quantize.cc
Step MakeQuantizeLinear(const StepRequest& r);
Step MakeDequantizeLinear(const StepRequest& r);
Step MakeDynamicQuantizeLinear(const StepRequest& r);

// qlinear.cc: the standard integer operators
Step MakeQLinearConv(const StepRequest& r);
Step MakeQLinearMatMul(const StepRequest& r);
Step MakeConvInteger(const StepRequest& r);
Step MakeMatMulInteger(const StepRequest& r);
Step MakeContribQGemm(const StepRequest& r);

// contrib.cc: the integer operators of domain com.microsoft
Step MakeContribQLinearBinary(const StepRequest& r);
Step MakeContribQLinearUnary(const StepRequest& r);
Step MakeContribQLinearPool(const StepRequest& r);
Step MakeContribQLinearConcat(const StepRequest& r);

// lowered.cc: domain octet
Step MakeQConv(const StepRequest& r);
Step MakeQGemm(const StepRequest& r);
Step MakeQAdd(const StepRequest& r);
Step MakeQMul(const StepRequest& r);
Step MakeQPool(const StepRequest& r);
Step MakeQLookup(const StepRequest& r);

// grid.cc: domain octet, made by passes/fuse_dynamic.h
Step MakeGridGemm(const StepRequest& r);
Step MakeGridConv(const StepRequest& r);

// fused.cc: domain octet, made by passes/fuse_float.h
Step MakeNorm(const StepRequest& r);
Step MakeScaledSoftmax(const StepRequest& r);
Step MakeQMap(const StepRequest& r);
Step MakeQMatMul(const StepRequest& r);

}  // namespace octet::ops
