// The rules of one target, operator by operator: what AuditGraph() asks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "octet/results.h"
#include "passes/quantizers.h"

namespace octet {

// What becomes of one operator.
struct AuditVerdict {
  bool int8 = false;
  std::string rule;  // why not; or, where int8 is true, what else should be known
  std::string text;

  [[nodiscard]] static AuditVerdict Int8() { return {true, {}, {}}; }
  [[nodiscard]] static AuditVerdict Float(std::string rule, std::string text) {
    return {false, std::move(rule), std::move(text)};
  }
};

// A graph and who reads what in it.
class AuditView {
 public:
  // `original`: the same before open dimensions were set, for rules that ask what is known.
  AuditView(const Graph& graph, const Graph& original)
      : graph_(graph), original_(original), uses_(graph.UseMap()) {}
  [[nodiscard]] const Graph& graph() const { return graph_; }
  // The one reader, or kNoNode where there are several, none, or the value is a graph output.
  [[nodiscard]] NodeId OnlyReader(ValueId v) const;
  [[nodiscard]] const std::vector<Graph::Use>& UsesOf(ValueId v) const {
    return uses_[static_cast<size_t>(v)];
  }
  [[nodiscard]] bool ShapeIsKnown(ValueId v) const {
    const ValueId before = original_.Find(graph_.value(v).name);
    return before != kNoValue && original_.value(before).type.is_static();
  }
  [[nodiscard]] std::string NameOf(ValueId v) const { return "'" + graph_.value(v).name + "'"; }

 private:
  const Graph& graph_;
  const Graph& original_;
  std::vector<std::vector<Graph::Use>> uses_;
};

// Conv, ConvTranspose, Gemm, MatMul, Add, MaxPool, AveragePool, GlobalAveragePool, Concat: what the
// audit counts.
[[nodiscard]] bool IsAudited(const Node& node);

// Add of constants to what an audited MatMul makes: a linear layer's bias, part of that operator.
[[nodiscard]] bool IsBiasOfMatMul(const AuditView& view, const Node& node);

[[nodiscard]] AuditVerdict JudgeForOnnxRuntime(const AuditView& view, const Node& node);
[[nodiscard]] std::vector<AuditResult::Finding> RefusedByOnnxRuntime(const AuditView& view);

[[nodiscard]] AuditVerdict JudgeForTensorRt(const AuditView& view, const Node& node);
[[nodiscard]] std::vector<AuditResult::Finding> RefusedByTensorRt(const AuditView& view);

}  // namespace octet
