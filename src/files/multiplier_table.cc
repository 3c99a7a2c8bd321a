#include "files/multiplier_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "files/npy.h"

namespace octet {
namespace {

constexpr int64_t kCodes = 256;

bool IsProduct(double value) {
  return std::fabs(value) < 0x1p62 && std::floor(value) == value;  // not of NaN
}

// Written as an integer, or as programs write floats: 6.4e+01.
std::optional<int64_t> IntegerOf(std::string_view cell) {
  const char* end = cell.data() + cell.size();
  int64_t integer = 0;
  const auto whole = std::from_chars(cell.data(), end, integer);
  if (whole.ec == std::errc() && whole.ptr == end) return integer;
  double number = 0;
  const auto real = std::from_chars(cell.data(), end, number);
  if (real.ec != std::errc() || real.ptr != end || !IsProduct(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

// Text between commas and line ends, row by row; a byte order mark, blank lines and a last line end
// do not count.
std::vector<int64_t> ParseCsv(std::string_view text, const std::string& name) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<int64_t> values;
  int64_t row = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    ++row;
    int64_t column = 0;
    for (bool more = true; more; ++column) {
      const size_t comma = line.find(',');
      std::string_view cell = line.substr(0, comma);
      more = comma != std::string_view::npos;
      line = more ? line.substr(comma + 1) : std::string_view();
      while (cell.starts_with(' ')) cell.remove_prefix(1);
      while (cell.ends_with(' ')) cell.remove_suffix(1);
      const auto value = IntegerOf(cell);
      if (!value)
        Fail(ErrorCode::kBadFile, "multiplier table '", name, "': row ", row, ", column ",
             column + 1, " is '", cell.substr(0, 40), "'; expected an integer below 2^62");
      if (row <= kCodes && column < kCodes) values.push_back(*value);
    }
    if (row > kCodes || column != kCodes)
      Fail(ErrorCode::kBadFile, "multiplier table '", name, "': row ", row, " has ", column,
           " columns; expected 256 rows of 256");
  }
  if (row != kCodes)
    Fail(ErrorCode::kBadFile, "multiplier table '", name, "': ", row,
         " rows; expected 256 of 256 columns");
  return values;
}

template <typename T>
void Append(const Tensor& tensor, const std::string& name, std::vector<int64_t>* out) {
  const auto data = tensor.data<T>();
  for (size_t i = 0; i < data.size(); ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      if (!IsProduct(static_cast<double>(data[i])))
        Fail(ErrorCode::kBadFile, "multiplier table '", name, "': entry [", i / kCodes, ",",
             i % kCodes, "] is ", data[i], "; expected an integer below 2^62");
    }
    out->push_back(static_cast<int64_t>(data[i]));
  }
}

std::vector<int64_t> IntegersOf(const Tensor& tensor, const std::string& name) {
  if (tensor.shape() != Shape{kCodes, kCodes})
    Fail(ErrorCode::kBadFile, "multiplier table '", name, "': shape ", tensor.shape().ToString(),
         "; expected [256,256]");
  std::vector<int64_t> values;
  switch (tensor.dtype()) {
    case DType::kInt8:
      Append<int8_t>(tensor, name, &values);
      break;
    case DType::kUint8:
      Append<uint8_t>(tensor, name, &values);
      break;
    case DType::kInt16:
      Append<int16_t>(tensor, name, &values);
      break;
    case DType::kUint16:
      Append<uint16_t>(tensor, name, &values);
      break;
    case DType::kInt32:
      Append<int32_t>(tensor, name, &values);
      break;
    case DType::kUint32:
      Append<uint32_t>(tensor, name, &values);
      break;
    case DType::kInt64:
      Append<int64_t>(tensor, name, &values);
      break;
    case DType::kFloat32:
      Append<float>(tensor, name, &values);
      break;
    case DType::kFloat64:
      Append<double>(tensor, name, &values);
      break;
    default:
      Fail(ErrorCode::kUnsupported, "multiplier table '", name, "': ", NameOf(tensor.dtype()),
           "; expected int8 to int64, uint8 to uint32, float32 or float64");
  }
  return values;
}

// Bits of two's complement that hold every value.
int BitsOf(const std::vector<int64_t>& values) {
  int bits = 1;
  for (const int64_t v : values)
    while (bits < 64 && (v >= (int64_t{1} << (bits - 1)) || v < -(int64_t{1} << (bits - 1))))
      ++bits;
  return bits;
}

std::string Csv(const IntegerTable& t) {
  std::string text;
  for (size_t i = 0; i < t.values.size(); ++i) {
    text += std::to_string(t.values[i]);
    text += (i + 1) % static_cast<size_t>(t.columns) == 0 ? '\n' : ',';
  }
  return text;
}

std::string Header(const IntegerTable& t, const std::string& identifier, const std::string& title) {
  const int bits = BitsOf(t.values);
  const int width = bits <= 8 ? 8 : bits <= 16 ? 16 : bits <= 32 ? 32 : 64;
  std::string text = Cat("// ", title, "\n#pragma once\n\n#include <stdint.h>\n\nstatic const int",
                         width, "_t ", identifier, "[", t.rows, "][", t.columns, "] = {\n");
  for (int64_t r = 0; r < t.rows; ++r) {
    text += "    {";
    for (int64_t c = 0; c < t.columns; ++c)
      text += Cat(c == 0 ? "" : ", ", t.values[static_cast<size_t>(r * t.columns + c)]);
    text += "},\n";
  }
  return text + "};\n";
}

std::string Hex(const IntegerTable& t, const std::string& title) {
  const int bits = BitsOf(t.values), digits = (bits + 3) / 4;
  std::string text = Cat("// ", title, "\n// ", t.rows, " x ", t.columns, ", row by row, ",
                         4 * digits, "-bit two's complement\n");
  for (const int64_t v : t.values) {
    for (int d = digits - 1; d >= 0; --d)
      text += "0123456789abcdef"[(static_cast<uint64_t>(v) >> (4 * d)) & 15];
    text += '\n';
  }
  return text;
}

void WriteNpyTable(const std::filesystem::path& path, const IntegerTable& t) {
  const Shape shape{t.rows, t.columns};
  if (BitsOf(t.values) > 32) return WriteNpy(path, Tensor::Of<int64_t>(shape, t.values).view());
  const std::vector<int32_t> narrow(t.values.begin(), t.values.end());
  WriteNpy(path, Tensor::Of<int32_t>(shape, narrow).view());
}

// Floats in as few digits as read back the same.
template <typename T>
std::string CsvOf(std::span<const T> values, int64_t columns) {
  std::string text;
  char buffer[32];
  for (size_t i = 0; i < values.size(); ++i) {
    const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), values[i]);
    OCTET_INVARIANT(error == std::errc());
    text.append(buffer, end);
    text += (i + 1) % static_cast<size_t>(columns) == 0 ? '\n' : ',';
  }
  return text;
}

}  // namespace

std::vector<int64_t> ReadMultiplierTable(const std::filesystem::path& path) {
  if (path.extension() == ".npy") return IntegersOf(ReadNpy(path), path.string());
  if (path.extension() == ".csv") return ParseCsv(ReadFile(path), path.string());
  Fail(ErrorCode::kUnsupported, "multiplier table '", path.string(), "': extension '",
       path.extension().string(), "'; expected .npy or .csv");
}

void WriteIntegerTable(const std::filesystem::path& path, const IntegerTable& table,
                       const std::string& identifier, const std::string& title) {
  OCTET_INVARIANT(static_cast<int64_t>(table.values.size()) == table.rows * table.columns);
  const std::string extension = path.extension().string();
  if (extension == ".csv") return WriteFileAtomic(path, Csv(table));
  if (extension == ".h") return WriteFileAtomic(path, Header(table, identifier, title));
  if (extension == ".hex") return WriteFileAtomic(path, Hex(table, title));
  if (extension == ".npy") return WriteNpyTable(path, table);
  Fail(ErrorCode::kUnsupported, "table file '", path.string(), "': extension '", extension,
       "'; expected .csv, .npy, .h or .hex");
}

std::vector<std::filesystem::path> WriteOperands(const std::filesystem::path& folder,
                                                 const LayerOperands& o, OperandFiles files) {
  const auto has = [](auto span, int64_t elements) {
    return static_cast<int64_t>(span.size()) == elements;
  };
  if (!has(o.x, o.rows * o.groups * o.k) || !has(o.weight, o.n * o.k) ||
      !has(o.table_of_channel, o.n) || !has(o.sums, o.rows * o.n) || !has(o.unit, o.n) ||
      !has(o.bias, o.n) || !has(o.result, o.rows * o.n)) {
    Fail(ErrorCode::kInvalidArgument, "operands of layer '", o.layer, "': ", o.x.size(), " of x, ",
         o.weight.size(), " weights, ", o.sums.size(), " sums, ", o.result.size(),
         " results; expected ", o.rows, " x ", o.groups * o.k, ", ", o.n, " x ", o.k, ", ", o.rows,
         " x ", o.n, " and the same");
  }
  std::string name = o.layer;
  for (char& c : name) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '_' || c == '.';
    if (!plain) c = '_';
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    Fail(ErrorCode::kIo, "folder '", folder.string(), "' cannot be made: ", error.message());
  std::vector<std::filesystem::path> paths;
  // `rows` 0: a vector.
  const auto write = [&](const char* what, auto span, int64_t rows, int64_t columns) {
    using T = std::remove_cv_t<typename decltype(span)::element_type>;
    const bool csv = files == OperandFiles::kCsv;
    paths.push_back(folder / Cat(name, ".", what, csv ? ".csv" : ".npy"));
    if (csv) return WriteFileAtomic(paths.back(), CsvOf(span, columns));
    const Shape shape = rows == 0 ? Shape{columns} : Shape{rows, columns};
    WriteNpy(paths.back(), {DTypeOf<T>(), shape, span.data()});
  };
  paths.push_back(folder / (name + ".json"));
  WriteFileAtomic(paths.back(), o.json);
  write("x", o.x, o.rows, o.groups * o.k);
  write("w", o.weight, o.n, o.k);
  for (size_t t = 0; t < o.tables.size(); ++t)
    write(Cat("table", t).c_str(), o.tables[t], kCodes, kCodes);
  write("table_of_channel", o.table_of_channel, 0, o.n);
  write("sum", o.sums, o.rows, o.n);
  write("unit", o.unit, 0, o.n);
  write("bias", o.bias, 0, o.n);
  write("y", o.result, o.rows, o.n);
  return paths;
}

}  // namespace octet
