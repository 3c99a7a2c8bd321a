// Pad, Tile and Trilu: every output element is some input element, or a fill value.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

// Per dimension and output index, the input index it comes from, or -1 for the fill value.
using IndexMap = std::vector<std::vector<int64_t>>;

template <typename T>
void Remap(const IndexMap& map, const Shape& x, const Shape& y, const T* from, T* to, T fill) {
  const int rank = y.rank();
  const auto strides = StridesOf(x, Layout::kPlain);
  const int64_t row = rank > 0 ? y[rank - 1] : 1;
  if (y.elements() == 0) return;
  const int64_t rows = y.elements() / row;
  ParallelFor(rows, std::max<int64_t>(1, kElementGrain / row), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t rest = i;
      int64_t base = 0;
      bool outside = false;
      for (int d = rank - 2; d >= 0; --d) {
        const auto at = static_cast<size_t>(d);
        const int64_t index = map[at][static_cast<size_t>(rest % y[d])];
        outside = outside || index < 0;
        base += index * strides[at];
        rest /= y[d];
      }
      T* out = to + i * row;
      if (rank == 0) {
        *out = *from;
      } else if (outside) {
        std::fill(out, out + row, fill);
      } else {
        const std::vector<int64_t>& last = map.back();
        for (int64_t k = 0; k < row; ++k) {
          const int64_t index = last[static_cast<size_t>(k)];
          out[k] = index < 0 ? fill : from[base + index];
        }
      }
    }
  });
}

// Where output index i of a padded dimension comes from.
int64_t PadSource(const std::string& mode, int64_t i, int64_t size) {
  if (i >= 0 && i < size) return i;
  if (mode == "constant" || size == 0) return -1;
  if (mode == "edge") return i < 0 ? 0 : size - 1;
  if (mode == "wrap") return (i % size + size) % size;
  if (size == 1) return 0;  // reflect: without repeating the border, to and fro
  const int64_t period = 2 * (size - 1);
  const int64_t k = (i % period + period) % period;
  return k < size ? k : period - k;
}

}  // namespace

Step MakePad(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  const std::string mode = r.node->GetString("mode", "constant");
  if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "wrap") {
    FailStep(r, Cat("mode is '", mode, "', expected constant, edge, reflect or wrap"));
  }
  const std::vector<int64_t> pads = r.has(1) ? ConstantInts(r, 1) : r.node->GetInts("pads", {});
  std::vector<int64_t> axes;
  if (r.has(3)) {
    axes = ConstantInts(r, 3);
  } else {
    for (int d = 0; d < x.rank(); ++d) axes.push_back(d);
  }
  if (pads.size() != 2 * axes.size())
    FailStep(r, Cat("pads has ", pads.size(), " elements, expected ", 2 * axes.size()));
  std::vector<int64_t> before(static_cast<size_t>(x.rank()), 0);
  for (size_t i = 0; i < axes.size(); ++i)
    before[static_cast<size_t>(Axis(r, axes[i], x.rank()))] = pads[i];
  IndexMap map(static_cast<size_t>(x.rank()));
  for (int d = 0; d < x.rank(); ++d) {
    const auto at = static_cast<size_t>(d);
    for (int64_t i = 0; i < y[d]; ++i) map[at].push_back(PadSource(mode, i - before[at], x[d]));
  }
  return WithElementSize(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:pad");
    const float old_value = r.node->GetFloat("value", 0.0F);  // before operator set 11
    step.run = [=](const StepArgs& a) {
      T fill{};
      if (a.has(2)) {
        std::memcpy(&fill, a.inputs[2].raw, sizeof(T));
      } else if (a.inputs[0].dtype == DType::kFloat32) {
        std::memcpy(&fill, &old_value, std::min(sizeof(T), sizeof(float)));
      }
      Remap<T>(map, x, y, a.in<T>(0), a.out<T>(0), fill);
    };
    return step;
  });
}

Step MakeTile(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  IndexMap map(static_cast<size_t>(x.rank()));
  for (int d = 0; d < x.rank(); ++d) {
    for (int64_t i = 0; i < y[d]; ++i) map[static_cast<size_t>(d)].push_back(i % x[d]);
  }
  return WithElementSize(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:tile");
    step.run = [=](const StepArgs& a) { Remap<T>(map, x, y, a.in<T>(0), a.out<T>(0), T{}); };
    return step;
  });
}

Step MakeTrilu(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const int64_t rows = x[x.rank() - 2];
  const int64_t cols = x[x.rank() - 1];
  const bool upper = r.node->GetInt("upper", 1) != 0;
  return WithElementSize(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:trilu");
    step.run = [=](const StepArgs& a) {
      const int64_t diagonal = a.has(1) ? *a.in<int64_t>(1) : 0;
      const int64_t n = x.elements();
      for (int64_t i = 0; i < n; ++i) {
        const int64_t row = i / cols % rows;
        const int64_t ahead = i % cols - row;  // of the main diagonal
        const bool keep = upper ? ahead >= diagonal : ahead <= diagonal;
        a.out<T>(0)[i] = keep ? a.in<T>(0)[i] : T{};
      }
    };
    return step;
  });
}

}  // namespace octet::ops
