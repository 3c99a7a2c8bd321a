// Dynamically quantized layers: codes on a grid that is computed, float32 out. The operators that
// passes/fuse_dynamic.h makes, which documents them.
#include <octet/kernels.h>

#include <limits>
#include <memory>

#include "graph/conv_geometry.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

constexpr size_t kWeight = 1, kScale = 2, kZeroPoint = 3, kWeightScale = 4, kBias = 5;
constexpr uint32_t kTaken = 1U << kWeight | 1U << kWeightScale | 1U << kBias;

const Tensor& Known(const StepRequest& r, size_t i, DType dtype) {
  const Tensor* t = r.constant(i);
  if (t == nullptr || t->dtype() != dtype)
    FailStep(r, Cat("input ", i, " must be a constant of ", NameOf(dtype)));
  return *t;
}

std::vector<float> Floats(const StepRequest& r, size_t i, int64_t channels, bool one_will_do) {
  const auto data = Known(r, i, DType::kFloat32).data<float>();
  const auto n = static_cast<int64_t>(data.size());
  if (n != channels && !(one_will_do && n == 1))
    FailStep(r, Cat("input ", i, " has ", n, " elements, expected ", channels));
  return {data.begin(), data.end()};
}

kernels::Epilogue EpilogueOf(const StepRequest& r, int64_t channels) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  kernels::Epilogue e;
  e.output = kernels::OutputType::kFloat32;
  e.multiplier = Floats(r, kWeightScale, channels, true);
  if (r.has(kBias)) e.float_bias = Floats(r, kBias, channels, false);
  e.float_lo = r.node->GetFloat("float_lo", -kInf);
  e.float_hi = r.node->GetFloat("float_hi", kInf);
  return e;
}

void CheckInputs(const StepRequest& r) {
  if (r.dtype(0) != DType::kUint8 || r.dtype(kScale) != DType::kFloat32 ||
      r.shape(kScale).elements() != 1 ||
      (r.has(kZeroPoint) &&
       (r.dtype(kZeroPoint) != DType::kUint8 || r.shape(kZeroPoint).elements() != 1))) {
    FailStep(r, Cat("codes are ", NameOf(r.dtype(0)), ", their scale ", NameOf(r.dtype(kScale)),
                    r.shape(kScale).ToString(), "; expected uint8, one float32 and one uint8"));
  }
}

kernels::Grid GridOf(const StepArgs& a) {
  return {*a.in<float>(kScale), a.has(kZeroPoint) ? int32_t{*a.in<uint8_t>(kZeroPoint)} : 0};
}

}  // namespace

Step MakeGridGemm(const StepRequest& r) {
  CheckInputs(r);
  const Shape& x = r.shape(0);
  const Tensor& w = Known(r, kWeight, DType::kInt8);
  if (w.shape().rank() != 2)
    FailStep(r, Cat("weights are ", w.shape().ToString(), ", expected rank 2"));
  kernels::GemmProblem p;
  p.k = w.shape()[0];
  p.n = w.shape()[1];
  p.grid_at_run = true;
  p.weight = w.data<int8_t>().data();
  p.weight_is_nk = false;
  p.epilogue = EpilogueOf(r, p.n);
  const auto gemm = std::make_shared<const kernels::Gemm>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, gemm->candidates());
  step.taken = kTaken;
  step.info.packed_bytes = gemm->packed_bytes();
  const int64_t m = x.product(0, x.rank() - 1);
  step.info.macs = m * p.n * p.k;
  step.run = [=, n = p.n, k = p.k](const StepArgs& a) {
    gemm->RunOnGrid(m, a.in<uint8_t>(0), k, GridOf(a), a.out<float>(0), n);
  };
  return step;
}

Step MakeGridConv(const StepRequest& r) {
  CheckInputs(r);
  const ConvGeometry g = ResolveConv(*r.node, r.shape(0), r.shape(kWeight));
  kernels::ConvProblem p = ConvProblemOf(r, g);
  p.grid_at_run = true;
  p.weight = Known(r, kWeight, DType::kInt8).data<int8_t>().data();
  p.epilogue = EpilogueOf(r, g.out_channels);
  const auto conv = std::make_shared<const kernels::Conv>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, conv->candidates());
  step.taken = kTaken;
  step.info.packed_bytes = conv->packed_bytes();
  step.info.macs = g.macs();
  const int64_t height = g.spatial == 2 ? g.axes[0].in : 1;
  const int64_t width = g.axes[static_cast<size_t>(g.spatial) - 1].in;
  RunOnImages(r, step, {0},
              [=, batch = g.batch](const StepArgs& a, const std::vector<const void*>& in, void* y) {
                conv->RunOnGrid(batch, height, width, static_cast<const uint8_t*>(in[0]), GridOf(a),
                                static_cast<float*>(y));
              });
  return step;
}

}  // namespace octet::ops
