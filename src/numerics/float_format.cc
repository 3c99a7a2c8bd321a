#include "numerics/float_format.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace octet {
namespace {

constexpr float kSmallestScale = 1.17549435e-38F;  // kMinScale of qparams.h

constexpr std::string_view kRuleNames[] = {"real", "int", "int-round", "standard"};
constexpr std::string_view kBiasKey = ":bias=";

// Reads one digit at the front of text.
bool TakeDigit(std::string_view& text, int& digit) {
  if (text.empty() || text.front() < '0' || text.front() > '9') return false;
  digit = text.front() - '0';
  text.remove_prefix(1);
  return true;
}

bool Take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

[[noreturn]] void Refuse(std::string_view name, std::string_view why) {
  Fail(ErrorCode::kInvalidArgument, "float format '", name, "'", why,
       "; expected such as e4m3, ue4m4, e4m3fn, e5m2fnuz, float8_e5m2 or e3m4:bias=int (real, int, "
       "int-round or standard)");
}

// What makes bits and specials a format, or why they are none.
std::string_view FaultOf(const FloatFormat& f) {
  const bool none = f.specials == FloatSpecials::kNone;
  if (f.exponent_bits < 0 || f.exponent_bits > 7 || f.mantissa_bits < 0 || f.mantissa_bits > 7) {
    return ": exponent and mantissa have 0 to 7 bits";
  }
  if (f.bits() < 3 || f.bits() > 8) return ": sign, exponent and mantissa are 3 to 8 bits";
  if (!none && !f.is_signed) return ": formats with NaN are signed";
  if (f.specials == FloatSpecials::kFn && f.bits() != 8) {
    return ": fn has a NaN in formats of 8 bits only";
  }
  if (!none && f.exponent_bits == 0) return ": formats with NaN have exponent bits";
  if (f.specials == FloatSpecials::kIeee && (f.exponent_bits < 2 || f.mantissa_bits < 1)) {
    return ": infinity and NaN take 2 exponent bits and a mantissa bit";
  }
  return {};
}

}  // namespace

uint8_t FloatFormat::max_code() const {
  const int codes = 1 << (exponent_bits + mantissa_bits);
  switch (specials) {
    case FloatSpecials::kNone:
    case FloatSpecials::kFnuz:
      return static_cast<uint8_t>(codes - 1);
    case FloatSpecials::kFn:
      return static_cast<uint8_t>(codes - 2);
    case FloatSpecials::kIeee:
      return static_cast<uint8_t>(codes - 1 - (1 << mantissa_bits));
  }
  Fail(ErrorCode::kInternal, "float format: unknown specials");
}

float FloatFormat::MinNormal() const { return std::ldexp(1.0F, 1 - bias()); }

float FloatFormat::MinSubnormal() const { return std::ldexp(1.0F, 1 - bias() - mantissa_bits); }

float FloatFormat::Decode(uint8_t code) const {
  const int magnitude = code & ((1 << (exponent_bits + mantissa_bits)) - 1);
  const bool negative = (code & sign_bit()) != 0;
  const float sign = negative ? -1.0F : 1.0F;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  if (specials == FloatSpecials::kFnuz && negative && magnitude == 0) return kNan;
  if (magnitude > max_code()) {
    if (specials == FloatSpecials::kIeee && magnitude == max_code() + 1) {
      return sign * std::numeric_limits<float>::infinity();
    }
    return std::copysign(kNan, sign);
  }
  const int e = magnitude >> mantissa_bits;
  const int m = magnitude & ((1 << mantissa_bits) - 1);
  const int significand = e > 0 ? m + (1 << mantissa_bits) : m;
  return sign *
         std::ldexp(static_cast<float>(significand), std::max(e, 1) - bias() - mantissa_bits);
}

uint8_t FloatFormat::Encode(float x, FloatOverflow overflow) const {
  FloatGrid grid(*this);
  if (overflow == FloatOverflow::kSpecial && has_nan()) {
    // Rounded on the grid that goes on beyond Max(): by how far does not matter.
    const float largest = grid.max;
    grid.max = 4 * largest;
    if (std::fabs(grid.Round(x)) > largest) {
      const uint8_t sign = std::signbit(x) ? sign_bit() : uint8_t{0};
      return static_cast<uint8_t>((has_infinity() ? max_code() + 1 : grid.nan_code) | sign);
    }
    grid.max = largest;
  }
  return grid.Encode(x);
}

float FloatFormat::Round(float x) const { return FloatGrid(*this).Round(x); }

FloatFormat FloatFormat::Parse(std::string_view name) {
  std::string_view rest = name;
  FloatFormat format;
  if (const size_t colon = rest.find(':'); colon != std::string_view::npos) {
    std::string_view rule = rest.substr(colon);
    const bool key = Take(rule, kBiasKey);
    const auto* const found = std::find(std::begin(kRuleNames), std::end(kRuleNames), rule);
    if (!key || found == std::end(kRuleNames)) Refuse(name, ": not a bias rule");
    format.bias_rule = static_cast<BiasRule>(found - std::begin(kRuleNames));
    rest = rest.substr(0, colon);
  }
  int bits_in_name = 0;
  if (Take(rest, "float")) {
    if (!TakeDigit(rest, bits_in_name) || !Take(rest, "_")) Refuse(name, "");
  } else {
    format.is_signed = !Take(rest, "u");
  }
  if (!Take(rest, "e") || !TakeDigit(rest, format.exponent_bits) || !Take(rest, "m") ||
      !TakeDigit(rest, format.mantissa_bits)) {
    Refuse(name, "");
  }
  if (bits_in_name != 0 && bits_in_name != format.bits()) Refuse(name, ": bits do not add up");
  if (rest == "fn") {
    format.specials =
        format.bits() == 8 || !format.is_signed ? FloatSpecials::kFn : FloatSpecials::kNone;
  } else if (rest == "fnuz") {
    format.specials = FloatSpecials::kFnuz;
  } else if (rest == "ieee" || (rest.empty() && bits_in_name == 8)) {
    format.specials = FloatSpecials::kIeee;
  } else if (!rest.empty()) {
    Refuse(name, "");
  }
  if (const std::string_view fault = FaultOf(format); !fault.empty()) Refuse(name, fault);
  return format;
}

std::string FloatFormat::Name() const {
  std::string name = Cat(is_signed ? "" : "u", "e", exponent_bits, "m", mantissa_bits);
  if (specials == FloatSpecials::kFn) name += "fn";
  if (specials == FloatSpecials::kFnuz) name += "fnuz";
  if (specials == FloatSpecials::kIeee) name = bits() == 8 ? "float8_" + name : name + "ieee";
  if (bias_rule != BiasRule::kReal) {
    name.append(kBiasKey).append(kRuleNames[static_cast<size_t>(bias_rule)]);
  }
  return name;
}

void FloatFormat::Check() const {
  const std::string_view fault = FaultOf(*this);
  if (!fault.empty()) {
    Fail(ErrorCode::kInvalidArgument, "float format of ", exponent_bits, " exponent and ",
         mantissa_bits, " mantissa bits", fault);
  }
}

FloatGrid::FloatGrid(const FloatFormat& format)
    : max(format.Max()),
      min_normal(format.MinNormal()),
      step_bits(static_cast<uint32_t>(23 - format.mantissa_bits) << 23),
      is_signed(format.is_signed),
      negative_zero(format.has_negative_zero()),
      nan(format.has_nan()),
      sign_bit(format.sign_bit()),
      mantissa_bits(format.mantissa_bits),
      code_offset(static_cast<uint32_t>(127 - format.bias() + 1) << format.mantissa_bits) {
  switch (format.specials) {
    case FloatSpecials::kNone:
      break;
    case FloatSpecials::kFn:
      nan_code = static_cast<uint8_t>(format.max_code() + 1);
      break;
    case FloatSpecials::kFnuz:
      nan_code = format.sign_bit();
      break;
    case FloatSpecials::kIeee:  // the quiet one
      nan_code = static_cast<uint8_t>(format.max_code() + 1 + (1 << (format.mantissa_bits - 1)));
      break;
  }
}

float FloatScaleFor(const FloatFormat& format, float maxval, std::string_view subject) {
  if (!(maxval >= 0) || !std::isfinite(maxval)) {
    Fail(ErrorCode::kBadData, subject, ": largest magnitude ", maxval,
         "; expected a finite one, not below 0");
  }
  if (maxval == 0 || format.bias_rule == BiasRule::kStandard) return 1;
  const double wanted = maxval;
  const double largest = format.Max();
  double scale = wanted / largest;
  if (format.bias_rule == BiasRule::kInteger) {
    // ldexp is exact, so a maxval that is a power of two times Max() gets just that power.
    int k = std::ilogb(scale) - 1;
    while (std::ldexp(largest, k) < wanted) ++k;
    scale = std::ldexp(1.0, k);
  } else if (format.bias_rule == BiasRule::kIntegerRound) {
    // b = 2^E - log2 maxval + log2(2 - 2^-M) - 1, rounded; the scale moves the format's own to it.
    // The fork's default bias is one above bias(), where the top exponent is as here.
    const double real = format.bias() - std::log2(scale);
    scale = std::ldexp(1.0, format.bias() - static_cast<int>(std::nearbyint(real)));
  }
  if (format.bias_rule == BiasRule::kInteger && scale * largest >= 0x1p128) {
    Fail(ErrorCode::kBadData, subject, ": largest magnitude ", maxval, " takes a scale of ", scale,
         " in ", format.Name(), ", whose largest value is no finite float");
  }
  return std::max(static_cast<float>(scale), kSmallestScale);
}

float FloatLimitFor(const FloatFormat& format, float maxval, float scale) {
  if (format.bias_rule != BiasRule::kIntegerRound || maxval == 0) return format.Max();
  return maxval / scale;
}

std::vector<float> FloatValues(const FloatFormat& format, float limit) {
  FloatGrid grid(format);
  if (limit != 0) grid.max = limit;
  const float largest = grid.Round(grid.max);
  std::vector<float> values;
  for (float v = 0; v <= largest;) {
    values.push_back(v);
    const float binade = std::ldexp(1.0F, v > 0 ? std::ilogb(v) : -126);
    v += std::ldexp(std::max(binade, grid.min_normal), -format.mantissa_bits);
  }
  if (!format.is_signed) return values;
  std::vector<float> both;
  both.reserve(2 * values.size() - 1);
  for (size_t i = values.size() - 1; i > 0; --i) both.push_back(-values[i]);
  both.insert(both.end(), values.begin(), values.end());
  return both;
}

}  // namespace octet
