// Integer tables of multipliers: read from .npy or .csv, written as .csv, .npy, C header or the hex
// of Verilog's $readmemh; operands of a layer as CSV.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace octet {

struct IntegerTable {
  int64_t rows = 0, columns = 0;
  std::vector<int64_t> values;  // row by row
};

// 256 rows (codes of x) of 256 products (codes of w): integers, or floats that are integers. Throws
// kBadFile naming file and place, kUnsupported for other extensions.
[[nodiscard]] std::vector<int64_t> ReadMultiplierTable(const std::filesystem::path& path);

// By extension: .csv; .npy (int32, or int64 where that is too narrow); .h, an array named
// `identifier` of the narrowest type; .hex, one number a line in two's complement. `title` becomes
// a comment where there is room for one. Throws kUnsupported for other extensions, kIo.
void WriteIntegerTable(const std::filesystem::path& path, const IntegerTable& table,
                       const std::string& identifier, const std::string& title);

// One layer's operands as an approximate multiplier sees them.
struct LayerOperands {
  std::string layer;  // files are named after it; '/' and the like become '_'
  int64_t rows = 0, k = 0, n = 0, groups = 1;
  // (rows, groups * k): rows of a linear layer, patches of a convolution (ApproxConv::Columns)
  std::span<const float> x;
  std::span<const float> weight;  // (n, k)
  int x_bias = 0, result_bias = 0;
  std::vector<int> w_bias;  // (n)
};
// LAYER.act.csv (rows x groups k), LAYER.weight.csv (k x n), LAYER.bias.csv (lines act, weight,
// result). Numbers read back as the same floats. The folder must exist. Throws kInvalidArgument
// where lengths contradict, kIo.
void WriteOperands(const std::filesystem::path& folder, const LayerOperands& operands);

}  // namespace octet
