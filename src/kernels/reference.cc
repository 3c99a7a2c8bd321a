// octet_conv_reference: triple loops over octet/kernels.h's definition with 64-bit accumulators. A
// sum that leaves int32 is converted to float32 directly (nearest even), and saturates where int32
// is stored.
#include "kernels/reference.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "numerics/rounding.h"

namespace octet::kernels {
namespace {

int32_t LoadCode(const uint8_t* p, int64_t i, CodeType type) {
  return type == CodeType::kUint8 ? static_cast<int32_t>(p[i])
                                  : static_cast<int32_t>(static_cast<int8_t>(p[i]));
}

template <typename T>
T PerChannel(const std::vector<T>& values, int64_t n, T none) {
  if (values.empty()) return none;
  return values.size() == 1 ? values[0] : values[static_cast<size_t>(n)];
}

int32_t Codes(const Epilogue& e, int64_t n, int64_t acc, int32_t residual) {
  const float multiplier = PerChannel(e.multiplier, n, 1.0F);
  const int32_t lo = PerChannel(e.lo, n, e.output == OutputType::kUint8 ? 0 : -128);
  const int32_t hi = PerChannel(e.hi, n, e.output == OutputType::kUint8 ? 255 : 127);
  float v = static_cast<float>(acc) * multiplier;
  if (e.residual.present) {
    const Residual& r = e.residual;
    const float fr = static_cast<float>(residual - r.zero_point) * r.ratio;
    if (r.mid_codes) {
      const int32_t mid = RoundClamped(v, static_cast<float>(r.mid_lo - r.mid_zero_point),
                                       static_cast<float>(r.mid_hi - r.mid_zero_point));
      v = static_cast<float>(mid) * r.mid_ratio;
    }
    v = v + fr;
  }
  return RoundClamped(v, static_cast<float>(lo - e.y_zero_point),
                      static_cast<float>(hi - e.y_zero_point)) +
         e.y_zero_point;
}

void Store(const Epilogue& e, int64_t n, int64_t acc, int32_t residual, uint8_t* y) {
  if (e.output == OutputType::kInt32) {
    const auto v = static_cast<int32_t>(std::clamp<int64_t>(
        acc, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
    std::memcpy(y + n * 4, &v, 4);
  } else if (e.output == OutputType::kFloat32) {
    float v = static_cast<float>(acc) * PerChannel(e.multiplier, n, 1.0F);
    v = v + PerChannel(e.float_bias, n, 0.0F);
    v = v > e.float_lo ? v : e.float_lo;
    v = v < e.float_hi ? v : e.float_hi;
    std::memcpy(y + n * 4, &v, 4);
  } else {
    y[n] = static_cast<uint8_t>(Codes(e, n, acc, residual) & 0xff);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_conv_reference(const octet::kernels::ReferenceArgs* args) {
  using namespace octet::kernels;
  const ConvProblem& p = *args->problem;
  const Images& im = args->images;
  const int64_t group_in = p.in_channels / p.groups, group_out = p.out_channels / p.groups;
  for (int64_t b = 0; b < im.batch; ++b)
    for (int64_t oy = 0; oy < args->out_height; ++oy)
      for (int64_t ox = 0; ox < args->out_width; ++ox)
        for (int64_t n = 0; n < p.out_channels; ++n) {
          int64_t acc = PerChannel(p.epilogue.bias, n, 0);
          for (int64_t ky = 0; ky < p.kernel_h; ++ky)
            for (int64_t kx = 0; kx < p.kernel_w; ++kx)
              for (int64_t c = 0; c < group_in; ++c) {
                const int64_t iy = oy * p.stride_h + ky * p.dilation_h - p.pad_top;
                const int64_t ix = ox * p.stride_w + kx * p.dilation_w - p.pad_left;
                if (iy < 0 || iy >= im.height || ix < 0 || ix >= im.width) continue;
                const uint8_t* pixel = im.x + ((b * im.height + iy) * im.width + ix) * im.x_stride;
                const int64_t x =
                    LoadCode(pixel, (n / group_out) * group_in + c, p.x_type) - p.x_zero_point;
                acc += x * p.weight[((n * group_in + c) * p.kernel_h + ky) * p.kernel_w + kx];
              }
          const int64_t out_pixel = (b * args->out_height + oy) * args->out_width + ox;
          const int32_t residual = im.r == nullptr ? 0
                                                   : LoadCode(im.r + out_pixel * im.r_stride, n,
                                                              p.epilogue.residual.type);
          Store(p.epilogue, n, acc, residual, im.y + out_pixel * im.y_stride);
        }
}
