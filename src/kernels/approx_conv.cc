// ApproxConv of octet/approx.h: 256 output pixels at a time, of one group of channels, whose input
// codes are laid side by side for every tap.
#include <algorithm>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/parallel.h"
#include "kernels/approx_layer.h"
#include "kernels/dense_choice.h"

namespace octet::kernels {
namespace {

constexpr int64_t kGrainMacs = 500'000;
constexpr int64_t kLeastChannels = 16;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t Out(int64_t size, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
  const int64_t filter = dilation * (kernel - 1) + 1;
  if (size < 1 || size + pads < filter)
    Fail(ErrorCode::kInvalidArgument, "ApproxConv: an input of ", size, " and padding of ", pads,
         " is smaller than the filter, ", filter);
  return (size + pads - filter) / stride + 1;
}

const ApproxConvProblem& Checked(const ApproxConvProblem& p) {
  constexpr int64_t kMost = 1 << 24;
  for (const int64_t v : {p.groups, p.in_channels, p.out_channels, p.kernel_h, p.kernel_w,
                          p.stride_h, p.stride_w, p.dilation_h, p.dilation_w}) {
    if (v < 1 || v > kMost)
      Fail(ErrorCode::kInvalidArgument, "ApproxConv: groups, channels, filter, stride or dilation ",
           v, "; expected 1 to 2^24");
  }
  for (const int64_t v : {p.pad_top, p.pad_left, p.pad_bottom, p.pad_right}) {
    if (v < 0 || v > kMost)
      Fail(ErrorCode::kInvalidArgument, "ApproxConv: padding ", v, "; expected 0 to 2^24");
  }
  if (p.in_channels % p.groups != 0 || p.out_channels % p.groups != 0)
    Fail(ErrorCode::kInvalidArgument, "ApproxConv: ", p.in_channels, " input and ", p.out_channels,
         " output channels do not divide into ", p.groups, " groups");
  return p;
}

int64_t DepthOf(const ApproxConvProblem& p) {
  const int64_t dims[] = {p.in_channels / p.groups, p.kernel_h, p.kernel_w};
  const auto depth = CheckedProduct(dims);
  if (!depth) Fail(ErrorCode::kInvalidArgument, "ApproxConv: the filter is too large");
  return *depth;
}

}  // namespace

// A run of output pixels of one row of one image.
struct ApproxRun {
  int64_t image, row, column, count, lane;
};

struct ApproxConv::Impl {
  ApproxConvProblem p;  // without its arrays
  ApproxLayer layer;

  explicit Impl(const ApproxConvProblem& problem)
      : p(Checked(problem)),
        layer(problem.multiply, problem.out_channels, DepthOf(problem), problem.weight,
              "ApproxConv") {
    p.weight = nullptr;
    p.multiply = {};
  }

  struct Images {
    int64_t height, width, out_height, out_width;
    const uint8_t* x;
    float* y;
    [[nodiscard]] int64_t out_space() const { return out_height * out_width; }
  };
  void PackTap(const Images& s, const uint8_t* plane, int64_t stride, int64_t ky, int64_t kx,
               const std::vector<ApproxRun>& runs, uint8_t* codes) const;
  void Run(const Images& s, int64_t begin, int64_t end, int64_t group, int64_t n0, int64_t n1,
           bool negative) const;
};

// Codes that tap (ky, kx) reads, lane by lane. `stride`: bytes between the planes of two images.
void ApproxConv::Impl::PackTap(const Images& s, const uint8_t* plane, int64_t stride, int64_t ky,
                               int64_t kx, const std::vector<ApproxRun>& runs,
                               uint8_t* codes) const {
  const int64_t shift = kx * p.dilation_w - p.pad_left;  // column of x for output column 0
  // Output columns whose column of x is in the image.
  const int64_t first = shift >= 0 ? 0 : CeilDiv(-shift, p.stride_w);
  const int64_t last = s.width > shift ? CeilDiv(s.width - shift, p.stride_w) : 0;
  for (const ApproxRun& run : runs) {
    uint8_t* out = codes + run.lane;
    const int64_t row = run.row * p.stride_h + ky * p.dilation_h - p.pad_top;
    int64_t from = std::clamp(first, run.column, run.column + run.count);
    const int64_t to = std::clamp(last, from, run.column + run.count);
    if (row < 0 || row >= s.height) from = run.column + run.count;
    std::memset(out, p.pad_code, static_cast<size_t>(from - run.column));
    if (from == run.column + run.count) continue;
    out += from - run.column;
    const uint8_t* in = plane + run.image * stride + row * s.width + from * p.stride_w + shift;
    if (p.stride_w == 1) {
      std::memcpy(out, in, static_cast<size_t>(to - from));
    } else {
      for (int64_t i = 0; i < to - from; ++i) out[i] = in[i * p.stride_w];
    }
    std::memset(out + (to - from), p.pad_code, static_cast<size_t>(run.column + run.count - to));
  }
}

// Output pixels [begin, end) of all images, at most 256; channels [n0, n1) of the group.
void ApproxConv::Impl::Run(const Images& s, int64_t begin, int64_t end, int64_t group, int64_t n0,
                           int64_t n1, bool negative) const {
  std::vector<ApproxRun> runs;
  for (int64_t at = begin; at < end;) {
    const int64_t column = at % s.out_width, count = std::min(s.out_width - column, end - at);
    runs.push_back(
        {at / s.out_space(), at % s.out_space() / s.out_width, column, count, at - begin});
    at += count;
  }
  const int64_t per_group = p.in_channels / p.groups, space = s.height * s.width;
  uint8_t* codes = BufferOfThread(kBufferRows, layer.k() * kApproxLanes);
  uint8_t* to = codes;
  for (int64_t c = group * per_group; c < (group + 1) * per_group; ++c)
    for (int64_t ky = 0; ky < p.kernel_h; ++ky)
      for (int64_t kx = 0; kx < p.kernel_w; ++kx, to += kApproxLanes)
        PackTap(s, s.x + c * space, p.in_channels * space, ky, kx, runs, to);

  constexpr int64_t kChannels = 32;
  auto* y = reinterpret_cast<float*>(
      BufferOfThread(kBufferScratch, kChannels * kApproxLanes * int64_t{sizeof(float)}));
  for (int64_t n = n0; n < n1; n += kChannels) {
    const int64_t channels = std::min(kChannels, n1 - n);
    layer.Run(codes, end - begin, negative, n, n + channels, y);
    for (int64_t at = begin; at < end;) {
      const int64_t image = at / s.out_space(), pixel = at % s.out_space();
      const int64_t count = std::min(s.out_space() - pixel, end - at);
      for (int64_t i = 0; i < channels; ++i)
        std::copy_n(y + i * kApproxLanes + (at - begin), count,
                    s.y + (image * p.out_channels + n + i) * s.out_space() + pixel);
      at += count;
    }
  }
}

ApproxConv::ApproxConv(const ApproxConvProblem& problem) : impl_(new Impl(Checked(problem))) {}
ApproxConv::~ApproxConv() = default;
ApproxConv::ApproxConv(ApproxConv&&) noexcept = default;
ApproxConv& ApproxConv::operator=(ApproxConv&&) noexcept = default;

int64_t ApproxConv::OutHeight(int64_t height) const {
  const ApproxConvProblem& p = impl_->p;
  return Out(height, p.pad_top + p.pad_bottom, p.kernel_h, p.stride_h, p.dilation_h);
}
int64_t ApproxConv::OutWidth(int64_t width) const {
  const ApproxConvProblem& p = impl_->p;
  return Out(width, p.pad_left + p.pad_right, p.kernel_w, p.stride_w, p.dilation_w);
}

void ApproxConv::Run(int64_t batch, int64_t height, int64_t width, const uint8_t* x,
                     float* y) const {
  const ApproxConvProblem& p = impl_->p;
  if (batch < 0) Fail(ErrorCode::kInvalidArgument, "ApproxConv: batch is ", batch);
  const Impl::Images s{height, width, OutHeight(height), OutWidth(width), x, y};
  const int64_t dims[] = {batch, p.in_channels, height, width};
  const auto codes = CheckedProduct(dims);
  if (!codes) Fail(ErrorCode::kInvalidArgument, "ApproxConv: the input is too large");
  const int64_t pixels = batch * s.out_space();
  if (pixels == 0) return;
  uint8_t all = p.pad_code;
  for (int64_t i = 0; i < *codes; ++i) all |= x[i];
  const bool negative = (all & 0x80) != 0;

  const int64_t channels = p.out_channels / p.groups, k = impl_->layer.k();
  const int64_t blocks = CeilDiv(pixels, kApproxLanes) * p.groups;
  const int64_t threads =
      std::clamp<int64_t>(pixels * p.out_channels * k / kGrainMacs, 1, MaxThreads());
  const int64_t parts = std::clamp<int64_t>(CeilDiv(threads, blocks), 1,
                                            std::max<int64_t>(1, channels / kLeastChannels));
  ParallelFor(blocks * parts, CeilDiv(blocks * parts, threads), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t part = i % parts, group = i / parts % p.groups;
      const int64_t pixel = i / parts / p.groups * kApproxLanes;
      impl_->Run(s, pixel, std::min(pixels, pixel + kApproxLanes), group,
                 group * channels + channels * part / parts,
                 group * channels + channels * (part + 1) / parts, negative);
    }
  });
}

const std::vector<Candidate>& ApproxConv::candidates() const { return impl_->layer.candidates(); }
int64_t ApproxConv::packed_bytes() const { return impl_->layer.packed_bytes(); }

}  // namespace octet::kernels
