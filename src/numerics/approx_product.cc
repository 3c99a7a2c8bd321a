#include "numerics/approx_product.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "numerics/approx_tables.h"

namespace octet {
namespace {

// An operand's magnitude as 2^(exponent - bias) * significand / 2^M. Normalised: significand in
// [n, 2n), exponent down to 1 - M; zero has significand 0.
struct Operand {
  bool normal = false;  // as it was stored
  int exponent = 0;
  int significand = 0;
};

struct Fields {
  bool negative;
  int exponent, mantissa;
};

Fields FieldsOf(const CodeFormat& f, int code) {
  const int magnitude = code & ((1 << f.magnitude_bits()) - 1);
  return {f.is_signed && ((code >> f.magnitude_bits()) & 1) != 0, magnitude >> f.mantissa_bits,
          magnitude & ((1 << f.mantissa_bits) - 1)};
}

Operand Normalised(const CodeFormat& f, int code) {
  const Fields fields = FieldsOf(f, code);
  const int n = 1 << f.mantissa_bits;
  Operand o{fields.exponent > 0, fields.exponent, n + fields.mantissa};
  if (o.normal) return o;
  o.exponent = 1;
  o.significand = fields.mantissa;
  for (; o.significand > 0 && o.significand < n; o.significand *= 2) --o.exponent;
  return o;
}

int64_t CheckedInteger(const Multiplier& multiplier, double value) {
  if (!(std::fabs(value) < 0x1p62)) {
    Fail(ErrorCode::kUnsupported, "multiplier ", multiplier.Name(), ": a product is 2^",
         std::ilogb(value), " steps of the result's grid; expected below 2^62");
  }
  return static_cast<int64_t>(value);
}

// 2^k, k from -1022 to 1023; and back from a normal number, below which it is -1023.
double Power(int k) { return std::bit_cast<double>(static_cast<uint64_t>(k + 1023) << 52); }
int ExponentOf(double a) { return static_cast<int>(std::bit_cast<uint64_t>(a) >> 52) - 1023; }

// The fork's rounding of `a` >= 0, in units of the subnormal step: the mantissa to nearest even,
// never carrying into the next exponent (6.3).
double RoundedWithoutCarry(double a, int mantissa_bits, double clip) {
  const double n = Power(mantissa_bits);
  if (clip > 0 && a > clip) return clip;
  if (a < n) return std::min(std::nearbyint(a), n - 1);
  const double step = Power(ExponentOf(a) - mantissa_bits);
  return std::min(std::nearbyint(a / step), 2 * n - 1) * step;
}

double LargestUnits(const CodeFormat& f) {
  return Power((1 << f.exponent_bits) - 2) * (2 * Power(f.mantissa_bits) - 1);
}

// A product of two magnitudes, in units of the table's unit.
struct Product {
  double value = 0;
  bool has_sign = true;  // of operands whose signs differ it is -value; else value all the same
};

// Products of codes without their sign bits.
class Products {
 public:
  Products(const Multiplier& multiplier, const ProductFormats& formats)
      : m_(multiplier),
        f_(formats),
        bits_(formats.result.mantissa_bits),
        n_(1 << bits_),
        table_(std::max(bits_, 1)),
        rounding_(RoundingOf(formats)),
        x_(OperandsOf(formats.x)),
        w_(OperandsOf(formats.w)) {
    if (m_.kind == MultiplierKind::kHw) table_ = CompensationTable(bits_, m_.d);
    if (m_.kind == MultiplierKind::kV9 && m_.approx) table_ = ResidualTable(bits_, m_.d);
  }

  [[nodiscard]] double unit() const {
    const CodeFormat &x = f_.x, &w = f_.w, &r = f_.result;
    if (m_.kind == MultiplierKind::kExact)
      return Power(2 - x.bias - w.bias - x.mantissa_bits - w.mantissa_bits);
    if (m_.kind == MultiplierKind::kV9 && !m_.quant) return Power(2 - x.bias - w.bias - 3 * bits_);
    return Power(1 - r.bias - bits_);
  }

  [[nodiscard]] Product Of(int x, int w) const {
    switch (m_.kind) {
      case MultiplierKind::kExact:
        return {f_.x.Decode(x) * f_.w.Decode(w) / unit()};
      case MultiplierKind::kQamaa:
        return {rounding_.Round(f_.x.Decode(x) * f_.w.Decode(w) / unit())};
      case MultiplierKind::kHw:
        return {Hw(x, w)};
      case MultiplierKind::kV9:
        return V9(x_[static_cast<size_t>(x)], w_[static_cast<size_t>(w)]);
      case MultiplierKind::kTable:
        break;
    }
    Fail(ErrorCode::kInternal, "the products of multiplier ", m_.Name(), " are its file's");
  }

 private:
  using Operands = std::array<Operand, 256>;  // by code
  static Operands OperandsOf(const CodeFormat& f) {
    Operands all;
    for (int code = 0; code < 1 << f.magnitude_bits(); ++code)
      all[static_cast<size_t>(code)] = Normalised(f, code);
    return all;
  }

  // An operand as the adder takes it: exponent << M plus mantissa, as one integer.
  [[nodiscard]] int AdderCode(const Operands& operands, int code) const {
    if (!m_.s2n) return code;
    const Operand& o = operands[static_cast<size_t>(code)];
    return o.exponent * n_ + o.significand - n_;
  }

  [[nodiscard]] double Hw(int x, int w) const {
    if (x == 0 || w == 0) return 0;
    const int ix = AdderCode(x_, x), iw = AdderCode(w_, w);
    return DecodeSum(ix + iw - f_.delta() * n_ + table_(ix & (n_ - 1), iw & (n_ - 1)));
  }

  [[nodiscard]] double DecodeSum(int sum) const {
    const int codes = 1 << f_.result.magnitude_bits();
    if (sum >= codes && m_.overflow != AdderOverflow::kUnbounded)
      sum = m_.overflow == AdderOverflow::kSaturate ? codes - 1 : sum & (codes - 1);
    if (sum < 0) {
      if (m_.underflow == AdderUnderflow::kFlush) return 0;
      if (m_.underflow == AdderUnderflow::kKeep) sum &= n_ - 1;
      if (m_.underflow == AdderUnderflow::kWrap) sum &= codes - 1;
    }
    const int exponent = sum >> bits_, mantissa = sum & (n_ - 1);
    if (exponent > 0) return Power(exponent - 1) * (n_ + mantissa);
    if (m_.underflow == AdderUnderflow::kGradual)
      return std::nearbyint(Power(std::max(exponent, -1000) - 1) * (n_ + mantissa));
    return mantissa;
  }

  [[nodiscard]] Product V9(const Operand& x, const Operand& w) const {
    if (x.significand == 0 || w.significand == 0) return {};
    // Significands' product P counts 2^power units, its residual n T as much.
    const int power = m_.quant ? x.exponent + w.exponent - f_.delta() - 1 - bits_
                               : x.exponent + w.exponent - 2 + bits_;
    const double scale = Power(power), clip = m_.clip ? LargestUnits(f_.result) : 0;
    const double product = x.significand * w.significand * scale;
    const double golden = m_.quant ? RoundedWithoutCarry(product, bits_, clip) : product;
    // A product that rounds to 0 counts as positive (B12).
    const bool has_sign = golden > 0;
    const double min_normal = m_.quant ? n_ : Power(1 - f_.result.bias) / unit();
    if (!m_.s2nn2s && !(x.normal && w.normal && golden >= min_normal)) return {golden, has_sign};
    const int residual = table_(x.significand - n_, w.significand - n_);
    const double approximate = (x.significand * w.significand - n_ * residual) * scale;
    return {m_.quant ? RoundedWithoutCarry(approximate, bits_, clip) : approximate, has_sign};
  }

  const Multiplier& m_;
  const ProductFormats& f_;
  int bits_, n_;
  MantissaTable table_;
  GridRounding rounding_;
  Operands x_, w_;
};

void CheckFormat(const CodeFormat& f, const char* what, const Multiplier& multiplier) {
  if (f.exponent_bits >= 1 && f.exponent_bits <= 7 && f.mantissa_bits >= 0 && f.bits() <= 8 &&
      f.bits() >= 3)
    return;
  Fail(ErrorCode::kInvalidArgument, "multiplier ", multiplier.Name(), ": format of ", what, " has ",
       f.exponent_bits, " exponent and ", f.mantissa_bits,
       " mantissa bits; expected 1 to 7 exponent bits and 3 to 8 bits in all");
}

}  // namespace

double CodeFormat::Decode(int code) const {
  const Fields f = FieldsOf(*this, code);
  const int whole = f.exponent == 0 ? f.mantissa : f.mantissa + (1 << mantissa_bits);
  const double value = std::ldexp(whole, std::max(f.exponent, 1) - bias - mantissa_bits);
  return f.negative ? -value : value;
}

CodeFormat CodeFormatOf(const FloatFormat& format, float scale, const std::string& subject) {
  if (format.has_nan() || format.has_infinity()) {
    Fail(
        ErrorCode::kInvalidArgument, subject, ": format ", format.Name(),
        " has codes that are no finite number; approximate multipliers need one without, such as e",
        format.exponent_bits, "m", format.mantissa_bits);
  }
  int exponent = 0;
  if (!(scale > 0) || std::frexp(scale, &exponent) != 0.5F) {
    Fail(ErrorCode::kInvalidArgument, subject, ": scale ", scale,
         " is no power of two; multipliers that add exponents need an integer bias: write the "
         "format as ",
         format.Name(), ":bias=int");
  }
  return {format.exponent_bits, format.mantissa_bits, format.is_signed,
          format.bias() - (exponent - 1)};
}

void CheckProduct(const Multiplier& multiplier, const ProductFormats& formats) {
  CheckFormat(formats.x, "x", multiplier);
  CheckFormat(formats.w, "w", multiplier);
  CheckFormat(formats.result, "the result", multiplier);
  const int bits = formats.result.mantissa_bits;
  const bool adds =
      multiplier.kind == MultiplierKind::kHw || multiplier.kind == MultiplierKind::kV9;
  if (adds && (formats.x.mantissa_bits != bits || formats.w.mantissa_bits != bits)) {
    Fail(ErrorCode::kInvalidArgument, "multiplier ", multiplier.Name(),
         ": mantissas of x, w and the result have ", formats.x.mantissa_bits, ", ",
         formats.w.mantissa_bits, " and ", bits,
         " bits; codes of different widths cannot be added, give all three one format");
  }
  if (adds && bits < 1)
    Fail(ErrorCode::kInvalidArgument, "multiplier ", multiplier.Name(),
         ": a format without mantissa bits is multiplied exactly by adding exponents; use exact");
  if (!(formats.largest >= 0))
    Fail(ErrorCode::kInvalidArgument, "multiplier ", multiplier.Name(),
         ": largest magnitude of results is ", formats.largest, "; expected >= 0");
}

void SetProduct(const CodeFormat& x_format, const CodeFormat& w_format, int x, int w, int64_t same,
                int64_t other, int64_t* table) {
  int64_t* at = table + x * 256 + w;
  const int x_sign = x_format.is_signed ? 256 << x_format.magnitude_bits() : 0;
  const int w_sign = w_format.is_signed ? 1 << w_format.magnitude_bits() : 0;
  *at = same;
  if (x_sign != 0) at[x_sign] = other;
  if (w_sign != 0) at[w_sign] = other;
  if (x_sign != 0 && w_sign != 0) at[x_sign + w_sign] = same;
}

ProductTable MakeProductTable(const Multiplier& multiplier, const ProductFormats& formats) {
  if (multiplier.kind == MultiplierKind::kTable)
    Fail(ErrorCode::kInvalidArgument, "multiplier ", multiplier.Name(),
         ": its products come from its file, not from formats");
  CheckProduct(multiplier, formats);
  const Products products(multiplier, formats);
  ProductTable table;
  table.unit = products.unit();
  table.value.resize(size_t{1} << 16);
  // Signs are apart from everything else: half of the codes of each operand say it all.
  for (int x = 0; x < 1 << formats.x.magnitude_bits(); ++x)
    for (int w = 0; w < 1 << formats.w.magnitude_bits(); ++w) {
      const Product product = products.Of(x, w);
      const int64_t same = CheckedInteger(multiplier, product.value);
      const int64_t other = product.has_sign ? -same : same;
      SetProduct(formats.x, formats.w, x, w, same, other, table.value.data());
    }
  return table;
}

double GridRounding::Round(double value) const {
  const double a = std::min(std::fabs(value), largest);
  const double step = a > 0 ? Power(std::max(ExponentOf(a) - mantissa_bits, 0)) : 1.0;
  const double rounded = std::nearbyint(a / step) * step;
  return value < 0 ? -rounded : rounded;
}

GridRounding RoundingOf(const ProductFormats& formats) {
  const CodeFormat& r = formats.result;
  const double units = formats.largest / Power(1 - r.bias - r.mantissa_bits);
  return {r.mantissa_bits, formats.largest > 0 ? units : LargestUnits(r)};
}

int RoundedBias(int exponent_bits, int mantissa_bits, double largest) {
  return static_cast<int>(std::nearbyint(Power(exponent_bits) - std::log2(largest) +
                                         std::log2(2 - Power(-mantissa_bits)) - 1));
}

}  // namespace octet
