// Quantizers of any number format: FakeQuantize, Quantize and Dequantize of the domain octet
// (graph/ops_octet.cc), and ONNX's QuantizeLinear and DequantizeLinear where codes are float8.
// numerics/qparams.h is the definition; FakeQuantize runs on the kernels, which equal it.
#include <algorithm>
#include <optional>

#include "base/parallel.h"
#include "kernels/fake_quantize.h"
#include "numerics/qparams.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

const Tensor& Known(const StepRequest& r, size_t i) { return *r.constant(i); }

// Scales, zero points and limits, which are constants, and what they are of.
struct Grid {
  QuantParams params;
  Extents extents;
};

Grid ReadGrid(const StepRequest& r, const NumberFormat& format) {
  Grid g;
  QuantParams& p = g.params;
  p.format = format;
  const auto scale = Known(r, 1).data<float>();
  p.scale.assign(scale.begin(), scale.end());
  p.zero_point.assign(p.scale.size(), 0);
  if (r.has(2) && Known(r, 2).dtype() == DType::kInt32) {
    const auto zero = Known(r, 2).data<int32_t>();
    p.zero_point.assign(zero.begin(), zero.end());
  }
  if (r.has(3)) {
    const auto limit = Known(r, 3).data<float>();
    p.limit.assign(limit.begin(), limit.end());
  }
  const Shape& x = r.shape(0);
  p.granularity = p.scale.size() > 1 ? Granularity::kChannel : Granularity::kTensor;
  p.axis = p.scale.size() > 1 ? static_cast<int>(r.node->GetInt("axis", 1)) : -1;
  if (p.axis >= 0 && p.axis >= x.rank()) FailStep(r, Cat("axis is ", p.axis, ", rank ", x.rank()));
  g.extents = ExtentsOf(x.dims(), p.axis);
  CheckQuantParams(Cat("node '", r.node->name, "'"), p, g.extents);
  return g;
}

NumberFormat FormatOf(const StepRequest& r) {
  return NumberFormat::Parse(r.node->GetString("format", ""));
}

// One scale: any layout will do. Several: as the axis counts.
void KeepLayout(const StepRequest& r, const Grid& g, Step& step) {
  const Layout layout = g.params.axis < 0 ? r.inputs[0].layout : Layout::kPlain;
  step.input_layouts[0] = step.output_layouts[0] = layout;
}

void RequireFloat(const StepRequest& r) {
  if (r.dtype(0) != DType::kFloat32 || r.dtype(1) != DType::kFloat32) {
    FailStep(r, Cat("input is ", NameOf(r.dtype(0)), " and scale ", NameOf(r.dtype(1)),
                    ", expected float32"));
  }
}

// ONNX's float8 types as formats.
std::optional<FloatFormat> Float8Of(DType dtype) {
  switch (dtype) {
    case DType::kFloat8E4M3Fn:
      return FloatFormat::Parse("float8_e4m3fn");
    case DType::kFloat8E4M3FnUz:
      return FloatFormat::Parse("float8_e4m3fnuz");
    case DType::kFloat8E5M2:
      return FloatFormat::Parse("float8_e5m2");
    case DType::kFloat8E5M2FnUz:
      return FloatFormat::Parse("float8_e5m2fnuz");
    default:
      return std::nullopt;
  }
}

void RequireKnownScale(const StepRequest& r) {
  if (r.constant(1) == nullptr) FailStep(r, "a computed scale of float8 codes is not supported");
}

// saturate = 0: what is beyond the largest value becomes infinity or NaN.
void QuantizeUnsaturated(const float* x, const Grid& g, uint8_t* y) {
  const FloatFormat& format = g.params.format.floating();
  const Extents& e = g.extents;
  for (int64_t o = 0; o < e.outer; ++o) {
    for (int64_t c = 0; c < e.channels; ++c) {
      const float scale = g.params.scale[static_cast<size_t>(ScaleIndex(g.params, e, o, c, 0))];
      for (int64_t i = 0; i < e.inner; ++i, ++x, ++y)
        *y = format.Encode(*x / scale, FloatOverflow::kSpecial);
    }
  }
}

Step MakeToCodes(const StepRequest& r, Grid grid) {
  Step step = NewStep(r, "octet:quantize");
  KeepLayout(r, grid, step);
  const DType codes = r.outputs[0].dtype;
  const auto make = [&](auto code) {
    using Q = decltype(code);
    step.run = [grid](const StepArgs& a) {
      const auto n = static_cast<size_t>(grid.extents.elements());
      QuantizeArray<Q>({a.in<float>(0), n}, grid.extents, grid.params, {a.out<Q>(0), n});
    };
  };
  if (codes == DType::kInt8) {
    make(int8_t{});
  } else if (codes == DType::kInt16) {
    make(int16_t{});
  } else if (codes == DType::kUint16) {
    make(uint16_t{});
  } else {
    make(uint8_t{});
  }
  return step;
}

Step MakeFromCodes(const StepRequest& r, Grid grid) {
  Step step = NewStep(r, "octet:dequantize");
  KeepLayout(r, grid, step);
  const auto make = [&](auto code) {
    using Q = decltype(code);
    step.run = [grid](const StepArgs& a) {
      const auto n = static_cast<size_t>(grid.extents.elements());
      DequantizeArray<Q>({a.in<Q>(0), n}, grid.extents, grid.params, {a.out<float>(0), n});
    };
  };
  if (r.dtype(0) == DType::kInt8) {
    make(int8_t{});
  } else if (r.dtype(0) == DType::kInt16) {
    make(int16_t{});
  } else if (r.dtype(0) == DType::kUint16) {
    make(uint16_t{});
  } else {
    make(uint8_t{});
  }
  return step;
}

}  // namespace

Step MakeFakeQuantize(const StepRequest& r) {
  RequireFloat(r);
  const Grid grid = ReadGrid(r, FormatOf(r));
  Step step = NewStep(r, Cat("octet:fake_quantize ", grid.params.format.Name()));
  KeepLayout(r, grid, step);
  step.run = [grid](const StepArgs& a) {
    kernels::FakeQuantize(a.in<float>(0), grid.extents, grid.params, a.out<float>(0));
  };
  return step;
}

Step MakeQuantizeFormat(const StepRequest& r) {
  RequireFloat(r);
  return MakeToCodes(r, ReadGrid(r, FormatOf(r)));
}

Step MakeDequantizeFormat(const StepRequest& r) {
  return MakeFromCodes(r, ReadGrid(r, FormatOf(r)));
}

Step MakeQuantizeFloat8(const StepRequest& r) {
  RequireFloat(r);
  RequireKnownScale(r);
  const Grid grid = ReadGrid(r, *Float8Of(r.outputs[0].dtype));
  if (r.node->GetInt("saturate", 1) != 0) return MakeToCodes(r, grid);
  Step step = NewStep(r, "octet:quantize");
  KeepLayout(r, grid, step);
  step.run = [grid](const StepArgs& a) {
    QuantizeUnsaturated(a.in<float>(0), grid, a.out<uint8_t>(0));
  };
  return step;
}

Step MakeDequantizeFloat8(const StepRequest& r) {
  RequireKnownScale(r);
  return MakeFromCodes(r, ReadGrid(r, *Float8Of(r.dtype(0))));
}

}  // namespace octet::ops
