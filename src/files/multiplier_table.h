// Integer tables of multipliers: read from .npy or .csv, written as .csv, .npy, C header or the hex
// of Verilog's $readmemh; operands of a layer as .npy or .csv.
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

// One layer of one run as an approximate multiplier sees it: with these numbers it can be replayed.
// All spans are of the caller.
struct LayerOperands {
  std::string layer;  // files are named after it; '/' and the like become '_'
  std::string json;   // what the codes mean: becomes LAYER.json
  int64_t rows = 0, k = 0, n = 0, groups = 1;
  std::span<const uint8_t>
      x;  // codes (rows, groups * k): of a convolution what each pixel multiplies
  std::span<const uint8_t> weight;               // codes (n, k)
  std::vector<std::span<const int64_t>> tables;  // each 256 x 256, [x code * 256 + weight code]
  std::span<const int32_t> table_of_channel;     // (n)
  std::span<const int64_t> sums;                 // (rows, n)
  std::span<const float> unit, bias;             // (n)
  std::span<const float> result;                 // (rows, n): float(sum) * unit + bias
};
enum class OperandFiles { kNpy, kCsv };
// LAYER.json and LAYER.{x,w,table0,table1...,table_of_channel,sum,unit,bias,y}.{npy,csv}; numbers
// read back as they are. Makes the folder. Returns the paths. Throws kInvalidArgument where lengths
// contradict, kIo.
std::vector<std::filesystem::path> WriteOperands(const std::filesystem::path& folder,
                                                 const LayerOperands& operands, OperandFiles files);

}  // namespace octet
