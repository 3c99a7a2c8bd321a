// Mantissa tables of approximate floating-point multipliers, for any number of mantissa bits.
// Spec: spec/fp8.md 6.2.
//
// Adding two codes (exponent << M | mantissa) as integers multiplies approximately (Mitchell). With
// n = 2^M, product P = (n + mx)(n + my):
//   F[mx][my]    what the integer sum lacks of the exact product, the mantissa rounded to nearest
//                even and kept below n: 0 ... some 0.17 n
//   C_d[mx][my]  F averaged over blocks of 2^(M - d) by 2^(M - d), nearest even: what a table
//                addressed by the d highest bits of both mantissas can add. C_d = F for d >= M
//   T            what is left: F - C_d, or F without a table
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace octet {

// n by n small integers; the row is x's mantissa.
class MantissaTable {
 public:
  explicit MantissaTable(int mantissa_bits);  // zeros; 1...7 bits, else kInvalidArgument

  [[nodiscard]] int mantissa_bits() const { return bits_; }
  [[nodiscard]] int side() const { return 1 << bits_; }
  [[nodiscard]] int operator()(int mx, int my) const { return values_[At(mx, my)]; }
  void Set(int mx, int my, int value) { values_[At(mx, my)] = static_cast<int8_t>(value); }
  friend bool operator==(const MantissaTable&, const MantissaTable&) = default;

 private:
  [[nodiscard]] size_t At(int mx, int my) const {
    return (static_cast<size_t>(mx) << bits_) + static_cast<size_t>(my);
  }
  int bits_;
  std::vector<int8_t> values_;
};

[[nodiscard]] MantissaTable FullErrorTable(int mantissa_bits);  // F
// C_d; d = 0 is no table, zeros.
[[nodiscard]] MantissaTable CompensationTable(int mantissa_bits, int d);
[[nodiscard]] MantissaTable ResidualTable(int mantissa_bits, int d);  // T

}  // namespace octet
