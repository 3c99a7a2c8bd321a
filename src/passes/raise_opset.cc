#include "passes/raise_opset.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"

namespace octet {
namespace {

constexpr int64_t kFloat8Since = 19;
// ReduceSum has had its axes as an input since 13.
constexpr std::array<std::string_view, 9> kReductions = {
    "ReduceL1",  "ReduceL2",   "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMin", "ReduceMean", "ReduceProd",   "ReduceSumSquare"};

}  // namespace

void RaiseOperatorSetTo19(Graph& graph) {
  if (graph.opset() >= kFloat8Since) return;
  for (NodeId id : graph.TopologicalOrder()) {
    Node& n = graph.node(id);
    if (!n.domain.empty()) continue;
    if (n.op == "Split" && n.input(1) == kNoValue) {
      n.attributes["num_outputs"] = static_cast<int64_t>(n.outputs.size());
    }
    if (graph.opset() < 18 && n.Has("axes") &&
        std::find(kReductions.begin(), kReductions.end(), n.op) != kReductions.end()) {
      const std::vector<int64_t> axes = n.GetInts("axes", {});
      n.attributes.erase("axes");
      const std::string name = n.name;
      const ValueId input = graph.AddConstant(
          Cat(name, "/axes"), Tensor::Of<int64_t>({static_cast<int64_t>(axes.size())}, axes));
      graph.node(id).inputs.resize(2, kNoValue);
      graph.node(id).inputs[1] = input;
    }
  }
  graph.opsets[""] = kFloat8Since;
}

}  // namespace octet
