#include "runtime/ops.h"

#include "runtime/ops/families.h"

namespace octet {
namespace {

using namespace ops;  // NOLINT: the factories

template <typename... I>
constexpr uint32_t Inputs(I... i) {
  return ((uint32_t{1} << i) | ...);
}
// QLinearConcat: y_scale, y_zero, then (x, x_scale, x_zero) as often as there are parts; up to 10
// parts.
constexpr uint32_t kAllButEveryThirdFromTwo = 0xDB6DB6DBU;

constexpr OpRow kRows[] = {
    {"Conv", "", MakeConv},
    {"ConvTranspose", "", MakeConvTranspose},
    {"Gemm", "", MakeGemm},
    {"MatMul", "", MakeMatMul},
    {"RNN", "", MakeRecurrent},
    {"GRU", "", MakeRecurrent},
    {"LSTM", "", MakeRecurrent},

    {"Relu", "", MakeUnary},
    {"LeakyRelu", "", MakeUnary},
    {"Sigmoid", "", MakeUnary},
    {"HardSigmoid", "", MakeUnary},
    {"HardSwish", "", MakeUnary},
    {"Tanh", "", MakeUnary},
    {"Elu", "", MakeUnary},
    {"Celu", "", MakeUnary},
    {"Selu", "", MakeUnary},
    {"ThresholdedRelu", "", MakeUnary},
    {"Softplus", "", MakeUnary},
    {"Softsign", "", MakeUnary},
    {"Erf", "", MakeUnary},
    {"Gelu", "", MakeUnary},
    {"Swish", "", MakeUnary},
    {"Mish", "", MakeUnary},
    {"Exp", "", MakeUnary},
    {"Log", "", MakeUnary},
    {"Sqrt", "", MakeUnary},
    {"Reciprocal", "", MakeUnary},
    {"Neg", "", MakeUnary},
    {"Abs", "", MakeUnary},
    {"Floor", "", MakeUnary},
    {"Ceil", "", MakeUnary},
    {"Round", "", MakeUnary},
    {"Sign", "", MakeUnary},
    {"Sin", "", MakeUnary},
    {"Cos", "", MakeUnary},
    {"Clip", "", MakeClip},
    {"Not", "", MakeNot},
    {"Cast", "", MakeCast},
    {"CastLike", "", MakeCast},

    {"Add", "", MakeBinary},
    {"Sub", "", MakeBinary},
    {"Mul", "", MakeBinary},
    {"Div", "", MakeBinary},
    {"Mod", "", MakeBinary},
    {"Pow", "", MakeBinary},
    {"Equal", "", MakeBinary},
    {"Less", "", MakeBinary},
    {"LessOrEqual", "", MakeBinary},
    {"Greater", "", MakeBinary},
    {"GreaterOrEqual", "", MakeBinary},
    {"And", "", MakeBinary},
    {"Or", "", MakeBinary},
    {"Xor", "", MakeBinary},
    {"Min", "", MakeVariadic},
    {"Max", "", MakeVariadic},
    {"Sum", "", MakeVariadic},
    {"Mean", "", MakeVariadic},
    {"Where", "", MakeWhere},
    {"PRelu", "", MakePRelu},
    {"Expand", "", MakeExpand},

    {"MaxPool", "", MakeMaxPool},
    {"AveragePool", "", MakeAveragePool},
    {"GlobalAveragePool", "", MakeGlobalPool},
    {"GlobalMaxPool", "", MakeGlobalPool},

    {"BatchNormalization", "", MakeBatchNormalization},
    {"InstanceNormalization", "", MakeInstanceNormalization},
    {"GroupNormalization", "", MakeGroupNormalization},
    {"LayerNormalization", "", MakeLayerNormalization},
    {"RMSNormalization", "", MakeLayerNormalization},
    {"LRN", "", MakeLrn},
    {"Softmax", "", MakeSoftmax},
    {"LogSoftmax", "", MakeSoftmax},

    {"Reshape", "", MakeAlias},
    {"Flatten", "", MakeAlias},
    {"Squeeze", "", MakeAlias},
    {"Unsqueeze", "", MakeAlias},
    {"Identity", "", MakeAlias},
    {"Dropout", "", MakeDropout, Inputs(2)},
    {"Transpose", "", MakeTranspose},
    {"Concat", "", MakeConcat},
    {"Split", "", MakeSplit},
    {"Slice", "", MakeSlice, Inputs(1, 3, 4)},
    {"DepthToSpace", "", MakeDepthToSpace},
    {"SpaceToDepth", "", MakeSpaceToDepth},

    {"Pad", "", MakePad, Inputs(1, 3)},
    {"Tile", "", MakeTile},
    {"Trilu", "", MakeTrilu},
    {"Resize", "", MakeResize, Inputs(2, 3)},

    {"ReduceSum", "", MakeReduce, Inputs(1)},
    {"ReduceMean", "", MakeReduce, Inputs(1)},
    {"ReduceMax", "", MakeReduce, Inputs(1)},
    {"ReduceMin", "", MakeReduce, Inputs(1)},
    {"ReduceProd", "", MakeReduce, Inputs(1)},
    {"ReduceL1", "", MakeReduce, Inputs(1)},
    {"ReduceL2", "", MakeReduce, Inputs(1)},
    {"ReduceSumSquare", "", MakeReduce, Inputs(1)},
    {"ReduceLogSum", "", MakeReduce, Inputs(1)},
    {"ReduceLogSumExp", "", MakeReduce, Inputs(1)},
    {"ArgMax", "", MakeArg},
    {"ArgMin", "", MakeArg},
    {"CumSum", "", MakeCumSum, Inputs(1)},
    {"TopK", "", MakeTopK},

    {"Gather", "", MakeGather},
    {"GatherElements", "", MakeGatherElements},
    {"GatherND", "", MakeGatherNd},
    {"ScatterElements", "", MakeScatterElements},
    {"ScatterND", "", MakeScatterNd},
    {"Shape", "", MakeShape},
    {"Size", "", MakeSize},
    {"ConstantOfShape", "", MakeConstantOfShape},
    {"Range", "", MakeRange},
    {"OneHot", "", MakeOneHot, Inputs(1)},

    {"QuantizeLinear", "", MakeQuantizeLinear},
    {"DequantizeLinear", "", MakeDequantizeLinear},
    {"QuantizeLinear", "com.microsoft", MakeQuantizeLinear},
    {"DequantizeLinear", "com.microsoft", MakeDequantizeLinear},
    {"DynamicQuantizeLinear", "", MakeDynamicQuantizeLinear},

    {"QLinearConv", "", MakeQLinearConv, Inputs(1, 2, 3, 4, 5, 6, 7, 8)},
    {"QLinearMatMul", "", MakeQLinearMatMul, Inputs(1, 2, 3, 4, 5, 6, 7)},
    {"ConvInteger", "", MakeConvInteger, Inputs(1, 2, 3)},
    {"MatMulInteger", "", MakeMatMulInteger, Inputs(1, 3)},
    {"QGemm", "com.microsoft", MakeContribQGemm, Inputs(1, 2, 3, 4, 5, 6, 7, 8)},
    {"QLinearAdd", "com.microsoft", MakeContribQLinearBinary, Inputs(1, 2, 4, 5, 6, 7)},
    {"QLinearMul", "com.microsoft", MakeContribQLinearBinary, Inputs(1, 2, 4, 5, 6, 7)},
    {"QLinearSigmoid", "com.microsoft", MakeContribQLinearUnary, Inputs(1, 2, 3, 4)},
    {"QLinearLeakyRelu", "com.microsoft", MakeContribQLinearUnary, Inputs(1, 2, 3, 4)},
    {"QLinearAveragePool", "com.microsoft", MakeContribQLinearPool, Inputs(1, 2, 3, 4)},
    {"QLinearGlobalAveragePool", "com.microsoft", MakeContribQLinearPool, Inputs(1, 2, 3, 4)},
    {"QLinearConcat", "com.microsoft", MakeContribQLinearConcat, kAllButEveryThirdFromTwo},

    {"QConv", "octet", MakeQConv, Inputs(1, 2, 3, 4, 5, 7)},
    {"QGemm", "octet", MakeQGemm, Inputs(1, 2, 3, 4, 5, 7)},
    {"QAdd", "octet", MakeQAdd},
    {"QMul", "octet", MakeQMul},
    {"QAveragePool", "octet", MakeQPool},
    {"QGlobalAveragePool", "octet", MakeQPool},
    {"QLookup", "octet", MakeQLookup, Inputs(1)},
    {"QMap", "octet", MakeQMap, Inputs(1, 2)},
    {"QMatMul", "octet", MakeQMatMul, Inputs(2, 3)},
    {"ApproxConv", "octet", MakeApproxConv, Inputs(1, 2, 3, 4, 5)},
    {"ApproxMatMul", "octet", MakeApproxMatMul, Inputs(1, 2, 3, 4, 5)},
    {"FakeQuantize", "octet", MakeFakeQuantize, Inputs(1, 2, 3)},
    {"Quantize", "octet", MakeQuantizeFormat, Inputs(1, 2)},
    {"Dequantize", "octet", MakeDequantizeFormat, Inputs(1, 2)},
    {"Norm", "octet", MakeNorm, Inputs(4, 5)},
    {"GridGemm", "octet", MakeGridGemm, Inputs(1, 4, 5)},
    {"GridConv", "octet", MakeGridConv, Inputs(1, 4, 5)},
    {"ScaledSoftmax", "octet", MakeScaledSoftmax},
    {"PermutedMatMul", "octet", MakePermutedMatMul},
};

}  // namespace

const OpRow* FindImplementation(std::string_view op, std::string_view domain) {
  for (const OpRow& row : kRows) {
    if (row.op == op && row.domain == domain) return &row;
  }
  return nullptr;
}

std::span<const OpRow> AllImplementations() { return kRows; }

}  // namespace octet
