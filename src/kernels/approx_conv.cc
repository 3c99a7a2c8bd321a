// ApproxConv of octet/approx.h: some hundred output pixels at a time, of one group of channels,
// whose input codes are laid side by side for every tap.
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
// Output columns [first, last) whose column of x is in the image for a filter column, and that
// column for output column 0.
struct ApproxTapColumns {
  int64_t first, last, shift;
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
    const uint8_t* x_end;
    float* y;
    std::vector<ApproxTapColumns> columns;  // of kernel_w
    [[nodiscard]] int64_t out_space() const { return out_height * out_width; }
  };
  struct Piece {                     // of the work
    int64_t pixel_begin, pixel_end;  // of all images, at most kApproxLanes
    int64_t group_begin, group_end;
    int64_t channel_begin, channel_end;  // of every group
  };
  void PackTap(const Images& s, const uint8_t* plane, int64_t ky, const ApproxTapColumns& columns,
               const std::vector<ApproxRun>& runs, uint8_t* codes) const;
  void Run(const Images& s, const Piece& piece, bool negative) const;
};

// Codes that a tap reads from a plane of image 0 and its like, lane by lane. What lies behind the
// last lane is written, too, up to 15 bytes: runs and taps are packed in ascending order.
void ApproxConv::Impl::PackTap(const Images& s, const uint8_t* plane, int64_t ky,
                               const ApproxTapColumns& columns, const std::vector<ApproxRun>& runs,
                               uint8_t* codes) const {
  const int64_t image = p.in_channels * s.height * s.width;
  for (const ApproxRun& run : runs) {
    uint8_t* out = codes + run.lane;
    const int64_t end = run.column + run.count;
    const int64_t row = run.row * p.stride_h + ky * p.dilation_h - p.pad_top;
    const bool inside = row >= 0 && row < s.height;
    const int64_t from = inside ? std::clamp(columns.first, run.column, end) : end;
    const int64_t to = inside ? std::clamp(columns.last, from, end) : end;
    for (int64_t i = run.column; i < from; ++i) *out++ = p.pad_code;
    if (from < to) {
      const uint8_t* in =
          plane + run.image * image + row * s.width + from * p.stride_w + columns.shift;
      const int64_t count = to - from;
      if (p.stride_w != 1) {
        for (int64_t i = 0; i < count; ++i) out[i] = in[i * p.stride_w];
      } else if (in + count + 15 <= s.x_end) {
        for (int64_t i = 0; i < count; i += 16) std::memcpy(out + i, in + i, 16);
      } else {
        std::memcpy(out, in, static_cast<size_t>(count));
      }
      out += count;
    }
    for (int64_t i = to; i < end; ++i) *out++ = p.pad_code;
  }
}

void ApproxConv::Impl::Run(const Images& s, const Piece& piece, bool negative) const {
  const int64_t begin = piece.pixel_begin, end = piece.pixel_end;
  std::vector<ApproxRun> runs;
  for (int64_t at = begin; at < end;) {
    const int64_t column = at % s.out_width, count = std::min(s.out_width - column, end - at);
    runs.push_back(
        {at / s.out_space(), at % s.out_space() / s.out_width, column, count, at - begin});
    at += count;
  }
  const int64_t per_group = p.in_channels / p.groups, channels = p.out_channels / p.groups;
  const int64_t space = s.height * s.width;
  uint8_t* codes = BufferOfThread(kBufferRows, layer.k() * kApproxLanes + 16);
  const bool one_image = begin / s.out_space() == (end - 1) / s.out_space();
  auto* block = reinterpret_cast<float*>(
      BufferOfThread(kBufferScratch, kApproxChannels * kApproxLanes * int64_t{sizeof(float)}));
  for (int64_t g = piece.group_begin; g < piece.group_end; ++g) {
    uint8_t* to = codes;
    for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c)
      for (int64_t ky = 0; ky < p.kernel_h; ++ky)
        for (int64_t kx = 0; kx < p.kernel_w; ++kx, to += kApproxLanes)
          PackTap(s, s.x + c * space, ky, s.columns[static_cast<size_t>(kx)], runs, to);
    const int64_t n0 = g * channels + piece.channel_begin, n1 = g * channels + piece.channel_end;
    if (one_image) {
      float* y = s.y + (begin / s.out_space() * p.out_channels + n0) * s.out_space();
      layer.Run(codes, end - begin, negative, n0, n1, y + begin % s.out_space(), s.out_space());
      continue;
    }
    for (int64_t n = n0; n < n1; n += kApproxChannels) {
      const int64_t count = std::min(kApproxChannels, n1 - n);
      layer.Run(codes, end - begin, negative, n, n + count, block, kApproxLanes);
      for (int64_t at = begin; at < end;) {
        const int64_t image = at / s.out_space(), pixel = at % s.out_space();
        const int64_t pixels = std::min(s.out_space() - pixel, end - at);
        for (int64_t i = 0; i < count; ++i)
          std::copy_n(block + i * kApproxLanes + (at - begin), pixels,
                      s.y + (image * p.out_channels + n + i) * s.out_space() + pixel);
        at += pixels;
      }
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
  const int64_t dims[] = {batch, p.in_channels, height, width};
  const auto codes = CheckedProduct(dims);
  if (!codes) Fail(ErrorCode::kInvalidArgument, "ApproxConv: the input is too large");
  Impl::Images s{height, width, OutHeight(height), OutWidth(width), x, x + *codes, y, {}};
  const int64_t pixels = batch * s.out_space();
  if (pixels == 0) return;
  for (int64_t kx = 0; kx < p.kernel_w; ++kx) {
    const int64_t shift = kx * p.dilation_w - p.pad_left;
    s.columns.push_back({shift >= 0 ? 0 : CeilDiv(-shift, p.stride_w),
                         width > shift ? CeilDiv(width - shift, p.stride_w) : 0, shift});
  }
  uint8_t all = p.pad_code;
  for (int64_t i = 0; i < *codes; ++i) all |= x[i];
  const bool negative = (all & 0x80) != 0;

  // Pieces of the work: blocks of pixels by parts of the groups or, where there is one, of its
  // channels.
  const int64_t channels = p.out_channels / p.groups, k = impl_->layer.k();
  const int64_t block = ApproxBlock(pixels), blocks = CeilDiv(pixels, block);
  const int64_t threads =
      std::clamp<int64_t>(pixels * p.out_channels * k / kGrainMacs, 1, MaxThreads());
  const int64_t most = p.groups > 1 ? p.groups : CeilDiv(channels, kApproxChannels);
  const int64_t parts = std::clamp<int64_t>(CeilDiv(threads, blocks), 1, most);
  ParallelFor(blocks * parts, CeilDiv(blocks * parts, threads), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t part = i % parts, pixel = i / parts * block;
      Impl::Piece piece{pixel, std::min(pixels, pixel + block), 0, p.groups, 0, channels};
      if (p.groups > 1) {
        piece.group_begin = p.groups * part / parts;
        piece.group_end = p.groups * (part + 1) / parts;
      } else {
        piece.channel_begin = ApproxCut(channels, part, parts);
        piece.channel_end = ApproxCut(channels, part + 1, parts);
      }
      impl_->Run(s, piece, negative);
    }
  });
}

std::vector<uint8_t> ApproxConv::Columns(int64_t batch, int64_t height, int64_t width,
                                         const uint8_t* x) const {
  const ApproxConvProblem& p = impl_->p;
  const int64_t out_height = OutHeight(height), out_width = OutWidth(width);
  std::vector<uint8_t> columns;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < out_height * out_width; ++i)
      for (int64_t c = 0; c < p.in_channels; ++c)
        for (int64_t t = 0; t < p.kernel_h * p.kernel_w; ++t) {
          const int64_t row =
              i / out_width * p.stride_h + t / p.kernel_w * p.dilation_h - p.pad_top;
          const int64_t column =
              i % out_width * p.stride_w + t % p.kernel_w * p.dilation_w - p.pad_left;
          const bool inside = row >= 0 && row < height && column >= 0 && column < width;
          columns.push_back(inside ? x[((b * p.in_channels + c) * height + row) * width + column]
                                   : p.pad_code);
        }
  return columns;
}

const std::vector<Candidate>& ApproxConv::candidates() const { return impl_->layer.candidates(); }
int64_t ApproxConv::packed_bytes() const { return impl_->layer.packed_bytes(); }

}  // namespace octet::kernels
