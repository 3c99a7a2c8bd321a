// Operands of a MatMul whose axes are permuted in memory: strides say so, nothing is moved.
#pragma once

#include <octet/kernels.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/step.h"

namespace octet::ops {

// Sizes and strides in elements, outermost first, as long as the result's rank; stride 0 where a
// batch dimension broadcasts.
struct PermutedOperand {
  std::vector<int64_t> dims, strides;
};

// Of a value of shape `shape` with the permutation that attribute `key` gives, or none.
[[nodiscard]] PermutedOperand PermutedBy(const StepRequest& r, const Shape& shape,
                                         std::string_view key, size_t rank);

// Where the matrices of an operand start, for every matrix of a result with these batch dimensions
// (its own first rank - 2), in elements.
[[nodiscard]] std::vector<int64_t> MatrixOffsets(const PermutedOperand& operand,
                                                 const std::vector<int64_t>& batch);

// Softmax of the rows of products, scaled and masked.
class ScoreSoftmax {
 public:
  // Of attribute softmax_scale and input `mask`, which broadcasts to `dims`, or is absent.
  ScoreSoftmax(const StepRequest& r, size_t mask, const std::vector<int64_t>& dims);
  // scores (rows, n) of matrix i: in place, and codes where asked.
  void Run(const StepArgs& args, int64_t matrix, float* scores,
           const kernels::CodesOut& codes) const;

 private:
  float scale_;
  int64_t rows_, n_;
  size_t input_;
  bool masked_;
  int64_t row_stride_ = 0;  // of the mask
  std::vector<int64_t> offsets_;
};

}  // namespace octet::ops
