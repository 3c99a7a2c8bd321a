// Which operators ONNX Runtime fuses: its QDQ selectors, WeightBiasQuantization and QDQ propagation
// (peers.md §D.2), as of version 1.31.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "passes/audit_rules.h"

namespace octet {
namespace {

constexpr int64_t kMaxOpset = 26;  // the newest that version 1.31 loads

// Operators that quantizers are moved across before node groups are looked for.
bool Propagates(const Node& n) {
  static constexpr std::array kOps = {"MaxPool", "Reshape",   "Transpose",
                                      "Squeeze", "Unsqueeze", "Slice"};
  return n.domain.empty() && std::find(kOps.begin(), kOps.end(), n.op) != kOps.end();
}

class Rules {
 public:
  Rules(const AuditView& view, const Node& node) : view_(view), graph_(view.graph()), node_(node) {}

  AuditVerdict Judge() const {
    if (node_.op == "Conv" || node_.op == "ConvTranspose") return Conv();
    if (node_.op == "Gemm") return Gemm();
    if (node_.op == "MatMul") return MatMul();
    if (node_.op == "MaxPool") return MaxPool();
    if (node_.op == "Add" || node_.op == "Concat") return AllOneType();
    return AllOneType();  // AveragePool, GlobalAveragePool: one input
  }

 private:
  // int8 codes of an activation are made uint8 (same grid, zero point + 128) where one
  // QuantizeLinear feeds one DequantizeLinear, which feeds one operator; what stays int8 is not
  // fused on x86-64.
  bool BecomesUnsigned(const QuantizerInfo& q) const {
    const NodeId maker = graph_.value(q.codes).producer;
    if (maker == kNoNode || !graph_.node(maker).Is("QuantizeLinear") ||
        graph_.node(maker).input(2) == kNoValue) {
      return false;
    }
    const NodeId reader = view_.OnlyReader(q.codes);
    if (reader == kNoNode || !graph_.node(reader).Is("DequantizeLinear")) return false;
    const auto back = QuantizerOf(graph_, reader);
    if (!back || !back->per_tensor() || back->dtype != DType::kInt8 ||
        graph_.node(reader).input(2) == kNoValue) {
      return false;
    }
    // A DequantizeLinear with several readers is first given a twin for each of them.
    return view_.UsesOf(back->real).size() + (graph_.IsOutput(back->real) ? 1 : 0) <= 1;
  }

  std::optional<QuantizerInfo> AsOptimized(std::optional<QuantizerInfo> q) const {
    if (q && q->per_tensor() && q->dtype == DType::kInt8 && BecomesUnsigned(*q)) {
      q->dtype = DType::kUint8;
      q->zero_point[0] += 128;
    }
    return q;
  }

  // The DequantizeLinear behind a value; with the movements it is propagated across.
  std::optional<QuantizerInfo> Dequantized(ValueId v) const {
    while (v != kNoValue) {
      if (auto q = DequantizerOf(graph_, v)) return AsOptimized(std::move(q));
      const NodeId p = graph_.value(v).producer;
      if (p == kNoNode || !Propagates(graph_.node(p))) return std::nullopt;
      v = graph_.node(p).input(0);
    }
    return std::nullopt;
  }

  // The single QuantizeLinear that the output leads to, or a reason.
  std::optional<QuantizerInfo> Quantized(AuditVerdict& why) const {
    return QuantizedBehind(node_.outputs[0], why);
  }
  std::optional<QuantizerInfo> QuantizedBehind(const ValueId from, AuditVerdict& why) const {
    ValueId v = from;
    bool clip_seen = false;
    while (true) {
      if (graph_.IsOutput(v)) {
        why = AuditVerdict::Float("graph-output", Cat(view_.NameOf(v),
                                                      " is a graph output, so no QuantizeLinear "
                                                      "can be fused behind it"));
        return std::nullopt;
      }
      const auto& uses = view_.UsesOf(v);
      if (uses.empty()) {
        why = AuditVerdict::Float("no-output-quantizer", Cat(view_.NameOf(v), " is not read"));
        return std::nullopt;
      }
      if (uses.size() > 1) {
        why = AuditVerdict::Float("several-readers", Cat(view_.NameOf(v), " has ", uses.size(),
                                                         " readers, expected one QuantizeLinear"));
        return std::nullopt;
      }
      const Node& n = graph_.node(uses[0].node);
      if (n.Is("QuantizeLinear")) {
        const auto q = AsOptimized(QuantizerOf(graph_, uses[0].node));
        if (!q || !q->per_tensor()) {
          why = AuditVerdict::Float("output-quantizer",
                                    Cat("the QuantizeLinear behind ", view_.NameOf(v),
                                        " is not constant and per tensor"));
          return std::nullopt;
        }
        return CheckClips(from, *q, clip_seen, why);
      }
      if (n.Is("Relu") || n.Is("Clip")) {
        clip_seen = true;
      } else if (!Propagates(n) || uses[0].input != 0) {
        why = AuditVerdict::Float("no-output-quantizer",
                                  Cat(view_.NameOf(v), " goes to ", n.op, " '", n.name,
                                      "', expected QuantizeLinear (behind Relu or Clip at most)"));
        return std::nullopt;
      }
      v = n.outputs[0];
    }
  }

  // A Relu or Clip on the way must change nothing that the quantizer would not.
  std::optional<QuantizerInfo> CheckClips(ValueId from, const QuantizerInfo& q, bool clip_seen,
                                          AuditVerdict& why) const {
    if (!clip_seen) return q;
    for (ValueId v = from; v != q.real;) {
      const Node& n = graph_.node(view_.OnlyReader(v));
      if (n.Is("Relu") && q.zero_point[0] != q.qmin()) {
        why = AuditVerdict::Float("relu-zero-point",
                                  Cat("Relu '", n.name, "' stays: the zero point behind it is ",
                                      q.zero_point[0], ", expected the lowest code ", q.qmin()));
        return std::nullopt;
      }
      if (n.Is("Clip") && !ClipIsRedundant(n, q)) {
        why = AuditVerdict::Float("clip-range", Cat("Clip '", n.name,
                                                    "' stays: its bounds lie inside the range of "
                                                    "the QuantizeLinear behind it"));
        return std::nullopt;
      }
      v = n.outputs[0];
    }
    return q;
  }

  bool ClipIsRedundant(const Node& n, const QuantizerInfo& q) const {
    const auto bound = [&](size_t input, const char* attribute,
                           float otherwise) -> std::optional<float> {
      if (n.Has(attribute)) return n.GetFloat(attribute, otherwise);
      if (n.input(input) == kNoValue) return otherwise;
      const Tensor* t = graph_.ConstantOf(n.input(input));
      if (t == nullptr || t->dtype() != DType::kFloat32) return std::nullopt;
      return t->data<float>()[0];
    };
    const float huge = std::numeric_limits<float>::max();
    const auto lo = bound(1, "min", -huge), hi = bound(2, "max", huge);
    if (!lo || !hi) return false;
    const double zero = q.zero_point[0];
    return std::nearbyint(static_cast<double>(*lo / q.scale[0])) + zero <= q.qmin() &&
           std::nearbyint(static_cast<double>(*hi / q.scale[0])) + zero >= q.qmax();
  }

  AuditVerdict NotDequantized(size_t input) const {
    const NodeId from = graph_.value(node_.input(input)).producer;
    if (from != kNoNode && graph_.node(from).Is("DequantizeLinear")) {
      const DType type = graph_.value(graph_.node(from).input(0)).type.dtype;
      if (type != DType::kInt8 && type != DType::kUint8)
        return Types(Cat("input ", input, " is ", NameOf(type), ", expected uint8 or int8"));
    }
    return AuditVerdict::Float("input-not-quantized",
                               Cat("input ", input, ", ", view_.NameOf(node_.input(input)),
                                   ", does not come from a constant DequantizeLinear"));
  }

  static AuditVerdict Types(const std::string& text) { return AuditVerdict::Float("types", text); }

  bool IsFloatConstant(ValueId v) const {
    const Tensor* t = graph_.ConstantOf(v);
    return t != nullptr && t->dtype() == DType::kFloat32;
  }

  // Weight of a Conv or Gemm: dequantized, on the right axis; or a float constant, which is
  // quantized on the quiet.
  std::optional<AuditVerdict> BadWeight(const QuantizerInfo& x, int axis, bool output_quantized,
                                        bool& quiet) const {
    const auto w = DequantizerOf(graph_, node_.input(1));
    if (!w) {
      if (IsFloatConstant(node_.input(1)) && output_quantized) {
        quiet = true;
        return std::nullopt;
      }
      return AuditVerdict::Float(
          "weight-not-quantized",
          Cat("the weight ", view_.NameOf(node_.input(1)), " is not dequantized from codes"));
    }
    if (x.dtype == DType::kInt8 && w->dtype != DType::kInt8) {
      return Types(Cat("the input is int8, but the weight is ", NameOf(w->dtype)));
    }
    if (w->dtype != DType::kInt8 && w->dtype != DType::kUint8) {
      return Types(Cat("the weight is ", NameOf(w->dtype), ", expected int8 or uint8"));
    }
    if (!w->per_tensor()) {
      const auto& dims = graph_.value(w->codes).type.dims;
      const int rank = static_cast<int>(dims.size());
      const int got = w->axis < 0 ? w->axis + rank : w->axis;
      if (got != axis) {
        return AuditVerdict::Float(
            "weight-axis", Cat("the weight has scales along axis ", got, ", expected ", axis));
      }
    }
    return std::nullopt;
  }

  // `of` is "" or says which operators it is the bias of.
  std::optional<AuditVerdict> BadBias(ValueId b, bool output_quantized,
                                      const std::string& of = {}) const {
    if (b == kNoValue) return std::nullopt;
    if (const auto q = DequantizerOf(graph_, b)) {
      if (q->dtype == DType::kInt32) return std::nullopt;
      return AuditVerdict::Float("bias-type",
                                 Cat(of, "the bias is ", NameOf(q->dtype), ", expected int32"));
    }
    if (IsFloatConstant(b)) {
      // Of one dimension, it is quantized by WeightBiasQuantization.
      if (output_quantized && graph_.ConstantOf(b)->shape().rank() == 1) return std::nullopt;
      return AuditVerdict::Float("float-bias",
                                 Cat(of, "the bias ", view_.NameOf(b), " is float",
                                     output_quantized ? " and has more than one dimension"
                                                      : " and nothing quantizes the output",
                                     ", expected int32 behind DequantizeLinear"));
    }
    return AuditVerdict::Float("float-bias", Cat(of, "the bias ", view_.NameOf(b), " is computed"));
  }

  static AuditVerdict Done(bool quiet) {
    AuditVerdict v = AuditVerdict::Int8();
    if (quiet) {
      v.rule = "float-weight-quantized";
      v.text = "its float weight will be quantized per tensor without being asked for";
    }
    return v;
  }

  // Gemm and Concat alone take int8 activations.
  std::optional<AuditVerdict> BadActivation(const QuantizerInfo& x) const {
    if (x.is_activation() && x.dtype == DType::kInt8 && node_.op != "Gemm" &&
        node_.op != "Concat") {
      return AuditVerdict::Float("int8-activation",
                                 Cat("the int8 codes ", view_.NameOf(x.codes),
                                     " have several "
                                     "readers, and int8 is not fused on x86-64, expected uint8"));
    }
    if (x.is_activation()) return std::nullopt;
    return Types(Cat("its input is ", NameOf(x.dtype), x.per_tensor() ? "" : " with several scales",
                     ", expected uint8 or int8 with one scale"));
  }

  AuditVerdict Conv() const {
    const auto x = Dequantized(node_.input(0));
    if (!x) return NotDequantized(0);
    if (auto bad = BadActivation(*x)) return *bad;
    if (node_.op == "ConvTranspose") {
      return AuditVerdict::Float("operator", "there is no INT8 ConvTranspose on the CPU");
    }
    AuditVerdict why;
    const auto y = Quantized(why);
    if (!y) return why;
    bool quiet = false;
    if (auto bad = BadWeight(*x, 0, true, quiet)) return *bad;
    if (auto bad = BadBias(node_.input(2), true)) return *bad;
    if (x->dtype != y->dtype)
      return Types(Cat("input is ", NameOf(x->dtype), ", output ", NameOf(y->dtype)));
    return Done(quiet);
  }

  AuditVerdict Gemm() const {
    if (node_.input(2) != kNoValue && node_.GetFloat("beta", 1) != 1)
      return AuditVerdict::Float("gemm-beta", "beta is not 1");
    return GemmOf(node_.GetInt("transB", 0) != 0 ? 0 : 1, node_.input(2), node_.outputs[0], {});
  }

  AuditVerdict GemmOf(int weight_axis, ValueId bias, ValueId out, const std::string& of) const {
    const auto x = Dequantized(node_.input(0));
    if (!x) return NotDequantized(0);
    if (auto bad = BadActivation(*x)) return *bad;
    AuditVerdict ignored;
    auto y = QuantizedBehind(out, ignored);  // without one, the result is float
    // A quantizer is moved across the Reshape behind such a Gemm before Relu and Clip are dropped.
    if (y && node_.Is("MatMul") && graph_.value(out).type.dims.size() != 2 &&
        HasClip(out, y->real)) {
      y.reset();
    }
    bool quiet = false;
    if (auto bad = BadWeight(*x, weight_axis, y.has_value(), quiet)) return *bad;
    if (auto bad = BadBias(bias, y.has_value(), of)) return *bad;
    if (y && x->dtype != y->dtype)
      return Types(Cat("input is ", NameOf(x->dtype), ", output ", NameOf(y->dtype)));
    return Done(quiet);
  }

  // Relu or Clip between two values of a chain of single readers.
  bool HasClip(ValueId from, ValueId to) const {
    for (ValueId v = from; v != to;) {
      const Node& n = graph_.node(view_.OnlyReader(v));
      if (n.Is("Relu") || n.Is("Clip")) return true;
      v = n.outputs[0];
    }
    return false;
  }

  // MatMulAddFusion comes before quantizers are looked at: the Add that makes a Gemm of this
  // MatMul, or nullptr.
  const Node* FusedAdd() const {
    const NodeId use = view_.OnlyReader(node_.outputs[0]);
    if (use == kNoNode || !graph_.node(use).Is("Add")) return nullptr;
    const Node& add = graph_.node(use);
    const ValueType& a = graph_.value(node_.input(0)).type;
    const ValueType& w = graph_.value(node_.input(1)).type;
    const ValueType& b = graph_.value(BiasOf(add)).type;
    if (!a.has_rank || !w.has_rank || !b.has_rank || w.dims.size() != 2) return nullptr;
    const int64_t n = w.dims[1];
    if (b.dims.size() == 1 && b.dims[0] == n)
      return a.dims.size() == 2 || view_.ShapeIsKnown(node_.input(0)) ? &add : nullptr;
    // Reshapes stand around the Gemm of an input that is no matrix: one bias for all rows only.
    if (a.dims.size() != 2 || b.dims.size() != 2) return nullptr;
    const bool one_row = b.dims[0] == 1 && b.dims[1] == n;
    const bool all_rows = b.dims[0] == a.dims[0] && (b.dims[1] == 1 || b.dims[1] == n);
    return one_row || all_rows ? &add : nullptr;
  }

  ValueId BiasOf(const Node& add) const {
    return add.inputs[0] == node_.outputs[0] ? add.inputs[1] : add.inputs[0];
  }

  AuditVerdict MatMul() const {
    if (const Node* add = FusedAdd()) {
      return GemmOf(1, BiasOf(*add), add->outputs[0],
                    Cat("together with Add '", add->name, "' it becomes a Gemm: "));
    }
    const auto a = Dequantized(node_.input(0));
    if (!a) return NotDequantized(0);
    if (auto bad = BadActivation(*a)) return *bad;
    const auto b = Dequantized(node_.input(1));
    if (!b) return NotDequantized(1);
    if (a->dtype == DType::kInt8 && b->dtype != DType::kInt8) {
      return Types(Cat("the first operand is int8, the second ", NameOf(b->dtype)));
    }
    AuditVerdict ignored;
    const auto y = Quantized(ignored);
    if (y && a->dtype != y->dtype)
      return Types(Cat("input is ", NameOf(a->dtype), ", output ", NameOf(y->dtype)));
    return AuditVerdict::Int8();
  }

  // Add, Concat, AveragePool, GlobalAveragePool.
  AuditVerdict AllOneType() const {
    std::optional<DType> type;
    for (size_t i = 0; i < node_.inputs.size(); ++i) {
      const auto x = Dequantized(node_.inputs[i]);
      if (!x) return NotDequantized(i);
      if (auto bad = BadActivation(*x)) return *bad;
      if (type && *type != x->dtype) return Types("its inputs are of different types");
      type = x->dtype;
    }
    AuditVerdict why;
    const auto y = Quantized(why);
    if (!y) return why;
    if (type != y->dtype)
      return Types(Cat("inputs are ", NameOf(*type), ", the output ", NameOf(y->dtype)));
    return AuditVerdict::Int8();
  }

  AuditVerdict MaxPool() const {
    const auto x = Dequantized(node_.input(0));
    AuditVerdict why;
    const auto y = Quantized(why);
    if (!x && !y) return NotDequantized(0);
    if (graph_.opset() < 12)
      return AuditVerdict::Float("opset", "MaxPool of 8-bit codes needs opset 12");
    // A quantizer on one side alone is propagated to the other.
    if (!x || !y) return AuditVerdict::Int8();
    if (!x->SameGrid(*y)) {
      return AuditVerdict::Float("different-parameters",
                                 "scale and zero point differ between its input and output");
    }
    return AuditVerdict::Int8();
  }

  const AuditView& view_;
  const Graph& graph_;
  const Node& node_;
};

}  // namespace

AuditVerdict JudgeForOnnxRuntime(const AuditView& view, const Node& node) {
  return Rules(view, node).Judge();
}

std::vector<AuditResult::Finding> RefusedByOnnxRuntime(const AuditView& view) {
  const Graph& graph = view.graph();
  std::vector<AuditResult::Finding> findings;
  if (graph.opset() > kMaxOpset) {
    findings.push_back(
        {"", "", true, "opset",
         Cat("the model needs opset ", graph.opset(), ", expected at most ", kMaxOpset)});
  }
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (n.removed) continue;
    if (n.domain == "octet") {
      findings.push_back({n.name, "octet." + n.op, true, "unknown-operator",
                          "the domain octet is not known there"});
    }
    if (!n.Is("QuantizeLinear") && !n.Is("DequantizeLinear")) continue;
    const Tensor* scale = graph.ConstantOf(n.input(1));
    if (scale != nullptr && scale->elements() > 1 && graph.opset() < 13) {
      findings.push_back({n.name, n.op, true, "opset",
                          Cat("several scales need opset 13, the model has ", graph.opset())});
    }
    const ValueId codes = n.op == "QuantizeLinear" ? n.outputs[0] : n.inputs[0];
    const DType t = graph.value(codes).type.dtype;
    if ((t == DType::kInt16 || t == DType::kUint16) && graph.opset() < 21) {
      findings.push_back({n.name, n.op, true, "opset",
                          Cat(NameOf(t), " codes need opset 21, the model has ", graph.opset())});
    }
  }
  return findings;
}

}  // namespace octet
