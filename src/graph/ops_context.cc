#include "graph/ops_context.h"

#include <algorithm>

#include "base/checked_math.h"

namespace octet {

Dims DimsOf(const ValueType& type) {
  Dims dims;
  for (size_t i = 0; i < type.dims.size(); ++i) {
    dims.emplace_back(type.dims[i], i < type.symbols.size() ? type.symbols[i] : std::string());
  }
  return dims;
}

ValueType MakeType(DType dtype, const Dims& dims) {
  ValueType type = ValueType::Unranked(dtype);
  type.has_rank = true;
  bool any_symbol = false;
  for (const Dim& d : dims) {
    type.dims.push_back(d.known() ? d.value : kUnknownDim);
    type.symbols.push_back(d.known() ? std::string() : d.symbol);
    any_symbol = any_symbol || !type.symbols.back().empty();
  }
  if (!any_symbol) type.symbols.clear();
  return type;
}

std::string ToString(const Dims& dims) {
  std::string s = "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) s += ",";
    s += dims[i].known()          ? std::to_string(dims[i].value)
         : dims[i].symbol.empty() ? "?"
                                  : dims[i].symbol;
  }
  return s + "]";
}

const ValueType& Input(const InferContext& c, size_t i) {
  if (!c.has(i)) FailNode(c.node(), "input ", i, " is missing");
  return c.type(i);
}

std::optional<Dims> InputDims(const InferContext& c, size_t i) {
  const ValueType& type = Input(c, i);
  if (!type.has_rank) return std::nullopt;
  return DimsOf(type);
}

std::optional<Dims> InputDims(const InferContext& c, size_t i, int rank) {
  auto dims = InputDims(c, i);
  if (dims && dims->size() != static_cast<size_t>(rank)) {
    FailNode(c.node(), "input ", i, " is ", c.type(i).ToString(), ", expected rank ", rank);
  }
  return dims;
}

std::optional<std::vector<int64_t>> KnownInts(const InferContext& c, size_t i) {
  if (!c.has(i)) return std::nullopt;
  const Tensor* tensor = c.constant(i);
  if (tensor == nullptr) return std::nullopt;
  if (tensor->dtype() == DType::kInt64) {
    const auto data = tensor->data<int64_t>();
    return std::vector<int64_t>(data.begin(), data.end());
  }
  if (tensor->dtype() == DType::kInt32) {
    const auto data = tensor->data<int32_t>();
    return std::vector<int64_t>(data.begin(), data.end());
  }
  FailNode(c.node(), "input ", i, " is ", NameOf(tensor->dtype()), ", expected int64");
}

std::optional<std::vector<float>> KnownFloats(const InferContext& c, size_t i) {
  if (!c.has(i)) return std::nullopt;
  const Tensor* tensor = c.constant(i);
  if (tensor == nullptr || tensor->dtype() != DType::kFloat32) return std::nullopt;
  const auto data = tensor->data<float>();
  return std::vector<float>(data.begin(), data.end());
}

AxesArgument AxesOf(const InferContext& c, size_t input) {
  if (c.has(input)) {
    auto axes = KnownInts(c, input);
    return {true, std::move(axes)};
  }
  if (c.node().Has("axes")) return {true, c.node().GetInts("axes", {})};
  return {};
}

int64_t NormalAxis(const InferContext& c, int64_t axis, size_t rank) {
  const auto r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r) FailNode(c.node(), "axis ", axis, " of a tensor of rank ", rank);
  return axis < 0 ? axis + r : axis;
}

std::vector<bool> AxisFlags(const InferContext& c, std::span<const int64_t> axes, size_t rank) {
  std::vector<bool> flags(rank, false);
  for (int64_t axis : axes) {
    const auto a = static_cast<size_t>(NormalAxis(c, axis, rank));
    if (flags[a]) FailNode(c.node(), "axis ", axis, " is named twice");
    flags[a] = true;
  }
  return flags;
}

Dim Equal(const InferContext& c, const Dim& a, const Dim& b, std::string_view what) {
  if (a.known() && b.known() && a.value != b.value) {
    FailNode(c.node(), what, " ", a.value, " and ", b.value, " differ");
  }
  if (a.known()) return a;
  if (b.known()) return b;
  return a.symbol.empty() ? b : a;
}

namespace {

Dim BroadcastDim(const InferContext& c, const Dim& a, const Dim& b, const Dims& all_a,
                 const Dims& all_b) {
  if (a.known() && b.known()) {
    if (a.value != b.value && a.value != 1 && b.value != 1) {
      FailNode(c.node(), "shapes ", ToString(all_a), " and ", ToString(all_b), " do not broadcast");
    }
    return a.value == 1 ? b : a;
  }
  // An unknown dimension beside n != 1 is 1 or n, which gives n either way.
  if (a.known()) return a.value == 1 ? b : a;
  if (b.known()) return b.value == 1 ? a : b;
  return a.symbol == b.symbol ? a : Dim();
}

}  // namespace

Dims Broadcast(const InferContext& c, const Dims& a, const Dims& b) {
  const size_t rank = std::max(a.size(), b.size());
  Dims out;
  for (size_t i = 0; i < rank; ++i) {
    const size_t from_end = rank - i;
    if (from_end > a.size()) {
      out.push_back(b[b.size() - from_end]);
    } else if (from_end > b.size()) {
      out.push_back(a[a.size() - from_end]);
    } else {
      out.push_back(BroadcastDim(c, a[a.size() - from_end], b[b.size() - from_end], a, b));
    }
  }
  return out;
}

Dim Product(const InferContext& c, std::span<const Dim> dims) {
  // Factors of 1 do not lose the symbol of the one factor that has it.
  const Dim* unknown = nullptr;
  int unknowns = 0;
  int64_t product = 1;
  for (const Dim& d : dims) {
    if (d.value == 0) return 0;
    if (!d.known()) {
      unknown = &d;
      ++unknowns;
      continue;
    }
    const auto next = CheckedMul(product, d.value);
    if (!next)
      FailNode(c.node(), "the product of ", ToString({dims.begin(), dims.end()}), " overflows");
    product = *next;
  }
  if (unknowns == 0) return product;
  return unknowns == 1 && product == 1 ? *unknown : Dim();
}

DType DTypeAttribute(const InferContext& c, std::string_view key, int64_t otherwise) {
  // TensorProto.DataType, by number.
  static constexpr DType kTypes[] = {
      DType::kUndefined,     DType::kFloat32,      DType::kUint8,          DType::kInt8,
      DType::kUint16,        DType::kInt16,        DType::kInt32,          DType::kInt64,
      DType::kUndefined,     DType::kBool,         DType::kFloat16,        DType::kFloat64,
      DType::kUint32,        DType::kUint64,       DType::kUndefined,      DType::kUndefined,
      DType::kBFloat16,      DType::kFloat8E4M3Fn, DType::kFloat8E4M3FnUz, DType::kFloat8E5M2,
      DType::kFloat8E5M2FnUz};
  const int64_t number = c.node().GetInt(key, otherwise);
  const bool listed = number >= 0 && number < static_cast<int64_t>(std::size(kTypes));
  const DType dtype = listed ? kTypes[number] : DType::kUndefined;
  if (dtype == DType::kUndefined) {
    Fail(ErrorCode::kUnsupported, "node '", c.node().name, "' (", c.node().op, "): attribute '",
         key, "' is ", number, ", no element type that Octet has");
  }
  return dtype;
}

void RequireSameDType(const InferContext& c, size_t a, size_t b) {
  if (!c.has(a) || !c.has(b)) return;
  const DType x = c.type(a).dtype;
  const DType y = c.type(b).dtype;
  if (x != y && x != DType::kUndefined && y != DType::kUndefined) {
    FailNode(c.node(), "input ", a, " is ", NameOf(x), ", input ", b, " is ", NameOf(y),
             "; expected one type");
  }
}

void InferSameAsFirst(InferContext& c) { c.SetOutput(0, Input(c, 0)); }

void InferBroadcast(InferContext& c) {
  auto dims = InputDims(c, 0);
  for (size_t i = 1; i < c.node().inputs.size(); ++i) {
    RequireSameDType(c, 0, i);
    const auto more = InputDims(c, i);
    if (dims && more) {
      dims = Broadcast(c, *dims, *more);
    } else {
      dims.reset();
    }
  }
  const DType dtype = c.type(0).dtype;
  c.SetOutput(0, dims ? MakeType(dtype, *dims) : ValueType::Unranked(dtype));
}

}  // namespace octet
