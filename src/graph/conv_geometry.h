// The geometry of sliding windows, resolved: kernel, strides, dilations and pads of convolutions
// and pooling in 1-D, 2-D and 3-D, with ONNX's auto_pad and ceil_mode worked out. One definition
// for shape inference and for the runtime.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

inline constexpr int kMaxSpatial = 3;

// One spatial axis. Output i reads inputs i * stride - pad_begin + k * dilation, k in [0, kernel).
// (Transposed: input i adds to outputs i * stride - pad_begin + k * dilation.)
struct WindowAxis {
  int64_t in = 0;
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t dilation = 1;
  int64_t pad_begin = 0;
  int64_t pad_end = 0;  // as declared or derived; with ceil_mode the last window may reach further
  int64_t out = 0;

  [[nodiscard]] int64_t extent() const { return (kernel - 1) * dilation + 1; }
};

// What the attributes of a node say, before any size is known.
struct WindowAttributes {
  enum class AutoPad { kNotSet, kSameUpper, kSameLower, kValid };

  int spatial = 0;                           // number of spatial axes, 1 to kMaxSpatial
  std::array<WindowAxis, kMaxSpatial> axes;  // without in, out and, unless AutoPad is kNotSet, pads
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil_mode = false;
  std::vector<int64_t> output_padding;  // ConvTranspose: empty is zero
  std::vector<int64_t> output_shape;    // ConvTranspose: spatial sizes, or empty
};

// Reads kernel_shape, strides, dilations, pads, auto_pad, ceil_mode, output_padding, output_shape.
// `kernel` are the spatial dimensions of the weights where the node has any (they must agree with
// kernel_shape), else empty. Throws kBadFile naming the node where they are contradictory or out of
// range, kUnsupported for more than three axes.
[[nodiscard]] WindowAttributes ReadWindow(const Node& node, std::span<const int64_t> kernel);

// Pads and output size of one axis for an input of size `in`. Throws kBadFile where the window does
// not fit.
[[nodiscard]] WindowAxis ResolveAxis(const Node& node, const WindowAttributes& window, int axis,
                                     int64_t in);
[[nodiscard]] WindowAxis ResolveTransposedAxis(const Node& node, const WindowAttributes& window,
                                               int axis, int64_t in);

struct ConvGeometry {
  int spatial = 0;
  std::array<WindowAxis, kMaxSpatial> axes;  // in the order of the dimensions: [H,W], [D,H,W]
  int64_t batch = 0;
  int64_t in_channels = 0;
  int64_t out_channels = 0;
  int64_t group = 1;

  [[nodiscard]] Shape output_shape() const;  // NC...
  [[nodiscard]] int64_t macs() const;        // multiply-adds of a convolution, padding counted
};

// Conv: x [N,C,...], w [OC,C/group,...].
[[nodiscard]] ConvGeometry ResolveConv(const Node& node, const Shape& x, const Shape& w);
// ConvTranspose: x [N,C,...], w [C,OC/group,...].
[[nodiscard]] ConvGeometry ResolveConvTranspose(const Node& node, const Shape& x, const Shape& w);
// MaxPool, AveragePool: x [N,C,...]; out_channels equals in_channels, group is 1.
[[nodiscard]] ConvGeometry ResolvePool(const Node& node, const Shape& x);

}  // namespace octet
