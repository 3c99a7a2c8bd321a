#include "runtime/ops.h"

#include "runtime/ops/families.h"

namespace octet {
namespace {

using namespace ops;  // NOLINT: the factories

constexpr OpRow kRows[] = {
    {"Conv", "", MakeConv},
    {"ConvTranspose", "", MakeConvTranspose},
    {"Gemm", "", MakeGemm},
    {"MatMul", "", MakeMatMul},

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
    {"LRN", "", MakeLrn},
    {"Softmax", "", MakeSoftmax},
    {"LogSoftmax", "", MakeSoftmax},

    {"Reshape", "", MakeAlias},
    {"Flatten", "", MakeAlias},
    {"Squeeze", "", MakeAlias},
    {"Unsqueeze", "", MakeAlias},
    {"Identity", "", MakeAlias},
    {"Dropout", "", MakeAlias},
    {"Transpose", "", MakeTranspose},
    {"Concat", "", MakeConcat},
    {"Split", "", MakeSplit},
    {"Slice", "", MakeSlice},
    {"DepthToSpace", "", MakeDepthToSpace},
    {"SpaceToDepth", "", MakeSpaceToDepth},

    {"Pad", "", MakePad},
    {"Tile", "", MakeTile},
    {"Trilu", "", MakeTrilu},
    {"Resize", "", MakeResize},

    {"ReduceSum", "", MakeReduce},
    {"ReduceMean", "", MakeReduce},
    {"ReduceMax", "", MakeReduce},
    {"ReduceMin", "", MakeReduce},
    {"ReduceProd", "", MakeReduce},
    {"ReduceL1", "", MakeReduce},
    {"ReduceL2", "", MakeReduce},
    {"ReduceSumSquare", "", MakeReduce},
    {"ReduceLogSum", "", MakeReduce},
    {"ReduceLogSumExp", "", MakeReduce},
    {"ArgMax", "", MakeArg},
    {"ArgMin", "", MakeArg},
    {"CumSum", "", MakeCumSum},
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

    {"QuantizeLinear", "", MakeQuantizeLinear},
    {"DequantizeLinear", "", MakeDequantizeLinear},
    {"QuantizeLinear", "com.microsoft", MakeQuantizeLinear},
    {"DequantizeLinear", "com.microsoft", MakeDequantizeLinear},
    {"DynamicQuantizeLinear", "", MakeDynamicQuantizeLinear},

    {"QConv", "octet", MakeQConv},
    {"QGemm", "octet", MakeQGemm},
    {"QAdd", "octet", MakeQAdd},
    {"QAveragePool", "octet", MakeQPool},
    {"QGlobalAveragePool", "octet", MakeQPool},
    {"QLookup", "octet", MakeQLookup},
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
