#include "numerics/approx_errors.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace octet {
namespace {

// Products of 1.mx and 1.my as they are anywhere in the middle of a range: the result's exponent
// field is 1 or, with a carry, 2, and codes above those are no overflow.
ProductTable MiddleOfRange(Multiplier multiplier, int mantissa_bits) {
  if (multiplier.kind == MultiplierKind::kTable)
    Fail(ErrorCode::kInvalidArgument, "multiplier ", multiplier.Name(),
         ": errors by mantissa are of formats; a table has errors over all its codes");
  multiplier.overflow = AdderOverflow::kUnbounded;
  multiplier.clip = false;
  const CodeFormat f{std::clamp(7 - mantissa_bits, 1, 3), mantissa_bits, false, 1};
  ProductFormats formats{f, f, f, 0};
  // Two octaves above 1, so that rounding to the format (qamaa) does not saturate.
  formats.largest = std::ldexp(1.0, 2);
  return MakeProductTable(multiplier, formats);
}

// The code of 1.m.
int CodeOfMantissa(int m, int bits) { return (1 << bits) | m; }

}  // namespace

RelativeErrors MantissaErrors(const Multiplier& multiplier, int mantissa_bits) {
  const ProductTable table = MiddleOfRange(multiplier, mantissa_bits);
  const int n = 1 << mantissa_bits;
  RelativeErrors e;
  double squares = 0, sum = 0;
  for (int x = 0; x < n; ++x)
    for (int w = 0; w < n; ++w) {
      const double exact = (1.0 + static_cast<double>(x) / n) * (1.0 + static_cast<double>(w) / n);
      const double product = static_cast<double>(table.at(CodeOfMantissa(x, mantissa_bits),
                                                          CodeOfMantissa(w, mantissa_bits))) *
                             table.unit;
      const double error = (product - exact) / exact;
      ++e.pairs;
      e.inexact += error != 0 ? 1 : 0;
      squares += error * error;
      sum += error;
      e.largest = std::max(e.largest, 100 * std::fabs(error));
    }
  const auto pairs = static_cast<double>(e.pairs);
  e.rmse = 100 * std::sqrt(squares / pairs);
  e.bias = 100 * sum / pairs;
  return e;
}

int64_t DifferingMantissas(const Multiplier& a, const Multiplier& b, int mantissa_bits) {
  const ProductTable ta = MiddleOfRange(a, mantissa_bits), tb = MiddleOfRange(b, mantissa_bits);
  const int n = 1 << mantissa_bits;
  int64_t differing = 0;
  for (int x = 0; x < n; ++x)
    for (int w = 0; w < n; ++w) {
      const int cx = CodeOfMantissa(x, mantissa_bits), cw = CodeOfMantissa(w, mantissa_bits);
      differing += static_cast<double>(ta.at(cx, cw)) * ta.unit !=
                           static_cast<double>(tb.at(cx, cw)) * tb.unit
                       ? 1
                       : 0;
    }
  return differing;
}

std::vector<double> ExactProducts(const CodeFormat& x, const CodeFormat& w, double unit) {
  std::vector<double> exact(size_t{1} << 16);
  for (int i = 0; i < 1 << x.bits(); ++i)
    for (int j = 0; j < 1 << w.bits(); ++j)
      exact[static_cast<size_t>(i * 256 + j)] = x.Decode(i) * w.Decode(j) / unit;
  return exact;
}

TableErrors ErrorsOfTable(std::span<const int64_t> table, std::span<const double> exact) {
  OCTET_INVARIANT(table.size() == exact.size());
  TableErrors e;
  double squares = 0, sum = 0, power = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const double error = static_cast<double>(table[i]) - exact[i];
    ++e.pairs;
    e.inexact += error != 0 ? 1 : 0;
    squares += error * error;
    sum += error;
    power += exact[i] * exact[i];
    e.largest = std::max(e.largest, std::fabs(error));
  }
  const auto pairs = static_cast<double>(std::max<int64_t>(e.pairs, 1));
  e.rms = std::sqrt(power / pairs);
  e.rmse = std::sqrt(squares / pairs);
  e.bias = sum / pairs;
  return e;
}

CodeShares SharesOf(std::span<const uint8_t> codes, const CodeFormat& format) {
  int64_t count[3] = {};
  for (const uint8_t code : codes) {
    const int magnitude = code & ((1 << format.magnitude_bits()) - 1);
    ++count[magnitude == 0 ? 2 : magnitude >> format.mantissa_bits == 0 ? 1 : 0];
  }
  const auto all = static_cast<double>(std::max<size_t>(codes.size(), 1));
  return {static_cast<double>(count[0]) / all, static_cast<double>(count[1]) / all,
          static_cast<double>(count[2]) / all};
}

void ProductErrors::Add(const ProductErrors& other) {
  results += other.results;
  error_sum += other.error_sum;
  error_squares += other.error_squares;
  exact_squares += other.exact_squares;
  largest = std::max(largest, other.largest);
}

double ProductErrors::mean() const {
  return results == 0 ? 0 : error_sum / static_cast<double>(results);
}

double ProductErrors::rmse() const {
  return results == 0 ? 0 : std::sqrt(error_squares / static_cast<double>(results));
}

double ProductErrors::exact_rms() const {
  return results == 0 ? 0 : std::sqrt(exact_squares / static_cast<double>(results));
}

double ProductErrors::sqnr_db() const { return 10 * std::log10(exact_squares / error_squares); }

}  // namespace octet
