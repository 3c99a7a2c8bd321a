#include "numerics/float_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "base/test_folder.h"

namespace octet {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Every format there is, all specials.
std::vector<FloatFormat> AllFormats() {
  std::vector<FloatFormat> all;
  for (int e = 0; e <= 7; ++e) {
    for (int m = 0; m <= 7; ++m) {
      for (const char* form : {"e%dm%d", "ue%dm%d", "e%dm%dfn", "e%dm%dfnuz", "e%dm%dieee"}) {
        char name[32];
        std::snprintf(name, sizeof(name), form, e, m);
        try {
          const FloatFormat format = FloatFormat::Parse(name);
          if (std::find(all.begin(), all.end(), format) == all.end()) all.push_back(format);
        } catch (const Error&) {
        }
      }
    }
  }
  return all;
}

// What a format is by its definition: every magnitude as a number, from fields and powers of two.
// Nothing here knows float_format.cc.
class SlowFormat {
 public:
  explicit SlowFormat(const FloatFormat& f) : f_(f) {
    const int codes = 1 << (f.exponent_bits + f.mantissa_bits);
    int finite = codes;
    double bias = std::exp2(f.exponent_bits - 1) - 1;
    if (f.exponent_bits == 0) bias = 1 - f.mantissa_bits;
    if (f.specials == FloatSpecials::kFn) finite -= 1;
    if (f.specials == FloatSpecials::kFnuz) bias += 1;
    if (f.specials == FloatSpecials::kIeee) finite -= 1 << f.mantissa_bits;
    // One value beyond the last finite one: where rounding leaves the format.
    for (int code = 0; code <= finite; ++code) {
      const int e = code >> f.mantissa_bits;
      const double m = (code % (1 << f.mantissa_bits)) / std::exp2(f.mantissa_bits);
      magnitude_.push_back(e == 0 ? std::exp2(1 - bias) * m : std::exp2(e - bias) * (1 + m));
    }
  }
  [[nodiscard]] double magnitude(size_t code) const { return magnitude_[code]; }
  [[nodiscard]] size_t finite() const { return magnitude_.size() - 1; }

  // The nearest of the grid's magnitudes; a tie goes to the one that is an even multiple of the
  // gap between the two (0 is even). `code` is where to begin looking: inputs come ascending.
  [[nodiscard]] size_t Nearest(double a, size_t code, bool overflow) const {
    const size_t last = overflow ? finite() : finite() - 1;
    while (code < last) {
      const double below = magnitude_[code];
      const double above = magnitude_[code + 1];
      const double middle = (below + above) / 2;
      const bool odd = std::fmod(below / (above - below), 2) != 0;
      if (a < middle || (a == middle && !odd)) break;
      ++code;
    }
    return code;
  }

 private:
  FloatFormat f_;
  std::vector<double> magnitude_;
};

TEST(FloatFormat, NamesRoundTrip) {
  EXPECT_EQ(FloatFormat::Parse("e3m4").Name(), "e3m4");
  for (const FloatFormat& format : AllFormats()) {
    for (const BiasRule rule :
         {BiasRule::kReal, BiasRule::kInteger, BiasRule::kIntegerRound, BiasRule::kStandard}) {
      FloatFormat f = format;
      f.bias_rule = rule;
      EXPECT_EQ(FloatFormat::Parse(f.Name()), f) << f.Name();
      f.Check();
    }
  }
  const std::map<std::string, std::string> same = {
      {"float8_e4m3fn", "e4m3fn"}, {"float8_e4m3fnuz", "e4m3fnuz"},
      {"float8_e5m2", "e5m2ieee"}, {"float8_e5m2fnuz", "e5m2fnuz"},
      {"float8_e3m4", "e3m4ieee"}, {"float8_e4m3", "e4m3ieee"},
      {"float6_e2m3fn", "e2m3"},   {"e2m3fn", "e2m3"},
      {"float6_e3m2fn", "e3m2"},   {"float4_e2m1fn", "e2m1"},
      {"e4m3:bias=real", "e4m3"},  {"float8_e5m2:bias=int", "e5m2ieee:bias=int"},
  };
  for (const auto& [a, b] : same) EXPECT_EQ(FloatFormat::Parse(a), FloatFormat::Parse(b)) << a;
  EXPECT_EQ(FloatFormat::Parse("e5m2ieee").Name(), "float8_e5m2");
  EXPECT_NE(FloatFormat::Parse("e5m2"), FloatFormat::Parse("float8_e5m2"));
  const FloatFormat f = FloatFormat::Parse("ue4m4:bias=int-round");
  EXPECT_FALSE(f.is_signed);
  EXPECT_EQ(f.exponent_bits, 4);
  EXPECT_EQ(f.mantissa_bits, 4);
  EXPECT_EQ(f.bias_rule, BiasRule::kIntegerRound);
}

TEST(FloatFormat, RefusesOtherNames) {
  for (const char* name : {"",
                           "e",
                           "e4",
                           "e4m",
                           "e4m3x",
                           "e4m4",
                           "e8m0",
                           "e0m8",
                           "e1m0",
                           "e0m1",
                           "ue4m3fn",
                           "E4M3",
                           "e4m3:",
                           "e4m3:bias",
                           "e4m3:bias=",
                           "e4m3:bias=half",
                           "e4m3:int",
                           "float8_e2m3",
                           "float_e4m3",
                           "float8e4m3",
                           "e4m3fn:bias=int:bias=int",
                           "e1m6ieee",
                           "e7m0ieee",
                           "e0m7fnuz",
                           " e4m3",
                           "e4m3 ",
                           "e-4m3",
                           "float6_e4m3fn",
                           "fp8",
                           "int8"}) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)FloatFormat::Parse(name); }, "'",
        std::string_view(name));
  }
  ExpectError(ErrorCode::kInvalidArgument,
              [] { FloatFormat{.exponent_bits = 4, .mantissa_bits = 5}.Check(); });
  ExpectError(ErrorCode::kInvalidArgument, [] {
    FloatFormat{.exponent_bits = 3, .mantissa_bits = 2, .specials = FloatSpecials::kFn}.Check();
  });
}

TEST(FloatFormat, HasTheBoundsOfItsSpecification) {
  struct Case {
    const char* name;
    float max;
    float min_normal;
    float min_subnormal;
  };
  // OCP 8-bit floating point 1.0 table 1, OCP MX 1.0 tables 3 to 5, the FNUZ proposal (2206.02915),
  // IEEE-like E3M4 and E4M3 of ml_dtypes.
  for (const Case& c :
       {Case{"e4m3fn", 448, 0x1p-6F, 0x1p-9F}, Case{"float8_e5m2", 57344, 0x1p-14F, 0x1p-16F},
        Case{"e4m3fnuz", 240, 0x1p-7F, 0x1p-10F}, Case{"e5m2fnuz", 57344, 0x1p-15F, 0x1p-17F},
        Case{"float8_e3m4", 15.5, 0x1p-2F, 0x1p-6F}, Case{"float8_e4m3", 240, 0x1p-6F, 0x1p-9F},
        Case{"e2m3", 7.5, 1, 0x1p-3F}, Case{"e3m2", 28, 0x1p-2F, 0x1p-4F}, Case{"e2m1", 6, 1, 0.5},
        Case{"e5m2", 114688, 0x1p-14F, 0x1p-16F}, Case{"e4m3", 480, 0x1p-6F, 0x1p-9F},
        Case{"e3m4", 31, 0x1p-2F, 0x1p-6F}, Case{"e2m5", 7.875, 1, 0x1p-5F},
        Case{"e0m7", 127, 128, 1}}) {
    const FloatFormat f = FloatFormat::Parse(c.name);
    EXPECT_EQ(f.Max(), c.max) << c.name;
    EXPECT_EQ(f.MinNormal(), c.min_normal) << c.name;
    EXPECT_EQ(f.MinSubnormal(), c.min_subnormal) << c.name;
  }
}

TEST(FloatFormat, EveryCodeOfEveryFormatIsItsDefinition) {
  // 33 signed (2 to 7 bits between E and M), 37 unsigned, 7 fn, 27 fnuz (not E = 0), 15 ieee.
  EXPECT_EQ(AllFormats().size(), 119U);
  for (const FloatFormat& f : AllFormats()) {
    SCOPED_TRACE(f.Name());
    const SlowFormat slow(f);
    const int codes = 1 << (f.exponent_bits + f.mantissa_bits);
    EXPECT_EQ(f.max_code(), slow.finite() - 1);
    for (int code = 0; code < f.code_count(); ++code) {
      const auto c = static_cast<uint8_t>(code);
      const auto magnitude = static_cast<size_t>(code % codes);
      const bool negative = code >= codes;
      const float v = f.Decode(c);
      // Bits above the format's are nothing to it.
      const auto padded = static_cast<uint8_t>(c | ~(f.code_count() - 1));
      EXPECT_EQ(std::bit_cast<uint32_t>(f.Decode(padded)), std::bit_cast<uint32_t>(v));
      if (f.specials == FloatSpecials::kFnuz && negative && magnitude == 0) {
        EXPECT_TRUE(std::isnan(v));
        EXPECT_EQ(f.Encode(kNan), c);
        continue;
      }
      if (magnitude < slow.finite()) {
        EXPECT_EQ(v, static_cast<float>((negative ? -1 : 1) * slow.magnitude(magnitude)));
        EXPECT_EQ(std::signbit(v), negative);
        EXPECT_EQ(f.Encode(v), c);
        EXPECT_EQ(f.Encode(v, FloatOverflow::kSpecial), c);
        EXPECT_EQ(std::bit_cast<uint32_t>(f.Round(v)), std::bit_cast<uint32_t>(v));
      } else if (f.specials == FloatSpecials::kIeee && magnitude == slow.finite()) {
        EXPECT_EQ(v, negative ? -kInf : kInf);
        EXPECT_EQ(f.Encode(v, FloatOverflow::kSpecial), c);
      } else {
        EXPECT_TRUE(std::isnan(v));
        EXPECT_EQ(std::signbit(v), negative);
      }
    }
    const std::vector<float> values = FloatValues(f);
    EXPECT_EQ(values.size(), f.is_signed ? 2 * slow.finite() - 1 : slow.finite());
    EXPECT_TRUE(std::is_sorted(values.begin(), values.end()));
    for (size_t i = 0; i < slow.finite(); ++i) {
      EXPECT_EQ(values[values.size() - slow.finite() + i], static_cast<float>(slow.magnitude(i)));
    }
  }
}

TEST(FloatValues, GoOnOrStopAtALimit) {
  const FloatFormat f = FloatFormat::Parse("e2m1");  // 0 .5 1 1.5 2 3 4 6
  EXPECT_THAT(FloatValues(f),
              testing::ElementsAre(-6, -4, -3, -2, -1.5F, -1, -.5F, 0, .5F, 1, 1.5F, 2, 3, 4, 6));
  const FloatFormat u = FloatFormat::Parse("ue2m1");
  EXPECT_THAT(FloatValues(u, 9.9F), testing::ElementsAre(0, .5F, 1, 1.5F, 2, 3, 4, 6, 8));
  EXPECT_THAT(FloatValues(u, 10.1F), testing::ElementsAre(0, .5F, 1, 1.5F, 2, 3, 4, 6, 8, 12));
  EXPECT_THAT(FloatValues(u, 2.6F), testing::ElementsAre(0, .5F, 1, 1.5F, 2, 3));
}

TEST(FloatFormat, SaturatesOrTurnsSpecial) {
  const FloatFormat fn = FloatFormat::Parse("e4m3fn");
  EXPECT_EQ(fn.Encode(464), 0x7e);  // half way to 480, where NaN lies: tie to even
  EXPECT_EQ(fn.Encode(464, FloatOverflow::kSpecial), 0x7e);
  EXPECT_EQ(fn.Encode(std::nextafter(464.0F, kInf), FloatOverflow::kSpecial), 0x7f);
  EXPECT_EQ(fn.Encode(-1e30F, FloatOverflow::kSpecial), 0xff);
  EXPECT_EQ(fn.Encode(-kInf), 0xfe);
  EXPECT_EQ(fn.Encode(kNan), 0x7f);
  EXPECT_EQ(fn.Encode(-kNan), 0xff);
  EXPECT_EQ(fn.Encode(-1e-30F), 0x80);
  const FloatFormat e5m2 = FloatFormat::Parse("float8_e5m2");
  EXPECT_EQ(e5m2.Encode(kInf), 0x7b);
  EXPECT_EQ(e5m2.Encode(kInf, FloatOverflow::kSpecial), 0x7c);
  EXPECT_EQ(e5m2.Encode(61440), 0x7b);
  EXPECT_EQ(e5m2.Encode(61440, FloatOverflow::kSpecial), 0x7c);  // the tie goes to infinity
  EXPECT_EQ(e5m2.Encode(std::nextafter(61440.0F, 0.0F), FloatOverflow::kSpecial), 0x7b);
  EXPECT_EQ(e5m2.Encode(-kNan), 0xfe);
  const FloatFormat fnuz = FloatFormat::Parse("e4m3fnuz");
  EXPECT_EQ(fnuz.Encode(-0.0F), 0);
  EXPECT_EQ(fnuz.Encode(-1e-30F), 0);
  EXPECT_EQ(fnuz.Encode(-kInf), 0xff);
  EXPECT_EQ(fnuz.Encode(-kInf, FloatOverflow::kSpecial), 0x80);
  EXPECT_EQ(fnuz.Encode(kNan), 0x80);
  const FloatFormat plain = FloatFormat::Parse("e4m3");
  EXPECT_EQ(plain.Encode(kInf), 0x7f);
  EXPECT_EQ(plain.Encode(kInf, FloatOverflow::kSpecial), 0x7f);
  EXPECT_EQ(plain.Encode(-1e30F, FloatOverflow::kSpecial), 0xff);
  EXPECT_EQ(plain.Encode(kNan), 0);
  EXPECT_EQ(plain.Encode(-kNan), 0);
  EXPECT_EQ(plain.Round(kNan), 0.0F);
  EXPECT_TRUE(std::isnan(fn.Round(kNan)));
  const FloatFormat unsign = FloatFormat::Parse("ue4m4");
  EXPECT_EQ(unsign.Encode(-3), 0);
  EXPECT_EQ(unsign.Encode(-kInf), 0);
  EXPECT_EQ(unsign.Encode(-0.0F), 0);
  EXPECT_EQ(std::bit_cast<uint32_t>(unsign.Round(-3)), 0U);
  EXPECT_EQ(unsign.Encode(kInf), 0xff);
  // Without mantissa bits a tie goes to the even multiple of the lower value: up.
  EXPECT_EQ(FloatFormat::Parse("e4m0").Round(1.5F), 2.0F);
  EXPECT_EQ(FloatFormat::Parse("e4m0").Round(3.0F), 4.0F);
}

// Encodes float patterns from `first` in steps of `stride`, ascending in magnitude up to infinity,
// of both signs, and compares with the slow definition. Returns how many.
int64_t Sweep(const FloatFormat& f, uint32_t first, uint32_t stride) {
  const SlowFormat slow(f);
  const FloatGrid grid(f);
  const uint8_t sign = f.sign_bit();
  size_t code = 0;
  int64_t wrong = 0;
  int64_t tried = 0;
  for (uint32_t pattern = first; pattern <= 0x7f800000U; pattern += stride, tried += 2) {
    const float x = std::bit_cast<float>(pattern);
    code = slow.Nearest(static_cast<double>(x), code, false);
    uint8_t negative = static_cast<uint8_t>(f.is_signed ? code | sign : 0);
    if (code == 0 && !f.has_negative_zero()) negative = 0;
    wrong += grid.Encode(x) != code;
    wrong += grid.Encode(-x) != negative;
  }
  EXPECT_EQ(wrong, 0) << f.Name() << " of " << tried;
  return tried;
}

// Both 16-bit formats in all their values, of every format.
TEST(FloatFormat, EveryBfloat16AndFloat16Rounds) {
  for (const FloatFormat& f : AllFormats()) {
    int64_t tried = Sweep(f, 0, 0x10000);    // bfloat16: the upper half of a float
    tried += Sweep(f, 0x38800000U, 0x2000);  // normal float16: 10 mantissa bits from 2^-14 on
    const SlowFormat slow(f);
    for (int m = 0; m < 1024; ++m) {  // subnormal float16
      const float x = std::ldexp(static_cast<float>(m), -24);
      EXPECT_EQ(f.Encode(x), slow.Nearest(static_cast<double>(x), 0, false)) << f.Name() << x;
    }
    EXPECT_GT(tried, 65000);
  }
}

// 10^8 floats and more, spread over all patterns with a stride that is prime: every mantissa.
TEST(FloatFormat, AHundredMillionFloatsRound) {
  int64_t tried = 0;
  uint32_t first = 0;
  for (const char* name :
       {"e4m3fn", "e4m3fnuz", "float8_e5m2", "e5m2fnuz", "e5m2", "e4m3", "e3m4", "e2m5", "e1m6",
        "e0m7", "e6m1", "e7m0", "ue4m4", "e2m3", "e3m2", "e2m1", "float8_e3m4", "float8_e4m3"}) {
    tried += Sweep(FloatFormat::Parse(name), ++first, 383);
  }
  EXPECT_GE(tried, 100'000'000);
}

// Beyond the largest value, where NaN and infinity lie.
TEST(FloatFormat, OverflowIsWhereRoundingLeavesTheFormat) {
  for (const FloatFormat& f : AllFormats()) {
    if (!f.has_nan()) continue;
    const SlowFormat slow(f);
    const float largest = f.Max();
    const auto middle =
        static_cast<float>((slow.magnitude(slow.finite() - 1) + slow.magnitude(slow.finite())) / 2);
    for (float x : {largest, std::nextafter(middle, 0.0F), middle, std::nextafter(middle, kInf),
                    2 * largest, 4 * largest, 1e38F}) {
      const size_t code = slow.Nearest(static_cast<double>(x), 0, true);
      const float back = f.Decode(f.Encode(x, FloatOverflow::kSpecial));
      SCOPED_TRACE(f.Name());
      if (code < slow.finite()) {
        EXPECT_EQ(back, largest) << x;
      } else if (f.has_infinity()) {
        EXPECT_EQ(back, kInf) << x;
      } else {
        EXPECT_TRUE(std::isnan(back)) << x;
      }
      EXPECT_EQ(f.Round(x), largest);
    }
  }
}

TEST(FloatScaleFor, FollowsTheBiasRule) {
  const auto scale = [](const char* name, float maxval) {
    return FloatScaleFor(FloatFormat::Parse(name), maxval);
  };
  EXPECT_EQ(scale("e4m3fn", 448), 1.0F);
  EXPECT_EQ(scale("e4m3fn", 3), static_cast<float>(3.0 / 448));
  EXPECT_EQ(scale("e3m4:bias=int", 31), 1.0F);
  EXPECT_EQ(scale("e3m4:bias=int", std::nextafter(31.0F, kInf)), 2.0F);
  EXPECT_EQ(scale("e3m4:bias=int", 15.6F), 1.0F);
  EXPECT_EQ(scale("e3m4:bias=int", 15.5F), 0.5F);
  EXPECT_EQ(scale("e3m4:bias=standard", 1e-3F), 1.0F);
  // spec/fp8.md 7: maxval 3, E3M4: the real bias is 6.369, the fork's 6. Here the bias of scale 1
  // is 3.
  EXPECT_EQ(scale("e3m4:bias=int-round", 3), 0x1p-3F);
  EXPECT_EQ(FloatLimitFor(FloatFormat::Parse("e3m4:bias=int-round"), 3, 0x1p-3F), 24.0F);
  EXPECT_EQ(FloatLimitFor(FloatFormat::Parse("e3m4:bias=int"), 3, 0x1p-3F), 31.0F);
  for (const char* name : {"e4m3", "e4m3:bias=int", "e4m3:bias=int-round", "e4m3:bias=standard"}) {
    EXPECT_EQ(scale(name, 0), 1.0F) << name;
    for (float bad : {kNan, kInf, -1.0F}) {
      ExpectError(
          ErrorCode::kBadData, [&] { (void)FloatScaleFor(FloatFormat::Parse(name), bad, "conv1"); },
          "conv1");
    }
    EXPECT_GE(scale(name, 1e-45F), 0x1p-126F) << name;
  }
  EXPECT_EQ(scale("e0m7", 127), 1.0F);
  const float most = std::numeric_limits<float>::max();
  EXPECT_EQ(scale("e0m7", most), static_cast<float>(static_cast<double>(most) / 127));
  ExpectError(
      ErrorCode::kBadData, [&] { (void)scale("e2m1:bias=int", most); }, "no finite float");
}

// The least power of two that reaches maxval, for any maxval and format.
TEST(FloatScaleFor, IntegerBiasCoversTheRangeAndNoMore) {
  for (const FloatFormat& format : AllFormats()) {
    FloatFormat f = format;
    f.bias_rule = BiasRule::kInteger;
    for (uint32_t pattern = 0x20000001U; pattern < 0x60000000U; pattern += 0x123457U) {
      const float maxval = std::bit_cast<float>(pattern);
      const float scale = FloatScaleFor(f, maxval);
      ASSERT_EQ(std::bit_cast<uint32_t>(scale) & 0x7fffffU, 0U);
      ASSERT_GE(scale * f.Max(), maxval) << f.Name();
      ASSERT_TRUE(scale == 0x1p-126F || scale / 2 * f.Max() < maxval) << f.Name();
    }
  }
}

}  // namespace
}  // namespace octet
