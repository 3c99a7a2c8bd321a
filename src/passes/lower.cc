#include "passes/lower.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "numerics/rounding.h"
#include "passes/functions_of_codes.h"
#include "passes/quantized_weights.h"
#include "passes/quantizers.h"

namespace octet {
namespace {

constexpr int64_t kOnnxFloat = 1, kOnnxUint8 = 2, kOnnxInt8 = 3;

bool IsMovement(const Node& n) {
  static constexpr std::array kOps = {"MaxPool",   "Reshape",      "Flatten",
                                      "Transpose", "Squeeze",      "Unsqueeze",
                                      "Slice",     "DepthToSpace", "Gather"};
  if (n.Is("Resize")) {  // picks codes
    return n.GetString("mode", "nearest") == "nearest" &&
           n.GetString("coordinate_transformation_mode", "") != "tf_crop_and_resize";
  }
  return n.domain.empty() && std::find(kOps.begin(), kOps.end(), n.op) != kOps.end();
}

// Real bounds collected from Relu, Clip and Min/Max with constants; one entry, or one per channel.
struct Bounds {
  std::vector<float> lo{-std::numeric_limits<float>::infinity()};
  std::vector<float> hi{std::numeric_limits<float>::infinity()};

  static void Tighten(std::vector<float>& bound, std::vector<float> other, bool lower) {
    if (bound.size() < other.size()) bound.resize(other.size(), bound[0]);
    for (size_t i = 0; i < bound.size(); ++i) {
      const float o = other.size() == 1 ? other[0] : other[i];
      bound[i] = lower ? std::max(bound[i], o) : std::min(bound[i], o);
    }
  }
  [[nodiscard]] bool per_channel() const { return lo.size() > 1 || hi.size() > 1; }
  [[nodiscard]] bool none() const {
    return !per_channel() && std::isinf(lo[0]) && std::isinf(hi[0]);
  }
};

// Quantizing is monotonic, so clamping to the code of a bound equals clamping the real value to the
// bound.
std::vector<int32_t> BoundCodes(const std::vector<float>& real, const QuantizerInfo& q) {
  std::vector<int32_t> codes;
  for (float b : real) {
    if (std::isinf(b)) {
      codes.push_back(b < 0 ? q.qmin() : q.qmax());
    } else {
      codes.push_back(QuantizeOne(b, q.scale[0], q.zero_point[0], q.qmin(), q.qmax()));
    }
  }
  return codes;
}

class Lowering {
 public:
  Lowering(Graph& graph, const EvaluateFn& evaluate, const LoweringOptions& options)
      : graph_(graph), evaluate_(evaluate), options_(options) {}

  LoweringReport Run() {
    for (NodeId id : graph_.TopologicalOrder()) {
      if (graph_.node(id).removed) continue;
      const Node& n = graph_.node(id);
      if (IsProductOfComputed(n)) {
        LowerProduct(id);
      } else if (n.Is("Conv") || n.Is("Gemm") || n.Is("MatMul")) {
        LowerWeighted(id);
      } else if (ArgumentOf(graph_, n)) {
        LowerFunction(id);
      } else if (n.Is("Add")) {
        LowerAdd(id);
      } else if (n.Is("Mul")) {
        LowerMul(id);
      } else if (n.Is("GlobalAveragePool") || n.Is("AveragePool") || IsMeanOfImage(n)) {
        LowerPool(id);
      } else if (n.Is("Concat")) {
        LowerConcat(id);
      } else if (n.Is("Split")) {
        LowerSplit(id);
      } else if (IsMovement(n)) {
        LowerMovement(id);
      }
    }
    for (NodeId id : graph_.TopologicalOrder()) {
      if (graph_.node(id).Is("QuantizeLinear")) LowerRequantize(id);
    }
    graph_.Compact();
    graph_.opsets["octet"] = 1;
    return std::move(report_);
  }

 private:
  void Keep(NodeId id, const std::string& reason) {
    const Node& n = graph_.node(id);
    report_.kept.push_back({n.name, n.op, reason});
  }

  // The one reader of a value that is not a graph output, or kNoNode.
  NodeId OnlyUse(ValueId v) const {
    if (graph_.IsOutput(v)) return kNoNode;
    const auto uses = graph_.UsesOf(v);
    return uses.size() == 1 ? uses[0].node : kNoNode;
  }

  ValueId Ints(const std::string& name, const std::vector<int32_t>& values) {
    return graph_.AddConstant(
        name, Tensor::Of<int32_t>(Shape{static_cast<int64_t>(values.size())}, values));
  }

  // Takes Relu, Clip, Min and Max with constants behind `v` into `bounds`; returns the value behind
  // them. `channels` and the rank of v tell whether a constant is per channel.
  ValueId TakeActivations(ValueId v, int64_t channels, bool channels_last, Bounds& bounds) const {
    while (true) {
      const NodeId use = OnlyUse(v);
      if (use == kNoNode) return v;
      const Node& n = graph_.node(use);
      if (n.Is("Relu")) {
        Bounds::Tighten(bounds.lo, {0.0F}, true);
      } else if (n.Is("Clip")) {
        for (size_t i = 1; i <= 2; ++i) {
          const Tensor* b = graph_.ConstantOf(n.input(i));
          if (b == nullptr && n.input(i) != kNoValue) return v;
          if (b != nullptr)
            Bounds::Tighten(i == 1 ? bounds.lo : bounds.hi, {b->data<float>()[0]}, i == 1);
        }
      } else if ((n.Is("Max") || n.Is("Min")) && n.inputs.size() == 2) {
        const size_t side = n.inputs[0] == v ? 1 : 0;
        const Tensor* b = graph_.ConstantOf(n.inputs[side]);
        if (b == nullptr || b->dtype() != DType::kFloat32) return v;
        const auto rank = static_cast<int>(graph_.value(v).type.dims.size());
        if (b->shape().rank() > rank) return v;  // adds axes
        const int trailing = channels_last ? 0 : rank - 2;
        const int axis = b->shape().rank() - 1 - trailing;
        const bool per_channel =
            axis >= 0 && b->elements() == channels && b->shape()[axis] == channels;
        if (b->elements() != 1 && !per_channel) return v;
        Bounds::Tighten(n.Is("Max") ? bounds.lo : bounds.hi,
                        {b->data<float>().begin(), b->data<float>().end()}, n.Is("Max"));
      } else {
        return v;
      }
      v = n.outputs[0];
    }
  }

  // The QuantizeLinear that alone reads `v`, if its codes are 8-bit and per tensor.
  std::optional<QuantizerInfo> QuantizerBehind(ValueId v) const {
    const NodeId use = OnlyUse(v);
    if (use == kNoNode || !graph_.node(use).Is("QuantizeLinear")) return std::nullopt;
    auto q = QuantizerOf(graph_, use);
    return q && q->is_activation() ? q : std::nullopt;
  }

  std::string UnsupportedForm(const Node& n) const {
    if (n.Is("Gemm")) {
      if (n.GetInt("transA", 0) != 0) return "transA is set";
      if (n.GetFloat("alpha", 1) != 1) return "alpha is not 1";
      if (n.input(2) != kNoValue && n.GetFloat("beta", 1) != 1) return "beta is not 1";
    }
    if (n.Is("Conv")) {
      const ValueType& x = graph_.value(n.inputs[0]).type;
      if (!x.has_rank || x.dims.size() > 4) return "it is not a 1-D or 2-D convolution";
    }
    return {};
  }

  struct Tail {
    Bounds bounds;                           // before the (first) quantizer
    std::optional<QuantizerInfo> quantizer;  // first quantizer behind the node, if any
    // residual block: Add behind the node, or behind its quantizer
    std::optional<QuantizerInfo> residual;
    bool mid_codes = false;
    Bounds outer;                          // behind the Add
    std::optional<QuantizerInfo> outer_q;  // behind the Add
    ValueId end = kNoValue;  // float value the fused node makes where there is no quantizer
  };

  // Add(v, DQ(r)) -> activations -> Q behind `v`.
  bool TakeResidual(ValueId v, int64_t channels, bool channels_last, Tail& tail) const {
    const NodeId use = OnlyUse(v);
    if (use == kNoNode || !graph_.node(use).Is("Add")) return false;
    const Node& add = graph_.node(use);
    const ValueId other = add.inputs[0] == v ? add.inputs[1] : add.inputs[0];
    if (other == v) return false;
    const auto r = DequantizerOf(graph_, other);
    const ValueType& tv = graph_.value(v).type;
    const ValueType& to = graph_.value(other).type;
    if (!r || !r->is_activation() || graph_.ConstantOf(r->codes) != nullptr || !tv.has_rank ||
        !to.has_rank || tv.dims != to.dims) {
      return false;
    }
    Bounds outer;
    const ValueId end = TakeActivations(add.outputs[0], channels, channels_last, outer);
    const auto q = QuantizerBehind(end);
    if (!q) return false;
    tail.residual = r;
    tail.outer = outer;
    tail.outer_q = q;
    return true;
  }

  // What follows `from`, which is the output of node n or of the addition of its bias.
  Tail FollowTail(const Node& n, ValueId from, int64_t channels) const {
    const bool channels_last = !n.Is("Conv");
    Tail tail;
    tail.end = from;
    if (TakeResidual(from, channels, channels_last, tail)) return tail;
    Bounds bounds;
    const ValueId end = TakeActivations(from, channels, channels_last, bounds);
    tail.quantizer = QuantizerBehind(end);
    if (!tail.quantizer) {
      if (!bounds.per_channel()) {
        tail.bounds = bounds;
        tail.end = end;
      }
      return tail;
    }
    tail.bounds = bounds;
    if (bounds.per_channel() || options_.keep_codes) return tail;
    const NodeId dq = OnlyUse(tail.quantizer->codes);
    if (dq == kNoNode || !graph_.node(dq).Is("DequantizeLinear")) return tail;
    const auto back = QuantizerOf(graph_, dq);
    if (back && back->SameGrid(*tail.quantizer)) {
      tail.mid_codes = TakeResidual(back->real, channels, channels_last, tail);
    }
    return tail;
  }

  // What a MatMul's result goes through first: the addition of one number per column.
  struct AddedBias {
    ValueId value = kNoValue;
    ValueId sum = kNoValue;
  };
  AddedBias BiasBehind(const Node& n, int64_t channels) const {
    const NodeId use = n.Is("MatMul") ? OnlyUse(n.outputs[0]) : kNoNode;
    if (use == kNoNode || !graph_.node(use).Is("Add")) return {};
    const Node& add = graph_.node(use);
    const ValueId other = add.inputs[0] == n.outputs[0] ? add.inputs[1] : add.inputs[0];
    const auto q = DequantizerOf(graph_, other);
    const Tensor* b = graph_.ConstantOf(q ? q->codes : other);
    if (b == nullptr || b->dtype() != (q ? DType::kInt32 : DType::kFloat32) ||
        !IsNumberPerColumn(b->shape(), channels, graph_.value(n.outputs[0]).type)) {
      return {};
    }
    return {other, add.outputs[0]};
  }

  // MatMul -> Add of int32 codes on the accumulator's grid: the bias of a Gemm. `tail` is then what
  // follows the Add.
  std::optional<std::vector<int32_t>> TakeIntegerBias(const Node& n, float x_scale,
                                                      const QuantizedWeights& w, Tail& tail) const {
    const AddedBias added = BiasBehind(n, w.channels);
    const auto q = DequantizerOf(graph_, added.value);
    if (!q) return std::nullopt;
    for (size_t i = 0; i < w.scale.size(); ++i) {
      if (q->scale[q->per_tensor() ? 0 : i] != x_scale * w.scale[i]) return std::nullopt;
    }
    std::string refused;
    auto bias = ReadBiasCodes(graph_, added.value, x_scale, w, refused);
    if (bias) tail = FollowTail(n, added.sum, w.channels);
    return bias;
  }

  // MatMul -> Add of a float constant: the result is float, so that nothing is rounded that the
  // graph does not round; a quantizer behind is an operator of its own.
  ValueId TakeFloatBias(const Node& n, int64_t channels, Tail& tail) const {
    const AddedBias added = BiasBehind(n, channels);
    if (added.value == kNoValue || graph_.ConstantOf(added.value) == nullptr) return kNoValue;
    Tail behind;
    behind.end = TakeActivations(added.sum, channels, true, behind.bounds);
    if (behind.bounds.per_channel()) {
      behind.bounds = {};
      behind.end = added.sum;
    }
    tail = behind;
    return added.value;
  }

  bool IsProductOfComputed(const Node& n) const {
    if (!n.Is("MatMul")) return false;
    const auto b = DequantizerOf(graph_, n.inputs[1]);
    return graph_.ConstantOf(b ? b->codes : n.inputs[1]) == nullptr;
  }

  // MatMul of two computed operands: attention's products.
  void LowerProduct(NodeId id) {
    const Node n = graph_.node(id);
    const auto a = DequantizerOf(graph_, n.inputs[0]), b = DequantizerOf(graph_, n.inputs[1]);
    if (!a && !b) return Keep(id, "both operands are computed, and float32");
    if (!a || !b || !a->is_activation() || !b->is_activation())
      return Keep(id, "one of its operands is not quantized to 8 bits per tensor");
    if (b->dtype != DType::kInt8 || b->zero_point[0] != 0)
      return Keep(id, "its second operand is not int8 about 0");
    for (const ValueId v : {n.inputs[0], n.inputs[1]}) {
      if (graph_.value(v).type.dims.size() < 2) return Keep(id, "an operand is a vector");
    }
    const auto y = QuantizerBehind(n.outputs[0]);
    const float product = a->scale[0] * b->scale[0];
    Replace(id, y ? y->codes : n.outputs[0], "QMatMul", {a->codes, b->codes},
            {{"a_zero_point", int64_t{a->zero_point[0]}},
             {"multiplier", y ? product / y->scale[0] : product},
             {"y_zero_point", int64_t{y ? y->zero_point[0] : 0}},
             {"output_dtype", !y                          ? kOnnxFloat
                              : y->dtype == DType::kUint8 ? kOnnxUint8
                                                          : kOnnxInt8}});
  }

  void LowerWeighted(NodeId id) {
    const Node n = graph_.node(id);
    const auto x = DequantizerOf(graph_, n.inputs[0]);
    if (!x || !x->is_activation())
      return Keep(id, "its input is not quantized to 8 bits per tensor");
    if (auto why = UnsupportedForm(n); !why.empty()) return Keep(id, why);
    const QuantizedWeights w = ReadQuantizedWeights(graph_, n);
    if (!w.refused.empty()) return Keep(id, w.refused);
    std::string refused;
    auto bias = ReadBiasCodes(graph_, n.input(2), x->scale[0], w, refused);
    if (!bias) return Keep(id, refused);

    Tail tail = FollowTail(n, n.outputs[0], w.channels);
    ValueId float_bias = kNoValue;
    if (auto added = TakeIntegerBias(n, x->scale[0], w, tail)) {
      bias = std::move(added);
    } else {
      float_bias = TakeFloatBias(n, w.channels, tail);
    }
    const bool float_output = !tail.quantizer && !tail.outer_q;
    const QuantizerInfo* first =
        tail.quantizer ? &*tail.quantizer : (tail.outer_q ? &*tail.outer_q : nullptr);
    std::vector<float> multiplier;
    for (float sw : w.scale)
      multiplier.push_back(first ? x->scale[0] * sw / first->scale[0] : x->scale[0] * sw);

    std::map<std::string, Attribute> attributes = n.attributes;
    for (const char* drop : {"alpha", "beta", "transA"}) attributes.erase(drop);
    attributes["x_zero_point"] = int64_t{x->zero_point[0]};
    std::vector<ValueId> inputs(8, kNoValue);
    inputs[0] = x->codes;
    inputs[1] = w.value;
    if (!bias->empty()) inputs[2] = Ints(n.name + ".bias_codes", *bias);
    inputs[3] = graph_.AddConstant(n.name + ".multiplier",
                                   Tensor::Of<float>(Shape{w.channels}, multiplier));

    ValueId out = tail.end;
    if (float_output) {
      attributes["output_dtype"] = kOnnxFloat;
      if (std::isfinite(tail.bounds.lo[0])) attributes["float_lo"] = tail.bounds.lo[0];
      if (std::isfinite(tail.bounds.hi[0])) attributes["float_hi"] = tail.bounds.hi[0];
      inputs[7] = float_bias;
    } else {
      const QuantizerInfo& y = tail.outer_q ? *tail.outer_q : *tail.quantizer;
      attributes["output_dtype"] = y.dtype == DType::kUint8 ? kOnnxUint8 : kOnnxInt8;
      attributes["y_zero_point"] = int64_t{y.zero_point[0]};
      const Bounds& bounds = tail.outer_q ? tail.outer : tail.bounds;
      if (!bounds.none()) {
        inputs[4] = Ints(n.name + ".lo", BoundCodes(bounds.lo, y));
        inputs[5] = Ints(n.name + ".hi", BoundCodes(bounds.hi, y));
      }
      if (tail.residual) {
        inputs[6] = tail.residual->codes;
        attributes["residual_zero_point"] = int64_t{tail.residual->zero_point[0]};
        attributes["residual_ratio"] = tail.residual->scale[0] / y.scale[0];
        attributes["mid_codes"] = int64_t{tail.mid_codes ? 1 : 0};
        if (tail.mid_codes) {
          attributes["mid_zero_point"] = int64_t{tail.quantizer->zero_point[0]};
          attributes["mid_lo"] = int64_t{BoundCodes(tail.bounds.lo, *tail.quantizer)[0]};
          attributes["mid_hi"] = int64_t{BoundCodes(tail.bounds.hi, *tail.quantizer)[0]};
          attributes["mid_ratio"] = tail.quantizer->scale[0] / y.scale[0];
        }
      }
      out = y.codes;
    }
    while (inputs.back() == kNoValue) inputs.pop_back();
    Replace(id, out, n.Is("Conv") ? "QConv" : "QGemm", std::move(inputs), std::move(attributes));
  }

  // The node that made `out` goes, and with it all that was fused on the way; a node of domain
  // octet makes it now.
  void Replace(NodeId id, ValueId out, const std::string& op, std::vector<ValueId> inputs,
               std::map<std::string, Attribute> attributes) {
    const std::string name = graph_.node(id).name;
    const NodeId producer = graph_.value(out).producer;
    std::vector<ValueId> read = graph_.node(id).inputs;
    graph_.RemoveNode(id);
    if (producer != id) {
      const auto& more = graph_.node(producer).inputs;
      read.insert(read.end(), more.begin(), more.end());
      graph_.RemoveNode(producer);
    }
    graph_.AddOp(op, std::move(inputs), {out}, std::move(attributes), name, "octet");
    for (ValueId v : read) RemoveUnread(v);
    ++report_.lowered;
  }

  // Removes what makes `v` if nobody reads it any more, and what was only there for that.
  void RemoveUnread(ValueId v) {
    if (v == kNoValue || graph_.IsOutput(v) || !graph_.UsesOf(v).empty()) return;
    const NodeId producer = graph_.value(v).producer;
    if (producer == kNoNode) return;
    const std::vector<ValueId> read = graph_.node(producer).inputs;
    graph_.RemoveNode(producer);
    for (ValueId input : read) RemoveUnread(input);
  }

  void LowerAdd(NodeId id) {
    const Node n = graph_.node(id);
    const auto a = DequantizerOf(graph_, n.inputs[0]);
    const auto b = DequantizerOf(graph_, n.inputs[1]);
    if (!a && !b) return;  // a float island's own business
    if (!a || !b || !a->is_activation() || !b->is_activation())
      return Keep(id, "one of its inputs is not quantized");
    const ValueType& ta = graph_.value(n.inputs[0]).type;
    const ValueType& tb = graph_.value(n.inputs[1]).type;
    if (!ta.has_rank || !tb.has_rank || ta.dims != tb.dims) return Keep(id, "it broadcasts");
    Bounds bounds;
    const ValueId end = TakeActivations(n.outputs[0], -1, false, bounds);
    const auto y = QuantizerBehind(end);
    if (!y || bounds.per_channel()) return Keep(id, "its output is not quantized");
    if (a->dtype != b->dtype || a->dtype != y->dtype)
      return Keep(id, "its inputs and output differ in type");
    Replace(id, y->codes, "QAdd", {a->codes, b->codes},
            {{"a_zero_point", int64_t{a->zero_point[0]}},
             {"b_zero_point", int64_t{b->zero_point[0]}},
             {"y_zero_point", int64_t{y->zero_point[0]}},
             {"a_ratio", a->scale[0] / y->scale[0]},
             {"b_ratio", b->scale[0] / y->scale[0]},
             {"lo", int64_t{BoundCodes(bounds.lo, *y)[0]}},
             {"hi", int64_t{BoundCodes(bounds.hi, *y)[0]}}});
  }

  void LowerPool(NodeId id) {
    const Node n = graph_.node(id);
    const auto x = DequantizerOf(graph_, n.inputs[0]);
    if (!x) return;
    const auto y = QuantizerBehind(n.outputs[0]);
    if (!x->is_activation() || !y) return Keep(id, "its output is not quantized");
    if (x->dtype != y->dtype) return Keep(id, "its input and output differ in type");
    const auto& dims = graph_.value(n.inputs[0]).type.dims;
    if (dims.size() != 4) return Keep(id, "its input does not have rank 4");
    const bool mean = n.Is("ReduceMean");
    auto attributes = mean ? std::map<std::string, Attribute>() : n.attributes;
    attributes["x_zero_point"] = int64_t{x->zero_point[0]};
    attributes["y_zero_point"] = int64_t{y->zero_point[0]};
    attributes["ratio"] = x->scale[0] / y->scale[0];
    Replace(id, y->codes, mean ? "QGlobalAveragePool" : "Q" + n.op, {x->codes},
            std::move(attributes));
  }

  // ReduceMean over both axes of images, which keeps them: a GlobalAveragePool.
  bool IsMeanOfImage(const Node& n) const {
    const ValueType& x = graph_.value(n.input(0)).type;
    if (!n.Is("ReduceMean") || n.GetInt("keepdims", 1) == 0 || x.dims.size() != 4) return false;
    std::vector<int64_t> axes = n.GetInts("axes", {});
    if (const Tensor* t = graph_.ConstantOf(n.input(1));
        t != nullptr && t->dtype() == DType::kInt64) {
      axes.assign(t->data<int64_t>().begin(), t->data<int64_t>().end());
    }
    for (int64_t& axis : axes) axis = axis < 0 ? axis + 4 : axis;
    std::sort(axes.begin(), axes.end());
    return axes == std::vector<int64_t>{2, 3};
  }

  std::vector<FunctionOfCodes> Functions(ValueId v) const {
    return FunctionsOfCodes(graph_, evaluate_, v, !options_.keep_codes);
  }

  // x Sigmoid(x), x HardSigmoid(x), ...: both operands are functions of the same codes, so the
  // product is a table, whatever quantizers stand between.
  bool LowerProductOfOne(NodeId id, const QuantizerInfo& y, const Bounds& bounds) {
    const Node n = graph_.node(id);
    for (const FunctionOfCodes& a : Functions(n.inputs[0])) {
      for (const FunctionOfCodes& b : Functions(n.inputs[1])) {
        if (a.base != b.base) continue;
        RealByCode real{};
        for (size_t i = 0; i < 256; ++i) {
          const float v = a.real[i] * b.real[i];
          real[i] = std::min(std::max(v, bounds.lo[0]), bounds.hi[0]);
        }
        const NodeId quantizer = graph_.value(y.codes).producer;
        std::vector<ValueId> read = n.inputs;
        read.push_back(graph_.node(quantizer).inputs[0]);
        graph_.RemoveNode(quantizer);
        graph_.RemoveNode(id);
        QuantizerInfo x = y;
        x.codes = a.base;
        AddLookup(x, y, real, y.codes);
        for (ValueId v : read) RemoveUnread(v);
        ++report_.lowered;
        return true;
      }
    }
    return false;
  }

  // True where `gate` has one number per image and channel of `image`.
  bool IsGateOf(const ValueType& gate, const ValueType& image) const {
    return gate.has_rank && image.has_rank && gate.dims.size() == 4 && image.dims.size() == 4 &&
           gate.dims[0] == image.dims[0] && gate.dims[1] == image.dims[1] && gate.dims[2] == 1 &&
           gate.dims[3] == 1;
  }

  void LowerMul(NodeId id) {
    const Node n = graph_.node(id);
    Bounds bounds;
    const ValueId end = TakeActivations(n.outputs[0], -1, false, bounds);
    const auto y = QuantizerBehind(end);
    if (y && !bounds.per_channel() && LowerProductOfOne(id, *y, bounds)) return;
    auto a = DequantizerOf(graph_, n.inputs[0]);
    auto b = DequantizerOf(graph_, n.inputs[1]);
    if (!a && !b) return;  // a float island's own business
    if (!a || !b || !a->is_activation() || !b->is_activation())
      return Keep(id, "one of its inputs is not quantized");
    if (!y || bounds.per_channel()) return Keep(id, "its output is not quantized");
    if (a->dtype != b->dtype || a->dtype != y->dtype)
      return Keep(id, "its inputs and output differ in type");
    const ValueType ta = graph_.value(n.inputs[0]).type, tb = graph_.value(n.inputs[1]).type;
    if (IsGateOf(ta, tb) && !IsGateOf(tb, ta)) std::swap(a, b);
    if (!IsGateOf(ta, tb) && !IsGateOf(tb, ta) &&
        (!ta.has_rank || !tb.has_rank || ta.dims != tb.dims)) {
      return Keep(id, "it broadcasts");
    }
    Replace(id, y->codes, "QMul", {a->codes, b->codes},
            {{"a_zero_point", int64_t{a->zero_point[0]}},
             {"b_zero_point", int64_t{b->zero_point[0]}},
             {"y_zero_point", int64_t{y->zero_point[0]}},
             {"a_scale", a->scale[0]},
             {"b_scale", b->scale[0]},
             {"y_scale", y->scale[0]},
             {"lo", int64_t{BoundCodes(bounds.lo, *y)[0]}},
             {"hi", int64_t{BoundCodes(bounds.hi, *y)[0]}}});
  }

  // Codes of `from` on the grid of `to`.
  ValueId Requantized(const QuantizerInfo& from, const QuantizerInfo& to) {
    if (from.SameGrid(to)) return from.codes;
    return AddLookup(from, to, RealOfCodes(from),
                     graph_.AddValue(graph_.value(from.codes).name + "_requantized",
                                     graph_.value(to.codes).type));
  }

  ValueId AddLookup(const QuantizerInfo& x, const QuantizerInfo& y, const RealByCode& real,
                    ValueId out) {
    Tensor table(DType::kUint8, Shape{256});
    auto d = table.mutable_data<uint8_t>();
    for (size_t i = 0; i < 256; ++i) {
      d[i] = static_cast<uint8_t>(
          QuantizeOne(real[i], y.scale[0], y.zero_point[0], y.qmin(), y.qmax()));
    }
    graph_.value(out).type = graph_.value(x.codes).type;
    graph_.value(out).type.dtype = y.dtype;
    const ValueId t = graph_.AddConstant(graph_.value(out).name + "_table", std::move(table));
    graph_.AddOp("QLookup", {x.codes, t}, {out},
                 {{"output_dtype", y.dtype == DType::kUint8 ? kOnnxUint8 : kOnnxInt8}}, {},
                 "octet");
    return out;
  }

  void LowerConcat(NodeId id) {
    const Node n = graph_.node(id);
    const auto y = QuantizerBehind(n.outputs[0]);
    std::vector<QuantizerInfo> xs;
    for (ValueId v : n.inputs) {
      const auto x = DequantizerOf(graph_, v);
      if (!x || !x->is_activation()) {
        if (y) Keep(id, "one of its inputs is not quantized");
        return;
      }
      xs.push_back(*x);
    }
    if (!y) return Keep(id, "its output is not quantized");
    std::vector<ValueId> inputs;
    for (const auto& x : xs) inputs.push_back(Requantized(x, *y));
    graph_.RemoveNode(y->node);
    graph_.RemoveNode(id);
    graph_.AddOp("Concat", std::move(inputs), {y->codes}, n.attributes, n.name);
    ++report_.lowered;
  }

  void LowerMovement(NodeId id) {
    const Node n = graph_.node(id);
    const auto x = DequantizerOf(graph_, n.inputs[0]);
    if (!x || !x->is_activation()) return;
    const auto y = QuantizerBehind(n.outputs[0]);
    if (!y) return Keep(id, "its output is not quantized");
    auto inputs = n.inputs;
    inputs[0] = x->codes;
    if (x->SameGrid(*y)) {
      graph_.RemoveNode(y->node);
      graph_.RemoveNode(id);
      graph_.AddOp(n.op, std::move(inputs), {y->codes}, n.attributes, n.name);
    } else {
      ValueType type = graph_.value(n.outputs[0]).type;
      type.dtype = x->dtype;
      const ValueId moved = graph_.AddValue(graph_.value(n.outputs[0]).name + "_codes", type);
      graph_.RemoveNode(y->node);
      graph_.RemoveNode(id);
      graph_.AddOp(n.op, std::move(inputs), {moved}, n.attributes, n.name);
      QuantizerInfo from = *x;
      from.codes = moved;
      AddLookup(from, *y, RealOfCodes(from), y->codes);
    }
    ++report_.lowered;
  }

  void LowerFunction(NodeId id) {
    const Node n = graph_.node(id);
    const size_t argument = *ArgumentOf(graph_, n);
    const auto x = DequantizerOf(graph_, n.inputs[argument]);
    if (!x || !x->is_activation()) return;
    const auto y = QuantizerBehind(n.outputs[0]);
    if (!y) {
      // x Sigmoid(x) is lowered as one.
      const NodeId use = OnlyUse(n.outputs[0]);
      if (use != kNoNode && graph_.node(use).Is("Mul")) return;
      return Keep(id, "its output is not quantized");
    }
    const auto real = Apply(graph_, evaluate_, n, argument, RealOfCodes(*x));
    if (!real) return Keep(id, "it has a computed parameter");
    graph_.RemoveNode(y->node);
    graph_.RemoveNode(id);
    if (x->dtype == y->dtype && GivesCodesBack(*real, *y) && !graph_.IsOutput(y->codes) &&
        !options_.keep_codes) {
      graph_.ReplaceUses(y->codes, x->codes);
    } else {
      AddLookup(*x, *y, *real, y->codes);
    }
    ++report_.lowered;
  }

  // Codes are split as they are; a part on another grid goes through a table, and one that nobody
  // quantizes is dequantized behind the Split.
  void LowerSplit(NodeId id) {
    const Node n = graph_.node(id);
    const auto x = DequantizerOf(graph_, n.inputs[0]);
    if (!x || !x->is_activation()) return;
    if (std::none_of(n.outputs.begin(), n.outputs.end(),
                     [&](ValueId v) { return v != kNoValue && QuantizerBehind(v).has_value(); })) {
      return Keep(id, "none of its outputs is quantized");
    }
    const Node dequantizer = graph_.node(x->node);
    graph_.RemoveNode(id);
    auto inputs = n.inputs;
    inputs[0] = x->codes;
    std::vector<ValueId> parts;
    for (ValueId v : n.outputs) {
      if (v == kNoValue) {
        parts.push_back(kNoValue);
        continue;
      }
      const auto y = QuantizerBehind(v);
      ValueType type = graph_.value(v).type;
      type.dtype = x->dtype;
      if (y && x->SameGrid(*y)) {
        graph_.RemoveNode(y->node);
        parts.push_back(y->codes);
        continue;
      }
      QuantizerInfo from = *x;
      from.codes = graph_.AddValue(graph_.value(v).name + "_codes", type);
      parts.push_back(from.codes);
      if (y) {
        graph_.RemoveNode(y->node);
        AddLookup(from, *y, RealOfCodes(from), y->codes);
      } else {
        auto read = dequantizer.inputs;
        read[0] = from.codes;
        graph_.AddOp("DequantizeLinear", std::move(read), {v}, dequantizer.attributes,
                     graph_.value(v).name + "_DequantizeLinear");
      }
    }
    graph_.AddOp("Split", std::move(inputs), std::move(parts), n.attributes, n.name);
    RemoveUnread(n.inputs[0]);
    ++report_.lowered;
  }

  // DequantizeLinear -> QuantizeLinear with nothing between.
  void LowerRequantize(NodeId id) {
    const auto y = QuantizerOf(graph_, id);
    if (!y || !y->is_activation()) return;
    const auto x = DequantizerOf(graph_, y->real);
    if (!x || !x->is_activation()) return;
    if (x->SameGrid(*y) && !graph_.IsOutput(y->codes) && !options_.keep_codes) {
      graph_.RemoveNode(id);
      graph_.ReplaceUses(y->codes, x->codes);
      return;
    }
    graph_.RemoveNode(id);
    AddLookup(*x, *y, RealOfCodes(*x), y->codes);
  }

  Graph& graph_;
  const EvaluateFn& evaluate_;
  const LoweringOptions& options_;
  LoweringReport report_;
};

}  // namespace

LoweringReport Lower(Graph& graph, const EvaluateFn& evaluate, const LoweringOptions& options) {
  return Lowering(graph, evaluate, options).Run();
}

}  // namespace octet
