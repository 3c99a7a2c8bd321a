// OneHot: the second of two values where the new axis' index is the given one, else the first.
// Negative indices count from the end; one out of range gives the first value everywhere.
#include <algorithm>

#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

// indices (outer, inner), y (outer, depth, inner).
struct OneHotShape {
  int64_t outer, depth, inner;
};

template <typename Index, typename T>
void Mark(const OneHotShape& s, const Index* indices, const T* values, T* y) {
  std::fill(y, y + s.outer * s.depth * s.inner, values[0]);
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t i = 0; i < s.inner; ++i) {
      // Floats are truncated; what int64 cannot hold (NaN as well) is out of range.
      const auto given = static_cast<double>(indices[o * s.inner + i]);
      if (!(given >= -static_cast<double>(s.depth) && given < static_cast<double>(s.depth)))
        continue;
      const auto index = static_cast<int64_t>(given);
      y[(o * s.depth + (index < 0 ? index + s.depth : index)) * s.inner + i] = values[1];
    }
  }
}

}  // namespace

Step MakeOneHot(const StepRequest& r) {
  const Shape& indices = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  if (r.shape(2).elements() != 2) {
    FailStep(r, Cat("values are ", r.shape(2).ToString(), ", expected an off and an on value"));
  }
  const int axis = Axis(r, r.node->GetInt("axis", -1), y.rank());
  const OneHotShape shape{indices.product(0, axis), y[axis], indices.product(axis, indices.rank())};
  Step step = NewStep(r, "octet:onehot");
  WithNumber(r, r.dtype(0), [&](auto index) {
    WithElementSize(r, r.dtype(2), [&](auto element) {
      using Index = decltype(index);
      using T = decltype(element);
      step.run = [shape](const StepArgs& a) {
        Mark(shape, a.in<Index>(0), a.in<T>(2), a.out<T>(0));
      };
    });
  });
  return step;
}

}  // namespace octet::ops
