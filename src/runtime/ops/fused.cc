// The float operators of domain octet that passes/fuse_float.h makes: residual addition,
// normalization and quantization, or a function and quantization, in one pass over the rows.
#include <octet/kernels.h>

#include "runtime/ops/codes.h"
#include "runtime/ops/families.h"
#include "runtime/ops/row_function.h"

namespace octet::ops {
namespace {

void RequireFloat(const StepRequest& r, size_t i) {
  if (r.has(i) && r.dtype(i) != DType::kFloat32)
    FailStep(r, Cat("input ", i, " is ", NameOf(r.dtype(i)), ", expected float32"));
}

// The grid in inputs `scale` and `scale` + 1; `codes` is set at run time.
kernels::CodesOut GridIn(const StepRequest& r, size_t scale) {
  kernels::CodesOut grid;
  if (!r.has(scale)) FailStep(r, Cat("input ", scale, ", the scale, is omitted"));
  RequireFloat(r, scale);
  if (r.shape(scale).elements() != 1) FailStep(r, "the scale is not one number");
  grid.scale = static_cast<float>(ConstantScalar(r, scale));
  if (r.has(scale + 1)) {
    grid.type = CodeTypeOf(r, r.dtype(scale + 1));
    grid.zero_point = static_cast<int32_t>(ConstantScalar(r, scale + 1));
  }
  return grid;
}

}  // namespace

Step MakeQMap(const StepRequest& r) {
  RequireFloat(r, 0);
  Node function;
  function.op = r.node->GetString("function", "");
  function.attributes = r.node->attributes;
  const auto f = RowFunction(function);
  if (!f) FailStep(r, Cat("function is '", function.op, "'"));
  const kernels::CodesOut grid = GridIn(r, 1);
  Step step = NewStep(r, "octet_map");
  step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
  step.run = [f = *f, grid, n = r.shape(0).elements()](const StepArgs& a) {
    kernels::CodesOut codes = grid;
    codes.codes = a.outputs[0].raw;
    kernels::Map(f, a.in<float>(0), n, nullptr, codes);
  };
  return step;
}

Step MakeScaledSoftmax(const StepRequest& r) {
  RequireFloat(r, 0);
  const Shape& x = r.shape(0);
  if (x.rank() < 1) FailStep(r, "the input is a scalar");
  const int64_t n = x[x.rank() - 1];
  const float scale = r.node->GetFloat("scale", 1.0F);
  Step step = NewStep(r, "octet_softmax");
  step.overwrites = 0;
  step.run = [=, rows = n == 0 ? 0 : x.elements() / n](const StepArgs& a) {
    if (rows > 0) kernels::Softmax(a.in<float>(0), rows, n, a.out<float>(0), {}, scale);
  };
  return step;
}

Step MakeNorm(const StepRequest& r) {
  const bool residual_codes = r.has(1) && r.dtype(1) != DType::kFloat32;
  for (const size_t i : {0U, 2U, 3U}) RequireFloat(r, i);
  const Shape& x = r.shape(0);
  if (x.rank() < 1) FailStep(r, "the input is a scalar");
  const int64_t n = x[x.rank() - 1];
  if (r.has(1) && !(r.shape(1) == x))
    FailStep(r, Cat("the residual is ", r.shape(1).ToString(), ", expected ", x.ToString()));
  for (size_t i = 2; i <= 3; ++i) {
    if (r.has(i) && r.shape(i).elements() != n)
      FailStep(r, Cat("input ", i, " is ", r.shape(i).ToString(), ", expected ", n, " elements"));
  }
  kernels::LayerNormProblem p;
  p.n = n;
  p.rows = n == 0 ? 0 : x.elements() / n;
  p.rms = r.node->GetInt("rms", 0) != 0;
  p.epsilon = r.node->GetFloat("epsilon", 1e-5F);
  if (residual_codes) {
    p.residual_type = CodeTypeOf(r, r.dtype(1));
    p.residual_scale = r.node->GetFloat("residual_scale", 1.0F);
    p.residual_zero_point = static_cast<int32_t>(r.node->GetInt("residual_zero_point", 0));
  }
  const bool codes = r.outputs.size() > 2 && r.outputs[2].present;
  if (codes) p.codes = GridIn(r, 4);
  Step step = NewStep(r, "octet_layer_norm");
  step.run = [p, residual_codes](const StepArgs& a) {
    if (p.rows == 0) return;
    kernels::LayerNormProblem q = p;
    q.x = a.in<float>(0);
    if (residual_codes) {
      q.residual_codes = a.inputs[1].raw;
    } else {
      q.residual = a.in<float>(1);
    }
    q.gamma = a.in<float>(2);
    q.beta = a.has(3) ? a.in<float>(3) : nullptr;
    q.y = a.out<float>(0);
    q.sum = a.outputs.size() > 1 ? a.out<float>(1) : nullptr;
    q.codes.codes = a.outputs.size() > 2 ? a.outputs[2].raw : nullptr;
    kernels::LayerNorm(q);
  };
  return step;
}

}  // namespace octet::ops
