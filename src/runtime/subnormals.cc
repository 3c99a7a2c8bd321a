#include "runtime/subnormals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "graph/recurrent.h"

namespace octet {
namespace {

bool IsSubnormal(float v) { return v != 0.0F && std::fabs(v) < std::numeric_limits<float>::min(); }

// Whether a node only multiplies with its input `i`, and adds up.
bool IsFactor(const Node& node, size_t i) {
  if (node.Is("Conv") || node.Is("ConvTranspose")) return i == 1;
  if (node.Is("Gemm") || node.Is("MatMul") || node.Is("PermutedMatMul", "octet")) return i < 2;
  return node.domain.empty() && IsRecurrent(node.op) && (i == 1 || i == 2);
}

}  // namespace

void FlushSubnormalWeights(const Graph& graph, std::span<const ValueId> kept,
                           std::vector<ConstantPtr>& known) {
  std::vector<bool> multiplied(known.size()), read_otherwise(known.size());
  for (size_t i = 0; i < graph.node_count(); ++i) {
    const Node& node = graph.node(static_cast<NodeId>(i));
    if (node.removed) continue;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] == kNoValue) continue;
      (IsFactor(node, k) ? multiplied : read_otherwise)[static_cast<size_t>(node.inputs[k])] = true;
    }
  }
  for (ValueId v : graph.outputs) read_otherwise[static_cast<size_t>(v)] = true;
  for (ValueId v : kept) read_otherwise[static_cast<size_t>(v)] = true;
  for (size_t v = 0; v < known.size(); ++v) {
    ConstantPtr& constant = known[v];
    if (!multiplied[v] || read_otherwise[v] || !constant || constant->dtype() != DType::kFloat32)
      continue;
    const auto from = constant->data<float>();
    if (std::none_of(from.begin(), from.end(), IsSubnormal)) continue;
    Tensor flushed(DType::kFloat32, constant->shape());
    std::ranges::transform(from, flushed.mutable_data<float>().begin(),
                           [](float x) { return IsSubnormal(x) ? 0.0F : x; });
    constant = std::make_shared<const Tensor>(std::move(flushed));
  }
}

}  // namespace octet
