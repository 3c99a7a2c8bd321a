#include "numerics/approx_tables.h"

#include <algorithm>

#include "base/error.h"

namespace octet {
namespace {

// a / 2^shift to nearest, ties to even; a >= 0.
int RoundedShift(int a, int shift) {
  if (shift == 0) return a;
  const int quotient = a >> shift, rest = a & ((1 << shift) - 1), half = 1 << (shift - 1);
  return quotient + (rest > half || (rest == half && (quotient & 1) != 0) ? 1 : 0);
}

}  // namespace

MantissaTable::MantissaTable(int mantissa_bits) : bits_(mantissa_bits) {
  if (mantissa_bits < 1 || mantissa_bits > 7) {
    Fail(ErrorCode::kInvalidArgument, "mantissa table: ", mantissa_bits,
         " mantissa bits; expected 1 to 7");
  }
  values_.resize(size_t{1} << (2 * bits_));
}

MantissaTable FullErrorTable(int mantissa_bits) {
  MantissaTable table(mantissa_bits);
  const int n = table.side();
  for (int mx = 0; mx < n; ++mx)
    for (int my = 0; my < n; ++my) {
      const int product = (n + mx) * (n + my);
      const int carry = product >= 2 * n * n ? 1 : 0;
      const int mantissa = std::min(RoundedShift(product, mantissa_bits + carry) - n, n - 1);
      table.Set(mx, my, carry * n + mantissa - (mx + my));
    }
  return table;
}

MantissaTable CompensationTable(int mantissa_bits, int d) {
  if (d < 0 || d > 7) {
    Fail(ErrorCode::kInvalidArgument, "compensation table: d is ", d,
         "; expected 0 (no table) to 7");
  }
  MantissaTable table(mantissa_bits);
  if (d == 0) return table;
  const MantissaTable full = FullErrorTable(mantissa_bits);
  const int low = std::max(0, mantissa_bits - d), block = 1 << low, n = table.side();
  for (int bx = 0; bx < n; bx += block)
    for (int by = 0; by < n; by += block) {
      int sum = 0;  // of F, which is never negative
      for (int i = 0; i < block * block; ++i) sum += full(bx + (i >> low), by + (i & (block - 1)));
      const int mean = RoundedShift(sum, 2 * low);
      for (int i = 0; i < block * block; ++i)
        table.Set(bx + (i >> low), by + (i & (block - 1)), mean);
    }
  return table;
}

MantissaTable ResidualTable(int mantissa_bits, int d) {
  MantissaTable table = FullErrorTable(mantissa_bits);
  const MantissaTable compensation = CompensationTable(mantissa_bits, d);
  const int n = table.side();
  for (int mx = 0; mx < n; ++mx)
    for (int my = 0; my < n; ++my) table.Set(mx, my, table(mx, my) - compensation(mx, my));
  return table;
}

}  // namespace octet
