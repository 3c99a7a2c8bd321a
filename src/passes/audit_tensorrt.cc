// Which operators TensorRT runs in INT8 under explicit quantization, and what it refuses (peers.md
// §D.2): its documentation for versions 10 and 11; not run here.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "passes/audit_rules.h"

namespace octet {
namespace {

constexpr int64_t kMinOpset = 9, kMaxOpset = 25;

// Quantizers commute with these.
bool Commutes(const Node& n) {
  static constexpr std::array kOps = {"MaxPool", "Reshape",   "Flatten", "Transpose",
                                      "Squeeze", "Unsqueeze", "Relu"};
  return n.domain.empty() && std::find(kOps.begin(), kOps.end(), n.op) != kOps.end();
}

std::optional<QuantizerInfo> Dequantized(const Graph& graph, ValueId v) {
  while (v != kNoValue) {
    if (auto q = DequantizerOf(graph, v)) return q;
    const NodeId p = graph.value(v).producer;
    if (p == kNoNode || !Commutes(graph.node(p))) return std::nullopt;
    v = graph.node(p).input(0);
  }
  return std::nullopt;
}

// A QuantizeLinear that all readers of the value share, behind what commutes with it.
bool LeadsToQuantizer(const AuditView& view, ValueId v) {
  while (!view.graph().IsOutput(v)) {
    const auto& uses = view.UsesOf(v);
    if (uses.empty()) return false;
    const bool all = std::all_of(uses.begin(), uses.end(), [&](const Graph::Use& use) {
      return view.graph().node(use.node).Is("QuantizeLinear");
    });
    if (all) return true;
    if (uses.size() != 1 || !Commutes(view.graph().node(uses[0].node))) return false;
    v = view.graph().node(uses[0].node).outputs[0];
  }
  return false;
}

// Conv, ConvTranspose, Gemm: the axis of the output channels in the weight.
int ExpectedAxis(const Node& n, int rank) {
  if (n.op == "Conv") return 0;
  if (n.op == "ConvTranspose") return 1;
  if (n.op == "Gemm") return n.GetInt("transB", 0) != 0 ? 0 : 1;
  return rank - 1;
}

AuditVerdict JudgeWeighted(const AuditView& view, const Node& n) {
  const Graph& graph = view.graph();
  for (size_t i = 0; i < 2; ++i) {
    const auto q = i == 0 ? Dequantized(graph, n.input(0)) : DequantizerOf(graph, n.input(1));
    if (!q && !(i == 1 && Dequantized(graph, n.input(1)))) {
      return AuditVerdict::Float(i == 0 ? "input-not-quantized" : "weight-not-quantized",
                                 Cat("input ", i, ", ", view.NameOf(n.input(i)),
                                     ", does not come from a constant DequantizeLinear"));
    }
    if (!q) continue;
    if (q->dtype != DType::kInt8) {
      return AuditVerdict::Float("types",
                                 Cat("input ", i, " is ", NameOf(q->dtype), ", expected int8"));
    }
    if (q->per_tensor()) continue;
    if (i == 0)
      return AuditVerdict::Float("activation-scales", "its input has several scales, expected one");
    const int rank = static_cast<int>(graph.value(q->codes).type.dims.size());
    const int axis = q->axis < 0 ? q->axis + rank : q->axis;
    if (axis != ExpectedAxis(n, rank)) {
      return AuditVerdict::Float("weight-axis", Cat("the weight has scales along axis ", axis,
                                                    ", expected ", ExpectedAxis(n, rank)));
    }
  }
  return AuditVerdict::Int8();
}

// The residual Add joins the convolution that makes one of its inputs if the other is quantized.
AuditVerdict JudgeAdd(const AuditView& view, const Node& n) {
  const Graph& graph = view.graph();
  bool quantized[2], fuses[2];
  for (size_t i = 0; i < 2; ++i) {
    const ValueId v = n.inputs[i];
    quantized[i] = Dequantized(graph, v).has_value();
    const NodeId p = graph.value(v).producer;
    fuses[i] =
        p != kNoNode && view.OnlyReader(v) != kNoNode &&
        (graph.node(p).Is("Conv") || graph.node(p).Is("Gemm") || graph.node(p).Is("MatMul")) &&
        JudgeWeighted(view, graph.node(p)).int8;
  }
  if ((quantized[0] && quantized[1]) || (quantized[0] && fuses[1]) || (quantized[1] && fuses[0])) {
    return AuditVerdict::Int8();
  }
  return AuditVerdict::Float(
      "residual",
      "neither are both inputs quantized, nor one of them with the other made by "
      "an INT8 operator that nobody else reads");
}

}  // namespace

AuditVerdict JudgeForTensorRt(const AuditView& view, const Node& node) {
  if (node.op == "Add") return JudgeAdd(view, node);
  if (node.op == "Conv" || node.op == "ConvTranspose" || node.op == "Gemm" || node.op == "MatMul") {
    return JudgeWeighted(view, node);
  }
  // Pooling and Concat follow their surroundings: INT8 where all inputs are and the result is
  // quantized again.
  for (ValueId v : node.inputs) {
    if (!Dequantized(view.graph(), v)) {
      return AuditVerdict::Float(
          "input-not-quantized",
          Cat(view.NameOf(v), " does not come from a constant DequantizeLinear"));
    }
  }
  if (node.op != "MaxPool" && !LeadsToQuantizer(view, node.outputs[0])) {
    return AuditVerdict::Float("no-output-quantizer",
                               Cat(view.NameOf(node.outputs[0]), " is not quantized again"));
  }
  return AuditVerdict::Int8();
}

std::vector<AuditResult::Finding> RefusedByTensorRt(const AuditView& view) {
  const Graph& graph = view.graph();
  std::vector<AuditResult::Finding> findings;
  const auto refuse = [&](const Node& n, const std::string& rule, const std::string& text) {
    findings.push_back({n.name, n.domain.empty() ? n.op : n.domain + "." + n.op, true, rule, text});
  };
  if (graph.opset() < kMinOpset || graph.opset() > kMaxOpset) {
    findings.push_back(
        {"", "", true, "opset",
         Cat("the model has opset ", graph.opset(), ", expected ", kMinOpset, " to ", kMaxOpset)});
  }
  static constexpr std::array kRefused = {"QLinearConv", "QLinearMatMul", "ConvInteger",
                                          "MatMulInteger", "DynamicQuantizeLinear"};
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (n.removed) continue;
    if (!n.domain.empty()) {
      refuse(n, "unknown-operator", Cat("operators of domain ", n.domain, " need a plugin"));
      continue;
    }
    if (std::find(kRefused.begin(), kRefused.end(), n.op) != kRefused.end()) {
      refuse(n, "unsupported-operator", "only QuantizeLinear and DequantizeLinear are taken");
      continue;
    }
    if (!n.Is("QuantizeLinear") && !n.Is("DequantizeLinear")) continue;
    const auto q = QuantizerOf(graph, id);
    if (!q) {
      refuse(n, "computed-parameters", "scale and zero point are not constants");
      continue;
    }
    if (q->dtype == DType::kInt32) {
      refuse(n, "integer-bias",
             "an int32 bias behind DequantizeLinear is not taken: the bias stays float");
    } else if (q->dtype == DType::kUint8) {
      refuse(n, "unsigned", "codes are uint8, expected int8");
    } else if (q->dtype != DType::kInt8) {
      refuse(n, "types", Cat("codes are ", NameOf(q->dtype), ", expected int8"));
    } else if (std::any_of(q->zero_point.begin(), q->zero_point.end(),
                           [](int32_t z) { return z != 0; })) {
      refuse(n, "zero-point", "the zero point is not 0");
    }
  }
  return findings;
}

}  // namespace octet
