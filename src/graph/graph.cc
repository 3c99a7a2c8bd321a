#include "graph/graph.h"

#include <algorithm>
#include <queue>

#include "base/error.h"

namespace octet {
namespace {

template <typename T>
T GetAttribute(const Node& node, std::string_view key, T otherwise, std::string_view kind) {
  const auto it = node.attributes.find(std::string(key));
  if (it == node.attributes.end()) return otherwise;
  const T* v = std::get_if<T>(&it->second);
  if (v == nullptr) {
    Fail(ErrorCode::kBadFile, "node '", node.name, "' (", node.op, "): attribute '", key,
         "' is not ", kind);
  }
  return *v;
}

template <typename Map>
std::string UniqueName(const Map& taken, std::string name) {
  if (name.empty()) name = "value";
  if (!taken.contains(name)) return name;
  for (int i = 1;; ++i) {
    std::string candidate = name + "_" + std::to_string(i);
    if (!taken.contains(candidate)) return candidate;
  }
}

}  // namespace

ValueType ValueType::Of(DType dtype, const Shape& shape) {
  return {dtype, true, {shape.dims().begin(), shape.dims().end()}, {}};
}

ValueType ValueType::Unranked(DType dtype) { return {dtype, false, {}, {}}; }

bool ValueType::is_static() const {
  return has_rank && std::none_of(dims.begin(), dims.end(), [](int64_t d) { return d < 0; });
}

Shape ValueType::static_shape() const {
  OCTET_INVARIANT(is_static());
  return Shape(dims);
}

std::string ValueType::ToString() const {
  std::string s(NameOf(dtype));
  if (!has_rank) return s + "[...]";
  s += "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) s += ",";
    if (dims[i] >= 0) {
      s += std::to_string(dims[i]);
    } else {
      s += i < symbols.size() && !symbols[i].empty() ? symbols[i] : "?";
    }
  }
  return s + "]";
}

int64_t Node::GetInt(std::string_view key, int64_t otherwise) const {
  return GetAttribute<int64_t>(*this, key, otherwise, "an integer");
}
float Node::GetFloat(std::string_view key, float otherwise) const {
  return GetAttribute<float>(*this, key, otherwise, "a float");
}
std::string Node::GetString(std::string_view key, std::string_view otherwise) const {
  return GetAttribute<std::string>(*this, key, std::string(otherwise), "a string");
}
std::vector<int64_t> Node::GetInts(std::string_view key, std::vector<int64_t> otherwise) const {
  return GetAttribute<std::vector<int64_t>>(*this, key, std::move(otherwise), "a list of integers");
}
std::vector<float> Node::GetFloats(std::string_view key, std::vector<float> otherwise) const {
  return GetAttribute<std::vector<float>>(*this, key, std::move(otherwise), "a list of floats");
}

int64_t Graph::opset() const {
  const auto it = opsets.find("");
  if (it == opsets.end()) Fail(ErrorCode::kBadFile, "the model imports no ai.onnx operator set");
  return it->second;
}

ValueId Graph::AddValue(std::string value_name, ValueType type) {
  Value v;
  v.name = UniqueName(by_name_, std::move(value_name));
  v.type = std::move(type);
  const auto id = static_cast<ValueId>(values_.size());
  by_name_.emplace(v.name, id);
  values_.push_back(std::move(v));
  return id;
}

ValueId Graph::AddInput(std::string value_name, ValueType type) {
  const ValueId id = AddValue(std::move(value_name), std::move(type));
  inputs.push_back(id);
  return id;
}

ValueId Graph::AddConstant(std::string value_name, Tensor tensor) {
  return AddConstant(std::move(value_name), std::make_shared<const Tensor>(std::move(tensor)));
}

ValueId Graph::AddConstant(std::string value_name, ConstantPtr tensor) {
  const ValueId id =
      AddValue(std::move(value_name), ValueType::Of(tensor->dtype(), tensor->shape()));
  value(id).constant = std::move(tensor);
  return id;
}

ValueId Graph::Find(std::string_view value_name) const {
  const auto it = by_name_.find(value_name);
  return it == by_name_.end() ? kNoValue : it->second;
}

const Tensor* Graph::ConstantOf(ValueId id) const {
  return id == kNoValue ? nullptr : value(id).constant.get();
}

void Graph::Rename(ValueId id, std::string new_name) {
  if (value(id).name == new_name) return;
  if (by_name_.contains(new_name)) {
    Fail(ErrorCode::kInternal, "cannot rename value '", value(id).name, "': '", new_name,
         "' is taken");
  }
  by_name_.erase(value(id).name);
  by_name_.emplace(new_name, id);
  value(id).name = std::move(new_name);
}

NodeId Graph::AddNode(Node node) {
  const auto id = static_cast<NodeId>(nodes_.size());
  if (node.name.empty()) {
    const ValueId first = node.outputs.empty() ? kNoValue : node.outputs.front();
    node.name = first == kNoValue ? node.op : value(first).name + "/" + node.op;
  }
  node.name = UniqueName(node_by_name_, std::move(node.name));
  node_by_name_.emplace(node.name, id);
  for (ValueId out : node.outputs) {
    if (out == kNoValue) continue;
    if (value(out).producer != kNoNode || value(out).constant != nullptr) {
      Fail(ErrorCode::kBadFile, "value '", value(out).name,
           "' is produced twice; the second time by node '", node.name, "'");
    }
    value(out).producer = id;
  }
  nodes_.push_back(std::move(node));
  return id;
}

NodeId Graph::AddOp(std::string op, std::vector<ValueId> op_inputs, std::vector<ValueId> op_outputs,
                    std::map<std::string, Attribute> attributes, std::string node_name,
                    std::string domain) {
  Node node;
  node.op = std::move(op);
  node.domain = std::move(domain);
  node.name = std::move(node_name);
  node.inputs = std::move(op_inputs);
  node.outputs = std::move(op_outputs);
  node.attributes = std::move(attributes);
  return AddNode(std::move(node));
}

void Graph::RemoveNode(NodeId id) {
  Node& n = node(id);
  for (ValueId out : n.outputs) {
    if (out != kNoValue && value(out).producer == id) value(out).producer = kNoNode;
  }
  node_by_name_.erase(n.name);
  n = Node{};
  n.removed = true;
}

NodeId Graph::FindNode(std::string_view node_name) const {
  const auto it = node_by_name_.find(node_name);
  return it == node_by_name_.end() ? kNoNode : it->second;
}

std::vector<Graph::Use> Graph::UsesOf(ValueId id) const {
  std::vector<Use> uses;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    for (size_t i = 0; i < nodes_[n].inputs.size(); ++i) {
      if (nodes_[n].inputs[i] == id) uses.push_back({static_cast<NodeId>(n), i});
    }
  }
  return uses;
}

std::vector<std::vector<Graph::Use>> Graph::UseMap() const {
  std::vector<std::vector<Use>> uses(values_.size());
  for (size_t n = 0; n < nodes_.size(); ++n) {
    for (size_t i = 0; i < nodes_[n].inputs.size(); ++i) {
      const ValueId v = nodes_[n].inputs[i];
      if (v != kNoValue) uses[static_cast<size_t>(v)].push_back({static_cast<NodeId>(n), i});
    }
  }
  return uses;
}

bool Graph::SameRank(ValueId a, ValueId b) const {
  const ValueType &x = value(a).type, &y = value(b).type;
  return x.has_rank && y.has_rank && x.dims.size() == y.dims.size();
}

bool Graph::IsOutput(ValueId id) const {
  return std::find(outputs.begin(), outputs.end(), id) != outputs.end();
}

void Graph::ReplaceUses(ValueId from, ValueId to) {
  for (Node& n : nodes_) std::replace(n.inputs.begin(), n.inputs.end(), from, to);
  std::replace(outputs.begin(), outputs.end(), from, to);
}

std::vector<NodeId> Graph::TopologicalOrder() const {
  const auto uses = UseMap();
  std::vector<int> waiting(nodes_.size(), 0);
  std::priority_queue<NodeId, std::vector<NodeId>, std::greater<>> ready;
  size_t live = 0;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    if (nodes_[n].removed) continue;
    ++live;
    for (ValueId v : nodes_[n].inputs) {
      if (v != kNoValue && value(v).producer != kNoNode) ++waiting[n];
    }
    if (waiting[n] == 0) ready.push(static_cast<NodeId>(n));
  }
  std::vector<NodeId> order;
  order.reserve(live);
  while (!ready.empty()) {
    const NodeId id = ready.top();
    ready.pop();
    order.push_back(id);
    for (ValueId out : node(id).outputs) {
      if (out == kNoValue) continue;
      for (const Use& use : uses[static_cast<size_t>(out)]) {
        if (--waiting[static_cast<size_t>(use.node)] == 0) ready.push(use.node);
      }
    }
  }
  if (order.size() != live) {
    for (size_t n = 0; n < nodes_.size(); ++n) {
      if (!nodes_[n].removed && waiting[n] > 0) {
        Fail(ErrorCode::kBadFile, "the graph has a cycle through or before node '", nodes_[n].name,
             "' (", nodes_[n].op, ")");
      }
    }
  }
  return order;
}

void Graph::Compact() {
  const auto order = TopologicalOrder();
  std::vector<bool> needed(values_.size(), false);
  for (ValueId v : outputs) needed[static_cast<size_t>(v)] = true;
  std::vector<NodeId> kept;
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const Node& n = node(*it);
    const bool live = std::any_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) {
      return v != kNoValue && needed[static_cast<size_t>(v)];
    });
    if (!live) continue;
    kept.push_back(*it);
    for (ValueId v : n.inputs) {
      if (v != kNoValue) needed[static_cast<size_t>(v)] = true;
    }
    for (ValueId v : n.outputs) {
      if (v != kNoValue) needed[static_cast<size_t>(v)] = true;
    }
  }
  std::reverse(kept.begin(), kept.end());
  for (ValueId v : inputs) needed[static_cast<size_t>(v)] = true;

  std::vector<ValueId> moved(values_.size(), kNoValue);
  std::deque<Value> values;
  for (size_t v = 0; v < values_.size(); ++v) {
    if (!needed[v]) continue;
    moved[v] = static_cast<ValueId>(values.size());
    values_[v].producer = kNoNode;
    values.push_back(std::move(values_[v]));
  }
  const auto move = [&](ValueId& v) {
    if (v != kNoValue) v = moved[static_cast<size_t>(v)];
  };
  std::deque<Node> nodes;
  for (NodeId id : kept) {
    Node n = std::move(nodes_[static_cast<size_t>(id)]);
    for (ValueId& v : n.inputs) move(v);
    for (ValueId& v : n.outputs) {
      move(v);
      if (v != kNoValue)
        values[static_cast<size_t>(v)].producer = static_cast<NodeId>(nodes.size());
    }
    nodes.push_back(std::move(n));
  }
  for (ValueId& v : inputs) move(v);
  for (ValueId& v : outputs) move(v);
  values_ = std::move(values);
  nodes_ = std::move(nodes);
  by_name_.clear();
  node_by_name_.clear();
  for (size_t v = 0; v < values_.size(); ++v)
    by_name_.emplace(values_[v].name, static_cast<ValueId>(v));
  for (size_t n = 0; n < nodes_.size(); ++n)
    node_by_name_.emplace(nodes_[n].name, static_cast<NodeId>(n));
}

void Graph::Verify(std::string_view when) const {
  const ErrorCode code = when == "after import" ? ErrorCode::kBadFile : ErrorCode::kInternal;
  if (by_name_.size() != values_.size()) Fail(code, "graph ", when, ": value names are not unique");
  std::vector<bool> is_input(values_.size(), false);
  for (ValueId v : inputs) is_input[static_cast<size_t>(v)] = true;
  const auto check_defined = [&](ValueId v, const std::string& who) {
    const Value& x = value(v);
    if (x.producer == kNoNode && x.constant == nullptr && !is_input[static_cast<size_t>(v)]) {
      Fail(code, "graph ", when, ": ", who, " reads '", x.name,
           "', which no node produces and which is neither an input nor a constant");
    }
  };
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& n = nodes_[i];
    if (n.removed) continue;
    for (ValueId v : n.inputs) {
      if (v != kNoValue) check_defined(v, "node '" + n.name + "'");
    }
    for (ValueId v : n.outputs) {
      if (v != kNoValue && value(v).producer != static_cast<NodeId>(i)) {
        Fail(code, "graph ", when, ": value '", value(v).name, "' does not know its producer '",
             n.name, "'");
      }
    }
  }
  if (outputs.empty()) Fail(code, "graph ", when, ": it has no outputs");
  for (ValueId v : outputs) check_defined(v, "the list of outputs");
  (void)TopologicalOrder();
}

}  // namespace octet
