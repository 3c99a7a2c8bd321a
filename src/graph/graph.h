// The one intermediate representation: an ONNX graph, logical NCHW, always runnable.
//
// Values and nodes are referred to by index, never by pointer. Removing a node leaves a hole (op
// empty, `removed`), so ids stay valid while a pass works; Compact() closes the holes at the end of
// it. Copying a graph is cheap: constants are shared and immutable.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tensor/tensor.h"

namespace octet {

class Graph;

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kNoValue = -1;  // an omitted optional input or output
inline constexpr NodeId kNoNode = -1;

inline constexpr int64_t kUnknownDim = -1;

// What is known about a value before anything runs. A dimension of kUnknownDim may bear a symbol
// ("N"); symbols of known dimensions are empty.
struct ValueType {
  DType dtype = DType::kUndefined;
  bool has_rank = false;
  std::vector<int64_t> dims;
  std::vector<std::string> symbols;  // same length as dims, or empty

  [[nodiscard]] static ValueType Of(DType dtype, const Shape& shape);
  [[nodiscard]] static ValueType Unranked(DType dtype);
  [[nodiscard]] bool is_static() const;        // rank and every dimension known
  [[nodiscard]] Shape static_shape() const;    // requires is_static()
  [[nodiscard]] std::string ToString() const;  // "float32[N,3,224,224]"
};

using ConstantPtr = std::shared_ptr<const Tensor>;

struct Value {
  std::string name;
  ValueType type;
  ConstantPtr constant;       // set for initializers and folded constants
  NodeId producer = kNoNode;  // kNoNode for inputs and constants
};

using Attribute =
    std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>,
                 std::vector<std::string>, ConstantPtr, std::shared_ptr<const Graph>>;

struct Node {
  std::string op;      // "Conv"
  std::string domain;  // "" is ai.onnx; "octet" is ours; others are kept and cannot be run
  std::string name;    // unique and not empty after import
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::map<std::string, Attribute> attributes;
  bool removed = false;

  [[nodiscard]] bool Is(std::string_view op_name, std::string_view op_domain = "") const {
    return !removed && op == op_name && domain == op_domain;
  }
  [[nodiscard]] ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
  // Attribute or default; throws kBadFile where the attribute has another type.
  [[nodiscard]] int64_t GetInt(std::string_view key, int64_t otherwise) const;
  [[nodiscard]] float GetFloat(std::string_view key, float otherwise) const;
  [[nodiscard]] std::string GetString(std::string_view key, std::string_view otherwise) const;
  [[nodiscard]] std::vector<int64_t> GetInts(std::string_view key,
                                             std::vector<int64_t> otherwise) const;
  [[nodiscard]] std::vector<float> GetFloats(std::string_view key,
                                             std::vector<float> otherwise) const;
  [[nodiscard]] bool Has(std::string_view key) const {
    return attributes.contains(std::string(key));
  }
};

class Graph {
 public:
  std::string name;
  std::map<std::string, int64_t> opsets;  // domain -> version; "" is ai.onnx
  std::vector<ValueId> inputs;            // without initializers
  std::vector<ValueId> outputs;
  // What the file said beyond the graph (producer, metadata_props, functions, unknown fields):
  // bytes of a ModelProto whose graph is empty, kept for the writer. Empty for graphs made here.
  std::string model_residue;

  [[nodiscard]] int64_t opset() const;  // of ai.onnx; throws where there is none

  // Values.
  ValueId AddValue(std::string value_name,
                   ValueType type = {});  // made unique by a suffix if taken
  ValueId AddInput(std::string value_name, ValueType type);
  ValueId AddConstant(std::string value_name, Tensor tensor);
  ValueId AddConstant(std::string value_name, ConstantPtr tensor);
  [[nodiscard]] const Value& value(ValueId id) const { return values_.at(static_cast<size_t>(id)); }
  [[nodiscard]] Value& value(ValueId id) { return values_.at(static_cast<size_t>(id)); }
  [[nodiscard]] size_t value_count() const { return values_.size(); }
  [[nodiscard]] ValueId Find(std::string_view value_name) const;  // kNoValue where there is none
  // The constant behind an input, or null where it is omitted or computed.
  [[nodiscard]] const Tensor* ConstantOf(ValueId id) const;
  // Renames keep the name index right. Throws where the new name is taken.
  void Rename(ValueId id, std::string new_name);

  // Nodes.
  NodeId AddNode(
      Node node);  // sets producers of its outputs; gives it a unique name if it has none
  NodeId AddOp(std::string op, std::vector<ValueId> op_inputs, std::vector<ValueId> op_outputs,
               std::map<std::string, Attribute> attributes = {}, std::string node_name = {},
               std::string domain = {});
  void RemoveNode(NodeId id);
  [[nodiscard]] const Node& node(NodeId id) const { return nodes_.at(static_cast<size_t>(id)); }
  [[nodiscard]] Node& node(NodeId id) { return nodes_.at(static_cast<size_t>(id)); }
  [[nodiscard]] size_t node_count() const { return nodes_.size(); }  // holes included
  [[nodiscard]] NodeId FindNode(std::string_view node_name) const;

  // Uses. A node that reads a value twice is listed twice; graph outputs are not listed.
  struct Use {
    NodeId node;
    size_t input;
  };
  [[nodiscard]] std::vector<Use> UsesOf(ValueId id) const;     // O(nodes): for many, use UseMap()
  [[nodiscard]] std::vector<std::vector<Use>> UseMap() const;  // by ValueId
  [[nodiscard]] bool IsOutput(ValueId id) const;
  // Both ranks known and the same. Broadcasting adds axes: a constant of one element is a scalar
  // only beside a value of no smaller rank.
  [[nodiscard]] bool SameRank(ValueId a, ValueId b) const;
  void ReplaceUses(ValueId from, ValueId to);  // node inputs and graph outputs

  // Live nodes such that every producer comes first; ties in insertion order. Throws kBadFile
  // naming a node of the cycle where there is one.
  [[nodiscard]] std::vector<NodeId> TopologicalOrder() const;

  // Removes nodes whose outputs nobody needs, then unused constants, then closes the holes and
  // sorts the nodes topologically. All ids change.
  void Compact();

  // Every input has a producer, constant or graph input before it; names are unique; producers
  // agree; no cycle. `when` goes into the message ("after fold_batchnorm"). Throws kInternal for a
  // pass, kBadFile for "after import".
  void Verify(std::string_view when) const;

 private:
  // Deques: a reference to a value or node stays good while others are added.
  std::deque<Value> values_;
  std::deque<Node> nodes_;
  std::map<std::string, ValueId, std::less<>> by_name_;
  std::map<std::string, NodeId, std::less<>> node_by_name_;
};

}  // namespace octet
