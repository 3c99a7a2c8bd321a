// The entropy range estimator: least Kullback-Leibler divergence between the distribution and its
// quantized self, after TensorRT's calibrator (Migacz, "8-bit Inference with TensorRT", 2017).
//
// As defined here:
// - |x| is counted in 16 L equal bins over [0, max |x|], L the levels that one side of 0 has: half
//   of the codes where values of both signs (or a symmetric grid) share them, all of them
//   otherwise. Exact zeros are left out: every grid holds them.
// - For every threshold of i bins, i = L ... 16 L in steps of max(1, L/64): P is the first i bins,
//   the last of them with everything beyond added. Q merges the same i bins, without what is
//   beyond, into L runs [floor(k i / L), floor((k + 1) i / L)) and spreads each run evenly over its
//   bins that are not empty.
// - Where the last bin is empty but for what is beyond, Q gets a share of 10^-4 there (the
//   smoothing of MXNet and ONNX Runtime): the divergence would be infinite otherwise, and one far
//   outlier keep the whole range.
// - The threshold with the least KL(P || Q), both brought to sum 1, is taken; the wider of two
//   equal ones.
#pragma once

#include <string_view>

#include "calibrate/value_density.h"
#include "numerics/int_format.h"

namespace octet {

// The threshold on |x|. Throws kUnsupported, naming the value, above 8 bits.
[[nodiscard]] double EntropyThreshold(const ValueDensity& density, IntFormat format, bool symmetric,
                                      std::string_view name);

}  // namespace octet
