// Which nodes can be done in one pass: Conv, Gemm or MatMul, then any of Relu, Clip with constant
// scalar bounds, Add of a tensor of the same shape and, behind a MatMul, of a constant row, as long
// as every value in between has one reader and nobody else wants to see it. Whether the kernel
// takes them is the factory's decision.
#include <limits>
#include <optional>

#include "runtime/plan_builder.h"

namespace octet {
namespace {

constexpr size_t kMaxFollowers = 3;  // Conv + Add + Relu is the longest that occurs in practice

bool CanLead(const Node& node) {
  return node.domain.empty() && (node.op == "Conv" || node.op == "Gemm" || node.op == "MatMul");
}

// The bound in input `i` of a Clip: `otherwise` if omitted, nothing if it is not a known float
// scalar.
std::optional<float> Bound(const Node& clip, size_t i, const std::vector<PlanValue>& values,
                           float otherwise) {
  const ValueId id = clip.input(i);
  if (id == kNoValue) return otherwise;
  const ConstantPtr& t = values[static_cast<size_t>(id)].constant;
  if (!t || t->dtype() != DType::kFloat32 || t->elements() != 1) return std::nullopt;
  return t->data<float>()[0];
}

std::optional<Follower> AsFollower(const Node& node, ValueId from, bool behind_matmul,
                                   const std::vector<PlanValue>& values, ValueId* residual) {
  if (!node.domain.empty() || node.outputs.size() != 1) return std::nullopt;
  Follower f;
  f.op = node.op;
  if (node.op == "Relu") {
    f.lo = 0.0F;
    f.hi = std::numeric_limits<float>::infinity();
    return f;
  }
  if (node.op == "Clip" && node.input(0) == from) {
    constexpr float kMax = std::numeric_limits<float>::max();
    const auto lo = Bound(node, 1, values, node.GetFloat("min", -kMax));
    const auto hi = Bound(node, 2, values, node.GetFloat("max", kMax));
    if (!lo || !hi || !(*lo <= *hi)) return std::nullopt;
    f.lo = *lo;
    f.hi = *hi;
    return f;
  }
  if (node.op == "Add" && node.inputs.size() == 2) {
    const ValueId other = node.inputs[0] == from ? node.inputs[1] : node.inputs[0];
    if (other == from || other == kNoValue) return std::nullopt;
    const PlanValue& r = values[static_cast<size_t>(other)];
    const Shape& y = values[static_cast<size_t>(from)].shape;
    if (behind_matmul && r.constant && r.dtype == DType::kFloat32 && r.shape.rank() >= 1 &&
        r.shape.rank() <= y.rank() && r.shape.elements() == y[y.rank() - 1] &&
        r.shape[r.shape.rank() - 1] == r.shape.elements()) {
      f.kind = Follower::Kind::kBias;
      f.bias = r.constant.get();
      return f;
    }
    if (r.constant || r.dtype != DType::kFloat32 ||
        !(r.shape == values[static_cast<size_t>(from)].shape)) {
      return std::nullopt;
    }
    f.kind = Follower::Kind::kAdd;
    *residual = other;
    return f;
  }
  return std::nullopt;
}

}  // namespace

std::map<NodeId, FusedGroup> FindFusedGroups(const PlanRequest& request,
                                             const std::vector<NodeId>& nodes,
                                             const std::vector<PlanValue>& values,
                                             const std::set<ValueId>& kept) {
  const Graph& graph = *request.graph;
  std::map<ValueId, std::vector<NodeId>> readers;
  for (NodeId id : nodes) {
    for (ValueId input : graph.node(id).inputs) {
      if (input != kNoValue) readers[input].push_back(id);
    }
  }
  std::map<NodeId, FusedGroup> groups;
  std::set<NodeId> taken;
  for (NodeId id : nodes) {
    const Node& node = graph.node(id);
    if (!CanLead(node) || node.outputs.empty()) continue;
    ValueId from = node.outputs[0];
    if (values[static_cast<size_t>(from)].dtype != DType::kFloat32) continue;
    FusedGroup group;
    while (group.followers.size() < kMaxFollowers && !kept.contains(from) &&
           readers[from].size() == 1) {
      const NodeId next = readers[from][0];
      ValueId residual = kNoValue;
      const bool behind_matmul = group.how.empty() && node.op == "MatMul";
      auto follower = AsFollower(graph.node(next), from, behind_matmul, values, &residual);
      if (!follower || taken.contains(next)) break;
      if (follower->kind == Follower::Kind::kAdd) {
        // One residual per group; Conv + Conv -> Add belongs to the first of the two that finds it.
        if (!group.residuals.empty()) break;
        group.residuals.push_back(residual);
      }
      group.how.push_back(*follower);
      group.followers.push_back(next);
      taken.insert(next);
      from = graph.node(next).outputs[0];
    }
    if (!group.followers.empty()) groups.emplace(id, std::move(group));
  }
  return groups;
}

}  // namespace octet
