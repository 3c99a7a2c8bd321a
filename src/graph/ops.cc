// The operator table put together from its families, and inference over it.
#include "graph/ops.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "graph/ops_context.h"
#include "graph/ops_inference.h"

namespace octet {
namespace {

using Key = std::pair<std::string_view, std::string_view>;  // operator, domain

const std::map<Key, const OpInfo*>& Table() {
  static const std::map<Key, const OpInfo*> table = [] {
    std::map<Key, const OpInfo*> rows;
    for (const auto family : {ElementwiseOps(), ConvOps(), LinearOps(), RecurrentOps(),
                              NormalizeOps(), ShapeOps(), IndexOps(), QuantizeOps(), OctetOps()}) {
      for (const OpInfo& row : family) rows.emplace(Key{row.op, row.domain}, &row);
    }
    return rows;
  }();
  return table;
}

const ValueType kNothingKnown;

class Context final : public InferContext {
 public:
  Context(const Node& node, int64_t opset, const std::vector<const ValueType*>& types,
          const std::vector<const Tensor*>& constants,
          const std::vector<const PartialInts*>& partials)
      : node_(node),
        opset_(opset),
        types_(types),
        constants_(constants),
        partials_(partials),
        outputs_(node.outputs.size()),
        made_(node.outputs.size()) {}

  const Node& node() const override { return node_; }
  int64_t opset() const override { return opset_; }
  const ValueType& type(size_t i) const override {
    return i < types_.size() && types_[i] != nullptr ? *types_[i] : kNothingKnown;
  }
  bool has(size_t i) const override { return node_.input(i) != kNoValue; }
  const Tensor* constant(size_t i) const override {
    return i < constants_.size() ? constants_[i] : nullptr;
  }
  const PartialInts* partial(size_t i) const override {
    return i < partials_.size() ? partials_[i] : nullptr;
  }
  void SetOutput(size_t i, ValueType type) override {
    if (i < outputs_.size()) outputs_[i] = std::move(type);
  }
  void SetPartial(size_t i, PartialInts value) override {
    if (i < made_.size() && value.elements.size() <= static_cast<size_t>(kMaxPartialElements)) {
      made_[i] = std::move(value);
    }
  }

  std::vector<ValueType>& outputs() { return outputs_; }
  std::vector<std::optional<PartialInts>>& made() { return made_; }

 private:
  const Node& node_;
  int64_t opset_;
  const std::vector<const ValueType*>& types_;
  const std::vector<const Tensor*>& constants_;
  const std::vector<const PartialInts*>& partials_;
  std::vector<ValueType> outputs_;
  std::vector<std::optional<PartialInts>> made_;
};

std::optional<PartialInts> PartialOf(const Tensor& tensor) {
  if (tensor.shape().rank() > 1 || tensor.elements() > kMaxPartialElements) return std::nullopt;
  PartialInts result;
  result.rank = tensor.shape().rank();
  if (tensor.dtype() == DType::kInt64) {
    for (int64_t v : tensor.data<int64_t>()) result.elements.push_back({v, {}});
  } else if (tensor.dtype() == DType::kInt32) {
    for (int32_t v : tensor.data<int32_t>()) result.elements.push_back({v, {}});
  } else {
    return std::nullopt;
  }
  return result;
}

// The tensor where every element is known (and fits the type).
std::optional<Tensor> WholeOf(const PartialInts& partial, DType dtype) {
  if (dtype != DType::kInt64 && dtype != DType::kInt32) return std::nullopt;
  std::vector<int64_t> values;
  for (const PartialInt& e : partial.elements) {
    if (!e.value || (dtype == DType::kInt32 && !std::in_range<int32_t>(*e.value)))
      return std::nullopt;
    values.push_back(*e.value);
  }
  if (partial.rank == 0 && values.size() != 1) return std::nullopt;
  const Shape shape = partial.rank == 0 ? Shape{} : Shape{static_cast<int64_t>(values.size())};
  if (dtype == DType::kInt64) return Tensor::Of<int64_t>(shape, values);
  return Tensor::Of<int32_t>(shape, std::vector<int32_t>(values.begin(), values.end()));
}

void Infer(const OpInfo& row, Context& context) {
  const Node& node = context.node();
  const auto count = static_cast<int>(node.inputs.size());
  if (count < row.min_inputs || (row.max_inputs >= 0 && count > row.max_inputs)) {
    const std::string most = row.max_inputs < 0 ? " or more" : Cat(" to ", row.max_inputs);
    FailNode(node, count, " inputs, expected ", row.min_inputs, most);
  }
  if (node.outputs.empty()) FailNode(node, "it has no outputs");
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    for (int64_t d : context.type(i).dims) {
      if (d > kMaxDim)
        FailNode(node, "input ", i, " is ", context.type(i).ToString(), ", which is too large");
    }
  }
  row.infer(context);
}

// Inference first; where it leaves something open, what was declared, unless the two contradict
// each other.
ValueType Merge(ValueType inferred, const ValueType& declared) {
  if (inferred.dtype == DType::kUndefined) inferred.dtype = declared.dtype;
  if (!declared.has_rank || declared.dtype != inferred.dtype) return inferred;
  if (!inferred.has_rank) return declared;
  if (inferred.dims.size() != declared.dims.size()) return inferred;
  Dims dims = DimsOf(inferred);
  const Dims other = DimsOf(declared);
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!dims[i].known() && (other[i].known() || dims[i].symbol.empty())) dims[i] = other[i];
  }
  return MakeType(inferred.dtype, dims);
}

}  // namespace

const OpInfo* FindOp(std::string_view op, std::string_view domain) {
  const auto it = Table().find({op, domain});
  return it == Table().end() ? nullptr : it->second;
}

std::vector<const OpInfo*> AllOps() {
  std::vector<const OpInfo*> rows;
  for (const auto& [key, row] : Table()) rows.push_back(row);
  return rows;
}

namespace {

const OpInfo& RowOf(const Graph& graph, const Node& node) {
  const OpInfo* row = FindOp(node.op, node.domain);
  if (row == nullptr) {
    const auto it = graph.opsets.find(node.domain);
    Fail(ErrorCode::kUnsupported, "node '", node.name, "': the operator ", node.op,
         " of the domain '", node.domain.empty() ? "ai.onnx" : node.domain, "' (operator set ",
         it == graph.opsets.end() ? "not imported" : std::to_string(it->second), ") is not known");
  }
  return *row;
}

}  // namespace

std::vector<ValueType> InferNode(const Graph& graph, const Node& node,
                                 const std::vector<const ValueType*>& input_types,
                                 const std::vector<const Tensor*>& constants) {
  const OpInfo& row = RowOf(graph, node);
  std::vector<std::optional<PartialInts>> known(constants.size());
  std::vector<const PartialInts*> partials(constants.size(), nullptr);
  for (size_t i = 0; i < constants.size(); ++i) {
    if (constants[i] == nullptr) continue;
    known[i] = PartialOf(*constants[i]);
    if (known[i]) partials[i] = &*known[i];
  }
  Context context(node, graph.opset(), input_types, constants, partials);
  Infer(row, context);
  return std::move(context.outputs());
}

const ShapeInference::Known* ShapeInference::KnownOf(ValueId id) {
  auto it = known_.find(id);
  if (it == known_.end()) {
    std::optional<Known> known;
    if (const Tensor* constant = graph_.ConstantOf(id)) {
      if (auto partial = PartialOf(*constant)) known = Known{std::move(*partial), std::nullopt};
    }
    it = known_.emplace(id, std::move(known)).first;
  }
  return it->second ? &*it->second : nullptr;
}

void ShapeInference::Visit(NodeId id, bool strict) {
  const Node& node = graph_.node(id);
  if (!strict && FindOp(node.op, node.domain) == nullptr) return;
  const OpInfo& row = RowOf(graph_, node);

  std::vector<const ValueType*> types(node.inputs.size(), nullptr);
  std::vector<const Tensor*> constants(node.inputs.size(), nullptr);
  std::vector<const PartialInts*> partials(node.inputs.size(), nullptr);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId input = node.inputs[i];
    if (input == kNoValue) continue;
    types[i] = &graph_.value(input).type;
    constants[i] = graph_.ConstantOf(input);
    if (const Known* known = KnownOf(input)) {
      partials[i] = &known->partial;
      if (constants[i] == nullptr && known->whole) constants[i] = &*known->whole;
    }
  }
  Context context(node, graph_.opset(), types, constants, partials);
  Infer(row, context);

  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const ValueId output = node.outputs[i];
    if (output == kNoValue) continue;
    Value& value = graph_.value(output);
    value.type = Merge(std::move(context.outputs()[i]), value.type);
    if (auto& made = context.made()[i]) {
      auto whole = WholeOf(*made, value.type.dtype);
      known_.insert_or_assign(output, Known{std::move(*made), std::move(whole)});
    }
  }
}

void InferShapes(Graph& graph, bool strict) {
  ShapeInference inference(graph);
  for (NodeId id : graph.TopologicalOrder()) inference.Visit(id, strict);
}

}  // namespace octet
