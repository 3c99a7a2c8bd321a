// The definition of the convolution, written out: the oracle of the tests, and the kernel of last
// resort.
#pragma once

#include <cstdint>

#include "octet/kernels.h"

namespace octet::kernels {

// One NHWC batch. Strides are bytes between neighbouring pixels; rows and images follow without a
// gap.
struct Images {
  int64_t batch = 1, height = 1, width = 1;
  const uint8_t* x = nullptr;
  int64_t x_stride = 0;
  uint8_t* y = nullptr;
  int64_t y_stride = 0;
  const uint8_t* r = nullptr;
  int64_t r_stride = 0;
  // Instead of x: float rows (width of them, x_float_stride elements apart), quantized on the way
  // to codes around 128, each by a scale of its own or all by shared_scale, which y is multiplied
  // by.
  const float* x_float = nullptr;
  int64_t x_float_stride = 0;
  float shared_scale = 0.0F;
  // Instead of the problem's: the zero point of x, and the packed epilogue's tables that go with
  // the grid of x (EpilogueArgs).
  int32_t x_zero_point = 0;
  const int32_t* bias = nullptr;
  const float* multiplier = nullptr;
};

struct ReferenceArgs {
  const ConvProblem* problem;  // weight is OIHW
  Images images;
  int64_t out_height, out_width;
};

}  // namespace octet::kernels
