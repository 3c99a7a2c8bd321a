// Reductions over axes, ArgMax and ArgMin, CumSum, TopK. Each result is computed by one thread in a
// fixed order; sums of floats are kept in double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

// Splits the dimensions into kept and reduced ones, each with sizes and strides of the input.
struct Split {
  std::vector<int64_t> kept, kept_strides, reduced, reduced_strides;
  int64_t outputs = 1, terms = 1;
  bool nothing = false;  // no axes and noop_with_empty_axes: every element by itself
};

Split SplitAxes(const StepRequest& r) {
  const Shape& x = r.shape(0);
  std::vector<int64_t> axes = r.has(1) ? ConstantInts(r, 1) : r.node->GetInts("axes", {});
  Split s;
  if (axes.empty()) {
    s.nothing = r.node->GetInt("noop_with_empty_axes", 0) != 0;
    if (!s.nothing) {
      axes.resize(static_cast<size_t>(x.rank()));
      std::iota(axes.begin(), axes.end(), int64_t{0});
    }
  }
  std::vector<bool> reduce(static_cast<size_t>(x.rank()), false);
  for (int64_t a : axes) reduce[static_cast<size_t>(Axis(r, a, x.rank()))] = true;
  // Read in whatever layout it has; the output is written in logical order.
  const auto strides = StridesOf(x, r.inputs[0].layout);
  for (int d = 0; d < x.rank(); ++d) {
    const auto i = static_cast<size_t>(d);
    (reduce[i] ? s.reduced : s.kept).push_back(x[d]);
    (reduce[i] ? s.reduced_strides : s.kept_strides).push_back(strides[i]);
    (reduce[i] ? s.terms : s.outputs) *= x[d];
  }
  return s;
}

// Input offsets of every combination of indices over these dimensions, in row-major order.
std::vector<int64_t> Offsets(const std::vector<int64_t>& dims,
                             const std::vector<int64_t>& strides) {
  std::vector<int64_t> offsets = {0};
  for (size_t d = 0; d < dims.size(); ++d) {
    std::vector<int64_t> next;
    next.reserve(offsets.size() * static_cast<size_t>(dims[d]));
    for (int64_t base : offsets) {
      for (int64_t i = 0; i < dims[d]; ++i) next.push_back(base + i * strides[d]);
    }
    offsets = std::move(next);
  }
  return offsets;
}

enum class Reduction { kSum, kMean, kMax, kMin, kProd, kL1, kL2, kSumSquare, kLogSum, kLogSumExp };

Reduction ReductionOf(const StepRequest& r) {
  const std::string& op = r.node->op;
  if (op == "ReduceSum") return Reduction::kSum;
  if (op == "ReduceMean") return Reduction::kMean;
  if (op == "ReduceMax") return Reduction::kMax;
  if (op == "ReduceMin") return Reduction::kMin;
  if (op == "ReduceProd") return Reduction::kProd;
  if (op == "ReduceL1") return Reduction::kL1;
  if (op == "ReduceL2") return Reduction::kL2;
  if (op == "ReduceSumSquare") return Reduction::kSumSquare;
  if (op == "ReduceLogSum") return Reduction::kLogSum;
  OCTET_INVARIANT(op == "ReduceLogSumExp");
  return Reduction::kLogSumExp;
}

// Reduces `n` elements at x[offsets[i]].
template <typename T>
T ReduceOne(Reduction kind, const T* x, const int64_t* offsets, int64_t n) {
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;
  if (kind == Reduction::kMax || kind == Reduction::kMin) {
    constexpr bool kHasInfinity = std::is_floating_point_v<T>;
    T best = kind == Reduction::kMax ? (kHasInfinity ? -std::numeric_limits<T>::infinity()
                                                     : std::numeric_limits<T>::lowest())
                                     : (kHasInfinity ? std::numeric_limits<T>::infinity()
                                                     : std::numeric_limits<T>::max());
    for (int64_t i = 0; i < n; ++i) {
      const T v = x[offsets[i]];
      if constexpr (kHasInfinity) {
        if (std::isnan(v)) return v;
      }
      best = kind == Reduction::kMax ? std::max(best, v) : std::min(best, v);
    }
    return best;
  }
  if (kind == Reduction::kLogSumExp) {
    double largest = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, static_cast<double>(x[offsets[i]]));
    if (!std::isfinite(largest)) return static_cast<T>(largest);
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[offsets[i]]) - largest);
    return static_cast<T>(largest + std::log(sum));
  }
  Sum sum = kind == Reduction::kProd ? Sum{1} : Sum{0};
  for (int64_t i = 0; i < n; ++i) {
    const auto v = static_cast<Sum>(x[offsets[i]]);
    switch (kind) {
      case Reduction::kProd:
        sum *= v;
        break;
      case Reduction::kL1:
        sum += v < 0 ? -v : v;
        break;
      case Reduction::kL2:
      case Reduction::kSumSquare:
        sum += v * v;
        break;
      default:
        sum += v;
    }
  }
  if (kind == Reduction::kMean) return static_cast<T>(sum / static_cast<Sum>(n));
  if (kind == Reduction::kL2) return static_cast<T>(std::sqrt(static_cast<double>(sum)));
  if (kind == Reduction::kLogSum) return static_cast<T>(std::log(static_cast<double>(sum)));
  return static_cast<T>(sum);
}

}  // namespace

Step MakeReduce(const StepRequest& r) {
  const Split s = SplitAxes(r);
  const Reduction kind = ReductionOf(r);
  Step step = NewStep(r, "octet:reduce");
  step.input_layouts[0] = r.inputs[0].layout;
  if (s.nothing &&
      (kind == Reduction::kSum || kind == Reduction::kMean || kind == Reduction::kMax ||
       kind == Reduction::kMin || kind == Reduction::kProd)) {
    step.output_layouts[0] = r.inputs[0].layout;
    step.alias = 0;
    return step;
  }
  if (kind == Reduction::kMean && s.terms == 0 && IsInteger(r.dtype(0)))
    FailStep(r, "mean of no integers");
  const auto outer = Offsets(s.kept, s.kept_strides);
  const auto inner = Offsets(s.reduced, s.reduced_strides);
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, s.terms));
    step.run = [=, outputs = s.outputs, terms = s.terms](const StepArgs& a) {
      ParallelFor(outputs, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          a.out<T>(0)[i] =
              ReduceOne(kind, a.in<T>(0) + outer[static_cast<size_t>(i)], inner.data(), terms);
        }
      });
    };
    return step;
  });
}

Step MakeArg(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const int axis = Axis(r, r.node->GetInt("axis", 0), x.rank());
  const int64_t outer = x.product(0, axis);
  const int64_t size = x[axis];
  const int64_t inner = x.product(axis + 1, x.rank());
  const bool last = r.node->GetInt("select_last_index", 0) != 0;
  const bool largest = r.node->op == "ArgMax";
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:arg");
    step.run = [=](const StepArgs& a) {
      for (int64_t i = 0; i < outer * inner; ++i) {
        const T* from = a.in<T>(0) + i / inner * size * inner + i % inner;
        int64_t best = 0;
        for (int64_t k = 1; k < size; ++k) {
          const T v = from[k * inner];
          const T b = from[best * inner];
          if ((largest ? v > b : v < b) || (last && v == b)) best = k;
        }
        a.out<int64_t>(0)[i] = best;
      }
    };
    return step;
  });
}

Step MakeCumSum(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const std::vector<int64_t> axes = ConstantInts(r, 1);
  if (axes.size() != 1) FailStep(r, Cat("axis has ", axes.size(), " elements, expected 1"));
  const int axis = Axis(r, axes[0], x.rank());
  const int64_t outer = x.product(0, axis);
  const int64_t size = x[axis];
  const int64_t inner = x.product(axis + 1, x.rank());
  const bool exclusive = r.node->GetInt("exclusive", 0) != 0;
  const bool reverse = r.node->GetInt("reverse", 0) != 0;
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:cumsum");
    step.run = [=](const StepArgs& a) {
      for (int64_t i = 0; i < outer * inner; ++i) {
        const int64_t base = i / inner * size * inner + i % inner;
        T sum{};
        for (int64_t k = 0; k < size; ++k) {
          const int64_t at = base + (reverse ? size - 1 - k : k) * inner;
          const T v = a.in<T>(0)[at];
          if (exclusive) a.out<T>(0)[at] = sum;
          sum = static_cast<T>(sum + v);
          if (!exclusive) a.out<T>(0)[at] = sum;
        }
      }
    };
    return step;
  });
}

// Equal values keep the order of their indices.
Step MakeTopK(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const int axis = Axis(r, r.node->GetInt("axis", -1), x.rank());
  const int64_t outer = x.product(0, axis);
  const int64_t size = x[axis];
  const int64_t inner = x.product(axis + 1, x.rank());
  const int64_t k = r.outputs[0].present ? r.outputs[0].shape[axis] : r.outputs[1].shape[axis];
  const bool largest = r.node->GetInt("largest", 1) != 0;
  const bool with_values = r.outputs[0].present;
  const bool with_indices = r.outputs.size() > 1 && r.outputs[1].present;
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:topk");
    step.run = [=](const StepArgs& a) {
      std::vector<int64_t> order(static_cast<size_t>(size));
      for (int64_t i = 0; i < outer * inner; ++i) {
        const T* from = a.in<T>(0) + i / inner * size * inner + i % inner;
        std::iota(order.begin(), order.end(), int64_t{0});
        std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t p, int64_t q) {
          const T v = from[p * inner];
          const T w = from[q * inner];
          return v == w ? p < q : (largest ? v > w : v < w);
        });
        for (int64_t j = 0; j < k; ++j) {
          const int64_t at = i / inner * k * inner + j * inner + i % inner;
          if (with_values) a.out<T>(0)[at] = from[order[static_cast<size_t>(j)] * inner];
          if (with_indices) a.out<int64_t>(1)[at] = order[static_cast<size_t>(j)];
        }
      }
    };
    return step;
  });
}

}  // namespace octet::ops
