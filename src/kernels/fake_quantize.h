// Fake quantization of arrays on the kernels of this CPU: FakeQuantizeArray of numerics/qparams.h,
// bit for bit, for every format and granularity.
#pragma once

#include "numerics/qparams.h"

namespace octet::kernels {

// y = x on the grid of its slice; y may be x. The array holds extents.elements() numbers. Throws as
// CheckQuantParams does, and kInvalidArgument for a step outside of the table.
void FakeQuantize(const float* x, const Extents& extents, const QuantParams& params, float* y,
                  int64_t step = 0);

}  // namespace octet::kernels
