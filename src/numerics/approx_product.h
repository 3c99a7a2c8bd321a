// Approximate products of two codes, defined once, as integers: every multiplier of
// numerics/approx_multiplier.h becomes a table (x code, w code) -> integer for the formats and
// biases of one layer. Kernels (octet/approx.h) only look up and add, so they are exact.
// Spec: spec/fp8.md 6 and 8.
//
// A product depends on the biases only through delta = bx + bw - br: output channels of equal delta
// share a table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "numerics/approx_multiplier.h"
#include "numerics/float_format.h"

namespace octet {

// Codes of sign | exponent | mantissa, every one finite, at an integer bias: exponent field e means
// 2^(e - bias), e = 0 subnormal.
struct CodeFormat {
  int exponent_bits = 4;
  int mantissa_bits = 3;
  bool is_signed = true;
  int bias = 7;

  [[nodiscard]] int magnitude_bits() const { return exponent_bits + mantissa_bits; }
  [[nodiscard]] int bits() const { return magnitude_bits() + (is_signed ? 1 : 0); }
  // Of a byte; bits above the format's are ignored.
  [[nodiscard]] double Decode(int code) const;
};

// The code format of a quantizer: scale * format.Decode(code) with a scale that is a power of two.
// Throws kInvalidArgument, naming `subject`, for other scales (a real-valued bias) and for formats
// with infinities or NaN.
[[nodiscard]] CodeFormat CodeFormatOf(const FloatFormat& format, float scale,
                                      const std::string& subject);

// x, w and what products (and, for qamaa, sums) are rounded to.
struct ProductFormats {
  CodeFormat x, w, result;
  // qamaa: magnitudes saturate there; 0: at the largest value of `result`.
  double largest = 0;

  [[nodiscard]] int delta() const { return x.bias + w.bias - result.bias; }
};

struct ProductTable {
  std::vector<int64_t> value;  // [x code * 256 + w code]; 0 for codes beyond the formats' bits
  double unit = 1;             // the real number that 1 stands for

  [[nodiscard]] int64_t at(int x, int w) const { return value[static_cast<size_t>(x * 256 + w)]; }
};

// Throws kInvalidArgument where the multiplier makes no sense of the formats, with the reason;
// kUnsupported where a product leaves 62 bits. Not for kTable, whose products are its file's.
[[nodiscard]] ProductTable MakeProductTable(const Multiplier& multiplier,
                                            const ProductFormats& formats);
// Into a table, [x code * 256 + w code], for x and w without sign bits: `same` and, where an
// operand has a sign, what it is of codes whose signs differ.
void SetProduct(const CodeFormat& x_format, const CodeFormat& w_format, int x, int w, int64_t same,
                int64_t other, int64_t* table);
// What MakeProductTable would throw kInvalidArgument for.
void CheckProduct(const Multiplier& multiplier, const ProductFormats& formats);

// Rounds to a float format's grid, in units of its subnormal step 2^(1 - bias - M): to M + 1
// significant bits, nearest even, after clamping to +-largest (units, need not be an integer).
struct GridRounding {
  int mantissa_bits = 3;
  double largest = 0;
  [[nodiscard]] double Round(double value) const;
};
// That of qamaa for products and sums.
[[nodiscard]] GridRounding RoundingOf(const ProductFormats& formats);

// The fork's bias for a largest magnitude: the real-valued bias 2^E - log2(largest) +
// log2(2 - 2^-M) - 1 rounded to nearest even.
[[nodiscard]] int RoundedBias(int exponent_bits, int mantissa_bits, double largest);

}  // namespace octet
