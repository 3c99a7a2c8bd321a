// Numpy broadcasting of any number of operands onto a dense output, in plain or channels-last
// order.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/step.h"

namespace octet::ops {

inline constexpr size_t kMaxOperands = 3;

// Loops over the output in memory order. Dimensions are collapsed where every operand allows it, so
// that rows are as long as they can be; a row is the innermost dimension.
struct Broadcast {
  std::vector<int64_t> dims;  // outermost first, in memory order of the output; at least one
  std::vector<std::array<int64_t, kMaxOperands>> strides;  // per dimension and operand, in elements

  [[nodiscard]] int64_t row() const { return dims.back(); }
  [[nodiscard]] int64_t stride(size_t operand) const { return strides.back()[operand]; }

  // Calls body(output offset, operand offsets, count) for pieces of rows, in parallel.
  using RowFn = std::function<void(int64_t, const std::array<int64_t, kMaxOperands>&, int64_t)>;
  void ForEachRow(const RowFn& body) const;
};

// Chooses the layout (channels-last where an operand of the output's rank offers it), writes it
// into the step and returns the loops for these inputs of the request.
[[nodiscard]] Broadcast PlanBroadcast(const StepRequest& r, const std::vector<size_t>& inputs,
                                      Step& step);

}  // namespace octet::ops
