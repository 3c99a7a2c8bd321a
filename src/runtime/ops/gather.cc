// Gather and Scatter in their forms: elements of any type, chosen by index. Indices are int32 or
// int64, negative ones count from the end; one out of range is an error, for it comes from data.
#include <cstring>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

// Reads indices of either type, checked.
class Indices {
 public:
  Indices(const StepRequest& r, size_t input)
      : input_(input), wide_(r.dtype(input) == DType::kInt64), name_(r.node->name) {
    if (!wide_ && r.dtype(input) != DType::kInt32) {
      FailStep(r, Cat("indices are ", NameOf(r.dtype(input)), ", expected int32 or int64"));
    }
  }
  [[nodiscard]] int64_t At(const StepArgs& a, int64_t i, int64_t size) const {
    const int64_t given = wide_ ? a.in<int64_t>(input_)[i] : a.in<int32_t>(input_)[i];
    const int64_t index = given < 0 ? given + size : given;
    if (index < 0 || index >= size) {
      Fail(ErrorCode::kBadData, "run: node '", name_, "': index ", given,
           " is outside a dimension of size ", size);
    }
    return index;
  }

 private:
  size_t input_;
  bool wide_;
  std::string name_;
};

// The reduction attribute of scatters: y = reduce(y, x).
enum class Reduction { kNone, kAdd, kMul, kMin, kMax };

Reduction ReductionOf(const StepRequest& r) {
  const std::string name = r.node->GetString("reduction", "none");
  if (name == "none") return Reduction::kNone;
  if (name == "add") return Reduction::kAdd;
  if (name == "mul") return Reduction::kMul;
  if (name == "min") return Reduction::kMin;
  if (name == "max") return Reduction::kMax;
  FailStep(r, Cat("reduction '", name, "' is not known"));
}

template <typename T>
void Combine(Reduction reduction, T& y, T x) {
  switch (reduction) {
    case Reduction::kNone:
      y = x;
      return;
    case Reduction::kAdd:
      y = static_cast<T>(y + x);
      return;
    case Reduction::kMul:
      y = static_cast<T>(y * x);
      return;
    case Reduction::kMin:
      y = x < y ? x : y;
      return;
    case Reduction::kMax:
      y = x > y ? x : y;
      return;
  }
}

}  // namespace

Step MakeGather(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const int axis = Axis(r, r.node->GetInt("axis", 0), x.rank());
  const int64_t outer = x.product(0, axis);
  const int64_t size = x[axis];
  const int64_t bytes = x.product(axis + 1, x.rank()) * SizeOf(r.dtype(0));
  const int64_t count = r.shape(1).elements();
  Step step = NewStep(r, "octet:gather");
  step.run = [=, indices = Indices(r, 1)](const StepArgs& a) {
    const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, bytes));
    ParallelFor(outer * count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t index = indices.At(a, i % count, size);
        std::memcpy(a.out<char>(0) + i * bytes, a.in<char>(0) + (i / count * size + index) * bytes,
                    static_cast<size_t>(bytes));
      }
    });
  };
  return step;
}

Step MakeGatherElements(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& y = r.outputs[0].shape;
  const int axis = Axis(r, r.node->GetInt("axis", 0), x.rank());
  const auto strides = StridesOf(x, Layout::kPlain);
  return WithElementSize(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:gather_elements");
    step.run = [=, indices = Indices(r, 1)](const StepArgs& a) {
      const int64_t n = y.elements();
      for (int64_t i = 0; i < n; ++i) {
        int64_t rest = i;
        int64_t at = indices.At(a, i, x[axis]) * strides[static_cast<size_t>(axis)];
        for (int d = y.rank() - 1; d >= 0; --d) {
          if (d != axis) at += rest % y[d] * strides[static_cast<size_t>(d)];
          rest /= y[d];
        }
        a.out<T>(0)[i] = a.in<T>(0)[at];
      }
    };
    return step;
  });
}

Step MakeGatherNd(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& index_shape = r.shape(1);
  const auto batch = static_cast<int>(r.node->GetInt("batch_dims", 0));
  const int depth = static_cast<int>(index_shape[index_shape.rank() - 1]);
  if (batch < 0 || batch + depth > x.rank())
    FailStep(r, "indices reach beyond the rank of the data");
  const int64_t batches = x.product(0, batch);
  const int64_t batch_elements = x.product(batch, x.rank());
  const int64_t bytes = x.product(batch + depth, x.rank()) * SizeOf(r.dtype(0));
  const int64_t tuples = index_shape.product(0, index_shape.rank() - 1);
  const int64_t element = SizeOf(r.dtype(0));
  const auto strides = StridesOf(x, Layout::kPlain);
  Step step = NewStep(r, "octet:gather_nd");
  step.run = [=, indices = Indices(r, 1)](const StepArgs& a) {
    for (int64_t t = 0; t < tuples; ++t) {
      int64_t at =
          t / std::max<int64_t>(1, tuples / std::max<int64_t>(1, batches)) * batch_elements;
      for (int d = 0; d < depth; ++d) {
        at += indices.At(a, t * depth + d, x[batch + d]) * strides[static_cast<size_t>(batch + d)];
      }
      std::memcpy(a.out<char>(0) + t * bytes, a.in<char>(0) + at * element,
                  static_cast<size_t>(bytes));
    }
  };
  return step;
}

Step MakeScatterElements(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& s = r.shape(1);
  const int axis = Axis(r, r.node->GetInt("axis", 0), x.rank());
  const auto strides = StridesOf(x, Layout::kPlain);
  const Reduction reduction = ReductionOf(r);
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:scatter_elements");
    step.run = [=, indices = Indices(r, 1)](const StepArgs& a) {
      std::memcpy(a.outputs[0].raw, a.inputs[0].raw, static_cast<size_t>(a.outputs[0].bytes()));
      const int64_t n = s.elements();
      for (int64_t i = 0; i < n; ++i) {
        int64_t rest = i;
        int64_t at = indices.At(a, i, x[axis]) * strides[static_cast<size_t>(axis)];
        for (int d = s.rank() - 1; d >= 0; --d) {
          if (d != axis) at += rest % s[d] * strides[static_cast<size_t>(d)];
          rest /= s[d];
        }
        Combine(reduction, a.out<T>(0)[at], a.in<T>(2)[i]);
      }
    };
    return step;
  });
}

Step MakeScatterNd(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const Shape& index_shape = r.shape(1);
  const int depth = static_cast<int>(index_shape[index_shape.rank() - 1]);
  if (depth > x.rank()) FailStep(r, "indices reach beyond the rank of the data");
  const int64_t row = x.product(depth, x.rank());
  const int64_t tuples = index_shape.product(0, index_shape.rank() - 1);
  const auto strides = StridesOf(x, Layout::kPlain);
  const Reduction reduction = ReductionOf(r);
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:scatter_nd");
    step.run = [=, indices = Indices(r, 1)](const StepArgs& a) {
      std::memcpy(a.outputs[0].raw, a.inputs[0].raw, static_cast<size_t>(a.outputs[0].bytes()));
      for (int64_t t = 0; t < tuples; ++t) {
        int64_t at = 0;
        for (int d = 0; d < depth; ++d) {
          at += indices.At(a, t * depth + d, x[d]) * strides[static_cast<size_t>(d)];
        }
        for (int64_t i = 0; i < row; ++i)
          Combine(reduction, a.out<T>(0)[at + i], a.in<T>(2)[t * row + i]);
      }
    };
    return step;
  });
}

}  // namespace octet::ops
