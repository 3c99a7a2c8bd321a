// exp, erf, tanh and what is made of them, on vectors of floats (kernels/float_lanes.h).
//
// Coefficients are least-maximum fits of our own (Lawson's reweighting of linearised least squares
// on 4,000 Chebyshev points), rounded to float32. Largest errors against float64, measured by
// float_rows_test.cc on every 613th bit pattern: erf 6, tanh 7, sigmoid 3, SiLU 4 units in the last
// place of the result; GELU 3 (by tanh: 4) units in the last place of x.
// NaN gives NaN.
#pragma once

#include "kernels/float_lanes.h"

namespace octet::kernels {
namespace {

// Below it e^x is under the least normal number.
constexpr float kExpFloor = -87.33654F;

// e^x for x <= 0; 0 below kExpFloor.
template <int N>
OCTET_LANES_INLINE Pack<N> ExpOfNegative(const Pack<N>& x) {
  // NaN stays: it is the second operand.
  const auto clamped = Each(x, [](F v) { return Max(Splat(kExpFloor), v); });
  // x = n ln 2 + r with |r| <= ln 2 / 2; the first part of ln 2 has 9 bits, so its product with n
  // is exact.
  const auto n = Each(clamped, [](F v) { return RoundSmall(v * 1.44269504F); });
  const auto r =
      Each(clamped, n, [](F v, F k) { return (v - k * 0.693359375F) + k * 2.12194440e-4F; });
  // e^r = 1 + r + r^2 p(r)
  constexpr float kTerms[] = {1.3814467e-03F, 8.368781e-03F, 4.1668393e-02F, 1.666652e-01F,
                              4.9999994e-01F};
  const auto p = Polynomial(r, kTerms);
  const auto e = Each(p, r, [](F a, F b) { return a * (b * b) + b + 1.0F; });
  const auto scaled =
      Each(e, n, [](F a, F k) { return FromBits(Bits(a) + (RoundSmallInt(k) << 23)); });
  return Each(x, scaled, [](F v, F a) { return Select(v < Splat(kExpFloor), F{}, a); });
}

// The quotient of an odd polynomial by an even one, 1 from `limit` on.
template <int N, int kOver, int kUnder>
OCTET_LANES_INLINE Pack<N> OddQuotient(const Pack<N>& x, float limit, const float (&over)[kOver],
                                       const float (&under)[kUnder]) {
  const auto c = Each(x, [=](F v) { return Max(Splat(-limit), Min(Splat(limit), v)); });
  const auto t = Each(c, [](F v) { return v * v; });
  const auto p = Each(c, Polynomial(t, over), [](F a, F b) { return a * b; });
  const auto y = Each(p, Polynomial(t, under), [](F a, F b) { return a / b; });
  return Each(x, y, [=](F v, F w) {
    const F one = CopySign(Splat(1.0F), v);
    return Select(Abs(w) > 1.0F, one, Select(Abs(v) >= limit, one, w));
  });
}

// x P(x^2) / Q(x^2), relative error of the fit 0.3 * 2^-24 on [0, 3.92]; erf(3.92) rounds to 1.
template <int N>
OCTET_LANES_INLINE Pack<N> Erf(const Pack<N>& x) {
  constexpr float kOver[] = {2.0500893e-06F, 2.8488322e-04F, 3.7656275e-03F,
                             5.274876e-02F,  1.9040668e-01F, 1.1283791F};
  constexpr float kUnder[] = {3.809176e-05F, 1.1625385e-03F, 1.4969238e-02F,
                              1.141092e-01F, 5.0207627e-01F, 1.0F};
  return OddQuotient(x, 3.92F, kOver, kUnder);
}

// Likewise on [0, 9.01]; tanh(9.01) is within 2^-25 of 1.
template <int N>
OCTET_LANES_INLINE Pack<N> Tanh(const Pack<N>& x) {
  constexpr float kOver[] = {1.3336923e-08F, 2.0596333e-05F, 3.494815e-03F, 1.3380376e-01F, 1.0F};
  constexpr float kUnder[] = {7.7693153e-07F, 3.2843693e-04F, 2.5874041e-02F, 4.671369e-01F, 1.0F};
  return OddQuotient(x, 9.01F, kOver, kUnder);
}

// 1 / (1 + e^-x), from e^-|x|; 0 below kExpFloor.
template <int N>
OCTET_LANES_INLINE Pack<N> Sigmoid(const Pack<N>& x) {
  const auto e = ExpOfNegative(Each(x, [](F v) { return -Abs(v); }));
  return Each(x, e, [](F v, F a) { return Select(v < 0.0F, a, Splat(1.0F)) / (a + 1.0F); });
}

// 0 at minus infinity, where the formulas have infinity times 0.
OCTET_LANES_INLINE F NoInfinity(F x, F y) { return Select(x == Splat(-__builtin_inff()), F{}, y); }
template <int N>
OCTET_LANES_INLINE Pack<N> Silu(const Pack<N>& x) {
  return Each(x, Sigmoid(x), [](F v, F s) { return NoInfinity(v, v * s); });
}
// x times half of 1 + f.
template <int N>
OCTET_LANES_INLINE Pack<N> Gate(const Pack<N>& x, const Pack<N>& f) {
  return Each(x, f, [](F v, F g) { return NoInfinity(v, v * ((g + 1.0F) * 0.5F)); });
}
// A polynomial of x^2 alone would do for GELU, but takes degree 13 and with it more time than the
// quotient (measured).
template <int N>
OCTET_LANES_INLINE Pack<N> Gelu(const Pack<N>& x) {
  return Gate(x, Erf(Each(x, [](F v) { return v * 0.70710678F; })));
}
template <int N>
OCTET_LANES_INLINE Pack<N> GeluTanh(const Pack<N>& x) {
  return Gate(x, Tanh(Each(x, [](F v) { return (v + v * v * v * 0.044715F) * 0.79788456F; })));
}
// A sum, a quotient and a product: three halves of a unit, and as much as the sum's moves below 1.
template <int N>
OCTET_LANES_INLINE Pack<N> HardSwish(const Pack<N>& x) {
  return Each(x,
              [](F v) { return NoInfinity(v, v * (Min(Max(v + 3.0F, F{}), Splat(6.0F)) / 6.0F)); });
}

}  // namespace
}  // namespace octet::kernels
