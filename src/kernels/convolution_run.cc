// Running a Convolution: staging, pointer tables, blocking for the caches, threads.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/convolution.h"

namespace octet::kernels {
namespace {

// Multiply-adds worth a second thread: about 5 us of one core at full rate; a fork and join costs 2
// to 5 us.
constexpr int64_t kGrainMacs = 1'500'000;
// Of a 2 MiB L2: what a block's weights and its rows of A may take.
constexpr int64_t kWeightBlockBytes = 768 << 10;
constexpr int64_t kRowBlockBytes = 128 << 10;
constexpr int64_t kLargeRowBlockBytes = 512
                                        << 10;  // where every row block reads the weights from L3
// Pointers per block of the table: 32 KiB.
constexpr int64_t kTableEntries = 4096;
constexpr int64_t kPanel = 64;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t OutputBytes(const EpilogueArgs& e) { return e.output == kStoreCodes ? 1 : 4; }

// A buffer of the calling thread that only grows. Workers of a parallel loop get it by pointer.
uint8_t* StagingBuffer(int64_t bytes) {
  static thread_local AlignedBytes buffer;
  if (buffer.size() < bytes) buffer = AlignedBytes(bytes);
  return buffer.data();
}

const uint8_t** TableBuffer(int64_t entries) {
  static thread_local std::vector<const uint8_t*> table;
  if (static_cast<int64_t>(table.size()) < entries) table.resize(static_cast<size_t>(entries));
  return table.data();
}

void CopyFlipped(const uint8_t* from, uint8_t flip, int64_t n, uint8_t* to) {
  if (flip == 0) {
    std::memcpy(to, from, static_cast<size_t>(n));
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<uint8_t>(from[i] ^ flip);
}

EpilogueArgs FromChannel(EpilogueArgs e, int64_t channel) {
  e.bias += channel;
  e.multiplier += channel;
  e.float_bias += channel;
  e.lo += channel;
  e.hi += channel;
  return e;
}

// Output positions ox whose input column ox * stride + offset lies in [0, width): [first, last).
struct Span {
  int64_t first, last;
};
Span Inside(int64_t offset, int64_t stride, int64_t width, int64_t out) {
  const int64_t first = offset >= 0 ? 0 : std::min(out, CeilDiv(-offset, stride));
  const int64_t last =
      offset >= width ? first : std::clamp(CeilDiv(width - offset, stride), first, out);
  return {first, last};
}

}  // namespace

// A dense run's input after staging: pixel, row and image are strides in bytes.
struct Convolution::Walk {
  const uint8_t* x;
  int64_t pixel, row, image;
  int64_t height, width;  // positions a tap may start at
  int64_t taps_h, taps_w, pad_left;
  int64_t out_height, out_width;
  bool direct;  // one tap per pixel, the pixels in order: no table
};

Convolution::Walk Convolution::Stage(const Images& im) const {
  const ConvProblem& p = problem_;
  Walk walk{};
  walk.x = im.x;
  walk.pixel = im.x_stride;
  walk.row = im.width * im.x_stride;
  walk.image = im.height * walk.row;
  walk.height = im.height;
  walk.width = im.width;
  walk.taps_h = p.kernel_h;
  walk.taps_w = merged_ ? 1 : p.kernel_w;
  walk.pad_left = p.pad_left;
  walk.out_height = OutHeight(im.height);
  walk.out_width = OutWidth(im.width);
  walk.direct = taps_ == 1 && !merged_ && p.stride_h == 1 && p.stride_w == 1 && p.pad_top == 0 &&
                p.pad_left == 0 && p.pad_bottom == 0 && p.pad_right == 0;

  const uint8_t flip = p.x_type == CodeType::kInt8 ? 0x80 : 0;
  if (!merged_ && flip == 0) return walk;

  const int64_t c = p.in_channels;
  const int64_t left = merged_ ? p.pad_left * c : 0, right = merged_ ? p.pad_right * c : 0;
  const int64_t row = left + im.width * c + right;
  const int64_t rows = im.batch * im.height;
  uint8_t* staged = StagingBuffer(rows * row + 4);  // 4: the last piece is read to kc_, rounded up
  const uint8_t zero = zero_pixel_.data()[0];
  ParallelFor(rows, CeilDiv(128 << 10, row), [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      uint8_t* to = staged + y * row;
      std::memset(to, zero, static_cast<size_t>(left));
      to += left;
      const uint8_t* from = im.x + y * im.width * im.x_stride;
      if (im.x_stride == c) {
        CopyFlipped(from, flip, im.width * c, to);
      } else {
        for (int64_t x = 0; x < im.width; ++x)
          CopyFlipped(from + x * im.x_stride, flip, c, to + x * c);
      }
      std::memset(to + im.width * c, zero, static_cast<size_t>(right));
    }
  });
  walk.x = staged;
  walk.pixel = c;
  walk.row = row;
  walk.image = im.height * row;
  if (merged_) {
    walk.width = im.width + p.pad_left + p.pad_right - p.kernel_w + 1;
    walk.pad_left = 0;
  }
  return walk;
}

// table[t * ld + i - begin] = where tap t of output pixel i starts.
void Convolution::FillTable(const Walk& walk, int64_t begin, int64_t end, int64_t ld,
                            const uint8_t** table) const {
  const ConvProblem& p = problem_;
  for (int64_t i = begin; i < end;) {
    const int64_t ox0 = i % walk.out_width;
    const int64_t oy = i / walk.out_width % walk.out_height;
    const int64_t image = i / walk.out_width / walk.out_height;
    const int64_t ox1 = std::min(walk.out_width, ox0 + end - i);
    for (int64_t ky = 0; ky < walk.taps_h; ++ky) {
      const int64_t iy = oy * p.stride_h + ky * p.dilation_h - p.pad_top;
      const bool row_inside = iy >= 0 && iy < walk.height;
      const uint8_t* row = walk.x + image * walk.image + iy * walk.row;
      for (int64_t kx = 0; kx < walk.taps_w; ++kx) {
        const uint8_t** out = table + (ky * walk.taps_w + kx) * ld + (i - begin) - ox0;
        const int64_t offset = kx * p.dilation_w - walk.pad_left;
        Span in =
            row_inside ? Inside(offset, p.stride_w, walk.width, walk.out_width) : Span{ox1, ox1};
        in.first = std::clamp(in.first, ox0, ox1);
        in.last = std::clamp(in.last, in.first, ox1);
        for (int64_t ox = ox0; ox < in.first; ++ox) out[ox] = zero_pixel_.data();
        if (in.first < in.last) {
          const int64_t step = p.stride_w * walk.pixel;
          const uint8_t* pixel = row + offset * walk.pixel + in.first * step;
          for (int64_t ox = in.first; ox < in.last; ++ox, pixel += step) out[ox] = pixel;
        }
        for (int64_t ox = in.last; ox < ox1; ++ox) out[ox] = zero_pixel_.data();
      }
    }
    i += ox1 - ox0;
  }
}

// Output pixels [m0, m1), channels [n0, n1) of every group.
void Convolution::RunDensePiece(const Walk& walk, const Images& im, int64_t m0, int64_t m1,
                                int64_t n0, int64_t n1) const {
  const ConvProblem& p = problem_;
  const int64_t group_in = p.in_channels / p.groups, group_out = p.out_channels / p.groups;
  const int64_t row_bytes = walk.direct ? kc_ : p.stride_h * p.stride_w * p.in_channels;
  const bool weights_fit = group_bytes_ * p.groups <= kWeightBlockBytes;
  int64_t block = std::max<int64_t>(
      48, (weights_fit ? kRowBlockBytes : kLargeRowBlockBytes) / std::max<int64_t>(1, row_bytes));
  if (!walk.direct) block = std::clamp<int64_t>(kTableEntries / taps_, 24, block);
  const int64_t blocks = CeilDiv(m1 - m0, block);
  const int64_t weight_row = taps_ * (kc_ + 3) / 4 * 4;
  const int64_t n_block = std::max(kPanel, kWeightBlockBytes / weight_row / kPanel * kPanel);
  const uint8_t** table = walk.direct ? nullptr : TableBuffer(taps_ * (block + 1));

  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t begin = m0 + (m1 - m0) * i / blocks, end = m0 + (m1 - m0) * (i + 1) / blocks;
    if (!walk.direct) FillTable(walk, begin, end, end - begin, table);
    for (int64_t g = 0; g < p.groups; ++g) {
      DenseArgs args{};
      args.epilogue = FromChannel(epilogue_->args(), g * group_out);
      args.rows = table;
      args.rows_ld = end - begin;
      args.row_offset = g * group_in;
      args.a = walk.x + begin * walk.pixel + g * group_in;
      args.lda = walk.pixel;
      args.m = end - begin;
      args.taps = taps_;
      args.kc = kc_;
      args.weight = weights_.data() + g * group_bytes_;
      args.y = im.y + begin * im.y_stride + g * group_out * OutputBytes(args.epilogue);
      args.y_stride = im.y_stride;
      args.r = im.r == nullptr ? nullptr : im.r + begin * im.r_stride + g * group_out;
      args.r_stride = im.r_stride;
      for (int64_t n = n0; n < n1; n += n_block) {
        args.n_begin = n;
        args.n_end = std::min(n1, n + n_block);
        Call(*kernel_, args);
      }
    }
  }
}

void Convolution::RunDense(const Images& im) const {
  const ConvProblem& p = problem_;
  const Walk walk = Stage(im);
  const int64_t m = im.batch * walk.out_height * walk.out_width;
  const int64_t n = p.out_channels / p.groups;
  const int64_t macs_per_row = p.out_channels * taps_ * kc_;
  const int64_t panels = CeilDiv(n, kPanel);
  const int64_t threads =
      std::min<int64_t>(MaxThreads(), std::max<int64_t>(1, m * macs_per_row / kGrainMacs));

  // Split the axis that divides more evenly; where both do, the one whose operand is larger, so
  // that each core keeps its share of it in its own L2.
  const auto evenness = [&](int64_t units) {
    return static_cast<double>(units) / static_cast<double>(threads * CeilDiv(units, threads));
  };
  const double by_n = p.groups == 1 ? evenness(panels) : 0.0;
  const double by_m = evenness(CeilDiv(m, 6));
  const bool split_n = by_n > by_m + 0.02 || (by_n > by_m - 0.02 && n > m);
  if (threads == 1) {
    RunDensePiece(walk, im, 0, m, 0, n);
  } else if (split_n) {
    ParallelFor(panels, CeilDiv(panels, threads), [&](int64_t begin, int64_t end) {
      RunDensePiece(walk, im, 0, m, begin * kPanel, std::min(n, end * kPanel));
    });
  } else {
    ParallelFor(m, std::max<int64_t>(1, m / threads),
                [&](int64_t begin, int64_t end) { RunDensePiece(walk, im, begin, end, 0, n); });
  }
}

void Convolution::RunDepthwise(const Images& im) const {
  const ConvProblem& p = problem_;
  DepthwiseArgs args{};
  args.height = im.height;
  args.width = im.width;
  args.channels = p.in_channels;
  args.kernel_h = p.kernel_h;
  args.kernel_w = p.kernel_w;
  args.stride_h = p.stride_h;
  args.stride_w = p.stride_w;
  args.dilation_h = p.dilation_h;
  args.dilation_w = p.dilation_w;
  args.pad_top = p.pad_top;
  args.pad_left = p.pad_left;
  args.out_width = OutWidth(im.width);
  args.x_flip = p.x_type == CodeType::kInt8 ? 0x80 : 0;
  args.zero_pixel = zero_pixel_.data();
  args.weight = weights_.data();
  args.epilogue = epilogue_->args();
  const int64_t out_height = OutHeight(im.height);
  const int64_t in_image = im.height * im.width * p.in_channels;
  const int64_t out_image = out_height * args.out_width * p.out_channels;
  const int64_t out_bytes = OutputBytes(args.epilogue);
  // Pairs of rows are the unit: the 3x3 kernel makes two at a time. A depthwise tap costs about ten
  // dense ones.
  const int64_t pairs = CeilDiv(out_height, 2);
  const int64_t macs = 2 * args.out_width * p.out_channels * p.kernel_h * p.kernel_w;
  ParallelFor(im.batch * pairs, CeilDiv(kGrainMacs / 10, macs), [&](int64_t begin, int64_t end) {
    DepthwiseArgs piece = args;
    for (int64_t i = begin; i < end;) {
      const int64_t image = i / pairs;
      const int64_t last = std::min(end, (image + 1) * pairs);
      piece.x = im.x + image * in_image;
      piece.y = im.y + image * out_image * out_bytes;
      piece.r = im.r == nullptr ? nullptr : im.r + image * out_image;
      piece.oy_begin = (i - image * pairs) * 2;
      piece.oy_end = std::min(out_height, (last - image * pairs) * 2);
      Call(*kernel_, piece);
      i = last;
    }
  });
}

void Convolution::Run(const Images& im) const {
  const bool wants_residual = problem_.epilogue.residual.present;
  if (wants_residual != (im.r != nullptr)) {
    Fail(ErrorCode::kInvalidArgument, what_, ": a residual was ", im.r != nullptr ? "" : "not ",
         "given; expected ", wants_residual ? "one" : "none");
  }
  if (im.batch == 0) return;
  if (kernel_->op == Op::Reference) {
    const ReferenceArgs args{&problem_, im, OutHeight(im.height), OutWidth(im.width)};
    Call(*kernel_, args);
  } else if (kernel_->op == Op::Depthwise) {
    RunDepthwise(im);
  } else {
    RunDense(im);
  }
}

}  // namespace octet::kernels
