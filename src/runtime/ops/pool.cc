// MaxPool of any number type, AveragePool and the global forms of float32, over plain or
// channels-last data in one to three spatial dimensions.
//
// Padding never wins a maximum. Averages sum in double in the order of the window, so a result
// depends on its window alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>

#include "base/parallel.h"
#include "graph/conv_geometry.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

// The window of one output along one axis, clipped to the input: indices begin, begin + step, ... <
// end.
struct Range {
  int64_t begin, end, step;
  [[nodiscard]] int64_t count() const { return end > begin ? (end - begin + step - 1) / step : 0; }
};

Range Clipped(const WindowAxis& a, int64_t out) {
  const int64_t start = out * a.stride - a.pad_begin;
  Range range = {start, std::min(start + a.extent(), a.in), a.dilation};
  if (range.begin < 0) range.begin += (-range.begin + a.dilation - 1) / a.dilation * a.dilation;
  return range;
}

// The windows of D, H, W; absent leading axes have size 1.
struct Windows {
  std::array<WindowAxis, 3> axes;
  int64_t images, channels;
  int64_t in_space, out_space;
};

Windows ThreeAxes(const ConvGeometry& g) {
  Windows w;
  w.images = g.batch;
  w.channels = g.in_channels;
  for (WindowAxis& a : w.axes) a.in = a.out = 1;
  for (int i = 0; i < g.spatial; ++i)
    w.axes[static_cast<size_t>(3 - g.spatial + i)] = g.axes[static_cast<size_t>(i)];
  w.in_space = w.axes[0].in * w.axes[1].in * w.axes[2].in;
  w.out_space = w.axes[0].out * w.axes[1].out * w.axes[2].out;
  return w;
}

// Calls body(offset in the input's space) for every tap of an output position.
template <typename Body>
void ForEachTap(const Windows& w, int64_t position, Body body) {
  const int64_t ow = position % w.axes[2].out;
  const int64_t oh = position / w.axes[2].out % w.axes[1].out;
  const int64_t od = position / (w.axes[2].out * w.axes[1].out);
  const Range d = Clipped(w.axes[0], od);
  const Range h = Clipped(w.axes[1], oh);
  const Range v = Clipped(w.axes[2], ow);
  for (int64_t i = d.begin; i < d.end; i += d.step) {
    for (int64_t j = h.begin; j < h.end; j += h.step) {
      for (int64_t k = v.begin; k < v.end; k += v.step)
        body((i * w.axes[1].in + j) * w.axes[2].in + k);
    }
  }
}

template <typename T>
T Lowest() {
  if constexpr (std::is_floating_point_v<T>) return -std::numeric_limits<T>::infinity();
  return std::numeric_limits<T>::lowest();
}

// Channels-last: one row of channels per output position.
template <typename T>
void MaxRows(const Windows& w, const T* x, T* y) {
  const int64_t c = w.channels;
  ParallelFor(w.images * w.out_space, std::max<int64_t>(1, kElementGrain / (8 * c)),
              [&](int64_t begin, int64_t end) {
                for (int64_t p = begin; p < end; ++p) {
                  const T* image = x + p / w.out_space * w.in_space * c;
                  T* out = y + p * c;
                  std::fill(out, out + c, Lowest<T>());
                  ForEachTap(w, p % w.out_space, [&](int64_t at) {
                    const T* in = image + at * c;
                    for (int64_t i = 0; i < c; ++i) out[i] = in[i] > out[i] ? in[i] : out[i];
                  });
                }
              });
}

template <typename T>
void MaxPlanes(const Windows& w, const T* x, T* y, int64_t* indices, bool column_major) {
  ParallelFor(w.images * w.channels,
              std::max<int64_t>(1, kElementGrain / (8 * std::max<int64_t>(1, w.out_space))),
              [&](int64_t begin, int64_t end) {
                for (int64_t plane = begin; plane < end; ++plane) {
                  const T* in = x + plane * w.in_space;
                  for (int64_t p = 0; p < w.out_space; ++p) {
                    T best = Lowest<T>();
                    int64_t where = -1;
                    ForEachTap(w, p, [&](int64_t at) {
                      if (in[at] > best || where < 0) {
                        best = in[at];
                        where = at;
                      }
                    });
                    y[plane * w.out_space + p] = best;
                    if (indices == nullptr) continue;
                    if (column_major) {
                      const int64_t k = where % w.axes[2].in;
                      const int64_t j = where / w.axes[2].in % w.axes[1].in;
                      const int64_t i = where / (w.axes[2].in * w.axes[1].in);
                      where = (k * w.axes[1].in + j) * w.axes[0].in + i;
                    }
                    indices[plane * w.out_space + p] = plane * w.in_space + where;
                  }
                }
              });
}

// How many taps an average divides by.
int64_t Divisor(const Windows& w, int64_t position, bool include_pad) {
  const std::array<int64_t, 3> out = {position / (w.axes[2].out * w.axes[1].out),
                                      position / w.axes[2].out % w.axes[1].out,
                                      position % w.axes[2].out};
  int64_t count = 1;
  for (size_t i = 0; i < 3; ++i) {
    const WindowAxis& a = w.axes[i];
    if (!include_pad) {
      count *= Clipped(a, out[i]).count();
      continue;
    }
    // Padding counts, but not what ceil_mode lets the last window reach beyond it.
    const int64_t start = out[i] * a.stride - a.pad_begin;
    const Range range = {start, std::min(start + a.extent(), a.in + a.pad_end), a.dilation};
    count *= range.count();
  }
  return count;
}

void AverageRows(const Windows& w, bool include_pad, const float* x, float* y) {
  const int64_t c = w.channels;
  ParallelFor(w.images * w.out_space, std::max<int64_t>(1, kElementGrain / (8 * c)),
              [&](int64_t begin, int64_t end) {
                std::vector<double> sums(static_cast<size_t>(c));
                for (int64_t p = begin; p < end; ++p) {
                  const float* image = x + p / w.out_space * w.in_space * c;
                  std::fill(sums.begin(), sums.end(), 0.0);
                  double* sum = sums.data();
                  ForEachTap(w, p % w.out_space, [&](int64_t at) {
                    const float* in = image + at * c;
                    for (int64_t i = 0; i < c; ++i) sum[i] += static_cast<double>(in[i]);
                  });
                  const auto divisor =
                      static_cast<double>(Divisor(w, p % w.out_space, include_pad));
                  for (int64_t i = 0; i < c; ++i)
                    y[p * c + i] = static_cast<float>(sum[i] / divisor);
                }
              });
}

void AveragePlanes(const Windows& w, bool include_pad, const float* x, float* y) {
  ParallelFor(w.images * w.channels,
              std::max<int64_t>(1, kElementGrain / (8 * std::max<int64_t>(1, w.out_space))),
              [&](int64_t begin, int64_t end) {
                for (int64_t plane = begin; plane < end; ++plane) {
                  const float* in = x + plane * w.in_space;
                  for (int64_t p = 0; p < w.out_space; ++p) {
                    double sum = 0;
                    ForEachTap(w, p, [&](int64_t at) { sum += static_cast<double>(in[at]); });
                    y[plane * w.out_space + p] =
                        static_cast<float>(sum / static_cast<double>(Divisor(w, p, include_pad)));
                  }
                }
              });
}

// A pool over all of the space.
Windows WholeSpace(const StepRequest& r) {
  const Shape& x = r.shape(0);
  Windows w;
  w.images = x[0];
  w.channels = x[1];
  for (WindowAxis& a : w.axes) a.in = a.out = a.kernel = 1;
  w.axes[2].in = w.axes[2].kernel = x.product(2, x.rank());
  w.in_space = w.axes[2].in;
  w.out_space = 1;
  return w;
}

Step WithLayout(const StepRequest& r, std::string kernel) {
  Step step = NewStep(r, std::move(kernel));
  step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
  return step;
}

Step AverageStep(const StepRequest& r, const Windows& w, bool include_pad) {
  if (r.dtype(0) != DType::kFloat32)
    FailStep(r, Cat("element type ", NameOf(r.dtype(0)), " is not supported"));
  Step step = WithLayout(r, "octet:average_pool");
  const bool rows = r.inputs[0].layout == Layout::kChannelsLast;
  step.run = [w, include_pad, rows](const StepArgs& a) {
    (rows ? AverageRows : AveragePlanes)(w, include_pad, a.in<float>(0), a.out<float>(0));
  };
  return step;
}

Step MaxStep(const StepRequest& r, const Windows& w) {
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    const bool with_indices = r.outputs.size() > 1 && r.outputs[1].present;
    if (r.inputs[0].layout == Layout::kChannelsLast && !with_indices) {
      Step step = WithLayout(r, "octet:max_pool");
      step.run = [w](const StepArgs& a) { MaxRows<T>(w, a.in<T>(0), a.out<T>(0)); };
      return step;
    }
    Step step = NewStep(r, "octet:max_pool");
    const bool column_major = r.node->GetInt("storage_order", 0) != 0;
    step.run = [w, with_indices, column_major](const StepArgs& a) {
      MaxPlanes<T>(w, a.in<T>(0), a.out<T>(0), with_indices ? a.out<int64_t>(1) : nullptr,
                   column_major);
    };
    return step;
  });
}

// Images of codes, channels last: the pixel kernels. Empty where the node is not one for them.
std::optional<Step> MaxOfCodes(const StepRequest& r, const ConvGeometry& g) {
  const bool codes = r.dtype(0) == DType::kUint8 || r.dtype(0) == DType::kInt8;
  const bool indices = r.outputs.size() > 1 && r.outputs[1].present;
  if (!codes || indices || g.spatial != 2 || r.inputs[0].layout != Layout::kChannelsLast) return {};
  kernels::PoolProblem p;
  for (size_t i = 0; i < 2; ++i) {
    const WindowAxis& a = g.axes[i];
    if (a.dilation != 1 || a.pad_begin >= a.kernel || a.pad_end >= a.kernel) return {};
  }
  SetPoolWindow(r, g, p);
  p.type = CodeTypeOf(r, r.dtype(0));
  const int64_t height = g.axes[0].in, width = g.axes[1].in;
  if (PoolOutHeight(p, height) != g.axes[0].out || PoolOutWidth(p, width) != g.axes[1].out)
    return {};
  Step step = WithLayout(r, "octet_max_pool");
  step.run = [=, batch = g.batch, channels = g.in_channels](const StepArgs& a) {
    kernels::MaxPool(p, batch, height, width, channels, a.inputs[0].raw, a.outputs[0].raw);
  };
  return step;
}

}  // namespace

Step MakeMaxPool(const StepRequest& r) {
  const ConvGeometry g = ResolvePool(*r.node, r.shape(0));
  if (std::optional<Step> step = MaxOfCodes(r, g)) return *std::move(step);
  return MaxStep(r, ThreeAxes(g));
}

Step MakeAveragePool(const StepRequest& r) {
  return AverageStep(r, ThreeAxes(ResolvePool(*r.node, r.shape(0))),
                     r.node->GetInt("count_include_pad", 0) != 0);
}

Step MakeGlobalPool(const StepRequest& r) {
  const Windows w = WholeSpace(r);
  return r.node->op == "GlobalMaxPool" ? MaxStep(r, w) : AverageStep(r, w, false);
}

}  // namespace octet::ops
