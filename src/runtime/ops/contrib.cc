// Integer operators of domain com.microsoft, as ONNX Runtime writes them into quantized models:
// what the float operator gives between DequantizeLinear and QuantizeLinear.
#include <octet/kernels.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/parallel.h"
#include "graph/conv_geometry.h"
#include "numerics/rounding.h"
#include "runtime/ops/broadcast.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"
#include "runtime/ops/strided.h"

namespace octet::ops {
namespace {

// Scale and zero point of one tensor.
struct Grid {
  float scale = 1.0F;
  int32_t zero = 0;
  CodeBounds bounds{0, 255};
};

// `type` is that of the tensor itself; the zero point may be omitted.
Grid GridOf(const StepRequest& r, size_t scale_input, size_t zero_input, DType type) {
  Grid g;
  g.scale = static_cast<float>(ConstantScalar(r, scale_input));
  if (r.has(zero_input)) g.zero = static_cast<int32_t>(ConstantScalar(r, zero_input));
  g.bounds = BoundsOf(CodeTypeOf(r, type));
  return g;
}

int32_t CodeAt(const uint8_t* p, bool is_unsigned) {
  return is_unsigned ? int32_t{*p} : int32_t{static_cast<int8_t>(*p)};
}

// The code of f(real value) for every byte a code can be.
template <typename F>
std::array<uint8_t, 256> TableOf(const Grid& x, bool x_unsigned, const Grid& y, F f) {
  std::array<uint8_t, 256> table{};
  for (int i = 0; i < 256; ++i) {
    const auto byte = static_cast<uint8_t>(i);
    const float real = DequantizeOne(CodeAt(&byte, x_unsigned), x.scale, x.zero);
    table[static_cast<size_t>(i)] =
        static_cast<uint8_t>(QuantizeOne(f(real), y.scale, y.zero, y.bounds.lo, y.bounds.hi));
  }
  return table;
}

void LookUp(const std::array<uint8_t, 256>& table, const void* x, void* y, int64_t n) {
  ParallelFor(n, kElementGrain, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    kernels::Lookup(table.data(), 1, count, static_cast<const uint8_t*>(x) + begin, count,
                    static_cast<uint8_t*>(y) + begin, count);
  });
}

}  // namespace

// a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero
Step MakeContribQLinearBinary(const StepRequest& r) {
  const bool is_unsigned = r.dtype(0) == DType::kUint8;
  const Grid ga = GridOf(r, 1, 2, r.dtype(0));
  const Grid gb = GridOf(r, 4, 5, r.dtype(3));
  const Grid gy = GridOf(r, 6, 7, r.outputs[0].dtype);
  const bool add = r.node->op == "QLinearAdd";
  Step step = NewStep(r, add ? "octet:qlinear_add" : "octet:qlinear_mul");
  const Broadcast loops = PlanBroadcast(r, {0, 3}, step);
  step.run = [=](const StepArgs& a) {
    loops.ForEachRow([&](int64_t at, const std::array<int64_t, kMaxOperands>& offset, int64_t n) {
      const uint8_t* x = a.in<uint8_t>(0) + offset[0];
      const uint8_t* z = a.in<uint8_t>(3) + offset[1];
      uint8_t* y = a.out<uint8_t>(0) + at;
      for (int64_t i = 0; i < n; ++i) {
        const float u =
            DequantizeOne(CodeAt(x + i * loops.stride(0), is_unsigned), ga.scale, ga.zero);
        const float v =
            DequantizeOne(CodeAt(z + i * loops.stride(1), is_unsigned), gb.scale, gb.zero);
        y[i] = static_cast<uint8_t>(
            QuantizeOne(add ? u + v : u * v, gy.scale, gy.zero, gy.bounds.lo, gy.bounds.hi));
      }
    });
  };
  return step;
}

// x, x_scale, x_zero, y_scale, y_zero
Step MakeContribQLinearUnary(const StepRequest& r) {
  const bool is_unsigned = r.dtype(0) == DType::kUint8;
  const Grid gx = GridOf(r, 1, 2, r.dtype(0));
  const Grid gy = GridOf(r, 3, 4, r.outputs[0].dtype);
  const float alpha = r.node->GetFloat("alpha", 0.01F);
  const auto table =
      r.node->op == "QLinearSigmoid"
          ? TableOf(gx, is_unsigned, gy, [](float v) { return 1.0F / (1.0F + std::exp(-v)); })
          : TableOf(gx, is_unsigned, gy, [alpha](float v) { return v >= 0 ? v : alpha * v; });
  Step step = NewStep(r, "octet_lookup");
  step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
  const int64_t n = r.shape(0).elements();
  step.run = [table, n](const StepArgs& a) { LookUp(table, a.inputs[0].raw, a.outputs[0].raw, n); };
  return step;
}

// x, x_scale, x_zero, y_scale, y_zero
Step MakeContribQLinearPool(const StepRequest& r) {
  if (r.node->GetInt("channels_last", 0) != 0) FailStep(r, "channels_last is 1, expected 0");
  const Grid gx = GridOf(r, 1, 2, r.dtype(0));
  const Grid gy = GridOf(r, 3, 4, r.outputs[0].dtype);
  kernels::PoolProblem p;
  p.type = CodeTypeOf(r, r.dtype(0));
  p.x_zero_point = gx.zero;
  p.y_zero_point = gy.zero;
  p.ratio = gx.scale / gy.scale;
  const Shape& x = r.shape(0);
  Step step = NewStep(r, "octet_average_pool");
  if (r.node->op == "QLinearGlobalAveragePool") {
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

// y_scale, y_zero, then x, x_scale, x_zero of every part
Step MakeContribQLinearConcat(const StepRequest& r) {
  const Shape& y = r.outputs[0].shape;
  const int axis = Axis(r, r.node->GetInt("axis", 0), y.rank());
  const Grid gy = GridOf(r, 0, 1, r.outputs[0].dtype);
  Step step = NewStep(r, "octet:qlinear_concat");
  Layout layout = Layout::kPlain;
  for (size_t i = 2; i < r.inputs.size(); i += 3) {
    if (OffersChannelsLast(r, i)) layout = Layout::kChannelsLast;
  }
  if (LayoutsCoincide(y)) layout = Layout::kPlain;
  step.output_layouts[0] = layout;
  const auto to = StridesOf(y, layout);
  struct Part {
    size_t input;
    std::array<uint8_t, 256> table;
    StridedCopy copy;
    int64_t elements;
  };
  std::vector<Part> parts;
  int64_t at = 0;
  for (size_t i = 2; i < r.inputs.size(); i += 3) {
    const Shape& x = r.shape(i);
    const Grid gx = GridOf(r, i + 1, i + 2, r.dtype(i));
    step.input_layouts[i] = layout;
    parts.push_back({i, TableOf(gx, r.dtype(i) == DType::kUint8, gy, [](float v) { return v; }),
                     StridedCopy({x.dims().begin(), x.dims().end()}, StridesOf(x, layout), to, 0,
                                 at * to[static_cast<size_t>(axis)]),
                     x.elements()});
    step.scratch_bytes = std::max(step.scratch_bytes, x.elements());
    at += x[axis];
  }
  step.run = [parts = std::move(parts)](const StepArgs& a) {
    for (const Part& p : parts) {
      LookUp(p.table, a.inputs[p.input].raw, a.scratch, p.elements);
      p.copy.Run(a.scratch, a.outputs[0].raw, 1);
    }
  };
  return step;
}

}  // namespace octet::ops
