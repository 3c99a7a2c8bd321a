// QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear. src/numerics/rounding.h is the
// definition; the loops here are it, written so that a compiler vectorises them, and the tests hold
// them to it.
//
// Per tensor or per axis; blocked quantization (attribute block_size) is refused.
#include <octet/kernels.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "numerics/rounding.h"
#include "passes/quantizers.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

// Rounds |v| < 2^22 to the nearest integer, ties to even: in [2^23, 2^24) floats are the integers.
inline float RoundEven(float v) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
  return (v + kMagic) - kMagic;
}

template <typename Q>
void QuantizeRow(const float* x, Q* y, int64_t n, float scale, int32_t zero) {
  // |bounds| <= 2^16, so RoundEven is exact after clamping.
  const auto lo = static_cast<float>(static_cast<int32_t>(std::numeric_limits<Q>::lowest()) - zero);
  const auto hi = static_cast<float>(static_cast<int32_t>(std::numeric_limits<Q>::max()) - zero);
  for (int64_t i = 0; i < n; ++i) {
    float v = x[i] / scale;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    y[i] = static_cast<Q>(static_cast<int32_t>(RoundEven(v)) + zero);
  }
}

// One scale and zero point per element: channels of channels-last data.
template <typename Q>
void QuantizeChannels(const float* x, Q* y, int64_t n, const float* scale, const int32_t* zero) {
  constexpr auto kLowest = static_cast<int32_t>(std::numeric_limits<Q>::lowest());
  constexpr auto kHighest = static_cast<int32_t>(std::numeric_limits<Q>::max());
  for (int64_t i = 0; i < n; ++i) {
    const auto lo = static_cast<float>(kLowest - zero[i]);
    const auto hi = static_cast<float>(kHighest - zero[i]);
    float v = x[i] / scale[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    y[i] = static_cast<Q>(static_cast<int32_t>(RoundEven(v)) + zero[i]);
  }
}

// Codes of at most 16 bits: their difference to the zero point is exact in int32.
template <typename Q>
float DequantizeCode(Q q, float scale, int32_t zero) {
  if constexpr (sizeof(Q) < 4) {
    return DequantizeOne(static_cast<int32_t>(q), scale, zero);
  } else {
    return static_cast<float>(static_cast<int64_t>(q) - zero) * scale;
  }
}

template <typename Q>
void DequantizeRow(const Q* x, float* y, int64_t n, float scale, int32_t zero) {
  for (int64_t i = 0; i < n; ++i) y[i] = DequantizeCode(x[i], scale, zero);
}

template <typename Q>
void DequantizeChannels(const Q* x, float* y, int64_t n, const float* scale, const int32_t* zero) {
  for (int64_t i = 0; i < n; ++i) y[i] = DequantizeCode(x[i], scale[i], zero[i]);
}

// How the data are walked: `rows` rows of `row` elements. Either one parameter per row, number
// row % channels, or (per_element) the channels are the row.
struct Walk {
  int64_t rows = 1, row = 1, channels = 1;
  bool per_element = false;
};

Walk PlanWalk(const StepRequest& r, Step& step) {
  const Shape& x = r.shape(0);
  const Layout layout = r.inputs[0].layout;
  step.input_layouts[0] = step.output_layouts[0] = layout;
  if (r.node->GetInt("block_size", 0) != 0) FailStep(r, "block_size is not supported");
  const int64_t channels = r.shape(1).elements();
  if (r.has(2) && r.shape(2).elements() != channels) {
    FailStep(r, Cat("scale has ", channels, " elements, zero point has ", r.shape(2).elements()));
  }
  Walk w;
  w.channels = channels;
  if (channels == 1 && r.shape(1).rank() == 0) {
    w.row = x.elements();
    return w;
  }
  if (channels == 1 &&
      (x.rank() < 1 || r.node->GetInt("axis", 1) >= x.rank())) {  // a [1] as a scalar
    w.row = x.elements();
    return w;
  }
  const int axis = Axis(r, r.node->GetInt("axis", 1), x.rank());
  if (channels == 1) {
    w.row = x.elements();
    return w;
  }
  if (x[axis] != channels) {
    FailStep(r, Cat("scale has ", channels, " elements, expected ", x[axis], ", the size of axis ",
                    axis));
  }
  if (layout == Layout::kChannelsLast && axis != 1) {  // rare: read it plain
    step.input_layouts[0] = step.output_layouts[0] = Layout::kPlain;
  }
  const bool last = step.input_layouts[0] == Layout::kChannelsLast || axis == x.rank() - 1;
  if (last) {
    w.row = channels;
    w.rows = x.elements() / std::max<int64_t>(1, channels);
    w.per_element = true;
  } else {
    w.row = x.product(axis + 1, x.rank());
    w.rows = x.product(0, axis + 1);
  }
  return w;
}

// Zero points as int32, whatever integer type they have.
std::vector<int32_t> ZeroPoints(const StepRequest& r, const void* raw, int64_t count) {
  if (raw == nullptr) return std::vector<int32_t>(static_cast<size_t>(count), 0);
  return WithNumber(r, r.dtype(2), [&](auto zero) {
    using T = decltype(zero);
    const T* data = static_cast<const T*>(raw);
    std::vector<int32_t> v;
    for (int64_t i = 0; i < count; ++i) v.push_back(static_cast<int32_t>(data[i]));
    return v;
  });
}

// Runs row(from, to, n, scale, zero) or channels(from, to, n, scale*, zero*) over the walk.
template <typename From, typename To>
void RunWalk(const Walk& w, const From* x, To* y, const float* scale, const int32_t* zero,
             void (*row)(const From*, To*, int64_t, float, int32_t),
             void (*channels)(const From*, To*, int64_t, const float*, const int32_t*)) {
  if (w.rows == 1 && !w.per_element) {
    ParallelFor(w.row, kElementGrain, [&](int64_t begin, int64_t end) {
      row(x + begin, y + begin, end - begin, *scale, *zero);
    });
    return;
  }
  ParallelFor(w.rows, std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, w.row)),
              [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                  if (w.per_element) {
                    channels(x + i * w.row, y + i * w.row, w.row, scale, zero);
                  } else {
                    row(x + i * w.row, y + i * w.row, w.row, scale[i % w.channels],
                        zero[i % w.channels]);
                  }
                }
              });
}

// The zero points of a run: known ones are converted once.
template <typename Body>
auto WithZeroPoints(const StepRequest& r, int64_t count, Body body) {
  const bool known = !r.has(2) || r.constant(2) != nullptr;
  std::vector<int32_t> fixed;
  if (known) fixed = ZeroPoints(r, r.has(2) ? r.constant(2)->raw() : nullptr, count);
  const StepRequest copy = {r.graph, r.node, r.inputs, r.outputs, {}};
  return [=](const StepArgs& a) {
    if (known) {
      body(a, fixed.data());
    } else {
      body(a, ZeroPoints(copy, a.inputs[2].raw, count).data());
    }
  };
}

// A whole tensor of 8-bit codes with one scale: the kernels of src/kernels, faster and equal. Where
// the reader works on images the layout changes on the way.
bool UseKernel(const StepRequest& r, const Walk& w, DType codes) {
  return w.rows == 1 && !w.per_element && w.row > 0 &&
         (codes == DType::kInt8 || codes == DType::kUint8) && (!r.has(2) || r.dtype(2) == codes);
}

kernels::CodeType CodeTypeOf(DType dtype) {
  return dtype == DType::kUint8 ? kernels::CodeType::kUint8 : kernels::CodeType::kInt8;
}

int32_t ZeroOf(const StepArgs& a, kernels::CodeType type) {
  if (!a.has(2)) return 0;
  return type == kernels::CodeType::kUint8 ? int32_t{*a.in<uint8_t>(2)} : int32_t{*a.in<int8_t>(2)};
}

}  // namespace

Step MakeQuantizeLinear(const StepRequest& r) {
  if (IsFloat8(r.outputs[0].dtype)) return MakeQuantizeFloat8(r);
  if (r.dtype(0) != DType::kFloat32 || r.dtype(1) != DType::kFloat32) {
    FailStep(r, Cat("input is ", NameOf(r.dtype(0)), " and scale ", NameOf(r.dtype(1)),
                    ", expected float32"));
  }
  Step step = NewStep(r, "octet:quantize");
  const Walk w = PlanWalk(r, step);
  if (UseKernel(r, w, r.outputs[0].dtype)) {
    const kernels::CodeType type = CodeTypeOf(r.outputs[0].dtype);
    const Shape& x = r.shape(0);
    if (r.outputs[0].for_images && step.input_layouts[0] == Layout::kPlain) {
      step.info.kernel = "octet:quantize_to_nhwc";
      step.output_layouts[0] = Layout::kChannelsLast;
      step.run = [=](const StepArgs& a) {
        kernels::QuantizeToNhwc(a.in<float>(0), x[0], x[1], x[2] * x[3], *a.in<float>(1),
                                ZeroOf(a, type), type, a.outputs[0].raw);
      };
      return step;
    }
    step.run = [type, n = w.row](const StepArgs& a) {
      kernels::Quantize(a.in<float>(0), n, *a.in<float>(1), ZeroOf(a, type), type,
                        a.outputs[0].raw);
    };
    return step;
  }
  auto make = [&](auto code) {
    using Q = decltype(code);
    step.run = WithZeroPoints(r, w.channels, [w](const StepArgs& a, const int32_t* zero) {
      RunWalk<float, Q>(w, a.in<float>(0), a.out<Q>(0), a.in<float>(1), zero, QuantizeRow<Q>,
                        QuantizeChannels<Q>);
    });
  };
  switch (r.outputs[0].dtype) {
    case DType::kInt8:
      make(int8_t{});
      break;
    case DType::kUint8:
      make(uint8_t{});
      break;
    case DType::kInt16:
      make(int16_t{});
      break;
    case DType::kUint16:
      make(uint16_t{});
      break;
    default:
      FailStep(r, Cat("codes of type ", NameOf(r.outputs[0].dtype), " are not supported"));
  }
  return step;
}

Step MakeDequantizeLinear(const StepRequest& r) {
  if (r.dtype(1) != DType::kFloat32)
    FailStep(r, Cat("scale is ", NameOf(r.dtype(1)), ", expected float32"));
  if (IsFloat8(r.dtype(0))) return MakeDequantizeFloat8(r);
  Step step = NewStep(r, "octet:dequantize");
  const Walk w = PlanWalk(r, step);
  if (UseKernel(r, w, r.dtype(0))) {
    step.run = [type = CodeTypeOf(r.dtype(0)), n = w.row](const StepArgs& a) {
      kernels::Dequantize(a.inputs[0].raw, type, n, *a.in<float>(1), ZeroOf(a, type),
                          a.out<float>(0));
    };
    return step;
  }
  auto make = [&](auto code) {
    using Q = decltype(code);
    step.run = WithZeroPoints(r, w.channels, [w](const StepArgs& a, const int32_t* zero) {
      RunWalk<Q, float>(w, a.in<Q>(0), a.out<float>(0), a.in<float>(1), zero, DequantizeRow<Q>,
                        DequantizeChannels<Q>);
    });
  };
  switch (r.dtype(0)) {
    case DType::kInt8:
      make(int8_t{});
      break;
    case DType::kUint8:
      make(uint8_t{});
      break;
    case DType::kInt16:
      make(int16_t{});
      break;
    case DType::kUint16:
      make(uint16_t{});
      break;
    case DType::kInt32:
      make(int32_t{});
      break;
    default:
      FailStep(r, Cat("codes of type ", NameOf(r.dtype(0)), " are not supported"));
  }
  return step;
}

Step MakeDynamicQuantizeLinear(const StepRequest& r) {
  if (r.dtype(0) != DType::kFloat32)
    FailStep(r, Cat("input is ", NameOf(r.dtype(0)), ", expected float32"));
  Step step = NewStep(r, "octet:dynamic_quantize");
  step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
  step.run = [n = r.shape(0).elements()](const StepArgs& a) {
    const kernels::Grid grid = kernels::DynamicQuantize(a.in<float>(0), n, a.out<uint8_t>(0));
    *a.out<float>(1) = grid.scale;
    *a.out<uint8_t>(2) = static_cast<uint8_t>(grid.zero_point);
  };
  return step;
}

}  // namespace octet::ops
