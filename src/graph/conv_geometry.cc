// ONNX operators Conv-11/22, ConvTranspose-11/22, MaxPool-12/22, AveragePool-11/19/22.
#include "graph/conv_geometry.h"

#include <algorithm>
#include <limits>

#include "base/checked_math.h"
#include "base/error.h"

namespace octet {
namespace {

// Kernel sizes, strides, dilations and pads above this are refused; products of two of them fit
// int64.
constexpr int64_t kMaxAttribute = std::numeric_limits<int32_t>::max();

template <typename... Args>
[[noreturn]] void FailWindow(const Node& node, const Args&... args) {
  Fail(ErrorCode::kBadFile, "node '", node.name, "' (", node.op, "): ", args...);
}

// A list attribute of one number per axis, or `otherwise` for each.
std::vector<int64_t> PerAxis(const Node& node, std::string_view key, size_t count,
                             int64_t otherwise, int64_t least) {
  std::vector<int64_t> list = node.GetInts(key, std::vector<int64_t>(count, otherwise));
  if (list.size() != count) {
    FailWindow(node, "attribute '", key, "' has ", list.size(), " numbers, expected ", count);
  }
  for (int64_t v : list) {
    if (v < least || v > kMaxAttribute) {
      FailWindow(node, "attribute '", key, "' holds ", v, ", expected ", least, " to ",
                 kMaxAttribute);
    }
  }
  return list;
}

WindowAttributes::AutoPad ReadAutoPad(const Node& node) {
  using AutoPad = WindowAttributes::AutoPad;
  const std::string text = node.GetString("auto_pad", "NOTSET");
  if (text == "NOTSET" || text.empty()) return AutoPad::kNotSet;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  if (text == "VALID") return AutoPad::kValid;
  FailWindow(node, "auto_pad is '", text, "', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID");
}

int SpatialRank(const Node& node, const Shape& x) {
  if (x.rank() < 3)
    FailWindow(node, "input ", x, ", expected a batch, channels and spatial dimensions");
  return x.rank() - 2;
}

}  // namespace

WindowAttributes ReadWindow(const Node& node, std::span<const int64_t> kernel) {
  WindowAttributes window;
  std::vector<int64_t> sizes(kernel.begin(), kernel.end());
  if (node.Has("kernel_shape")) {
    const auto declared = node.GetInts("kernel_shape", {});
    if (!sizes.empty() && declared != sizes)
      FailWindow(node, "kernel_shape is not that of the weights");
    sizes = declared;
  }
  if (sizes.empty()) FailWindow(node, "attribute 'kernel_shape' is missing");
  if (sizes.size() > kMaxSpatial) {
    Fail(ErrorCode::kUnsupported, "node '", node.name, "' (", node.op, "): ", sizes.size(),
         " spatial dimensions; the most is ", kMaxSpatial);
  }
  const size_t n = sizes.size();
  window.spatial = static_cast<int>(n);
  window.auto_pad = ReadAutoPad(node);
  window.ceil_mode = node.GetInt("ceil_mode", 0) != 0;
  const auto strides = PerAxis(node, "strides", n, 1, 1);
  const auto dilations = PerAxis(node, "dilations", n, 1, 1);
  std::vector<int64_t> pads(2 * n, 0);
  if (window.auto_pad == WindowAttributes::AutoPad::kNotSet)
    pads = PerAxis(node, "pads", 2 * n, 0, 0);
  for (size_t i = 0; i < n; ++i) {
    if (sizes[i] < 1 || sizes[i] > kMaxAttribute) FailWindow(node, "a kernel of size ", sizes[i]);
    WindowAxis& axis = window.axes[i];
    axis.kernel = sizes[i];
    axis.stride = strides[i];
    axis.dilation = dilations[i];
    axis.pad_begin = pads[i];
    axis.pad_end = pads[n + i];
  }
  if (node.Has("output_padding")) window.output_padding = PerAxis(node, "output_padding", n, 0, 0);
  if (node.Has("output_shape")) {
    // Some exporters write batch and channels too.
    window.output_shape = node.GetInts("output_shape", {});
    if (window.output_shape.size() == n + 2) {
      window.output_shape.erase(window.output_shape.begin(), window.output_shape.begin() + 2);
    }
    const bool sound = std::all_of(window.output_shape.begin(), window.output_shape.end(),
                                   [](int64_t v) { return v >= 1 && v <= kMaxAttribute; });
    if (window.output_shape.size() != n || !sound)
      FailWindow(node, "attribute 'output_shape' does not fit");
  }
  return window;
}

WindowAxis ResolveAxis(const Node& node, const WindowAttributes& window, int axis, int64_t in) {
  using AutoPad = WindowAttributes::AutoPad;
  WindowAxis a = window.axes[static_cast<size_t>(axis)];
  a.in = in;
  if (window.auto_pad == AutoPad::kSameUpper || window.auto_pad == AutoPad::kSameLower) {
    if (in < 1) FailWindow(node, "spatial dimension ", axis, " is empty");
    a.out = (in - 1) / a.stride + 1;
    const int64_t total = std::max<int64_t>(0, (a.out - 1) * a.stride + a.extent() - in);
    const int64_t half = total / 2;
    a.pad_begin = window.auto_pad == AutoPad::kSameUpper ? half : total - half;
    a.pad_end = total - a.pad_begin;
    return a;
  }
  const int64_t room = in + a.pad_begin + a.pad_end - a.extent();
  if (room < 0) {
    FailWindow(node, "a window of ", a.extent(), " over spatial dimension ", axis, " of size ", in,
               " padded by ", a.pad_begin, " and ", a.pad_end);
  }
  a.out = room / a.stride + 1;
  // Rounded up, but a window that would start in the padding behind the input is not counted.
  if (window.ceil_mode && window.auto_pad == AutoPad::kNotSet && room % a.stride != 0 &&
      a.out * a.stride < in + a.pad_begin) {
    ++a.out;
  }
  return a;
}

WindowAxis ResolveTransposedAxis(const Node& node, const WindowAttributes& window, int axis,
                                 int64_t in) {
  using AutoPad = WindowAttributes::AutoPad;
  const auto i = static_cast<size_t>(axis);
  WindowAxis a = window.axes[i];
  a.in = in;
  if (in < 1) FailWindow(node, "spatial dimension ", axis, " is empty");
  const int64_t extra = window.output_padding.empty() ? 0 : window.output_padding[i];
  const auto stretched = CheckedMul(in - 1, a.stride);
  const auto full = stretched ? CheckedAdd(*stretched, a.extent() + extra) : std::nullopt;
  if (!full) FailWindow(node, "spatial dimension ", axis, " of size ", in, " is too large");
  const bool same =
      window.auto_pad == AutoPad::kSameUpper || window.auto_pad == AutoPad::kSameLower;
  if (!window.output_shape.empty() || same) {
    a.out =
        window.output_shape.empty() ? *CheckedAdd(*stretched, a.stride) : window.output_shape[i];
    const int64_t total = std::max<int64_t>(0, *full - a.out);
    a.pad_begin = window.auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
    a.pad_end = total - a.pad_begin;
    return a;
  }
  a.out = *full - a.pad_begin - a.pad_end;
  if (a.out < 1)
    FailWindow(node, "spatial dimension ", axis, " of the output would have size ", a.out);
  return a;
}

Shape ConvGeometry::output_shape() const {
  std::vector<int64_t> dims = {batch, out_channels};
  for (int i = 0; i < spatial; ++i) dims.push_back(axes[static_cast<size_t>(i)].out);
  return Shape(dims);
}

int64_t ConvGeometry::macs() const {
  int64_t n = output_shape().elements() * (in_channels / group);
  for (int i = 0; i < spatial; ++i) n *= axes[static_cast<size_t>(i)].kernel;
  return n;
}

namespace {

int64_t ReadGroup(const Node& node, int64_t channels) {
  const int64_t group = node.GetInt("group", 1);
  if (group < 1 || channels % group != 0) {
    FailWindow(node, "group is ", group, ", expected a divisor of ", channels);
  }
  return group;
}

void RequireWeights(const Node& node, const Shape& x, const Shape& w) {
  if (w.rank() != x.rank()) FailWindow(node, "input ", x, " and weights ", w, " of another rank");
}

}  // namespace

ConvGeometry ResolveConv(const Node& node, const Shape& x, const Shape& w) {
  ConvGeometry g;
  g.spatial = SpatialRank(node, x);
  RequireWeights(node, x, w);
  const WindowAttributes window = ReadWindow(node, w.dims().subspan(2));
  g.batch = x[0];
  g.in_channels = x[1];
  g.out_channels = w[0];
  g.group = ReadGroup(node, w[0]);
  const auto channels = CheckedMul(w[1], g.group);
  if (!channels || *channels != x[1]) {
    FailWindow(node, "input ", x, " has ", x[1], " channels, weights ", w, " with group ", g.group,
               " expect ", channels.value_or(-1));
  }
  for (int i = 0; i < g.spatial; ++i) {
    g.axes[static_cast<size_t>(i)] = ResolveAxis(node, window, i, x[i + 2]);
  }
  return g;
}

ConvGeometry ResolveConvTranspose(const Node& node, const Shape& x, const Shape& w) {
  ConvGeometry g;
  g.spatial = SpatialRank(node, x);
  RequireWeights(node, x, w);
  const WindowAttributes window = ReadWindow(node, w.dims().subspan(2));
  if (w[0] != x[1])
    FailWindow(node, "input ", x, " has ", x[1], " channels, weights ", w, " expect ", w[0]);
  g.batch = x[0];
  g.in_channels = x[1];
  g.group = ReadGroup(node, x[1]);
  const auto channels = CheckedMul(w[1], g.group);
  if (!channels) FailWindow(node, "weights ", w, " with group ", g.group);
  g.out_channels = *channels;
  for (int i = 0; i < g.spatial; ++i) {
    g.axes[static_cast<size_t>(i)] = ResolveTransposedAxis(node, window, i, x[i + 2]);
  }
  return g;
}

ConvGeometry ResolvePool(const Node& node, const Shape& x) {
  ConvGeometry g;
  g.spatial = SpatialRank(node, x);
  const WindowAttributes window = ReadWindow(node, {});
  if (window.spatial != g.spatial) {
    FailWindow(node, "input ", x, ", but kernel_shape has ", window.spatial, " numbers");
  }
  g.batch = x[0];
  g.in_channels = x[1];
  g.out_channels = x[1];
  for (int i = 0; i < g.spatial; ++i) {
    g.axes[static_cast<size_t>(i)] = ResolveAxis(node, window, i, x[i + 2]);
  }
  return g;
}

}  // namespace octet
