#include "quantize/layer_multiplier.h"

#include "base/error.h"
#include "kernels/approx_setup.h"
#include "numerics/approx_product.h"

namespace octet {
namespace {

class Check {
 public:
  Check(const std::string& recipe, const LayerMultiplier& layer)
      : recipe_(recipe), what_(Cat("multiplier ", layer.text, layer.where)) {}

  // What the recipe asks for, and why it makes no sense or what to write.
  [[noreturn]] void Refuse(const std::string& why) const { Refuse("", why); }
  [[noreturn]] void Refuse(const std::string& before, const std::string& why) const {
    Fail(ErrorCode::kInvalidArgument, "recipe '", recipe_, "': ", before, what_, "; ", why);
  }
  void SetFormats(const NumberFormat& x, const NumberFormat& w) {
    what_ += Cat(" with activations in ", x.Name(), " and weights in ", w.Name());
  }

 private:
  const std::string& recipe_;
  std::string what_;
};

// Results of a format of 6 span 2^62 of its steps, the products before rounding twice the octaves.
constexpr int kMostExponentBits = 5;

// The keys that make both operands `format`.
std::string Both(const std::string& format) {
  return Cat("activation_format and weight_format ", format);
}

// A table says what each pair of bytes makes: of integers the range within the byte makes no
// difference, of floats the scale.
bool TableTakes(const NumberFormat& table, const NumberFormat& format) {
  if (table.is_float() != format.is_float() || table.bits() != format.bits() ||
      table.is_signed() != format.is_signed() || format.bits() > 8)
    return false;
  if (!format.is_float()) return true;
  FloatFormat a = table.floating(), b = format.floating();
  a.bias_rule = b.bias_rule = BiasRule::kReal;
  return a == b;
}

void CheckTable(const Check& check, const Multiplier& m, const NumberFormat& x,
                const NumberFormat& w) {
  if (TableTakes(NumberFormat::Parse(m.x), x) && TableTakes(NumberFormat::Parse(m.w), w)) return;
  check.Refuse(Cat("the table is of ", m.x, " by ", m.w, ": write activation_format ", m.x,
                   " and weight_format ", m.w, " there, or say what else it is of, x=", x.Name(),
                   ",w=", w.Name()));
}

// Its own format, which it need not name.
void CheckNamedFormat(const Check& check, Multiplier m, const FloatFormat& x) {
  if (m.format.empty()) return;
  const FloatFormat named = FloatFormat::Parse(m.format);
  if (named.exponent_bits == x.exponent_bits && named.mantissa_bits == x.mantissa_bits &&
      named.specials == x.specials)
    return;
  const bool adds = m.kind != MultiplierKind::kQamaa;
  const std::string format = Cat(m.format, adds ? ":bias=int" : "");
  const std::string of = m.format;
  m.format.clear();
  check.Refuse(Cat("it is of ", of, ": write ", m.Name(), ", which takes the layer's format, or ",
                   Both(format), " there"));
}

void CheckFloats(const Check& check, const Multiplier& m, const FloatFormat& x,
                 const FloatFormat& w) {
  if (x.exponent_bits != w.exponent_bits || x.mantissa_bits != w.mantissa_bits)
    check.Refuse(Cat("both operands need the same exponent and mantissa bits: write ",
                     NumberFormat(x).Name(), " or ", NumberFormat(w).Name(), " for both"));
  const std::string bits = Cat("e", x.exponent_bits, "m", x.mantissa_bits);
  if (x.specials != FloatSpecials::kNone || w.specials != FloatSpecials::kNone)
    check.Refuse("it knows no NaN and infinity: write " + bits);
  if (x.exponent_bits == 0)
    check.Refuse(Cat(bits, " has no exponents, its codes are integers: write int8, and table:..."));
  CheckNamedFormat(check, m, x);
  const bool adds = m.kind != MultiplierKind::kQamaa;
  if (adds && x.mantissa_bits == 0)
    check.Refuse("without mantissas, adding exponents is exact: write multiplier exact");
  if (x.exponent_bits > kMostExponentBits)
    check.Refuse(Cat("sums of its products, which are integers, would take more than 62 bits: ",
                     "write a format of at most ", kMostExponentBits, " exponent bits"));
  if (!adds) return;
  const auto is_integer = [](const FloatFormat& f) {
    return f.bias_rule == BiasRule::kInteger || f.bias_rule == BiasRule::kStandard;
  };
  if (!is_integer(x) || !is_integer(w))
    check.Refuse(Cat("it adds exponents, so biases must be integers: write ", bits, ":bias=int"));
  if (m.kind != MultiplierKind::kV9 || m.quant) return;
  // Unrounded products are as wide as the formats make them, whatever the biases.
  const CodeFormat code{x.exponent_bits, x.mantissa_bits, true, x.bias()};
  try {
    (void)MakeProductTable(m, {code, code, code, 0});
  } catch (const Error& e) {
    check.Refuse(Cat(e.what(), "; write quant=on, or a format of fewer exponents"));
  }
}

}  // namespace

void CheckLayerMultiplier(const std::string& recipe, Target target, const LayerMultiplier& layer) {
  const Multiplier m = Multiplier::Parse(layer.text);
  Check check(recipe, layer);
  if (m.kind == MultiplierKind::kExact) {
    if (!m.format.empty())
      check.Refuse("exact products have no format of their own: write multiplier exact");
    return;
  }
  if (target != Target::kOctet)
    check.Refuse(Cat("target ", TargetName(target), " with "),
                 "other runtimes have exact multipliers only; use target octet");
  const auto &x = layer.x.formats, &w = layer.w.formats;
  if (x.empty() || w.empty()) check.Refuse("float32 has no codes to multiply");
  if (x.size() > 1 || w.size() > 1)
    check.Refuse("formats are searched for; expected one of activations and one of weights");
  check.SetFormats(x[0], w[0]);
  if (m.kind == MultiplierKind::kTable) return CheckTable(check, m, x[0], w[0]);
  if (!x[0].is_float() || !w[0].is_float())
    check.Refuse("it multiplies codes of float formats: write " + Both("e4m3:bias=int") +
                 ", or the like");
  CheckFloats(check, m, x[0].floating(), w[0].floating());
}

void CheckTableCount(const std::string& recipe, const LayerMultiplier& layer, int64_t scales) {
  if (Multiplier::Parse(layer.text).kind != MultiplierKind::kQamaa) return;
  const FloatFormat& w = layer.w.formats[0].floating();
  if (w.bias_rule != BiasRule::kReal || scales <= int64_t{kernels::kMostApproxTables}) return;
  Check check(recipe, layer);
  check.SetFormats(layer.x.formats[0], layer.w.formats[0]);
  check.Refuse(Cat("it needs a table for each weight scale, at most ", kernels::kMostApproxTables,
                   ", and has ", scales, ": write weight_format ", w.Name(),
                   ":bias=int, or weight_granularity tensor"));
}

}  // namespace octet
