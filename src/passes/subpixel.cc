#include "passes/subpixel.h"

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace octet {
namespace {

bool AllAre(const std::vector<int64_t>& list, int64_t value) {
  return std::all_of(list.begin(), list.end(), [&](int64_t v) { return v == value; });
}

// The edge of the blocks, where the node is such a convolution.
std::optional<int64_t> BlockOf(const Graph& graph, const Node& n) {
  if (!n.Is("ConvTranspose")) return std::nullopt;
  const Tensor* w = graph.ConstantOf(n.input(1));
  if (w == nullptr || w->dtype() != DType::kFloat32 || w->shape().rank() != 4) return std::nullopt;
  const int64_t k = w->shape()[2];
  const bool fits = k > 1 && w->shape()[3] == k && n.GetInt("group", 1) == 1 &&
                    n.GetInts("strides", {1, 1}) == std::vector<int64_t>{k, k} &&
                    AllAre(n.GetInts("dilations", {}), 1) && AllAre(n.GetInts("pads", {}), 0) &&
                    AllAre(n.GetInts("output_padding", {}), 0) && !n.Has("output_shape");
  if (!fits) return std::nullopt;
  if (n.input(2) != kNoValue) {
    const Tensor* b = graph.ConstantOf(n.input(2));
    if (b == nullptr || b->dtype() != DType::kFloat32 || b->elements() != w->shape()[1])
      return std::nullopt;
  }
  return k;
}

// (C, OC, k, k) to (k * k * OC, C, 1, 1): block row, block column, channel.
Tensor PointwiseWeight(const Tensor& w, int64_t k) {
  const int64_t in = w.shape()[0], out = w.shape()[1];
  Tensor result(DType::kFloat32, Shape{k * k * out, in, 1, 1});
  const auto from = w.data<float>();
  auto to = result.mutable_data<float>();
  for (int64_t c = 0; c < in; ++c) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t at = 0; at < k * k; ++at) {
        to[static_cast<size_t>((at * out + o) * in + c)] =
            from[static_cast<size_t>((c * out + o) * k * k + at)];
      }
    }
  }
  return result;
}

Tensor Repeated(const Tensor& bias, int64_t times) {
  Tensor result(DType::kFloat32, Shape{times * bias.elements()});
  auto to = result.mutable_data<float>();
  const auto from = bias.data<float>();
  for (size_t i = 0; i < to.size(); ++i) to[i] = from[i % from.size()];
  return result;
}

// Maps every element by itself, whatever its place.
bool CommutesWithMoving(const Graph& graph, const Node& n) {
  if (n.Is("Relu") || n.Is("LeakyRelu")) return true;
  if (!n.Is("Clip")) return false;
  return (n.input(1) == kNoValue || graph.ConstantOf(n.input(1)) != nullptr) &&
         (n.input(2) == kNoValue || graph.ConstantOf(n.input(2)) != nullptr);
}

void Split(Graph& graph, NodeId id, int64_t k, const std::vector<std::vector<Graph::Use>>& uses) {
  const Node n = graph.node(id);
  const Tensor& w = *graph.ConstantOf(n.input(1));
  const std::string weight_name = graph.value(n.input(1)).name;
  std::vector<ValueId> inputs = {
      n.input(0), graph.AddConstant(weight_name + "_pointwise", PointwiseWeight(w, k))};
  if (n.input(2) != kNoValue) {
    inputs.push_back(graph.AddConstant(graph.value(n.input(2)).name + "_pointwise",
                                       Repeated(*graph.ConstantOf(n.input(2)), k * k)));
  }
  graph.RemoveNode(id);
  const auto fresh = [&](ValueId like) {
    return graph.AddValue(graph.value(like).name + "_blocks",
                          ValueType::Unranked(graph.value(like).type.dtype));
  };
  // What was computed by pixels is computed by blocks, under another name; the last value keeps
  // its own.
  ValueId last = n.outputs[0];
  ValueId blocks = fresh(last);
  graph.AddOp("Conv", inputs, {blocks}, {}, n.name);
  while (!graph.IsOutput(last) && uses[static_cast<size_t>(last)].size() == 1) {
    const NodeId next = uses[static_cast<size_t>(last)][0].node;
    if (!CommutesWithMoving(graph, graph.node(next)) || graph.node(next).input(0) != last) break;
    Node moved = graph.node(next);
    graph.RemoveNode(next);
    graph.value(last).producer = kNoNode;
    last = moved.outputs[0];
    moved.inputs[0] = blocks;
    blocks = fresh(last);
    moved.outputs = {blocks};
    graph.AddNode(std::move(moved));
  }
  graph.AddOp("DepthToSpace", {blocks}, {last}, {{"blocksize", k}, {"mode", std::string("DCR")}},
              n.name + "_pixels");
}

}  // namespace

std::vector<std::string> SplitTransposedConvolutions(Graph& graph, const NodePredicate& keep) {
  std::vector<std::string> names;
  const auto uses = graph.UseMap();
  for (NodeId id : graph.TopologicalOrder()) {
    if (graph.node(id).removed) continue;
    const auto block = BlockOf(graph, graph.node(id));
    if (!block || (keep && keep(graph.node(id)))) continue;
    names.push_back(graph.node(id).name);
    Split(graph, id, *block, uses);
  }
  return names;
}

}  // namespace octet
