#include "kernels/approx_setup.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/checked_math.h"
#include "base/error.h"
#include "numerics/number_format.h"

namespace octet::kernels {
namespace {

std::string Subject(const ApproxLayerFormats& f, const char* what) {
  return Cat("layer '", f.layer, "': ", what);
}

void CheckFormat(const Multiplier& m, const ApproxLayerFormats& f) {
  if (m.format.empty()) return;
  const FloatFormat wanted = FloatFormat::Parse(m.format);
  const auto check = [&](const FloatFormat& got, const char* what) {
    if (got.exponent_bits == wanted.exponent_bits && got.mantissa_bits == wanted.mantissa_bits &&
        got.specials == wanted.specials)
      return;
    Fail(ErrorCode::kInvalidArgument, "layer '", f.layer, "': multiplier ", m.Name(), " is of ",
         m.format, ", but ", what, " is ", got.Name(), "; leave the multiplier's format out");
  };
  check(f.x.format, "the input");
  check(f.w_format, "the weight");
  if (m.kind != MultiplierKind::kExact) check(f.result.format, "the result");
}

// Powers of two as biases; formats as they are.
CodeFormat FormatOf(const ApproxLayerFormats& f, const FloatFormat& format, float scale,
                    const char* what) {
  return CodeFormatOf(format, scale, Subject(f, what));
}

void CheckScale(const ApproxLayerFormats& f, float scale, const char* what) {
  if (!(scale > 0) || !std::isfinite(scale))
    Fail(ErrorCode::kInvalidArgument, Subject(f, what), ": scale ", scale, "; expected above 0");
}

// Tables of distinct weight scales.
class Builder {
 public:
  Builder(const Multiplier& m, const ApproxLayerFormats& f, int64_t n) : m_(m), f_(f) {
    if (f.w_scale.size() != static_cast<size_t>(n) && f.w_scale.size() != 1)
      Fail(ErrorCode::kInvalidArgument, "layer '", f.layer, "': ", f.w_scale.size(),
           " weight scales; expected ", n, " or 1");
    CheckScale(f, f.x.scale, "input");
    for (const float s : f.w_scale) CheckScale(f, s, "weight");
  }

  template <typename MakeTable>
  ApproxTables Build(const MakeTable& make) {
    std::map<float, int32_t> index;
    for (const float scale : f_.w_scale) {
      const auto [at, added] = index.try_emplace(scale, static_cast<int32_t>(out_.tables.size()));
      if (added) {
        if (out_.tables.size() == kMostApproxTables)
          Fail(ErrorCode::kInvalidArgument, "layer '", f_.layer, "': multiplier ", m_.Name(),
               " needs a table for each weight scale, and there are more than ", kMostApproxTables,
               "; let scales be powers of two (", f_.w_format.Name(),
               ":bias=int) or one for all channels");
        units_.push_back(make(scale, &out_.tables.emplace_back()));
      }
      out_.multiply.table_of_channel.push_back(at->second);
      out_.multiply.unit.push_back(units_[static_cast<size_t>(at->second)]);
    }
    return Finish();
  }

  // One table for all scales: unit times scale.
  ApproxTables One(std::vector<int64_t> table, double unit) {
    out_.tables.push_back(std::move(table));
    for (const float scale : f_.w_scale)
      out_.multiply.unit.push_back(static_cast<float>(unit * static_cast<double>(scale)));
    return Finish();
  }

 private:
  ApproxTables Finish() {
    if (out_.multiply.table_of_channel.size() == 1) out_.multiply.table_of_channel.clear();
    for (const auto& table : out_.tables) out_.multiply.tables.push_back(table.data());
    const bool user = m_.kind == MultiplierKind::kTable;
    out_.multiply.x_bits = user ? 8 : std::clamp(f_.x.format.bits(), 6, 8);
    return std::move(out_);
  }

  const Multiplier& m_;
  const ApproxLayerFormats& f_;
  ApproxTables out_;
  std::vector<float> units_;
};

ApproxTables AdderTables(const Multiplier& m, const ApproxLayerFormats& f, int64_t n) {
  ProductFormats formats;
  formats.x = FormatOf(f, f.x.format, f.x.scale, "input");
  formats.result = FormatOf(f, f.result.format, f.result.scale, "result");
  return Builder(m, f, n).Build([&](float scale, std::vector<int64_t>* table) {
    formats.w = FormatOf(f, f.w_format, scale, "weight");
    try {
      ProductTable products = MakeProductTable(m, formats);
      *table = std::move(products.value);
      return static_cast<float>(products.unit);
    } catch (const Error& e) {
      Fail(e.code(), "layer '", f.layer, "': ", e.what());
    }
  });
}

ApproxTables RoundedTables(const Multiplier& m, const ApproxLayerFormats& f, int64_t n) {
  const CodeFormat x = FormatOf(f, f.x.format, 1.0F, "input"),
                   w = FormatOf(f, f.w_format, 1.0F, "weight");
  CheckScale(f, f.result.scale, "result");
  const CodeFormat r = FormatOf(f, f.result.format, 1.0F, "result");
  const double unit =
      static_cast<double>(f.result.scale) * std::ldexp(1.0, 1 - r.bias - r.mantissa_bits);
  ProductFormats formats;
  formats.result = r;
  formats.largest = f.result_limit / static_cast<double>(f.result.scale);
  const GridRounding rounding = RoundingOf(formats);
  ApproxTables tables = Builder(m, f, n).Build([&](float scale, std::vector<int64_t>* table) {
    const double factor = static_cast<double>(f.x.scale) * static_cast<double>(scale) / unit;
    table->resize(size_t{1} << 16);
    for (int a = 0; a < 1 << x.magnitude_bits(); ++a)
      for (int b = 0; b < 1 << w.magnitude_bits(); ++b) {
        const double product = rounding.Round(x.Decode(a) * w.Decode(b) * factor);
        SetProduct(x, w, a, b, static_cast<int64_t>(product), static_cast<int64_t>(-product),
                   table->data());
      }
    return static_cast<float>(unit);
  });
  tables.multiply.rounding = {true, m.each_add, rounding.mantissa_bits, rounding.largest};
  return tables;
}

ApproxTables ExactTables(const Multiplier& m, const ApproxLayerFormats& f, int64_t n) {
  ProductFormats formats;
  formats.x = FormatOf(f, f.x.format, 1.0F, "input");
  formats.w = FormatOf(f, f.w_format, 1.0F, "weight");
  formats.result = formats.x;
  ProductTable products = MakeProductTable(m, formats);
  return Builder(m, f, n).One(std::move(products.value),
                              products.unit * static_cast<double>(f.x.scale));
}

// A user's table with the zero points of its operands taken off, and what 1 in it stands for.
std::pair<std::vector<int64_t>, double> UserTable(const Multiplier& m, const ApproxLayerFormats& f,
                                                  std::span<const int64_t> user) {
  std::vector<int64_t> table(user.begin(), user.end());
  if (f.x_zero == 0 && f.w_zero == 0) return {std::move(table), m.table_unit};
  const NumberFormat x = NumberFormat::Parse(m.x), w = NumberFormat::Parse(m.w);
  if (x.is_float() || w.is_float())
    Fail(ErrorCode::kInvalidArgument, "layer '", f.layer, "': multiplier ", m.Name(),
         " of float codes with zero points ", f.x_zero, " and ", f.w_zero, "; expected 0");
  // Table times `times` less products times `share`.
  const double u = m.table_unit;
  const bool whole = u >= 1 ? std::floor(u) == u : std::floor(1 / u) == 1 / u;
  if (!whole || u > 0x1p30 || u < 0x1p-30)
    Fail(ErrorCode::kInvalidArgument, "layer '", f.layer, "': multiplier ", m.Name(),
         " with zero points ", f.x_zero, " and ", f.w_zero, ": unit is ", u,
         "; expected a whole number or one part of it, so that exact terms can be added");
  const auto times = u >= 1 ? static_cast<int64_t>(u) : 1;
  const auto share = u >= 1 ? 1 : static_cast<int64_t>(1 / u);
  const auto value = [](const NumberFormat& format, int byte) {
    return int64_t{format.is_signed() ? static_cast<int8_t>(byte) : byte};
  };
  for (int a = 0; a < 256; ++a)
    for (int b = 0; b < 256; ++b) {
      int64_t& entry = table[static_cast<size_t>(a * 256 + b)];
      const int64_t vx = value(x, a), vw = value(w, b);
      const int64_t terms = f.x_zero * vw + f.w_zero * vx - int64_t{f.x_zero} * f.w_zero;
      const auto scaled = CheckedMul(entry, times);
      const auto result = scaled ? CheckedAdd(*scaled, -terms * share) : scaled;
      if (!result)
        Fail(ErrorCode::kUnsupported, "layer '", f.layer, "': product ", entry, " of ", m.Name(),
             " leaves 64 bits");
      entry = *result;
    }
  return {std::move(table), u / static_cast<double>(times)};
}

}  // namespace

ApproxTables MakeApproxTables(const Multiplier& multiplier, const ApproxLayerFormats& formats,
                              int64_t n, std::span<const int64_t> user_table) {
  CheckFormat(multiplier, formats);
  if (multiplier.kind != MultiplierKind::kTable && (formats.x_zero != 0 || formats.w_zero != 0))
    Fail(ErrorCode::kInvalidArgument, "layer '", formats.layer, "': multiplier ", multiplier.Name(),
         " with zero points ", formats.x_zero, " and ", formats.w_zero, "; expected 0");
  switch (multiplier.kind) {
    case MultiplierKind::kHw:
    case MultiplierKind::kV9:
      return AdderTables(multiplier, formats, n);
    case MultiplierKind::kQamaa:
      return RoundedTables(multiplier, formats, n);
    case MultiplierKind::kExact:
      return ExactTables(multiplier, formats, n);
    case MultiplierKind::kTable:
      break;
  }
  if (user_table.size() != 65536)
    Fail(ErrorCode::kInvalidArgument, "layer '", formats.layer, "': table of ", multiplier.Name(),
         " has ", user_table.size(), " entries; expected 65536");
  auto [table, unit] = UserTable(multiplier, formats, user_table);
  return Builder(multiplier, formats, n)
      .One(std::move(table), unit * static_cast<double>(formats.x.scale));
}

}  // namespace octet::kernels
