#include "runtime/subnormals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace octet {
namespace {

bool IsSubnormal(float v) { return v != 0.0F && std::fabs(v) < std::numeric_limits<float>::min(); }

bool MultipliesWeights(const Node& node) {
  return node.Is("Conv") || node.Is("ConvTranspose") || node.Is("Gemm") || node.Is("MatMul") ||
         node.Is("LSTM") || node.Is("GRU") || node.Is("RNN") || node.Is("PermutedMatMul", "octet");
}

}  // namespace

void FlushSubnormalWeights(const Graph& graph, std::vector<ConstantPtr>& known) {
  for (size_t i = 0; i < graph.node_count(); ++i) {
    const Node& node = graph.node(static_cast<NodeId>(i));
    if (node.removed || !MultipliesWeights(node)) continue;
    for (ValueId v : node.inputs) {
      if (v == kNoValue) continue;
      ConstantPtr& constant = known[static_cast<size_t>(v)];
      if (!constant || constant->dtype() != DType::kFloat32) continue;
      const auto from = constant->data<float>();
      if (std::none_of(from.begin(), from.end(), IsSubnormal)) continue;
      Tensor flushed(DType::kFloat32, constant->shape());
      std::ranges::transform(from, flushed.mutable_data<float>().begin(),
                             [](float x) { return IsSubnormal(x) ? 0.0F : x; });
      constant = std::make_shared<const Tensor>(std::move(flushed));
    }
  }
}

}  // namespace octet
