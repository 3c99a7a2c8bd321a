// Arguments of the fake quantization kernels (kernels/float_fake_quantize.h), plain data as in
// kernels/abi.h.
#pragma once

#include <stdint.h>

namespace octet::kernels {

enum FakeQuantizeKind : int32_t {
  kFakeInteger,
  kFakeFloat,          // a signed float format without NaN: NaN becomes 0
  kFakeFloatNan,       // with NaN: NaN stays
  kFakeFloatFnuz,      // with NaN, and no -0
  kFakeFloatUnsigned,  // without NaN
};

// y = x on a grid, `rows` rows of n numbers lying dense: row i is on the grid of scale[i] or, where
// by_element, element j of every row on that of scale[j]. y may be x.
struct FakeQuantizeArgs {
  const float* x;
  float* y;
  int64_t rows, n;
  FakeQuantizeKind kind;
  bool by_element;
  const float* scale;
  // Bounds of x / scale, as many as scales or, where bounds_stride is 0, one: of integers the
  // codes' less the zero point, of floats the largest magnitude (lo is not read).
  const float* lo;
  const float* hi;
  int64_t bounds_stride;  // 0 or 1
  // Of float formats: numerics/float_format.h, FloatGrid.
  float min_normal;
  int32_t step_bits;
};

}  // namespace octet::kernels
