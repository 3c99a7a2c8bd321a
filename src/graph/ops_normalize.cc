// Normalization, Softmax, and reductions along axes.
#include <algorithm>

#include "graph/ops_context.h"

namespace octet {
namespace {

// Scale, bias, mean, variance: vectors with one number per channel (dimension 1).
void InferBatchNormalization(InferContext& c) {
  const auto x = InputDims(c, 0);
  Dim channels;
  if (x) {
    if (x->size() < 2)
      FailNode(c.node(), "input ", ToString(*x), ", expected a batch and channels");
    channels = (*x)[1];
  }
  for (size_t i = 1; i <= 4; ++i) {
    const auto v = InputDims(c, i, 1);
    if (v) channels = Equal(c, channels, v->front(), "channels");
  }
  InferSameAsFirst(c);
  for (size_t i = 1; i <= 2; ++i) c.SetOutput(i, MakeType(Input(c, 3).dtype, {channels}));
}

void InferInstanceNormalization(InferContext& c) {
  const auto x = InputDims(c, 0);
  if (x && x->size() < 3) FailNode(c.node(), "input ", ToString(*x), ", expected rank 3 or more");
  Dim channels = x ? (*x)[1] : Dim();
  for (size_t i = 1; i <= 2; ++i) {
    const auto v = InputDims(c, i, 1);
    if (v) channels = Equal(c, channels, v->front(), "channels");
  }
  InferSameAsFirst(c);
}

void InferGroupNormalization(InferContext& c) {
  const auto x = InputDims(c, 0);
  if (x && x->size() < 3) FailNode(c.node(), "input ", ToString(*x), ", expected rank 3 or more");
  const int64_t groups = c.node().GetInt("num_groups", 0);
  if (groups < 1) FailNode(c.node(), "num_groups is ", groups);
  if (x && (*x)[1].known() && (*x)[1].value % groups != 0) {
    FailNode(c.node(), groups, " groups do not divide ", (*x)[1].value, " channels");
  }
  // Operator set 18 scales groups, 21 scales channels.
  const Dim expected = c.opset() < 21 ? Dim(groups) : x ? (*x)[1] : Dim();
  for (size_t i = 1; i <= 2; ++i) {
    const auto v = InputDims(c, i, 1);
    if (v) (void)Equal(c, expected, v->front(), "scale or bias size and its expected size");
  }
  InferSameAsFirst(c);
}

void InferLayerNormalization(InferContext& c) {
  InferSameAsFirst(c);
  auto x = InputDims(c, 0);
  const DType statistics = DType::kFloat32;  // stash_type 1
  if (!x) {
    c.SetOutput(1, ValueType::Unranked(statistics));
    c.SetOutput(2, ValueType::Unranked(statistics));
    return;
  }
  const auto axis = static_cast<size_t>(NormalAxis(c, c.node().GetInt("axis", -1), x->size()));
  for (size_t i = 1; i <= 2 && i < c.node().inputs.size(); ++i) {
    if (!c.has(i)) continue;
    const auto v = InputDims(c, i);
    if (v && v->size() > x->size())
      FailNode(c.node(), "input ", i, " is ", ToString(*v), " for ", ToString(*x));
    if (v) (void)Broadcast(c, *x, *v);
  }
  for (size_t i = axis; i < x->size(); ++i) (*x)[i] = 1;
  c.SetOutput(1, MakeType(statistics, *x));
  c.SetOutput(2, MakeType(statistics, *x));
}

void InferSoftmax(InferContext& c) {
  const auto x = InputDims(c, 0);
  if (x) (void)NormalAxis(c, c.node().GetInt("axis", -1), x->size());
  InferSameAsFirst(c);
}

// Axes are an attribute in older operator sets and an input in newer ones; none means all, unless
// noop_with_empty_axes.
void InferReduce(InferContext& c) {
  const auto x = InputDims(c, 0);
  const DType dtype = Input(c, 0).dtype;
  const bool keep = c.node().GetInt("keepdims", 1) != 0;
  const bool noop = c.node().GetInt("noop_with_empty_axes", 0) != 0;
  const AxesArgument argument = AxesOf(c, 1);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  if (argument.given && !argument.axes) {
    return c.SetOutput(0, keep ? MakeType(dtype, Dims(x->size())) : ValueType::Unranked(dtype));
  }
  const bool empty = !argument.given || argument.axes->empty();
  if (empty && noop) return c.SetOutput(0, Input(c, 0));
  const auto reduced =
      empty ? std::vector<bool>(x->size(), true) : AxisFlags(c, *argument.axes, x->size());
  Dims out;
  for (size_t i = 0; i < x->size(); ++i) {
    if (!reduced[i]) out.push_back((*x)[i]);
    if (reduced[i] && keep) out.emplace_back(1);
  }
  c.SetOutput(0, MakeType(dtype, out));
}

// The number of elements of a shape.
void InferReduceProd(InferContext& c) {
  InferReduce(c);
  const PartialInts* x = c.partial(0);
  if (x == nullptr || x->rank != 1 || c.has(1)) return;
  Dims factors;
  for (const PartialInt& e : x->elements) {
    if (!e.value || *e.value < 0) return;
    factors.emplace_back(*e.value);
  }
  const Dim product = Product(c, factors);
  c.SetPartial(0, {c.node().GetInt("keepdims", 1) != 0 ? 1 : 0, {{product.value, {}}}});
}

void InferArg(InferContext& c) {
  const auto x = InputDims(c, 0);
  if (!x) return c.SetOutput(0, ValueType::Unranked(DType::kInt64));
  const auto axis = NormalAxis(c, c.node().GetInt("axis", 0), x->size());
  Dims out = *x;
  if (c.node().GetInt("keepdims", 1) != 0) {
    out[static_cast<size_t>(axis)] = 1;
  } else {
    out.erase(out.begin() + axis);
  }
  c.SetOutput(0, MakeType(DType::kInt64, out));
}

void InferCumSum(InferContext& c) { InferSameAsFirst(c); }

constexpr OpInfo kRows[] = {
    {"BatchNormalization", "", 5, 5, InferBatchNormalization},
    {"InstanceNormalization", "", 3, 3, InferInstanceNormalization},
    {"GroupNormalization", "", 3, 3, InferGroupNormalization},
    {"LayerNormalization", "", 2, 3, InferLayerNormalization},
    {"RMSNormalization", "", 2, 2, InferLayerNormalization},
    {"LRN", "", 1, 1, InferSameAsFirst},
    {"Softmax", "", 1, 1, InferSoftmax},
    {"LogSoftmax", "", 1, 1, InferSoftmax},
    {"ReduceMean", "", 1, 2, InferReduce},
    {"ReduceSum", "", 1, 2, InferReduce},
    {"ReduceMax", "", 1, 2, InferReduce},
    {"ReduceMin", "", 1, 2, InferReduce},
    {"ReduceProd", "", 1, 2, InferReduceProd},
    {"ReduceL1", "", 1, 2, InferReduce},
    {"ReduceL2", "", 1, 2, InferReduce},
    {"ReduceSumSquare", "", 1, 2, InferReduce},
    {"ReduceLogSum", "", 1, 2, InferReduce},
    {"ReduceLogSumExp", "", 1, 2, InferReduce},
    {"ArgMax", "", 1, 1, InferArg},
    {"ArgMin", "", 1, 1, InferArg},
    {"CumSum", "", 2, 2, InferCumSum},
};

}  // namespace

std::span<const OpInfo> NormalizeOps() { return kRows; }

}  // namespace octet
