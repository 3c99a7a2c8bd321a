// A float number format of 3 to 8 bits as a value: sign, exponent and mantissa bits, what its
// highest codes mean, and how the scale is chosen that fits it to a range.
// Spec: spec/fp8.md 2.1 (the formats of "FP8 Quantization: The Power of the Exponent"), OCP 8-bit
// and microscaling formats, ONNX float8 types.
//
// A quantized value is scale * Decode(code), without a zero point. A code is sign | exponent field
// e | mantissa field m; it decodes to 2^(1 - b) m / 2^M for e = 0 (subnormals), otherwise to
// 2^(e - b) (1 + m / 2^M). b is 2^(E - 1) - 1, of FNUZ formats 2^(E - 1). A flexible bias is
// nothing but a scale: any float is a real-valued bias, a power of two an integer one.
// E = 0 has subnormals only; its b is 1 - M, so that they are the integers m (the original's E = 0
// has one value more than it has codes for).
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

enum class FloatSpecials : uint8_t {
  kNone,  // every code is a finite number
  kFn,    // OCP E4M3: all ones is NaN; no infinity
  kFnuz,  // what would be -0 is NaN, there is no -0; no infinity
  kIeee,  // the highest exponent holds infinity and NaN
};

// How a scale is chosen for the largest magnitude `maxval` of a range.
enum class BiasRule : uint8_t {
  kReal,          // scale = maxval / Max()
  kInteger,       // the least power of two whose largest value is not below maxval
  kIntegerRound,  // the original fork's: the integer nearest to the real bias. Where that makes the
                  // largest value smaller than maxval, values up to maxval get codes beyond the
                  // format's bits: it can be rounded to (FloatLimitFor), but has no codes
  kStandard,      // scale = 1
};

enum class FloatOverflow : uint8_t {
  kSaturate,  // beyond Max(), infinities too: Max() with the value's sign
  kSpecial,   // what rounds beyond Max(): infinity or, without one, NaN; without both, Max()
};

struct FloatFormat {
  int exponent_bits = 4;  // 0...7
  int mantissa_bits = 3;  // 0...7; 3 to 8 bits in all, the sign included
  bool is_signed = true;
  FloatSpecials specials = FloatSpecials::kNone;
  BiasRule bias_rule = BiasRule::kReal;

  [[nodiscard]] int bits() const { return exponent_bits + mantissa_bits + (is_signed ? 1 : 0); }
  [[nodiscard]] int bias() const {
    if (exponent_bits == 0) return 1 - mantissa_bits;
    return (1 << (exponent_bits - 1)) - (specials == FloatSpecials::kFnuz ? 0 : 1);
  }
  [[nodiscard]] uint8_t sign_bit() const {
    return static_cast<uint8_t>(is_signed ? 1 << (exponent_bits + mantissa_bits) : 0);
  }
  [[nodiscard]] uint8_t max_code() const;  // the largest positive finite value's
  [[nodiscard]] float Max() const { return Decode(max_code()); }
  [[nodiscard]] float MinNormal() const;     // 2^(1 - b); of E = 0 no code has it
  [[nodiscard]] float MinSubnormal() const;  // the step below MinNormal: 2^(1 - b - M)
  [[nodiscard]] int code_count() const { return 1 << bits(); }
  [[nodiscard]] bool has_nan() const { return specials != FloatSpecials::kNone; }
  [[nodiscard]] bool has_infinity() const { return specials == FloatSpecials::kIeee; }
  [[nodiscard]] bool has_negative_zero() const {
    return is_signed && specials != FloatSpecials::kFnuz;
  }

  // Of any byte: bits above the format's are ignored.
  [[nodiscard]] float Decode(uint8_t code) const;
  // The nearest value's code, ties to the even multiple of the step (the even code, where M > 0).
  // Unsigned formats take negative values to 0. NaN: the format's NaN with the value's sign;
  // without one, code 0: data with NaN is refused before it gets here (calibrate/statistics.h).
  [[nodiscard]] uint8_t Encode(float x, FloatOverflow overflow = FloatOverflow::kSaturate) const;
  // Decode(Encode(x)).
  [[nodiscard]] float Round(float x) const;

  // "e3m4": 3 exponent and 4 mantissa bits, signed, every code finite; "ue4m4": unsigned. With
  // specials: "e4m3fn" (of formats below 8 bits "fn" is OCP's: finite throughout, as without it),
  // "e4m3fnuz", "e5m2ieee". As ml_dtypes and ONNX write them: "float8_e5m2" (= e5m2ieee),
  // "float8_e4m3", "float8_e3m4", "float8_e4m3fn", "float6_e2m3fn", "float4_e2m1fn", ... A bias
  // rule behind any: ":bias=real" (as without), ":bias=int", ":bias=int-round", ":bias=standard".
  // Throws kInvalidArgument, naming the text and what is expected.
  [[nodiscard]] static FloatFormat Parse(std::string_view name);
  [[nodiscard]] std::string Name() const;  // what Parse reads
  // Throws kInvalidArgument where the bits are out of range or the specials do not fit them.
  void Check() const;

  friend bool operator==(const FloatFormat&, const FloatFormat&) = default;
};

// How a format rounds, as bounds and an exponent: what FloatFormat, the arrays of qparams.h and the
// kernels share. Built once for many values.
struct FloatGrid {
  float max = 0;           // magnitudes are clamped to it, before they are rounded
  float min_normal = 0;    // the step does not shrink below it
  uint32_t step_bits = 0;  // (23 - M) << 23
  bool is_signed = true;
  bool negative_zero = true;  // what rounds to 0 keeps its sign
  bool nan = false;           // NaN stays; otherwise 0
  // Of Encode alone.
  uint8_t sign_bit = 0;
  uint8_t nan_code = 0;
  int mantissa_bits = 0;
  uint32_t code_offset = 0;  // (float's exponent field of min_normal - 1) << M, less the hidden bit

  explicit FloatGrid(const FloatFormat& format);

  // To the nearest value of the format.
  [[nodiscard]] float Round(float x) const {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    float a = std::bit_cast<float>(bits & 0x7fffffffU);
    if (!(a <= max)) {
      if (a != a) return nan ? x : 0.0F;
      a = max;
    }
    const float magic = std::bit_cast<float>(Exponent(a) + step_bits);
    const float rounded = (a + magic) - magic;
    uint32_t sign = bits & 0x80000000U;
    if (!is_signed && sign != 0) return 0.0F;
    if (!negative_zero && rounded == 0) sign = 0;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(rounded) | sign);
  }

  // The code of Round(x), for a max that has one.
  [[nodiscard]] uint8_t Encode(float x) const {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    float a = std::bit_cast<float>(bits & 0x7fffffffU);
    const bool negative = (bits & 0x80000000U) != 0;
    if (!(a <= max)) {
      if (a != a) return static_cast<uint8_t>(nan ? nan_code | (negative ? sign_bit : 0) : 0);
      a = max;
    }
    const uint32_t exponent = Exponent(a);
    const float magic = std::bit_cast<float>(exponent + step_bits);
    // The sum's low bits count steps: 0...2^(M + 1), whose last carries into the exponent.
    const uint32_t steps = std::bit_cast<uint32_t>(a + magic) & 0x7fffffU;
    const uint32_t code = ((exponent >> 23) << mantissa_bits) - code_offset + steps;
    if (!negative || (code == 0 && !negative_zero)) return static_cast<uint8_t>(code);
    return static_cast<uint8_t>(is_signed ? code | sign_bit : 0);
  }

 private:
  // The exponent field whose step |x| = a is rounded to.  Adding 2^(23 - M) times that power of two
  // makes the float32 addition itself round to the step, nearest even; subtracting it is exact.
  [[nodiscard]] uint32_t Exponent(float a) const {
    return std::bit_cast<uint32_t>(a > min_normal ? a : min_normal) & 0x7f800000U;
  }
};

// The scale for a range of largest magnitude maxval by the format's bias rule, in double rounded to
// float, at least 2^-126. A maxval of 0 gives scale 1. Throws kBadData, naming subject, on NaN,
// infinity or < 0, and where a power of two takes the largest value out of float32.
[[nodiscard]] float FloatScaleFor(const FloatFormat& format, float maxval,
                                  std::string_view subject = "quantization range");

// Largest magnitude, in units of the scale, that values are clamped to before they are rounded:
// format.Max(), but of kIntegerRound maxval / scale, which may lie beyond the format's codes.
[[nodiscard]] float FloatLimitFor(const FloatFormat& format, float maxval, float scale);

// Distinct finite values, ascending; one 0. With a limit other than 0, those that values clamped to
// it round to: fewer than the format's, or more (FloatLimitFor).
[[nodiscard]] std::vector<float> FloatValues(const FloatFormat& format, float limit = 0);

}  // namespace octet
