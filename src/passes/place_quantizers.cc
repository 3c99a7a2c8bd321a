#include "passes/place_quantizers.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "graph/recurrent.h"
#include "passes/functions_of_codes.h"
#include "passes/quantizers.h"
#include "passes/raise_opset.h"

namespace octet {
namespace {

template <size_t N>
bool OneOf(const Node& n, const std::array<const char*, N>& ops) {
  return n.domain.empty() && !n.removed && std::find(ops.begin(), ops.end(), n.op) != ops.end();
}

// Same parameters on both sides: codes are only moved (or compared).
bool IsMovement(const Node& n) {
  if (n.Is("Resize")) {
    return n.GetString("mode", "nearest") == "nearest" &&
           n.GetString("coordinate_transformation_mode", "") != "tf_crop_and_resize";
  }
  return OneOf(n, std::array{"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze",
                             "Slice", "DepthToSpace", "Gather"});
}

bool IsActivationFunction(const Node& n, Target target) {
  if (OneOf(n, std::array{"Relu", "Clip", "LeakyRelu", "Sigmoid"})) return true;
  return target == Target::kOctet &&
         OneOf(n, std::array{"HardSigmoid", "HardSwish", "Tanh", "Elu", "Gelu"});
}

bool IsFloatConstant(const Graph& graph, ValueId v) {
  const Tensor* t = graph.ConstantOf(v);
  return t != nullptr && t->dtype() == DType::kFloat32;
}

class Planner {
 public:
  Planner(const Graph& graph, const PlacementOptions& options)
      : graph_(graph), options_(options), uses_(graph.UseMap()), grid_(graph.value_count()) {
    std::iota(grid_.begin(), grid_.end(), 0);
  }

  QuantizerPlan Run() {
    const auto order = graph_.TopologicalOrder();
    for (NodeId id : order) ConsiderCompute(id);
    if (options_.quantize_outputs && !options_.compute_only &&
        options_.target != Target::kTensorRt) {
      for (NodeId id : compute_) MarkBehind(id);
    }
    if (options_.compute_only) {
      // Nothing else asks.
    } else if (options_.target == Target::kTensorRt) {
      for (NodeId id : order) ConsiderSkipConnection(id);
    } else {
      // Backwards: whoever makes a quantized value and can work on codes gets quantized inputs.
      for (auto it = order.rbegin(); it != order.rend(); ++it) PullBack(*it);
    }
    Collect(order);
    ConsiderBiases();
    return std::move(plan_);
  }

 private:
  bool IsFloatValue(ValueId v) const {
    return v != kNoValue && graph_.value(v).type.dtype == DType::kFloat32 &&
           graph_.ConstantOf(v) == nullptr;
  }

  void Skip(const Node& n, const std::string& reason) {
    plan_.skipped.push_back({n.name, n.op, reason});
  }

  bool ReadsFloat(NodeId id) const { return options_.float_inputs.contains(graph_.node(id).name); }

  void Mark(ValueId v, NodeId reader) {
    if (!ReadsFloat(reader)) readers_[v].insert(reader);
  }

  void ConsiderCompute(NodeId id) {
    const Node& n = graph_.node(id);
    if (!OneOf(n, std::array{"Conv", "Gemm", "MatMul"})) {
      if (n.domain.empty() && HasNoInt8Form(n.op))
        Skip(n, Cat(n.op, " has no INT8 operator in the targets"));
      return;
    }
    if (options_.excluded.contains(n.name)) return Skip(n, "excluded by the recipe");
    if (!IsFloatValue(n.input(0))) return Skip(n, "its input is not a computed float32 value");
    const bool constant_weight = IsFloatConstant(graph_, n.input(1));
    if (!constant_weight) {
      if (!n.Is("MatMul")) return Skip(n, "its weight is computed");
      return ConsiderProduct(id);
    }
    const Tensor& w = *graph_.ConstantOf(n.input(1));
    if (!n.Is("Conv") && w.shape().rank() != 2) return Skip(n, "its weight does not have rank 2");
    if (w.elements() == 0) return Skip(n, "its weight is empty");
    if (n.input(2) != kNoValue && !IsFloatConstant(graph_, n.input(2)))
      return Skip(n, "its bias is computed");
    if (n.Is("Gemm") && (n.GetFloat("alpha", 1) != 1 || n.GetInt("transA", 0) != 0 ||
                         (n.input(2) != kNoValue && n.GetFloat("beta", 1) != 1))) {
      return Skip(n, "Gemm with alpha, beta or transA");
    }
    if (n.Is("Conv") && graph_.value(n.inputs[0]).type.dims.size() > 4)
      return Skip(n, "a 3-D convolution");
    const int axis = WeightChannelAxis(graph_, n);
    if (n.input(2) != kNoValue && graph_.ConstantOf(n.inputs[2])->elements() != w.shape()[axis]) {
      return Skip(n, "its bias is not one element per output channel");
    }
    compute_.push_back(id);
    plan_.weighted.push_back({id, axis});
    Mark(n.inputs[0], id);
  }

  // MatMul of two computed operands.
  void ConsiderProduct(NodeId id) {
    const Node& n = graph_.node(id);
    if (!options_.computed_products) return Skip(n, "both operands are computed");
    for (const ValueId v : n.inputs) {
      const ValueType& type = graph_.value(v).type;
      if (!IsFloatValue(v) || !type.has_rank || type.dims.size() < 2)
        return Skip(n, "its operands are not computed float32 matrices");
    }
    for (const ValueId v : n.inputs) Mark(v, id);
    if (ReadsFloat(id)) return;
    second_operands_.insert(n.inputs[1]);
    plan_.products.push_back(id);
  }

  // The value behind the activation function that fuses with `id` (Conv -> Relu), else its output.
  ValueId BehindActivation(ValueId v) const {
    while (true) {
      const auto& uses = uses_[static_cast<size_t>(v)];
      if (graph_.IsOutput(v) || uses.size() != 1) return v;
      const Node& n = graph_.node(uses[0].node);
      if (!OneOf(n, std::array{"Relu", "Clip"}) && !IsBiasOfLayer(n)) return v;
      v = n.outputs[0];
    }
  }

  bool IsCompute(NodeId id) const {
    return std::find(compute_.begin(), compute_.end(), id) != compute_.end();
  }

  // Add of a constant of one number per column, the only reader of a MatMul with quantized weights.
  bool IsBiasOfLayer(const Node& n) const {
    if (!n.Is("Add")) return false;
    const size_t side = IsFloatConstant(graph_, n.inputs[0]) ? 0 : 1;
    const ValueId product = n.inputs[1 - side];
    if (!IsFloatConstant(graph_, n.inputs[side]) || !IsFloatValue(product)) return false;
    const NodeId p = graph_.value(product).producer;
    if (p == kNoNode || !graph_.node(p).Is("MatMul") || !IsCompute(p) || graph_.IsOutput(product) ||
        uses_[static_cast<size_t>(product)].size() != 1) {
      return false;
    }
    return IsNumberPerColumn(graph_.ConstantOf(n.inputs[side])->shape(),
                             graph_.ConstantOf(graph_.node(p).inputs[1])->shape()[1],
                             graph_.value(product).type);
  }

  // ONNX Runtime makes a Gemm of MatMul and Add, reshaping what has more than two dimensions,
  // before it looks for quantizers. Of that Gemm it makes an INT8 operator if the bias is int32 or
  // a quantizer follows; else it is a float operator that dequantizes its weights at every run. A
  // bias of more than one dimension beside more than two keeps MatMul and Add apart, and the MatMul
  // alone is an INT8 operator. With quantizers behind, int32 biases are one rounding less, here and
  // there.
  void ConsiderBiases() {
    if (options_.compute_only || options_.target == Target::kTensorRt) return;
    for (NodeId p : compute_) {
      const auto& uses = uses_[static_cast<size_t>(graph_.node(p).outputs[0])];
      if (!graph_.node(p).Is("MatMul") || uses.size() != 1 || ReadsFloat(p)) continue;
      const Node& add = graph_.node(uses[0].node);
      if (!IsBiasOfLayer(add) || readers_.contains(graph_.node(p).outputs[0])) continue;
      const bool codes_follow = readers_.contains(BehindActivation(add.outputs[0]));
      const bool matrix = graph_.value(add.outputs[0]).type.dims.size() == 2;
      const bool for_ort = options_.target == Target::kOnnxRuntime;
      if (!codes_follow && !for_ort) continue;
      using Form = QuantizerPlan::AddedBias::Form;
      plan_.added_biases.push_back({p, uses[0].node, 1 - uses[0].input,
                                    codes_follow || matrix ? Form::kCodes : Form::kSpread});
    }
  }

  void MarkBehind(NodeId id) {
    const ValueId v = BehindActivation(graph_.node(id).outputs[0]);
    if (IsFloatValue(v)) readers_[v];
  }

  // Two or more computed inputs of the shape of the output.
  bool IsPlainAdd(const Node& n) const {
    if (!n.Is("Add") || !IsFloatValue(n.inputs[0]) || !IsFloatValue(n.inputs[1])) return false;
    const ValueType& a = graph_.value(n.inputs[0]).type;
    const ValueType& b = graph_.value(n.inputs[1]).type;
    return a.has_rank && b.has_rank && a.dims == b.dims;
  }

  // Two computed inputs of one shape, or one of them with one number per image and channel.
  bool IsProduct(const Node& n) const {
    if (!n.Is("Mul") || !IsFloatValue(n.inputs[0]) || !IsFloatValue(n.inputs[1])) return false;
    const ValueType& a = graph_.value(n.inputs[0]).type;
    const ValueType& b = graph_.value(n.inputs[1]).type;
    if (!a.has_rank || !b.has_rank) return false;
    if (a.dims == b.dims) return true;
    const auto is_gate = [](const ValueType& gate, const ValueType& image) {
      return gate.dims.size() == 4 && image.dims.size() == 4 && gate.dims[0] == image.dims[0] &&
             gate.dims[1] == image.dims[1] && gate.dims[2] == 1 && gate.dims[3] == 1;
    };
    return is_gate(a, b) || is_gate(b, a);
  }

  // The x of x f(x), f an activation function that is read here only; or kNoValue.
  ValueId ArgumentOfGate(const Node& product) const {
    for (const size_t side : {0U, 1U}) {
      const ValueId x = product.inputs[side], f = product.inputs[1 - side];
      const NodeId producer = graph_.value(f).producer;
      if (producer == kNoNode || graph_.IsOutput(f) || uses_[static_cast<size_t>(f)].size() != 1)
        continue;
      const Node& function = graph_.node(producer);
      if (IsActivationFunction(function, options_.target) && function.inputs[0] == x) return x;
    }
    return kNoValue;
  }

  bool IsMeanOfImage(const Node& n) const {
    if (!n.Is("ReduceMean") || n.GetInt("keepdims", 1) == 0) return false;
    std::vector<int64_t> axes = n.GetInts("axes", {});
    if (const Tensor* t = graph_.ConstantOf(n.input(1));
        t != nullptr && t->dtype() == DType::kInt64) {
      axes.assign(t->data<int64_t>().begin(), t->data<int64_t>().end());
    }
    for (int64_t& axis : axes) axis = axis < 0 ? axis + 4 : axis;
    std::sort(axes.begin(), axes.end());
    return axes == std::vector<int64_t>{2, 3};
  }

  bool FusesIntoProducer(const Node& n) const {
    if (!OneOf(n, std::array{"Relu", "Clip"})) return false;
    const ValueId x = n.inputs[0];
    const NodeId p = graph_.value(x).producer;
    if (p == kNoNode || graph_.IsOutput(x) || uses_[static_cast<size_t>(x)].size() != 1)
      return false;
    const Node& producer = graph_.node(p);
    return IsPlainAdd(producer) || IsBiasOfLayer(producer) || FusesIntoProducer(producer) ||
           IsCompute(p);
  }

  // The other half of a scaled Clip (octet target): Min(Relu(x), per-channel constant).
  bool IsChannelBound(const Node& n) const {
    return OneOf(n, std::array{"Min", "Max"}) && n.inputs.size() == 2 &&
           (IsFloatConstant(graph_, n.inputs[0]) != IsFloatConstant(graph_, n.inputs[1]));
  }

  void PullBack(NodeId id) {
    const Node& n = graph_.node(id);
    if (n.Is("Split")) return PullThroughSplit(id);
    if (n.outputs.empty() || !readers_.contains(n.outputs[0]) || options_.excluded.contains(n.name))
      return;
    if (IsMovement(n)) {
      if (!IsFloatValue(n.inputs[0]) || (n.outputs.size() > 1 && n.outputs[1] != kNoValue)) return;
      Mark(n.inputs[0], id);
      Union(n.inputs[0], n.outputs[0]);
    } else if (n.Is("Concat")) {
      if (!std::all_of(n.inputs.begin(), n.inputs.end(),
                       [&](ValueId v) { return IsFloatValue(v); }))
        return;
      for (ValueId v : n.inputs) {
        Mark(v, id);
        Union(v, n.outputs[0]);
      }
    } else if (IsPlainAdd(n)) {
      // Of float islands: two quantizers before it would cost more than the one behind.
      if (ComesFromCodes(n.inputs[0]) || ComesFromCodes(n.inputs[1])) MarkAll(n, id);
    } else if (IsProduct(n)) {
      // x Sigmoid(x) is a function of x: no quantizer between, where the target makes it one.
      const ValueId x = options_.target == Target::kOctet ? ArgumentOfGate(n) : kNoValue;
      if (x != kNoValue) {
        Mark(x, id);
      } else {
        MarkAll(n, id);
      }
    } else if (OneOf(n, std::array{"GlobalAveragePool", "AveragePool"}) ||
               (options_.target == Target::kOctet && IsMeanOfImage(n))) {
      if (graph_.value(n.inputs[0]).type.dims.size() == 4) MarkAll(n, id);
    } else if (FusesIntoProducer(n) || IsChannelBound(n)) {
      PullThroughActivation(n);
    } else if (IsActivationFunction(n, options_.target)) {
      Mark(n.inputs[0], id);
    } else if (const auto x = OperandBesideNumber(graph_, n);
               x && options_.target == Target::kOctet && IsFloatValue(n.inputs[*x]) &&
               ComesFromCodes(n.inputs[*x])) {
      Mark(n.inputs[*x], id);  // a table, or a scale
    }
  }

  // Whether INT8 operators make `v`, or could: not what float chains such as GELU end with.
  bool ComesFromCodes(ValueId v) const {
    if (readers_.contains(v)) return true;
    const NodeId p = graph_.value(v).producer;
    if (p == kNoNode) return false;
    const Node& n = graph_.node(p);
    if (IsMovement(n) || IsActivationFunction(n, options_.target))
      return ComesFromCodes(n.inputs[0]);
    return IsCompute(p) || IsBiasOfLayer(n) || IsPlainAdd(n) || FusesIntoProducer(n) ||
           OneOf(n, std::array{"MaxPool", "AveragePool", "GlobalAveragePool"});
  }

  // Codes are only moved; where a part is wanted in float, the whole is left so.
  void PullThroughSplit(NodeId id) {
    const Node& n = graph_.node(id);
    if (options_.excluded.contains(n.name) || !IsFloatValue(n.inputs[0]) ||
        !std::all_of(n.outputs.begin(), n.outputs.end(),
                     [&](ValueId v) { return v != kNoValue && readers_.contains(v); })) {
      return;
    }
    Mark(n.inputs[0], id);
    for (ValueId v : n.outputs) Union(n.inputs[0], v);
  }

  // Add -> Relu -> [Q]: no quantizer between, but the Add's own inputs get theirs.
  void PullThroughActivation(const Node& n) {
    ValueId x = n.inputs[0];
    if (!IsFloatValue(x)) x = n.inputs[1];
    const NodeId p = graph_.value(x).producer;
    if (p == kNoNode) return;
    const Node& producer = graph_.node(p);
    if (IsPlainAdd(producer)) {
      MarkAll(producer, p);
    } else if (FusesIntoProducer(producer) || IsChannelBound(producer)) {
      PullThroughActivation(producer);
    }
  }

  void MarkAll(const Node& n, NodeId id) {
    for (ValueId v : n.inputs) {
      if (IsFloatValue(v)) Mark(v, id);
    }
  }

  // TensorRT fuses Conv + Add + Relu if only the other operand of the Add is quantized.
  void ConsiderSkipConnection(NodeId id) {
    const Node& n = graph_.node(id);
    if (!IsPlainAdd(n) || options_.excluded.contains(n.name)) return;
    const auto from_compute = [&](ValueId v) {
      const NodeId p = graph_.value(v).producer;
      return p != kNoNode && uses_[static_cast<size_t>(v)].size() == 1 && IsCompute(p);
    };
    if (from_compute(n.inputs[0])) {
      Mark(n.inputs[1], id);
    } else if (from_compute(n.inputs[1])) {
      Mark(n.inputs[0], id);
    }
  }

  size_t Root(size_t v) {
    while (grid_[v] != static_cast<int>(v)) v = static_cast<size_t>(grid_[v]);
    return v;
  }
  void Union(ValueId a, ValueId b) {
    grid_[Root(static_cast<size_t>(a))] = static_cast<int>(Root(static_cast<size_t>(b)));
  }

  int ChannelAxis(ValueId v) const {
    const auto& type = graph_.value(v).type;
    if (!type.has_rank || type.dims.size() < 2) return -1;
    for (const Graph::Use& use : uses_[static_cast<size_t>(v)]) {
      if (use.input != 0) continue;
      const Node& n = graph_.node(use.node);
      if (n.Is("Conv")) return 1;
      if (n.Is("Gemm") || n.Is("MatMul")) return static_cast<int>(type.dims.size()) - 1;
    }
    return type.dims.size() >= 4 ? 1 : static_cast<int>(type.dims.size()) - 1;
  }

  void Collect(const std::vector<NodeId>& order) {
    const auto take = [&](ValueId v) {
      const auto it = readers_.find(v);
      if (it == readers_.end()) return;
      QuantizerPlan::Activation a{
          v, static_cast<int>(Root(static_cast<size_t>(v))), ChannelAxis(v), {}};
      a.second_operand = second_operands_.contains(v);
      if (options_.target == Target::kTensorRt || options_.compute_only)
        a.readers.assign(it->second.begin(), it->second.end());
      const auto& uses = uses_[static_cast<size_t>(v)];
      if (a.readers.empty() && std::any_of(uses.begin(), uses.end(), [&](const Graph::Use& use) {
            return ReadsFloat(use.node);
          })) {
        for (const Graph::Use& use : uses) {
          if (!ReadsFloat(use.node)) a.readers.push_back(use.node);
        }
        if (a.readers.empty()) return;
      }
      plan_.activations.push_back(std::move(a));
    };
    for (ValueId v : graph_.inputs) take(v);
    for (NodeId id : order) {
      for (ValueId v : graph_.node(id).outputs) {
        if (v != kNoValue) take(v);
      }
    }
  }

  const Graph& graph_;
  const PlacementOptions& options_;
  std::vector<std::vector<Graph::Use>> uses_;
  std::vector<int> grid_;  // union-find over values
  std::vector<NodeId> compute_;
  std::map<ValueId, std::set<NodeId>> readers_;  // values to quantize, and who asked
  std::set<ValueId> second_operands_;
  QuantizerPlan plan_;
};

// The type that a format's codes have in a file.
DType CodesType(const NumberFormat& format) {
  static const std::array<std::pair<const char*, DType>, 4> kFloat8 = {{
      {"float8_e4m3fn", DType::kFloat8E4M3Fn},
      {"float8_e4m3fnuz", DType::kFloat8E4M3FnUz},
      {"float8_e5m2", DType::kFloat8E5M2},
      {"float8_e5m2fnuz", DType::kFloat8E5M2FnUz},
  }};
  for (const auto& [name, dtype] : kFloat8) {
    if (format.is_float() && format.floating() == FloatFormat::Parse(name)) return dtype;
  }
  const bool is_signed = !format.is_float() && format.is_signed();
  if (format.bits() > 8) return is_signed ? DType::kInt16 : DType::kUint16;
  return is_signed ? DType::kInt8 : DType::kUint8;
}

Tensor ZeroPoints(DType dtype, std::span<const int32_t> values, const Shape& shape) {
  Tensor t(dtype, shape);
  auto* raw = static_cast<uint8_t*>(t.mutable_raw());
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kInt32) {
      t.mutable_data<int32_t>()[i] = values[i];
    } else {
      raw[i] = static_cast<uint8_t>(values[i]);  // 0, where it is float8
    }
  }
  return t;
}

Attribute FormatAttribute(const NumberFormat& format) { return format.Name(); }

void InsertActivation(Graph& graph, const QuantizerPlan::Activation& a,
                      const QuantizerParams& params) {
  const NumberFormat& format = params.ActivationFormat(a.value);
  const ScaleZero& grid = params.activations.at(a.value);
  const std::string name = graph.value(a.value).name;
  const ValueType type = graph.value(a.value).type;
  const bool standard = HasStandardQuantizer(format);
  const ValueId scale = graph.AddConstant(name + "_scale", Tensor::Scalar(grid.scale));
  const ValueId real = graph.AddValue(name + "_dequantized", type);
  const auto uses = graph.UsesOf(a.value);
  for (const Graph::Use& use : uses) {
    const bool wanted = a.readers.empty() ||
                        std::find(a.readers.begin(), a.readers.end(), use.node) != a.readers.end();
    if (wanted) graph.node(use.node).inputs[use.input] = real;
  }
  if (!standard) {
    std::vector<ValueId> inputs = {a.value, scale};
    if (!format.is_float() && !format.is_signed()) {
      inputs.push_back(graph.AddConstant(
          name + "_zero_point", ZeroPoints(DType::kInt32, std::array{grid.zero_point}, Shape{})));
    }
    if (const auto limit = params.activation_limits.find(a.value);
        limit != params.activation_limits.end()) {
      inputs.resize(3, kNoValue);
      inputs.push_back(graph.AddConstant(name + "_limit", Tensor::Scalar(limit->second)));
    }
    graph.AddOp("FakeQuantize", std::move(inputs), {real}, {{"format", FormatAttribute(format)}},
                name + "_FakeQuantize", "octet");
    return;
  }
  const DType dtype = CodesType(format);
  const ValueId zero = graph.AddConstant(name + "_zero_point",
                                         ZeroPoints(dtype, std::array{grid.zero_point}, Shape{}));
  ValueType code_type = type;
  code_type.dtype = dtype;
  const ValueId codes = graph.AddValue(name + "_quantized", code_type);
  graph.AddOp("QuantizeLinear", {a.value, scale, zero}, {codes}, {}, name + "_QuantizeLinear");
  graph.AddOp("DequantizeLinear", {codes, scale, zero}, {real}, {}, name + "_DequantizeLinear");
}

// codes of a constant, behind a DequantizeLinear, or, where a format is named, octet.Dequantize;
// returns the dequantized value.
ValueId InsertConstant(Graph& graph, const std::string& name, Tensor codes,
                       std::span<const float> scales, int axis, bool zero_point,
                       const NumberFormat* format = nullptr) {
  const auto n = static_cast<int64_t>(scales.size());
  const Shape shape = n == 1 ? Shape{} : Shape{n};
  const ValueType type = ValueType::Of(DType::kFloat32, codes.shape());
  const DType dtype = codes.dtype();
  const ValueId q = graph.AddConstant(name + "_quantized", std::move(codes));
  std::vector<ValueId> inputs = {
      q, graph.AddConstant(name + "_scale", Tensor::Of<float>(shape, scales))};
  if (zero_point && format == nullptr) {
    const std::vector<int32_t> zeros(scales.size(), 0);
    inputs.push_back(graph.AddConstant(name + "_zero_point", ZeroPoints(dtype, zeros, shape)));
  }
  const ValueId real = graph.AddValue(name + "_dequantized", type);
  std::map<std::string, Attribute> attributes;
  if (n > 1) attributes["axis"] = int64_t{axis};
  if (format != nullptr) {
    attributes["format"] = FormatAttribute(*format);
    graph.AddOp("Dequantize", std::move(inputs), {real}, std::move(attributes),
                name + "_Dequantize", "octet");
  } else {
    graph.AddOp("DequantizeLinear", std::move(inputs), {real}, std::move(attributes),
                name + "_DequantizeLinear");
  }
  return real;
}

Tensor CodesOf(const Tensor& values, const QuantParams& params) {
  Tensor codes(CodesType(params.format), values.shape());
  const Extents extents = ExtentsOf(values.shape().dims(), params.axis);
  const auto n = static_cast<size_t>(values.elements());
  const auto quantize = [&](auto code) {
    using Q = decltype(code);
    QuantizeArray<Q>(values.data<float>(), extents, params,
                     {static_cast<Q*>(codes.mutable_raw()), n});
  };
  switch (codes.dtype()) {
    case DType::kInt8:
      quantize(int8_t{});
      break;
    case DType::kInt16:
      quantize(int16_t{});
      break;
    case DType::kUint16:
      quantize(uint16_t{});
      break;
    default:
      quantize(uint8_t{});
  }
  return codes;
}

ValueId InsertWeight(Graph& graph, const QuantizerPlan::Weighted& w, const QuantParams& q) {
  const ValueId weight = graph.node(w.node).inputs[1];
  const Tensor& values = *graph.ConstantOf(weight);
  const std::string name = graph.value(weight).name;
  if (q.limit.empty()) {
    return InsertConstant(graph, name, CodesOf(values, q), q.scale, w.axis, true,
                          HasStandardQuantizer(q.format) ? nullptr : &q.format);
  }
  // Values beyond the format's codes: kept as floats.
  const auto n = static_cast<int64_t>(q.scale.size());
  const Shape shape = n == 1 ? Shape{} : Shape{n};
  const ValueId real =
      graph.AddValue(name + "_dequantized", ValueType::Of(DType::kFloat32, values.shape()));
  std::map<std::string, Attribute> attributes = {{"format", FormatAttribute(q.format)}};
  if (n > 1) attributes["axis"] = int64_t{w.axis};
  graph.AddOp("FakeQuantize",
              {weight, graph.AddConstant(name + "_scale", Tensor::Of<float>(shape, q.scale)),
               kNoValue, graph.AddConstant(name + "_limit", Tensor::Of<float>(shape, q.limit))},
              {real}, std::move(attributes), name + "_FakeQuantize", "octet");
  return real;
}

// The value that takes the place of `bias`, of a layer with these scales.
ValueId InsertBias(Graph& graph, ValueId bias, BiasForm form, std::span<const float> scales,
                   float input_scale) {
  const std::string name = graph.value(bias).name;
  const Tensor& b = *graph.ConstantOf(bias);
  std::vector<float> bias_scales;
  for (float s : scales) bias_scales.push_back(input_scale * s);
  const Shape shape{b.elements()};  // of what may be [1,N] behind a MatMul
  Tensor codes_of_bias(DType::kInt32, shape);
  Tensor on_grid(DType::kFloat32, shape);
  for (size_t c = 0; c < static_cast<size_t>(b.elements()); ++c) {
    const size_t i = scales.size() > 1 ? c : 0;
    const int32_t code = QuantizeBias(b.data<float>()[c], input_scale, scales[i], name);
    codes_of_bias.mutable_data<int32_t>()[c] = code;
    on_grid.mutable_data<float>()[c] = static_cast<float>(code) * bias_scales[i];
  }
  return form == BiasForm::kInt32
             ? InsertConstant(graph, name, std::move(codes_of_bias), bias_scales, 0, false)
             : graph.AddConstant(name + "_rounded", std::move(on_grid));
}

// An 8-bit integer: what INT8 kernels multiply.
bool IsInt8(const NumberFormat& format) { return !format.is_float() && format.bits() == 8; }

void InsertLayer(Graph& graph, const QuantizerPlan::Weighted& w, const QuantizerParams& params,
                 ValueId input) {
  const QuantParams q = params.WeightParams(w);
  graph.node(w.node).inputs[1] = InsertWeight(graph, w, q);
  const auto grid = params.activations.find(input);
  if (graph.node(w.node).input(2) == kNoValue || params.bias == BiasForm::kFloat ||
      grid == params.activations.end() || !IsInt8(q.format) ||
      !IsInt8(params.ActivationFormat(input)))
    return;
  graph.node(w.node).inputs[2] =
      InsertBias(graph, graph.node(w.node).inputs[2], params.bias, q.scale, grid->second.scale);
}

// In the form that was planned; as it is where that is int32 and the layer is not 8-bit integers.
void InsertAddedBias(Graph& graph, const QuantizerPlan& plan, const QuantizerPlan::AddedBias& added,
                     const QuantizerParams& params) {
  const ValueId bias = graph.node(added.add).inputs[added.input];
  if (added.form == QuantizerPlan::AddedBias::Form::kSpread) {
    const Tensor& b = *graph.ConstantOf(bias);
    const size_t rank = graph.value(graph.node(added.product).outputs[0]).type.dims.size();
    std::vector<int64_t> dims(rank, 1);
    dims.back() = b.elements();
    graph.node(added.add).inputs[added.input] = graph.AddConstant(
        graph.value(bias).name + "_spread", Tensor::Of<float>(Shape(dims), b.data<float>()));
    return;
  }
  const auto w = std::find_if(plan.weighted.begin(), plan.weighted.end(),
                              [&](const auto& e) { return e.node == added.product; });
  const ValueId input = graph.node(added.product).inputs[0];
  const auto grid = params.activations.find(input);
  if (w == plan.weighted.end() || params.bias != BiasForm::kInt32 ||
      grid == params.activations.end() || !IsInt8(params.WeightFormat(added.product)) ||
      !IsInt8(params.ActivationFormat(input))) {
    return;
  }
  graph.node(added.add).inputs[added.input] =
      InsertBias(graph, bias, params.bias, params.WeightParams(*w).scale, grid->second.scale);
}

}  // namespace

Target ParseTarget(std::string_view name) {
  for (Target t : {Target::kOctet, Target::kOnnxRuntime, Target::kTensorRt}) {
    if (TargetName(t) == name) return t;
  }
  Fail(ErrorCode::kInvalidArgument, "unknown target '", name,
       "'; expected octet, onnxruntime or tensorrt");
}

std::string_view TargetName(Target target) {
  switch (target) {
    case Target::kOctet:
      return "octet";
    case Target::kOnnxRuntime:
      return "onnxruntime";
    case Target::kTensorRt:
      return "tensorrt";
  }
  return "unknown";
}

const NumberFormat& QuantizerParams::ActivationFormat(ValueId value) const {
  const auto it = activation_formats.find(value);
  return it == activation_formats.end() ? activation_format : it->second;
}

const NumberFormat& QuantizerParams::WeightFormat(NodeId node) const {
  const auto it = weight_formats.find(node);
  return it == weight_formats.end() ? weight_format : it->second;
}

QuantParams QuantizerParams::WeightParams(const QuantizerPlan::Weighted& weighted) const {
  QuantParams q;
  q.scale = weight_scales.at(weighted.node);
  q.zero_point.assign(q.scale.size(), 0);
  q.axis = q.scale.size() > 1 ? weighted.axis : -1;
  q.format = WeightFormat(weighted.node);
  q.granularity = q.axis >= 0 ? Granularity::kChannel : Granularity::kTensor;
  if (const auto limit = weight_limits.find(weighted.node); limit != weight_limits.end())
    q.limit = limit->second;
  return q;
}

bool HasStandardQuantizer(const NumberFormat& format) {
  return format.is_float() ? IsFloat8(CodesType(format)) : format.bits() == 8;
}

int WeightChannelAxis(const Graph& graph, const Node& node) {
  if (node.Is("Conv")) return 0;
  if (node.Is("Gemm")) return node.GetInt("transB", 0) != 0 ? 0 : 1;
  return graph.ConstantOf(node.inputs[1])->shape().rank() - 1;
}

bool HasNoInt8Form(std::string_view op) { return op == "ConvTranspose" || IsRecurrent(op); }

QuantizerPlan PlanQuantizers(const Graph& graph, const PlacementOptions& options) {
  for (const std::string& name : options.excluded) {
    if (graph.FindNode(name) == kNoNode) {
      Fail(ErrorCode::kInvalidArgument, "the recipe excludes node '", name,
           "', which the model does not have");
    }
  }
  return Planner(graph, options).Run();
}

void InsertQuantizers(Graph& graph, const QuantizerPlan& plan, const QuantizerParams& params) {
  InsertQuantizersInPlace(graph, plan, params);
  graph.Compact();
}

void InsertQuantizersInPlace(Graph& graph, const QuantizerPlan& plan,
                             const QuantizerParams& params) {
  // Weights first: the scale of an integer bias needs the input as it was before quantizers came
  // between.
  for (const auto& w : plan.weighted) InsertLayer(graph, w, params, graph.node(w.node).inputs[0]);
  for (const auto& b : plan.added_biases) InsertAddedBias(graph, plan, b, params);
  for (const auto& a : plan.activations) InsertActivation(graph, a, params);
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (n.Is("DequantizeLinear") && IsFloat8(graph.value(n.inputs[0]).type.dtype)) {
      RaiseOperatorSetTo19(graph);
      break;
    }
  }
}

}  // namespace octet
