// For tests only: golden vectors, which lie compressed in tests/data/golden. Where they come from
// and what their columns say: tests/data/golden/README.md.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

// The lines of tests/data/golden/NAME.gz, without their ends.
[[nodiscard]] inline std::vector<std::string> GoldenLines(std::string_view name) {
  const std::string path = std::string(OCTET_SOURCE_DIR "/tests/data/golden/") + std::string(name);
  const gzFile file = ::gzopen((path + ".gz").c_str(), "rb");
  if (file == nullptr) throw std::runtime_error("no golden file " + path + ".gz");
  std::string text;
  char block[1 << 16];
  int n = 0;
  while ((n = ::gzread(file, block, sizeof(block))) > 0) text.append(block, static_cast<size_t>(n));
  ::gzclose(file);
  if (n < 0 || text.empty()) throw std::runtime_error("golden file " + path + ".gz is broken");
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// The parts of a line between commas.
[[nodiscard]] inline std::vector<std::string> GoldenCells(std::string_view line) {
  std::vector<std::string> cells;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find(',', begin), line.size());
    cells.emplace_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return cells;
}

// A table of numbers: rows of cells, a header line left out where there is one. Cells that are no
// numbers read as 0.
[[nodiscard]] inline std::vector<std::vector<double>> GoldenNumbers(std::string_view name,
                                                                    bool header) {
  std::vector<std::vector<double>> rows;
  for (const std::string& line : GoldenLines(name)) {
    std::vector<double> row;
    for (const std::string& cell : GoldenCells(line)) {
      row.push_back(std::strtod(cell.c_str(), nullptr));
    }
    rows.push_back(std::move(row));
  }
  if (header) rows.erase(rows.begin());
  return rows;
}

}  // namespace octet
