// Elementwise operators as functions of rows.
#pragma once

#include <octet/kernels.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "graph/graph.h"

namespace octet::ops {

// Which vectorised float function an operator is, if any.
[[nodiscard]] std::optional<kernels::Function> RowFunction(const Node& node);

// What a unary operator does to n float32 numbers; y may be x. Null for other operators.
[[nodiscard]] std::function<void(const float* x, float* y, int64_t n)> FloatFunction(
    const Node& node);

}  // namespace octet::ops
