#include "octet/formats.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "evaluate/format_analysis.h"
#include "numerics/number_format.h"
#include "numerics/qparams.h"
#include "numerics/rounding.h"

namespace octet {
namespace {

double ScaleOf(const NumberFormat& format, const GridOptions& grid) {
  if (grid.maxval && grid.bias) {
    Fail(ErrorCode::kInvalidArgument, "format ", format.Name(),
         ": a largest value and a bias exclude each other");
  }
  if (grid.bias) {
    const int own = format.floating().bias();  // throws for integers
    // A double holds every value then; scales of models are floats and narrower.
    if (*grid.bias < -500 || *grid.bias > 500) {
      Fail(ErrorCode::kInvalidArgument, "format ", format.Name(), ": bias ", *grid.bias,
           "; expected -500 to 500");
    }
    return std::ldexp(1.0, own - *grid.bias);
  }
  if (!grid.maxval) return 1;
  const auto maxval = static_cast<float>(*grid.maxval);
  if (!(maxval > 0) || !std::isfinite(maxval)) {
    Fail(ErrorCode::kInvalidArgument, "format ", format.Name(), ": largest value ", *grid.maxval,
         "; expected a number above 0");
  }
  if (format.is_float()) return static_cast<double>(FloatScaleFor(format.floating(), maxval));
  const IntFormat& integer = format.integer();
  return static_cast<double>(integer.is_signed ? ChooseSymmetric(maxval, integer)
                                               : ChooseAsymmetric(0, maxval, integer).scale);
}

std::string Bits(uint32_t code, std::initializer_list<int> fields) {
  std::string text;
  int left = 0;
  for (int f : fields) left += f;
  for (int f : fields) {
    if (f == 0) continue;
    if (!text.empty()) text += ' ';
    for (int i = 0; i < f; ++i) text += ((code >> --left) & 1U) != 0 ? '1' : '0';
  }
  return text;
}

}  // namespace

std::vector<FormatCode> FormatCodes(const std::string& name, const GridOptions& grid) {
  const NumberFormat format = NumberFormat::Parse(name);
  const double scale = ScaleOf(format, grid);
  std::vector<FormatCode> codes;
  if (!format.is_float()) {
    const IntFormat& f = format.integer();
    for (int32_t q = f.qmin(); q <= f.qmax(); ++q) {
      codes.push_back({q, Bits(static_cast<uint32_t>(q), {f.bits}), q * scale});
    }
    return codes;
  }
  const FloatFormat& f = format.floating();
  for (int c = 0; c < f.code_count(); ++c) {
    codes.push_back(
        {c, Bits(static_cast<uint32_t>(c), {f.is_signed ? 1 : 0, f.exponent_bits, f.mantissa_bits}),
         static_cast<double>(f.Decode(static_cast<uint8_t>(c))) * scale});
  }
  return codes;
}

FormatFacts DescribeFormat(const std::string& name, const GridOptions& grid) {
  const NumberFormat format = NumberFormat::Parse(name);
  FormatFacts facts;
  facts.name = format.Name();
  facts.is_float = format.is_float();
  facts.is_signed = format.is_signed();
  facts.bits = format.bits();
  facts.scale = ScaleOf(format, grid);
  facts.min_positive = facts.scale;
  if (facts.is_float) {
    const FloatFormat& f = format.floating();
    facts.exponent_bits = f.exponent_bits;
    facts.mantissa_bits = f.mantissa_bits;
    facts.bias = f.bias();
    facts.max = static_cast<double>(f.Max()) * facts.scale;
    facts.min = f.is_signed ? -facts.max : 0;
    if (f.exponent_bits > 0) facts.min_normal = static_cast<double>(f.MinNormal()) * facts.scale;
    facts.codes = f.code_count();
    facts.values = static_cast<int>(FloatValues(f).size());
    for (int c = 0; c < f.code_count(); ++c) {
      const float v = f.Decode(static_cast<uint8_t>(c));
      facts.nan_codes += std::isnan(v) ? 1 : 0;
      facts.infinity_codes += std::isinf(v) ? 1 : 0;
      const double value = static_cast<double>(v) * facts.scale;
      if (c == 1) facts.min_positive = value;
    }
  } else {
    const IntFormat& f = format.integer();
    facts.max = f.qmax() * facts.scale;
    facts.min = f.qmin() * facts.scale;
    facts.codes = f.levels();
    facts.values = f.levels();
  }
  facts.dynamic_range_db = 20 * std::log10(facts.max / facts.min_positive);
  return facts;
}

std::vector<int32_t> EncodeValues(const std::string& name, std::span<const float> values,
                                  const GridOptions& grid, bool saturate) {
  const NumberFormat format = NumberFormat::Parse(name);
  const auto scale = static_cast<float>(ScaleOf(format, grid));
  if (!(scale >= kMinScale) || !std::isfinite(scale)) {
    Fail(ErrorCode::kInvalidArgument, "format ", format.Name(), ": scale ", scale,
         "; expected a finite one of at least 2^-126");
  }
  std::vector<int32_t> codes(values.size());
  if (!format.is_float()) {
    if (!saturate) {
      Fail(ErrorCode::kInvalidArgument, "format ", format.Name(), ": integers saturate");
    }
    const IntFormat& f = format.integer();
    for (size_t i = 0; i < values.size(); ++i) {
      codes[i] = QuantizeOne(values[i], scale, 0, f.qmin(), f.qmax());
    }
    return codes;
  }
  const FloatFormat& f = format.floating();
  if (saturate) {
    const FloatGrid rounding(f);
    for (size_t i = 0; i < values.size(); ++i) codes[i] = rounding.Encode(values[i] / scale);
  } else {
    for (size_t i = 0; i < values.size(); ++i) {
      codes[i] = f.Encode(values[i] / scale, FloatOverflow::kSpecial);
    }
  }
  return codes;
}

FormatComparison CompareFormats(const std::vector<std::string>& formats,
                                const std::string& distribution, const ComparisonOptions& options) {
  if (options.clip && !(*options.clip > 0)) {
    Fail(ErrorCode::kInvalidArgument, "distribution '", distribution, "' clipped at ",
         *options.clip, "; expected a number above 0");
  }
  const Distribution d = Distribution::Parse(distribution, options.clip.value_or(0));
  FormatComparison comparison;
  comparison.distribution = d.Name();
  comparison.clip = d.clip;
  comparison.power = d.Power();
  for (const std::string& name : formats) {
    const NumberFormat format = NumberFormat::Parse(name);
    const GridError e = options.alpha ? ErrorAt(d, format, *options.alpha) : LeastError(d, format);
    FormatComparison::Row row;
    row.format = format.Name();
    row.alpha = e.alpha;
    row.mse = e.mse;
    row.sqnr_db = 10 * std::log10(comparison.power / e.mse);
    row.raw_db = -10 * std::log10(e.mse);
    row.dot_mse = ProductError(comparison.power, e);
    row.dot_sqnr_db = 10 * std::log10(comparison.power * comparison.power / row.dot_mse);
    comparison.rows.push_back(row);
  }
  return comparison;
}

}  // namespace octet
