#include "passes/channel_groups.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "passes/functions_of_codes.h"

namespace octet {
namespace {

const Tensor* FloatConstant(const Graph& graph, ValueId id) {
  const Tensor* t = graph.ConstantOf(id);
  return t != nullptr && t->dtype() == DType::kFloat32 ? t : nullptr;
}

// A weight element's channel: visit(channel, value index). Contracted side (input channels).
template <typename Visit>
void ForContracted(const Node& node, const Shape& w, const Visit& visit) {
  if (node.Is("Conv")) {
    const int64_t groups = node.GetInt("group", 1);
    const int64_t per_group = w[1];
    const int64_t oc_per_group = w[0] / groups;
    const int64_t taps = w.product(2, w.rank());
    for (int64_t o = 0; o < w[0]; ++o) {
      for (int64_t i = 0; i < per_group; ++i) {
        const int64_t c = (o / oc_per_group) * per_group + i;
        for (int64_t t = 0; t < taps; ++t) visit(c, (o * per_group + i) * taps + t);
      }
    }
    return;
  }
  const bool k_first = node.Is("MatMul") || node.GetInt("transB", 0) == 0;  // (K,N), else (N,K)
  const int64_t rows = w[0], columns = w[1];
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) visit(k_first ? r : c, r * columns + c);
  }
}

// Produced side (output channels).
template <typename Visit>
void ForProduced(const Node& node, const Shape& w, const Visit& visit) {
  if (node.Is("Conv")) {
    const int64_t inner = w.product(1, w.rank());
    for (int64_t o = 0; o < w[0]; ++o) {
      for (int64_t t = 0; t < inner; ++t) visit(o, o * inner + t);
    }
    return;
  }
  const bool k_first = node.Is("MatMul") || node.GetInt("transB", 0) == 0;
  for (int64_t r = 0; r < w[0]; ++r) {
    for (int64_t c = 0; c < w[1]; ++c) visit(k_first ? c : r, r * w[1] + c);
  }
}

bool IsWeighted(const Graph& graph, const Node& node) {
  if (node.removed) return false;
  if (node.Is("Conv")) return FloatConstant(graph, node.input(1)) != nullptr;
  if (node.Is("Gemm")) {
    return FloatConstant(graph, node.input(1)) != nullptr && node.GetInt("transA", 0) == 0;
  }
  if (node.Is("MatMul")) {
    const Tensor* w = FloatConstant(graph, node.input(1));
    return w != nullptr && w->shape().rank() == 2;
  }
  return false;
}

// A node whose own parameters can divide its output channels. Returns their number.
std::optional<int64_t> ProducedChannels(const Graph& graph, const Node& node) {
  if (node.Is("Conv") && IsWeighted(graph, node)) {
    if (node.input(2) != kNoValue && FloatConstant(graph, node.input(2)) == nullptr)
      return std::nullopt;
    return graph.ConstantOf(node.input(1))->shape()[0];
  }
  if ((node.Is("Gemm") || node.Is("MatMul")) && IsWeighted(graph, node)) {
    const Shape& w = graph.ConstantOf(node.input(1))->shape();
    const int64_t n = node.Is("Gemm") && node.GetInt("transB", 0) != 0 ? w[0] : w[1];
    if (node.input(2) != kNoValue) {
      const Tensor* b = FloatConstant(graph, node.input(2));
      if (b == nullptr || b->elements() != n) return std::nullopt;
    }
    return n;
  }
  if (node.Is("BatchNormalization") && FloatConstant(graph, node.input(1)) != nullptr &&
      FloatConstant(graph, node.input(2)) != nullptr) {
    return graph.ConstantOf(node.input(1))->elements();
  }
  if ((node.Is("LayerNormalization") || node.Is("RMSNormalization")) &&
      FloatConstant(graph, node.input(1)) != nullptr) {
    if (node.input(2) != kNoValue && FloatConstant(graph, node.input(2)) == nullptr)
      return std::nullopt;
    const Tensor* scale = graph.ConstantOf(node.input(1));
    if (scale->shape().rank() == 1) return scale->elements();
  }
  return std::nullopt;
}

// Whether every element of `v` follows from one element of one other value and from numbers, as of
// GELU or hard-swish written out: that becomes one operator or a table (passes/fuse_float.h,
// functions_of_codes.h), which a factor per channel inside it would prevent.
bool IsFunctionOfOneValue(const Graph& graph, ValueId v) {
  std::set<ValueId> seen = {v}, arguments;
  std::vector<ValueId> work = {v};
  while (!work.empty()) {
    const ValueId at = work.back();
    work.pop_back();
    const NodeId producer = graph.value(at).producer;
    std::vector<ValueId> operands;
    if (producer != kNoNode) {
      const Node& n = graph.node(producer);
      if (const auto argument = ArgumentOf(graph, n)) {
        operands = {n.inputs[*argument]};
      } else if (n.Is("Add") || n.Is("Sub") || n.Is("Mul") || n.Is("Div") || n.Is("Pow")) {
        for (ValueId side : n.inputs) {
          const Tensor* constant = graph.ConstantOf(side);
          if (constant == nullptr) operands.push_back(side);
          if (constant != nullptr && constant->elements() != 1) {  // another function per channel
            operands.clear();
            break;
          }
        }
      }
    }
    if (operands.empty()) arguments.insert(at);
    for (ValueId side : operands) {
      if (seen.insert(side).second) work.push_back(side);
    }
  }
  return arguments.size() == 1;
}

int OutputAxis(const Graph& graph, const Node& node) {
  if (node.Is("Conv") || node.Is("BatchNormalization")) return 1;
  return static_cast<int>(graph.value(node.outputs[0]).type.dims.size()) - 1;
}

// If the constant varies along the value's channels alone (all other dimensions 1), true.
bool IsPerChannelConstant(const Tensor& t, size_t value_rank, const ChannelLayout& layout,
                          int64_t channels) {
  if (layout.repeat != 1) return false;
  if (t.elements() == 1) return true;
  const int offset = static_cast<int>(value_rank) - t.shape().rank();
  if (offset < 0) return false;
  for (int i = 0; i < t.shape().rank(); ++i) {
    const int64_t expected = i + offset == layout.axis ? channels : 1;
    if (t.shape()[i] != expected) return false;
  }
  return true;
}

class Finder {
 public:
  Finder(const Graph& graph, const std::vector<std::vector<Graph::Use>>& uses, bool allow_clips)
      : graph_(graph), uses_(uses), allow_clips_(allow_clips) {}

  // The group of `start`, or a reason why there is none in reason().
  std::optional<ChannelGroup> Grow(ValueId start, ChannelLayout layout, int64_t channels) {
    group_ = {};
    group_.name = graph_.value(start).name;
    group_.channels = channels;
    visited_nodes_.clear();
    products_.clear();
    work_.clear();
    reason_.clear();
    Join(start, layout);
    while (!work_.empty() && reason_.empty()) {
      const ValueId v = work_.back();
      work_.pop_back();
      Expand(v);
    }
    for (NodeId id : products_) {
      const Node& n = graph_.node(id);
      if (group_.values.contains(n.inputs[0]) && group_.values.contains(n.inputs[1]))
        Blocked("both factors of Mul '" + n.name + "' would carry the scaling");
    }
    if (!reason_.empty()) return std::nullopt;
    return group_;
  }
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  void Blocked(const std::string& why) {
    if (reason_.empty()) reason_ = why;
  }

  void Join(ValueId v, ChannelLayout layout) {
    const auto [it, is_new] = group_.values.emplace(v, layout);
    if (is_new) {
      work_.push_back(v);
    } else if (it->second != layout) {
      Blocked("'" + graph_.value(v).name + "' would carry its channels on two axes");
    }
  }

  void Expand(ValueId v) {
    const Value& value = graph_.value(v);
    const ChannelLayout layout = group_.values.at(v);
    if (graph_.IsOutput(v)) return Blocked("'" + value.name + "' is a graph output");
    if (!value.type.has_rank) return Blocked("the rank of '" + value.name + "' is not known");
    if (value.producer == kNoNode) return Blocked("'" + value.name + "' is a graph input");
    Produce(value.producer, v, layout);
    for (const Graph::Use& use : uses_[static_cast<size_t>(v)]) Consume(use, v, layout);
  }

  // Operators that commute with a positive factor per channel, elementwise or over space.
  static bool IsHomogeneous(const Node& n) {
    return n.Is("Relu") || n.Is("LeakyRelu") || n.Is("Identity") || n.Is("MaxPool") ||
           n.Is("AveragePool") || n.Is("GlobalAveragePool") || n.Is("GlobalMaxPool");
  }

  bool TakeClip(NodeId id, const Node& n, const ChannelLayout& layout) {
    if (!allow_clips_) {
      Blocked("Clip '" + n.name + "' needs per-channel bounds, which only the octet target runs");
      return false;
    }
    for (size_t i = 1; i <= 2; ++i) {
      if (n.input(i) != kNoValue && FloatConstant(graph_, n.input(i)) == nullptr) {
        Blocked("Clip '" + n.name + "' has computed bounds");
        return false;
      }
    }
    if (layout.repeat != 1) {
      Blocked("Clip '" + n.name + "' stands behind a Flatten");
      return false;
    }
    if (visited_nodes_.insert(id).second) group_.clips.push_back(id);
    return true;
  }

  // The layout on the other side of Flatten/Reshape to rank 2, or nullopt. `forward`: from
  // [N,C,H,W].
  std::optional<ChannelLayout> ThroughFlatten(const Node& n, const ChannelLayout& layout,
                                              bool forward) const {
    if (n.Is("Flatten") && n.GetInt("axis", 1) != 1) return std::nullopt;
    const ValueType& in = graph_.value(n.inputs[0]).type;
    const ValueType& out = graph_.value(n.outputs[0]).type;
    if (!in.has_rank || !out.has_rank || out.dims.size() != 2 || in.dims.size() < 2 ||
        in.dims[1] < 0) {
      return std::nullopt;
    }
    int64_t space = 1;
    for (size_t i = 2; i < in.dims.size(); ++i) {
      if (in.dims[i] < 0) return std::nullopt;
      space *= in.dims[i];
    }
    if (out.dims[1] >= 0 && out.dims[1] != in.dims[1] * space) return std::nullopt;
    if (n.Is("Reshape") && (out.dims[1] < 0 || (in.dims[0] >= 0 && in.dims[0] != out.dims[0])))
      return std::nullopt;
    const ChannelLayout flat{1, space * (forward ? layout.repeat : 1)};
    if (forward) return layout == ChannelLayout{1, 1} ? std::optional(flat) : std::nullopt;
    return layout == flat ? std::optional(ChannelLayout{1, 1}) : std::nullopt;
  }

  void AddProducer(NodeId id) {
    auto& known = group_.producers;
    if (std::find(known.begin(), known.end(), id) == known.end()) known.push_back(id);
  }

  // Mul or Div by the constant at input `side`, which takes the scaling: what it multiplies, the
  // rest of a normalization written out, say, keeps its values.
  void TakeFactor(NodeId id, const Node& n, size_t side, const ChannelLayout& layout) {
    const Tensor& factor = *graph_.ConstantOf(n.inputs[side]);
    const size_t rank = graph_.value(n.outputs[0]).type.dims.size();
    if (!IsPerChannelConstant(factor, rank, layout, group_.channels))
      return Blocked("the constant of " + n.op + " '" + n.name + "' is not per channel");
    if (factor.elements() == 1 && group_.channels > 1 &&
        IsFunctionOfOneValue(graph_, n.outputs[0])) {
      return Blocked(n.op + " '" + n.name + "' by one number belongs to a function of one value, " +
                     "which runs as one operator or table");
    }
    AddProducer(id);
  }

  bool IsProduct(const Node& n) const {
    return n.Is("Mul") && graph_.ConstantOf(n.inputs[0]) == nullptr &&
           graph_.ConstantOf(n.inputs[1]) == nullptr;
  }

  // Whether a factor `v` of a product has all its channels where the product has them.
  bool HasChannelsOf(const Node& product, ValueId v, const ChannelLayout& layout) const {
    const ValueId y = product.outputs[0];
    const ValueType &in = graph_.value(v).type, &out = graph_.value(y).type;
    const auto axis = static_cast<size_t>(layout.axis);
    const int64_t size = group_.channels * layout.repeat;
    return graph_.SameRank(v, y) && in.dims[axis] == size && out.dims[axis] == size;
  }

  // Whether weights, or a constant factor, stand right behind `v`, at most bias and ReLU between.
  bool ComesFromWeights(ValueId v) const {
    const NodeId id = graph_.value(v).producer;
    if (id == kNoNode) return false;
    const Node& n = graph_.node(id);
    if (ProducedChannels(graph_, n) == group_.channels) return true;
    if (n.Is("Relu")) return ComesFromWeights(n.inputs[0]);
    if (!n.Is("Add")) return false;
    const bool first = graph_.ConstantOf(n.inputs[0]) != nullptr;
    const bool second = graph_.ConstantOf(n.inputs[1]) != nullptr;
    return first != second && ComesFromWeights(n.inputs[first ? 1 : 0]);
  }

  // Mul of two computed values: one factor carries the scaling of the product, that which weights
  // make, as of a gated linear unit, silu(gate) * up, and of an image times its gate.
  void ThroughProduct(NodeId id, const Node& n, const ChannelLayout& layout) {
    const auto carries = [&](size_t side) {
      return HasChannelsOf(n, n.inputs[side], layout) && ComesFromWeights(n.inputs[side]);
    };
    const bool first = carries(0);
    if (first == carries(1)) {
      return Blocked("'" + graph_.value(n.outputs[0]).name + "' comes from Mul '" + n.name + "', " +
                     (first ? "both of whose factors come" : "none of whose factors comes") +
                     " from weights");
    }
    products_.push_back(id);
    Join(n.inputs[first ? 0 : 1], layout);
  }

  void Produce(NodeId id, ValueId v, const ChannelLayout& layout) {
    const Node& n = graph_.node(id);
    const auto produced = ProducedChannels(graph_, n);
    if (produced && *produced == group_.channels &&
        layout == ChannelLayout{OutputAxis(graph_, n), 1} && n.outputs[0] == v) {
      return AddProducer(id);
    }
    if (const auto side = FactorInput(graph_, n)) return TakeFactor(id, n, *side, layout);
    if (IsHomogeneous(n) && n.outputs[0] == v) return Join(n.inputs[0], layout);
    if (n.Is("Clip")) {
      if (TakeClip(id, n, layout)) Join(n.inputs[0], layout);
      return;
    }
    if (n.Is("Flatten") || n.Is("Reshape")) {
      if (const auto before = ThroughFlatten(n, layout, false)) return Join(n.inputs[0], *before);
    }
    if (n.Is("Add") || n.Is("Sub") || IsBound(n)) return AcrossElementwise(id, n, layout);
    if (IsProduct(n)) return ThroughProduct(id, n, layout);
    Blocked("'" + graph_.value(v).name + "' comes from " + n.op + " '" + n.name +
            "', which has no per-channel weights to take the scaling");
  }

  // Min or Max with one constant: what a rescaled Clip becomes.
  bool IsBound(const Node& n) const {
    return allow_clips_ && (n.Is("Min") || n.Is("Max")) && n.inputs.size() == 2 &&
           (graph_.ConstantOf(n.inputs[0]) != nullptr) !=
               (graph_.ConstantOf(n.inputs[1]) != nullptr);
  }

  // Add, Sub, Min, Max: computed operands join the group, constants are divided with it.
  void AcrossElementwise(NodeId id, const Node& n, const ChannelLayout& layout) {
    const size_t rank = graph_.value(n.outputs[0]).type.dims.size();
    for (ValueId side : n.inputs) {
      if (const Tensor* c = graph_.ConstantOf(side)) {
        if (c->dtype() != DType::kFloat32 ||
            !IsPerChannelConstant(*c, rank, layout, group_.channels)) {
          return Blocked("the constant of " + n.op + " '" + n.name + "' is not per channel");
        }
        if (visited_nodes_.insert(id).second) group_.constants.push_back(id);
        continue;
      }
      const ValueType& t = graph_.value(side).type;
      const auto axis = static_cast<size_t>(layout.axis);
      if (!t.has_rank || t.dims.size() != rank || t.dims[axis] != group_.channels * layout.repeat) {
        return Blocked(n.op + " '" + n.name + "' broadcasts '" + graph_.value(side).name + "'");
      }
      Join(side, layout);
    }
    Join(n.outputs[0], layout);
  }

  void Consume(const Graph::Use& use, ValueId v, const ChannelLayout& layout) {
    const Node& n = graph_.node(use.node);
    if (use.input == 0 && IsWeighted(graph_, n)) {
      const int axis = n.Is("Conv") ? 1 : static_cast<int>(graph_.value(v).type.dims.size()) - 1;
      const auto k = ContractedChannels(graph_, n);
      if (layout.axis == axis && k == group_.channels * layout.repeat &&
          (!n.Is("Conv") || layout.repeat == 1)) {
        group_.consumers.push_back(use.node);
        return;
      }
    }
    if (IsHomogeneous(n)) return Join(n.outputs[0], layout);
    if (n.Is("Clip") && use.input == 0) {
      if (TakeClip(use.node, n, layout)) Join(n.outputs[0], layout);
      return;
    }
    if (n.Is("Flatten") || (n.Is("Reshape") && use.input == 0)) {
      if (const auto after = ThroughFlatten(n, layout, true)) return Join(n.outputs[0], *after);
    }
    if (n.Is("Add") || n.Is("Sub") || IsBound(n)) return AcrossElementwise(use.node, n, layout);
    if (IsProduct(n) && HasChannelsOf(n, v, layout)) {
      products_.push_back(use.node);
      return Join(n.outputs[0], layout);
    }
    Blocked("'" + graph_.value(v).name + "' is read by " + n.op + " '" + n.name +
            "', which would see it scaled");
  }

  const Graph& graph_;
  const std::vector<std::vector<Graph::Use>>& uses_;
  bool allow_clips_;
  ChannelGroup group_;
  std::set<NodeId> visited_nodes_;
  std::vector<NodeId> products_;  // Mul of two computed values, one of which carries the scaling
  std::vector<ValueId> work_;
  std::string reason_;
};

// A copy of the constant behind input `index` of the node, private to it: `edit` changes the copy.
template <typename Edit>
void EditConstant(Graph& graph, NodeId id, size_t index, const Edit& edit) {
  const ValueId old = graph.node(id).inputs[index];
  Tensor t = graph.ConstantOf(old)->Clone();
  edit(t);
  graph.node(id).inputs[index] = graph.AddConstant(graph.value(old).name + "_scaled", std::move(t));
}

void Multiply(float& v, double factor) { v = static_cast<float>(static_cast<double>(v) * factor); }

void ScaleConsumer(Graph& graph, NodeId id, std::span<const float> factors, int64_t repeat) {
  const Node node = graph.node(id);
  EditConstant(graph, id, 1, [&](Tensor& w) {
    auto d = w.mutable_data<float>();
    ForContracted(node, w.shape(), [&](int64_t k, int64_t i) {
      Multiply(d[static_cast<size_t>(i)],
               static_cast<double>(factors[static_cast<size_t>(k / repeat)]));
    });
  });
}

// A per-channel constant at input `side` of an elementwise node: `edit(element, factor)` on a copy
// of its own. One element is spread along the channels; the rank stays at least what it was, for
// the result may have its rank from it.
template <typename Edit>
void EditFactor(Graph& graph, NodeId id, size_t side, int axis, std::span<const float> factors,
                const Edit& edit) {
  const ValueId old_id = graph.node(id).inputs[side];
  const Tensor& old = *graph.ConstantOf(old_id);
  const size_t rank = graph.value(graph.node(id).outputs[0]).type.dims.size();
  const size_t from_channels = rank - static_cast<size_t>(axis);  // dimensions, counted from there
  std::vector<int64_t> dims(std::max(from_channels, static_cast<size_t>(old.shape().rank())),
                            1);  // [..1, C, 1..]
  dims[dims.size() - from_channels] = static_cast<int64_t>(factors.size());
  Tensor t(DType::kFloat32, Shape(dims));
  auto d = t.mutable_data<float>();
  for (size_t c = 0; c < d.size(); ++c) {
    d[c] = old.data<float>()[old.elements() == 1 ? 0 : c];
    edit(d[c], static_cast<double>(factors[c]));
  }
  graph.node(id).inputs[side] =
      graph.AddConstant(graph.value(old_id).name + "_scaled", std::move(t));
}

void ScaleProducer(Graph& graph, NodeId id, const ChannelGroup& group,
                   std::span<const float> factors) {
  const Node node = graph.node(id);
  if (const auto side = FactorInput(graph, node)) {
    return EditFactor(graph, id, *side, group.values.at(node.outputs[0]).axis, factors,
                      [&](float& v, double f) { Multiply(v, node.Is("Div") ? f : 1.0 / f); });
  }
  const auto divide_vector = [&](Tensor& t) {
    auto d = t.mutable_data<float>();
    for (size_t i = 0; i < d.size(); ++i) Multiply(d[i], 1.0 / static_cast<double>(factors[i]));
  };
  if (!IsWeighted(graph, node)) {  // a normalization
    EditConstant(graph, id, 1, divide_vector);
  } else {
    EditConstant(graph, id, 1, [&](Tensor& w) {
      auto d = w.mutable_data<float>();
      ForProduced(node, w.shape(), [&](int64_t c, int64_t i) {
        Multiply(d[static_cast<size_t>(i)],
                 1.0 / static_cast<double>(factors[static_cast<size_t>(c)]));
      });
    });
  }
  if (node.input(2) != kNoValue) EditConstant(graph, id, 2, divide_vector);
}

// [1,C,1,1] for axis 1 of rank 4: broadcasts along the channels of a value.
Shape ChannelShape(size_t rank, int axis, int64_t channels) {
  std::vector<int64_t> dims(rank - static_cast<size_t>(axis), 1);
  dims[0] = channels;
  return Shape(dims);
}

void ScaleClip(Graph& graph, NodeId id, int axis, std::span<const float> factors) {
  const Node clip = graph.node(id);
  const auto channels = static_cast<int64_t>(factors.size());
  const size_t rank = graph.value(clip.inputs[0]).type.dims.size();
  const ValueId out = clip.outputs[0];
  const ValueType type = graph.value(out).type;
  const Tensor* low = graph.ConstantOf(clip.input(1));
  const Tensor* high = graph.ConstantOf(clip.input(2));
  graph.RemoveNode(id);
  const auto bound = [&](const Tensor& t, const char* suffix) {
    Tensor b(DType::kFloat32, ChannelShape(rank, axis, channels));
    auto d = b.mutable_data<float>();
    for (size_t c = 0; c < d.size(); ++c) {
      d[c] = static_cast<float>(static_cast<double>(t.data<float>()[0]) /
                                static_cast<double>(factors[c]));
    }
    return graph.AddConstant(clip.name + suffix, std::move(b));
  };
  ValueId x = clip.inputs[0];
  if (low != nullptr) {
    const ValueId y = high != nullptr ? graph.AddValue(clip.name + "_low", type) : out;
    if (low->data<float>()[0] == 0.0F) {
      graph.AddOp("Relu", {x}, {y}, {}, clip.name + "/Relu");
    } else {
      const ValueId b = bound(*low, "_min");
      graph.AddOp("Max", {x, b}, {y}, {}, clip.name + "/Max");
    }
    x = y;
  }
  if (high != nullptr) {
    const ValueId b = bound(*high, "_max");
    graph.AddOp("Min", {x, b}, {out}, {}, clip.name + "/Min");
  } else if (low == nullptr) {
    graph.AddOp("Identity", {x}, {out}, {}, clip.name);
  }
}

// The constant operand of an Add, Sub, Min or Max on the way is divided like the values beside it.
void ScaleConstant(Graph& graph, NodeId id, const ChannelLayout& layout,
                   std::span<const float> factors) {
  const size_t side = graph.ConstantOf(graph.node(id).inputs[0]) != nullptr ? 0 : 1;
  EditFactor(graph, id, side, layout.axis, factors,
             [](float& v, double f) { v = static_cast<float>(static_cast<double>(v) / f); });
}

int64_t RepeatFor(const Graph& graph, const ChannelGroup& group, NodeId consumer) {
  return group.values.at(graph.node(consumer).inputs[0]).repeat;
}

}  // namespace

std::optional<size_t> FactorInput(const Graph& graph, const Node& node) {
  if (!node.Is("Mul") && !node.Is("Div")) return std::nullopt;
  for (const size_t side : {1U, 0U}) {
    if (FloatConstant(graph, node.inputs[side]) != nullptr &&
        graph.ConstantOf(node.inputs[1 - side]) == nullptr) {
      return node.Is("Mul") || side == 1 ? std::optional(side) : std::nullopt;
    }
  }
  return std::nullopt;
}

std::optional<int64_t> ContractedChannels(const Graph& graph, const Node& node) {
  if (!IsWeighted(graph, node)) return std::nullopt;
  const Shape& w = graph.ConstantOf(node.input(1))->shape();
  if (node.Is("Conv")) return w[1] * node.GetInt("group", 1);
  return node.Is("Gemm") && node.GetInt("transB", 0) != 0 ? w[1] : w[0];
}

GroupSearch FindChannelGroups(const Graph& graph, bool allow_clips) {
  GroupSearch search;
  const auto uses = graph.UseMap();
  Finder finder(graph, uses, allow_clips);
  std::set<ValueId> done;
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    const auto k = ContractedChannels(graph, n);
    if (!k || !done.insert(n.inputs[0]).second) continue;
    const ValueId x = n.inputs[0];
    const ValueType& type = graph.value(x).type;
    ChannelLayout layout{n.Is("Conv") ? 1 : static_cast<int>(type.dims.size()) - 1, 1};
    int64_t channels = *k;
    // A Gemm behind Flatten: the channels are those in front of it.
    const NodeId producer = graph.value(x).producer;
    if (!n.Is("Conv") && producer != kNoNode &&
        (graph.node(producer).Is("Flatten") || graph.node(producer).Is("Reshape"))) {
      const ValueType& before = graph.value(graph.node(producer).inputs[0]).type;
      if (before.has_rank && before.dims.size() > 2 && before.dims[1] > 0 &&
          *k % before.dims[1] == 0) {
        channels = before.dims[1];
        layout.repeat = *k / channels;
      }
    }
    const auto group = finder.Grow(x, layout, channels);
    if (!group) {
      search.skipped.push_back({graph.value(x).name, finder.reason()});
      continue;
    }
    for (const auto& [v, unused] : group->values) done.insert(v);
    search.groups.push_back(*group);
  }
  return search;
}

void ScaleChannels(Graph& graph, const ChannelGroup& group, std::span<const float> factors) {
  OCTET_INVARIANT(static_cast<int64_t>(factors.size()) == group.channels);
  for (float f : factors) OCTET_INVARIANT(f > 0 && std::isfinite(f));
  for (NodeId id : group.producers) ScaleProducer(graph, id, group, factors);
  for (NodeId id : group.constants) {
    ScaleConstant(graph, id, group.values.at(graph.node(id).outputs[0]), factors);
  }
  for (NodeId id : group.consumers) ScaleConsumer(graph, id, factors, RepeatFor(graph, group, id));
  for (NodeId id : group.clips) {
    ScaleClip(graph, id, group.values.at(graph.node(id).inputs[0]).axis, factors);
  }
}

ValueId ScaleWithMul(Graph& graph, ValueId value, const ChannelLayout& layout,
                     std::span<const NodeId> consumers, std::span<const float> factors) {
  OCTET_INVARIANT(layout.repeat == 1);
  const size_t rank = graph.value(value).type.dims.size();
  Tensor inverse(DType::kFloat32,
                 ChannelShape(rank, layout.axis, static_cast<int64_t>(factors.size())));
  auto d = inverse.mutable_data<float>();
  for (size_t c = 0; c < d.size(); ++c)
    d[c] = static_cast<float>(1.0 / static_cast<double>(factors[c]));
  const std::string name = graph.value(value).name;
  const ValueId constant = graph.AddConstant(name + "_smoothing", std::move(inverse));
  const ValueId scaled = graph.AddValue(name + "_smoothed", graph.value(value).type);
  graph.AddOp("Mul", {value, constant}, {scaled}, {}, name + "/smooth");
  for (NodeId id : consumers) {
    ScaleConsumer(graph, id, factors, 1);
    graph.node(id).inputs[0] = scaled;
  }
  return scaled;
}

std::vector<float> ConsumerWeightAbsMax(const Graph& graph, const ChannelGroup& group) {
  std::vector<float> w(static_cast<size_t>(group.channels), 0.0F);
  for (NodeId id : group.consumers) {
    const Tensor& t = *graph.ConstantOf(graph.node(id).inputs[1]);
    const int64_t repeat = RepeatFor(graph, group, id);
    const auto d = t.data<float>();
    ForContracted(graph.node(id), t.shape(), [&](int64_t k, int64_t i) {
      float& m = w[static_cast<size_t>(k / repeat)];
      m = std::max(m, std::fabs(d[static_cast<size_t>(i)]));
    });
  }
  return w;
}

std::vector<float> ProducerWeightAbsMax(const Graph& graph, const ChannelGroup& group) {
  std::vector<float> w(static_cast<size_t>(group.channels), 0.0F);
  for (NodeId id : group.producers) {
    const Node& n = graph.node(id);
    if (!IsWeighted(graph, n)) continue;
    const Tensor& t = *graph.ConstantOf(n.inputs[1]);
    const auto d = t.data<float>();
    ForProduced(n, t.shape(), [&](int64_t c, int64_t i) {
      float& m = w[static_cast<size_t>(c)];
      m = std::max(m, std::fabs(d[static_cast<size_t>(i)]));
    });
  }
  return w;
}

}  // namespace octet
