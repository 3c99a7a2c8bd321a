// What the rows of the operator table share: dimensions with symbols, broadcasting, axes, known
// values. Internal to src/graph/ops*.cc.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "graph/graph.h"
#include "graph/ops.h"

namespace octet {

// Dimensions above this are refused, so that sums of a few of them, and their products with
// strides, fit int64.
inline constexpr int64_t kMaxDim = int64_t{1} << 40;

struct Dim {
  int64_t value = kUnknownDim;
  std::string symbol;

  Dim() = default;
  Dim(int64_t v) : value(v) {}  // NOLINT: a number is a dimension
  Dim(int64_t v, std::string s) : value(v), symbol(std::move(s)) {}
  [[nodiscard]] bool known() const { return value >= 0; }
};
using Dims = std::vector<Dim>;

[[nodiscard]] Dims DimsOf(const ValueType& type);  // of a type that has a rank
[[nodiscard]] ValueType MakeType(DType dtype, const Dims& dims);
[[nodiscard]] std::string ToString(const Dims& dims);

// "node 'conv1' (Conv): " and then the arguments, as kBadFile.
template <typename... Args>
[[noreturn]] void FailNode(const Node& node, const Args&... args) {
  Fail(ErrorCode::kBadFile, "node '", node.name, "' (", node.op, "): ", args...);
}

// The type of an input, which must be there.
[[nodiscard]] const ValueType& Input(const InferContext& c, size_t i);
// Its dimensions, or nullopt where the rank is not known.
[[nodiscard]] std::optional<Dims> InputDims(const InferContext& c, size_t i);
// The same, of exactly this rank where known.
[[nodiscard]] std::optional<Dims> InputDims(const InferContext& c, size_t i, int rank);
// The elements of an integer input (int32 or int64) where all of them are known. Also where it is
// omitted: nullopt.
[[nodiscard]] std::optional<std::vector<int64_t>> KnownInts(const InferContext& c, size_t i);
// The elements of a float32 input where they are known.
[[nodiscard]] std::optional<std::vector<float>> KnownFloats(const InferContext& c, size_t i);
// What an attribute says in older operator sets and an input in newer ones (axes of ReduceMean and
// Squeeze). `given` tells an absent list from an unknown one.
struct AxesArgument {
  bool given = false;
  std::optional<std::vector<int64_t>> axes;
};
[[nodiscard]] AxesArgument AxesOf(const InferContext& c, size_t input);

// An axis counted from the front; fails where it is outside [-rank, rank).
[[nodiscard]] int64_t NormalAxis(const InferContext& c, int64_t axis, size_t rank);
// Normal axes as flags per dimension; fails where one is named twice.
[[nodiscard]] std::vector<bool> AxisFlags(const InferContext& c, std::span<const int64_t> axes,
                                          size_t rank);
// Two dimensions that must be equal; the one that is known. `what` is for the message.
[[nodiscard]] Dim Equal(const InferContext& c, const Dim& a, const Dim& b, std::string_view what);
[[nodiscard]] Dims Broadcast(const InferContext& c, const Dims& a, const Dims& b);
// The product; unknown where a factor is (unless one is 0). Fails where it overflows.
[[nodiscard]] Dim Product(const InferContext& c, std::span<const Dim> dims);
// The DType behind the TensorProto number in an integer attribute.
[[nodiscard]] DType DTypeAttribute(const InferContext& c, std::string_view key, int64_t otherwise);
// Fails where two inputs that are there differ in element type.
void RequireSameDType(const InferContext& c, size_t a, size_t b);

// Rows for operators whose (first) output is as input 0, or as all inputs broadcast together.
void InferSameAsFirst(InferContext& c);
void InferBroadcast(InferContext& c);

// The families.
[[nodiscard]] std::span<const OpInfo> ElementwiseOps();
[[nodiscard]] std::span<const OpInfo> ConvOps();  // convolution and pooling
[[nodiscard]] std::span<const OpInfo> LinearOps();
[[nodiscard]] std::span<const OpInfo> RecurrentOps();  // RNN, GRU, LSTM
[[nodiscard]] std::span<const OpInfo> NormalizeOps();  // normalization, Softmax, reductions
[[nodiscard]] std::span<const OpInfo> ShapeOps();      // data moved, not changed
[[nodiscard]] std::span<const OpInfo> IndexOps();     // gathering, scattering, making index tensors
[[nodiscard]] std::span<const OpInfo> QuantizeOps();  // ONNX and com.microsoft
[[nodiscard]] std::span<const OpInfo> OctetOps();     // the domain octet

// Of other families' rows, for the quantized and lowered forms.
void InferConvOutput(InferContext& c, size_t x, size_t w, DType dtype);
void InferMatMulOutput(InferContext& c, size_t a, size_t b, DType dtype);
void InferGemmOutput(InferContext& c, size_t a, size_t b, DType dtype);
void InferPoolOutput(InferContext& c, bool channels_last, DType dtype);
void InferGlobalPoolOutput(InferContext& c, bool channels_last, DType dtype);

}  // namespace octet
