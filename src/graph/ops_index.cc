// Gathering and scattering by index, and operators that make tensors out of shapes.
#include <algorithm>
#include <cmath>

#include "base/checked_math.h"
#include "graph/ops_context.h"

namespace octet {
namespace {

void RequireIndices(const InferContext& c, size_t i) {
  const DType dtype = Input(c, i).dtype;
  if (dtype != DType::kInt64 && dtype != DType::kInt32 && dtype != DType::kUndefined) {
    FailNode(c.node(), "input ", i, " is ", NameOf(dtype), ", expected int64 or int32 indices");
  }
}

void InferShape(InferContext& c) {
  const auto x = InputDims(c, 0);
  if (!x) return c.SetOutput(0, MakeType(DType::kInt64, {Dim()}));
  const auto rank = static_cast<int64_t>(x->size());
  const auto bound = [&](std::string_view key, int64_t otherwise) {
    const int64_t v = c.node().GetInt(key, otherwise);
    return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank);
  };
  const int64_t start = bound("start", 0);
  const int64_t end = bound("end", rank);
  PartialInts shape;
  for (int64_t i = start; i < end; ++i) {
    const Dim& d = (*x)[static_cast<size_t>(i)];
    PartialInt e;
    if (d.known())
      e.value = d.value;
    else
      e.symbol = d.symbol;
    shape.elements.push_back(std::move(e));
  }
  c.SetOutput(0, MakeType(DType::kInt64, {Dim(std::max<int64_t>(0, end - start))}));
  c.SetPartial(0, std::move(shape));
}

void InferSize(InferContext& c) {
  c.SetOutput(0, MakeType(DType::kInt64, {}));
  const auto x = InputDims(c, 0);
  if (!x) return;
  const Dim n = Product(c, *x);
  PartialInt e;
  if (n.known())
    e.value = n.value;
  else
    e.symbol = n.symbol;
  c.SetPartial(0, {0, {std::move(e)}});
}

void InferGather(InferContext& c) {
  RequireIndices(c, 1);
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const auto indices = InputDims(c, 1);
  if (!x || !indices) return c.SetOutput(0, ValueType::Unranked(dtype));
  const auto axis = NormalAxis(c, c.node().GetInt("axis", 0), x->size());
  Dims out(x->begin(), x->begin() + axis);
  out.insert(out.end(), indices->begin(), indices->end());
  out.insert(out.end(), x->begin() + axis + 1, x->end());
  c.SetOutput(0, MakeType(dtype, out));

  const PartialInts* data = c.partial(0);
  const PartialInts* at = c.partial(1);
  if (data == nullptr || data->rank != 1 || at == nullptr) return;
  PartialInts chosen;
  chosen.rank = at->rank;
  const auto n = static_cast<int64_t>(data->elements.size());
  for (const PartialInt& e : at->elements) {
    if (!e.value) return;
    const int64_t i = *e.value < 0 ? *e.value + n : *e.value;
    if (i < 0 || i >= n) FailNode(c.node(), "index ", *e.value, " into ", n, " elements");
    chosen.elements.push_back(data->elements[static_cast<size_t>(i)]);
  }
  c.SetPartial(0, std::move(chosen));
}

void InferGatherElements(InferContext& c) {
  RequireIndices(c, 1);
  const auto x = InputDims(c, 0);
  const auto indices = InputDims(c, 1);
  if (x && indices && x->size() != indices->size()) {
    FailNode(c.node(), "data ", ToString(*x), " and indices ", ToString(*indices),
             ", expected equal ranks");
  }
  if (x) (void)NormalAxis(c, c.node().GetInt("axis", 0), x->size());
  ValueType type = Input(c, 1);
  type.dtype = Input(c, 0).dtype;
  c.SetOutput(0, std::move(type));
}

void InferGatherND(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const auto indices = InputDims(c, 1);
  const int64_t batch = c.node().GetInt("batch_dims", 0);
  if (!x || !indices || indices->empty() || !indices->back().known()) {
    return c.SetOutput(0, ValueType::Unranked(dtype));
  }
  const int64_t depth = indices->back().value;
  const auto rank = static_cast<int64_t>(x->size());
  if (batch < 0 || batch >= static_cast<int64_t>(indices->size()) || depth < 1 ||
      depth > rank - batch) {
    FailNode(c.node(), "indices ", ToString(*indices), " into ", ToString(*x), " with batch_dims ",
             batch);
  }
  Dims out(indices->begin(), indices->end() - 1);
  out.insert(out.end(), x->begin() + batch + depth, x->end());
  c.SetOutput(0, MakeType(dtype, out));
}

void InferScatterND(InferContext& c) {
  RequireSameDType(c, 0, 2);
  const auto x = InputDims(c, 0);
  const auto indices = InputDims(c, 1);
  if (x && indices && !indices->empty() && indices->back().known() &&
      indices->back().value > static_cast<int64_t>(x->size())) {
    FailNode(c.node(), "indices ", ToString(*indices), " into ", ToString(*x));
  }
  InferSameAsFirst(c);
}

void InferScatterElements(InferContext& c) {
  RequireIndices(c, 1);
  RequireSameDType(c, 0, 2);
  const auto x = InputDims(c, 0);
  if (x) (void)NormalAxis(c, c.node().GetInt("axis", 0), x->size());
  InferSameAsFirst(c);
}

void InferConstantOfShape(InferContext& c) {
  DType dtype = DType::kFloat32;
  std::optional<int64_t> value;
  if (c.node().Has("value")) {
    const auto* tensor = std::get_if<ConstantPtr>(&c.node().attributes.at("value"));
    if (tensor == nullptr || *tensor == nullptr || (*tensor)->elements() != 1) {
      FailNode(c.node(), "attribute 'value' is not a tensor of one element");
    }
    dtype = (*tensor)->dtype();
    if (dtype == DType::kInt64) value = (*tensor)->data<int64_t>()[0];
    if (dtype == DType::kInt32) value = (*tensor)->data<int32_t>()[0];
  }
  const PartialInts* target = c.partial(0);
  if (target == nullptr) {
    const auto length = InputDims(c, 0, 1);
    const bool counted = length && length->front().known() && length->front().value <= kMaxRank;
    return c.SetOutput(0, counted
                              ? MakeType(dtype, Dims(static_cast<size_t>(length->front().value)))
                              : ValueType::Unranked(dtype));
  }
  Dims out;
  for (const PartialInt& e : target->elements) {
    if (e.value && *e.value < 0) FailNode(c.node(), "the shape holds ", *e.value);
    out.push_back(e.value ? Dim(*e.value) : Dim(kUnknownDim, e.symbol));
  }
  c.SetOutput(0, MakeType(dtype, out));
  if (value && out.size() <= 1) {
    const Dim n = Product(c, out);
    if (!n.known() || n.value > kMaxPartialElements) return;
    c.SetPartial(0, {static_cast<int>(out.size()),
                     std::vector<PartialInt>(static_cast<size_t>(n.value), PartialInt{value, {}})});
  }
}

// The number of elements is max(0, ceil((limit - start) / delta)).
void InferRange(InferContext& c) {
  RequireSameDType(c, 0, 1);
  RequireSameDType(c, 0, 2);
  const DType dtype = Input(c, 0).dtype;
  Dim count;
  const Tensor* parts[] = {c.constant(0), c.constant(1), c.constant(2)};
  const bool known = std::all_of(std::begin(parts), std::end(parts), [](const Tensor* t) {
    return t != nullptr && t->elements() == 1;
  });
  const bool whole = dtype == DType::kInt64 || dtype == DType::kInt32;
  if (known && whole) {
    const int64_t start = KnownInts(c, 0)->front();
    const int64_t limit = KnownInts(c, 1)->front();
    const int64_t delta = KnownInts(c, 2)->front();
    if (delta == 0) FailNode(c.node(), "a step of 0");
    int64_t span = 0;
    if (delta == INT64_MIN || __builtin_sub_overflow(limit, start, &span) || span == INT64_MIN) {
      FailNode(c.node(), "from ", start, " to ", limit, " by ", delta);
    }
    const bool runs = (span > 0) == (delta > 0) && span != 0;
    const int64_t distance = span < 0 ? -span : span;
    const int64_t step = delta < 0 ? -delta : delta;
    count = runs ? (distance - 1) / step + 1 : 0;
    if (count.value > kMaxDim) FailNode(c.node(), count.value, " elements");
    if (count.value <= kMaxPartialElements) {
      PartialInts values;
      for (int64_t i = 0; i < count.value; ++i) values.elements.push_back({start + i * delta, {}});
      c.SetPartial(0, std::move(values));
    }
  } else if (known && dtype == DType::kFloat32) {
    const double start = parts[0]->data<float>()[0];
    const double limit = parts[1]->data<float>()[0];
    const double delta = parts[2]->data<float>()[0];
    const double n = std::ceil((limit - start) / delta);
    if (std::isnan(n) || n > static_cast<double>(kMaxDim)) {
      FailNode(c.node(), "from ", start, " to ", limit, " by ", delta);
    }
    count = static_cast<int64_t>(std::max(0.0, n));
  }
  c.SetOutput(0, MakeType(dtype, {count}));
}

void InferTopK(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  if (!x) {
    c.SetOutput(0, ValueType::Unranked(dtype));
    return c.SetOutput(1, ValueType::Unranked(DType::kInt64));
  }
  const auto axis = static_cast<size_t>(NormalAxis(c, c.node().GetInt("axis", -1), x->size()));
  Dims out = *x;
  const auto k = KnownInts(c, 1);
  if (k &&
      (k->size() != 1 || k->front() < 0 || (out[axis].known() && k->front() > out[axis].value))) {
    FailNode(c.node(), "k does not fit ", ToString(*x), " along axis ", axis);
  }
  out[axis] = k ? Dim(k->front()) : Dim();
  c.SetOutput(0, MakeType(dtype, out));
  c.SetOutput(1, MakeType(DType::kInt64, out));
}

void InferOneHot(InferContext& c) {
  const DType dtype = Input(c, 2).dtype;
  const auto indices = InputDims(c, 0);
  if (!indices) return c.SetOutput(0, ValueType::Unranked(dtype));
  const auto axis = NormalAxis(c, c.node().GetInt("axis", -1), indices->size() + 1);
  const PartialInts* depth = c.partial(1);
  Dim n;
  if (depth != nullptr && depth->elements.size() == 1 && depth->elements[0].value) {
    n = *depth->elements[0].value;
    if (!n.known()) FailNode(c.node(), "depth is ", n.value);
  } else if (const auto real = KnownFloats(c, 1); real && real->size() == 1) {
    if (!(real->front() >= 0.0F && real->front() <= static_cast<float>(kMaxDim))) {
      FailNode(c.node(), "depth is ", real->front());
    }
    n = static_cast<int64_t>(real->front());
  }
  Dims out = *indices;
  out.insert(out.begin() + axis, n);
  c.SetOutput(0, MakeType(dtype, out));
}

void InferNonZero(InferContext& c) {
  const auto x = InputDims(c, 0);
  c.SetOutput(0,
              MakeType(DType::kInt64, {x ? Dim(static_cast<int64_t>(x->size())) : Dim(), Dim()}));
}

constexpr OpInfo kRows[] = {
    {"Shape", "", 1, 1, InferShape},
    {"Size", "", 1, 1, InferSize},
    {"Gather", "", 2, 2, InferGather},
    {"GatherElements", "", 2, 2, InferGatherElements},
    {"GatherND", "", 2, 2, InferGatherND},
    {"ScatterND", "", 3, 3, InferScatterND},
    {"ScatterElements", "", 3, 3, InferScatterElements},
    {"ConstantOfShape", "", 1, 1, InferConstantOfShape},
    {"Range", "", 3, 3, InferRange},
    {"TopK", "", 2, 2, InferTopK},
    {"OneHot", "", 3, 3, InferOneHot},
    {"NonZero", "", 1, 1, InferNonZero},
};

}  // namespace

std::span<const OpInfo> IndexOps() { return kRows; }

}  // namespace octet
