// The operators of domain octet that lowering makes (src/passes/lower.h documents them): thin
// shells over include/octet/kernels.h.
#include <octet/kernels.h>

#include <algorithm>
#include <memory>

#include "base/parallel.h"
#include "graph/conv_geometry.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

int32_t Int(const StepRequest& r, std::string_view key, int32_t otherwise) {
  return static_cast<int32_t>(r.node->GetInt(key, otherwise));
}

const Tensor& Known(const StepRequest& r, size_t i, DType dtype) {
  const Tensor* t = r.constant(i);
  if (t == nullptr) FailStep(r, Cat("input ", i, " must be a constant"));
  if (t->dtype() != dtype)
    FailStep(r, Cat("input ", i, " is ", NameOf(t->dtype()), ", expected ", NameOf(dtype)));
  return *t;
}

template <typename T>
std::vector<T> Values(const StepRequest& r, size_t i, int64_t channels, bool one_will_do) {
  if (!r.has(i)) return {};
  const auto data = Known(r, i, DTypeOf<T>()).template data<T>();
  const auto n = static_cast<int64_t>(data.size());
  if (n != channels && !(one_will_do && n == 1)) {
    FailStep(r, Cat("input ", i, " has ", n, " elements, expected ", channels));
  }
  return {data.begin(), data.end()};
}

constexpr size_t kResidualInput = 6;
constexpr size_t kFloatBiasInput = 7;
constexpr uint32_t kTaken =
    0xbe;  // weights, biases, multiplier, bounds: all but x and the residual

kernels::Epilogue EpilogueOf(const StepRequest& r, int64_t channels) {
  kernels::Epilogue e;
  e.bias = Values<int32_t>(r, 2, channels, false);
  e.multiplier = Values<float>(r, 3, channels, true);
  if (e.multiplier.empty()) FailStep(r, "input 3, the multiplier, is omitted");
  const DType dtype = r.outputs[0].dtype;
  if (dtype == DType::kFloat32) {
    e.output = kernels::OutputType::kFloat32;
    e.float_lo = r.node->GetFloat("float_lo", e.float_lo);
    e.float_hi = r.node->GetFloat("float_hi", e.float_hi);
    e.float_bias = Values<float>(r, kFloatBiasInput, channels, false);
    return e;
  }
  const kernels::CodeType type = CodeTypeOf(r, dtype);
  const CodeBounds bounds = BoundsOf(type);
  e.output =
      type == kernels::CodeType::kUint8 ? kernels::OutputType::kUint8 : kernels::OutputType::kInt8;
  e.y_zero_point = Int(r, "y_zero_point", 0);
  e.lo = Values<int32_t>(r, 4, channels, true);
  e.hi = Values<int32_t>(r, 5, channels, true);
  if (e.lo.empty()) e.lo = {bounds.lo};
  if (e.hi.empty()) e.hi = {bounds.hi};
  if (r.has(kResidualInput)) {
    kernels::Residual& s = e.residual;
    s.present = true;
    s.type = CodeTypeOf(r, r.dtype(kResidualInput));
    s.zero_point = Int(r, "residual_zero_point", 0);
    s.ratio = r.node->GetFloat("residual_ratio", 1.0F);
    s.mid_codes = r.node->GetInt("mid_codes", 1) != 0;
    s.mid_zero_point = Int(r, "mid_zero_point", 0);
    s.mid_lo = Int(r, "mid_lo", bounds.lo);
    s.mid_hi = Int(r, "mid_hi", bounds.hi);
    s.mid_ratio = r.node->GetFloat("mid_ratio", 1.0F);
  }
  return e;
}

}  // namespace

Step MakeQConv(const StepRequest& r) {
  const ConvGeometry g = ResolveConv(*r.node, r.shape(0), r.shape(1));
  kernels::ConvProblem p = ConvProblemOf(r, g);
  p.x_type = CodeTypeOf(r, r.dtype(0));
  p.x_zero_point = Int(r, "x_zero_point", 0);
  p.weight = Known(r, 1, DType::kInt8).data<int8_t>().data();
  p.epilogue = EpilogueOf(r, g.out_channels);
  const auto conv = std::make_shared<const kernels::Conv>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, conv->candidates());
  step.taken = kTaken;
  step.info.packed_bytes = conv->packed_bytes();
  step.info.macs = g.macs();
  const int64_t height = g.spatial == 2 ? g.axes[0].in : 1;
  const int64_t width = g.axes[static_cast<size_t>(g.spatial) - 1].in;
  std::vector<size_t> images = {0};
  if (p.epilogue.residual.present) images.push_back(kResidualInput);
  RunOnImages(r, step, images,
              [=, batch = g.batch](const StepArgs&, const std::vector<const void*>& in, void* y) {
                conv->Run(batch, height, width, in[0], y, in.size() > 1 ? in[1] : nullptr);
              });
  return step;
}

Step MakeQGemm(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const bool transposed = r.node->GetInt("transB", 0) != 0;
  const Tensor& w = Known(r, 1, DType::kInt8);
  if (w.shape().rank() != 2)
    FailStep(r, Cat("weights are ", w.shape().ToString(), ", expected rank 2"));
  kernels::GemmProblem p;
  p.n = w.shape()[transposed ? 0 : 1];
  p.k = w.shape()[transposed ? 1 : 0];
  p.x_type = CodeTypeOf(r, r.dtype(0));
  p.x_zero_point = Int(r, "x_zero_point", 0);
  p.weight = w.data<int8_t>().data();
  p.weight_is_nk = transposed;
  p.epilogue = EpilogueOf(r, p.n);
  const auto gemm = std::make_shared<const kernels::Gemm>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, gemm->candidates());
  step.taken = kTaken;
  step.info.packed_bytes = gemm->packed_bytes();
  const int64_t m = x.product(0, x.rank() - 1);
  step.info.macs = m * p.n * p.k;
  const bool residual = p.epilogue.residual.present;
  step.run = [=, n = p.n, k = p.k](const StepArgs& a) {
    gemm->Run(m, a.inputs[0].raw, k, a.outputs[0].raw, n,
              residual ? a.inputs[kResidualInput].raw : nullptr, n);
  };
  return step;
}

Step MakeQAdd(const StepRequest& r) {
  if (!(r.shape(0) == r.shape(1)) || r.dtype(0) != r.dtype(1) || r.dtype(0) != r.outputs[0].dtype) {
    FailStep(r, Cat("operands are ", NameOf(r.dtype(0)), r.shape(0).ToString(), " and ",
                    NameOf(r.dtype(1)), r.shape(1).ToString(), ", expected equal"));
  }
  kernels::AddProblem p;
  p.type = CodeTypeOf(r, r.dtype(0));
  const CodeBounds bounds = BoundsOf(p.type);
  p.a_zero_point = Int(r, "a_zero_point", 0);
  p.b_zero_point = Int(r, "b_zero_point", 0);
  p.y_zero_point = Int(r, "y_zero_point", 0);
  p.a_ratio = r.node->GetFloat("a_ratio", 1.0F);
  p.b_ratio = r.node->GetFloat("b_ratio", 1.0F);
  p.lo = Int(r, "lo", bounds.lo);
  p.hi = Int(r, "hi", bounds.hi);
  Step step = NewStep(r, "octet_add");
  if (OffersChannelsLast(r, 0) || OffersChannelsLast(r, 1)) {
    step.input_layouts[0] = step.input_layouts[1] = step.output_layouts[0] = Layout::kChannelsLast;
  }
  step.overwrites = 0;
  const int64_t n = r.shape(0).elements();
  step.run = [p, n](const StepArgs& a) {
    kernels::Add(p, a.inputs[0].raw, a.inputs[1].raw, n, a.outputs[0].raw);
  };
  return step;
}

Step MakeQMul(const StepRequest& r) {
  const Shape &a = r.shape(0), &b = r.shape(1);
  const bool gate = !(a == b) && a.rank() == 4 && b.rank() == 4 && a[0] == b[0] && a[1] == b[1] &&
                    b[2] * b[3] == 1;
  if ((!gate && !(a == b)) || r.dtype(0) != r.dtype(1) || r.dtype(0) != r.outputs[0].dtype) {
    FailStep(r, Cat("operands are ", NameOf(r.dtype(0)), a.ToString(), " and ", NameOf(r.dtype(1)),
                    b.ToString(), ", expected equal, or [N,C,1,1] second"));
  }
  kernels::MulProblem p;
  p.type = CodeTypeOf(r, r.dtype(0));
  const CodeBounds bounds = BoundsOf(p.type);
  p.a = {r.node->GetFloat("a_scale", 1.0F), Int(r, "a_zero_point", 0)};
  p.b = {r.node->GetFloat("b_scale", 1.0F), Int(r, "b_zero_point", 0)};
  p.y = {r.node->GetFloat("y_scale", 1.0F), Int(r, "y_zero_point", 0)};
  p.lo = Int(r, "lo", bounds.lo);
  p.hi = Int(r, "hi", bounds.hi);
  Step step = NewStep(r, "octet_mul");
  step.overwrites = 0;
  if (gate) {
    step.input_layouts[0] = step.output_layouts[0] = Layout::kChannelsLast;
    step.run = [p, a](const StepArgs& args) {
      kernels::MulChannels(p, a[0], a[2] * a[3], a[1], args.inputs[0].raw, args.inputs[1].raw,
                           args.outputs[0].raw);
    };
    return step;
  }
  if (OffersChannelsLast(r, 0) || OffersChannelsLast(r, 1)) {
    step.input_layouts[0] = step.input_layouts[1] = step.output_layouts[0] = Layout::kChannelsLast;
  }
  step.run = [p, n = a.elements()](const StepArgs& args) {
    kernels::Mul(p, args.inputs[0].raw, args.inputs[1].raw, n, args.outputs[0].raw);
  };
  return step;
}

Step MakeQPool(const StepRequest& r) {
  kernels::PoolProblem p;
  p.type = CodeTypeOf(r, r.dtype(0));
  p.x_zero_point = Int(r, "x_zero_point", 0);
  p.y_zero_point = Int(r, "y_zero_point", 0);
  p.ratio = r.node->GetFloat("ratio", 1.0F);
  const Shape& x = r.shape(0);
  Step step = NewStep(r, "octet_average_pool");
  if (r.node->op == "QGlobalAveragePool") {
    const int64_t space = x.product(2, x.rank());
    if (x.rank() != 3 && x.rank() != 4)
      FailStep(r, Cat("input is ", x.ToString(), ", expected rank 3 or 4"));
    RunOnImages(r, step, {0}, [=](const StepArgs&, const std::vector<const void*>& in, void* y) {
      kernels::GlobalAveragePool(p, x[0], space, x[1], in[0], y);
    });
    return step;
  }
  const ConvGeometry g = ResolvePool(*r.node, x);
  SetPoolWindow(r, g, p);
  const int64_t height = g.spatial == 2 ? g.axes[0].in : 1;
  const int64_t width = g.axes[static_cast<size_t>(g.spatial) - 1].in;
  RunOnImages(r, step, {0}, [=](const StepArgs&, const std::vector<const void*>& in, void* y) {
    kernels::AveragePool(p, x[0], height, width, x[1], in[0], y);
  });
  return step;
}

Step MakeQLookup(const StepRequest& r) {
  (void)CodeTypeOf(r, r.dtype(0));
  (void)CodeTypeOf(r, r.outputs[0].dtype);
  const Tensor& table = Known(r, 1, DType::kUint8);
  if (table.elements() != 256)
    FailStep(r, Cat("the table has ", table.elements(), " entries, expected 256"));
  std::array<uint8_t, 256> entries{};
  std::copy_n(table.data<uint8_t>().begin(), 256, entries.begin());
  Step step = NewStep(r, "octet_lookup");
  step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
  step.overwrites = 0;
  step.taken = 2;
  const int64_t n = r.shape(0).elements();
  step.run = [entries, n](const StepArgs& a) {
    kernels::Lookup(entries.data(), 1, n, a.inputs[0].raw, n, a.outputs[0].raw, n);
  };
  return step;
}

}  // namespace octet::ops
