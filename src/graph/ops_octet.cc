// The domain octet: INT8 operators that lowering makes, and what passes/fuse_float.h makes. Their
// scales are attributes or further inputs, which do not bear on shapes. The integer attribute
// output_dtype, a TensorProto number, says the output's element type; without it that is the first
// input's.
#include <algorithm>
#include <array>
#include <numeric>

#include "graph/ops_context.h"
#include "numerics/number_format.h"

namespace octet {
namespace {

constexpr std::string_view kOctet = "octet";

DType OutputType(const InferContext& c) {
  return c.node().Has("output_dtype") ? DTypeAttribute(c, "output_dtype", 0) : Input(c, 0).dtype;
}

// x [N,C,...], w [OC,C/group,...]
void InferQConv(InferContext& c) { InferConvOutput(c, 0, 1, OutputType(c)); }

// x [...,K], w [K,N], or [N,K] with transB
void InferQGemm(InferContext& c) {
  const DType dtype = OutputType(c);
  auto x = InputDims(c, 0);
  const auto w = InputDims(c, 1, 2);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  if (x->empty()) FailNode(c.node(), "input 0 is a scalar");
  const size_t t = c.node().GetInt("transB", 0) != 0 ? 1 : 0;
  if (w) (void)Equal(c, x->back(), (*w)[t], "inner dimensions");
  x->back() = w ? (*w)[1 - t] : Dim();
  c.SetOutput(0, MakeType(dtype, *x));
}

void InferQAdd(InferContext& c) {
  const auto a = InputDims(c, 0);
  const auto b = InputDims(c, 1);
  if (a && b && a->size() != b->size())
    FailNode(c.node(), "inputs ", ToString(*a), " and ", ToString(*b));
  if (!a) return c.SetOutput(0, ValueType::Unranked(OutputType(c)));
  Dims out = *a;
  for (size_t i = 0; b && i < out.size(); ++i)
    out[i] = Equal(c, out[i], (*b)[i], Cat("dimensions ", i, " of the inputs:"));
  c.SetOutput(0, MakeType(OutputType(c), out));
}

// a, and b of its shape or [N,C,1,1]
void InferQMul(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = OutputType(c);
  c.SetOutput(0, std::move(type));
}

void InferQAveragePool(InferContext& c) { InferPoolOutput(c, false, OutputType(c)); }
void InferQGlobalAveragePool(InferContext& c) { InferGlobalPoolOutput(c, false, OutputType(c)); }

void InferQLookup(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = OutputType(c);
  c.SetOutput(0, std::move(type));
}

// x, scale, zero_point? -> codes
void InferQMap(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = c.has(2) ? Input(c, 2).dtype : DType::kUint8;
  c.SetOutput(0, std::move(type));
}

// x, residual?, gamma, beta?, scale?, zero_point? -> y?, sum?, codes?
void InferNorm(InferContext& c) {
  ValueType type = Input(c, 0);
  c.SetOutput(0, type);
  c.SetOutput(1, type);
  type.dtype = c.has(5) ? Input(c, 5).dtype : DType::kUint8;
  c.SetOutput(2, std::move(type));
}

// The axes that attribute `key` puts in order; absent: as they are.
std::vector<size_t> Permutation(const InferContext& c, const std::string& key, size_t rank) {
  std::vector<size_t> axes(rank);
  std::iota(axes.begin(), axes.end(), size_t{0});
  const auto perm = c.node().GetInts(key, {});
  if (perm.empty()) return axes;
  if (!std::is_permutation(perm.begin(), perm.end(), axes.begin(), axes.end(),
                           [](int64_t a, size_t b) { return a == static_cast<int64_t>(b); })) {
    FailNode(c.node(), key, " is no permutation of ", rank, " axes");
  }
  return {perm.begin(), perm.end()};
}

// MatMul of a and b with their axes permuted, and of the result's: perm_a, perm_b, perm_y as
// Transpose has them.
void InferMatMulOf(InferContext& c, DType dtype) {
  std::array<Dims, 2> sides;
  for (const size_t i : {0U, 1U}) {
    const auto x = InputDims(c, i);
    if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
    for (const size_t from : Permutation(c, i == 0 ? "perm_a" : "perm_b", x->size()))
      sides[i].push_back((*x)[from]);
    if (x->size() < 2) FailNode(c.node(), "input ", i, " is ", ToString(*x));
  }
  auto& [a, b] = sides;
  (void)Equal(c, a.back(), b[b.size() - 2], "inner dimensions");
  const Dim m = a[a.size() - 2], n = b.back();
  a.resize(a.size() - 2);
  b.resize(b.size() - 2);
  Dims out = Broadcast(c, a, b);
  out.push_back(m);
  out.push_back(n);
  Dims permuted;
  for (const size_t from : Permutation(c, "perm_y", out.size())) permuted.push_back(out[from]);
  c.SetOutput(0, MakeType(dtype, permuted));
}
void InferPermutedMatMul(InferContext& c) { InferMatMulOf(c, Input(c, 0).dtype); }

// a, b, and of softmax: scale?, zero_point?, mask?
void InferQMatMul(InferContext& c) {
  InferMatMulOf(c, !c.has(2) ? OutputType(c) : c.has(3) ? Input(c, 3).dtype : DType::kUint8);
}

// x [...,K], w [K,N], scales, zero point, bias -> float32
void InferGridGemm(InferContext& c) {
  auto x = InputDims(c, 0);
  const auto w = InputDims(c, 1, 2);
  if (!x) return c.SetOutput(0, ValueType::Unranked(DType::kFloat32));
  if (x->empty()) FailNode(c.node(), "input 0 is a scalar");
  if (w) (void)Equal(c, x->back(), (*w)[0], "inner dimensions");
  x->back() = w ? (*w)[1] : Dim();
  c.SetOutput(0, MakeType(DType::kFloat32, *x));
}
void InferGridConv(InferContext& c) { InferConvOutput(c, 0, 1, DType::kFloat32); }

// x, scale [1] or [C of axis], zero_point? int32, limit? float32; attributes format, axis (1)
void InferFakeQuantize(InferContext& c) { InferSameAsFirst(c); }

// The same without a limit, to codes: uint8 of floats and unsigned integers up to 8 bits, int8, and
// 16 bits of more.
void InferQuantize(InferContext& c) {
  const NumberFormat format = NumberFormat::Parse(c.node().GetString("format", ""));
  ValueType type = Input(c, 0);
  const bool is_signed = !format.is_float() && format.is_signed();
  if (format.bits() > 8) {
    type.dtype = is_signed ? DType::kInt16 : DType::kUint16;
  } else {
    type.dtype = is_signed ? DType::kInt8 : DType::kUint8;
  }
  c.SetOutput(0, std::move(type));
}
void InferDequantize(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = DType::kFloat32;
  c.SetOutput(0, std::move(type));
}

// x, x scale, w, w scale, bias?, products? -> float32; attributes multiplier, x_format, w_format,
// result_format, result_scale, result_limit, and those of Conv or Gemm
void InferApproxConv(InferContext& c) { InferConvOutput(c, 0, 2, DType::kFloat32); }
void InferApproxMatMul(InferContext& c) {
  auto x = InputDims(c, 0);
  const auto w = InputDims(c, 2, 2);
  if (!x) return c.SetOutput(0, ValueType::Unranked(DType::kFloat32));
  if (x->empty()) FailNode(c.node(), "input 0 is a scalar");
  const size_t t = c.node().GetInt("transB", 0) != 0 ? 1 : 0;
  if (w) (void)Equal(c, x->back(), (*w)[t], "inner dimensions");
  x->back() = w ? (*w)[1 - t] : Dim();
  c.SetOutput(0, MakeType(DType::kFloat32, *x));
}

constexpr OpInfo kRows[] = {
    {"QConv", kOctet, 2, -1, InferQConv},
    {"QGemm", kOctet, 2, -1, InferQGemm},
    {"QMatMul", kOctet, 2, 5, InferQMatMul},
    {"QAdd", kOctet, 2, -1, InferQAdd},
    {"QMul", kOctet, 2, 2, InferQMul},
    {"QAveragePool", kOctet, 1, -1, InferQAveragePool},
    {"QGlobalAveragePool", kOctet, 1, -1, InferQGlobalAveragePool},
    {"QLookup", kOctet, 1, -1, InferQLookup},
    {"QMap", kOctet, 2, 3, InferQMap},
    {"ApproxConv", kOctet, 4, 6, InferApproxConv},
    {"ApproxMatMul", kOctet, 4, 6, InferApproxMatMul},
    {"FakeQuantize", kOctet, 2, 4, InferFakeQuantize},
    {"Quantize", kOctet, 2, 3, InferQuantize},
    {"Dequantize", kOctet, 2, 3, InferDequantize},
    {"Norm", kOctet, 3, 6, InferNorm},
    {"GridGemm", kOctet, 5, 6, InferGridGemm},
    {"GridConv", kOctet, 5, 6, InferGridConv},
    {"ScaledSoftmax", kOctet, 1, 1, InferSameAsFirst},
    {"PermutedMatMul", kOctet, 2, 3, InferPermutedMatMul},
};

}  // namespace

std::span<const OpInfo> OctetOps() { return kRows; }

}  // namespace octet
