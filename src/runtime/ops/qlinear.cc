// The standard integer operators, on the kernels of include/octet/kernels.h: QLinearConv,
// QLinearMatMul, ConvInteger, MatMulInteger, and QGemm of com.microsoft. Sums are exact integers; a
// result is
//   saturate(rne(float(acc) * multiplier) + y_zero_point), multiplier = float32(x_scale * w_scale)
//   / y_scale
// as src/numerics/rounding.h has it.
//
// Kernels take int8 weights without a zero point. Others are brought to that: w - zero where it
// fits int8, else split into two int8 halves whose exact sums are added.
#include <octet/kernels.h>

#include <algorithm>
#include <memory>

#include "base/parallel.h"
#include "numerics/rounding.h"
#include "runtime/ops/codes.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

std::vector<int32_t> Codes(const StepRequest& r, size_t i) {
  if (!r.has(i)) return {0};
  const Tensor* t = r.constant(i);
  if (t == nullptr) FailStep(r, Cat("input ", i, " must be known when the plan is made"));
  return WithNumber(r, t->dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* data = static_cast<const T*>(t->raw());
    std::vector<int32_t> v;
    for (int64_t k = 0; k < t->elements(); ++k) v.push_back(static_cast<int32_t>(data[k]));
    return v;
  });
}

std::vector<float> Scales(const StepRequest& r, size_t i) {
  const Tensor* t = r.constant(i);
  if (t == nullptr || t->dtype() != DType::kFloat32)
    FailStep(r, Cat("input ", i, " is not a known float32 scale"));
  return {t->data<float>().begin(), t->data<float>().end()};
}

template <typename T>
T Single(const StepRequest& r, const std::vector<T>& values, size_t i) {
  if (values.size() != 1)
    FailStep(r, Cat("input ", i, " has ", values.size(), " elements, expected 1"));
  return values[0];
}

// Weights minus their zero points, as one or two int8 tensors that sum to them.
std::vector<std::vector<int8_t>> SplitWeights(const std::vector<int32_t>& codes,
                                              const std::vector<int32_t>& zero, int64_t inner,
                                              int64_t channels) {
  std::vector<int32_t> centred(codes.size());
  bool fits = true;
  for (size_t i = 0; i < codes.size(); ++i) {
    const auto channel = static_cast<int64_t>(i) / inner % channels;
    centred[i] = codes[i] - zero[zero.size() == 1 ? 0 : static_cast<size_t>(channel)];
    fits = fits && centred[i] >= -128 && centred[i] <= 127;
  }
  std::vector<std::vector<int8_t>> parts(fits ? 1 : 2);
  for (int32_t w : centred) {  // |w| <= 255
    const int32_t half = fits ? w : w / 2;
    parts[0].push_back(static_cast<int8_t>(half));
    if (!fits) parts[1].push_back(static_cast<int8_t>(w - half));
  }
  return parts;
}

void CheckZeroPoints(const StepRequest& r, const std::vector<int32_t>& zero, int64_t channels,
                     size_t input) {
  const auto n = static_cast<int64_t>(zero.size());
  if (n != 1 && n != channels)
    FailStep(r, Cat("input ", input, " has ", n, " elements, expected 1 or ", channels));
}

// From int32 sums to the output's codes, where no kernel does it on the way.
struct Requantizer {
  std::vector<float> multiplier;
  int32_t zero = 0;
  CodeBounds bounds{0, 255};

  void Run(const int32_t* acc, int64_t rows, int64_t channels, void* y) const {
    ParallelFor(rows, std::max<int64_t>(1, kElementGrain / channels),
                [&](int64_t begin, int64_t end) {
                  for (int64_t i = begin * channels; i < end * channels; ++i) {
                    const float m =
                        multiplier[multiplier.size() == 1 ? 0 : static_cast<size_t>(i % channels)];
                    static_cast<uint8_t*>(y)[i] =
                        static_cast<uint8_t>(RequantizeOne(acc[i], m, zero, bounds.lo, bounds.hi));
                  }
                });
  }
};

kernels::Epilogue CodesEpilogue(const Requantizer& q, bool is_unsigned) {
  kernels::Epilogue e;
  e.output = is_unsigned ? kernels::OutputType::kUint8 : kernels::OutputType::kInt8;
  e.multiplier = q.multiplier;
  e.y_zero_point = q.zero;
  e.lo = {q.bounds.lo};
  e.hi = {q.bounds.hi};
  return e;
}

Requantizer RequantizerOf(const StepRequest& r, float x_scale, const std::vector<float>& w_scale,
                          float y_scale, int32_t y_zero) {
  Requantizer q;
  for (float w : w_scale) q.multiplier.push_back(x_scale * w / y_scale);
  q.zero = y_zero;
  q.bounds = BoundsOf(CodeTypeOf(r, r.outputs[0].dtype));
  return q;
}

// A convolution whose output is codes (requantizer given) or int32.
Step IntegerConv(const StepRequest& r, size_t w_input, int32_t x_zero,
                 const std::vector<int32_t>& w_zero, const Requantizer* requantizer,
                 std::vector<int32_t> bias) {
  const Shape& w_shape = r.shape(w_input);
  const ConvGeometry g = ResolveConv(*r.node, r.shape(0), w_shape);
  CheckZeroPoints(r, w_zero, g.out_channels, w_input);
  (void)CodeTypeOf(r, r.dtype(w_input));
  kernels::ConvProblem p = ConvProblemOf(r, g);
  p.x_type = CodeTypeOf(r, r.dtype(0));
  p.x_zero_point = x_zero;
  const auto parts =
      SplitWeights(Codes(r, w_input), w_zero, w_shape.product(1, w_shape.rank()), g.out_channels);
  const bool is_unsigned = r.outputs[0].dtype == DType::kUint8;
  const bool fused = requantizer != nullptr && parts.size() == 1;
  std::vector<std::shared_ptr<const kernels::Conv>> convs;
  for (size_t i = 0; i < parts.size(); ++i) {
    p.weight = parts[i].data();
    p.epilogue = fused ? CodesEpilogue(*requantizer, is_unsigned) : kernels::Epilogue();
    if (!fused) p.epilogue.output = kernels::OutputType::kInt32;
    if (i == 0) p.epilogue.bias = bias;
    convs.push_back(std::make_shared<const kernels::Conv>(p));
  }
  Step step = NewStep(r, "");
  ReportCandidates(step, convs[0]->candidates());
  for (const auto& conv : convs) step.info.packed_bytes += conv->packed_bytes();
  step.info.macs = g.macs();
  const int64_t height = g.spatial == 2 ? g.axes[0].in : 1;
  const int64_t width = g.axes[static_cast<size_t>(g.spatial) - 1].in;
  const int64_t outputs = r.outputs[0].shape.elements();
  const int64_t channels = g.out_channels;
  Requantizer q = requantizer != nullptr ? *requantizer : Requantizer();
  const bool to_codes = requantizer != nullptr;
  RunOnImages(r, step, {0},
              [=, batch = g.batch](const StepArgs&, const std::vector<const void*>& in, void* y) {
                if (fused || (!to_codes && convs.size() == 1))
                  return convs[0]->Run(batch, height, width, in[0], y);
                std::vector<int32_t> acc(static_cast<size_t>(outputs));
                std::vector<int32_t> more(static_cast<size_t>(outputs));
                convs[0]->Run(batch, height, width, in[0], acc.data());
                if (convs.size() > 1) {
                  convs[1]->Run(batch, height, width, in[0], more.data());
                  for (size_t i = 0; i < acc.size(); ++i) acc[i] += more[i];
                }
                if (to_codes) return q.Run(acc.data(), outputs / channels, channels, y);
                std::copy(acc.begin(), acc.end(), static_cast<int32_t*>(y));
              });
  return step;
}

// Matrices of a batched product: which rows of x meet which weights. Vectors become matrices.
struct Batch {
  int64_t m = 1, k = 1, n = 1;
  std::vector<int64_t> a, b;  // index of each operand's matrix, per output matrix
  int64_t weights = 1;        // distinct matrices of b
};

Batch BatchOf(const Shape& x, const Shape& w, int64_t outputs) {
  std::vector<int64_t> a(x.dims().begin(), x.dims().end());
  std::vector<int64_t> b(w.dims().begin(), w.dims().end());
  if (a.size() == 1) a = {1, a[0]};
  if (b.size() == 1) b = {b[0], 1};
  Batch p;
  p.m = a[a.size() - 2];
  p.k = a.back();
  p.n = b.back();
  a.resize(a.size() - 2);
  b.resize(b.size() - 2);
  for (int64_t d : b) p.weights *= d;
  if (p.weights == 1) {  // one matrix for all rows
    p.m = p.n > 0 ? outputs / p.n : 0;
    p.a = p.b = {0};
    return p;
  }
  const size_t rank = std::max(a.size(), b.size());
  a.insert(a.begin(), rank - a.size(), 1);
  b.insert(b.begin(), rank - b.size(), 1);
  std::vector<int64_t> index(rank, 0);
  const int64_t matrices = p.m * p.n > 0 ? outputs / (p.m * p.n) : 0;
  for (int64_t i = 0; i < matrices; ++i) {
    int64_t at_a = 0;
    int64_t at_b = 0;
    for (size_t d = 0; d < rank; ++d) {
      at_a = at_a * a[d] + (a[d] == 1 ? 0 : index[d]);
      at_b = at_b * b[d] + (b[d] == 1 ? 0 : index[d]);
    }
    p.a.push_back(at_a);
    p.b.push_back(at_b);
    for (size_t d = rank; d-- > 0;) {
      if (++index[d] < std::max(a[d], b[d])) break;
      index[d] = 0;
    }
  }
  return p;
}

// int32 products x (M,K) w (K,N) or (N,K), zero points of w taken off, of x not. `epilogue` (codes
// or float) is used where the weights are one int8 tensor; the result says whether it was.
struct Products {
  Batch batch;
  std::vector<std::vector<std::shared_ptr<const kernels::Gemm>>> gemms;  // [weight matrix][part]
  bool fused = false;
  int64_t x_bytes = 1;

  // y gets what the epilogue makes, or int32.
  void Run(const void* x, void* y, int64_t y_size) const {
    for (size_t i = 0; i < batch.a.size(); ++i) {
      const auto& parts = gemms[static_cast<size_t>(batch.b[i])];
      const auto* from = static_cast<const uint8_t*>(x) + batch.a[i] * batch.m * batch.k;
      auto* to = static_cast<uint8_t*>(y) + static_cast<int64_t>(i) * batch.m * batch.n * y_size;
      parts[0]->Run(batch.m, from, batch.k, to, batch.n);
      if (parts.size() == 1) continue;
      std::vector<int32_t> more(static_cast<size_t>(batch.m * batch.n));
      parts[1]->Run(batch.m, from, batch.k, more.data(), batch.n);
      for (size_t k = 0; k < more.size(); ++k) reinterpret_cast<int32_t*>(to)[k] += more[k];
    }
  }
};

Products MakeProducts(const StepRequest& r, size_t w_input, const Batch& batch, bool weight_is_nk,
                      int32_t x_zero, const std::vector<int32_t>& w_zero,
                      const kernels::Epilogue* epilogue, const std::vector<int32_t>& bias) {
  (void)CodeTypeOf(r, r.dtype(w_input));
  Products products;
  products.batch = batch;
  const auto parts = SplitWeights(Codes(r, w_input), w_zero, weight_is_nk ? batch.k : 1, batch.n);
  products.fused = epilogue != nullptr && parts.size() == 1;
  kernels::GemmProblem p;
  p.n = batch.n;
  p.k = batch.k;
  p.x_type = CodeTypeOf(r, r.dtype(0));
  p.x_zero_point = x_zero;
  p.weight_is_nk = weight_is_nk;
  for (int64_t i = 0; i < batch.weights; ++i) {
    auto& made = products.gemms.emplace_back();
    for (size_t part = 0; part < parts.size(); ++part) {
      p.weight = parts[part].data() + i * batch.k * batch.n;
      p.epilogue = products.fused ? *epilogue : kernels::Epilogue();
      if (!products.fused) p.epilogue.output = kernels::OutputType::kInt32;
      if (part == 0) p.epilogue.bias = bias;
      made.push_back(std::make_shared<const kernels::Gemm>(p));
    }
  }
  return products;
}

Step ProductStep(const StepRequest& r, const Products& products) {
  Step step = NewStep(r, "");
  if (!products.gemms.empty()) ReportCandidates(step, products.gemms[0][0]->candidates());
  for (const auto& parts : products.gemms)
    for (const auto& gemm : parts) step.info.packed_bytes += gemm->packed_bytes();
  const Batch& b = products.batch;
  step.info.macs = b.m * b.k * b.n * static_cast<int64_t>(b.a.size());
  return step;
}

}  // namespace

Step MakeQLinearConv(const StepRequest& r) {
  const std::vector<float> w_scale = Scales(r, 4);
  const Requantizer q = RequantizerOf(r, Single(r, Scales(r, 1), 1), w_scale,
                                      Single(r, Scales(r, 6), 6), Single(r, Codes(r, 7), 7));
  std::vector<int32_t> bias;
  if (r.has(8)) bias = Codes(r, 8);
  return IntegerConv(r, 3, Single(r, Codes(r, 2), 2), Codes(r, 5), &q, bias);
}

Step MakeConvInteger(const StepRequest& r) {
  return IntegerConv(r, 1, Single(r, Codes(r, 2), 2), Codes(r, 3), nullptr, {});
}

Step MakeQLinearMatMul(const StepRequest& r) {
  const int64_t outputs = r.outputs[0].shape.elements();
  const Batch batch = BatchOf(r.shape(0), r.shape(3), outputs);
  const std::vector<int32_t> w_zero = Codes(r, 5);
  CheckZeroPoints(r, w_zero, batch.n, 5);
  const Requantizer q = RequantizerOf(r, Single(r, Scales(r, 1), 1), Scales(r, 4),
                                      Single(r, Scales(r, 6), 6), Single(r, Codes(r, 7), 7));
  CheckZeroPoints(r, std::vector<int32_t>(q.multiplier.size()), batch.n, 4);
  const kernels::Epilogue epilogue = CodesEpilogue(q, r.outputs[0].dtype == DType::kUint8);
  const Products products =
      MakeProducts(r, 3, batch, false, Single(r, Codes(r, 2), 2), w_zero, &epilogue, {});
  Step step = ProductStep(r, products);
  step.run = [=](const StepArgs& a) {
    if (products.fused) return products.Run(a.inputs[0].raw, a.outputs[0].raw, 1);
    std::vector<int32_t> acc(static_cast<size_t>(outputs));
    products.Run(a.inputs[0].raw, acc.data(), 4);
    q.Run(acc.data(), outputs / batch.n, batch.n, a.outputs[0].raw);
  };
  return step;
}

Step MakeMatMulInteger(const StepRequest& r) {
  const int64_t outputs = r.outputs[0].shape.elements();
  const Batch batch = BatchOf(r.shape(0), r.shape(1), outputs);
  const std::vector<int32_t> w_zero = Codes(r, 3);
  CheckZeroPoints(r, w_zero, batch.n, 3);
  const Products products = MakeProducts(r, 1, batch, false, 0, w_zero, nullptr, {});
  // The zero point of x often comes from DynamicQuantizeLinear: it is taken off afterwards, times
  // the sums of the columns of w.
  std::vector<int32_t> column_sums(static_cast<size_t>(batch.weights * batch.n), 0);
  const std::vector<int32_t> w = Codes(r, 1);
  for (size_t i = 0; i < w.size(); ++i) {
    const auto column = static_cast<int64_t>(i) % batch.n;
    const int64_t matrix = static_cast<int64_t>(i) / (batch.k * batch.n);
    const int32_t zero = w_zero[w_zero.size() == 1 ? 0 : static_cast<size_t>(column)];
    column_sums[static_cast<size_t>(matrix * batch.n + column)] += w[i] - zero;
  }
  Step step = ProductStep(r, products);
  const bool has_zero = r.has(2);
  const int64_t zeros = has_zero ? r.shape(2).elements() : 1;
  if (zeros != 1 && zeros != batch.m)
    FailStep(r, Cat("input 2 has ", zeros, " elements, expected 1 or ", batch.m));
  const bool is_unsigned = r.dtype(0) == DType::kUint8;
  step.run = [=](const StepArgs& a) {
    auto* y = a.out<int32_t>(0);
    products.Run(a.inputs[0].raw, y, 4);
    if (!has_zero) return;
    for (int64_t i = 0; i < outputs; ++i) {
      const int64_t row = zeros == 1 ? 0 : i / batch.n % batch.m;
      const int32_t zero =
          is_unsigned ? int32_t{a.in<uint8_t>(2)[row]} : int32_t{a.in<int8_t>(2)[row]};
      const auto matrix = batch.b[static_cast<size_t>(i / (batch.m * batch.n))];
      y[i] -= zero * column_sums[static_cast<size_t>(matrix * batch.n + i % batch.n)];
    }
  };
  return step;
}

// a, a_scale, a_zero, b, b_scale, b_zero, c (int32, scale a_scale * b_scale), y_scale, y_zero
Step MakeContribQGemm(const StepRequest& r) {
  if (r.node->GetInt("transA", 0) != 0) FailStep(r, "transA is 1, expected 0");
  const bool transposed = r.node->GetInt("transB", 0) != 0;
  const float alpha = r.node->GetFloat("alpha", 1.0F);
  const Shape& w = r.shape(3);
  Batch batch;
  batch.m = r.shape(0)[0];
  batch.k = r.shape(0)[1];
  batch.n = w[transposed ? 0 : 1];
  batch.a = batch.b = {0};
  const std::vector<int32_t> w_zero = Codes(r, 5);
  CheckZeroPoints(r, w_zero, batch.n, 5);
  std::vector<int32_t> bias;
  if (r.has(6)) {
    bias = Codes(r, 6);
    if (bias.size() == 1) bias.resize(static_cast<size_t>(batch.n), bias[0]);
    if (static_cast<int64_t>(bias.size()) != batch.n)
      FailStep(r, Cat("C has ", bias.size(), " elements, expected ", batch.n));
  }
  const float x_scale = alpha * Single(r, Scales(r, 1), 1);
  const int32_t x_zero = Single(r, Codes(r, 2), 2);
  const bool to_float = r.outputs[0].dtype == DType::kFloat32;
  const Requantizer q = to_float
                            ? Requantizer()
                            : RequantizerOf(r, x_scale, Scales(r, 4), Single(r, Scales(r, 7), 7),
                                            r.has(8) ? Single(r, Codes(r, 8), 8) : 0);
  kernels::Epilogue epilogue =
      to_float ? kernels::Epilogue() : CodesEpilogue(q, r.outputs[0].dtype == DType::kUint8);
  std::vector<float> multiplier = q.multiplier;
  if (to_float) {
    for (float s : Scales(r, 4)) multiplier.push_back(x_scale * s);
    epilogue.output = kernels::OutputType::kFloat32;
    epilogue.multiplier = multiplier;
  }
  const Products products = MakeProducts(r, 3, batch, transposed, x_zero, w_zero, &epilogue, bias);
  Step step = ProductStep(r, products);
  const int64_t outputs = r.outputs[0].shape.elements();
  step.run = [=](const StepArgs& a) {
    if (products.fused) return products.Run(a.inputs[0].raw, a.outputs[0].raw, to_float ? 4 : 1);
    std::vector<int32_t> acc(static_cast<size_t>(outputs));
    products.Run(a.inputs[0].raw, acc.data(), 4);
    if (!to_float) return q.Run(acc.data(), outputs / batch.n, batch.n, a.outputs[0].raw);
    for (int64_t i = 0; i < outputs; ++i) {
      const float m = multiplier[multiplier.size() == 1 ? 0 : static_cast<size_t>(i % batch.n)];
      a.out<float>(0)[i] = static_cast<float>(acc[static_cast<size_t>(i)]) * m;
    }
  };
  return step;
}

}  // namespace octet::ops
