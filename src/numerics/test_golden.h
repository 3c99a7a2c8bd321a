// For tests: the golden vectors of tests/data/approx/golden.bin, and the whole sets they were taken
// from where the folder is at hand.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace octet::testing {

struct GoldenArray {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;
  [[nodiscard]] double at(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * columns + column)];
  }
  [[nodiscard]] int integer(int64_t row, int64_t column) const {
    return static_cast<int>(at(row, column));
  }
};

inline std::map<std::string, GoldenArray> ReadGolden() {
  std::ifstream in(OCTET_SOURCE_DIR "/tests/data/approx/golden.bin", std::ios::binary);
  std::map<std::string, GoldenArray> arrays;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name, type;
    GoldenArray a;
    words >> name >> type >> a.rows >> a.columns;
    for (int64_t i = 0; i < a.rows * a.columns; ++i) {
      if (type == "f4") {
        float value = 0;
        in.read(reinterpret_cast<char*>(&value), 4);
        a.values.push_back(static_cast<double>(value));
      } else {
        const auto byte = static_cast<uint8_t>(in.get());
        a.values.push_back(type == "i1" ? static_cast<int8_t>(byte) : byte);
      }
    }
    arrays[name] = a;
  }
  EXPECT_TRUE(in.eof() && arrays.size() > 60) << "tests/data/approx/golden.bin is not whole";
  return arrays;
}

// A file of the whole sets as numbers, without its header line; empty where it is not at hand.
inline std::vector<std::vector<double>> ReadWholeSet(const std::string& name) {
  std::ifstream in(std::filesystem::path(OCTET_SOURCE_DIR) / "../shared/golden" / name);
  std::vector<std::vector<double>> rows;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::istringstream cells(line);
    auto& row = rows.emplace_back();
    for (std::string cell; std::getline(cells, cell, ',');) row.push_back(std::stod(cell));
  }
  return rows;
}

}  // namespace octet::testing
