#include "evaluate/distribution.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace octet {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Regularized incomplete beta function I_x(a, b) by Lentz's continued fraction (Numerical Recipes
// 6.4); for x below (a + 1) / (a + b + 2), where it converges in a few dozen steps.
double BetaFraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  const auto keep = [](double v) { return std::fabs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / keep(1 - (a + b) * x / (a + 1));
  double h = d;
  for (int m = 1; m < 1000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / keep(1 + even * d);
    c = keep(1 + even / c);
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / keep(1 + odd * d);
    c = keep(1 + odd / c);
    h *= d * c;
    if (std::fabs(d * c - 1) < 1e-16) break;
  }
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  return front * h / a;
}

double IncompleteBeta(double x, double a, double b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  return x < (a + 1) / (a + b + 2) ? BetaFraction(x, a, b) : 1 - BetaFraction(1 - x, b, a);
}

// Gamma((v + 1) / 2) / (Gamma(v / 2) sqrt(v pi)): the density's factor.
double StudentFactor(double v) {
  return std::exp(std::lgamma((v + 1) / 2) - std::lgamma(v / 2)) / std::sqrt(v * kPi);
}

}  // namespace

double StudentUpper(double x, double degrees) {
  // Far out the finite sums below cancel; the fraction does not.
  const bool whole = degrees == std::floor(degrees) && degrees <= 64;
  if (!whole || x * x > degrees * 16) {
    return 0.5 * IncompleteBeta(degrees / (degrees + x * x), degrees / 2, 0.5);
  }
  // Abramowitz and Stegun 26.7.3 and 26.7.4, with t = atan(x / sqrt(v)).
  const int v = static_cast<int>(degrees);
  const double cos2 = degrees / (degrees + x * x);
  const double sin = x / std::sqrt(degrees + x * x);
  double inside = 0;  // mass of [-x, x]
  double term = 1;
  if (v % 2 == 0) {
    double sum = 1;
    for (int k = 1; k < v / 2; ++k) sum += term *= cos2 * (2 * k - 1) / (2 * k);
    inside = sin * sum;
  } else {
    double sum = v > 1 ? 1 : 0;
    for (int k = 1; k < (v - 1) / 2; ++k) sum += term *= cos2 * (2 * k) / (2 * k + 1);
    inside = 2 / kPi * (std::atan(x / std::sqrt(degrees)) + sin * std::sqrt(cos2) * sum);
  }
  return (1 - inside) / 2;
}

Distribution Distribution::Parse(std::string_view name, double clip) {
  Distribution d;
  if (name == "uniform") {
    d = {Kind::kUniform, 0, 1};
  } else if (name == "gauss") {
    d = {Kind::kGauss, 0, 10};
  } else if (name == "laplace") {
    d = {Kind::kLaplace, 0, 60};
  } else if (constexpr std::string_view kStudent = "student:"; name.starts_with(kStudent)) {
    d = {Kind::kStudent, 0, 100};
    const std::string_view number = name.substr(kStudent.size());
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), d.degrees);
    if (error != std::errc() || end != number.data() + number.size() || !(d.degrees > 2) ||
        !(d.degrees <= 1e6)) {
      Fail(ErrorCode::kInvalidArgument, "distribution '", name,
           "'; expected degrees of freedom above 2 and up to 1e6, such as student:8");
    }
  } else {
    Fail(ErrorCode::kInvalidArgument, "distribution '", name,
         "'; expected uniform, gauss, laplace or student:N");
  }
  if (clip != 0) {
    if (!(clip > 0) || !std::isfinite(clip)) {
      Fail(ErrorCode::kInvalidArgument, "distribution '", name, "' clipped at ", clip,
           "; expected a number above 0");
    }
    d.clip = d.kind == Kind::kUniform ? std::min(clip, 1.0) : clip;
  }
  return d;
}

std::string Distribution::Name() const {
  switch (kind) {
    case Kind::kUniform:
      return "uniform";
    case Kind::kGauss:
      return "gauss";
    case Kind::kLaplace:
      return "laplace";
    case Kind::kStudent:
      return Cat("student:", degrees);
  }
  Fail(ErrorCode::kInternal, "distribution: unknown kind");
}

UpperMoments Distribution::Above(double x) const {
  switch (kind) {
    case Kind::kUniform: {
      const double y = std::min(x, 1.0);
      return {(1 - y) / 2, (1 - y * y) / 4, (1 - y * y * y) / 6};
    }
    case Kind::kGauss: {
      const double p = std::exp(-x * x / 2) / std::sqrt(2 * kPi);
      const double mass = std::erfc(x / std::sqrt(2.0)) / 2;
      return {mass, p, mass + x * p};
    }
    case Kind::kLaplace: {
      const double e = std::exp(-x) / 2;
      return {e, e * (x + 1), e * (x * x + 2 * x + 2)};
    }
    case Kind::kStudent: {
      const double v = degrees;
      const double p = StudentFactor(v) * std::exp(-(v + 1) / 2 * std::log1p(x * x / v));
      const double mass = StudentUpper(x, v);
      const double k = StudentFactor(v) / StudentFactor(v - 2) * std::sqrt(v / (v - 2));
      const double narrower = StudentUpper(x * std::sqrt((v - 2) / v), v - 2);
      return {mass, v / (v - 1) * (1 + x * x / v) * p, v * (k * narrower - mass)};
    }
  }
  Fail(ErrorCode::kInternal, "distribution: unknown kind");
}

double Distribution::Power() const {
  const UpperMoments tail = Above(clip);
  return 2 * (Above(0).second - tail.second + clip * clip * tail.mass);
}

}  // namespace octet
