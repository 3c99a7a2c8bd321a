#include "evaluate/exact_element.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "graph/conv_geometry.h"
#include "passes/quantizers.h"
#include "runtime/executor.h"

namespace octet {
namespace {

constexpr double kUnit = 0x1p-24;

double ElementOf(const TensorView& t, int64_t i) {
  const auto k = static_cast<size_t>(i);
  switch (t.dtype) {
    case DType::kFloat32:
      return static_cast<double>(t.data<float>()[k]);
    case DType::kUint8:
      return t.data<uint8_t>()[k];
    case DType::kInt8:
      return t.data<int8_t>()[k];
    case DType::kInt32:
      return t.data<int32_t>()[k];
    default:
      Fail(ErrorCode::kUnsupported, "exact element: a tensor is ", NameOf(t.dtype));
  }
}

// Error of a float32 sum of n products whose magnitudes add up to `magnitude`.
double SumError(int64_t n, double magnitude) {
  const auto k = static_cast<double>(n + 4);
  return std::min(k, 6 * std::sqrt(k)) * kUnit * magnitude;
}

// A sum of products under way.
struct Sum {
  double value = 0, magnitude = 0, carried = 0;
  int64_t terms = 0;

  void Add(const BoundedReal& x, const BoundedReal& w) {
    value += x.value * w.value;
    magnitude += std::fabs(x.value * w.value);
    carried += x.error * std::fabs(w.value);
    ++terms;
  }
  [[nodiscard]] BoundedReal Result() const { return {value, SumError(terms, magnitude) + carried}; }
};

std::vector<int64_t> Unravel(const Shape& shape, int64_t element) {
  std::vector<int64_t> index(static_cast<size_t>(shape.rank()));
  for (int i = shape.rank() - 1; i >= 0; --i) {
    index[static_cast<size_t>(i)] = element % shape[i];
    element /= shape[i];
  }
  return index;
}

int64_t Ravel(const Shape& shape, std::span<const int64_t> index) {
  int64_t element = 0;
  for (int i = 0; i < shape.rank(); ++i)
    element = element * shape[i] + index[static_cast<size_t>(i)];
  return element;
}

}  // namespace

ExactElement::ExactElement(const Graph& graph, std::span<const TensorView> inputs) : graph_(graph) {
  OCTET_INVARIANT(inputs.size() == graph.inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) inputs_[graph.inputs[i]] = inputs[i];
  shapes_.resize(graph.value_count());
  for (size_t i = 0; i < graph.value_count(); ++i) {
    const auto v = static_cast<ValueId>(i);
    if (const Tensor* t = graph.ConstantOf(v)) {
      shapes_[i] = t->shape();
    } else if (graph.value(v).type.is_static()) {
      shapes_[i] = graph.value(v).type.static_shape();
    }
  }
}

CodeCandidates ExactElement::Quantized(ValueId codes, int64_t element) const {
  const auto q = QuantizerOf(graph_, graph_.value(codes).producer);
  if (!q || !q->is_activation() || q->codes != codes) {
    Fail(ErrorCode::kUnsupported, "exact element: '", graph_.value(codes).name,
         "' is not made by a constant quantizer");
  }
  CodeCandidates result;
  const double scale = q->scale[0], zero = q->zero_point[0];
  for (const BoundedReal& x : Eval(q->real, element)) {
    const double steps = x.value / scale;
    const double error = x.error / scale + 5 * kUnit * std::fabs(steps);
    result.codes.push_back({steps + zero, error});
    const auto code = [&](double s) {
      const double c = std::clamp(std::nearbyint(s) + zero, static_cast<double>(q->qmin()),
                                  static_cast<double>(q->qmax()));
      return static_cast<int32_t>(c);
    };
    for (int32_t c = code(steps - error); c <= code(steps + error); ++c)
      result.possible.push_back(c);
  }
  std::sort(result.possible.begin(), result.possible.end());
  result.possible.erase(std::unique(result.possible.begin(), result.possible.end()),
                        result.possible.end());
  return result;
}

ExactElement::Alternatives ExactElement::Eval(ValueId v, int64_t element) const {
  if (const Tensor* t = graph_.ConstantOf(v)) return {{ElementOf(t->view(), element), 0}};
  if (const auto it = inputs_.find(v); it != inputs_.end())
    return {{ElementOf(it->second, element), 0}};
  const NodeId producer = graph_.value(v).producer;
  OCTET_INVARIANT(producer != kNoNode);
  return EvalNode(graph_.node(producer), v, element);
}

BoundedReal ExactElement::EvalOne(ValueId v, int64_t element) const {
  const Alternatives all = Eval(v, element);
  double lo = all[0].value - all[0].error, hi = all[0].value + all[0].error;
  if (all.size() == 1) return all[0];
  for (const BoundedReal& a : all) {
    lo = std::min(lo, a.value - a.error);
    hi = std::max(hi, a.value + a.error);
  }
  return {(lo + hi) / 2, (hi - lo) / 2};
}

ExactElement::Alternatives ExactElement::EvalNode(const Node& n, ValueId v, int64_t element) const {
  if (n.Is("DequantizeLinear")) {
    const auto q = QuantizerOf(graph_, graph_.value(v).producer);
    if (!q)
      Fail(ErrorCode::kUnsupported, "exact element: DequantizeLinear '", n.name,
           "' has computed parameters");
    size_t k = 0;
    if (!q->per_tensor()) {
      const Shape& shape = ShapeOf(q->codes);
      const int axis = q->axis < 0 ? q->axis + shape.rank() : q->axis;
      k = static_cast<size_t>(Unravel(shape, element)[static_cast<size_t>(axis)]);
    }
    Alternatives all = Eval(q->codes, element);
    for (BoundedReal& a : all)
      a.value = (a.value - q->zero_point[k]) * static_cast<double>(q->scale[k]);
    return all;
  }
  if (n.Is("QuantizeLinear")) {
    Alternatives all;
    for (int32_t c : Quantized(v, element).possible) all.push_back({static_cast<double>(c), 0});
    return all;
  }
  if (n.Is("Conv")) return Conv(n, element);
  if (n.Is("Gemm") || n.Is("MatMul")) return MatrixProduct(n, element);
  if (n.Is("AveragePool") || n.Is("GlobalAveragePool") || n.Is("MaxPool")) return Pool(n, element);
  static constexpr std::array kMoves = {"Reshape",  "Flatten",   "Squeeze", "Unsqueeze",
                                        "Identity", "Transpose", "Concat"};
  if (n.domain.empty() && std::find(kMoves.begin(), kMoves.end(), n.op) != kMoves.end())
    return Moved(n, v, element);
  return Elementwise(n, v, element);
}

// What rounding a bias to the accumulator's grid does to it.
double ExactElement::BiasRounding(const Node& n, double bias, int64_t channel) const {
  const auto x = DequantizerOf(graph_, n.inputs[0]), w = DequantizerOf(graph_, n.inputs[1]);
  if (!x || !w) return 0;
  const double grid =
      static_cast<double>(x->scale[0]) *
      static_cast<double>(w->scale[w->per_tensor() ? 0 : static_cast<size_t>(channel)]);
  return std::fabs(bias - std::nearbyint(bias / grid) * grid);
}

ExactElement::Alternatives ExactElement::Conv(const Node& n, int64_t element) const {
  const Shape& xs = ShapeOf(n.inputs[0]);
  const Shape& ws = ShapeOf(n.inputs[1]);
  const ConvGeometry g = ResolveConv(n, xs, ws);
  const Shape ys = g.output_shape();
  const auto at = Unravel(ys, element);  // n, oc, spatial...
  const int64_t per_group = ws[1], first = at[1] / (g.out_channels / g.group) * per_group;
  Sum sum;
  const int64_t taps = ws.product(2, ws.rank());
  std::vector<int64_t> xi(at.size()), wi(at.size());
  xi[0] = at[0];
  wi[0] = at[1];
  for (int64_t c = 0; c < per_group; ++c) {
    xi[1] = first + c;
    wi[1] = c;
    for (int64_t t = 0; t < taps; ++t) {
      int64_t rest = t;
      bool inside = true;
      for (int s = g.spatial - 1; s >= 0; --s) {
        const WindowAxis& axis = g.axes[static_cast<size_t>(s)];
        const auto d = static_cast<size_t>(s) + 2;
        wi[d] = rest % axis.kernel;
        rest /= axis.kernel;
        xi[d] = at[d] * axis.stride - axis.pad_begin + wi[d] * axis.dilation;
        inside = inside && xi[d] >= 0 && xi[d] < axis.in;
      }
      if (inside) sum.Add(EvalOne(n.inputs[0], Ravel(xs, xi)), EvalOne(n.inputs[1], Ravel(ws, wi)));
    }
  }
  double rounding = 0;
  if (n.input(2) != kNoValue) {
    const BoundedReal b = EvalOne(n.inputs[2], at[1]);
    sum.Add(b, {1, 0});
    rounding = BiasRounding(n, b.value, at[1]);
  }
  BoundedReal r = sum.Result();
  r.error += rounding;
  return {r};
}

ExactElement::Alternatives ExactElement::MatrixProduct(const Node& n, int64_t element) const {
  const Shape& xs = ShapeOf(n.inputs[0]);
  const Shape& ws = ShapeOf(n.inputs[1]);
  const bool gemm = n.Is("Gemm");
  if (ws.rank() != 2 || xs.rank() < 2 || (gemm && n.GetInt("transA", 0) != 0)) {
    Fail(ErrorCode::kUnsupported, "exact element: ", n.op, " '", n.name, "' of this form");
  }
  const bool nk = gemm && n.GetInt("transB", 0) != 0;
  const int64_t k = xs[xs.rank() - 1], columns = nk ? ws[0] : ws[1];
  const int64_t row = element / columns, column = element % columns;
  const double alpha = gemm ? static_cast<double>(n.GetFloat("alpha", 1)) : 1;
  Sum sum;
  for (int64_t i = 0; i < k; ++i) {
    BoundedReal w = EvalOne(n.inputs[1], nk ? column * k + i : i * columns + column);
    w.value *= alpha;
    sum.Add(EvalOne(n.inputs[0], row * k + i), w);
  }
  double rounding = 0;
  if (n.input(2) != kNoValue) {
    const BoundedReal b = EvalOne(n.inputs[2], Broadcast(n.inputs[2], n.outputs[0], element));
    sum.Add(b, {static_cast<double>(n.GetFloat("beta", 1)), 0});
    rounding = BiasRounding(n, b.value, column);
  }
  BoundedReal r = sum.Result();
  r.error += rounding;
  return {r};
}

ExactElement::Alternatives ExactElement::Pool(const Node& n, int64_t element) const {
  const Shape& xs = ShapeOf(n.inputs[0]);
  if (n.Is("GlobalAveragePool")) {
    const int64_t space = xs.product(2, xs.rank());
    Sum sum;
    for (int64_t i = 0; i < space; ++i) sum.Add(EvalOne(n.inputs[0], element * space + i), {1, 0});
    const BoundedReal r = sum.Result();
    return {{r.value / static_cast<double>(space), r.error / static_cast<double>(space)}};
  }
  const ConvGeometry g = ResolvePool(n, xs);
  const auto at = Unravel(g.output_shape(), element);
  std::vector<int64_t> xi(at.size());
  xi[0] = at[0];
  xi[1] = at[1];
  int64_t taps = 1, padded = 0;
  for (int s = 0; s < g.spatial; ++s) taps *= g.axes[static_cast<size_t>(s)].kernel;
  Sum sum;
  BoundedReal top{-HUGE_VAL, 0};
  for (int64_t t = 0; t < taps; ++t) {
    int64_t rest = t;
    bool inside = true, in_pad = true;
    for (int s = g.spatial - 1; s >= 0; --s) {
      const WindowAxis& axis = g.axes[static_cast<size_t>(s)];
      const auto d = static_cast<size_t>(s) + 2;
      xi[d] = at[d] * axis.stride - axis.pad_begin + (rest % axis.kernel) * axis.dilation;
      rest /= axis.kernel;
      inside = inside && xi[d] >= 0 && xi[d] < axis.in;
      in_pad = in_pad && xi[d] < axis.in + axis.pad_end;
    }
    if (in_pad) ++padded;
    if (!inside) continue;
    const BoundedReal x = EvalOne(n.inputs[0], Ravel(xs, xi));
    sum.Add(x, {1, 0});
    if (x.value > top.value) top = x;
  }
  if (n.Is("MaxPool")) return {top};
  const int64_t count = n.GetInt("count_include_pad", 0) != 0 ? padded : sum.terms;
  const BoundedReal r = sum.Result();
  return {{r.value / static_cast<double>(count), r.error / static_cast<double>(count)}};
}

ExactElement::Alternatives ExactElement::Moved(const Node& n, ValueId v, int64_t element) const {
  const Shape& ys = ShapeOf(v);
  if (n.Is("Transpose")) {
    const Shape& xs = ShapeOf(n.inputs[0]);
    std::vector<int64_t> reversed;
    for (int i = xs.rank() - 1; i >= 0; --i) reversed.push_back(i);
    const auto perm = n.GetInts("perm", reversed);
    const auto at = Unravel(ys, element);
    std::vector<int64_t> from(at.size());
    for (size_t i = 0; i < at.size(); ++i) from[static_cast<size_t>(perm[i])] = at[i];
    return Eval(n.inputs[0], Ravel(xs, from));
  }
  if (n.Is("Concat")) {
    const int64_t raw = n.GetInt("axis", 0);
    const auto axis = static_cast<size_t>(raw < 0 ? raw + ys.rank() : raw);
    auto at = Unravel(ys, element);
    for (ValueId in : n.inputs) {
      const int64_t extent = ShapeOf(in)[static_cast<int>(axis)];
      if (at[axis] < extent) return Eval(in, Ravel(ShapeOf(in), at));
      at[axis] -= extent;
    }
    Fail(ErrorCode::kInternal, "exact element: Concat '", n.name, "' is shorter than its output");
  }
  return Eval(n.inputs[0], element);
}

int64_t ExactElement::Broadcast(ValueId in, ValueId out, int64_t element) const {
  const Shape& xs = ShapeOf(in);
  const Shape& ys = ShapeOf(out);
  if (xs == ys) return element;
  const auto at = Unravel(ys, element);
  std::vector<int64_t> from(static_cast<size_t>(xs.rank()));
  for (int i = 0; i < xs.rank(); ++i) {
    from[static_cast<size_t>(i)] =
        xs[i] == 1 ? 0 : at[static_cast<size_t>(i + ys.rank() - xs.rank())];
  }
  return Ravel(xs, from);
}

ExactElement::Alternatives ExactElement::Elementwise(const Node& n, ValueId v,
                                                     int64_t element) const {
  const auto constant = [&](size_t input, double otherwise) {
    if (n.input(input) == kNoValue) return otherwise;
    return EvalOne(n.inputs[input], 0).value;
  };
  if (n.Is("Add") && n.inputs.size() == 2) {
    Alternatives all;
    const auto right = Eval(n.inputs[1], Broadcast(n.inputs[1], v, element));
    for (const BoundedReal& a : Eval(n.inputs[0], Broadcast(n.inputs[0], v, element))) {
      for (const BoundedReal& b : right) {
        // Per operand a scaling and a ratio of scales, and the addition.
        all.push_back({a.value + b.value,
                       a.error + b.error + 4 * kUnit * (std::fabs(a.value) + std::fabs(b.value))});
      }
    }
    return all;
  }
  if (n.Is("Relu") || n.Is("Clip")) {
    const bool clip = n.Is("Clip");
    const double lo = clip ? constant(1, -HUGE_VAL) : 0,
                 hi = clip ? constant(2, HUGE_VAL) : HUGE_VAL;
    Alternatives all = Eval(n.inputs[0], element);
    for (BoundedReal& a : all) a.value = std::clamp(a.value, lo, hi);
    return all;
  }
  if ((n.Is("Min") || n.Is("Max")) && n.inputs.size() == 2) {
    Alternatives all;
    const auto right = Eval(n.inputs[1], Broadcast(n.inputs[1], v, element));
    for (const BoundedReal& a : Eval(n.inputs[0], Broadcast(n.inputs[0], v, element))) {
      for (const BoundedReal& b : right) {
        all.push_back({n.Is("Min") ? std::min(a.value, b.value) : std::max(a.value, b.value),
                       std::max(a.error, b.error)});
      }
    }
    return all;
  }
  // Any other function of one element: by the runtime itself. Implementations of a transcendental
  // function differ by a few units in the last place; sixteen of them on both sides is generous and
  // still far below a step.
  if (n.outputs.size() != 1 || n.inputs.empty() || !(ShapeOf(n.inputs[0]) == ShapeOf(v))) {
    Fail(ErrorCode::kUnsupported, "exact element: operator ", n.op, " of node '", n.name, "'");
  }
  Alternatives all = Eval(n.inputs[0], element);
  for (BoundedReal& a : all) {
    const Tensor x = Tensor::Of<float>(Shape{1}, {static_cast<float>(a.value)});
    std::vector<const Tensor*> inputs = {&x};
    for (size_t i = 1; i < n.inputs.size(); ++i) inputs.push_back(graph_.ConstantOf(n.inputs[i]));
    const auto y = EvaluateNode(graph_, n, inputs);
    const auto value = static_cast<double>(y[0].data<float>()[0]);
    a = {value, a.error + 16 * kUnit * (std::fabs(value) + std::fabs(a.value))};
  }
  return all;
}

}  // namespace octet
