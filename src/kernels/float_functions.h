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
OCTET_LANES_INLINE F ExpOfNegative(F x) {
  const F clamped = Max(Splat(kExpFloor), x);  // NaN stays: it is the second operand
  // x = n ln 2 + r with |r| <= ln 2 / 2; the first part of ln 2 has 9 bits, so its product with n
  // is exact.
  const F n = RoundSmall(clamped * 1.44269504F);
  const F r = (clamped - n * 0.693359375F) + n * 2.12194440e-4F;
  // e^r = 1 + r + r^2 p(r)
  F p = Splat(1.3814467e-03F);
  p = p * r + 8.368781e-03F;
  p = p * r + 4.1668393e-02F;
  p = p * r + 1.666652e-01F;
  p = p * r + 4.9999994e-01F;
  const F e = p * (r * r) + r + 1.0F;
  const I exponent = RoundSmallInt(n) << 23;
  return Select(x < Splat(kExpFloor), F{}, FromBits(Bits(e) + exponent));
}

// x P(x^2) / Q(x^2), relative error of the fit 0.3 * 2^-24 on [0, 3.92]; erf(3.92) rounds to 1.
OCTET_LANES_INLINE F Erf(F x) {
  constexpr float kOne = 3.92F;
  const F c = Max(Splat(-kOne), Min(Splat(kOne), x));
  const F t = c * c;
  F p = Splat(2.0500893e-06F);
  p = p * t + 2.8488322e-04F;
  p = p * t + 3.7656275e-03F;
  p = p * t + 5.274876e-02F;
  p = p * t + 1.9040668e-01F;
  p = p * t + 1.1283791F;
  F q = Splat(3.809176e-05F);
  q = q * t + 1.1625385e-03F;
  q = q * t + 1.4969238e-02F;
  q = q * t + 1.141092e-01F;
  q = q * t + 5.0207627e-01F;
  q = q * t + 1.0F;
  const F y = c * p / q;
  const F one = CopySign(Splat(1.0F), x);
  return Select(Abs(y) > 1.0F, one, Select(Abs(x) >= kOne, one, y));
}

// Likewise on [0, 9.01]; tanh(9.01) is within 2^-25 of 1.
OCTET_LANES_INLINE F Tanh(F x) {
  constexpr float kOne = 9.01F;
  const F c = Max(Splat(-kOne), Min(Splat(kOne), x));
  const F t = c * c;
  F p = Splat(1.3336923e-08F);
  p = p * t + 2.0596333e-05F;
  p = p * t + 3.494815e-03F;
  p = p * t + 1.3380376e-01F;
  p = p * t + 1.0F;
  F q = Splat(7.7693153e-07F);
  q = q * t + 3.2843693e-04F;
  q = q * t + 2.5874041e-02F;
  q = q * t + 4.671369e-01F;
  q = q * t + 1.0F;
  const F y = c * p / q;
  const F one = CopySign(Splat(1.0F), x);
  return Select(Abs(y) > 1.0F, one, Select(Abs(x) >= kOne, one, y));
}

// 1 / (1 + e^-x), from e^-|x|; 0 below kExpFloor.
OCTET_LANES_INLINE F Sigmoid(F x) {
  const F e = ExpOfNegative(-Abs(x));
  return Select(x < 0.0F, e, Splat(1.0F)) / (e + 1.0F);
}

// 0 at minus infinity, where the formula has infinity times 0.
OCTET_LANES_INLINE F NoInfinity(F x, F y) { return Select(x == Splat(-__builtin_inff()), F{}, y); }
OCTET_LANES_INLINE F Silu(F x) { return NoInfinity(x, x * Sigmoid(x)); }
// What GELU needs of erf(x / sqrt 2) is its absolute error, and then a polynomial without a
// division will do: x P(u), u = 2 x^2 / 5.2^2 - 1, off by 1.3e-7 on [0, 5.2]; behind that it is 1
// to 2e-7.
OCTET_LANES_INLINE F Gelu(F x) {
  constexpr float kOne = 5.2F;
  const F c = Max(Splat(-kOne), Min(Splat(kOne), x));
  const F u = c * c * 0.0739645F - 1.0F;
  F p = Splat(-9.625563e-04F);
  p = p * u + 2.5370228e-03F;
  p = p * u - 2.4429813e-03F;
  p = p * u + 3.6002432e-03F;
  p = p * u - 9.5780855e-03F;
  p = p * u + 1.7119939e-02F;
  p = p * u - 2.5010237e-02F;
  p = p * u + 3.5909574e-02F;
  p = p * u - 4.944726e-02F;
  p = p * u + 6.3979916e-02F;
  p = p * u - 7.985964e-02F;
  p = p * u + 1.0004904e-01F;
  p = p * u - 1.3548733e-01F;
  p = p * u + 2.719e-01F;
  const F erf = Select(Abs(x) >= kOne, CopySign(Splat(1.0F), x), c * p);
  return NoInfinity(x, x * ((erf + 1.0F) * 0.5F));
}
OCTET_LANES_INLINE F GeluTanh(F x) {
  const F inner = (x + x * x * x * 0.044715F) * 0.79788456F;
  return NoInfinity(x, x * ((Tanh(inner) + 1.0F) * 0.5F));
}

}  // namespace
}  // namespace octet::kernels
