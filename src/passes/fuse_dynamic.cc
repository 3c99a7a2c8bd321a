#include "passes/fuse_dynamic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <tuple>

namespace octet {
namespace {

bool IsViewOfOne(const Node& n) { return n.Is("Reshape") && n.inputs.size() == 2; }

class Fuser {
 public:
  Fuser(Graph& graph, const std::set<ValueId>& kept) : graph_(graph), kept_(kept) {
    kept_.insert(graph.outputs.begin(), graph.outputs.end());
  }

  int Run() {
    const std::vector<NodeId> before = NodeIds();
    if (std::none_of(before.begin(), before.end(), [&](NodeId id) { return IsLayer(id); }))
      return 0;
    MergeEqual();
    uses_ = graph_.UseMap();
    int made = 0;
    for (NodeId id : NodeIds()) {
      if (IsLayer(id) && Fuse(id)) ++made;
    }
    if (made > 0) graph_.opsets["octet"] = 1;
    return made;
  }

 private:
  std::vector<NodeId> NodeIds() const { return graph_.TopologicalOrder(); }
  bool IsLayer(NodeId id) const {
    const Node& n = graph_.node(id);
    return n.Is("MatMulInteger") || n.Is("ConvInteger");
  }

  // In order, so that what merged nodes make is one value for the nodes behind.
  void MergeEqual() {
    using Key = std::tuple<std::string, ValueId, std::vector<int64_t>>;
    std::map<Key, NodeId> seen;
    for (NodeId id : NodeIds()) {
      const Node n = graph_.node(id);
      Key key;
      if (n.Is("DynamicQuantizeLinear")) {
        key = {n.op, n.inputs[0], {}};
      } else if (IsViewOfOne(n)) {
        const Tensor* shape = graph_.ConstantOf(n.inputs[1]);
        if (shape == nullptr || shape->dtype() != DType::kInt64) continue;
        const auto dims = shape->data<int64_t>();
        key = {n.op, n.inputs[0], {dims.begin(), dims.end()}};
        std::get<2>(key).push_back(n.GetInt("allowzero", 0));
      } else {
        continue;
      }
      const auto [first, is_new] = seen.emplace(key, id);
      const bool wanted = std::any_of(n.outputs.begin(), n.outputs.end(),
                                      [&](ValueId v) { return kept_.contains(v); });
      const Node& other = graph_.node(first->second);
      if (is_new || wanted || n.outputs.size() != other.outputs.size()) continue;
      const std::vector<ValueId> to = other.outputs;
      graph_.RemoveNode(id);
      for (size_t i = 0; i < to.size(); ++i) graph_.ReplaceUses(n.outputs[i], to[i]);
    }
  }

  std::vector<Graph::Use> Readers(ValueId v) const {
    std::vector<Graph::Use> readers;
    for (const Graph::Use& use : uses_[static_cast<size_t>(v)]) {
      const Node& n = graph_.node(use.node);
      if (!n.removed && n.input(use.input) == v) readers.push_back(use);
    }
    return readers;
  }
  const Node* OnlyReader(ValueId v) const {
    if (kept_.contains(v)) return nullptr;
    const auto readers = Readers(v);
    return readers.size() == 1 ? &graph_.node(readers[0].node) : nullptr;
  }
  static ValueId OtherThan(const Node& n, ValueId v) {
    if (n.inputs.size() != 2) return kNoValue;
    if (n.inputs[0] == v) return n.inputs[1];
    return n.inputs[1] == v ? n.inputs[0] : kNoValue;
  }
  const Tensor* FloatConstant(ValueId v) const {
    const Tensor* t = graph_.ConstantOf(v);
    return t != nullptr && t->dtype() == DType::kFloat32 ? t : nullptr;
  }
  // Computed, of one element, known to be.
  bool IsComputedScalar(ValueId v, DType dtype) const {
    if (v == kNoValue || graph_.ConstantOf(v) != nullptr) return false;
    const ValueType& type = graph_.value(v).type;
    return type.dtype == dtype && type.is_static() && type.static_shape().elements() == 1;
  }

  struct Layer {
    ValueId weight = kNoValue;
    int64_t channels = 0;
    int trailing = 0;  // axes of the output behind the channels
  };

  // int8 weights without a zero point.
  std::optional<Layer> LayerOf(const Node& n) const {
    const Tensor* w = graph_.ConstantOf(n.input(1));
    const bool conv = n.Is("ConvInteger");
    const ValueType& x = graph_.value(n.inputs[0]).type;
    if (w == nullptr || w->dtype() != DType::kInt8 || x.dtype != DType::kUint8 || !x.has_rank)
      return std::nullopt;
    if (conv ? w->shape().rank() < 3 || w->shape().rank() > 4
             : w->shape().rank() != 2 || x.dims.size() < 2) {
      return std::nullopt;
    }
    if (n.input(2) != kNoValue && !IsComputedScalar(n.inputs[2], DType::kUint8))
      return std::nullopt;
    if (n.input(3) != kNoValue) {
      const Tensor* zero = graph_.ConstantOf(n.inputs[3]);
      if (zero == nullptr || zero->dtype() != DType::kInt8) return std::nullopt;
      const auto z = zero->data<int8_t>();
      if (std::any_of(z.begin(), z.end(), [](int8_t v) { return v != 0; })) return std::nullopt;
    }
    Layer layer;
    layer.weight = n.inputs[1];
    layer.channels = w->shape()[conv ? 0 : 1];
    layer.trailing = conv ? w->shape().rank() - 2 : 0;
    return layer;
  }

  // One number per channel of the output, or one for all where `one_will_do`: a constant, or a
  // Reshape of one; the constant.
  ValueId PerChannel(ValueId v, const Layer& layer, bool one_will_do) const {
    const Tensor* t = FloatConstant(v);
    std::vector<int64_t> dims;
    if (t != nullptr) {
      dims.assign(t->shape().dims().begin(), t->shape().dims().end());
    } else {
      const NodeId producer = graph_.value(v).producer;
      if (producer == kNoNode || !IsViewOfOne(graph_.node(producer))) return kNoValue;
      const Node& reshape = graph_.node(producer);
      const Tensor* shape = graph_.ConstantOf(reshape.inputs[1]);
      t = FloatConstant(reshape.inputs[0]);
      if (t == nullptr || shape == nullptr || shape->dtype() != DType::kInt64) return kNoValue;
      for (int64_t d : shape->data<int64_t>()) dims.push_back(d == -1 ? t->elements() : d);
      v = reshape.inputs[0];
    }
    if (one_will_do && t->elements() == 1) return v;
    const auto axis = static_cast<int64_t>(dims.size()) - 1 - layer.trailing;
    if (t->elements() != layer.channels || axis < 0 ||
        dims[static_cast<size_t>(axis)] != layer.channels) {
      return kNoValue;
    }
    return v;
  }

  // Bounds of a Relu or a Clip with known ones behind `v`; the value behind it.
  ValueId TakeBounds(ValueId v, std::map<std::string, Attribute>& attributes) const {
    const Node* n = OnlyReader(v);
    if (n == nullptr || (!n->Is("Relu") && !n->Is("Clip")) || n->inputs[0] != v) return v;
    if (n->Is("Relu")) {
      attributes["float_lo"] = 0.0F;
      return n->outputs[0];
    }
    std::array<std::optional<float>, 2> bounds;
    for (const size_t i : {0U, 1U}) {
      const char* old = i == 0 ? "min" : "max";
      if (n->Has(old)) bounds[i] = n->GetFloat(old, 0.0F);
      if (n->input(i + 1) == kNoValue) continue;
      const Tensor* t = FloatConstant(n->inputs[i + 1]);
      if (t == nullptr || t->elements() != 1) return v;
      bounds[i] = t->data<float>()[0];
    }
    if (bounds[0]) attributes["float_lo"] = *bounds[0];
    if (bounds[1]) attributes["float_hi"] = *bounds[1];
    return n->outputs[0];
  }

  bool Fuse(NodeId id) {
    const Node n = graph_.node(id);
    const auto layer = LayerOf(n);
    if (!layer) return false;
    const Node* cast = OnlyReader(n.outputs[0]);
    if (cast == nullptr || !cast->Is("Cast") || cast->GetInt("to", 0) != 1) return false;
    const Node* mul = OnlyReader(cast->outputs[0]);
    if (mul == nullptr || !mul->Is("Mul") || !graph_.SameRank(mul->outputs[0], n.outputs[0]))
      return false;
    const ValueId scales = OtherThan(*mul, cast->outputs[0]);
    if (scales == kNoValue || scales == cast->outputs[0]) return false;
    const NodeId producer = graph_.value(scales).producer;
    if (producer == kNoNode || !graph_.node(producer).Is("Mul")) return false;
    const Node& both = graph_.node(producer);
    ValueId x_scale = both.inputs[0], w_scale = both.inputs[1];
    if (graph_.ConstantOf(x_scale) != nullptr) std::swap(x_scale, w_scale);
    w_scale = PerChannel(w_scale, *layer, true);
    if (!IsComputedScalar(x_scale, DType::kFloat32) || w_scale == kNoValue) return false;

    Node made;
    made.attributes = n.attributes;
    ValueId out = mul->outputs[0], bias = kNoValue;
    if (const Node* add = OnlyReader(out);
        add != nullptr && add->Is("Add") && graph_.SameRank(add->outputs[0], out)) {
      bias = PerChannel(OtherThan(*add, out), *layer, false);
      if (bias != kNoValue) out = add->outputs[0];
    }
    out = TakeBounds(out, made.attributes);
    made.op = n.Is("ConvInteger") ? "GridConv" : "GridGemm";
    made.domain = "octet";
    made.inputs = {n.inputs[0], layer->weight, x_scale, n.input(2), w_scale, bias};
    while (made.inputs.back() == kNoValue) made.inputs.pop_back();
    const NodeId old = graph_.value(out).producer;
    made.name = graph_.node(old).name;
    const std::vector<ValueId> read = graph_.node(old).inputs;
    graph_.RemoveNode(old);
    made.outputs = {out};
    const NodeId added = graph_.AddNode(std::move(made));
    const std::vector<ValueId>& inputs = graph_.node(added).inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] != kNoValue) uses_[static_cast<size_t>(inputs[i])].push_back({added, i});
    }
    for (ValueId v : read) RemoveUnread(v);
    return true;
  }

  void RemoveUnread(ValueId v) {
    if (v == kNoValue || kept_.contains(v) || !Readers(v).empty()) return;
    const NodeId producer = graph_.value(v).producer;
    if (producer == kNoNode || IsNeeded(graph_.node(producer))) return;
    const std::vector<ValueId> read = graph_.node(producer).inputs;
    graph_.RemoveNode(producer);
    for (ValueId input : read) RemoveUnread(input);
  }
  bool IsNeeded(const Node& n) const {
    return std::any_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) {
      return v != kNoValue && (kept_.contains(v) || !Readers(v).empty());
    });
  }

  Graph& graph_;
  std::set<ValueId> kept_;
  std::vector<std::vector<Graph::Use>> uses_;
};

}  // namespace

int FuseDynamic(Graph& graph, const std::set<ValueId>& kept) { return Fuser(graph, kept).Run(); }

}  // namespace octet
