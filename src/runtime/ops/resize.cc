// Resize of ONNX operator sets 11 to 19 in any number of dimensions: nearest (any element type),
// linear and cubic (float32), every coordinate transformation but tf_crop_and_resize, no
// antialiasing.
//
// A dimension at a time, as the interpolations are separable; each has its list of taps and
// weights, made with the plan. Weights are computed in double and applied in float32.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

struct Options {
  std::string mode, transformation, nearest;
  double cubic_a = -0.75;
  bool exclude_outside = false;
};

Options OptionsOf(const StepRequest& r) {
  Options o;
  o.mode = r.node->GetString("mode", "nearest");
  o.transformation = r.node->GetString("coordinate_transformation_mode", "half_pixel");
  o.nearest = r.node->GetString("nearest_mode", "round_prefer_floor");
  o.cubic_a = static_cast<double>(r.node->GetFloat("cubic_coeff_a", -0.75F));
  o.exclude_outside = r.node->GetInt("exclude_outside", 0) != 0;
  if (o.mode != "nearest" && o.mode != "linear" && o.mode != "cubic")
    FailStep(r, Cat("mode '", o.mode, "' is not supported"));
  if (r.node->GetInt("antialias", 0) != 0) FailStep(r, "antialias is not supported");
  if (r.node->op == "Upsample" || r.opset() < 11) o.transformation = "asymmetric";
  return o;
}

// The input coordinate of output index i.
double Source(const StepRequest& r, const Options& o, int64_t i, int64_t in, int64_t out,
              double scale) {
  const auto x = static_cast<double>(i);
  if (o.transformation == "half_pixel") return (x + 0.5) / scale - 0.5;
  if (o.transformation == "half_pixel_symmetric") {
    // The size asked for may differ from size * scale: the difference is shared between both ends.
    const double adjust = static_cast<double>(out) / (static_cast<double>(in) * scale);
    const double center = static_cast<double>(in) / 2;
    return center * (1 - adjust) + (x + 0.5) / scale - 0.5;
  }
  if (o.transformation == "pytorch_half_pixel") return out > 1 ? (x + 0.5) / scale - 0.5 : 0.0;
  if (o.transformation == "align_corners") {
    // As the operator's tests have it: the resized length is size * scale, whole or not.
    const double resized = static_cast<double>(in) * scale;
    return resized > 1 ? x * static_cast<double>(in - 1) / (resized - 1) : 0.0;
  }
  if (o.transformation == "asymmetric") return x / scale;
  FailStep(r, Cat("coordinate_transformation_mode '", o.transformation, "' is not supported"));
}

int64_t Nearest(const StepRequest& r, const Options& o, double x) {
  if (o.nearest == "round_prefer_floor") return static_cast<int64_t>(std::ceil(x - 0.5));
  if (o.nearest == "round_prefer_ceil") return static_cast<int64_t>(std::floor(x + 0.5));
  if (o.nearest == "floor") return static_cast<int64_t>(std::floor(x));
  if (o.nearest == "ceil") return static_cast<int64_t>(std::ceil(x));
  FailStep(r, Cat("nearest_mode '", o.nearest, "' is not known"));
}

// How one dimension is resampled: output i is the sum of weights[i * taps + k] *
// input[sources[...]].
struct Resample {
  int64_t in = 0, out = 0, taps = 1;
  std::vector<int64_t> sources;
  std::vector<float> weights;
};

Resample MakeResample(const StepRequest& r, const Options& o, int64_t in, int64_t out,
                      double scale) {
  Resample s;
  s.in = in;
  s.out = out;
  s.taps = o.mode == "nearest" ? 1 : o.mode == "linear" ? 2 : 4;
  for (int64_t i = 0; i < out; ++i) {
    const double x = Source(r, o, i, in, out, scale);
    if (o.mode == "nearest") {
      s.sources.push_back(std::clamp<int64_t>(Nearest(r, o, x), 0, in - 1));
      s.weights.push_back(1.0F);
      continue;
    }
    const double base = std::floor(x);
    const double f = x - base;
    const auto first = static_cast<int64_t>(base) - (s.taps == 4 ? 1 : 0);
    std::vector<double> w;
    if (s.taps == 2) {
      w = {1 - f, f};
    } else {
      const double a = o.cubic_a;
      const double g = 1 - f;
      w = {((a * (f + 1) - 5 * a) * (f + 1) + 8 * a) * (f + 1) - 4 * a,
           ((a + 2) * f - (a + 3)) * f * f + 1, ((a + 2) * g - (a + 3)) * g * g + 1,
           ((a * (g + 1) - 5 * a) * (g + 1) + 8 * a) * (g + 1) - 4 * a};
    }
    double total = 0;
    for (size_t k = 0; k < w.size(); ++k) {
      const int64_t at = first + static_cast<int64_t>(k);
      if (o.exclude_outside && (at < 0 || at >= in)) w[k] = 0;
      total += w[k];
    }
    for (size_t k = 0; k < w.size(); ++k) {
      s.sources.push_back(std::clamp<int64_t>(first + static_cast<int64_t>(k), 0, in - 1));
      s.weights.push_back(static_cast<float>(o.exclude_outside ? w[k] / total : w[k]));
    }
  }
  return s;
}

// y (outer, out, inner) from x (outer, in, inner).
void Interpolate(const Resample& s, int64_t outer, int64_t inner, const float* x, float* y) {
  const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, inner * s.taps));
  ParallelFor(outer * s.out, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* from = x + i / s.out * s.in * inner;
      float* to = y + i * inner;
      const auto at = static_cast<size_t>(i % s.out * s.taps);
      for (int64_t k = 0; k < inner; ++k) to[k] = from[s.sources[at] * inner + k] * s.weights[at];
      for (int64_t t = 1; t < s.taps; ++t) {
        const float* row = from + s.sources[at + static_cast<size_t>(t)] * inner;
        const float w = s.weights[at + static_cast<size_t>(t)];
        for (int64_t k = 0; k < inner; ++k) to[k] += row[k] * w;
      }
    }
  });
}

void PickNearest(const Resample& s, int64_t outer, int64_t bytes, const char* x, char* y) {
  const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, bytes));
  ParallelFor(outer * s.out, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = (i / s.out * s.in + s.sources[static_cast<size_t>(i % s.out)]) * bytes;
      std::memcpy(y + i * bytes, x + from, static_cast<size_t>(bytes));
    }
  });
}

// The scale of each dimension: given, or implied by the sizes.
std::vector<double> Scales(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  std::vector<double> scales;
  for (int d = 0; d < x.rank(); ++d) {
    scales.push_back(x[d] > 0 ? static_cast<double>(y[d]) / static_cast<double>(x[d]) : 1.0);
  }
  const Tensor* given = r.constant(2);
  if (r.has(2) && given == nullptr)
    FailStep(r, "input 2, the scales, must be known when the plan is made");
  if (given == nullptr || given->elements() == 0) {
    const std::string policy = r.node->GetString("keep_aspect_ratio_policy", "stretch");
    if (policy != "stretch")
      FailStep(r, Cat("keep_aspect_ratio_policy '", policy, "' is not supported"));
    return scales;
  }
  if (given->dtype() != DType::kFloat32) FailStep(r, "scales are not float32");
  const auto values = given->data<float>();
  std::vector<int64_t> axes = r.node->GetInts("axes", {});
  if (axes.empty()) {
    for (int d = 0; d < x.rank(); ++d) axes.push_back(d);
  }
  if (axes.size() != values.size())
    FailStep(r, Cat(values.size(), " scales for ", axes.size(), " axes"));
  for (size_t i = 0; i < axes.size(); ++i) {
    scales[static_cast<size_t>(Axis(r, axes[i], x.rank()))] = static_cast<double>(values[i]);
  }
  return scales;
}

}  // namespace

Step MakeResize(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  const Options o = OptionsOf(r);
  if (o.mode != "nearest" && r.dtype(0) != DType::kFloat32) {
    FailStep(r, Cat("mode '", o.mode, "' of ", NameOf(r.dtype(0)),
                    " is not supported, expected float32"));
  }
  const std::vector<double> scales = Scales(r);
  Step step = NewStep(r, "octet:resize");
  const Layout layout = x.rank() == 4 ? r.inputs[0].layout : Layout::kPlain;
  step.input_layouts[0] = step.output_layouts[0] = layout;
  if (y.elements() == 0) {
    step.run = [](const StepArgs&) {};
    return step;
  }
  // Passes over the dimensions that change, last first, in the order of memory.
  std::vector<int> order;
  for (int d = 0; d < x.rank(); ++d) order.push_back(d);
  if (layout == Layout::kChannelsLast) order = {0, 2, 3, 1};
  struct Pass {
    Resample resample;
    int64_t outer, inner;
  };
  std::vector<Pass> passes;
  std::vector<int64_t> dims;  // in memory order, as passes change them
  for (int d : order) dims.push_back(x[d]);
  int64_t largest = 0;
  for (size_t i = order.size(); i-- > 0;) {
    const int d = order[i];
    if (x[d] == y[d] && scales[static_cast<size_t>(d)] == 1.0) continue;
    Pass p;
    p.resample = MakeResample(r, o, x[d], y[d], scales[static_cast<size_t>(d)]);
    p.outer = 1;
    p.inner = 1;
    for (size_t k = 0; k < i; ++k) p.outer *= dims[k];
    for (size_t k = i + 1; k < dims.size(); ++k) p.inner *= dims[k];
    dims[i] = y[d];
    largest = std::max(largest, p.outer * y[d] * p.inner);
    passes.push_back(std::move(p));
  }
  if (passes.empty()) {
    step.alias = 0;
    return step;
  }
  const int64_t size = SizeOf(r.dtype(0));
  const int64_t half = (largest * size + 63) / 64 * 64;
  step.scratch_bytes = passes.size() > 1 ? 2 * half : 0;
  const bool nearest = o.mode == "nearest";
  step.run = [passes = std::move(passes), size, half, nearest](const StepArgs& a) {
    const char* from = a.in<char>(0);
    for (size_t i = 0; i < passes.size(); ++i) {
      const Pass& p = passes[i];
      char* to = i + 1 == passes.size()
                     ? a.out<char>(0)
                     : static_cast<char*>(a.scratch) + static_cast<int64_t>(i % 2) * half;
      if (nearest) {
        PickNearest(p.resample, p.outer, p.inner * size, from, to);
      } else {
        Interpolate(p.resample, p.outer, p.inner, reinterpret_cast<const float*>(from),
                    reinterpret_cast<float*>(to));
      }
      from = to;
    }
  };
  return step;
}

}  // namespace octet::ops
