// Making a plan, in four walks over the nodes: types and known values; fusion groups; steps with
// their layouts; places in memory.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "runtime/plan.h"

namespace octet {

// What is known of a value while a plan is made.
struct PlanValue {
  bool ready = false;  // given, known or computed by a node of this plan
  DType dtype = DType::kUndefined;
  Shape shape;
  ConstantPtr constant;
};

// A node and those done in the same pass over its output.
struct FusedGroup {
  std::vector<NodeId> followers;   // in order; the last one's output is the group's
  std::vector<Follower> how;       // Follower::residual is not set here
  std::vector<ValueId> residuals;  // one per follower of kind kAdd
};

// Groups by their first node. `nodes` are those that compute something at run time.
[[nodiscard]] std::map<NodeId, FusedGroup> FindFusedGroups(const PlanRequest& request,
                                                           const std::vector<NodeId>& nodes,
                                                           const std::vector<PlanValue>& values,
                                                           const std::set<ValueId>& kept);

// Evaluates one node whose inputs are all known; outputs by position.
[[nodiscard]] std::vector<Tensor> EvaluateKnown(const Graph& graph, const Node& node,
                                                const std::vector<const Tensor*>& inputs);

}  // namespace octet
