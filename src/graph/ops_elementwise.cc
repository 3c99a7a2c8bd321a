// Operators that work element by element, with numpy's broadcasting where they have several inputs.
#include <algorithm>

#include "base/checked_math.h"
#include "graph/ops_context.h"

namespace octet {
namespace {

// Small integer tensors go through the arithmetic of shape computations: Add, Sub, Mul, Div, Min,
// Max.
template <typename F>
void PropagateBinary(InferContext& c, F compute) {
  if (c.node().inputs.size() != 2) return;
  const PartialInts* a = c.partial(0);
  const PartialInts* b = c.partial(1);
  if (a == nullptr || b == nullptr) return;
  const size_t na = a->elements.size();
  const size_t nb = b->elements.size();
  if (na != nb && na != 1 && nb != 1) return;
  PartialInts out;
  out.rank = std::max(a->rank, b->rank);
  const size_t n = na == 1 ? nb : na;
  for (size_t i = 0; i < n; ++i) {
    const auto& x = a->elements[na == 1 ? 0 : i].value;
    const auto& y = b->elements[nb == 1 ? 0 : i].value;
    PartialInt e;
    if (x && y) e.value = compute(*x, *y);
    out.elements.push_back(std::move(e));
  }
  c.SetPartial(0, std::move(out));
}

std::optional<int64_t> CheckedSub(int64_t a, int64_t b) {
  int64_t r = 0;
  if (__builtin_sub_overflow(a, b, &r)) return std::nullopt;
  return r;
}

// ONNX divides integers as C does, towards zero.
std::optional<int64_t> CheckedDiv(int64_t a, int64_t b) {
  if (b == 0 || (b == -1 && a == INT64_MIN)) return std::nullopt;
  return a / b;
}

void InferAdd(InferContext& c) {
  InferBroadcast(c);
  PropagateBinary(c, CheckedAdd);
}
void InferSub(InferContext& c) {
  InferBroadcast(c);
  PropagateBinary(c, CheckedSub);
}
void InferMul(InferContext& c) {
  InferBroadcast(c);
  PropagateBinary(c, CheckedMul);
}
void InferDiv(InferContext& c) {
  InferBroadcast(c);
  PropagateBinary(c, CheckedDiv);
}
void InferMin(InferContext& c) {
  InferBroadcast(c);
  PropagateBinary(c, [](int64_t a, int64_t b) -> std::optional<int64_t> { return std::min(a, b); });
}
void InferMax(InferContext& c) {
  InferBroadcast(c);
  PropagateBinary(c, [](int64_t a, int64_t b) -> std::optional<int64_t> { return std::max(a, b); });
}

void InferNeg(InferContext& c) {
  InferSameAsFirst(c);
  if (c.partial(0) == nullptr) return;
  PartialInts out = *c.partial(0);
  for (PartialInt& e : out.elements) e = {e.value ? CheckedSub(0, *e.value) : std::nullopt, {}};
  c.SetPartial(0, std::move(out));
}

// The exponent may be of another type than the base.
void InferPow(InferContext& c) {
  const auto a = InputDims(c, 0);
  const auto b = InputDims(c, 1);
  const DType dtype = c.type(0).dtype;
  c.SetOutput(0, a && b ? MakeType(dtype, Broadcast(c, *a, *b)) : ValueType::Unranked(dtype));
}

void InferCompare(InferContext& c) {
  RequireSameDType(c, 0, 1);
  const auto a = InputDims(c, 0);
  const auto b = InputDims(c, 1);
  c.SetOutput(
      0, a && b ? MakeType(DType::kBool, Broadcast(c, *a, *b)) : ValueType::Unranked(DType::kBool));
}

void InferNot(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = DType::kBool;
  c.SetOutput(0, std::move(type));
}

void InferWhere(InferContext& c) {
  RequireSameDType(c, 1, 2);
  const auto condition = InputDims(c, 0);
  const auto a = InputDims(c, 1);
  const auto b = InputDims(c, 2);
  const DType dtype = c.type(1).dtype;
  if (!condition || !a || !b) return c.SetOutput(0, ValueType::Unranked(dtype));
  c.SetOutput(0, MakeType(dtype, Broadcast(c, Broadcast(c, *condition, *a), *b)));
}

// min and max are scalars of the input's type.
void InferClip(InferContext& c) {
  for (size_t i = 1; i <= 2; ++i) {
    if (!c.has(i)) continue;
    RequireSameDType(c, 0, i);
    const auto bound = InputDims(c, i);
    if (bound && Product(c, *bound).value > 1) {
      FailNode(c.node(), "input ", i, " is ", c.type(i).ToString(), ", expected a scalar");
    }
  }
  InferSameAsFirst(c);
}

// The slope broadcasts to the input, not the other way round.
void InferPRelu(InferContext& c) {
  const auto x = InputDims(c, 0);
  const auto slope = InputDims(c, 1);
  if (x && slope && slope->size() > x->size()) {
    FailNode(c.node(), "slope ", ToString(*slope), " does not broadcast to ", ToString(*x));
  }
  if (x && slope) (void)Broadcast(c, *x, *slope);
  InferSameAsFirst(c);
}

void InferCast(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = DTypeAttribute(c, "to", 0);
  const bool to_int = type.dtype == DType::kInt64 || type.dtype == DType::kInt32;
  c.SetOutput(0, std::move(type));
  if (to_int && c.partial(0) != nullptr) c.SetPartial(0, *c.partial(0));
}

void InferCastLike(InferContext& c) {
  ValueType type = Input(c, 0);
  type.dtype = Input(c, 1).dtype;
  c.SetOutput(0, std::move(type));
}

void InferIdentity(InferContext& c) {
  InferSameAsFirst(c);
  if (c.partial(0) != nullptr) c.SetPartial(0, *c.partial(0));
}

void InferDropout(InferContext& c) {
  InferSameAsFirst(c);
  ValueType mask = Input(c, 0);
  mask.dtype = DType::kBool;
  c.SetOutput(1, std::move(mask));
}

// ONNX defines the sign of the result by fmod = 0 for integers only.
void InferMod(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const bool is_float = dtype == DType::kFloat32 || dtype == DType::kFloat64 ||
                        dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  if (is_float && c.node().GetInt("fmod", 0) == 0) {
    FailNode(c.node(), "fmod is 0 with ", NameOf(dtype), " inputs, expected 1");
  }
  InferBroadcast(c);
}

constexpr OpInfo kRows[] = {
    {"Relu", "", 1, 1, InferSameAsFirst},
    {"LeakyRelu", "", 1, 1, InferSameAsFirst},
    {"PRelu", "", 2, 2, InferPRelu},
    {"Clip", "", 1, 3, InferClip},
    {"Sigmoid", "", 1, 1, InferSameAsFirst},
    {"HardSigmoid", "", 1, 1, InferSameAsFirst},
    {"HardSwish", "", 1, 1, InferSameAsFirst},
    {"Tanh", "", 1, 1, InferSameAsFirst},
    {"Elu", "", 1, 1, InferSameAsFirst},
    {"Selu", "", 1, 1, InferSameAsFirst},
    {"Softplus", "", 1, 1, InferSameAsFirst},
    {"Softsign", "", 1, 1, InferSameAsFirst},
    {"Erf", "", 1, 1, InferSameAsFirst},
    {"Gelu", "", 1, 1, InferSameAsFirst},
    {"Swish", "", 1, 1, InferSameAsFirst},
    {"Mish", "", 1, 1, InferSameAsFirst},
    {"Exp", "", 1, 1, InferSameAsFirst},
    {"Log", "", 1, 1, InferSameAsFirst},
    {"Sqrt", "", 1, 1, InferSameAsFirst},
    {"Reciprocal", "", 1, 1, InferSameAsFirst},
    {"Neg", "", 1, 1, InferNeg},
    {"Abs", "", 1, 1, InferSameAsFirst},
    {"Floor", "", 1, 1, InferSameAsFirst},
    {"Ceil", "", 1, 1, InferSameAsFirst},
    {"Round", "", 1, 1, InferSameAsFirst},
    {"Sign", "", 1, 1, InferSameAsFirst},
    {"Sin", "", 1, 1, InferSameAsFirst},
    {"Cos", "", 1, 1, InferSameAsFirst},
    {"Not", "", 1, 1, InferNot},
    {"Identity", "", 1, 1, InferIdentity},
    {"Dropout", "", 1, 3, InferDropout},
    {"Cast", "", 1, 1, InferCast},
    {"CastLike", "", 2, 2, InferCastLike},
    {"Add", "", 2, 2, InferAdd},
    {"Sub", "", 2, 2, InferSub},
    {"Mul", "", 2, 2, InferMul},
    {"Div", "", 2, 2, InferDiv},
    {"Pow", "", 2, 2, InferPow},
    {"Mod", "", 2, 2, InferMod},
    {"Min", "", 1, -1, InferMin},
    {"Max", "", 1, -1, InferMax},
    {"Mean", "", 1, -1, InferBroadcast},
    {"Sum", "", 1, -1, InferBroadcast},
    {"Equal", "", 2, 2, InferCompare},
    {"Less", "", 2, 2, InferCompare},
    {"LessOrEqual", "", 2, 2, InferCompare},
    {"Greater", "", 2, 2, InferCompare},
    {"GreaterOrEqual", "", 2, 2, InferCompare},
    {"And", "", 2, 2, InferCompare},
    {"Or", "", 2, 2, InferCompare},
    {"Xor", "", 2, 2, InferCompare},
    {"Where", "", 3, 3, InferWhere},
};

}  // namespace

std::span<const OpInfo> ElementwiseOps() { return kRows; }

}  // namespace octet
