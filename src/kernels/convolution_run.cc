// Running a Convolution: blocks for the caches, staging, threads.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/convolution.h"

namespace octet::kernels {
namespace {

// Work worth a second thread, beside a fork and join of 1 to 2 us: some 6 us of one core, in
// multiply-adds of dense kernels' full rate; an output, and a byte of weights, which a single row
// waits for, cost what so many of them do.
constexpr int64_t kGrainMacs = 2'000'000;
constexpr int64_t kMacsOfOutput = 45, kMacsOfWeight = 4;
constexpr int64_t kTileGrainMacs = 5'400'000;  // of tiles
constexpr int64_t kTileMacsOfOutput = 110, kTileMacsOfWeight = 11;
constexpr int64_t kDepthwiseGrainMacs = 300'000;
// Of a 2 MiB L2: what a block's weights and its rows of A may take.
constexpr int64_t kWeightBlockBytes = 512 << 10;
constexpr int64_t kRowBlockBytes = 128 << 10;
constexpr int64_t kLargeRowBlockBytes = 1 << 20;  // where every row block reads the weights from L3
constexpr int64_t kPanel = 64;
// Readable bytes past a staged copy's last pixel: kernels read whole vectors, and 16 pixels at
// once.
constexpr int64_t kSlack = 128;
// Rows of a kernel's tile, roughly: what a split by pixels should leave whole.
constexpr int64_t kTileRows = 16;
// A tile kernel computes 16 rows whatever it is given: below this a vector kernel is faster.
constexpr int64_t kFewRows = 4;
// Columns of an image for each of padding from which tiles read it in place; columns inside from
// which narrow kernels do.
constexpr int64_t kWidthOfTiles = 12, kWidthOfNarrow = 16;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t OutputBytes(const EpilogueArgs& e) { return e.output == kStoreCodes ? 1 : 4; }

// Buffers of the calling thread that only grow.
uint8_t* ScratchBuffer(int64_t bytes) {
  static thread_local AlignedBytes buffer;
  if (buffer.size() < bytes) buffer = AlignedBytes(bytes);
  return buffer.data();
}

uint8_t* StagingBuffer(int64_t bytes) {
  static thread_local AlignedBytes buffer;
  if (buffer.size() < bytes) buffer = AlignedBytes(bytes);
  return buffer.data();
}

int64_t* TapBuffer(int64_t taps) {
  static thread_local std::vector<int64_t> offsets;
  if (static_cast<int64_t>(offsets.size()) < taps) offsets.resize(static_cast<size_t>(taps));
  return offsets.data();
}

// The packed epilogue, with what a run brings itself.
EpilogueArgs OfRun(EpilogueArgs e, const Images& im) {
  if (im.bias != nullptr) e.bias = im.bias;
  if (im.multiplier != nullptr) e.multiplier = im.multiplier;
  return e;
}

// Outputs [begin, end) of an axis.
struct Range {
  int64_t begin, end;
  [[nodiscard]] int64_t size() const { return end - begin; }
};

// Those of whose filters no tap lies in the padding.
Range Inside(int64_t in, int64_t out, int64_t pad, int64_t kernel, int64_t stride,
             int64_t dilation) {
  const int64_t begin = std::min(out, CeilDiv(pad, stride));
  const int64_t span = in + pad - (dilation * (kernel - 1) + 1);  // of the last one's first tap
  return {begin, std::clamp(span < 0 ? 0 : span / stride + 1, begin, out)};
}

EpilogueArgs FromChannel(EpilogueArgs e, int64_t channel) {
  e.bias += channel;
  e.multiplier += channel;
  e.float_bias += channel;
  e.lo += channel;
  e.hi += channel;
  return e;
}

}  // namespace

// What a dense run walks. A convolution of single pixels in order is one row of all of them. Its
// units of work are output rows, or, where there is but one, its pixels.
struct Convolution::Space {
  Images images;
  int64_t out_height, out_width;
  bool by_pixel;

  [[nodiscard]] int64_t units() const { return by_pixel ? out_width : images.batch * out_height; }
};

// Output rows [row, row + rows) of an image, columns [column, column + columns). `inside`: no
// filter reaches the padding, and the image is read in place, by tiles as one run: from `column` of
// the first row to column + columns of the last, and all between.
struct Convolution::Block {
  int64_t image, row, rows, column, columns;
  bool inside = false;
  // A run is down the column.
  [[nodiscard]] bool down() const { return columns == 1 && rows > 1; }
};

// A in place.
void Convolution::Address(const Space& space, const Block& block, DenseArgs* args) const {
  const ConvProblem& p = problem_;
  const Images& im = space.images;
  const int64_t first = (block.image * im.height + block.row * p.stride_h - p.pad_top) * im.width +
                        block.column * p.stride_w - p.pad_left;
  args->a = im.x + first * im.x_stride;
  args->end = im.x + (im.batch * im.height * im.width - 1) * im.x_stride + p.in_channels;
  args->lda = p.stride_w * im.x_stride;
  args->pitch = p.stride_h * im.width / p.stride_w;
  int64_t* offset = TapBuffer(taps_);
  for (int64_t t = 0; t < taps_; ++t) {
    const int64_t ky = merged_ ? t : t / p.kernel_w, kx = merged_ ? 0 : t % p.kernel_w;
    offset[t] = (ky * p.dilation_h * im.width + kx * p.dilation_w) * im.x_stride;
  }
  args->tap_offset = offset;
}

// A row of the staged input: `columns` pixels, a multiple of stride_w, of which [left, right) are
// those from x0 + left on of the image, the others `zero`. Codes are made unsigned by xor with
// flip.
struct Convolution::StagedRow {
  int64_t columns, x0, left, right;
  uint8_t flip, zero;
};

Convolution::StagedRow Convolution::RowToStage(const Images& im, const Block& block) const {
  const ConvProblem& p = problem_;
  const int64_t needed = (block.columns - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1;
  StagedRow r{};
  r.columns = CeilDiv(needed, p.stride_w) * p.stride_w;
  r.x0 = block.column * p.stride_w - p.pad_left;
  r.left = std::clamp<int64_t>(-r.x0, 0, r.columns);
  r.right = std::clamp<int64_t>(im.width - r.x0, r.left, r.columns);
  r.flip = p.x_type == CodeType::kInt8 ? 0x80 : 0;
  r.zero = static_cast<uint8_t>(im.x_zero_point + (r.flip != 0 ? 128 : 0));
  return r;
}

// A as a copy of the block's input rows: all rows that one filter row reads, one after another,
// then those of the next remainder modulo stride_h; each padded left and right, to a multiple of
// stride_w pixels.
void Convolution::Stage(const Space& space, const Block& block, DenseArgs* args) const {
  const ConvProblem& p = problem_;
  const Images& im = space.images;
  const int64_t c = p.in_channels;
  const int64_t reach = (p.kernel_h - 1) * p.dilation_h;  // rows below an output row's first
  const int64_t slots = CeilDiv((block.rows - 1) * p.stride_h + reach + 1, p.stride_h);
  const StagedRow r = RowToStage(im, block);
  const int64_t row_bytes = r.columns * c;
  const int64_t bytes =
      p.stride_h * slots * row_bytes + kSlack + 15 * (block.down() ? row_bytes : p.stride_w * c);
  uint8_t* staged = StagingBuffer(bytes);

  const KernelInfo& flip_rows = Select(Op::FlipRows);
  for (int64_t remainder = 0; remainder < p.stride_h; ++remainder) {
    bool read = false;
    for (int64_t ky = 0; ky < p.kernel_h; ++ky) {
      read = read || ky * p.dilation_h % p.stride_h == remainder;
    }
    if (!read) continue;
    for (int64_t slot = 0; slot < slots; ++slot) {
      uint8_t* to = staged + (remainder * slots + slot) * row_bytes;
      const int64_t y = (block.row + slot) * p.stride_h + remainder - p.pad_top;
      if (y < 0 || y >= im.height) {
        std::memset(to, r.zero, static_cast<size_t>(row_bytes));
        continue;
      }
      std::memset(to, r.zero, static_cast<size_t>(r.left * c));
      const uint8_t* from = im.x + ((block.image * im.height + y) * im.width + r.x0) * im.x_stride;
      if (im.x_stride == c && r.flip == 0) {
        std::memcpy(to + r.left * c, from + r.left * c,
                    static_cast<size_t>((r.right - r.left) * c));
      } else if (im.x_stride == c) {
        Call(flip_rows, FlipRowsArgs{from + r.left * c, 0, 1, (r.right - r.left) * c,
                                     to + r.left * c, 0, r.flip});
      } else {
        Call(flip_rows, FlipRowsArgs{from + r.left * im.x_stride, im.x_stride, r.right - r.left, c,
                                     to + r.left * c, c, r.flip});
      }
      std::memset(to + r.right * c, r.zero, static_cast<size_t>((r.columns - r.right) * c));
    }
  }

  args->a = staged;
  args->end = staged + bytes;
  args->lda = p.stride_w * c;
  args->pitch = r.columns / p.stride_w;
  int64_t* offset = TapBuffer(taps_);
  for (int64_t t = 0; t < taps_; ++t) {
    const int64_t ky = merged_ ? t : t / p.kernel_w, kx = merged_ ? 0 : t % p.kernel_w;
    const int64_t down = ky * p.dilation_h;
    offset[t] = (down % p.stride_h * slots + down / p.stride_h) * row_bytes + kx * p.dilation_w * c;
  }
  args->tap_offset = offset;
}

// A as a copy in which rows 2 i and 2 i + 1, counted from the block's first, are one row of pixels
// of 2 C bytes; padded left and right, to a multiple of stride_w pixels.
void Convolution::StageFolded(const Space& space, const Block& block, DenseArgs* args) const {
  const ConvProblem& p = problem_;
  const Images& im = space.images;
  const int64_t c = p.in_channels, slots = block.rows - 1 + taps_;
  const StagedRow r = RowToStage(im, block);
  const int64_t row_bytes = r.columns * 2 * c;
  const int64_t bytes =
      slots * row_bytes + kSlack + 15 * (block.down() ? row_bytes : p.stride_w * 2 * c);
  const int64_t outside_bytes = im.width * c;
  uint8_t* staged = StagingBuffer(bytes + outside_bytes);
  uint8_t* outside = staged + bytes;  // a row of padding, as it would stand in the image

  const KernelInfo& interleave = Select(Op::InterleaveRows);
  std::memset(outside, r.zero ^ r.flip, static_cast<size_t>(outside_bytes));
  const auto row = [&](int64_t y) {
    const uint8_t* of_image = im.x + (block.image * im.height + y) * im.width * c;
    return (y < 0 || y >= im.height ? outside : of_image) + (r.x0 + r.left) * c;
  };
  for (int64_t slot = 0; slot < slots; ++slot) {
    uint8_t* to = staged + slot * row_bytes;
    const int64_t y = (block.row + slot) * 2 - p.pad_top;
    std::memset(to, r.zero, static_cast<size_t>(r.left * 2 * c));
    Call(interleave,
         InterleaveRowsArgs{row(y), row(y + 1), r.right - r.left, c, to + r.left * 2 * c, r.flip});
    std::memset(to + r.right * 2 * c, r.zero, static_cast<size_t>((r.columns - r.right) * 2 * c));
  }

  args->a = staged;
  args->end = staged + bytes;
  args->lda = p.stride_w * 2 * c;
  args->pitch = r.columns / p.stride_w;
  int64_t* offset = TapBuffer(taps_);
  for (int64_t t = 0; t < taps_; ++t) offset[t] = t * row_bytes;
  args->tap_offset = offset;
}

// A as codes made of float rows: dynamic quantization, a block at a time, so that the codes are
// read from L2.
void Convolution::QuantizeRows(const Space& space, const Block& block, DenseArgs* args) const {
  const int64_t k = problem_.in_channels;
  // Rows a multiple of 1 KiB apart would share few sets of L1.
  const int64_t row_bytes = CeilDiv(k, 64) * 64 + (CeilDiv(k, 64) % 16 == 0 ? 64 : 0);
  const int64_t codes = block.columns * row_bytes + kSlack;
  uint8_t* staged = StagingBuffer(CeilDiv(codes, 64) * 64 + block.columns * 4);
  QuantizeRowsArgs rows{};
  rows.x = space.images.x_float + block.column * space.images.x_float_stride;
  rows.x_stride = space.images.x_float_stride;
  rows.rows = block.columns;
  rows.k = k;
  rows.shared_scale = space.images.shared_scale;
  rows.scale = reinterpret_cast<float*>(staged + CeilDiv(codes, 64) * 64);
  rows.y = staged;
  rows.y_stride = row_bytes;
  Call(Select(Op::QuantizeRows), rows);
  args->epilogue.row_scale = rows.scale;
  args->a = staged;
  args->end = staged + codes;
  args->lda = args->pitch = row_bytes;
  static constexpr int64_t kNoOffset = 0;
  args->tap_offset = &kNoOffset;
}

// Channels [n0, n1) of every group.
void Convolution::RunBlock(const Space& space, const Block& block, int64_t n0, int64_t n1) const {
  const ConvProblem& p = problem_;
  const Images& im = space.images;
  const int64_t group_in = p.in_channels / p.groups, group_out = p.out_channels / p.groups;
  const int64_t weight_row = taps_ * CeilDiv(kc_, 64) * 64;
  const int64_t n_block = std::max(kPanel, kWeightBlockBytes / weight_row / kPanel * kPanel);
  // Rows of a filter may lie in the next image's place: pitch must be whole pixels of A.
  const bool staged = staged_ || (merged_ && im.x_stride != p.in_channels) ||
                      (space.out_height > 1 && p.stride_h * im.width % p.stride_w != 0);
  // Kernels read whole vectors, and copy what they may not read only where it is one piece.
  const bool loose = taps_ > 1 && (kc_ % 64 != 0 || block.rows * block.columns < 16);

  DenseArgs args{};
  args.scratch_bytes = 32 * (CeilDiv(kc_, 64) * 64 + 64);
  args.scratch = ScratchBuffer(args.scratch_bytes);
  if (im.x_float != nullptr) {
    QuantizeRows(space, block, &args);
  } else if (block.inside) {
    Address(space, block, &args);
  } else if (folded_) {
    StageFolded(space, block, &args);
  } else if (staged || loose) {
    Stage(space, block, &args);
  } else {
    Address(space, block, &args);
  }
  args.m = block.rows * block.columns;
  args.run = block.columns;
  args.y_stride = im.y_stride;
  args.r_stride = im.r_stride;
  if (block.inside && kernel_->isa == Isa::kAmxInt8) {
    args.run = args.pitch = args.m = (block.rows - 1) * space.out_width + block.columns;
  } else if (block.down()) {
    args.lda *= args.pitch;
    args.run = args.pitch = args.m;
    args.y_stride *= space.out_width;
    args.r_stride *= space.out_width;
  } else if ((args.run == args.pitch && block.columns == space.out_width) || block.rows == 1) {
    args.run = args.pitch = args.m;
  }
  args.taps = taps_;
  args.kc = kc_;
  const int64_t pixel =
      (block.image * space.out_height + block.row) * space.out_width + block.column;
  const uint8_t* a = args.a;
  const float* row_scale = args.epilogue.row_scale;
  for (int64_t g = 0; g < p.groups; ++g) {
    args.epilogue = FromChannel(OfRun(epilogue_->args(), im), g * group_out);
    args.epilogue.row_scale = row_scale;
    args.a = a + g * group_in;
    args.weight = weights_.data() + g * group_bytes_;
    args.y = im.y + pixel * im.y_stride + g * group_out * OutputBytes(args.epilogue);
    args.r = im.r == nullptr ? nullptr : im.r + pixel * im.r_stride + g * group_out;
    for (int64_t n = n0; n < n1; n += n_block) {
      args.n_begin = n;
      args.n_end = std::min(n1, n + n_block);
      if (kernel_->op == Op::DenseNarrow) {
        Call(*kernel_, DenseNarrowArgs{args, space.out_width});
      } else {
        Call(args.m < kFewRows ? *few_rows_kernel_ : *kernel_, args);
      }
    }
  }
}

// Where the padding is a small part of an image, what does not reach it is read in place, and only
// the edges from copies. Tiles walk sixteen pixels at a time wherever they lie, those between two
// runs included: they make all pixels from the first inside to the last as one run, and the columns
// at both edges, made of the wrong neighbours, are made again. That takes stride 1.
bool Convolution::MayReadInside(const Space& space) const {
  const ConvProblem& p = problem_;
  const Images& im = space.images;
  if (space.by_pixel || p.groups != 1 || p.x_type != CodeType::kUint8 || im.x_float != nullptr ||
      im.x_stride != p.in_channels) {
    return false;
  }
  if (kernel_->op == Op::DenseNarrow) {
    const Range columns =
        Inside(im.width, space.out_width, p.pad_left, p.kernel_w, p.stride_w, p.dilation_w);
    return p.stride_h * im.width % p.stride_w == 0 && columns.size() >= kWidthOfNarrow;
  }
  return kernel_->isa == Isa::kAmxInt8 && p.stride_h == 1 && p.stride_w == 1 && kc_ % 64 == 0 &&
         p.pad_left + p.pad_right > 0 && space.out_width == im.width &&
         im.width >= kWidthOfTiles * (p.pad_left + p.pad_right);
}

void Convolution::RunInside(const Space& space, const Block& rows, int64_t n0, int64_t n1) const {
  const ConvProblem& p = problem_;
  const Images& im = space.images;
  const Range columns =
      Inside(im.width, space.out_width, p.pad_left, p.kernel_w, p.stride_w, p.dilation_w);
  const Range inside =
      Inside(im.height, space.out_height, p.pad_top, p.kernel_h, p.stride_h, p.dilation_h);
  const int64_t last = rows.row + rows.rows, width = space.out_width;
  const int64_t begin = std::clamp(inside.begin, rows.row, last);
  const int64_t end = std::clamp(inside.end, begin, last);
  const auto run = [&](const Block& block) {
    if (block.rows > 0) RunBlock(space, block, n0, n1);
  };
  run({rows.image, rows.row, begin - rows.row, 0, width});
  run({rows.image, begin, end - begin, columns.begin, columns.size(), true});
  for (int64_t i = 0; i < columns.begin; ++i) run({rows.image, begin, end - begin, i, 1});
  for (int64_t i = columns.end; i < width; ++i) run({rows.image, begin, end - begin, i, 1});
  run({rows.image, end, last - end, 0, width});
}

// Units [begin, end), channels [n0, n1) of every group.
void Convolution::RunDensePiece(const Space& space, int64_t begin, int64_t end, int64_t n0,
                                int64_t n1) const {
  const ConvProblem& p = problem_;
  const int64_t unit_bytes =
      space.by_pixel ? p.stride_w * p.in_channels : p.stride_h * space.images.width * p.in_channels;
  const bool weights_fit = group_bytes_ * p.groups <= kWeightBlockBytes;
  const int64_t most = std::max<int64_t>(
      space.by_pixel ? 48 : 1, (weights_fit ? kRowBlockBytes : kLargeRowBlockBytes) / unit_bytes);
  const bool inside = MayReadInside(space);
  while (begin < end) {
    // Blocks of even size, none across two images.
    int64_t last = end;
    Block block{0, 0, 1, 0, 0};
    if (!space.by_pixel) {
      block.image = begin / space.out_height;
      last = std::min(end, (block.image + 1) * space.out_height);
    }
    const int64_t units =
        inside ? last - begin : CeilDiv(last - begin, CeilDiv(last - begin, most));
    if (space.by_pixel) {
      block.column = begin;
      block.columns = units;
    } else {
      block.row = begin % space.out_height;
      block.rows = units;
      block.columns = space.out_width;
    }
    begin += units;
    if (inside) {
      RunInside(space, block, n0, n1);
    } else {
      RunBlock(space, block, n0, n1);
    }
  }
}

void Convolution::RunDense(const Images& images) const {
  const ConvProblem& p = problem_;
  Space space{images, OutHeight(images.height), OutWidth(images.width), false};
  const bool single_pixels = p.kernel_h * p.kernel_w == 1 && p.stride_h * p.stride_w == 1 &&
                             p.pad_top + p.pad_left + p.pad_bottom + p.pad_right == 0;
  if (single_pixels) {
    Images& im = space.images;
    im.width *= im.height * im.batch;
    im.height = im.batch = 1;
    space.out_height = 1;
    space.out_width = im.width;
  }
  space.by_pixel = space.out_height * space.images.batch == 1;

  const int64_t units = space.units();
  const int64_t pixels = space.images.batch * space.out_height * space.out_width;
  const int64_t n = p.out_channels / p.groups;
  const int64_t macs = pixels * p.out_channels * taps_ * kc_;
  const int64_t panels = CeilDiv(n, kPanel);
  const bool tiles = kernel_->isa == Isa::kAmxInt8;
  const int64_t work = macs +
                       pixels * p.out_channels * (tiles ? kTileMacsOfOutput : kMacsOfOutput) +
                       p.out_channels * taps_ * kc_ * (tiles ? kTileMacsOfWeight : kMacsOfWeight);
  const int64_t threads = std::min<int64_t>(
      MaxThreads(), std::max<int64_t>(1, work / (tiles ? kTileGrainMacs : kGrainMacs)));

  // Split the axis that divides more evenly; where both do, the one whose operand is larger, so
  // that each core keeps its share of it in its own L2.
  const auto evenness = [&](int64_t parts) {
    return static_cast<double>(parts) / static_cast<double>(threads * CeilDiv(parts, threads));
  };
  const double by_n = p.groups == 1 ? evenness(panels) : 0.0;
  const double by_m = evenness(space.by_pixel ? CeilDiv(units, kTileRows) : units);
  const bool split_n = by_n > by_m + 0.02 || (by_n > by_m - 0.02 && n > pixels);
  if (threads == 1) {
    RunDensePiece(space, 0, units, 0, n);
  } else if (split_n) {
    ParallelFor(panels, CeilDiv(panels, threads), [&](int64_t begin, int64_t end) {
      RunDensePiece(space, 0, units, begin * kPanel, std::min(n, end * kPanel));
    });
  } else {
    ParallelFor(units, std::max<int64_t>(1, units / threads),
                [&](int64_t begin, int64_t end) { RunDensePiece(space, begin, end, 0, n); });
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
  std::vector<uint8_t> zero_pixel;  // of this run's zero point
  if (im.x_zero_point != p.x_zero_point) {
    zero_pixel.assign(static_cast<size_t>(p.in_channels), static_cast<uint8_t>(im.x_zero_point));
    args.zero_pixel = zero_pixel.data();
  }
  args.weight = weights_.data();
  args.epilogue = OfRun(epilogue_->args(), im);
  const int64_t out_height = OutHeight(im.height);
  const int64_t in_image = im.height * im.width * p.in_channels;
  const int64_t out_image = out_height * args.out_width * p.out_channels;
  const int64_t out_bytes = OutputBytes(args.epilogue);
  // Pairs of rows are the unit: the 3x3 kernel makes two at a time.
  const int64_t pairs = CeilDiv(out_height, 2);
  const int64_t macs = 2 * args.out_width * p.out_channels * p.kernel_h * p.kernel_w;
  ParallelFor(im.batch * pairs, CeilDiv(kDepthwiseGrainMacs, macs),
              [&](int64_t begin, int64_t end) {
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

void Convolution::RunOnGrid(const Images& images, Grid grid) const {
  if (!problem_.grid_at_run || grid.zero_point < 0 || grid.zero_point > 255) {
    Fail(ErrorCode::kInvalidArgument, what_, ": zero point ", grid.zero_point, ", grid_at_run is ",
         problem_.grid_at_run ? "" : "not ", "set; expected 0 to 255, and it to be set");
  }
  // Tables as PackedEpilogue has them, 64 elements past the last channel readable.
  const size_t n = weight_sums_.size(), padded = n + 80;
  std::vector<int32_t> bias(padded);
  std::vector<float> multiplier(padded);
  const EpilogueArgs& packed = epilogue_->args();
  for (size_t i = 0; i < n; ++i) {
    bias[i] = static_cast<int32_t>(static_cast<uint32_t>(packed.bias[i]) -
                                   static_cast<uint32_t>(grid.zero_point) *
                                       static_cast<uint32_t>(weight_sums_[i]));
    multiplier[i] = grid.scale * packed.multiplier[i];
  }
  Images im = images;
  im.x_zero_point = grid.zero_point;
  im.bias = bias.data();
  im.multiplier = multiplier.data();
  Dispatch(im);
}

void Convolution::Run(const Images& images) const {
  if (problem_.grid_at_run) {
    Fail(ErrorCode::kInvalidArgument, what_, ": grid_at_run is set; expected RunOnGrid");
  }
  Images im = images;
  im.x_zero_point = problem_.x_zero_point;
  Dispatch(im);
}

void Convolution::Dispatch(const Images& im) const {
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
