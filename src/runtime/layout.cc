#include "runtime/layout.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"

namespace octet {
namespace {

// y (cols, rows) = transpose of x (rows, cols), for columns [begin, end): their output is
// contiguous.
template <typename T>
void TransposeColumns(const T* x, T* y, int64_t rows, int64_t cols, int64_t begin, int64_t end) {
  if (rows == 3) {  // RGB into pixels
    const T* r = x;
    const T* g = x + cols;
    const T* b = x + 2 * cols;
    for (int64_t c = begin; c < end; ++c) {
      y[3 * c] = r[c];
      y[3 * c + 1] = g[c];
      y[3 * c + 2] = b[c];
    }
    return;
  }
  constexpr int64_t kTile =
      32;  // 32 x 32 x 4 bytes: two tiles are 8 KB, well within the first-level cache
  for (int64_t c0 = begin; c0 < end; c0 += kTile) {
    const int64_t c1 = std::min(c0 + kTile, end);
    for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
      const int64_t r1 = std::min(r0 + kTile, rows);
      for (int64_t c = c0; c < c1; ++c) {
        for (int64_t r = r0; r < r1; ++r) y[c * rows + r] = x[r * cols + c];
      }
    }
  }
}

template <typename T>
void TransposeImages(const void* x, void* y, int64_t images, int64_t rows, int64_t cols) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  constexpr int64_t kGrain = 1 << 15;  // elements per piece: about 10 us
  ParallelFor(images * cols, std::max<int64_t>(1, kGrain / rows), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t image = begin / cols;
      const int64_t col = begin % cols;
      const int64_t count = std::min(end - begin, cols - col);
      TransposeColumns(from + image * rows * cols, to + image * rows * cols, rows, cols, col,
                       col + count);
      begin += count;
    }
  });
}

}  // namespace

bool LayoutsCoincide(const Shape& shape) {
  return shape.rank() != 4 || shape[1] == 1 || shape[2] * shape[3] == 1 || shape.elements() == 0;
}

std::vector<int64_t> StridesOf(const Shape& shape, Layout layout) {
  const int rank = shape.rank();
  std::vector<int64_t> strides(static_cast<size_t>(rank));
  if (layout == Layout::kChannelsLast) {
    OCTET_INVARIANT(rank == 4);
    strides = {shape[1] * shape[2] * shape[3], 1, shape[3] * shape[1], shape[1]};
    return strides;
  }
  int64_t stride = 1;
  for (int i = rank - 1; i >= 0; --i) {
    strides[static_cast<size_t>(i)] = stride;
    stride *= shape[i];
  }
  return strides;
}

void ConvertLayout(const TensorView& x, Layout from, const MutableTensorView& y, Layout to) {
  OCTET_INVARIANT(x.shape == y.shape && x.dtype == y.dtype);
  if (from == to || LayoutsCoincide(x.shape)) {
    if (x.raw != y.raw && x.bytes() > 0) std::memcpy(y.raw, x.raw, static_cast<size_t>(x.bytes()));
    return;
  }
  const Shape& s = x.shape;
  const int64_t space = s[2] * s[3];
  const int64_t rows = to == Layout::kChannelsLast ? s[1] : space;
  const int64_t cols = to == Layout::kChannelsLast ? space : s[1];
  switch (SizeOf(x.dtype)) {
    case 1:
      return TransposeImages<uint8_t>(x.raw, y.raw, s[0], rows, cols);
    case 2:
      return TransposeImages<uint16_t>(x.raw, y.raw, s[0], rows, cols);
    case 4:
      return TransposeImages<uint32_t>(x.raw, y.raw, s[0], rows, cols);
    default:
      return TransposeImages<uint64_t>(x.raw, y.raw, s[0], rows, cols);
  }
}

}  // namespace octet
