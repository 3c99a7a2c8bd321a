// Operators of two and more operands with numpy broadcasting: arithmetic, comparison, logic, Where,
// PRelu.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/parallel.h"
#include "runtime/ops/broadcast.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

// Calls f(a[i], b[i]) for a row; the usual strides have loops a compiler can vectorise.
template <typename T, typename Out, typename F>
void Row(const T* a, int64_t sa, const T* b, int64_t sb, Out* y, int64_t n, F f) {
  if (sa == 1 && sb == 1) {
    for (int64_t i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
  } else if (sa == 1 && sb == 0) {
    const T v = *b;
    for (int64_t i = 0; i < n; ++i) y[i] = f(a[i], v);
  } else if (sa == 0 && sb == 1) {
    const T v = *a;
    for (int64_t i = 0; i < n; ++i) y[i] = f(v, b[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = f(a[i * sa], b[i * sb]);
  }
}

template <typename T, typename Out, typename F>
Step TwoOperands(const StepRequest& r, F f) {
  Step step = NewStep(r, "octet:binary");
  const Broadcast b = PlanBroadcast(r, {0, 1}, step);
  // An operand of the output's own shape may be overwritten.
  if constexpr (sizeof(T) == sizeof(Out)) {
    if (r.shape(0) == r.outputs[0].shape) {
      step.overwrites = 0;
    } else if (r.shape(1) == r.outputs[0].shape) {
      step.overwrites = 1;
    }
  }
  step.run = [b, f](const StepArgs& a) {
    b.ForEachRow([&](int64_t at, const std::array<int64_t, kMaxOperands>& offset, int64_t n) {
      Row(a.in<T>(0) + offset[0], b.stride(0), a.in<T>(1) + offset[1], b.stride(1),
          a.out<Out>(0) + at, n, f);
    });
  };
  return step;
}

template <typename T>
T IntegerPower(T base, T exponent) {
  if constexpr (std::is_signed_v<T>) {
    if (exponent < 0)
      return base == 1 ? T{1} : base == -1 ? (exponent % 2 == 0 ? T{1} : T{-1}) : T{0};
  }
  // Wraps as the type does: unsigned arithmetic has no undefined overflow.
  uint64_t result = 1;
  auto factor = static_cast<uint64_t>(base);
  for (auto e = static_cast<uint64_t>(exponent); e != 0; e >>= 1) {
    if ((e & 1U) != 0) result *= factor;
    factor *= factor;
  }
  return static_cast<T>(result);
}

// Integer arithmetic wraps; done in an unsigned type at least as wide as int.
template <typename T>
using Wide = std::conditional_t<std::is_floating_point_v<T>, T,
                                std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>>;

template <typename T>
Step Arithmetic(const StepRequest& r) {
  const std::string& op = r.node->op;
  using W = Wide<T>;
  const auto w = [](T v) { return static_cast<W>(v); };
  if (op == "Add")
    return TwoOperands<T, T>(r, [=](T a, T b) { return static_cast<T>(w(a) + w(b)); });
  if (op == "Sub")
    return TwoOperands<T, T>(r, [=](T a, T b) { return static_cast<T>(w(a) - w(b)); });
  if (op == "Mul")
    return TwoOperands<T, T>(r, [=](T a, T b) { return static_cast<T>(w(a) * w(b)); });
  if (op == "Div") {
    return TwoOperands<T, T>(r, [](T a, T b) {
      if constexpr (std::is_floating_point_v<T>) {
        return a / b;
      } else {
        if (b == 0) return T{0};  // ONNX leaves it open; the processor would trap
        if constexpr (std::is_signed_v<T>) {
          if (b == -1)
            return static_cast<T>(Wide<T>{0} - static_cast<Wide<T>>(a));  // lowest / -1 overflows
        }
        return static_cast<T>(a / b);
      }
    });
  }
  if (op == "Mod") {
    const bool fmod = r.node->GetInt("fmod", 0) != 0;
    return TwoOperands<T, T>(r, [fmod](T a, T b) {
      if constexpr (std::is_floating_point_v<T>) {
        OCTET_INVARIANT(fmod);  // shape inference refuses the other form for floats
        return std::fmod(a, b);
      } else {
        static_cast<void>(fmod);  // unsigned: both forms agree
        if (b == 0) return T{0};
        if constexpr (std::is_signed_v<T>) {
          if (b == -1) return T{0};
          const T m = static_cast<T>(a % b);
          return !fmod && m != 0 && (m < 0) != (b < 0) ? static_cast<T>(m + b) : m;
        } else {
          return static_cast<T>(a % b);
        }
      }
    });
  }
  if (op == "Pow") {
    return TwoOperands<T, T>(r, [](T a, T b) {
      if constexpr (std::is_floating_point_v<T>) {
        return b == T{2} ? a * a : std::pow(a, b);
      } else {
        return IntegerPower(a, b);
      }
    });
  }
  if (op == "Equal")
    return TwoOperands<T, uint8_t>(r, [](T a, T b) { return static_cast<uint8_t>(a == b); });
  if (op == "Less")
    return TwoOperands<T, uint8_t>(r, [](T a, T b) { return static_cast<uint8_t>(a < b); });
  if (op == "Greater")
    return TwoOperands<T, uint8_t>(r, [](T a, T b) { return static_cast<uint8_t>(a > b); });
  if (op == "LessOrEqual")
    return TwoOperands<T, uint8_t>(r, [](T a, T b) { return static_cast<uint8_t>(a <= b); });
  if (op == "GreaterOrEqual") {
    return TwoOperands<T, uint8_t>(r, [](T a, T b) { return static_cast<uint8_t>(a >= b); });
  }
  if constexpr (std::is_same_v<T, uint8_t>) {  // bool
    if (op == "And")
      return TwoOperands<T, T>(r, [](T a, T b) { return static_cast<T>((a != 0) & (b != 0)); });
    if (op == "Or")
      return TwoOperands<T, T>(r, [](T a, T b) { return static_cast<T>((a != 0) | (b != 0)); });
    if (op == "Xor")
      return TwoOperands<T, T>(r, [](T a, T b) { return static_cast<T>((a != 0) ^ (b != 0)); });
  }
  FailStep(r, Cat("element type ", NameOf(r.dtype(0)), " is not supported"));
}

// ONNX: a NaN on either side gives NaN.
template <typename T>
T MinOf(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a)) return a;
  }
  return a < b ? a : b;
}
template <typename T>
T MaxOf(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a)) return a;
  }
  return a > b ? a : b;
}

}  // namespace

Step MakeBinary(const StepRequest& r) {
  // Exponents may have a type of their own.
  if (r.node->op == "Pow" && r.dtype(0) != r.dtype(1)) {
    return WithNumber(r, r.dtype(0), [&](auto base) {
      using T = decltype(base);
      return WithNumber(r, r.dtype(1), [&](auto exponent) {
        using E = decltype(exponent);
        Step step = NewStep(r, "octet:pow");
        const Broadcast b = PlanBroadcast(r, {0, 1}, step);
        step.run = [b](const StepArgs& a) {
          b.ForEachRow([&](int64_t at, const std::array<int64_t, kMaxOperands>& offset, int64_t n) {
            const T* x = a.in<T>(0) + offset[0];
            const E* e = a.in<E>(1) + offset[1];
            for (int64_t i = 0; i < n; ++i) {
              const auto v = std::pow(static_cast<double>(x[i * b.stride(0)]),
                                      static_cast<double>(e[i * b.stride(1)]));
              a.out<T>(0)[at + i] = static_cast<T>(v);
            }
          });
        };
        return step;
      });
    });
  }
  return WithNumber(r, r.dtype(0), [&](auto zero) { return Arithmetic<decltype(zero)>(r); });
}

// Min, Max, Sum, Mean of any number of operands: the first is broadcast into the output, then each
// next one is combined with it.
Step MakeVariadic(const StepRequest& r) {
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    const std::string& op = r.node->op;
    Step step = NewStep(r, "octet:variadic");
    std::vector<Broadcast> loops;
    for (size_t i = 0; i < r.inputs.size(); ++i) loops.push_back(PlanBroadcast(r, {i}, step));
    // Every operand in the output's layout: plain, unless all offer channels-last.
    bool channels_last = true;
    for (size_t i = 0; i < r.inputs.size(); ++i)
      channels_last = channels_last && OffersChannelsLast(r, i);
    if (!channels_last) {
      StepRequest plain = r;
      for (InputInfo& input : plain.inputs) input.layout = Layout::kPlain;
      for (size_t i = 0; i < r.inputs.size(); ++i) loops[i] = PlanBroadcast(plain, {i}, step);
    }
    enum class Kind {
      kMin,
      kMax,
      kSum
    } kind = op == "Min"   ? Kind::kMin
             : op == "Max" ? Kind::kMax
                           : Kind::kSum;
    const bool mean = op == "Mean";
    const auto count = static_cast<T>(r.inputs.size());
    step.run = [=](const StepArgs& a) {
      T* y = a.out<T>(0);
      for (size_t k = 0; k < loops.size(); ++k) {
        const int64_t s = loops[k].stride(0);
        loops[k].ForEachRow(
            [&](int64_t at, const std::array<int64_t, kMaxOperands>& offset, int64_t n) {
              const T* x = a.in<T>(k) + offset[0];
              T* row = y + at;
              if (k == 0) {
                for (int64_t i = 0; i < n; ++i) row[i] = x[i * s];
              } else if (kind == Kind::kMin) {
                for (int64_t i = 0; i < n; ++i) row[i] = MinOf(x[i * s], row[i]);
              } else if (kind == Kind::kMax) {
                for (int64_t i = 0; i < n; ++i) row[i] = MaxOf(x[i * s], row[i]);
              } else {
                for (int64_t i = 0; i < n; ++i) row[i] = static_cast<T>(row[i] + x[i * s]);
              }
              if (mean && k + 1 == loops.size()) {
                for (int64_t i = 0; i < n; ++i) row[i] = static_cast<T>(row[i] / count);
              }
            });
      }
    };
    return step;
  });
}

Step MakeWhere(const StepRequest& r) {
  return WithElementSize(r, r.dtype(1), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:where");
    const Broadcast b = PlanBroadcast(r, {0, 1, 2}, step);
    step.run = [b](const StepArgs& a) {
      b.ForEachRow([&](int64_t at, const std::array<int64_t, kMaxOperands>& offset, int64_t n) {
        const uint8_t* c = a.in<uint8_t>(0) + offset[0];
        const T* x = a.in<T>(1) + offset[1];
        const T* z = a.in<T>(2) + offset[2];
        T* y = a.out<T>(0) + at;
        for (int64_t i = 0; i < n; ++i)
          y[i] = c[i * b.stride(0)] != 0 ? x[i * b.stride(1)] : z[i * b.stride(2)];
      });
    };
    return step;
  });
}

Step MakePRelu(const StepRequest& r) {
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    return TwoOperands<T, T>(r,
                             [](T x, T slope) { return x < T{0} ? static_cast<T>(x * slope) : x; });
  });
}

Step MakeExpand(const StepRequest& r) {
  return WithElementSize(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:expand");
    const Broadcast b = PlanBroadcast(r, {0}, step);
    step.run = [b](const StepArgs& a) {
      b.ForEachRow([&](int64_t at, const std::array<int64_t, kMaxOperands>& offset, int64_t n) {
        const T* x = a.in<T>(0) + offset[0];
        T* y = a.out<T>(0) + at;
        if (b.stride(0) == 0) {
          std::fill(y, y + n, *x);
        } else {
          for (int64_t i = 0; i < n; ++i) y[i] = x[i * b.stride(0)];
        }
      });
    };
    return step;
  });
}

}  // namespace octet::ops
