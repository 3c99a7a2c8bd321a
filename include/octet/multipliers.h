// Multipliers without a model: their tables, and how wrong they are. Text form:
//   exact:FORMAT
//   hw:FORMAT,d=3,overflow=saturate|wrap|unbounded,underflow=flush|keep|wrap|gradual,s2n=on|off
//   v9:FORMAT,d=3,s2nn2s=on|off,quant=on|off,approx=on|off,clip=on|off
//   qamaa:FORMAT,each_add=on|off
//   table:FILE.npy,x=FORMAT,w=FORMAT,unit=1    (.npy or .csv, 256 x 256 integers)
// Keys may be left out, all but FILE; a recipe leaves the format out, too: it is the layer's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace octet {

struct MultiplierKindInfo {
  std::string kind;     // "hw"
  std::string meaning;  // one line
  std::string example;
};
[[nodiscard]] std::vector<MultiplierKindInfo> MultiplierKinds();

// Exponent biases of x, w and the result; where not given, the format's own.
struct MultiplierBiases {
  std::optional<int> x = {}, w = {}, result = {};
};

struct MultiplierFacts {
  std::string multiplier;  // as it reads back
  std::string x_format, w_format;
  int x_bias = 0, w_bias = 0, result_bias = 0;  // of float formats
  double unit = 1;                              // what 1 in the table of products stands for
  // Errors relative to the exact product in per cent, over all pairs of normal mantissas in the
  // middle of the range. Not of tables.
  struct Mantissas {
    int64_t pairs = 0, inexact = 0;
    double rmse = 0, bias = 0, largest = 0;
    std::optional<int64_t> differing;  // from the multiplier it is compared with
  };
  std::optional<Mantissas> mantissas;
  // Over all pairs of codes, real numbers.
  int64_t pairs = 0, inexact = 0, zero = 0;
  double exact_rms = 0, rmse = 0, bias = 0, largest_error = 0, largest = 0;
  // Where compared with another of the same format.
  std::optional<int64_t> differing;
};
// compare: another multiplier, or empty. Throws kInvalidArgument where the text or its combination
// with a format makes no sense, saying why.
[[nodiscard]] MultiplierFacts DescribeMultiplier(const std::string& multiplier,
                                                 const MultiplierBiases& biases = {},
                                                 const std::string& compare = {});

// Which table:
//   "F"        what an addition of codes lacks of the exact product, by mantissas
//   "C"        compensation by the d highest bits of both mantissas, for every pair of mantissas
//   "lut"      the same, an entry for each pair of d bits: what hardware stores
//   "T"        F - C
//   "product"  products of all codes
struct MultiplierTable {
  std::string title, identifier;
  int64_t rows = 0, columns = 0;
  std::vector<int64_t> values;
  double unit = 1;  // of products
};
[[nodiscard]] MultiplierTable TableOfMultiplier(const std::string& multiplier,
                                                const std::string& table,
                                                const MultiplierBiases& biases = {});
// By the path's extension: .csv, .npy, .h (C), .hex ($readmemh).
void WriteMultiplierTable(const std::string& path, const MultiplierTable& table);

}  // namespace octet
