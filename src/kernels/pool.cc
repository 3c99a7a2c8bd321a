// Pooling: windows, counts, threads. The arithmetic is in the pixel kernels.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dispatch.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

// Codes read that are worth a second thread: some 5 us of one core.
constexpr int64_t kGrain = 256 << 10;

int64_t OutSize(const char* axis, int64_t size, int64_t kernel, int64_t stride, int64_t begin,
                int64_t end, bool ceil_mode) {
  const int64_t span = size + begin + end - kernel;
  if (size < 1 || kernel < 1 || stride < 1 || begin < 0 || end < 0 || begin >= kernel ||
      end >= kernel || span < 0) {
    Fail(ErrorCode::kInvalidArgument, "pooling: ", axis, " ", size, ", kernel ", kernel,
         ", stride ", stride, ", pads ", begin, " and ", end,
         "; expected pads below the kernel and a window that fits");
  }
  int64_t out = (ceil_mode ? span + stride - 1 : span) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= size + begin) --out;
  return out;
}

// One axis of a window: pixels [first, last) inside the image; `padded` of it lie inside the padded
// image.
struct Window {
  int64_t first, last, padded;
};
Window At(int64_t out, int64_t size, int64_t kernel, int64_t stride, int64_t begin, int64_t end) {
  const int64_t first = out * stride - begin;
  return {std::max<int64_t>(0, first), std::min(size, first + kernel),
          std::min(first + kernel, size + end) - first};
}

struct Geometry {
  int64_t height, width, channels, out_height, out_width;
};

Geometry MakeGeometry(const PoolProblem& p, int64_t batch, int64_t height, int64_t width,
                      int64_t channels) {
  if (batch < 0 || channels < 1) {
    Fail(ErrorCode::kInvalidArgument, "pooling: batch ", batch, ", channels ", channels,
         "; expected batch >= 0, channels >= 1");
  }
  return {height, width, channels, PoolOutHeight(p, height), PoolOutWidth(p, width)};
}

void CheckAverage(const PoolProblem& p, int64_t count) {
  const int32_t lowest = p.type == CodeType::kUint8 ? 0 : -128;
  for (const int32_t zero : {p.x_zero_point, p.y_zero_point}) {
    if (zero < lowest || zero > lowest + 255) {
      Fail(ErrorCode::kInvalidArgument, "pooling: zero point ", zero, "; expected ", lowest, " to ",
           lowest + 255);
    }
  }
  if (!std::isfinite(p.ratio))
    Fail(ErrorCode::kInvalidArgument, "pooling: ratio ", p.ratio, "; expected finite");
  // 2^23 * 255 < 2^31
  if (count < 1 || count >= (int64_t{1} << 23)) {
    Fail(ErrorCode::kUnsupported, "pooling: average over ", count,
         " pixels; expected 1 to 2^23 - 1");
  }
}

AveragePixelsArgs AverageArgs(const PoolProblem& p, int64_t channels) {
  const int32_t shift = p.type == CodeType::kInt8 ? 128 : 0;
  AveragePixelsArgs args{};
  args.channels = channels;
  args.flip = p.type == CodeType::kInt8 ? 0x80 : 0;
  args.y_zero_point = p.y_zero_point + shift;
  return args;
}

void SetCount(const PoolProblem& p, int64_t count, int64_t divisor, AveragePixelsArgs* args) {
  const int32_t zero = p.x_zero_point + (p.type == CodeType::kInt8 ? 128 : 0);
  args->count = count;
  args->bias = -static_cast<int32_t>(count) * zero;
  args->multiplier = p.ratio / static_cast<float>(divisor);
}

}  // namespace

int64_t PoolOutHeight(const PoolProblem& p, int64_t height) {
  return OutSize("height", height, p.kernel_h, p.stride_h, p.pad_top, p.pad_bottom, p.ceil_mode);
}

int64_t PoolOutWidth(const PoolProblem& p, int64_t width) {
  return OutSize("width", width, p.kernel_w, p.stride_w, p.pad_left, p.pad_right, p.ceil_mode);
}

void MaxPool(const PoolProblem& p, int64_t batch, int64_t height, int64_t width, int64_t channels,
             const void* x, void* y) {
  const Geometry g = MakeGeometry(p, batch, height, width, channels);
  const KernelInfo& kernel = Select(Op::MaxPixels);
  const int64_t count = p.kernel_h * p.kernel_w;
  const int64_t row_work = g.out_width * count * channels;
  // Short windows repeat a pixel: the maximum stays the same.
  std::vector<int64_t> columns(static_cast<size_t>(g.out_width * p.kernel_w));
  for (int64_t ox = 0; ox < g.out_width; ++ox) {
    const Window h = At(ox, width, p.kernel_w, p.stride_w, p.pad_left, p.pad_right);
    for (int64_t kx = 0; kx < p.kernel_w; ++kx) {
      columns[static_cast<size_t>(ox * p.kernel_w + kx)] =
          std::min(h.first + kx, h.last - 1) * channels;
    }
  }
  ParallelFor(
      batch * g.out_height, std::max<int64_t>(1, kGrain / row_work),
      [&](int64_t begin, int64_t end) {
        std::vector<const uint8_t*> pixels(static_cast<size_t>(g.out_width * count));
        for (int64_t row = begin; row < end; ++row) {
          const uint8_t* image =
              static_cast<const uint8_t*>(x) + row / g.out_height * height * width * channels;
          const Window v =
              At(row % g.out_height, height, p.kernel_h, p.stride_h, p.pad_top, p.pad_bottom);
          for (int64_t ky = 0; ky < p.kernel_h; ++ky) {
            const uint8_t* line = image + std::min(v.first + ky, v.last - 1) * width * channels;
            const uint8_t** out = pixels.data() + ky * p.kernel_w;
            const int64_t* column = columns.data();
            for (int64_t ox = 0; ox < g.out_width; ++ox, out += count)
              for (int64_t kx = 0; kx < p.kernel_w; ++kx) out[kx] = line + *column++;
          }
          const auto flip = static_cast<uint8_t>(p.type == CodeType::kInt8 ? 0x80 : 0);
          Call(kernel, MaxPixelsArgs{pixels.data(), g.out_width, count, channels, flip,
                                     static_cast<uint8_t*>(y) + row * g.out_width * channels});
        }
      });
}

void AveragePool(const PoolProblem& p, int64_t batch, int64_t height, int64_t width,
                 int64_t channels, const void* x, void* y) {
  const Geometry g = MakeGeometry(p, batch, height, width, channels);
  CheckAverage(p, p.kernel_h * p.kernel_w);
  const KernelInfo& kernel = Select(Op::AveragePixels);
  const int64_t row_work = g.out_width * p.kernel_h * p.kernel_w * channels;
  ParallelFor(batch * g.out_height, std::max<int64_t>(1, kGrain / row_work),
              [&](int64_t begin, int64_t end) {
                AveragePixelsArgs args = AverageArgs(p, channels);
                std::vector<const uint8_t*> pixels;
                for (int64_t i = begin * g.out_width; i < end * g.out_width; ++i) {
                  const int64_t row = i / g.out_width;
                  const uint8_t* image = static_cast<const uint8_t*>(x) +
                                         row / g.out_height * height * width * channels;
                  const Window v = At(row % g.out_height, height, p.kernel_h, p.stride_h, p.pad_top,
                                      p.pad_bottom);
                  const Window h =
                      At(i % g.out_width, width, p.kernel_w, p.stride_w, p.pad_left, p.pad_right);
                  pixels.clear();
                  for (int64_t iy = v.first; iy < v.last; ++iy)
                    for (int64_t ix = h.first; ix < h.last; ++ix)
                      pixels.push_back(image + (iy * width + ix) * channels);
                  const auto count = static_cast<int64_t>(pixels.size());
                  SetCount(p, count, p.count_include_pad ? v.padded * h.padded : count, &args);
                  args.pixels = pixels.data();
                  args.y = static_cast<uint8_t*>(y) + i * channels;
                  Call(kernel, args);
                }
              });
}

void GlobalAveragePool(const PoolProblem& p, int64_t batch, int64_t space, int64_t channels,
                       const void* x, void* y) {
  if (batch < 0 || channels < 1) {
    Fail(ErrorCode::kInvalidArgument, "GlobalAveragePool: batch ", batch, ", channels ", channels,
         "; expected batch >= 0, channels >= 1");
  }
  CheckAverage(p, space);
  const KernelInfo& kernel = Select(Op::AveragePixels);
  ParallelFor(batch, std::max<int64_t>(1, kGrain / (space * channels)),
              [&](int64_t begin, int64_t end) {
                AveragePixelsArgs args = AverageArgs(p, channels);
                SetCount(p, space, space, &args);
                args.stride = channels;
                for (int64_t i = begin; i < end; ++i) {
                  args.first = static_cast<const uint8_t*>(x) + i * space * channels;
                  args.y = static_cast<uint8_t*>(y) + i * channels;
                  Call(kernel, args);
                }
              });
}

}  // namespace octet::kernels
