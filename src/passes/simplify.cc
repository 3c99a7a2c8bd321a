#include "passes/simplify.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace octet {
namespace {

bool IsQuantizer(const Node& n) {
  return n.op == "QuantizeLinear" || n.op == "DequantizeLinear" ||
         n.op == "DynamicQuantizeLinear" || n.domain == "octet";
}

// Output channel axis and extents of the weight of a node that BatchNorm can fold into.
struct WeightAxis {
  int64_t outer, channels, inner;  // weight viewed as (outer, channels, inner)
};

// The way channel c of the output maps to the weight: index (o, c, i) -> o*channels*inner + c*inner
// + i.
std::optional<WeightAxis> OutputChannels(const Node& node, const Shape& w) {
  if (node.Is("Conv")) return WeightAxis{1, w[0], w.product(1, w.rank())};
  if (node.Is("Gemm") && w.rank() == 2) {
    if (node.GetInt("transB", 0) != 0) return WeightAxis{1, w[0], w[1]};
    return WeightAxis{w[0], w[1], 1};
  }
  // (C, M/group, kH, kW): with one group the output channel is axis 1.
  if (node.Is("ConvTranspose") && node.GetInt("group", 1) == 1) {
    return WeightAxis{w[0], w[1], w.product(2, w.rank())};
  }
  return std::nullopt;
}

// The node that the BatchNormalization became part of, or none.
NodeId FoldOneBatchNorm(Graph& graph, NodeId bn_id,
                        const std::vector<std::vector<Graph::Use>>& uses) {
  const Node bn = graph.node(bn_id);
  if (!bn.Is("BatchNormalization")) return kNoNode;
  if (bn.GetInt("training_mode", 0) != 0) return kNoNode;  // statistics of the batch
  const ValueId x = bn.input(0);
  const NodeId producer_id = graph.value(x).producer;
  if (producer_id == kNoNode || graph.IsOutput(x) || uses[static_cast<size_t>(x)].size() != 1)
    return kNoNode;
  for (size_t i = 1; i < bn.outputs.size(); ++i) {
    if (bn.outputs[i] != kNoValue) return kNoNode;  // training outputs
  }
  Node& op = graph.node(producer_id);
  const Tensor* weight = graph.ConstantOf(op.input(1));
  if (weight == nullptr || weight->dtype() != DType::kFloat32) return kNoNode;
  const auto axis = OutputChannels(op, weight->shape());
  if (!axis) return kNoNode;
  if (op.Is("Gemm") && (op.GetFloat("alpha", 1) != 1 || op.GetFloat("beta", 1) != 1))
    return kNoNode;
  const Tensor* bias = nullptr;
  if (op.input(2) != kNoValue) {
    bias = graph.ConstantOf(op.input(2));
    if (bias == nullptr || bias->elements() != axis->channels) return kNoNode;
  }
  std::array<const Tensor*, 4> p{};  // scale, B, mean, var
  for (size_t i = 0; i < 4; ++i) {
    p[i] = graph.ConstantOf(bn.input(i + 1));
    if (p[i] == nullptr || p[i]->dtype() != DType::kFloat32 || p[i]->elements() != axis->channels)
      return kNoNode;
  }
  const double epsilon = bn.GetFloat("epsilon", 1e-5F);

  Tensor w = weight->Clone();
  Tensor b(DType::kFloat32, Shape{axis->channels});
  auto wd = w.mutable_data<float>();
  auto bd = b.mutable_data<float>();
  for (int64_t c = 0; c < axis->channels; ++c) {
    const auto i = static_cast<size_t>(c);
    const double k = static_cast<double>(p[0]->data<float>()[i]) /
                     std::sqrt(static_cast<double>(p[3]->data<float>()[i]) + epsilon);
    const double old_bias = bias == nullptr ? 0.0 : static_cast<double>(bias->data<float>()[i]);
    bd[i] = static_cast<float>((old_bias - static_cast<double>(p[2]->data<float>()[i])) * k +
                               static_cast<double>(p[1]->data<float>()[i]));
    for (int64_t o = 0; o < axis->outer; ++o) {
      auto row = wd.subspan(static_cast<size_t>((o * axis->channels + c) * axis->inner),
                            static_cast<size_t>(axis->inner));
      for (float& v : row) v = static_cast<float>(static_cast<double>(v) * k);
    }
  }
  const std::string weight_name = graph.value(op.input(1)).name;
  const std::string bias_name = bias != nullptr ? graph.value(op.input(2)).name : op.name + ".bias";
  const ValueId new_w = graph.AddConstant(weight_name + "_folded", std::move(w));
  const ValueId new_b =
      graph.AddConstant(bias_name + (bias != nullptr ? "_folded" : ""), std::move(b));
  Node& target = graph.node(producer_id);
  target.inputs.resize(3, kNoValue);
  target.inputs[1] = new_w;
  target.inputs[2] = new_b;
  // The folded node takes over the name of the value the BatchNorm made: statistics and quantizers
  // are known by it.
  const ValueId y = bn.outputs[0];
  graph.RemoveNode(bn_id);
  target.outputs[0] = y;
  graph.value(y).producer = producer_id;
  graph.value(x).producer = kNoNode;
  return producer_id;
}

// One number per channel (axis 1 of `rank` dimensions), or one for all.
bool IsPerChannel(const Shape& c, int64_t channels, int rank) {
  if (c.rank() > rank) return false;
  if (c.elements() == 1) return true;
  const int axis = 1 - (rank - c.rank());  // of the channels, in the constant
  return axis >= 0 && axis < c.rank() && c[axis] == channels && c.elements() == channels;
}

// The node whose bias the Add became, or none.
NodeId FoldOneBias(Graph& graph, NodeId add_id, const std::vector<std::vector<Graph::Use>>& uses) {
  const Node add = graph.node(add_id);
  if (!add.Is("Add") || add.inputs.size() != 2) return kNoNode;
  const size_t side = graph.ConstantOf(add.inputs[0]) != nullptr ? 1 : 0;
  const ValueId x = add.inputs[side];
  const Tensor* c = graph.ConstantOf(add.inputs[1 - side]);
  const NodeId producer_id = graph.value(x).producer;
  if (c == nullptr || c->dtype() != DType::kFloat32 || producer_id == kNoNode ||
      graph.IsOutput(x) || uses[static_cast<size_t>(x)].size() != 1)
    return kNoNode;
  Node& op = graph.node(producer_id);
  if (!op.Is("Conv") && !op.Is("ConvTranspose")) return kNoNode;
  const Tensor* weight = graph.ConstantOf(op.input(1));
  if (weight == nullptr) return kNoNode;
  const Shape& w = weight->shape();
  const int64_t channels = op.Is("Conv") ? w[0] : w[1] * op.GetInt("group", 1);
  if (!IsPerChannel(c->shape(), channels, w.rank())) return kNoNode;
  Tensor b(DType::kFloat32, Shape{channels});
  auto to = b.mutable_data<float>();
  const Tensor* old = nullptr;
  if (op.input(2) != kNoValue) {
    old = graph.ConstantOf(op.input(2));
    if (old == nullptr || old->dtype() != DType::kFloat32 || old->elements() != channels)
      return kNoNode;
  }
  for (size_t i = 0; i < to.size(); ++i) {
    to[i] = c->data<float>()[c->elements() == 1 ? 0 : i] +
            (old != nullptr ? old->data<float>()[i] : 0.0F);
  }
  const ValueId bias = graph.AddConstant(op.name + ".bias", std::move(b));
  const ValueId y = add.outputs[0];
  graph.RemoveNode(add_id);
  Node& target = graph.node(producer_id);
  target.inputs.resize(3, kNoValue);
  target.inputs[2] = bias;
  target.outputs[0] = y;
  graph.value(y).producer = producer_id;
  graph.value(x).producer = kNoNode;
  return producer_id;
}

template <typename Fold>
std::vector<FoldedNode> FoldEach(Graph& graph, Fold fold_one, const NodePredicate& keep) {
  std::vector<FoldedNode> folded;
  const auto uses = graph.UseMap();
  for (NodeId id : graph.TopologicalOrder()) {
    const Node n = graph.node(id);
    if (keep && keep(n)) continue;
    const NodeId into = fold_one(graph, id, uses);
    if (into != kNoNode) folded.push_back({n.name, n.op, graph.node(into).name});
  }
  return folded;
}

// Dropout in training is random; one whose mode is only known at run time stays as well, for the
// executor to refuse.
bool IsIdentity(const Graph& graph, const Node& n) {
  if (n.Is("Identity")) return true;
  if (!n.Is("Dropout")) return false;
  if (n.input(2) == kNoValue) return true;
  const Tensor* training = graph.ConstantOf(n.input(2));
  return training != nullptr && training->dtype() == DType::kBool && training->elements() == 1 &&
         !training->data<bool>()[0];
}

}  // namespace

int RemoveIdentities(Graph& graph, const NodePredicate& keep) {
  int removed = 0;
  const auto uses = graph.UseMap();
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (!IsIdentity(graph, n) || (keep && keep(n))) continue;
    if (n.outputs.size() > 1 && n.outputs[1] != kNoValue &&
        (!uses[static_cast<size_t>(n.outputs[1])].empty() || graph.IsOutput(n.outputs[1]))) {
      continue;
    }
    const ValueId in = n.input(0);
    const ValueId out = n.outputs[0];
    if (graph.IsOutput(out)) {
      // The output must keep its name: it takes the place of `in`, unless `in` is itself visible.
      const NodeId producer = graph.value(in).producer;
      if (producer == kNoNode || graph.IsOutput(in)) continue;
      graph.RemoveNode(id);
      Node& p = graph.node(producer);
      std::replace(p.outputs.begin(), p.outputs.end(), in, out);
      graph.value(out).producer = producer;
      graph.value(in).producer = kNoNode;
      graph.ReplaceUses(in, out);
    } else {
      graph.RemoveNode(id);
      graph.ReplaceUses(out, in);
    }
    ++removed;
  }
  if (removed > 0) graph.Compact();
  return removed;
}

int FoldConstants(Graph& graph, const EvaluateFn& evaluate, int64_t max_bytes) {
  int folded = 0;
  for (NodeId id : graph.TopologicalOrder()) {
    const Node n = graph.node(id);
    if (IsQuantizer(n) || n.inputs.empty()) continue;
    std::vector<const Tensor*> inputs;
    bool constant = true;
    for (ValueId v : n.inputs) {
      inputs.push_back(graph.ConstantOf(v));
      if (v != kNoValue && inputs.back() == nullptr) constant = false;
    }
    const bool visible = std::any_of(n.outputs.begin(), n.outputs.end(),
                                     [&](ValueId v) { return v != kNoValue && graph.IsOutput(v); });
    if (!constant || visible) continue;
    auto results = evaluate(graph, n, inputs);
    if (results.empty()) continue;
    int64_t bytes = 0;
    for (const Tensor& t : results) bytes += t.bytes();
    if (bytes > max_bytes) continue;
    graph.RemoveNode(id);
    for (size_t i = 0; i < n.outputs.size() && i < results.size(); ++i) {
      if (n.outputs[i] == kNoValue) continue;
      Value& v = graph.value(n.outputs[i]);
      v.type = ValueType::Of(results[i].dtype(), results[i].shape());
      v.constant = std::make_shared<const Tensor>(std::move(results[i]));
    }
    ++folded;
  }
  if (folded > 0) graph.Compact();
  return folded;
}

std::vector<FoldedNode> FoldBias(Graph& graph, const NodePredicate& keep) {
  return FoldEach(graph, FoldOneBias, keep);
}

std::vector<FoldedNode> FoldBatchNorm(Graph& graph, const NodePredicate& keep) {
  return FoldEach(graph, FoldOneBatchNorm, keep);
}

std::vector<FoldedNode> FoldIntoLayers(Graph& graph, const NodePredicate& keep) {
  std::vector<FoldedNode> all;
  for (bool uncovered = true; uncovered;) {
    const auto biases = FoldBias(graph, keep), batchnorms = FoldBatchNorm(graph, keep);
    all.insert(all.end(), biases.begin(), biases.end());
    all.insert(all.end(), batchnorms.begin(), batchnorms.end());
    uncovered = !batchnorms.empty();
  }
  return all;
}

}  // namespace octet
