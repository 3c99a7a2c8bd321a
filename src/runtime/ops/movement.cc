// Operators that only move elements, of any type: Reshape and its kin, Transpose, Concat, Split,
// Slice, DepthToSpace, SpaceToDepth. They read whichever layout their input has where that costs
// nothing.
#include <algorithm>
#include <cstring>

#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"
#include "runtime/ops/strided.h"

namespace octet::ops {
namespace {

std::vector<int64_t> Dims(const Shape& s) { return {s.dims().begin(), s.dims().end()}; }

// The layout input 0 offers, for an output of the same rank.
Layout Follow(const StepRequest& r, Step& step) {
  const Layout layout = r.inputs[0].layout;
  step.input_layouts[0] = layout;
  for (Layout& out : step.output_layouts) out = layout;
  return layout;
}

Step OneCopy(const StepRequest& r, Step step, const StridedCopy& copy) {
  if (copy.IsIdentity()) {
    step.info.kernel = "octet:alias";
    step.alias = 0;
    return step;
  }
  const int64_t size = SizeOf(r.dtype(0));
  step.run = [copy, size](const StepArgs& a) { copy.Run(a.inputs[0].raw, a.outputs[0].raw, size); };
  return step;
}

}  // namespace

Step MakeAlias(const StepRequest& r) {
  Step step = NewStep(r, "octet:alias");
  step.alias = 0;
  if (r.shape(0) == r.outputs[0].shape) Follow(r, step);
  return step;
}

// Inference only: the input as it is, and a mask of ones.
Step MakeDropout(const StepRequest& r) {
  if (r.has(2) && (r.constant(2) == nullptr || ConstantScalar(r, 2) != 0)) {
    FailStep(r, "training_mode is not known to be false");
  }
  if (r.outputs.size() < 2 || !r.outputs[1].present) return MakeAlias(r);
  Step step = NewStep(r, "octet:dropout");
  step.run = [](const StepArgs& a) {
    std::memcpy(a.outputs[0].raw, a.inputs[0].raw, static_cast<size_t>(a.outputs[0].bytes()));
    std::memset(a.outputs[1].raw, 1, static_cast<size_t>(a.outputs[1].bytes()));
  };
  return step;
}

Step MakeTranspose(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const auto rank = static_cast<size_t>(x.rank());
  std::vector<int64_t> reversed;
  for (size_t i = rank; i-- > 0;) reversed.push_back(static_cast<int64_t>(i));
  const auto perm = r.node->GetInts("perm", reversed);
  OCTET_INVARIANT(perm.size() == rank);
  Step step = NewStep(r, "octet:transpose");
  step.input_layouts[0] = r.inputs[0].layout;
  const auto strides = StridesOf(x, r.inputs[0].layout);
  std::vector<int64_t> from(rank);
  for (size_t i = 0; i < rank; ++i) from[i] = strides[static_cast<size_t>(perm[i])];
  const Shape& y = r.outputs[0].shape;
  const StridedCopy copy(Dims(y), from, StridesOf(y, Layout::kPlain));
  if (rank == 4 && !copy.IsIdentity()) {
    // NHWC data seen as NCHW: the same bytes, if we call them channels-last.
    const StridedCopy other(Dims(y), from, StridesOf(y, Layout::kChannelsLast));
    if (other.IsIdentity()) {
      step.output_layouts[0] = Layout::kChannelsLast;
      return OneCopy(r, std::move(step), other);
    }
  }
  return OneCopy(r, std::move(step), copy);
}

Step MakeConcat(const StepRequest& r) {
  const Shape& y = r.outputs[0].shape;
  const int axis = Axis(r, r.node->GetInt("axis", 1), y.rank());
  Step step = NewStep(r, "octet:concat");
  Layout layout = Layout::kPlain;
  for (size_t i = 0; i < r.inputs.size(); ++i) {
    if (OffersChannelsLast(r, i)) layout = Layout::kChannelsLast;
  }
  if (LayoutsCoincide(y)) layout = Layout::kPlain;
  step.output_layouts[0] = layout;
  const auto to = StridesOf(y, layout);
  std::vector<StridedCopy> copies;
  int64_t at = 0;
  for (size_t i = 0; i < r.inputs.size(); ++i) {
    const Shape& x = r.shape(i);
    step.input_layouts[i] = layout;
    copies.emplace_back(Dims(x), StridesOf(x, layout), to, 0, at * to[static_cast<size_t>(axis)]);
    at += x[axis];
  }
  const int64_t size = SizeOf(r.dtype(0));
  step.run = [copies = std::move(copies), size](const StepArgs& a) {
    for (size_t i = 0; i < copies.size(); ++i)
      copies[i].Run(a.inputs[i].raw, a.outputs[0].raw, size);
  };
  return step;
}

Step MakeSplit(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const int axis = Axis(r, r.node->GetInt("axis", 0), x.rank());
  Step step = NewStep(r, "octet:split");
  const Layout layout = Follow(r, step);
  const auto from = StridesOf(x, layout);
  std::vector<StridedCopy> copies;
  int64_t at = 0;
  for (const OutputInfo& y : r.outputs) {
    if (!y.present) FailStep(r, "an output of Split is omitted, expected all of them");
    copies.emplace_back(Dims(y.shape), from, StridesOf(y.shape, layout),
                        at * from[static_cast<size_t>(axis)]);
    at += y.shape[axis];
  }
  const int64_t size = SizeOf(r.dtype(0));
  step.run = [copies = std::move(copies), size](const StepArgs& a) {
    for (size_t i = 0; i < copies.size(); ++i)
      copies[i].Run(a.inputs[0].raw, a.outputs[i].raw, size);
  };
  return step;
}

Step MakeSlice(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  std::vector<int64_t> starts = r.has(1) ? ConstantInts(r, 1) : r.node->GetInts("starts", {});
  std::vector<int64_t> axes;
  if (r.has(3)) {
    axes = ConstantInts(r, 3);
  } else {
    for (size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<int64_t>(i));
    axes = r.node->GetInts("axes", axes);
  }
  const std::vector<int64_t> steps =
      r.has(4) ? ConstantInts(r, 4) : std::vector<int64_t>(starts.size(), 1);
  OCTET_INVARIANT(axes.size() == starts.size() && steps.size() == starts.size());
  Step step = NewStep(r, "octet:slice");
  const Layout layout = Follow(r, step);
  auto from = StridesOf(x, layout);
  int64_t offset = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    const int axis = Axis(r, axes[i], x.rank());
    const int64_t size = x[axis];
    int64_t start = starts[i] < 0 ? starts[i] + size : starts[i];
    start = std::clamp<int64_t>(start, 0, steps[i] > 0 ? size : size - 1);
    auto& stride = from[static_cast<size_t>(axis)];
    offset += start * stride;
    stride *= steps[i];
  }
  return OneCopy(r, std::move(step), StridedCopy(Dims(y), from, StridesOf(y, layout), offset));
}

Step MakeDepthToSpace(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  const int64_t b = r.node->GetInt("blocksize", 1);
  const bool crd = r.node->GetString("mode", "DCR") == "CRD";
  Step step = NewStep(r, "octet:depth_to_space");
  const Layout layout = Follow(r, step);
  const auto s = StridesOf(x, layout);
  const auto t = StridesOf(y, layout);
  const int64_t c = y[1];
  // Over (n, block row, block column, c, h, w).
  const std::vector<int64_t> dims = {x[0], b, b, c, x[2], x[3]};
  const std::vector<int64_t> from =
      crd ? std::vector<int64_t>{s[0], b * s[1], s[1], b * b * s[1], s[2], s[3]}
          : std::vector<int64_t>{s[0], b * c * s[1], c * s[1], s[1], s[2], s[3]};
  const std::vector<int64_t> to = {t[0], t[2], t[3], t[1], b * t[2], b * t[3]};
  return OneCopy(r, std::move(step), StridedCopy(dims, from, to));
}

Step MakeSpaceToDepth(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  const int64_t b = r.node->GetInt("blocksize", 1);
  Step step = NewStep(r, "octet:space_to_depth");
  const Layout layout = Follow(r, step);
  const auto s = StridesOf(x, layout);
  const auto t = StridesOf(y, layout);
  const int64_t c = x[1];
  const std::vector<int64_t> dims = {x[0], b, b, c, y[2], y[3]};
  const std::vector<int64_t> from = {s[0], s[2], s[3], s[1], b * s[2], b * s[3]};
  const std::vector<int64_t> to = {t[0], b * c * t[1], c * t[1], t[1], t[2], t[3]};
  return OneCopy(r, std::move(step), StridedCopy(dims, from, to));
}

}  // namespace octet::ops
