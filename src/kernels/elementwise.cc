// Quantize, dequantize, layout changes, addition and table lookup: checks, threads, dispatch.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dispatch.h"
#include "numerics/rounding.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

// Elements worth a second thread: some 5 us of one core.
constexpr int64_t kGrain = 64 << 10;

struct CodeRange {
  int32_t lo, hi, shift;  // shift: added to make a code unsigned
  uint8_t flip;
};
CodeRange RangeOf(CodeType type) {
  return type == CodeType::kUint8 ? CodeRange{0, 255, 0, 0} : CodeRange{-128, 127, 128, 0x80};
}

void CheckQuantization(const char* what, float scale, int32_t zero_point, CodeType type) {
  const CodeRange range = RangeOf(type);
  if (!(scale > 0.0F) || !std::isfinite(scale)) {
    Fail(ErrorCode::kInvalidArgument, what, ": scale is ", scale,
         "; expected a finite number above 0");
  }
  if (zero_point < range.lo || zero_point > range.hi) {
    Fail(ErrorCode::kInvalidArgument, what, ": zero_point is ", zero_point, "; expected ", range.lo,
         " to ", range.hi);
  }
}

void CheckSizes(const char* what, int64_t batch, int64_t channels, int64_t space) {
  if (batch < 0 || channels < 0 || space < 0) {
    Fail(ErrorCode::kInvalidArgument, what, ": batch, channels, space are ", batch, ", ", channels,
         ", ", space, "; expected none negative");
  }
}

// Calls body(image, begin, end) for pieces of the space of every image.
template <typename Body>
void ForEachPiece(int64_t batch, int64_t channels, int64_t space, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, channels));
  ParallelFor(batch * space, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t image = begin / space, first = begin - image * space;
      const int64_t last = std::min(space, first + end - begin);
      body(image, first, last);
      begin += last - first;
    }
  });
}

}  // namespace

void QuantizeToNhwc(const float* x, int64_t batch, int64_t channels, int64_t space, float scale,
                    int32_t zero_point, CodeType type, void* y) {
  CheckQuantization("QuantizeToNhwc", scale, zero_point, type);
  CheckSizes("QuantizeToNhwc", batch, channels, space);
  if (channels == 1) return Quantize(x, batch * space, scale, zero_point, type, y);
  const CodeRange range = RangeOf(type);
  const KernelInfo& kernel = Select(Op::QuantizeToNhwc);
  ForEachPiece(batch, channels, space, [&](int64_t image, int64_t begin, int64_t end) {
    const int64_t offset = image * channels * space;
    Call(kernel, QuantizeToNhwcArgs{x + offset, static_cast<uint8_t*>(y) + offset, channels, space,
                                    begin, end, scale, static_cast<float>(range.lo - zero_point),
                                    static_cast<float>(range.hi - zero_point), zero_point});
  });
}

void DequantizeToNchw(const void* x, CodeType type, int64_t batch, int64_t channels, int64_t space,
                      float scale, int32_t zero_point, float* y) {
  CheckQuantization("DequantizeToNchw", scale, zero_point, type);
  CheckSizes("DequantizeToNchw", batch, channels, space);
  if (channels == 1) return Dequantize(x, type, batch * space, scale, zero_point, y);
  const CodeRange range = RangeOf(type);
  const KernelInfo& kernel = Select(Op::DequantizeToNchw);
  ForEachPiece(batch, channels, space, [&](int64_t image, int64_t begin, int64_t end) {
    const int64_t offset = image * channels * space;
    Call(kernel,
         DequantizeToNchwArgs{static_cast<const uint8_t*>(x) + offset, y + offset, channels, space,
                              begin, end, scale, zero_point + range.shift, range.flip});
  });
}

void Quantize(const float* x, int64_t n, float scale, int32_t zero_point, CodeType type, void* y) {
  CheckQuantization("Quantize", scale, zero_point, type);
  const CodeRange range = RangeOf(type);
  const KernelInfo& kernel = Select(Op::Quantize);
  ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
    Call(kernel, QuantizeArgs{x + begin, static_cast<uint8_t*>(y) + begin, end - begin, scale,
                              static_cast<float>(range.lo - zero_point),
                              static_cast<float>(range.hi - zero_point), zero_point});
  });
}

Grid DynamicQuantize(const float* x, int64_t n, uint8_t* y) {
  if (n < 0) Fail(ErrorCode::kInvalidArgument, "DynamicQuantize: n is ", n, "; expected 0 or more");
  const KernelInfo& extrema = Select(Op::Extrema);
  const int64_t pieces = std::max<int64_t>(1, std::min<int64_t>(MaxThreads(), n / kGrain));
  std::vector<float> found(static_cast<size_t>(pieces) * 2, 0.0F);
  ParallelFor(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = n * i / pieces;
      Call(extrema, ExtremaArgs{x + first, n * (i + 1) / pieces - first,
                                &found[static_cast<size_t>(2 * i)]});
    }
  });
  float lo = 0.0F, hi = 0.0F;
  for (size_t i = 0; i < found.size(); i += 2) {
    lo = std::min(lo, found[i]);
    hi = std::max(hi, found[i + 1]);
  }
  Grid grid;
  grid.scale = hi == lo ? 1.0F : (hi - lo) / 255.0F;
  grid.zero_point = RoundClamped((0.0F - lo) / grid.scale, 0.0F, 255.0F);
  const KernelInfo& quantize = Select(Op::Quantize);
  ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
    Call(quantize, QuantizeArgs{x + begin, y + begin, end - begin, grid.scale,
                                static_cast<float>(-grid.zero_point),
                                static_cast<float>(255 - grid.zero_point), grid.zero_point});
  });
  return grid;
}

void Dequantize(const void* x, CodeType type, int64_t n, float scale, int32_t zero_point,
                float* y) {
  CheckQuantization("Dequantize", scale, zero_point, type);
  const CodeRange range = RangeOf(type);
  const KernelInfo& kernel = Select(Op::Dequantize);
  ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
    Call(kernel, DequantizeArgs{static_cast<const uint8_t*>(x) + begin, y + begin, end - begin,
                                scale, zero_point + range.shift, range.flip});
  });
}

void Add(const AddProblem& p, const void* a, const void* b, int64_t n, void* y) {
  const CodeRange range = RangeOf(p.type);
  for (const int32_t zero : {p.a_zero_point, p.b_zero_point, p.y_zero_point}) {
    CheckQuantization("Add", 1.0F, zero, p.type);
  }
  if (p.lo < range.lo || p.hi > range.hi || p.lo > p.hi || !std::isfinite(p.a_ratio) ||
      !std::isfinite(p.b_ratio)) {
    Fail(ErrorCode::kInvalidArgument, "Add: bounds [", p.lo, ", ", p.hi, "], ratios ", p.a_ratio,
         ", ", p.b_ratio, "; expected lo <= hi in [", range.lo, ", ", range.hi, "], finite ratios");
  }
  const KernelInfo& kernel = Select(Op::Add);
  ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
    AddArgs args{};
    args.a = static_cast<const uint8_t*>(a) + begin;
    args.b = static_cast<const uint8_t*>(b) + begin;
    args.y = static_cast<uint8_t*>(y) + begin;
    args.n = end - begin;
    args.flip = range.flip;
    args.a_zero_point = p.a_zero_point + range.shift;
    args.b_zero_point = p.b_zero_point + range.shift;
    args.a_ratio = p.a_ratio;
    args.b_ratio = p.b_ratio;
    args.y_zero_point = p.y_zero_point + range.shift;
    args.lo = static_cast<float>(p.lo - p.y_zero_point);
    args.hi = static_cast<float>(p.hi - p.y_zero_point);
    Call(kernel, args);
  });
}

namespace {

MulArgs CheckedMul(const MulProblem& p, const char* what) {
  const CodeRange range = RangeOf(p.type);
  for (const Grid& g : {p.a, p.b, p.y}) CheckQuantization(what, g.scale, g.zero_point, p.type);
  if (p.lo < range.lo || p.hi > range.hi || p.lo > p.hi) {
    Fail(ErrorCode::kInvalidArgument, what, ": bounds [", p.lo, ", ", p.hi,
         "]; expected lo <= hi in [", range.lo, ", ", range.hi, "]");
  }
  MulArgs args{};
  args.flip = range.flip;
  args.a_zero_point = p.a.zero_point + range.shift;
  args.b_zero_point = p.b.zero_point + range.shift;
  args.a_scale = p.a.scale;
  args.b_scale = p.b.scale;
  args.y_scale = p.y.scale;
  args.y_zero_point = p.y.zero_point + range.shift;
  args.lo = static_cast<float>(p.lo - p.y.zero_point);
  args.hi = static_cast<float>(p.hi - p.y.zero_point);
  return args;
}

}  // namespace

void Mul(const MulProblem& p, const void* a, const void* b, int64_t n, void* y) {
  const MulArgs whole = CheckedMul(p, "Mul");
  const KernelInfo& kernel = Select(Op::Mul);
  ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
    MulArgs args = whole;
    args.a = static_cast<const uint8_t*>(a) + begin;
    args.b = static_cast<const uint8_t*>(b) + begin;
    args.y = static_cast<uint8_t*>(y) + begin;
    args.rows = 1;
    args.n = end - begin;
    Call(kernel, args);
  });
}

void MulChannels(const MulProblem& p, int64_t batch, int64_t space, int64_t channels, const void* a,
                 const void* b, void* y) {
  const MulArgs whole = CheckedMul(p, "MulChannels");
  CheckSizes("MulChannels", batch, channels, space);
  if (batch == 0 || space == 0 || channels == 0) return;
  // Kernels take 64 numbers at a time: factors are written out several times where that leaves less
  // of a row over.
  const int64_t copies = channels % 64 == 0 ? 1 : std::min(space, (511 + channels) / channels);
  const int64_t row = copies * channels, rows = space / copies;
  std::vector<float> factors(static_cast<size_t>(batch * row));
  for (int64_t i = 0; i < batch; ++i)
    for (int64_t j = 0; j < row; ++j) {
      const int32_t code = static_cast<const uint8_t*>(b)[i * channels + j % channels] ^ whole.flip;
      factors[static_cast<size_t>(i * row + j)] =
          DequantizeOne(code, p.b.scale, whole.b_zero_point);
    }
  const KernelInfo& kernel = Select(Op::Mul);
  const int64_t image = space * channels;
  ParallelFor(batch * rows, std::max<int64_t>(1, kGrain / row), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t i = begin / rows, first = begin - i * rows;
      const int64_t count = std::min(rows - first, end - begin);
      MulArgs args = whole;
      args.a = static_cast<const uint8_t*>(a) + i * image + first * row;
      args.factor = factors.data() + i * row;
      args.y = static_cast<uint8_t*>(y) + i * image + first * row;
      args.rows = count;
      args.n = row;
      Call(kernel, args);
      begin += count;
      const int64_t done = rows * row;
      if (first + count < rows || done == image) continue;
      args.a = static_cast<const uint8_t*>(a) + i * image + done;  // the last pixels
      args.y = static_cast<uint8_t*>(y) + i * image + done;
      args.rows = 1;
      args.n = image - done;
      Call(kernel, args);
    }
  });
}

void Lookup(const uint8_t table[256], int64_t rows, int64_t row, const void* x, int64_t x_stride,
            void* y, int64_t y_stride) {
  if (rows < 0 || row < 0 || x_stride < row || y_stride < row) {
    Fail(ErrorCode::kInvalidArgument, "Lookup: rows ", rows, " of ", row, " bytes, strides ",
         x_stride, " and ", y_stride, "; expected strides >= the row");
  }
  if (rows == 0 || row == 0) return;
  const auto* from = static_cast<const uint8_t*>(x);
  auto* to = static_cast<uint8_t*>(y);
  const KernelInfo& kernel = Select(Op::Lookup);
  if (rows == 1 || (x_stride == row && y_stride == row)) {
    ParallelFor(rows * row, kGrain, [&](int64_t begin, int64_t end) {
      Call(kernel, LookupArgs{table, from + begin, to + begin, end - begin});
    });
    return;
  }
  ParallelFor(rows, std::max<int64_t>(1, kGrain / row), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      Call(kernel, LookupArgs{table, from + i * x_stride, to + i * y_stride, row});
  });
}

}  // namespace octet::kernels
