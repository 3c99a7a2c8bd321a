// A dense row-major array seen around one axis: (outer, channels, inner). NCHW around axis 1 is (N,
// C, H*W); a (M, K) matrix around its last axis is (M, K, 1). What numerics/ needs of a shape, and
// no more.
#pragma once

#include <cstdint>
#include <span>

#include "base/checked_math.h"
#include "base/error.h"

namespace octet {

struct Extents {
  int64_t outer = 1;
  int64_t channels = 1;
  int64_t inner = 1;

  [[nodiscard]] int64_t elements() const { return outer * channels * inner; }
};

// axis -1: no channels, the whole array is one ({1, 1, elements}). Any other axis outside the rank
// throws kInvalidArgument; a negative dimension or an overflowing product throws kUnsupported.
[[nodiscard]] inline Extents ExtentsOf(std::span<const int64_t> dims, int axis) {
  const auto total = CheckedProduct(dims);
  if (!total) Fail(ErrorCode::kUnsupported, "extents: negative or overflowing dimensions");
  if (axis == -1) return {1, 1, *total};
  if (axis < 0 || static_cast<size_t>(axis) >= dims.size()) {
    Fail(ErrorCode::kInvalidArgument, "extents: axis ", axis, " of a tensor of rank ", dims.size());
  }
  const auto a = static_cast<size_t>(axis);
  // A zero elsewhere lets the product of the rest overflow unnoticed by `total`: checked on its
  // own.
  const auto outer = CheckedProduct(dims.first(a));
  const auto inner = CheckedProduct(dims.subspan(a + 1));
  if (!outer || !inner) Fail(ErrorCode::kUnsupported, "extents: overflowing dimensions");
  return {*outer, dims[a], *inner};
}

}  // namespace octet
