// Which multiplier an operator has, as a value with one text form: recipes and the command line
// write it, tables and kernels are made from it (numerics/approx_product.h).
// Spec: spec/fp8.md 6.
//
//   exact   the product itself
//   hw      one integer addition of two codes, compensated by a table of d mantissa bits per
//           operand (6.5, with the zero bypass and normalised subnormals that a multiplier needs)
//   v9      the fork's emulation: the exact product less a residual table, rounded (6.4)
//   qamaa   the exact product rounded to the result's format, sums too (6.7)
//   table   any 256 x 256 integers, by the codes' bytes
//
// Text: kind[:item,...] of items key=value and, but for tables, a float format's name, e.g.
// "hw:d=3,overflow=wrap", "v9:e3m4,d=3,quant=off", "table:mul.npy,x=int8". In a recipe the format
// is the layer's own, and may be left out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace octet {

enum class MultiplierKind : uint8_t { kExact, kHw, kV9, kQamaa, kTable };

// A sum of codes beyond the format's 2^(E + M) codes: the highest one, or the sum's low bits as an
// adder of that width leaves them, or a number of as many bits as it takes.
enum class AdderOverflow : uint8_t { kSaturate, kWrap, kUnbounded };
// A sum below 0: zero, or its low mantissa bits as a subnormal, or its low E + M bits.
// kGradual: a sum below 2^M (a subnormal result) is shifted right with its hidden bit, nearest
// even, as IEEE's gradual underflow; the others read such a sum's mantissa without a hidden bit.
enum class AdderUnderflow : uint8_t { kFlush, kKeep, kWrap, kGradual };

struct Multiplier {
  MultiplierKind kind = MultiplierKind::kExact;
  std::string format;  // of x, w and results, by name; empty: not said
  // Compensation: mantissa bits of each operand that address the table; 0: none. From M on the
  // table is complete. hw and v9.
  int d = 0;
  // hw
  AdderOverflow overflow = AdderOverflow::kSaturate;
  AdderUnderflow underflow = AdderUnderflow::kFlush;
  bool s2n =
      true;  // subnormal operands are normalised first; else their codes are added as they are
  // v9
  bool s2nn2s = true;  // all products approximated; else only of normal operands with normal result
  bool quant = true;   // quant_btw_mult_accu: products are rounded to the result's format
  bool approx = true;  // with_approx: the table is subtracted
  bool clip = false;   // golden_clip_OF: those roundings saturate
  // qamaa
  bool each_add = false;  // sums are rounded after every addition, not only the last
  // table
  std::string file;                    // .npy or .csv
  std::string x = "int8", w = "int8";  // what the codes mean: a number format's name
  double table_unit = 1.0;             // the product that 1 in the table stands for, scales apart

  friend bool operator==(const Multiplier&, const Multiplier&) = default;

  // Throws kInvalidArgument, naming the text and what is expected.
  [[nodiscard]] static Multiplier Parse(std::string_view text);
  // What Parse reads; keys that have their default are left out.
  [[nodiscard]] std::string Name() const;
};

}  // namespace octet
