// Quantization operators of ai.onnx and com.microsoft. Scales and zero points are scalars or one
// per channel.
#include "graph/ops_context.h"

namespace octet {
namespace {

constexpr std::string_view kMicrosoft = "com.microsoft";

// The element type of the zero point at `zero`, or `otherwise` where it is omitted.
DType ZeroPointType(const InferContext& c, size_t zero, DType otherwise) {
  return c.has(zero) ? c.type(zero).dtype : otherwise;
}

// A scale is a scalar, or a vector as long as dimension `axis` of x, or, with block_size, of the
// rank of x. The zero point is shaped as the scale.
void CheckScale(const InferContext& c, const std::optional<Dims>& x, size_t scale, size_t zero) {
  const auto s = InputDims(c, scale);
  if (c.has(zero)) {
    // A scalar and a vector of one number are taken for each other: ONNX's own test models do.
    const auto z = InputDims(c, zero);
    const bool single = s && z && Product(c, *s).value == 1 && Product(c, *z).value == 1;
    if (s && z && !single && s->size() != z->size()) {
      FailNode(c.node(), "scale ", ToString(*s), " and zero point ", ToString(*z),
               ", expected one shape");
    }
    for (size_t i = 0; s && z && !single && i < s->size(); ++i) {
      (void)Equal(c, (*s)[i], (*z)[i], "sizes of scale and zero point:");
    }
  }
  if (!s || !x || s->empty() || c.node().GetInt("block_size", 0) != 0) return;
  if (s->size() != 1) FailNode(c.node(), "scale ", ToString(*s), ", expected a scalar or a vector");
  if (s->front().value == 1) return;
  const auto axis = static_cast<size_t>(NormalAxis(c, c.node().GetInt("axis", 1), x->size()));
  (void)Equal(c, (*x)[axis], s->front(), Cat("size of dimension ", axis, " and of its scale:"));
}

void InferQuantizeLinear(InferContext& c) {
  CheckScale(c, InputDims(c, 0), 1, 2);
  ValueType type = Input(c, 0);
  const bool named = c.node().GetInt("output_dtype", 0) != 0;
  const DType otherwise = named && !c.has(2) ? DTypeAttribute(c, "output_dtype", 0) : DType::kUint8;
  type.dtype = ZeroPointType(c, 2, otherwise);
  c.SetOutput(0, std::move(type));
}

void InferDequantizeLinear(InferContext& c) {
  CheckScale(c, InputDims(c, 0), 1, 2);
  RequireSameDType(c, 0, 2);
  ValueType type = Input(c, 0);
  const bool named = c.node().GetInt("output_dtype", 0) != 0;
  type.dtype = named ? DTypeAttribute(c, "output_dtype", 0) : Input(c, 1).dtype;
  c.SetOutput(0, std::move(type));
}

void InferDynamicQuantizeLinear(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = DType::kUint8;
  c.SetOutput(0, std::move(type));
  c.SetOutput(1, MakeType(DType::kFloat32, {}));
  c.SetOutput(2, MakeType(DType::kUint8, {}));
}

// x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias
void InferQLinearConv(InferContext& c) {
  InferConvOutput(c, 0, 3, ZeroPointType(c, 7, DType::kUint8));
}
void InferQLinearMatMul(InferContext& c) {
  InferMatMulOutput(c, 0, 3, ZeroPointType(c, 7, DType::kUint8));
}
// x, w, x_zero, w_zero
void InferConvInteger(InferContext& c) { InferConvOutput(c, 0, 1, DType::kInt32); }
void InferMatMulInteger(InferContext& c) { InferMatMulOutput(c, 0, 1, DType::kInt32); }

// a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero
void InferQLinearBinary(InferContext& c) {
  RequireSameDType(c, 0, 3);
  const auto a = InputDims(c, 0);
  const auto b = InputDims(c, 3);
  const DType dtype = Input(c, 0).dtype;
  c.SetOutput(0, a && b ? MakeType(dtype, Broadcast(c, *a, *b)) : ValueType::Unranked(dtype));
}

// x, x_scale, x_zero, y_scale, y_zero
void InferQLinearUnary(InferContext& c) {
  RequireSameDType(c, 0, 2);
  InferSameAsFirst(c);
}

void InferQLinearAveragePool(InferContext& c) {
  InferPoolOutput(c, c.node().GetInt("channels_last", 0) != 0, Input(c, 0).dtype);
}

void InferQLinearGlobalAveragePool(InferContext& c) {
  InferGlobalPoolOutput(c, c.node().GetInt("channels_last", 0) != 0, Input(c, 0).dtype);
}

// y_scale, y_zero, then x, x_scale, x_zero of every input
void InferQLinearConcat(InferContext& c) {
  const DType dtype = Input(c, 1).dtype;
  const size_t count = c.node().inputs.size();
  if ((count - 2) % 3 != 0)
    FailNode(c.node(), count, " inputs, expected two and three for each tensor");
  Dims out;
  for (size_t i = 2; i < count; i += 3) {
    const auto x = InputDims(c, i);
    if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
    const auto axis = static_cast<size_t>(NormalAxis(c, c.node().GetInt("axis", 0), x->size()));
    if (i == 2) {
      out = *x;
      continue;
    }
    if (out.size() != x->size())
      FailNode(c.node(), "inputs ", ToString(out), " and ", ToString(*x));
    for (size_t d = 0; d < out.size(); ++d) {
      if (d != axis) {
        out[d] = Equal(c, out[d], (*x)[d], Cat("dimensions ", d, " of the inputs:"));
      } else if (out[d].known() && (*x)[d].known()) {
        out[d] = out[d].value + (*x)[d].value;
        if (out[d].value > kMaxDim) FailNode(c.node(), "the inputs together are too large");
      } else {
        out[d] = Dim();
      }
    }
  }
  c.SetOutput(0, MakeType(dtype, out));
}

// a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero; without y_scale the output is float
void InferMicrosoftQGemm(InferContext& c) {
  InferGemmOutput(c, 0, 3, c.has(7) ? ZeroPointType(c, 8, Input(c, 0).dtype) : DType::kFloat32);
}

constexpr OpInfo kRows[] = {
    {"QuantizeLinear", "", 2, 3, InferQuantizeLinear},
    {"DequantizeLinear", "", 2, 3, InferDequantizeLinear},
    {"DynamicQuantizeLinear", "", 1, 1, InferDynamicQuantizeLinear},
    {"QLinearConv", "", 8, 9, InferQLinearConv},
    {"QLinearMatMul", "", 8, 8, InferQLinearMatMul},
    {"ConvInteger", "", 2, 4, InferConvInteger},
    {"MatMulInteger", "", 2, 4, InferMatMulInteger},
    {"QuantizeLinear", kMicrosoft, 2, 3, InferQuantizeLinear},
    {"DequantizeLinear", kMicrosoft, 2, 3, InferDequantizeLinear},
    {"QLinearAdd", kMicrosoft, 7, 8, InferQLinearBinary},
    {"QLinearMul", kMicrosoft, 7, 8, InferQLinearBinary},
    {"QLinearAveragePool", kMicrosoft, 4, 5, InferQLinearAveragePool},
    {"QLinearGlobalAveragePool", kMicrosoft, 5, 5, InferQLinearGlobalAveragePool},
    {"QLinearConcat", kMicrosoft, 5, -1, InferQLinearConcat},
    {"QLinearSigmoid", kMicrosoft, 4, 5, InferQLinearUnary},
    {"QLinearLeakyRelu", kMicrosoft, 4, 5, InferQLinearUnary},
    {"QLinearSoftmax", kMicrosoft, 5, 5, InferQLinearUnary},
    {"QGemm", kMicrosoft, 6, 9, InferMicrosoftQGemm},
};

}  // namespace

std::span<const OpInfo> QuantizeOps() { return kRows; }

}  // namespace octet
