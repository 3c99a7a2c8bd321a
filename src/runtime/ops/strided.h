// Copying a box of elements between two strided layouts: what Transpose, Concat, Split, Slice, Pad,
// Tile and DepthToSpace come down to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/layout.h"
#include "tensor/tensor.h"

namespace octet::ops {

class StridedCopy {
 public:
  // All in elements; strides may be negative or zero (a repeated source), offsets are where index 0
  // lies.
  StridedCopy(std::vector<int64_t> dims, std::vector<int64_t> from_strides,
              std::vector<int64_t> to_strides, int64_t from_offset = 0, int64_t to_offset = 0);

  // True if source and destination are the same bytes in the same order.
  [[nodiscard]] bool IsIdentity() const;
  void Run(const void* from, void* to, int64_t element_size) const;

 private:
  // Outermost first, ordered by descending destination stride and collapsed where both sides allow
  // it.
  std::vector<int64_t> dims_, from_strides_, to_strides_;
  int64_t from_offset_, to_offset_;
  int64_t elements_;
};

}  // namespace octet::ops
