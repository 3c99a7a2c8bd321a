// Distributions in closed form: what the error of a number format's grid needs of them.
// Spec: spec/fp8.md 10.1. All are symmetric about 0 and clipped: what lies beyond `clip` lies on
// it.
#pragma once

#include <string>
#include <string_view>

namespace octet {

// Mass, first and second moment of the density beyond x: integrals from x to infinity of p, t p and
// t^2 p, for x >= 0.
struct UpperMoments {
  double mass = 0;
  double first = 0;
  double second = 0;
};

struct Distribution {
  enum class Kind { kUniform, kGauss, kLaplace, kStudent };

  Kind kind = Kind::kGauss;
  double degrees = 0;  // of kStudent; above 2, so that the power is finite
  double clip = 0;     // uniform: 1, the end of its support

  // "uniform" (on [-1, 1]), "gauss" (variance 1, clipped at 10), "laplace" (scale 1, clipped at
  // 60), "student:8" (clipped at 100). clip above 0 replaces theirs. Throws kInvalidArgument.
  [[nodiscard]] static Distribution Parse(std::string_view name, double clip = 0);
  [[nodiscard]] std::string Name() const;

  // Of the unclipped density; x >= 0.
  [[nodiscard]] UpperMoments Above(double x) const;
  // E[x^2], clipped.
  [[nodiscard]] double Power() const;
};

// Student's cumulative distribution beyond x >= 0, for any degrees > 0: by finite sums where they
// are whole, otherwise by the continued fraction of the incomplete beta function.
[[nodiscard]] double StudentUpper(double x, double degrees);

}  // namespace octet
