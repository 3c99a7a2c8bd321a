// Number formats without a model: what a format can hold, its codes, and its error on a
// distribution in closed form. Formats are named as in a recipe: "int8", "uint4", "e4m3" (4
// exponent, 3 mantissa bits, every code finite), "ue4m4" (unsigned), "e4m3fn", "e5m2fnuz",
// "float8_e5m2", any float with ":bias=int", ":bias=int-round" or ":bias=standard".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace octet {

// How a format is laid over the real line; at most one of them. None: integers with scale 1,
// floats with their own bias.
struct GridOptions {
  // The largest magnitude to hold: the format's bias rule makes the scale of it.
  std::optional<double> maxval = {};
  // Exponent bias of a float format: 2^(own bias - bias) is the scale.
  std::optional<int> bias = {};
};

struct FormatFacts {
  std::string name;
  bool is_float = false;
  bool is_signed = true;
  int bits = 8;
  int exponent_bits = 0;  // of floats, as what follows
  int mantissa_bits = 0;
  int bias = 0;                 // the format's own, at scale 1
  double scale = 1;             // what all values below are multiplied by
  double max = 0;               // largest value
  double min = 0;               // lowest value
  double min_normal = 0;        // of floats
  double min_positive = 0;      // smallest value above 0: the step at 0
  double dynamic_range_db = 0;  // 20 log10(max / min_positive)
  int codes = 0;                // 2^bits; of narrow integers one less
  int values = 0;               // distinct finite ones: -0 is 0
  int nan_codes = 0;
  int infinity_codes = 0;
};
[[nodiscard]] FormatFacts DescribeFormat(const std::string& format, const GridOptions& grid = {});

struct FormatCode {
  int code = 0;      // of signed integers negative ones, too
  std::string bits;  // "1 0111 010": sign, exponent, mantissa; of integers in two's complement
  double value = 0;  // NaN and infinity where the code means them
};
// By ascending code.
[[nodiscard]] std::vector<FormatCode> FormatCodes(const std::string& format,
                                                  const GridOptions& grid = {});

// Codes of values / scale, rounded to nearest even. saturate: beyond the largest value the largest,
// otherwise infinity or NaN where the format has them.
[[nodiscard]] std::vector<int32_t> EncodeValues(const std::string& format,
                                                std::span<const float> values,
                                                const GridOptions& grid = {}, bool saturate = true);

struct FormatComparison {
  struct Row {
    std::string format;
    double alpha = 0;  // range: the largest magnitude of the grid
    double mse = 0;
    double sqnr_db = 0;  // 10 log10(power / mse)
    double raw_db = 0;   // -10 log10(mse): the "SQNR" that the paper's script prints
    double dot_mse = 0;  // of the product of two independent draws, each quantized
    double dot_sqnr_db = 0;
  };
  std::string distribution;
  double clip = 0;   // what lies beyond lies on it
  double power = 0;  // E[x^2]
  std::vector<Row> rows;
};
struct ComparisonOptions {
  std::optional<double> clip = {};   // instead of the distribution's: 1, 10, 60, 100
  std::optional<double> alpha = {};  // this range for all formats instead of each one's best
};
// distribution: "uniform" (on [-1, 1]), "gauss", "laplace", "student:8".
[[nodiscard]] FormatComparison CompareFormats(const std::vector<std::string>& formats,
                                              const std::string& distribution,
                                              const ComparisonOptions& options = {});

}  // namespace octet
