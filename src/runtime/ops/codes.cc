#include "runtime/ops/codes.h"

namespace octet::ops {

kernels::CodeType CodeTypeOf(const StepRequest& r, DType dtype) {
  if (dtype == DType::kUint8) return kernels::CodeType::kUint8;
  if (dtype == DType::kInt8) return kernels::CodeType::kInt8;
  FailStep(r, Cat("codes are ", NameOf(dtype), ", expected uint8 or int8"));
}

CodeBounds BoundsOf(kernels::CodeType type) {
  return type == kernels::CodeType::kUint8 ? CodeBounds{0, 255} : CodeBounds{-128, 127};
}

void ReportCandidates(Step& step, const std::vector<kernels::Candidate>& candidates) {
  for (const kernels::Candidate& c : candidates) {
    if (c.refused_because.empty()) {
      step.info.kernel = c.kernel;
    } else {
      step.info.refused.push_back(c.kernel + ": " + c.refused_because);
    }
  }
}

kernels::ConvProblem ConvProblemOf(const StepRequest& r, const ConvGeometry& g) {
  if (g.spatial > 2) FailStep(r, Cat(g.spatial, " spatial dimensions, expected at most 2"));
  kernels::ConvProblem p;
  p.groups = g.group;
  p.in_channels = g.in_channels;
  p.out_channels = g.out_channels;
  if (g.spatial == 2) {
    const WindowAxis& h = g.axes[0];
    p.kernel_h = h.kernel;
    p.stride_h = h.stride;
    p.dilation_h = h.dilation;
    p.pad_top = h.pad_begin;
    p.pad_bottom = h.pad_end;
  }
  const WindowAxis& w = g.axes[static_cast<size_t>(g.spatial) - 1];
  p.kernel_w = w.kernel;
  p.stride_w = w.stride;
  p.dilation_w = w.dilation;
  p.pad_left = w.pad_begin;
  p.pad_right = w.pad_end;
  return p;
}

void SetPoolWindow(const StepRequest& r, const ConvGeometry& g, kernels::PoolProblem& p) {
  const kernels::ConvProblem window = ConvProblemOf(r, g);
  if (window.dilation_h != 1 || window.dilation_w != 1) FailStep(r, "dilations are not supported");
  p.kernel_h = window.kernel_h;
  p.kernel_w = window.kernel_w;
  p.stride_h = window.stride_h;
  p.stride_w = window.stride_w;
  p.pad_top = window.pad_top;
  p.pad_left = window.pad_left;
  p.pad_bottom = window.pad_bottom;
  p.pad_right = window.pad_right;
  p.ceil_mode = r.node->GetInt("ceil_mode", 0) != 0;
  p.count_include_pad = r.node->GetInt("count_include_pad", 0) != 0;
}

void RunOnImages(const StepRequest& r, Step& step, const std::vector<size_t>& images,
                 ImageBody body) {
  if (r.outputs[0].shape.rank() == 4) {
    for (size_t i : images) step.input_layouts[i] = Layout::kChannelsLast;
    step.output_layouts[0] = Layout::kChannelsLast;
    step.run = [images, body = std::move(body)](const StepArgs& a) {
      std::vector<const void*> in;
      for (size_t i : images) in.push_back(a.inputs[i].raw);
      body(a, in, a.outputs[0].raw);
    };
    return;
  }
  const auto as_image = [](const Shape& s) {
    return Shape{s[0], s[1], 1, s.rank() > 2 ? s[2] : 1};
  };
  std::vector<Shape> shapes;
  std::vector<int64_t> offsets;
  int64_t scratch = 0;
  auto reserve = [&](const Shape& s, DType dtype) {
    shapes.push_back(as_image(s));
    offsets.push_back(scratch);
    scratch += (s.elements() * SizeOf(dtype) + 63) / 64 * 64;
  };
  for (size_t i : images) reserve(r.inputs[i].shape, r.inputs[i].dtype);
  reserve(r.outputs[0].shape, r.outputs[0].dtype);
  step.scratch_bytes = scratch;
  step.run = [=, body = std::move(body)](const StepArgs& a) {
    auto* base = static_cast<unsigned char*>(a.scratch);
    std::vector<const void*> in;
    for (size_t k = 0; k < images.size(); ++k) {
      const TensorView& x = a.inputs[images[k]];
      ConvertLayout({x.dtype, shapes[k], x.raw}, Layout::kPlain,
                    {x.dtype, shapes[k], base + offsets[k]}, Layout::kChannelsLast);
      in.push_back(base + offsets[k]);
    }
    const MutableTensorView& y = a.outputs[0];
    body(a, in, base + offsets.back());
    ConvertLayout({y.dtype, shapes.back(), base + offsets.back()}, Layout::kChannelsLast,
                  {y.dtype, shapes.back(), y.raw}, Layout::kPlain);
  };
}

}  // namespace octet::ops
