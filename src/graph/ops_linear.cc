// Matrix products: Gemm, MatMul.
#include "graph/ops_context.h"

namespace octet {
namespace {

void InferGemm(InferContext& c) {
  RequireSameDType(c, 0, 1);
  RequireSameDType(c, 0, 2);
  InferGemmOutput(c, 0, 1, Input(c, 0).dtype);
}

void InferMatMul(InferContext& c) {
  RequireSameDType(c, 0, 1);
  InferMatMulOutput(c, 0, 1, Input(c, 0).dtype);
}

constexpr OpInfo kRows[] = {
    {"Gemm", "", 2, 3, InferGemm},
    {"MatMul", "", 2, 2, InferMatMul},
};

}  // namespace

std::span<const OpInfo> LinearOps() { return kRows; }

void InferGemmOutput(InferContext& c, size_t ai, size_t bi, DType dtype) {
  const auto a = InputDims(c, ai, 2);
  const auto b = InputDims(c, bi, 2);
  const size_t ta = c.node().GetInt("transA", 0) != 0 ? 1 : 0;
  const size_t tb = c.node().GetInt("transB", 0) != 0 ? 1 : 0;
  if (a && b) (void)Equal(c, (*a)[1 - ta], (*b)[tb], "inner dimensions");
  c.SetOutput(0, MakeType(dtype, {a ? (*a)[ta] : Dim(), b ? (*b)[1 - tb] : Dim()}));
}

// numpy.matmul: a vector is a matrix of one row (first) or one column (second) whose dimension is
// dropped from the result; leading dimensions broadcast.
void InferMatMulOutput(InferContext& c, size_t ai, size_t bi, DType dtype) {
  auto a = InputDims(c, ai);
  auto b = InputDims(c, bi);
  if (!a || !b) return c.SetOutput(0, ValueType::Unranked(dtype));
  if (a->empty() || b->empty()) FailNode(c.node(), "an operand is a scalar");
  const bool row = a->size() == 1;
  const bool column = b->size() == 1;
  if (row) a->insert(a->begin(), Dim(1));
  if (column) b->push_back(Dim(1));
  (void)Equal(c, a->back(), (*b)[b->size() - 2], "inner dimensions");
  const Dims left(a->begin(), a->end() - 2);
  const Dims right(b->begin(), b->end() - 2);
  Dims out = Broadcast(c, left, right);
  if (!row) out.push_back((*a)[a->size() - 2]);
  if (!column) out.push_back(b->back());
  c.SetOutput(0, MakeType(dtype, out));
}

}  // namespace octet
