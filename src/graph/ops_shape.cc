// Operators that move data without changing it: Reshape, Transpose, Concat, Slice, Pad, Resize and
// their like.
#include <algorithm>
#include <cmath>

#include "base/checked_math.h"
#include "graph/ops_context.h"

namespace octet {
namespace {

Dim DimOf(const PartialInt& e) {
  if (!e.value) return Dim(kUnknownDim, e.symbol);
  return *e.value < 0 ? Dim() : Dim(*e.value);
}

void InferReshape(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const PartialInts* target = c.partial(1);
  if (c.partial(0) != nullptr && target != nullptr && target->elements.size() <= 1) {
    PartialInts same = *c.partial(0);
    same.rank = static_cast<int>(target->elements.size());
    c.SetPartial(0, std::move(same));
  }
  if (target == nullptr) {
    const auto length = InputDims(c, 1, 1);
    const bool counted = length && length->front().known() && length->front().value <= kMaxRank;
    return c.SetOutput(0, counted
                              ? MakeType(dtype, Dims(static_cast<size_t>(length->front().value)))
                              : ValueType::Unranked(dtype));
  }
  const bool allow_zero = c.node().GetInt("allowzero", 0) != 0;
  Dims out;
  std::optional<size_t> wildcard;
  for (size_t i = 0; i < target->elements.size(); ++i) {
    const PartialInt& e = target->elements[i];
    if (e.value && *e.value < -1) FailNode(c.node(), "the target shape holds ", *e.value);
    if (e.value && *e.value == -1) {
      if (wildcard) FailNode(c.node(), "the target shape holds -1 twice");
      wildcard = i;
      out.emplace_back();
    } else if (e.value && *e.value == 0 && !allow_zero) {
      if (x && i >= x->size())
        FailNode(c.node(), "the target shape copies dimension ", i, " of ", ToString(*x));
      out.push_back(x ? (*x)[i] : Dim());
    } else {
      out.push_back(DimOf(e));
    }
  }
  if (x) {
    // Dimensions that stand on both sides with the same symbol cancel out; the rest must be known.
    Dims in = *x;
    Dims rest;
    for (size_t i = 0; i < out.size(); ++i) {
      if (wildcard && i == *wildcard) continue;
      const auto same = std::find_if(in.begin(), in.end(), [&](const Dim& d) {
        return !d.known() && !d.symbol.empty() && d.symbol == out[i].symbol && !out[i].known();
      });
      if (same != in.end()) {
        in.erase(same);
      } else {
        rest.push_back(out[i]);
      }
    }
    const Dim have = Product(c, in);
    const Dim want = Product(c, rest);
    if (have.known() && want.known()) {
      const bool divides = want.value > 0 && have.value % want.value == 0;
      if (wildcard ? !divides : have.value != want.value) {
        FailNode(c.node(), ToString(*x), " does not reshape to ", ToString(out));
      }
      if (wildcard) out[*wildcard] = have.value / want.value;
    } else if (wildcard && want.value == 1 && !have.known()) {
      out[*wildcard] = have;
    }
  }
  c.SetOutput(0, MakeType(dtype, out));
}

void InferFlatten(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  if (!x) return c.SetOutput(0, MakeType(dtype, Dims(2)));
  int64_t axis = c.node().GetInt("axis", 1);
  const auto rank = static_cast<int64_t>(x->size());
  if (axis < -rank || axis > rank) FailNode(c.node(), "axis ", axis, " of a tensor of rank ", rank);
  if (axis < 0) axis += rank;
  const std::span<const Dim> dims(*x);
  const auto at = static_cast<size_t>(axis);
  c.SetOutput(0, MakeType(dtype, {Product(c, dims.first(at)), Product(c, dims.subspan(at))}));
}

void InferTranspose(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  std::vector<int64_t> order;
  for (size_t i = x->size(); i > 0; --i) order.push_back(static_cast<int64_t>(i) - 1);
  order = c.node().GetInts("perm", order);
  if (order.size() != x->size())
    FailNode(c.node(), "perm has ", order.size(), " numbers for ", ToString(*x));
  (void)AxisFlags(c, order, x->size());
  Dims out;
  for (int64_t axis : order)
    out.push_back((*x)[static_cast<size_t>(NormalAxis(c, axis, x->size()))]);
  c.SetOutput(0, MakeType(dtype, out));
}

void InferSqueeze(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const AxesArgument argument = AxesOf(c, 1);
  if (c.partial(0) != nullptr && c.partial(0)->elements.size() == 1) {
    PartialInts scalar = *c.partial(0);
    scalar.rank = 0;
    c.SetPartial(0, std::move(scalar));
  }
  if (!x || (argument.given && !argument.axes)) return c.SetOutput(0, ValueType::Unranked(dtype));
  const auto squeezed =
      AxisFlags(c, argument.given ? *argument.axes : std::vector<int64_t>{}, x->size());
  Dims out;
  for (size_t i = 0; i < x->size(); ++i) {
    const Dim& d = (*x)[i];
    if (squeezed[i] && d.known() && d.value != 1) {
      FailNode(c.node(), "dimension ", i, " of ", ToString(*x), " is squeezed, but is not 1");
    }
    if (!argument.given && !d.known()) return c.SetOutput(0, ValueType::Unranked(dtype));
    if (!squeezed[i] && (argument.given || d.value != 1)) out.push_back(d);
  }
  c.SetOutput(0, MakeType(dtype, out));
}

void InferUnsqueeze(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const AxesArgument argument = AxesOf(c, 1);
  if (!argument.given) FailNode(c.node(), "its axes are missing");
  if (!x || !argument.axes) return c.SetOutput(0, ValueType::Unranked(dtype));
  const size_t rank = x->size() + argument.axes->size();
  if (rank > kMaxRank) FailNode(c.node(), "the output would have rank ", rank);
  const auto added = AxisFlags(c, *argument.axes, rank);
  Dims out;
  size_t next = 0;
  for (size_t i = 0; i < rank; ++i) out.push_back(added[i] ? Dim(1) : (*x)[next++]);
  c.SetOutput(0, MakeType(dtype, out));
  if (c.partial(0) != nullptr && c.partial(0)->rank == 0 && rank == 1) {
    PartialInts vector = *c.partial(0);
    vector.rank = 1;
    c.SetPartial(0, std::move(vector));
  }
}

void InferConcat(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  std::optional<Dims> out;
  bool all_ranked = true;
  std::optional<Dim> sum = Dim(0);
  if (!c.node().Has("axis")) FailNode(c.node(), "attribute 'axis' is missing");
  for (size_t i = 0; i < c.node().inputs.size(); ++i) {
    RequireSameDType(c, 0, i);
    const auto x = InputDims(c, i);
    if (!x) {
      all_ranked = false;
      continue;
    }
    const auto axis = static_cast<size_t>(NormalAxis(c, c.node().GetInt("axis", 0), x->size()));
    if (!out) out = *x;
    if (out->size() != x->size())
      FailNode(c.node(), "inputs of ranks ", out->size(), " and ", x->size());
    for (size_t d = 0; d < x->size(); ++d) {
      if (d != axis)
        (*out)[d] = Equal(c, (*out)[d], (*x)[d], Cat("dimensions ", d, " of the inputs:"));
    }
    if (!(*x)[axis].known()) sum.reset();
    if (sum) sum = Dim(sum->value + (*x)[axis].value);
    if (sum && sum->value > kMaxDim)
      FailNode(c.node(), "the inputs together are too large along axis ", axis);
    (*out)[axis] = Dim();
    if (sum) (*out)[axis] = *sum;
  }
  if (!out) return c.SetOutput(0, ValueType::Unranked(dtype));
  const auto axis = static_cast<size_t>(NormalAxis(c, c.node().GetInt("axis", 0), out->size()));
  (*out)[axis] = sum && all_ranked ? *sum : Dim();
  c.SetOutput(0, MakeType(dtype, *out));

  PartialInts joined;
  for (size_t i = 0; i < c.node().inputs.size(); ++i) {
    const PartialInts* part = c.partial(i);
    if (part == nullptr || part->rank != 1) return;
    joined.elements.insert(joined.elements.end(), part->elements.begin(), part->elements.end());
  }
  c.SetPartial(0, std::move(joined));
}

void InferSplit(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const size_t count = c.node().outputs.size();
  if (!x) {
    for (size_t i = 0; i < count; ++i) c.SetOutput(i, ValueType::Unranked(dtype));
    return;
  }
  const auto axis = static_cast<size_t>(NormalAxis(c, c.node().GetInt("axis", 0), x->size()));
  const Dim& whole = (*x)[axis];
  const auto sizes = KnownInts(c, 1);
  if (sizes) {
    int64_t sum = 0;
    for (int64_t s : *sizes) {
      if (s < 0 || s > kMaxDim) FailNode(c.node(), "a piece of size ", s);
      sum += s;
      if (sum > kMaxDim) FailNode(c.node(), "the pieces together are too large");
    }
    if (sizes->size() != count || (whole.known() && sum != whole.value)) {
      FailNode(c.node(), sizes->size(), " pieces of ", sum, " together for ", count, " outputs of ",
               ToString(*x));
    }
  }
  const int64_t declared = c.node().GetInt("num_outputs", static_cast<int64_t>(count));
  if (declared != static_cast<int64_t>(count))
    FailNode(c.node(), "num_outputs is ", declared, ", but it has ", count);
  // Even pieces; from operator set 18 on the last may be smaller.
  const auto n = static_cast<int64_t>(count);
  const int64_t piece = whole.known() ? (whole.value + n - 1) / n : 0;
  if (!sizes && !c.has(1) && whole.known()) {
    if (c.opset() < 18 && whole.value % n != 0)
      FailNode(c.node(), whole.value, " does not divide into ", n);
    if (piece * (n - 1) > whole.value)
      FailNode(c.node(), whole.value, " does not divide into ", n, " pieces");
  }
  for (size_t i = 0; i < count; ++i) {
    Dims out = *x;
    if (sizes) {
      out[axis] = (*sizes)[i];
    } else if (whole.known() && !c.has(1)) {
      out[axis] = i + 1 < count ? piece : whole.value - piece * (n - 1);
    } else {
      out[axis] = Dim();
    }
    c.SetOutput(i, MakeType(dtype, out));
  }
}

// The elements of one dimension that start, end and step choose, as numpy does: negative counts
// from the end, out of range is clamped. `first` gets the first element.
int64_t SliceCount(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t* first) {
  *first = 0;
  if (dim == 0) return 0;
  const auto clamp = [&](int64_t v, int64_t low, int64_t high) {
    if (v < 0) v += dim;  // cannot overflow: v is negative and dim is not
    return std::clamp(v, low, high);
  };
  if (step > 0) {
    *first = clamp(start, 0, dim);
    const int64_t last = clamp(end, 0, dim);
    return last <= *first ? 0 : (last - *first - 1) / step + 1;
  }
  *first = clamp(start, 0, dim - 1);
  const int64_t last = clamp(end, -1, dim - 1);
  if (*first <= last) return 0;
  // -(step + 1) fits for every negative step, -step does not.
  return static_cast<int64_t>(static_cast<uint64_t>(*first - last - 1) /
                              (static_cast<uint64_t>(-(step + 1)) + 1)) +
         1;
}

void InferSlice(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const auto starts = KnownInts(c, 1);
  const auto ends = KnownInts(c, 2);
  auto axes = KnownInts(c, 3);
  auto steps = KnownInts(c, 4);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  if (!axes && !c.has(3) && starts) {
    axes.emplace();
    for (size_t i = 0; i < starts->size(); ++i) axes->push_back(static_cast<int64_t>(i));
  }
  if (!axes) return c.SetOutput(0, MakeType(dtype, Dims(x->size())));
  const auto flags = AxisFlags(c, *axes, x->size());
  Dims out = *x;
  if (!steps && !c.has(4)) steps = std::vector<int64_t>(axes->size(), 1);
  if (!starts || !ends || !steps) {
    for (size_t i = 0; i < out.size(); ++i) {
      if (flags[i]) out[i] = Dim();
    }
    return c.SetOutput(0, MakeType(dtype, out));
  }
  if (starts->size() != axes->size() || ends->size() != axes->size() ||
      steps->size() != axes->size()) {
    FailNode(c.node(), "starts, ends, axes and steps have ", starts->size(), ", ", ends->size(),
             ", ", axes->size(), " and ", steps->size(), " numbers; expected equal counts");
  }
  for (size_t i = 0; i < axes->size(); ++i) {
    const int64_t step = (*steps)[i];
    if (step == 0) FailNode(c.node(), "a step of 0");
    Dim& d = out[static_cast<size_t>(NormalAxis(c, (*axes)[i], x->size()))];
    int64_t first = 0;
    if (d.known()) {
      d = SliceCount(d.value, (*starts)[i], (*ends)[i], step, &first);
    } else if ((*starts)[i] != 0 || step != 1 || (*ends)[i] < kMaxDim) {
      d = Dim();  // a slice of everything keeps the symbol
    }
  }
  c.SetOutput(0, MakeType(dtype, out));

  const PartialInts* data = c.partial(0);
  if (data != nullptr && data->rank == 1 && axes->size() == 1) {
    int64_t at = 0;
    const int64_t n = SliceCount(static_cast<int64_t>(data->elements.size()), (*starts)[0],
                                 (*ends)[0], (*steps)[0], &at);
    PartialInts chosen;
    for (int64_t i = 0; i < n; ++i) {
      chosen.elements.push_back(data->elements[static_cast<size_t>(at)]);
      if (i + 1 < n) at += (*steps)[0];
    }
    c.SetPartial(0, std::move(chosen));
  }
}

void InferPad(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  RequireSameDType(c, 0, 2);
  const auto x = InputDims(c, 0);
  const auto pads = KnownInts(c, 1);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  const auto axes = KnownInts(c, 3);
  if (!pads || (c.has(3) && !axes)) return c.SetOutput(0, MakeType(dtype, Dims(x->size())));
  std::vector<size_t> padded;
  if (axes) {
    (void)AxisFlags(c, *axes, x->size());
    for (int64_t a : *axes) padded.push_back(static_cast<size_t>(NormalAxis(c, a, x->size())));
  } else {
    for (size_t i = 0; i < x->size(); ++i) padded.push_back(i);
  }
  if (pads->size() != 2 * padded.size()) {
    FailNode(c.node(), pads->size(), " pads for ", padded.size(), " axes, expected two each");
  }
  Dims out = *x;
  for (size_t i = 0; i < padded.size(); ++i) {
    Dim& d = out[padded[i]];
    const int64_t before = (*pads)[i];
    const int64_t after = (*pads)[padded.size() + i];
    if (before == 0 && after == 0) continue;
    if (before < -kMaxDim || before > kMaxDim || after < -kMaxDim || after > kMaxDim) {
      FailNode(c.node(), "pads of ", before, " and ", after);
    }
    if (!d.known()) {
      d = Dim();
      continue;
    }
    const int64_t size = d.value + before + after;
    if (size < 0)
      FailNode(c.node(), "pads of ", before, " and ", after, " on a dimension of size ", d.value);
    d = size;
  }
  c.SetOutput(0, MakeType(dtype, out));
}

// keep_aspect_ratio_policy: one scale for all axes, the least ("not_larger") or greatest
// ("not_smaller") of those that the sizes ask for; the products are rounded, halves up.
void KeepAspectRatio(const InferContext& c, const std::vector<int64_t>& axes, const Dims& x,
                     Dims* out) {
  const std::string policy = c.node().GetString("keep_aspect_ratio_policy", "stretch");
  if (policy == "stretch") return;
  const bool larger = policy == "not_smaller";
  if (!larger && policy != "not_larger")
    FailNode(c.node(), "keep_aspect_ratio_policy is '", policy, "'");
  std::optional<double> scale;
  bool known = true;
  for (int64_t a : axes) {
    const auto i = static_cast<size_t>(NormalAxis(c, a, x.size()));
    known = known && x[i].known() && (*out)[i].known() && x[i].value > 0;
    if (!known) break;
    const double s = static_cast<double>((*out)[i].value) / static_cast<double>(x[i].value);
    if (!scale) scale = s;
    scale = larger ? std::max(*scale, s) : std::min(*scale, s);
  }
  for (int64_t a : axes) {
    const auto i = static_cast<size_t>(NormalAxis(c, a, x.size()));
    const double size = known ? std::floor(*scale * static_cast<double>(x[i].value) + 0.5) : 0.0;
    if (size > static_cast<double>(kMaxDim))
      FailNode(c.node(), "an output of ", size, " along axis ", a);
    (*out)[i] = known ? Dim(static_cast<int64_t>(size)) : Dim();
  }
}

void InferResize(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  std::vector<int64_t> axes;
  for (size_t i = 0; i < x->size(); ++i) axes.push_back(static_cast<int64_t>(i));
  axes = c.node().GetInts("axes", axes);
  (void)AxisFlags(c, axes, x->size());
  Dims out = *x;
  const auto check = [&](size_t count, std::string_view what) {
    if (count != axes.size()) FailNode(c.node(), count, " ", what, " for ", axes.size(), " axes");
  };
  // An empty tensor stands for an omitted one in models of operator set 11.
  const auto given = [&](size_t i) {
    if (!c.has(i)) return false;
    const auto dims = InputDims(c, i, 1);
    return !dims || dims->front().value != 0;
  };
  if (given(3)) {
    const PartialInts* sizes = c.partial(3);
    if (sizes != nullptr) check(sizes->elements.size(), "sizes");
    for (size_t i = 0; i < axes.size(); ++i) {
      Dim& d = out[static_cast<size_t>(NormalAxis(c, axes[i], x->size()))];
      d = sizes != nullptr ? DimOf(sizes->elements[i]) : Dim();
    }
    KeepAspectRatio(c, axes, *x, &out);
  } else if (given(2)) {
    const auto scales = KnownFloats(c, 2);
    if (scales) check(scales->size(), "scales");
    for (size_t i = 0; i < axes.size(); ++i) {
      Dim& d = out[static_cast<size_t>(NormalAxis(c, axes[i], x->size()))];
      if (!scales || !d.known()) {
        if (!scales || (*scales)[i] != 1.0F) d = Dim();
        continue;
      }
      // As ONNX Runtime: the product in float32.
      const float size = std::floor(static_cast<float>(d.value) * (*scales)[i]);
      if (!((*scales)[i] > 0.0F) || !(size <= static_cast<float>(kMaxDim))) {
        FailNode(c.node(), "a scale of ", (*scales)[i], " for a dimension of size ", d.value);
      }
      d = static_cast<int64_t>(size);
    }
  } else {
    FailNode(c.node(), "neither scales nor sizes are given");
  }
  c.SetOutput(0, MakeType(dtype, out));
}

void InferExpand(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const PartialInts* target = c.partial(1);
  if (!x || target == nullptr) return c.SetOutput(0, ValueType::Unranked(dtype));
  Dims wanted;
  for (const PartialInt& e : target->elements) {
    if (e.value && *e.value < 0) FailNode(c.node(), "the target shape holds ", *e.value);
    wanted.push_back(DimOf(e));
  }
  c.SetOutput(0, MakeType(dtype, Broadcast(c, *x, wanted)));
}

void InferTile(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const auto x = InputDims(c, 0);
  const auto repeats = KnownInts(c, 1);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  Dims out = *x;
  if (repeats && repeats->size() != x->size()) {
    FailNode(c.node(), repeats->size(), " repeats for ", ToString(*x));
  }
  for (size_t i = 0; i < out.size(); ++i) {
    if (repeats && (*repeats)[i] < 0) FailNode(c.node(), "a repeat of ", (*repeats)[i]);
    const Dim factors[] = {out[i], repeats ? Dim((*repeats)[i]) : Dim()};
    out[i] = Product(c, factors);
  }
  c.SetOutput(0, MakeType(dtype, out));
}

void InferDepthToSpace(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const int64_t b = c.node().GetInt("blocksize", 0);
  if (b < 1 || b > (1 << 15)) FailNode(c.node(), "blocksize is ", b);
  const auto x = InputDims(c, 0, 4);
  if (!x) return c.SetOutput(0, MakeType(dtype, Dims(4)));
  Dims out = *x;
  if (out[1].known() && out[1].value % (b * b) != 0) {
    FailNode(c.node(), out[1].value, " channels, expected a multiple of ", b * b);
  }
  if (out[1].known())
    out[1] = out[1].value / (b * b);
  else
    out[1] = Dim();
  for (size_t i = 2; i < 4; ++i) {
    const Dim factors[] = {out[i], Dim(b)};
    out[i] = Product(c, factors);
  }
  c.SetOutput(0, MakeType(dtype, out));
}

void InferSpaceToDepth(InferContext& c) {
  const DType dtype = Input(c, 0).dtype;
  const int64_t b = c.node().GetInt("blocksize", 0);
  if (b < 1 || b > (1 << 15)) FailNode(c.node(), "blocksize is ", b);
  const auto x = InputDims(c, 0, 4);
  if (!x) return c.SetOutput(0, MakeType(dtype, Dims(4)));
  Dims out = *x;
  const Dim factors[] = {out[1], Dim(b * b)};
  out[1] = Product(c, factors);
  for (size_t i = 2; i < 4; ++i) {
    if (out[i].known() && out[i].value % b != 0) {
      FailNode(c.node(), "dimension ", i, " is ", out[i].value, ", expected a multiple of ", b);
    }
    if (out[i].known())
      out[i] = out[i].value / b;
    else
      out[i] = Dim();
  }
  c.SetOutput(0, MakeType(dtype, out));
}

void InferTrilu(InferContext& c) {
  const auto x = InputDims(c, 0);
  if (x && x->size() < 2)
    FailNode(c.node(), "input ", ToString(*x), ", expected a matrix or a stack of them");
  InferSameAsFirst(c);
}

constexpr OpInfo kRows[] = {
    {"Reshape", "", 2, 2, InferReshape},
    {"Flatten", "", 1, 1, InferFlatten},
    {"Transpose", "", 1, 1, InferTranspose},
    {"Squeeze", "", 1, 2, InferSqueeze},
    {"Unsqueeze", "", 1, 2, InferUnsqueeze},
    {"Concat", "", 1, -1, InferConcat},
    {"Split", "", 1, 2, InferSplit},
    {"Slice", "", 3, 5, InferSlice},
    {"Pad", "", 2, 4, InferPad},
    {"Resize", "", 1, 4, InferResize},
    {"Expand", "", 2, 2, InferExpand},
    {"Tile", "", 2, 2, InferTile},
    {"DepthToSpace", "", 1, 1, InferDepthToSpace},
    {"SpaceToDepth", "", 1, 1, InferSpaceToDepth},
    {"Trilu", "", 1, 2, InferTrilu},
};

}  // namespace

std::span<const OpInfo> ShapeOps() { return kRows; }

}  // namespace octet
