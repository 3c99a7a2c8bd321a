// The one scalar definition of every rounding and conversion between float32 and integer codes.
// Kernels of every instruction set equal these bit for bit. Compiled with -ffp-contract=off.
//
// Rounding is to nearest, ties to even (the default floating-point environment is never changed).
// NaN maps to the lowest code: what max(v, lo) gives when an unordered comparison keeps lo. ONNX
// leaves it open; data with NaN is refused before it gets here (calibrate/statistics.h).
#pragma once

#include <cmath>
#include <cstdint>

namespace octet {

// Clamps a real value (in units of codes, zero point not yet added) to [lo, hi] and rounds it.
// lo and hi are integers, so clamping first equals clamping last and cannot overflow int32.
[[nodiscard]] inline int32_t RoundClamped(float v, float lo, float hi) {
  v = v > lo ? v : lo;
  v = v < hi ? v : hi;
  return static_cast<int32_t>(std::nearbyint(v));
}

// ONNX QuantizeLinear: saturate(rne(x / scale) + zero_point). A division, not a reciprocal.
[[nodiscard]] inline int32_t QuantizeOne(float x, float scale, int32_t zero_point, int32_t qmin,
                                         int32_t qmax) {
  return RoundClamped(x / scale, static_cast<float>(qmin - zero_point),
                      static_cast<float>(qmax - zero_point)) +
         zero_point;
}

// ONNX DequantizeLinear.
[[nodiscard]] inline float DequantizeOne(int32_t q, float scale, int32_t zero_point) {
  return static_cast<float>(q - zero_point) * scale;
}

// Accumulator to code: acc -> float32 (nearest even) -> x multiplier -> rne -> + zero point ->
// saturate. acc already holds bias and zero-point correction. [qmin, qmax] may be narrower than the
// type: a fused Relu or Clip is nothing but tighter bounds.
[[nodiscard]] inline int32_t RequantizeOne(int32_t acc, float multiplier, int32_t zero_point,
                                           int32_t qmin, int32_t qmax) {
  return RoundClamped(static_cast<float>(acc) * multiplier, static_cast<float>(qmin - zero_point),
                      static_cast<float>(qmax - zero_point)) +
         zero_point;
}

// Sum of two codes on a third grid: DQ(a) + DQ(b) -> Q with the divisions folded into two
// multipliers (ratio_a = scale_a / scale_y, ratio_b = scale_b / scale_y, each one float32
// division).
[[nodiscard]] inline int32_t AddCodesOne(int32_t a, int32_t zero_a, float ratio_a, int32_t b,
                                         int32_t zero_b, float ratio_b, int32_t zero_y,
                                         int32_t qmin, int32_t qmax) {
  const float fa = static_cast<float>(a - zero_a) * ratio_a;
  const float fb = static_cast<float>(b - zero_b) * ratio_b;
  return RoundClamped(fa + fb, static_cast<float>(qmin - zero_y),
                      static_cast<float>(qmax - zero_y)) +
         zero_y;
}

// Product of two codes on a third grid: DQ(a) * DQ(b) -> Q, operation by operation.
[[nodiscard]] inline int32_t MulCodesOne(int32_t a, int32_t zero_a, float scale_a, int32_t b,
                                         int32_t zero_b, float scale_b, int32_t zero_y,
                                         float scale_y, int32_t qmin, int32_t qmax) {
  return QuantizeOne(DequantizeOne(a, scale_a, zero_a) * DequantizeOne(b, scale_b, zero_b), scale_y,
                     zero_y, qmin, qmax);
}

}  // namespace octet
