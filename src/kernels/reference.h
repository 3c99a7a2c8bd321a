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
};

struct ReferenceArgs {
  const ConvProblem* problem;  // weight is OIHW
  Images images;
  int64_t out_height, out_width;
};

}  // namespace octet::kernels
