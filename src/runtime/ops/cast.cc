// Cast between number types, as ONNX: to integers by truncation (out of range saturates; NaN is 0,
// which ONNX leaves open), to bool by "is not zero", to float16 and bfloat16 by rounding to nearest
// even.
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

float HalfToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000U) << 16;
  const uint32_t exponent = (h >> 10) & 0x1FU;
  const uint32_t mantissa = h & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: mantissa x 2^-24
    const float v = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -v : v;
  }
  const uint32_t e = exponent == 31 ? 255U : exponent + 112U;  // bias 15 -> 127
  return std::bit_cast<float>(sign | (e << 23) | (mantissa << 13));
}

uint16_t FloatToHalf(float f) {
  const auto bits = std::bit_cast<uint32_t>(f);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);  // NaN
  if (magnitude >= 0x477FF000U)
    return static_cast<uint16_t>(sign | 0x7C00U);  // 65520 and above: infinity
  if (magnitude <
      0x38800000U) {  // below 2^-14: units of 2^-24; the addition rounds to nearest even
    const float rounded =
        std::bit_cast<float>(magnitude) + 0.5F;  // 0.5 has 2^-24 as its last place
    return static_cast<uint16_t>(
        sign | (std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(0.5F)));
  }
  const uint32_t odd = (magnitude >> 13) & 1U;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000U + 0xFFFU + odd) >> 13));
}

float Bfloat16ToFloat(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

uint16_t FloatToBfloat16(float f) {
  const auto bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

template <typename To, typename From>
To Convert(From x) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(x)) return To{0};
    // 2^digits is exact in every float type, unlike the maximum itself.
    const From limit = std::ldexp(From{1}, std::numeric_limits<To>::digits);
    if (x >= limit) return std::numeric_limits<To>::max();
    if (x <= (std::is_signed_v<To> ? -limit : From{0})) return std::numeric_limits<To>::lowest();
    return static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

using ConvertFn = void (*)(const void*, void*, int64_t);

template <typename From, typename To>
void ConvertRange(const void* x, void* y, int64_t n) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = Convert<To>(from[i]);
}

template <typename From>
void ToBool(const void* x, void* y, int64_t n) {
  const From* from = static_cast<const From*>(x);
  auto* to = static_cast<uint8_t*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] != From{0} ? 1 : 0;
}

template <typename To, auto kDecode>
void FromShort(const void* x, void* y, int64_t n) {
  const auto* from = static_cast<const uint16_t*>(x);
  To* to = static_cast<To*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = Convert<To>(kDecode(from[i]));
}

template <typename From, auto kEncode>
void ToShort(const void* x, void* y, int64_t n) {
  const From* from = static_cast<const From*>(x);
  auto* to = static_cast<uint16_t*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = kEncode(static_cast<float>(from[i]));
}

bool IsShort(DType dtype) { return dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

ConvertFn Choose(const StepRequest& r, DType from, DType to) {
  if (IsShort(from) && IsShort(to)) {
    if (from == DType::kFloat16) {
      return [](const void* x, void* y, int64_t n) {
        for (int64_t i = 0; i < n; ++i) {
          static_cast<uint16_t*>(y)[i] =
              FloatToBfloat16(HalfToFloat(static_cast<const uint16_t*>(x)[i]));
        }
      };
    }
    return [](const void* x, void* y, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        static_cast<uint16_t*>(y)[i] =
            FloatToHalf(Bfloat16ToFloat(static_cast<const uint16_t*>(x)[i]));
      }
    };
  }
  if (IsShort(from)) {
    if (to == DType::kBool) FailStep(r, "Cast from a 16-bit float to bool is not supported");
    return WithNumber(r, to, [&](auto t) -> ConvertFn {
      using To = decltype(t);
      return from == DType::kFloat16 ? &FromShort<To, HalfToFloat>
                                     : &FromShort<To, Bfloat16ToFloat>;
    });
  }
  return WithNumber(r, from, [&](auto f) -> ConvertFn {
    using From = decltype(f);
    if (to == DType::kBool) return &ToBool<From>;
    if (to == DType::kFloat16) return &ToShort<From, FloatToHalf>;
    if (to == DType::kBFloat16) return &ToShort<From, FloatToBfloat16>;
    return WithNumber(r, to, [](auto t) -> ConvertFn { return &ConvertRange<From, decltype(t)>; });
  });
}

}  // namespace

Step MakeCast(const StepRequest& r) {
  const DType from = r.dtype(0);
  const DType to = r.outputs[0].dtype;
  Step step = NewStep(r, "octet:cast");
  step.input_layouts[0] = step.output_layouts[0] = r.inputs[0].layout;
  if (from == to) {
    step.alias = 0;
    return step;
  }
  const ConvertFn convert = Choose(r, from, to);
  const int64_t n = r.shape(0).elements();
  const int64_t from_size = SizeOf(from);
  const int64_t to_size = SizeOf(to);
  step.run = [=](const StepArgs& a) {
    ParallelFor(n, kElementGrain, [&](int64_t begin, int64_t end) {
      convert(a.in<char>(0) + begin * from_size, a.out<char>(0) + begin * to_size, end - begin);
    });
  };
  return step;
}

}  // namespace octet::ops
