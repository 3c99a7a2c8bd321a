// Operators that map every element by itself. They run in whatever layout their input has, and over
// it. float32 Erf, Tanh, Sigmoid, Swish, HardSwish and Gelu are kernels::Map.
#include <octet/kernels.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <type_traits>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"
#include "runtime/ops/row_function.h"

namespace octet::ops {
namespace {

template <typename T>
using RangeFn = std::function<void(const T*, T*, int64_t)>;

template <typename T, typename F>
RangeFn<T> Map(F f) {
  return [f](const T* x, T* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
  };
}

constexpr double kInvSqrt2 = 0.70710678118654752440;

template <typename T>
RangeFn<T> FloatFn(const Node& node) {
  const std::string& op = node.op;
  const auto alpha = [&](float otherwise) {
    return static_cast<T>(node.GetFloat("alpha", otherwise));
  };
  const auto beta = [&](float otherwise) {
    return static_cast<T>(node.GetFloat("beta", otherwise));
  };
  const T one = 1;
  if (op == "Sigmoid") return Map<T>([=](T x) { return one / (one + std::exp(-x)); });
  if (op == "Swish") {
    return Map<T>([=, a = alpha(1.0F)](T x) { return x / (one + std::exp(-a * x)); });
  }
  if (op == "Tanh") return Map<T>([](T x) { return std::tanh(x); });
  if (op == "Exp") return Map<T>([](T x) { return std::exp(x); });
  if (op == "Log") return Map<T>([](T x) { return std::log(x); });
  if (op == "Sqrt") return Map<T>([](T x) { return std::sqrt(x); });
  if (op == "Reciprocal") return Map<T>([=](T x) { return one / x; });
  if (op == "Erf") return Map<T>([](T x) { return std::erf(x); });
  if (op == "Sin") return Map<T>([](T x) { return std::sin(x); });
  if (op == "Cos") return Map<T>([](T x) { return std::cos(x); });
  if (op == "Floor") return Map<T>([](T x) { return std::floor(x); });
  if (op == "Ceil") return Map<T>([](T x) { return std::ceil(x); });
  if (op == "Round") return Map<T>([](T x) { return std::nearbyint(x); });
  if (op == "LeakyRelu") return Map<T>([a = alpha(0.01F)](T x) { return x >= 0 ? x : a * x; });
  if (op == "ThresholdedRelu") return Map<T>([a = alpha(1.0F)](T x) { return x > a ? x : T{0}; });
  if (op == "Elu") return Map<T>([a = alpha(1.0F)](T x) { return x >= 0 ? x : a * std::expm1(x); });
  if (op == "Celu") {
    return Map<T>([a = alpha(1.0F)](T x) {
      return std::max(T{0}, x) + std::min(T{0}, a * std::expm1(x / a));
    });
  }
  if (op == "Selu") {
    const T a = alpha(1.67326319217681884765625F);
    const auto gamma = static_cast<T>(node.GetFloat("gamma", 1.05070102214813232421875F));
    return Map<T>([=](T x) { return gamma * (x > 0 ? x : a * std::expm1(x)); });
  }
  if (op == "Softplus") {  // log(1 + e^x) without overflow
    return Map<T>([](T x) { return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x))); });
  }
  if (op == "Softsign") return Map<T>([=](T x) { return x / (one + std::abs(x)); });
  if (op == "HardSigmoid") {
    const T a = alpha(0.2F);
    const T b = beta(0.5F);
    return Map<T>([=](T x) { return std::max(T{0}, std::min(one, a * x + b)); });
  }
  if (op == "HardSwish") {
    const T sixth = one / T{6};
    const T half = one / T{2};
    return Map<T>([=](T x) { return x * std::max(T{0}, std::min(one, sixth * x + half)); });
  }
  if (op == "Mish") {
    return Map<T>(
        [](T x) { return x * std::tanh(std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)))); });
  }
  if (op == "Gelu") {
    if (node.GetString("approximate", "none") == "tanh") {
      constexpr double kSqrt2OverPi = 0.79788456080286535588;
      return Map<T>([=](T x) {
        return T{0.5} * x *
               (one + std::tanh(static_cast<T>(kSqrt2OverPi) *
                                (x + static_cast<T>(0.044715) * x * x * x)));
      });
    }
    return Map<T>(
        [=](T x) { return T{0.5} * x * (one + std::erf(x * static_cast<T>(kInvSqrt2))); });
  }
  return nullptr;
}

template <typename T>
RangeFn<T> NumberFn(const Node& node) {
  const std::string& op = node.op;
  if (op == "Relu") return Map<T>([](T x) { return x > T{0} ? x : T{0}; });
  if (op == "Neg") return Map<T>([](T x) { return static_cast<T>(-x); });
  if (op == "Sign") return Map<T>([](T x) { return static_cast<T>((x > T{0}) - (x < T{0})); });
  if (op == "Abs") {
    if constexpr (std::is_unsigned_v<T>) {
      return Map<T>([](T x) { return x; });
    } else {
      return Map<T>([](T x) { return x < T{0} ? static_cast<T>(-x) : (x == T{0} ? T{0} : x); });
    }
  }
  if constexpr (std::is_floating_point_v<T>) return FloatFn<T>(node);
  return nullptr;
}

// A step that maps elements of one type; the layout is the input's.
template <typename T>
Step Elementwise(const StepRequest& r, std::string kernel, RangeFn<T> fn) {
  Step step = NewStep(r, std::move(kernel));
  step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
  step.overwrites = 0;
  const int64_t n = r.shape(0).elements();
  step.run = [n, fn = std::move(fn)](const StepArgs& a) {
    ParallelFor(n, kElementGrain, [&](int64_t begin, int64_t end) {
      fn(a.in<T>(0) + begin, a.out<T>(0) + begin, end - begin);
    });
  };
  return step;
}

}  // namespace

std::optional<kernels::Function> RowFunction(const Node& node) {
  using kernels::Function;
  if (!node.domain.empty()) return std::nullopt;
  if (node.op == "Erf") return Function::kErf;
  if (node.op == "Tanh") return Function::kTanh;
  if (node.op == "Sigmoid") return Function::kSigmoid;
  if (node.op == "HardSwish") return Function::kHardSwish;
  if (node.op == "Swish" && node.GetFloat("alpha", 1.0F) == 1.0F) return Function::kSilu;
  if (node.op != "Gelu") return std::nullopt;
  return node.GetString("approximate", "none") == "tanh" ? Function::kGeluTanh : Function::kGelu;
}

std::function<void(const float* x, float* y, int64_t n)> FloatFunction(const Node& node) {
  if (const auto function = RowFunction(node)) {
    return [f = *function](const float* x, float* y, int64_t n) { kernels::Map(f, x, n, y); };
  }
  return NumberFn<float>(node);
}

Step MakeUnary(const StepRequest& r) {
  const auto function = r.dtype(0) == DType::kFloat32 ? RowFunction(*r.node) : std::nullopt;
  if (function) {
    Step step = NewStep(r, "octet_map");
    step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
    step.overwrites = 0;
    step.run = [f = *function, n = r.shape(0).elements()](const StepArgs& a) {
      kernels::Map(f, a.in<float>(0), n, a.out<float>(0));
    };
    return step;
  }
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    RangeFn<T> fn = NumberFn<T>(*r.node);
    if (!fn) FailStep(r, Cat("element type ", NameOf(r.dtype(0)), " is not supported"));
    return Elementwise<T>(r, "octet:unary", std::move(fn));
  });
}

Step MakeClip(const StepRequest& r) {
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    // As the fused form: NaN gives the lower bound, and where bounds cross the upper one wins.
    const auto clip = [](const T* x, T* y, int64_t n, T lo, T hi) {
      for (int64_t i = 0; i < n; ++i) {
        T v = x[i];
        v = v > lo ? v : lo;
        y[i] = v < hi ? v : hi;
      }
    };
    T lo = std::numeric_limits<T>::lowest();
    T hi = std::numeric_limits<T>::max();
    if constexpr (std::is_same_v<T, float>) {
      lo = r.node->GetFloat("min", lo);
      hi = r.node->GetFloat("max", hi);
    }
    const bool known =
        (!r.has(1) || r.constant(1) != nullptr) && (!r.has(2) || r.constant(2) != nullptr);
    if (known) {
      if (const Tensor* t = r.constant(1)) lo = *static_cast<const T*>(t->raw());
      if (const Tensor* t = r.constant(2)) hi = *static_cast<const T*>(t->raw());
      return Elementwise<T>(r, "octet:clip",
                            [=](const T* x, T* y, int64_t n) { clip(x, y, n, lo, hi); });
    }
    Step step = NewStep(r, "octet:clip");
    step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
    const int64_t count = r.shape(0).elements();
    step.run = [=](const StepArgs& a) {
      clip(a.in<T>(0), a.out<T>(0), count, a.has(1) ? *a.in<T>(1) : lo,
           a.has(2) ? *a.in<T>(2) : hi);
    };
    return step;
  });
}

Step MakeNot(const StepRequest& r) {
  return Elementwise<uint8_t>(r, "octet:unary",
                              Map<uint8_t>([](uint8_t x) { return static_cast<uint8_t>(x == 0); }));
}

}  // namespace octet::ops
