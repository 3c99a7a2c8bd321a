// Layout is a property of the plan, never of the graph: shapes are always logical (NCHW).
//
// Only rank-4 values may be channels-last (bytes in N,H,W,C order). Where C == 1 or H*W == 1 both
// layouts have the same bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace octet {

enum class Layout : uint8_t { kPlain, kChannelsLast };

// True if the two layouts of this shape are the same bytes.
[[nodiscard]] bool LayoutsCoincide(const Shape& shape);

// Stride of each logical dimension, in elements, for dense data of this shape and layout.
[[nodiscard]] std::vector<int64_t> StridesOf(const Shape& shape, Layout layout);

// Copies between layouts; `x` and `y` have the same logical shape and dtype.
void ConvertLayout(const TensorView& x, Layout from, const MutableTensorView& y, Layout to);

}  // namespace octet
