// Gemm, DynamicGemm and Conv of octet/kernels.h: thin faces of Convolution.
#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/convolution.h"

namespace octet::kernels {
namespace {

// Numbers read for a scale that are worth a second thread: some 5 us of one core.
constexpr int64_t kScaleGrain = 64 << 10;

int64_t ElementBytes(OutputType type) {
  return type == OutputType::kUint8 || type == OutputType::kInt8 ? 1 : 4;
}

ConvProblem AsConv(const GemmProblem& g, std::vector<int8_t>* transposed) {
  if (g.n < 1 || g.k < 1 || g.n > (int64_t{1} << 31) || g.k > (int64_t{1} << 31)) {
    Fail(ErrorCode::kInvalidArgument, "Gemm: N is ", g.n, ", K is ", g.k, "; expected 1 to 2^31");
  }
  if (g.weight == nullptr) Fail(ErrorCode::kInvalidArgument, "Gemm: weight is null");
  ConvProblem p;
  p.in_channels = g.k;
  p.out_channels = g.n;
  p.x_type = g.x_type;
  p.x_zero_point = g.x_zero_point;
  p.grid_at_run = g.grid_at_run;
  p.weight = g.weight;
  p.epilogue = g.epilogue;
  if (!g.weight_is_nk) {
    transposed->resize(static_cast<size_t>(g.n) * static_cast<size_t>(g.k));
    constexpr int64_t kTile = 64;  // of both sides, in L1
    for (int64_t k0 = 0; k0 < g.k; k0 += kTile)
      for (int64_t n0 = 0; n0 < g.n; n0 += kTile)
        for (int64_t n = n0; n < std::min(g.n, n0 + kTile); ++n) {
          int8_t* to = transposed->data() + n * g.k;
          for (int64_t k = k0; k < std::min(g.k, k0 + kTile); ++k) to[k] = g.weight[k * g.n + n];
        }
    p.weight = transposed->data();
  }
  return p;
}

Convolution MakeGemm(const GemmProblem& problem) {
  std::vector<int8_t> transposed;
  return Convolution(AsConv(problem, &transposed), "Gemm");
}

}  // namespace

struct Gemm::Impl {
  Convolution convolution;
};

Gemm::Gemm(const GemmProblem& problem) : impl_(new Impl{MakeGemm(problem)}) {}
Gemm::~Gemm() = default;
Gemm::Gemm(Gemm&&) noexcept = default;
Gemm& Gemm::operator=(Gemm&&) noexcept = default;

void Gemm::Run(int64_t m, const void* x, int64_t x_stride, void* y, int64_t y_stride,
               const void* residual, int64_t residual_stride) const {
  const ConvProblem& p = impl_->convolution.problem();
  if (m < 0 || x_stride < p.in_channels || y_stride < p.out_channels ||
      (residual != nullptr && residual_stride < p.out_channels)) {
    Fail(ErrorCode::kInvalidArgument, "Gemm: M is ", m, ", row strides of x, y, residual are ",
         x_stride, ", ", y_stride, ", ", residual_stride,
         "; expected M >= 0, strides >= K = ", p.in_channels, " and N = ", p.out_channels);
  }
  if (m == 0) return;
  Images images;
  images.width = m;
  images.x = static_cast<const uint8_t*>(x);
  images.x_stride = x_stride;
  images.y = static_cast<uint8_t*>(y);
  images.y_stride = y_stride * ElementBytes(p.epilogue.output);
  images.r = static_cast<const uint8_t*>(residual);
  images.r_stride = residual_stride;
  impl_->convolution.Run(images);
}

void Gemm::RunOnGrid(int64_t m, const uint8_t* x, int64_t x_stride, Grid grid, float* y,
                     int64_t y_stride) const {
  const ConvProblem& p = impl_->convolution.problem();
  if (m < 0 || x_stride < p.in_channels || y_stride < p.out_channels) {
    Fail(ErrorCode::kInvalidArgument, "Gemm: M is ", m, ", row strides of x and y are ", x_stride,
         ", ", y_stride, "; expected M >= 0, strides >= K = ", p.in_channels,
         " and N = ", p.out_channels);
  }
  if (m == 0) return;
  Images images;
  images.width = m;
  images.x = x;
  images.x_stride = x_stride;
  images.y = reinterpret_cast<uint8_t*>(y);
  images.y_stride = y_stride * 4;
  impl_->convolution.RunOnGrid(images, grid);
}

const std::vector<Candidate>& Gemm::candidates() const { return impl_->convolution.candidates(); }
int64_t Gemm::packed_bytes() const { return impl_->convolution.packed_bytes(); }

struct DynamicGemm::Impl {
  Convolution convolution;
  DynamicRange range;
};

namespace {

Convolution MakeDynamicGemm(const DynamicGemmProblem& p) {
  GemmProblem g;
  g.n = p.n;
  g.k = p.k;
  g.x_zero_point = 128;
  g.weight = p.weight;
  g.weight_is_nk = p.weight_is_nk;
  g.epilogue.output = OutputType::kFloat32;
  g.epilogue.multiplier = p.weight_scale;
  g.epilogue.float_bias = p.bias;
  g.epilogue.float_lo = p.lo;
  g.epilogue.float_hi = p.hi;
  std::vector<int8_t> transposed;
  Convolution convolution(AsConv(g, &transposed), "DynamicGemm");
  if (convolution.takes_reference()) {
    Fail(ErrorCode::kUnsupported, "DynamicGemm: K is ", p.k, ": a sum could leave int32");
  }
  return convolution;
}

}  // namespace

DynamicGemm::DynamicGemm(const DynamicGemmProblem& problem)
    : impl_(new Impl{MakeDynamicGemm(problem), problem.range}) {}
DynamicGemm::~DynamicGemm() = default;
DynamicGemm::DynamicGemm(DynamicGemm&&) noexcept = default;
DynamicGemm& DynamicGemm::operator=(DynamicGemm&&) noexcept = default;

void DynamicGemm::Run(int64_t m, const float* x, int64_t x_stride, float* y,
                      int64_t y_stride) const {
  const ConvProblem& p = impl_->convolution.problem();
  if (m < 0 || x_stride < p.in_channels || y_stride < p.out_channels) {
    Fail(ErrorCode::kInvalidArgument, "DynamicGemm: M is ", m, ", row strides of x and y are ",
         x_stride, ", ", y_stride, "; expected M >= 0, strides >= K = ", p.in_channels,
         " and N = ", p.out_channels);
  }
  if (m == 0) return;
  Images images;
  images.width = m;
  images.x_stride = p.in_channels;
  images.x_float = x;
  images.x_float_stride = x_stride;
  images.y = reinterpret_cast<uint8_t*>(y);
  images.y_stride = y_stride * 4;
  if (impl_->range == DynamicRange::kPerTensor) {
    std::vector<float> scales(static_cast<size_t>(m));
    ParallelFor(m, std::max<int64_t>(1, kScaleGrain / p.in_channels),
                [&](int64_t begin, int64_t end) {
                  QuantizeRowsArgs rows{};
                  rows.x = x + begin * x_stride;
                  rows.x_stride = x_stride;
                  rows.rows = end - begin;
                  rows.k = p.in_channels;
                  rows.scale = scales.data() + begin;
                  Call(Select(Op::QuantizeRows), rows);
                });
    images.shared_scale = *std::max_element(scales.begin(), scales.end());
  }
  impl_->convolution.Run(images);
}

const std::vector<Candidate>& DynamicGemm::candidates() const {
  return impl_->convolution.candidates();
}
int64_t DynamicGemm::packed_bytes() const { return impl_->convolution.packed_bytes(); }

struct Conv::Impl {
  Convolution convolution;
};

Conv::Conv(const ConvProblem& problem) : impl_(new Impl{Convolution(problem, "Conv")}) {}
Conv::~Conv() = default;
Conv::Conv(Conv&&) noexcept = default;
Conv& Conv::operator=(Conv&&) noexcept = default;

void Conv::Run(int64_t batch, int64_t height, int64_t width, const void* x, void* y,
               const void* residual) const {
  if (batch < 0)
    Fail(ErrorCode::kInvalidArgument, "Conv: batch is ", batch, "; expected 0 or more");
  const ConvProblem& p = impl_->convolution.problem();
  Images images;
  images.batch = batch;
  images.height = height;
  images.width = width;
  images.x = static_cast<const uint8_t*>(x);
  images.x_stride = p.in_channels;
  images.y = static_cast<uint8_t*>(y);
  images.y_stride = p.out_channels * ElementBytes(p.epilogue.output);
  images.r = static_cast<const uint8_t*>(residual);
  images.r_stride = p.out_channels;
  impl_->convolution.Run(images);
}

void Conv::RunOnGrid(int64_t batch, int64_t height, int64_t width, const uint8_t* x, Grid grid,
                     float* y) const {
  if (batch < 0)
    Fail(ErrorCode::kInvalidArgument, "Conv: batch is ", batch, "; expected 0 or more");
  const ConvProblem& p = impl_->convolution.problem();
  Images images;
  images.batch = batch;
  images.height = height;
  images.width = width;
  images.x = x;
  images.x_stride = p.in_channels;
  images.y = reinterpret_cast<uint8_t*>(y);
  images.y_stride = p.out_channels * 4;
  impl_->convolution.RunOnGrid(images, grid);
}

int64_t Conv::OutHeight(int64_t height) const { return impl_->convolution.OutHeight(height); }
int64_t Conv::OutWidth(int64_t width) const { return impl_->convolution.OutWidth(width); }
const std::vector<Candidate>& Conv::candidates() const { return impl_->convolution.candidates(); }
int64_t Conv::packed_bytes() const { return impl_->convolution.packed_bytes(); }

}  // namespace octet::kernels
