// Gemm and MatMul in float32, by oneDNN.
//
// With constant weights both are a 1x1 convolution over the rows, seen as one image of width M: its
// kernel sums over K in one order whatever M and the number of threads are (measured: oneDNN's
// inner product splits K over threads, and then bits differ). With computed weights every matrix of
// the batch is one call in one thread, and matrices are shared out.
#include <octet/kernels.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/parallel.h"
#include "runtime/ops/families.h"
#include "runtime/ops/onednn.h"
#include "runtime/ops/permuted.h"

namespace octet::ops {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

void CheckFloat(const StepRequest& r, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (r.has(i) && r.dtype(i) != DType::kFloat32) {
      FailStep(r, Cat("input ", i, " is ", NameOf(r.dtype(i)), ", expected float32"));
    }
  }
}

Step Nothing(const StepRequest& r) {
  Step step = NewStep(r, "octet:empty");
  step.run = [](const StepArgs&) {};
  return step;
}

// Sum over an empty K: only what is added.
Step Zeros(const StepRequest& r) {
  Step step = NewStep(r, "octet:zeros");
  step.run = [](const StepArgs& a) {
    std::memset(a.outputs[0].raw, 0, static_cast<size_t>(a.outputs[0].bytes()));
  };
  return step;
}

// y (M,N) = x (M,K) w (N,K)^T + bias, weights and bias known. `weight_strides` are those of (N,K).
Step Linear(const StepRequest& r, int64_t m, int64_t k, int64_t n, const float* weights,
            const memory::dims& weight_strides, const float* bias) {
  const memory::desc src = DnnlDesc({1, k, 1, m}, Tag::nhwc);  // bytes of (M,K)
  const memory::desc dst = DnnlDesc({1, n, 1, m}, Tag::nhwc);  // bytes of (M,N)
  const memory::desc plain({n, k, 1, 1}, memory::data_type::f32,
                           memory::dims{weight_strides[0], weight_strides[1], 1, 1});
  const memory::desc any({n, k, 1, 1}, memory::data_type::f32, Tag::any);
  size_t fused = 0;
  if (bias == nullptr && !r.followers.empty() && r.followers[0].kind == Follower::Kind::kBias) {
    bias = r.followers[fused++].bias->data<float>().data();
  }
  const memory::desc bias_desc = bias != nullptr ? DnnlDesc({n}) : memory::desc();
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops post;
  while (fused < r.followers.size() && r.followers[fused].kind == Follower::Kind::kClamp) {
    const Follower& f = r.followers[fused++];
    if (f.lo == 0.0F && std::isinf(f.hi)) {
      post.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
    } else {
      post.append_eltwise(1.0F, dnnl::algorithm::eltwise_clip, f.lo, f.hi);
    }
  }
  attr.set_post_ops(post);
  const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_inference,
                                             dnnl::algorithm::convolution_direct, src, any,
                                             bias_desc, dst, {1, 1}, {0, 0}, {0, 0});
  const dnnl::convolution_forward::primitive_desc pd(desc, attr, DnnlEngine());
  Step step = NewStep(r, std::string("onednn:") + pd.impl_info_str());
  step.fused = fused;
  step.info.macs = m * k * n;
  step.info.packed_bytes = static_cast<int64_t>(pd.weights_desc().get_size());
  step.taken = 1U << 1U | 1U << 2U;
  step.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
  using From = DnnlArg::From;
  std::vector<DnnlArg> args = {
      {DNNL_ARG_SRC, src, From::kInput, 0, 0, 0, {}},
      {DNNL_ARG_DST, dst, From::kOutput, 0, 0, 0, {}},
      {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), From::kScratch, 0, 0, 0, {}},
      {DNNL_ARG_WEIGHTS, pd.weights_desc(), From::kFixed, 0, 0, 0,
       DnnlPacked(weights, plain, pd.weights_desc())}};
  if (bias != nullptr) {
    args.push_back(
        {DNNL_ARG_BIAS, bias_desc, From::kFixed, 0, 0, 0, DnnlPacked(bias, bias_desc, bias_desc)});
  }
  std::vector<DnnlCall> calls;
  calls.emplace_back(dnnl::convolution_forward(pd), std::move(args), 1);
  SetCalls(step, std::move(calls));
  return step;
}

// Where one matrix of a batch lies, in bytes from the start of each operand.
struct MatrixBytes {
  int64_t a, b, y;
};

// Sets `step.run` to multiply every pair of matrices: (M,K) x (K,N) with the given strides.
struct Product {
  int64_t m, k, n;
  memory::dims a_strides, b_strides;
  std::vector<MatrixBytes> matrices;
  // Of every row of the product, while the matrix is in the cache.
  std::optional<ScoreSoftmax> softmax = std::nullopt;
};

void SetProduct(Step& step, const Product& p, std::function<void(const StepArgs&)> after) {
  const memory::desc a({p.m, p.k}, memory::data_type::f32, p.a_strides);
  const memory::desc b({p.k, p.n}, memory::data_type::f32, p.b_strides);
  const memory::desc y = DnnlDesc({p.m, p.n});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const ThreadScope one(1);
  const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(a, b, y), attr, DnnlEngine());
  step.info.kernel = std::string("onednn:") + pd.impl_info_str();
  step.info.macs = p.m * p.k * p.n * static_cast<int64_t>(p.matrices.size());
  const auto scratch = (static_cast<int64_t>(pd.scratchpad_desc().get_size()) + 63) / 64 * 64;
  const auto count = static_cast<int64_t>(p.matrices.size());
  // Pieces are fixed here, so that the scratch memory is enough whatever the threads at run time.
  const int64_t pieces = std::min<int64_t>(count, HardwareThreads());
  step.scratch_bytes = scratch * pieces;
  const dnnl::matmul primitive(pd);
  if (p.softmax) step.info.kernel += "+octet_softmax";
  step.run = [=, matrices = p.matrices, softmax = p.softmax, scratch_desc = pd.scratchpad_desc(),
              after = std::move(after)](const StepArgs& args) {
    ParallelForEach(pieces, [&](int64_t piece) {
      const ThreadScope single(1);
      dnnl::stream stream(DnnlEngine());
      dnnl::memory ma(a, DnnlEngine(), nullptr), mb(b, DnnlEngine(), nullptr),
          my(y, DnnlEngine(), nullptr);
      dnnl::memory ms(scratch_desc, DnnlEngine(),
                      static_cast<char*>(args.scratch) + piece * scratch);
      for (int64_t i = count * piece / pieces; i < count * (piece + 1) / pieces; ++i) {
        const MatrixBytes& at = matrices[static_cast<size_t>(i)];
        // oneDNN's handles are not const; sources are only read.
        ma.set_data_handle(const_cast<char*>(args.in<char>(0)) + at.a);  // NOLINT
        mb.set_data_handle(const_cast<char*>(args.in<char>(1)) + at.b);  // NOLINT
        my.set_data_handle(args.out<char>(0) + at.y);
        primitive.execute(stream, {{DNNL_ARG_SRC, ma},
                                   {DNNL_ARG_WEIGHTS, mb},
                                   {DNNL_ARG_DST, my},
                                   {DNNL_ARG_SCRATCHPAD, ms}});
        if (softmax) {
          stream.wait();
          softmax->Run(args, i, reinterpret_cast<float*>(args.out<char>(0) + at.y), {});
        }
      }
      stream.wait();
    });
    if (after) after(args);
  };
}

// beta * C as one value per column, where that is what C is.
bool IsRowBias(const Shape& c, int64_t n) {
  return c.elements() == n && (c.rank() == 0 || c[c.rank() - 1] == n);
}

// y (M,N) += beta * C, C broadcast from (M|1, N|1), then alpha was applied before.
void ScaleAndAdd(float* y, int64_t m, int64_t n, float alpha, const float* c, const Shape& c_shape,
                 float beta) {
  const int rank = c_shape.rank();
  const int64_t rows = rank >= 2 ? c_shape[rank - 2] : 1;
  const int64_t cols = rank >= 1 ? c_shape[rank - 1] : 1;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      float v = alpha * y[i * n + j];
      if (c != nullptr) v += beta * c[(rows == 1 ? 0 : i) * cols + (cols == 1 ? 0 : j)];
      y[i * n + j] = v;
    }
  }
}

}  // namespace

Step MakeGemm(const StepRequest& r) {
  CheckFloat(r, 3);
  const bool trans_a = r.node->GetInt("transA", 0) != 0;
  const bool trans_b = r.node->GetInt("transB", 0) != 0;
  const float alpha = r.node->GetFloat("alpha", 1.0F);
  const float beta = r.node->GetFloat("beta", 1.0F);
  const Shape& a = r.shape(0);
  const Shape& b = r.shape(1);
  const int64_t m = a[trans_a ? 1 : 0];
  const int64_t k = a[trans_a ? 0 : 1];
  const int64_t n = b[trans_b ? 0 : 1];
  if (m * n == 0) return Nothing(r);
  return WithDnnlErrors(r, [&] {
    const Tensor* weights = r.constant(1);
    const bool known_bias = !r.has(2) || (r.constant(2) != nullptr && IsRowBias(r.shape(2), n));
    if (weights != nullptr && known_bias && !trans_a && k > 0) {
      // alpha and beta go into the constants.
      std::vector<float> scaled;
      const float* w = weights->data<float>().data();
      if (alpha != 1.0F) {
        scaled.assign(w, w + k * n);
        for (float& v : scaled) v *= alpha;
        w = scaled.data();
      }
      std::vector<float> bias;
      if (const Tensor* c = r.constant(2)) {
        bias.assign(c->data<float>().begin(), c->data<float>().end());
        for (float& v : bias) v *= beta;
      }
      const memory::dims strides = trans_b ? memory::dims{k, 1} : memory::dims{1, n};
      return Linear(r, m, k, n, w, strides, bias.empty() ? nullptr : bias.data());
    }
    Step step = k == 0 ? Zeros(r) : NewStep(r, "");
    auto after = [=, c_shape = r.has(2) ? r.shape(2) : Shape(),
                  has_c = r.has(2)](const StepArgs& args) {
      ScaleAndAdd(args.out<float>(0), m, n, alpha, has_c ? args.in<float>(2) : nullptr, c_shape,
                  beta);
    };
    if (k == 0) {
      step.run = [zeros = step.run, after](const StepArgs& args) {
        zeros(args);
        after(args);
      };
      return step;
    }
    Product p = {m,
                 k,
                 n,
                 trans_a ? memory::dims{1, m} : memory::dims{k, 1},
                 trans_b ? memory::dims{1, k} : memory::dims{n, 1},
                 {{0, 0, 0}}};
    SetProduct(step, p, after);
    return step;
  });
}

Step MakeMatMul(const StepRequest& r) {
  CheckFloat(r, 2);
  // Vectors become matrices: (K) x ... is (1,K); ... x (K) is (K,1).
  std::vector<int64_t> a(r.shape(0).dims().begin(), r.shape(0).dims().end());
  std::vector<int64_t> b(r.shape(1).dims().begin(), r.shape(1).dims().end());
  if (a.size() == 1) a = {1, a[0]};
  if (b.size() == 1) b = {b[0], 1};
  const int64_t m = a[a.size() - 2];
  const int64_t k = a.back();
  const int64_t n = b.back();
  const Shape& y = r.outputs[0].shape;
  if (y.elements() == 0) return Nothing(r);
  if (k == 0) return Zeros(r);
  return WithDnnlErrors(r, [&] {
    const Tensor* weights = r.constant(1);
    if (weights != nullptr && weights->elements() == k * n) {
      const int64_t rows = y.elements() / n;
      return Linear(r, rows, k, n, weights->data<float>().data(), {1, n}, nullptr);
    }
    Step step = NewStep(r, "");
    Product p = {m, k, n, {k, 1}, {n, 1}, {}};
    // Batch dimensions broadcast against each other.
    const size_t rank = std::max(a.size(), b.size()) - 2;
    std::vector<int64_t> index(rank, 0);
    const int64_t matrices = y.elements() / (m * n);
    auto offset = [&](const std::vector<int64_t>& dims) {
      const size_t skip = rank - (dims.size() - 2);
      int64_t at = 0;
      for (size_t i = 0; i + 2 < dims.size(); ++i)
        at = at * dims[i] + (dims[i] == 1 ? 0 : index[skip + i]);
      return at;
    };
    auto dim = [&](const std::vector<int64_t>& dims, size_t i) {
      const size_t skip = rank - (dims.size() - 2);
      return i < skip ? 1 : dims[i - skip];
    };
    for (int64_t i = 0; i < matrices; ++i) {
      p.matrices.push_back({offset(a) * m * k * 4, offset(b) * k * n * 4, i * m * n * 4});
      for (size_t d = rank; d-- > 0;) {
        if (++index[d] < std::max(dim(a, d), dim(b, d))) break;
        index[d] = 0;
      }
    }
    SetProduct(step, p, {});
    return step;
  });
}

// MatMul of operands whose axes are permuted in memory: their strides say so, nothing is moved.
// With attribute softmax_scale, the softmax of so many times the product's rows, plus a mask.
Step MakePermutedMatMul(const StepRequest& r) {
  CheckFloat(r, 2);
  const Shape& y = r.outputs[0].shape;
  const auto rank = static_cast<size_t>(y.rank());
  const PermutedOperand a = PermutedBy(r, r.shape(0), "perm_a", rank),
                        b = PermutedBy(r, r.shape(1), "perm_b", rank);
  if (y.elements() == 0) return Nothing(r);
  Product p;
  p.m = a.dims[rank - 2];
  p.k = a.dims[rank - 1];
  p.n = b.dims[rank - 1];
  if (p.k == 0) FailStep(r, "the inner dimension is 0");
  if (r.node->Has("softmax_scale"))
    p.softmax.emplace(r, 2, std::vector<int64_t>(y.dims().begin(), y.dims().end()));
  p.a_strides = {a.strides[rank - 2], a.strides[rank - 1]};
  p.b_strides = {b.strides[rank - 2], b.strides[rank - 1]};
  const std::vector<int64_t> batch(y.dims().begin(), y.dims().end() - 2);
  const auto from_a = MatrixOffsets(a, batch), from_b = MatrixOffsets(b, batch);
  for (size_t i = 0; i < from_a.size(); ++i) {
    p.matrices.push_back({from_a[i] * 4, from_b[i] * 4, static_cast<int64_t>(i) * p.m * p.n * 4});
  }
  return WithDnnlErrors(r, [&] {
    Step step = NewStep(r, "");
    SetProduct(step, p, {});
    return step;
  });
}

}  // namespace octet::ops
