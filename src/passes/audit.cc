#include "passes/audit.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/error.h"
#include "graph/recurrent.h"
#include "passes/audit_rules.h"
#include "passes/lower.h"
#include "passes/macs.h"
#include "passes/quantizers.h"

namespace octet {

NodeId AuditView::OnlyReader(ValueId v) const {
  const auto& uses = UsesOf(v);
  return uses.size() == 1 && !graph_.IsOutput(v) ? uses[0].node : kNoNode;
}

bool IsBiasOfMatMul(const AuditView& view, const Node& node) {
  if (!node.Is("Add")) return false;
  const Graph& graph = view.graph();
  for (const size_t side : {0U, 1U}) {
    const auto q = DequantizerOf(graph, node.inputs[side]);
    if (graph.ConstantOf(q ? q->codes : node.inputs[side]) == nullptr) continue;
    const ValueId product = node.inputs[1 - side];
    const NodeId p = graph.value(product).producer;
    return p != kNoNode && graph.node(p).Is("MatMul") && view.OnlyReader(product) != kNoNode;
  }
  return false;
}

bool IsAudited(const Node& n) {
  static constexpr std::array kOps = {"Conv",    "ConvTranspose", "Gemm",
                                      "MatMul",  "Add",           "Concat",
                                      "MaxPool", "AveragePool",   "GlobalAveragePool"};
  return n.domain.empty() && !n.removed &&
         (IsRecurrent(n.op) || std::find(kOps.begin(), kOps.end(), n.op) != kOps.end());
}

namespace {

// Operators that are integer arithmetic already, and where they belong.
bool IsIntegerOperator(const Node& n) {
  if (n.domain == "octet")
    return n.op == "QConv" || n.op == "QGemm" || n.op == "QAdd" || n.op.ends_with("Pool");
  if (n.domain == "com.microsoft") return n.op.starts_with("QLinear") || n.op == "QGemm";
  return n.Is("QLinearConv") || n.Is("QLinearMatMul") || n.Is("ConvInteger") ||
         n.Is("MatMulInteger");
}

// MaxPool and Concat do no arithmetic: on codes they are the same operator.
bool RunsOnCodes(const Graph& graph, const Node& n) {
  if (!n.Is("MaxPool") && !n.Is("Concat")) return false;
  const DType t = graph.value(n.inputs[0]).type.dtype;
  return t == DType::kInt8 || t == DType::kUint8;
}

struct Count {
  AuditResult result;
  int64_t macs = 0, int8_macs = 0;

  explicit Count(const Graph& graph) { result.open_inputs = OpenInputs(graph); }
  void Add(bool int8, int64_t cost) {
    ++result.operators;
    macs += cost;
    if (int8) {
      ++result.int8_operators;
      int8_macs += cost;
    }
  }
  AuditResult Finish() {
    if (macs > 0 && result.open_inputs.empty())
      result.int8_mac_fraction = static_cast<double>(int8_macs) / static_cast<double>(macs);
    std::stable_partition(result.findings.begin(), result.findings.end(),
                          [](const AuditResult::Finding& f) { return f.fatal; });
    return std::move(result);
  }
};

AuditResult AuditForOctet(const Graph& graph, const EvaluateFn& evaluate) {
  Graph lowered = graph;
  const LoweringReport report = Lower(lowered, evaluate);
  std::map<std::string, std::string> kept;
  for (const auto& k : report.kept) kept[k.node] = k.reason;
  std::set<std::string> still_float;  // nodes of the lowered graph that compute in float
  for (NodeId id : lowered.TopologicalOrder()) {
    const Node& n = lowered.node(id);
    if (IsAudited(n) && !RunsOnCodes(lowered, n)) still_float.insert(n.name);
  }
  Count count(graph);
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (IsIntegerOperator(n)) {
      count.Add(n.domain == "octet", MacsOf(graph, n));
    } else if (IsAudited(n)) {
      const bool stays = still_float.contains(n.name);
      count.Add(!stays, MacsOf(graph, n));
      if (!stays) continue;
      const auto it = kept.find(n.name);
      count.result.findings.push_back(
          {n.name, n.op, false, "kept-float",
           it != kept.end() ? it->second : "none of its inputs is quantized"});
    }
  }
  return count.Finish();
}

}  // namespace

AuditResult AuditGraph(const Graph& original, Target target, const EvaluateFn& evaluate,
                       const InputShapes& shapes) {
  // An open batch would leave all shapes open, and the work uncounted.
  const Graph graph = WithBatch(original, 1, shapes);
  if (target == Target::kOctet) return AuditForOctet(graph, evaluate);
  const AuditView view(graph, original);
  const bool ort = target == Target::kOnnxRuntime;
  Count count(graph);
  count.result.findings = ort ? RefusedByOnnxRuntime(view) : RefusedByTensorRt(view);
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (IsIntegerOperator(n)) {
      count.Add(ort && n.domain != "octet", MacsOf(graph, n));
    } else if (IsAudited(n) && !(ort && IsBiasOfMatMul(view, n))) {
      const AuditVerdict verdict = RunsOnCodes(graph, n) ? AuditVerdict::Int8()
                                   : ort                 ? JudgeForOnnxRuntime(view, n)
                                                         : JudgeForTensorRt(view, n);
      count.Add(verdict.int8, MacsOf(graph, n));
      if (!verdict.rule.empty())
        count.result.findings.push_back({n.name, n.op, false, verdict.rule, verdict.text});
    }
  }
  return count.Finish();
}

}  // namespace octet
