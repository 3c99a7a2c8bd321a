#include "octet/multipliers.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "files/multiplier_table.h"
#include "numerics/approx_errors.h"
#include "numerics/approx_tables.h"
#include "numerics/number_format.h"

namespace octet {
namespace {

bool HasTable(const Multiplier& m) {
  return m.kind == MultiplierKind::kHw || m.kind == MultiplierKind::kV9;
}

FloatFormat FormatOf(const Multiplier& m) {
  if (m.format.empty()) {
    const std::string name = m.Name(), kind = name.substr(0, name.find(':'));
    Fail(ErrorCode::kInvalidArgument, "multiplier ", m.Name(),
         ": no number format; write it behind the colon, such as ", kind, ":e3m4");
  }
  return FloatFormat::Parse(m.format);
}

ProductFormats FormatsOf(const Multiplier& m, const MultiplierBiases& biases) {
  const FloatFormat format = FormatOf(m);
  const CodeFormat code = CodeFormatOf(format, 1.0F, "multiplier " + m.Name());
  ProductFormats formats{code, code, code, 0};
  formats.x.bias = biases.x.value_or(code.bias);
  formats.w.bias = biases.w.value_or(code.bias);
  formats.result.bias = biases.result.value_or(code.bias);
  for (const int bias : {formats.x.bias, formats.w.bias, formats.result.bias}) {
    if (bias < -150 || bias > 150)
      Fail(ErrorCode::kInvalidArgument, "multiplier ", m.Name(), ": bias ", bias,
           "; expected -150 to 150");
  }
  return formats;
}

// Whether a byte is a code of the format, and a number.
bool IsNumber(const NumberFormat& format, int byte) {
  if (format.is_float())
    return byte < 1 << format.bits() &&
           std::isfinite(format.floating().Decode(static_cast<uint8_t>(byte)));
  if (!format.is_signed()) return byte < 1 << format.bits();
  const int half = 1 << (format.bits() - 1), value = static_cast<int8_t>(byte);
  return -half <= value && value < half;
}

// What the bytes of a table's codes mean.
std::vector<double> ValuesOf(const std::string& name) {
  const NumberFormat format = NumberFormat::Parse(name);
  if (format.bits() > 8)
    Fail(ErrorCode::kInvalidArgument, "multiplier table: codes of ", name,
         " have more than 8 bits");
  std::vector<double> values(256);
  for (int byte = 0; byte < 256; ++byte) {
    double& value = values[static_cast<size_t>(byte)];
    if (format.is_float()) {
      value = static_cast<double>(format.floating().Decode(static_cast<uint8_t>(byte)));
      if (!std::isfinite(value)) value = 0;
    } else {
      value = format.is_signed() ? static_cast<int8_t>(byte) : byte;
    }
  }
  return values;
}

struct Products {
  std::vector<int64_t> table;
  std::vector<double> exact;  // in units
  double unit;
};

Products ProductsOf(const Multiplier& m, const MultiplierBiases& biases) {
  Products p;
  if (m.kind != MultiplierKind::kTable) {
    const ProductFormats formats = FormatsOf(m, biases);
    ProductTable table = MakeProductTable(m, formats);
    p.exact = ExactProducts(formats.x, formats.w, table.unit);
    p.table = std::move(table.value);
    p.unit = table.unit;
    return p;
  }
  p.table = ReadMultiplierTable(m.file);
  p.unit = m.table_unit;
  const auto x = ValuesOf(m.x), w = ValuesOf(m.w);
  for (const double a : x)
    for (const double b : w) p.exact.push_back(a * b / p.unit);
  return p;
}

// The products that occur: of two codes, both of which are numbers.
Products Occurring(const Products& all, const std::string& x_format, const std::string& w_format) {
  const NumberFormat x = NumberFormat::Parse(x_format), w = NumberFormat::Parse(w_format);
  Products p{{}, {}, all.unit};
  for (size_t i = 0; i < all.table.size(); ++i) {
    if (!IsNumber(x, static_cast<int>(i / 256)) || !IsNumber(w, static_cast<int>(i % 256)))
      continue;
    p.table.push_back(all.table[i]);
    p.exact.push_back(all.exact[i]);
  }
  return p;
}

int64_t Differing(const Products& a, const Products& b) {
  int64_t differing = 0;
  for (size_t i = 0; i < a.table.size(); ++i)
    differing +=
        static_cast<double>(a.table[i]) * a.unit != static_cast<double>(b.table[i]) * b.unit ? 1
                                                                                             : 0;
  return differing;
}

// Entry by entry of `side` x `side`, `block` mantissas apart.
MultiplierTable FromMantissas(const MantissaTable& table, int block) {
  MultiplierTable t;
  t.rows = t.columns = table.side() / block;
  for (int x = 0; x < table.side(); x += block)
    for (int y = 0; y < table.side(); y += block) t.values.push_back(table(x, y));
  return t;
}

std::string Lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))) c = '_';
  }
  return text;
}

}  // namespace

std::vector<MultiplierKindInfo> MultiplierKinds() {
  return {
      {"exact", "the product itself", "exact:e4m3"},
      {"hw", "one integer addition of codes, compensated by a table of d bits per operand",
       "hw:e3m4,d=3,overflow=saturate,underflow=flush"},
      {"v9", "the fork's emulation: the exact product less a residual table, rounded",
       "v9:e3m4,d=3,s2nn2s=on,quant=on"},
      {"qamaa", "the exact product rounded to the result's format, sums too",
       "qamaa:e3m4,each_add=off"},
      {"table", "256 x 256 integers from a file, by the codes' bytes",
       "table:products.npy,x=int8,w=int8"},
  };
}

MultiplierFacts DescribeMultiplier(const std::string& multiplier, const MultiplierBiases& biases,
                                   const std::string& compare) {
  const Multiplier m = Multiplier::Parse(multiplier);
  const Products all = ProductsOf(m, biases);
  MultiplierFacts f;
  f.multiplier = m.Name();
  f.unit = all.unit;
  int mantissa_bits = 0;
  if (m.kind == MultiplierKind::kTable) {
    f.x_format = m.x;
    f.w_format = m.w;
  } else {
    const ProductFormats formats = FormatsOf(m, biases);
    f.x_format = f.w_format = m.format;
    f.x_bias = formats.x.bias;
    f.w_bias = formats.w.bias;
    f.result_bias = formats.result.bias;
    mantissa_bits = formats.result.mantissa_bits;
  }
  if (mantissa_bits > 0) {
    const RelativeErrors e = MantissaErrors(m, mantissa_bits);
    f.mantissas = {e.pairs, e.inexact, e.rmse, e.bias, e.largest, {}};
  }
  const Products p = Occurring(all, f.x_format, f.w_format);
  const TableErrors e = ErrorsOfTable(p.table, p.exact);
  f.pairs = e.pairs;
  f.inexact = e.inexact;
  f.zero = std::count(p.table.begin(), p.table.end(), 0);
  f.exact_rms = e.rms * p.unit;
  f.rmse = e.rmse * p.unit;
  f.bias = e.bias * p.unit;
  f.largest_error = e.largest * p.unit;
  for (const int64_t v : p.table)
    f.largest = std::max(f.largest, std::fabs(static_cast<double>(v)) * p.unit);
  if (compare.empty()) return f;
  const Multiplier other = Multiplier::Parse(compare);
  const Products of_other = ProductsOf(other, biases);
  const bool table = other.kind == MultiplierKind::kTable;
  if (f.x_format != (table ? other.x : other.format) ||
      f.w_format != (table ? other.w : other.format))
    return f;
  f.differing = Differing(p, Occurring(of_other, f.x_format, f.w_format));
  if (f.mantissas && !table) f.mantissas->differing = DifferingMantissas(m, other, mantissa_bits);
  return f;
}

MultiplierTable TableOfMultiplier(const std::string& multiplier, const std::string& table,
                                  const MultiplierBiases& biases) {
  const Multiplier m = Multiplier::Parse(multiplier);
  MultiplierTable t;
  if (table == "product") {
    const Products p = ProductsOf(m, biases);
    t.rows = t.columns = 256;
    t.values = p.table;
    t.unit = p.unit;
  } else if (table == "F" || table == "C" || table == "T" || table == "lut") {
    if (!HasTable(m))
      Fail(ErrorCode::kInvalidArgument, "multiplier ", m.Name(), ": it has no table ", table,
           "; F, C, lut and T are of hw and v9");
    const int bits = FormatOf(m).mantissa_bits;
    if (table == "F") t = FromMantissas(FullErrorTable(bits), 1);
    if (table == "T") t = FromMantissas(ResidualTable(bits, m.d), 1);
    if (table == "C") t = FromMantissas(CompensationTable(bits, m.d), 1);
    if (table == "lut") {
      if (m.d == 0)
        Fail(ErrorCode::kInvalidArgument, "multiplier ", m.Name(),
             ": without compensation there is no lut; give d=1 to d=", bits);
      t = FromMantissas(CompensationTable(bits, m.d), 1 << std::max(0, bits - m.d));
    }
  } else {
    Fail(ErrorCode::kInvalidArgument, "multiplier ", m.Name(), ": unknown table '", table,
         "'; expected F, C, lut, T or product");
  }
  t.title = Cat(table, " of ", m.Name());
  t.identifier = Lower(Cat(table, "_", m.kind == MultiplierKind::kTable ? "user" : m.Name()));
  return t;
}

void WriteMultiplierTable(const std::string& path, const MultiplierTable& t) {
  WriteIntegerTable(path, {t.rows, t.columns, t.values}, t.identifier, t.title);
}

}  // namespace octet
