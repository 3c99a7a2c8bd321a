// octet.QMatMul: attention's products on codes (passes/lower.h, passes/fuse_float.h).
#include <octet/kernels.h>

#include <algorithm>

#include "base/parallel.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"
#include "runtime/ops/permuted.h"

namespace octet::ops {
namespace {

using kernels::BatchedMatMulProblem;
using kernels::CodeType;
using kernels::OutputType;

int32_t Int(const StepRequest& r, std::string_view key) {
  return static_cast<int32_t>(r.node->GetInt(std::string(key), 0));
}

OutputType OutputOf(const StepRequest& r) {
  const DType dtype = r.outputs[0].dtype;
  if (dtype == DType::kFloat32) return OutputType::kFloat32;
  return CodeTypeOf(r, dtype) == CodeType::kUint8 ? OutputType::kUint8 : OutputType::kInt8;
}

// The result's own dimensions, before perm_y, and where they lie in memory.
PermutedOperand ResultOf(const StepRequest& r) {
  const Shape& y = r.outputs[0].shape;
  const auto rank = static_cast<size_t>(y.rank());
  const auto perm = r.node->GetInts("perm_y", {});
  PermutedOperand o = PermutedBy(r, y, "", rank);
  if (perm.empty()) return o;
  if (perm.size() != rank) FailStep(r, Cat("perm_y does not fit ", y.ToString()));
  PermutedOperand before = o;
  for (size_t d = 0; d < rank; ++d) {
    before.dims.at(static_cast<size_t>(perm[d])) = o.dims[d];
    before.strides.at(static_cast<size_t>(perm[d])) = o.strides[d];
  }
  return before;
}

// Rows of neighbouring elements; a stride that never matters is that of dense rows.
int64_t RowStride(const StepRequest& r, const PermutedOperand& o, std::string_view what) {
  const size_t rank = o.dims.size();
  if (o.strides[rank - 1] != 1 && o.dims[rank - 1] != 1)
    FailStep(r, Cat("the rows of ", what, " are not neighbouring elements"));
  return o.dims[rank - 2] == 1 ? o.dims[rank - 1] : o.strides[rank - 2];
}

}  // namespace

Step MakeQMatMul(const StepRequest& r) {
  const Shape& shape = r.outputs[0].shape;
  const auto rank = static_cast<size_t>(shape.rank());
  if (r.dtype(1) != DType::kInt8)
    FailStep(r, Cat("input 1 is ", NameOf(r.dtype(1)), ", expected int8"));
  if (r.shape(0).rank() < 2 || r.shape(1).rank() < 2) FailStep(r, "an operand is a vector");
  PermutedOperand a = PermutedBy(r, r.shape(0), "perm_a", rank),
                  b = PermutedBy(r, r.shape(1), "perm_b", rank);
  const PermutedOperand y = ResultOf(r);
  BatchedMatMulProblem p;
  p.m = a.dims[rank - 2];
  p.k = a.dims[rank - 1];
  p.n = b.dims[rank - 1];
  if (shape.elements() == 0 || p.k == 0) FailStep(r, "an operand is empty");
  p.a_type = CodeTypeOf(r, r.dtype(0));
  p.a_zero_point = Int(r, "a_zero_point");
  p.alpha = r.node->GetFloat("multiplier", 1.0F);
  p.output = OutputOf(r);
  p.y_zero_point = Int(r, "y_zero_point");
  p.b_is_kn = b.strides[rank - 1] == 1 || p.n == 1;
  if (!p.b_is_kn) {
    std::swap(b.dims[rank - 2], b.dims[rank - 1]);
    std::swap(b.strides[rank - 2], b.strides[rank - 1]);
  }
  const std::vector<int64_t> batch(y.dims.begin(), y.dims.end() - 2);
  p.a_places = {RowStride(r, a, "input 0"), MatrixOffsets(a, batch)};
  p.b_places = {RowStride(r, b, "input 1"), MatrixOffsets(b, batch)};
  p.y_places = {RowStride(r, y, "the result"), MatrixOffsets(y, batch)};
  p.batch = static_cast<int64_t>(p.y_places.offsets.size());

  Step step = NewStep(r, "octet_batched_matmul");
  step.info.macs = p.batch * p.m * p.n * p.k;
  if (!r.node->Has("softmax_scale")) {
    step.run = [p](const StepArgs& args) {
      kernels::BatchedMatMul(p, args.inputs[0].raw, args.in<int8_t>(1), args.outputs[0].raw);
    };
    return step;
  }

  // Softmax of every row of a matrix while it is in the cache; then its codes, if there is a scale.
  step.info.kernel += "+octet_softmax";
  const ScoreSoftmax softmax(r, 4, y.dims);
  kernels::CodesOut grid;
  const bool codes = r.has(2);
  if (codes) {
    grid.scale = static_cast<float>(ConstantScalar(r, 2));
    grid.type = CodeTypeOf(r, r.outputs[0].dtype);
    if (r.has(3)) grid.zero_point = static_cast<int32_t>(ConstantScalar(r, 3));
  }
  BatchedMatMulProblem one = p;
  one.batch = 1;
  one.output = OutputType::kFloat32;
  one.y_zero_point = 0;
  one.a_places.offsets = one.b_places.offsets = one.y_places.offsets = {};
  one.y_places.row_stride = p.n;
  if (p.y_places.row_stride != p.n) FailStep(r, "softmax of permuted rows");
  const int64_t pieces = std::min<int64_t>(p.batch, HardwareThreads());
  const int64_t matrix_bytes = (p.m * p.n * 4 + 63) / 64 * 64;
  step.scratch_bytes = codes ? pieces * matrix_bytes : 0;
  step.run = [=](const StepArgs& args) {
    ParallelForEach(pieces, [&](int64_t piece) {
      const ThreadScope single(1);
      for (int64_t i = p.batch * piece / pieces; i < p.batch * (piece + 1) / pieces; ++i) {
        const auto at = static_cast<size_t>(i);
        const int64_t y_offset = p.y_places.offsets[at];
        auto* product =
            codes
                ? reinterpret_cast<float*>(static_cast<char*>(args.scratch) + piece * matrix_bytes)
                : args.out<float>(0) + y_offset;
        kernels::BatchedMatMul(one, args.in<uint8_t>(0) + p.a_places.offsets[at],
                               args.in<int8_t>(1) + p.b_places.offsets[at], product);
        kernels::CodesOut out = grid;
        if (codes) out.codes = static_cast<uint8_t*>(args.outputs[0].raw) + y_offset;
        softmax.Run(args, i, product, out);
      }
    });
  };
  return step;
}

}  // namespace octet::ops
