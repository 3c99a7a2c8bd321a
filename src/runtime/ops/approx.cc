// ApproxConv and ApproxMatMul of the domain octet (passes/approximate.h): codes times codes through
// tables, made once for the formats and scales of the layer.
#include <octet/approx.h>

#include "graph/conv_geometry.h"
#include "runtime/approx_node.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

ApproxOperands Read(const StepRequest& r) {
  return ReadApproxNode(*r.node, [&](size_t i) { return r.constant(i); });
}

kernels::ApproxMultiply MultiplyOf(const ApproxOperands& o) {
  kernels::ApproxMultiply m = o.tables.multiply;
  if (!o.bias.empty()) m.bias = o.bias.data();
  return m;
}

}  // namespace

Step MakeApproxConv(const StepRequest& r) {
  const ConvGeometry g = ResolveConv(*r.node, r.shape(kApproxX), r.shape(kApproxWeight));
  if (g.spatial != 2) FailStep(r, Cat("a convolution of ", g.spatial, " axes, expected 2"));
  const ApproxOperands o = Read(r);
  kernels::ApproxConvProblem p;
  p.groups = g.group;
  p.in_channels = g.in_channels;
  p.out_channels = g.out_channels;
  p.kernel_h = g.axes[0].kernel;
  p.kernel_w = g.axes[1].kernel;
  p.stride_h = g.axes[0].stride;
  p.stride_w = g.axes[1].stride;
  p.dilation_h = g.axes[0].dilation;
  p.dilation_w = g.axes[1].dilation;
  p.pad_top = g.axes[0].pad_begin;
  p.pad_left = g.axes[1].pad_begin;
  p.pad_bottom = g.axes[0].pad_end;
  p.pad_right = g.axes[1].pad_end;
  p.pad_code = o.pad_code();
  p.weight = o.weight.data();
  p.multiply = MultiplyOf(o);
  const auto conv = std::make_shared<const kernels::ApproxConv>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, conv->candidates());
  step.info.packed_bytes = conv->packed_bytes();
  step.info.macs = g.macs();
  step.run = [=, batch = g.batch, height = g.axes[0].in, width = g.axes[1].in](const StepArgs& a) {
    conv->Run(batch, height, width, static_cast<const uint8_t*>(a.inputs[kApproxX].raw),
              a.out<float>(0));
  };
  return step;
}

Step MakeApproxMatMul(const StepRequest& r) {
  const Shape& x = r.shape(kApproxX);
  if (r.shape(kApproxWeight).rank() != 2)
    FailStep(r, Cat("weights are ", r.shape(kApproxWeight).ToString(), ", expected rank 2"));
  const ApproxOperands o = Read(r);
  kernels::ApproxLinearProblem p;
  p.n = o.n;
  p.k = o.k;
  p.weight = o.weight.data();
  p.multiply = MultiplyOf(o);
  const auto linear = std::make_shared<const kernels::ApproxLinear>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, linear->candidates());
  step.info.packed_bytes = linear->packed_bytes();
  const int64_t m = x.product(0, x.rank() - 1);
  step.info.macs = m * o.n * o.k;
  step.run = [linear, m, n = o.n, k = o.k](const StepArgs& a) {
    linear->Run(m, static_cast<const uint8_t*>(a.inputs[kApproxX].raw), k, a.out<float>(0), n);
  };
  return step;
}

}  // namespace octet::ops
