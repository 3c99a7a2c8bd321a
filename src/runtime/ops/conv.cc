// Conv and ConvTranspose in float32, by oneDNN.
//
// Activations are channels-last, weights in the format the kernel likes, reordered once where they
// are constant. A kernel is made for one image and repeated over the batch, and it is the kernel
// that one thread would take: so what comes out for an image depends neither on the batch nor on
// the number of threads.
#include <cmath>
#include <cstring>

#include "base/parallel.h"
#include "graph/conv_geometry.h"
#include "runtime/ops/families.h"
#include "runtime/ops/onednn.h"

namespace octet::ops {
namespace {

using dnnl::algorithm;
using dnnl::memory;
using Tag = memory::format_tag;

struct ConvDescs {
  memory::desc src, weights_plain, bias, dst;
  memory::dims strides, dilations, pads_begin, pads_end;
  bool channels_last = false;
};

// An image of one column, as sequences are often written: the same bytes are an image of one row,
// along which oneDNN's kernels are fast.
bool IsOneColumn(const ConvGeometry& g) {
  const WindowAxis& width = g.axes[1];
  return g.spatial == 2 && width.in == 1 && width.out == 1 && width.kernel == 1 &&
         width.pad_begin == 0 && width.pad_end == 0;
}

// oneDNN's view of one image. 1-D becomes 2-D with a height of 1; 3-D stays row-major.
ConvDescs Describe(const ConvGeometry& g, bool transposed, bool with_bias) {
  ConvDescs d;
  memory::dims src = {1, g.in_channels};
  memory::dims dst = {1, g.out_channels};
  memory::dims weights = {g.out_channels / g.group, g.in_channels / g.group};
  if (g.group > 1) weights.insert(weights.begin(), g.group);
  auto add_axis = [&](const WindowAxis& a) {
    src.push_back(a.in);
    dst.push_back(a.out);
    weights.push_back(a.kernel);
    d.strides.push_back(a.stride);
    d.dilations.push_back(a.dilation - 1);  // oneDNN counts the gap
    d.pads_begin.push_back(a.pad_begin);
    d.pads_end.push_back(a.pad_end);
  };
  if (g.spatial == 1) {
    WindowAxis one;
    one.in = one.out = 1;
    add_axis(one);
  }
  const bool turned = !transposed && IsOneColumn(g);
  if (turned) add_axis(g.axes[1]);
  for (int i = 0; i < (turned ? 1 : g.spatial); ++i) add_axis(g.axes[static_cast<size_t>(i)]);
  d.channels_last = g.spatial == 2;
  d.src = d.channels_last ? DnnlDesc(src, Tag::nhwc) : DnnlDesc(src);
  d.dst = d.channels_last ? DnnlDesc(dst, Tag::nhwc) : DnnlDesc(dst);
  if (with_bias) d.bias = DnnlDesc({g.out_channels});
  if (!transposed) {
    d.weights_plain = DnnlDesc(weights);
  } else {
    // ONNX has (C, OC/G, ...); oneDNN's order is (G, OC/G, C/G, ...): the same bytes, other
    // strides.
    int64_t taps = 1;
    for (int i = 0; i < g.spatial; ++i) taps *= g.axes[static_cast<size_t>(i)].kernel;
    const int64_t oc = g.out_channels / g.group;
    const int64_t ic = g.in_channels / g.group;
    memory::dims strides;
    if (g.group > 1) strides.push_back(ic * oc * taps);
    strides.push_back(taps);
    strides.push_back(oc * taps);
    int64_t stride = taps;
    for (size_t i = strides.size(); i < weights.size(); ++i) {
      stride /= weights[i];
      strides.push_back(stride);
    }
    d.weights_plain = memory::desc(weights, memory::data_type::f32, strides);
  }
  return d;
}

memory::desc AnyFormat(const memory::desc& plain) {
  return {plain.dims(), memory::data_type::f32, Tag::any};
}

dnnl::primitive_attr Attributes(const StepRequest& r, size_t followers) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops post;
  for (size_t i = 0; i < followers; ++i) {
    const Follower& f = r.followers[i];
    if (f.kind == Follower::Kind::kAdd) {
      post.append_sum(1.0F);
    } else if (f.lo == 0.0F && std::isinf(f.hi)) {
      post.append_eltwise(1.0F, algorithm::eltwise_relu, 0.0F, 0.0F);
    } else {
      post.append_eltwise(1.0F, algorithm::eltwise_clip, f.lo, f.hi);
    }
  }
  attr.set_post_ops(post);
  return attr;
}

// The implementation one thread would get, made for as many threads as are in force.
template <typename MakeDesc>
auto PinImplementation(const MakeDesc& make) {
  auto desc = make();
  if (MaxThreads() == 1) return desc;
  std::string name;
  {
    const ThreadScope one(1);
    name = make().impl_info_str();
  }
  while (desc.impl_info_str() != name) {
    if (!desc.next_impl())
      throw dnnl::error(dnnl_unimplemented, "kernels depend on the number of threads");
  }
  return desc;
}

template <typename PrimitiveDesc>
Step Finish(const StepRequest& r, const ConvGeometry& g, const ConvDescs& d,
            const PrimitiveDesc& pd, dnnl::primitive primitive, size_t fused) {
  Step step = NewStep(r, std::string("onednn:") + pd.impl_info_str());
  step.info.macs = g.macs();
  step.fused = fused;
  std::optional<size_t> residual;
  for (size_t i = 0; i < fused; ++i) {
    if (r.followers[i].kind == Follower::Kind::kAdd) residual = r.followers[i].residual;
  }
  if (d.channels_last) {
    step.input_layouts[0] = step.output_layouts[0] = Layout::kChannelsLast;
    if (residual) step.input_layouts[*residual] = Layout::kChannelsLast;
  }

  const auto image = [](const memory::desc& desc) { return static_cast<int64_t>(desc.get_size()); };
  std::vector<DnnlArg> args = {
      {DNNL_ARG_SRC, d.src, DnnlArg::From::kInput, 0, 0, image(d.src), {}},
      {DNNL_ARG_DST, d.dst, DnnlArg::From::kOutput, 0, 0, image(d.dst), {}}};
  const auto scratchpad = static_cast<int64_t>(pd.scratchpad_desc().get_size());
  args.push_back({DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), DnnlArg::From::kScratch, 0, 0, 0, {}});
  step.scratch_bytes = scratchpad;
  std::vector<DnnlCall> calls;
  const memory::desc packed = pd.weights_desc();
  DnnlArg weights = {DNNL_ARG_WEIGHTS, packed, DnnlArg::From::kFixed, 1, 0, 0, {}};
  if (const Tensor* w = r.constant(1)) {
    weights.fixed = DnnlPacked(w->raw(), d.weights_plain, packed);
    step.taken |= 1U << 1U;
    step.info.packed_bytes = static_cast<int64_t>(packed.get_size());
  } else if (packed == d.weights_plain) {
    weights.from = DnnlArg::From::kInput;
  } else {  // computed weights: reordered in every run
    weights.from = DnnlArg::From::kScratch;
    weights.offset_bytes = (scratchpad + 63) / 64 * 64;
    step.scratch_bytes = weights.offset_bytes + static_cast<int64_t>(packed.get_size());
    const dnnl::reorder::primitive_desc reorder(DnnlEngine(), d.weights_plain, DnnlEngine(),
                                                packed);
    calls.emplace_back(
        dnnl::reorder(reorder),
        std::vector<DnnlArg>{
            {DNNL_ARG_FROM, d.weights_plain, DnnlArg::From::kInput, 1, 0, 0, {}},
            {DNNL_ARG_TO, packed, DnnlArg::From::kScratch, 0, weights.offset_bytes, 0, {}}},
        1);
  }
  args.push_back(weights);
  if (r.has(2)) {
    DnnlArg bias = {DNNL_ARG_BIAS, d.bias, DnnlArg::From::kInput, 2, 0, 0, {}};
    if (const Tensor* b = r.constant(2)) {
      bias.from = DnnlArg::From::kFixed;
      bias.fixed = DnnlPacked(b->raw(), d.bias, d.bias);
      step.taken |= 1U << 2U;
    }
    args.push_back(bias);
  }
  calls.emplace_back(std::move(primitive), std::move(args), g.batch);
  std::function<void(const StepArgs&)> before;
  if (residual) {  // oneDNN adds to what is in the output
    step.overwrites = residual;
    before = [k = *residual](const StepArgs& a) {
      if (a.inputs[k].raw != a.outputs[0].raw) {
        std::memcpy(a.outputs[0].raw, a.inputs[k].raw, static_cast<size_t>(a.outputs[0].bytes()));
      }
    };
  }
  SetCalls(step, std::move(calls), std::move(before));
  return step;
}

// Tries to take all followers, then fewer; a fallback kernel is worse than another pass over the
// output.
template <typename MakeStep>
Step LongestFusion(const StepRequest& r, const MakeStep& make) {
  std::vector<std::string> refused;
  for (size_t n = r.followers.size();; --n) {
    std::string reason;
    try {
      Step step = make(n);
      if (n == 0 || !IsReferenceKernel(step.info.kernel.substr(7))) {
        step.info.refused = std::move(refused);
        return step;
      }
      reason = "only " + step.info.kernel;
    } catch (const dnnl::error& e) {
      if (n == 0) throw;
      reason = e.what();
    }
    refused.push_back("fusing " + r.followers[n - 1].op + ": " + reason);
  }
}

void CheckFloat(const StepRequest& r) {
  for (size_t i = 0; i < r.inputs.size(); ++i) {
    if (r.has(i) && r.dtype(i) != DType::kFloat32) {
      FailStep(r, Cat("input ", i, " is ", NameOf(r.dtype(i)), ", expected float32"));
    }
  }
}

Step NothingToDo(const StepRequest& r) {
  Step step = NewStep(r, "octet:empty");
  step.run = [](const StepArgs&) {};
  return step;
}

}  // namespace

Step MakeConv(const StepRequest& r) {
  CheckFloat(r);
  const ConvGeometry g = ResolveConv(*r.node, r.shape(0), r.shape(1));
  if (r.outputs[0].shape.elements() == 0) return NothingToDo(r);
  return WithDnnlErrors(r, [&] {
    const ConvDescs d = Describe(g, false, r.has(2));
    return LongestFusion(r, [&](size_t fused) {
      const auto make = [&] {
        const dnnl::convolution_forward::desc desc(
            dnnl::prop_kind::forward_inference, algorithm::convolution_direct, d.src,
            AnyFormat(d.weights_plain), d.bias, d.dst, d.strides, d.dilations, d.pads_begin,
            d.pads_end);
        return dnnl::convolution_forward::primitive_desc(desc, Attributes(r, fused), DnnlEngine());
      };
      const auto pd = PinImplementation(make);
      return Finish(r, g, d, pd, dnnl::convolution_forward(pd), fused);
    });
  });
}

Step MakeConvTranspose(const StepRequest& r) {
  CheckFloat(r);
  const ConvGeometry g = ResolveConvTranspose(*r.node, r.shape(0), r.shape(1));
  if (r.outputs[0].shape.elements() == 0) return NothingToDo(r);
  return WithDnnlErrors(r, [&] {
    ConvDescs d = Describe(g, true, r.has(2));
    // oneDNN derives the output size from both pads; output_padding lengthens it at the end, which
    // is a smaller (perhaps negative) pad there.
    const size_t skip = g.spatial == 1 ? 1 : 0;
    for (int i = 0; i < g.spatial; ++i) {
      const WindowAxis& a = g.axes[static_cast<size_t>(i)];
      d.pads_end[static_cast<size_t>(i) + skip] =
          (a.in - 1) * a.stride + a.extent() - a.pad_begin - a.out;
    }
    const auto make = [&] {
      const dnnl::deconvolution_forward::desc desc(
          dnnl::prop_kind::forward_inference, algorithm::deconvolution_direct, d.src,
          AnyFormat(d.weights_plain), d.bias, d.dst, d.strides, d.dilations, d.pads_begin,
          d.pads_end);
      return dnnl::deconvolution_forward::primitive_desc(desc, Attributes(r, 0), DnnlEngine());
    };
    const auto pd = PinImplementation(make);
    return Finish(r, g, d, pd, dnnl::deconvolution_forward(pd), 0);
  });
}

}  // namespace octet::ops
