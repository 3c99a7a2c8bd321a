// Convolution and pooling: Conv, ConvTranspose, MaxPool, AveragePool and the global forms.
#include <array>

#include "graph/conv_geometry.h"
#include "graph/ops_context.h"

namespace octet {
namespace {

// The spatial sizes of the weights; empty where one of them is not known.
std::vector<int64_t> KernelOf(const Dims& w) {
  std::vector<int64_t> kernel;
  for (size_t i = 2; i < w.size(); ++i) {
    if (!w[i].known()) return {};
    kernel.push_back(w[i].value);
  }
  return kernel;
}

Dim ConvOutputDim(const InferContext& c, const WindowAttributes& window, size_t axis, const Dim& in,
                  bool transposed) {
  if (!in.known()) return {};
  const auto resolve = transposed ? ResolveTransposedAxis : ResolveAxis;
  return resolve(c.node(), window, static_cast<int>(axis), in.value).out;
}

Dim Times(const InferContext& c, const Dim& d, int64_t factor) {
  const std::array<Dim, 2> factors = {d, Dim(factor)};
  return Product(c, factors);
}

void InferConvLike(InferContext& c, size_t xi, size_t wi, DType dtype, bool transposed) {
  const auto x = InputDims(c, xi);
  const auto w = InputDims(c, wi);
  if (!x || !w) return c.SetOutput(0, ValueType::Unranked(dtype));
  if (x->size() < 3 || x->size() != w->size()) {
    FailNode(c.node(), "input ", ToString(*x), " and weights ", ToString(*w),
             ", expected equal ranks of 3 or more");
  }
  const int64_t group = c.node().GetInt("group", 1);
  if (group < 1 || group > kMaxDim) FailNode(c.node(), "group is ", group);
  const Dim& channels = (*x)[1];
  Dim out_channels;
  if (transposed) {
    (void)Equal(c, channels, (*w)[0], "channels of input and weights:");
    out_channels = Times(c, (*w)[1], group);
  } else {
    (void)Equal(c, channels, Times(c, (*w)[1], group),
                "channels of input and weights (times group):");
    out_channels = (*w)[0];
  }
  const Dim& divided = transposed ? channels : out_channels;
  if (divided.known() && divided.value % group != 0) {
    FailNode(c.node(), "group ", group, " does not divide the ", divided.value, " channels");
  }
  Dims out = {(*x)[0], out_channels};
  const auto kernel = KernelOf(*w);
  if (kernel.empty() && !c.node().Has("kernel_shape")) {
    out.resize(x->size());
  } else {
    const WindowAttributes window = ReadWindow(c.node(), kernel);
    if (static_cast<size_t>(window.spatial) + 2 != x->size())
      FailNode(c.node(), "kernel_shape does not fit the input");
    for (size_t i = 2; i < x->size(); ++i)
      out.push_back(ConvOutputDim(c, window, i - 2, (*x)[i], transposed));
  }
  c.SetOutput(0, MakeType(dtype, out));
}

void InferConv(InferContext& c) {
  RequireSameDType(c, 0, 1);
  InferConvOutput(c, 0, 1, Input(c, 0).dtype);
}

void InferConvTranspose(InferContext& c) {
  RequireSameDType(c, 0, 1);
  InferConvLike(c, 0, 1, Input(c, 0).dtype, true);
}

void InferPool(InferContext& c) { InferPoolOutput(c, false, Input(c, 0).dtype); }
void InferGlobalPool(InferContext& c) { InferGlobalPoolOutput(c, false, Input(c, 0).dtype); }

constexpr OpInfo kRows[] = {
    {"Conv", "", 2, 3, InferConv},
    {"ConvTranspose", "", 2, 3, InferConvTranspose},
    {"MaxPool", "", 1, 1, InferPool},
    {"AveragePool", "", 1, 1, InferPool},
    {"GlobalAveragePool", "", 1, 1, InferGlobalPool},
    {"GlobalMaxPool", "", 1, 1, InferGlobalPool},
};

}  // namespace

std::span<const OpInfo> ConvOps() { return kRows; }

void InferConvOutput(InferContext& c, size_t x, size_t w, DType dtype) {
  InferConvLike(c, x, w, dtype, false);
}

void InferPoolOutput(InferContext& c, bool channels_last, DType dtype) {
  const auto x = InputDims(c, 0);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  if (x->size() < 3) FailNode(c.node(), "input ", ToString(*x), ", expected rank 3 or more");
  const WindowAttributes window = ReadWindow(c.node(), {});
  if (static_cast<size_t>(window.spatial) + 2 != x->size())
    FailNode(c.node(), "kernel_shape does not fit the input");
  const size_t first = channels_last ? 1 : 2;
  Dims out = *x;
  for (size_t i = 0; i + 2 < x->size(); ++i)
    out[first + i] = ConvOutputDim(c, window, i, (*x)[first + i], false);
  c.SetOutput(0, MakeType(dtype, out));
  c.SetOutput(1, MakeType(DType::kInt64, out));  // MaxPool's indices
}

void InferGlobalPoolOutput(InferContext& c, bool channels_last, DType dtype) {
  auto x = InputDims(c, 0);
  if (!x) return c.SetOutput(0, ValueType::Unranked(dtype));
  if (x->size() < 3) FailNode(c.node(), "input ", ToString(*x), ", expected rank 3 or more");
  const size_t first = channels_last ? 1 : 2;
  for (size_t i = 0; i + 2 < x->size(); ++i) (*x)[first + i] = 1;
  c.SetOutput(0, MakeType(dtype, *x));
}

}  // namespace octet
