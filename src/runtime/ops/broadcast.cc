#include "runtime/ops/broadcast.h"

#include <algorithm>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"

namespace octet::ops {

Broadcast PlanBroadcast(const StepRequest& r, const std::vector<size_t>& inputs, Step& step) {
  OCTET_INVARIANT(inputs.size() <= kMaxOperands);
  const Shape& out = r.outputs[0].shape;
  const int rank = out.rank();
  Layout layout = Layout::kPlain;
  if (rank == 4 && !LayoutsCoincide(out)) {
    for (size_t i : inputs) {
      if (OffersChannelsLast(r, i)) layout = Layout::kChannelsLast;
    }
  }
  step.output_layouts[0] = layout;

  // Logical strides of every operand, 0 where it is broadcast.
  std::vector<std::array<int64_t, kMaxOperands>> strides(static_cast<size_t>(rank));
  for (size_t k = 0; k < inputs.size(); ++k) {
    const Shape& s = r.shape(inputs[k]);
    const bool follows = s.rank() == 4 && layout == Layout::kChannelsLast && !LayoutsCoincide(s);
    step.input_layouts[inputs[k]] = follows ? Layout::kChannelsLast : Layout::kPlain;
    const auto own = StridesOf(s, step.input_layouts[inputs[k]]);
    for (int d = 0; d < s.rank(); ++d) {
      const auto at = static_cast<size_t>(rank - s.rank() + d);
      if (s[d] != 1) {
        strides[at][k] = own[static_cast<size_t>(d)];
      } else {
        strides[at][k] = 0;
      }
    }
  }
  std::vector<int> order(static_cast<size_t>(rank));
  for (int i = 0; i < rank; ++i) order[static_cast<size_t>(i)] = i;
  if (layout == Layout::kChannelsLast) order = {0, 2, 3, 1};

  Broadcast b;
  for (int d : order) {
    const int64_t size = out[d];
    if (size == 1) continue;
    const auto& stride = strides[static_cast<size_t>(d)];
    // Collapses into the dimension before where stepping over it equals running through this one.
    bool joins = !b.dims.empty();
    for (size_t k = 0; joins && k < inputs.size(); ++k)
      joins = b.strides.back()[k] == stride[k] * size;
    if (joins) {
      b.dims.back() *= size;
      b.strides.back() = stride;
    } else {
      b.dims.push_back(size);
      b.strides.push_back(stride);
    }
  }
  if (b.dims.empty()) {
    b.dims.push_back(1);
    b.strides.push_back({});
  }
  return b;
}

void Broadcast::ForEachRow(const RowFn& body) const {
  int64_t total = 1;
  for (int64_t d : dims) total *= d;
  ParallelFor(total, kElementGrain, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> index(dims.size());
    std::array<int64_t, kMaxOperands> offset{};
    int64_t rest = begin;
    for (size_t d = dims.size(); d-- > 0;) {
      index[d] = rest % dims[d];
      rest /= dims[d];
      for (size_t k = 0; k < kMaxOperands; ++k) offset[k] += index[d] * strides[d][k];
    }
    const size_t inner = dims.size() - 1;
    while (begin < end) {
      const int64_t count = std::min(end - begin, dims[inner] - index[inner]);
      body(begin, offset, count);
      begin += count;
      // To the start of the next row.
      for (size_t k = 0; k < kMaxOperands; ++k) offset[k] -= index[inner] * strides[inner][k];
      index[inner] = 0;
      for (size_t d = inner; d-- > 0;) {
        for (size_t k = 0; k < kMaxOperands; ++k) offset[k] += strides[d][k];
        if (++index[d] < dims[d]) break;
        for (size_t k = 0; k < kMaxOperands; ++k) offset[k] -= index[d] * strides[d][k];
        index[d] = 0;
      }
    }
  });
}

}  // namespace octet::ops
