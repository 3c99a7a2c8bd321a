// The operator table: which operators Octet knows, and their types and shapes.
//
// libonnx's own shape inference (1.12) rejects or ignores newer operator sets, so this is ours. An
// operator is known if it has a row here; it can be run if src/runtime/ops has it too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace octet {

// One element of a small integer tensor made of dimensions: its value where known, else perhaps a
// symbol.
struct PartialInt {
  std::optional<int64_t> value;
  std::string symbol;
};

// A small integer tensor (at most kMaxPartialElements) of rank 0 or 1, known in part: what Shape
// gives for float32[N,3,224,224] is {N, 3, 224, 224}.
struct PartialInts {
  int rank = 1;
  std::vector<PartialInt> elements;
};
inline constexpr int64_t kMaxPartialElements = 64;

// What an inference function sees: the node, the types of its inputs, and those inputs whose values
// are known (initializers, folded constants, and small integer tensors computed from static
// shapes).
class InferContext {
 public:
  virtual ~InferContext() = default;
  [[nodiscard]] virtual const Node& node() const = 0;
  [[nodiscard]] virtual int64_t opset() const = 0;
  [[nodiscard]] virtual const ValueType& type(
      size_t input) const = 0;                             // of an input that is present
  [[nodiscard]] virtual bool has(size_t input) const = 0;  // present (not omitted)
  [[nodiscard]] virtual const Tensor* constant(size_t input) const = 0;  // null where not known
  [[nodiscard]] virtual const PartialInts* partial(
      size_t input) const = 0;  // null where nothing is known
  virtual void SetOutput(size_t output, ValueType type) = 0;
  virtual void SetPartial(size_t output,
                          PartialInts value) = 0;  // where the elements are known in part
};

struct OpInfo {
  std::string_view op;
  std::string_view domain;
  int min_inputs;
  int max_inputs;  // -1: any number
  // Sets the type of every output; unknown dimensions where they cannot be known. Throws kBadFile
  // with node name, what was got and what was expected, where inputs contradict the operator.
  void (*infer)(InferContext&);
};

// The row of an operator, or null.
[[nodiscard]] const OpInfo* FindOp(std::string_view op, std::string_view domain);
[[nodiscard]] std::vector<const OpInfo*> AllOps();

// Infers one node from given input types and constants (by input position; null where unknown or
// omitted). Throws kUnsupported for an operator without a row, naming node, operator and operator
// set.
[[nodiscard]] std::vector<ValueType> InferNode(const Graph& graph, const Node& node,
                                               const std::vector<const ValueType*>& input_types,
                                               const std::vector<const Tensor*>& constants);

// Types and shapes of every value, in topological order. Values computed by Shape, Gather, Concat,
// Unsqueeze, ... from static shapes are known inside (so Reshape targets made of them are), but are
// not turned into constants: that is fold_constants' work. What inference leaves open of a value (a
// dimension, a rank) stays as it was declared, so a pass that changes shapes clears the types of
// what it changes. A node of unknown operator leaves its outputs as declared when `strict` is
// false, and throws kUnsupported when it is true.
void InferShapes(Graph& graph, bool strict);

}  // namespace octet
