// ApproxConv and ApproxMatMul of the domain octet (passes/approximate.h): codes times codes through
// tables, made once for the formats and scales of the layer.
#include <octet/approx.h>

#include <algorithm>
#include <cstring>

#include "graph/conv_geometry.h"
#include "kernels/approx_setup.h"
#include "numerics/number_format.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

enum Input : size_t { kX, kXScale, kWeight, kWeightScale, kBias, kTable };

const Tensor& Constant(const StepRequest& r, size_t i) {
  const Tensor* t = r.constant(i);
  if (t == nullptr) FailStep(r, Cat("input ", i, " is computed, expected a constant"));
  return *t;
}

FloatFormat FormatOr(const StepRequest& r, const std::string& key, const FloatFormat& otherwise) {
  const NumberFormat format = NumberFormat::Parse(r.node->GetString(key, ""));
  return format.is_float() ? format.floating() : otherwise;
}

// The tables, and the arrays that they are used with.
kernels::ApproxTables TablesOf(const StepRequest& r, int64_t n) {
  const Multiplier multiplier = Multiplier::Parse(r.node->GetString("multiplier", ""));
  if (multiplier.kind != MultiplierKind::kTable) {
    for (const char* key : {"x_format", "w_format"}) {
      const std::string name = r.node->GetString(key, "");
      if (!NumberFormat::Parse(name).is_float())
        FailStep(r, Cat("multiplier ", multiplier.Name(), " with ", key, " ", name,
                        "; expected a float format"));
    }
  }
  kernels::ApproxLayerFormats f;
  f.layer = r.node->name;
  f.x.format = FormatOr(r, "x_format", {});
  f.x.scale = Constant(r, kXScale).data<float>()[0];
  f.w_format = FormatOr(r, "w_format", {});
  const auto scales = Constant(r, kWeightScale).data<float>();
  f.w_scale.assign(scales.begin(), scales.end());
  f.result.format = FormatOr(r, "result_format", {});
  f.result.scale = r.node->GetFloat("result_scale", 1);
  f.result_limit = static_cast<double>(r.node->GetFloat("result_limit", 0));
  std::span<const int64_t> user;
  if (r.has(kTable)) user = Constant(r, kTable).data<int64_t>();
  if (multiplier.kind == MultiplierKind::kTable && user.size() != 65536)
    FailStep(r, Cat("a table of ", user.size(), " products, expected 256 x 256"));
  kernels::ApproxTables tables = kernels::MakeApproxTables(multiplier, f, n, user);
  if (r.has(kBias)) tables.multiply.bias = Constant(r, kBias).data<float>().data();
  return tables;
}

const uint8_t* Bytes(const StepRequest& r, size_t i) {
  return static_cast<const uint8_t*>(Constant(r, i).raw());
}

}  // namespace

Step MakeApproxConv(const StepRequest& r) {
  const ConvGeometry g = ResolveConv(*r.node, r.shape(kX), r.shape(kWeight));
  if (g.spatial != 2) FailStep(r, Cat("a convolution of ", g.spatial, " axes, expected 2"));
  const kernels::ApproxTables tables = TablesOf(r, g.out_channels);
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
  p.weight = Bytes(r, kWeight);
  p.multiply = tables.multiply;
  const auto conv = std::make_shared<const kernels::ApproxConv>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, conv->candidates());
  step.info.packed_bytes = conv->packed_bytes();
  step.info.macs = g.macs();
  step.run = [=, batch = g.batch, height = g.axes[0].in, width = g.axes[1].in](const StepArgs& a) {
    conv->Run(batch, height, width, static_cast<const uint8_t*>(a.inputs[kX].raw), a.out<float>(0));
  };
  return step;
}

Step MakeApproxMatMul(const StepRequest& r) {
  const Shape& x = r.shape(kX);
  const Shape& w = r.shape(kWeight);
  const bool transposed = r.node->GetInt("transB", 0) != 0;
  if (w.rank() != 2) FailStep(r, Cat("weights are ", w.ToString(), ", expected rank 2"));
  const int64_t n = w[transposed ? 0 : 1], k = w[transposed ? 1 : 0];
  const kernels::ApproxTables tables = TablesOf(r, n);
  kernels::ApproxLinearProblem p;
  p.n = n;
  p.k = k;
  p.weight = Bytes(r, kWeight);
  std::vector<uint8_t> rows;
  if (!transposed) {
    rows.resize(static_cast<size_t>(n * k));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < k; ++j) rows[static_cast<size_t>(i * k + j)] = p.weight[j * n + i];
    p.weight = rows.data();
  }
  p.multiply = tables.multiply;
  const auto linear = std::make_shared<const kernels::ApproxLinear>(p);
  Step step = NewStep(r, "");
  ReportCandidates(step, linear->candidates());
  step.info.packed_bytes = linear->packed_bytes();
  const int64_t m = x.product(0, x.rank() - 1);
  step.info.macs = m * n * k;
  step.run = [=](const StepArgs& a) {
    linear->Run(m, static_cast<const uint8_t*>(a.inputs[kX].raw), k, a.out<float>(0), n);
  };
  return step;
}

}  // namespace octet::ops
