// Tables and products against the golden vectors of the fork (spec/fp8.md 6, 7), and against the
// worked examples and error figures of the specification.
#include "numerics/approx_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/test_folder.h"
#include "numerics/approx_tables.h"
#include "numerics/test_golden.h"

namespace octet {
namespace {

using testing::GoldenArray;

MantissaTable TableOf(const GoldenArray& a, int mantissa_bits) {
  MantissaTable table(mantissa_bits);
  EXPECT_EQ(a.rows, table.side());
  EXPECT_EQ(a.columns, table.side());
  for (int64_t x = 0; x < a.rows; ++x)
    for (int64_t y = 0; y < a.columns; ++y)
      table.Set(static_cast<int>(x), static_cast<int>(y), a.integer(x, y));
  return table;
}

TEST(ApproxTables, EqualTheGoldenOnes) {
  int seen = 0;
  for (const auto& [name, array] : testing::ReadGolden()) {
    const bool residual = name.starts_with("err_");
    if (!residual && !name.starts_with("comp_")) continue;
    const int bits = name[name.find('M') + 1] - '0';
    const int d = name.ends_with("nocomp") ? 0 : name.back() - '0';
    EXPECT_EQ(residual ? ResidualTable(bits, d) : CompensationTable(bits, d), TableOf(array, bits))
        << name;
    ++seen;
  }
  EXPECT_EQ(seen, 15);
}

TEST(ApproxTables, AnyWidth) {
  for (int bits = 1; bits <= 7; ++bits) {
    const MantissaTable full = FullErrorTable(bits);
    for (int d = bits; d <= 7; ++d) EXPECT_EQ(CompensationTable(bits, d), full);
    for (int x = 0; x < full.side(); ++x)
      for (int y = 0; y < full.side(); ++y) {
        EXPECT_EQ(full(x, y), full(y, x));
        EXPECT_GE(full(x, y), 0);
        // mx my / n below the carry, which begins at (1 + m / n)^2 = 2.
        EXPECT_LE(full(x, y), 0.1716 * full.side() + 0.5);
      }
  }
  EXPECT_THROW((void)FullErrorTable(0), Error);
  EXPECT_THROW((void)CompensationTable(8, 3), Error);
  EXPECT_THROW((void)CompensationTable(4, 8), Error);
}

// One row of a mul_* set: configuration E, M, withComp, d, bx, by, br, s2nn2s, quant, approx, clip.
struct V9Config {
  Multiplier multiplier;
  ProductFormats formats;
};
V9Config V9ConfigOf(const std::vector<int>& c) {
  V9Config v;
  v.multiplier.kind = MultiplierKind::kV9;
  v.multiplier.d = c[2] != 0 ? c[3] : 0;
  v.multiplier.s2nn2s = c[7] != 0;
  v.multiplier.quant = c[8] != 0;
  v.multiplier.approx = c[9] != 0;
  v.multiplier.clip = c[10] != 0;
  v.formats = {{c[0], c[1], true, c[4]}, {c[0], c[1], true, c[5]}, {c[0], c[1], true, c[6]}, 0};
  return v;
}
// hwadd_v2: E, M, bias, withComp, d, sim_hw_add_OFUF, with_OF_opt, with_UF_opt.
V9Config HwConfigOf(const std::vector<int>& c) {
  V9Config v;
  v.multiplier.kind = MultiplierKind::kHw;
  v.multiplier.s2n = false;
  v.multiplier.d = c[3] != 0 ? c[4] : 0;
  if (c[5] == 0) {
    v.multiplier.overflow = AdderOverflow::kUnbounded;
  } else {
    v.multiplier.overflow = c[6] != 0 ? AdderOverflow::kSaturate : AdderOverflow::kWrap;
    v.multiplier.underflow = c[7] != 0 ? AdderUnderflow::kKeep : AdderUnderflow::kWrap;
  }
  const CodeFormat f{c[0], c[1], true, c[2]};
  v.formats = {f, f, f, 0};
  return v;
}

// Rows of (configuration, x code, y code, result); a table is made once for each configuration.
class Checker {
 public:
  explicit Checker(bool hw) : hw_(hw) {}
  void Check(const std::vector<int>& config, int x, int w, double expected) {
    auto& table = tables_[config];
    if (table.value.empty()) {
      const V9Config v = hw_ ? HwConfigOf(config) : V9ConfigOf(config);
      table = MakeProductTable(v.multiplier, v.formats);
    }
    ++rows_;
    if (static_cast<double>(table.at(x, w)) * table.unit == expected) return;
    if (++wrong_ <= 5) {
      std::string text;
      for (const int c : config) text += std::to_string(c) + " ";
      ADD_FAILURE() << "configuration " << text << " codes " << x << ", " << w << ": "
                    << static_cast<double>(table.at(x, w)) * table.unit << ", expected "
                    << expected;
    }
  }
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t wrong() const { return wrong_; }

 private:
  bool hw_;
  std::map<std::vector<int>, ProductTable> tables_;
  int64_t rows_ = 0, wrong_ = 0;
};

constexpr const char* kSets[] = {"mul_E3M4_comp3_s2_q_exhaustive",
                                 "mul_E3M4_nocomp_s2_q_exhaustive",
                                 "mul_main_s2_q",
                                 "mul_main_s2_noq",
                                 "mul_main_nn_only_q",
                                 "mul_main_nn_only_noq",
                                 "hwadd_v2"};

TEST(ApproxProduct, EqualsTheGoldenProducts) {
  const auto golden = testing::ReadGolden();
  for (const std::string name : kSets) {
    const GoldenArray &configs = golden.at(name + ".config"), &codes = golden.at(name + ".codes"),
                      &values = golden.at(name + ".value");
    Checker checker(name == "hwadd_v2");
    for (int64_t i = 0; i < codes.rows; ++i) {
      std::vector<int> config;
      for (int64_t j = 0; j < configs.columns; ++j)
        config.push_back(configs.integer(codes.integer(i, 0), j));
      checker.Check(config, codes.integer(i, 1), codes.integer(i, 2), values.at(i, 0));
    }
    EXPECT_GE(checker.rows(), 1500) << name;
    EXPECT_EQ(checker.wrong(), 0) << name;
  }
}

TEST(ApproxProduct, EqualsAllGoldenProducts) {
  for (const std::string name : kSets) {
    const auto rows = testing::ReadWholeSet(name + ".csv");
    if (rows.empty()) GTEST_SKIP() << name << ".csv is not at hand; its sample passed above";
    const bool hw = name == "hwadd_v2";
    Checker checker(hw);
    for (const auto& row : rows) {
      const size_t columns = hw ? 8 : 11;
      std::vector<int> config;
      for (size_t j = 0; j < columns; ++j) config.push_back(static_cast<int>(row[j]));
      checker.Check(config, static_cast<int>(row[columns]), static_cast<int>(row[columns + 1]),
                    row.back());
    }
    EXPECT_EQ(checker.wrong(), 0) << name;
  }
}

// From spec/fp8.md 7: format, configuration, operands as codes' values, result.
TEST(ApproxProduct, WorkedExamples) {
  struct Example {
    int e, m, bx, bw, br;
    const char* multiplier;
    double x, w, result;
  };
  const Example examples[] = {
      {3, 4, 5, 9, 6, "v9:d=3", 1.4375, 0.044921875, 0.0625},
      {3, 4, 5, 9, 6, "v9:d=3", 1.125, -0.0390625, -0.046875},
      {3, 4, 5, 9, 6, "v9:d=3", 0.01953125, 0.1953125, 0.00390625},
      {3, 4, 5, 9, 6, "v9:d=3", 0.00390625, -0.000244140625, 0},
      {3, 4, 5, 9, 6, "v9", 1.5, 0.046875, 0.06640625},
      {3, 4, 5, 9, 6, "hw", 1.5, 0.046875, 0.0625},
      {3, 4, 5, 9, 6, "v9", 1.1875, 0.056640625, 0.06640625},
      {3, 4, 5, 9, 6, "hw", 1.1875, 0.056640625, 0.0625},
      {3, 4, 5, 9, 6, "v9:d=3,quant=off", 1.0625, 0.046875, 0.0478515625},
      {3, 4, 5, 9, 6, "v9:d=3,s2nn2s=off,quant=off", 0.01953125, 0.1953125, 0.003814697265625},
      {2, 5, 1, 6, 2, "v9:d=4", 2.625, 0.103515625, 0.265625},
      {4, 3, 11, 15, 10, "v9", 0.375, 0.0234375, 0.0078125},
      {4, 3, 11, 15, 10, "v9:d=3", 0.34375, 0.025390625, 0.0087890625},
      // B12: a negative product that rounds to 0 counts as positive, and is then rounded away.
      {2, 5, 2, 5, 2, "v9:d=3", 0.009765625, -0.099609375, 0.001953125},
  };
  for (const Example& e : examples) {
    ProductFormats formats{
        {e.e, e.m, true, e.bx}, {e.e, e.m, true, e.bw}, {e.e, e.m, true, e.br}, 0};
    const auto code = [](const CodeFormat& f, double value) {
      for (int c = 0; c < 256; ++c)
        if (f.Decode(c) == value) return c;
      return -1;
    };
    int x = code(formats.x, e.x), w = code(formats.w, e.w);
    if (x < 0 || w < 0) {  // the last example: any biases of delta 5 that hold both operands
      for (int bx = -2; bx < 12 && (x < 0 || w < 0); ++bx) {
        formats.x.bias = bx;
        for (formats.w.bias = -2; formats.w.bias < 12; ++formats.w.bias) {
          x = code(formats.x, e.x), w = code(formats.w, e.w);
          formats.result.bias = formats.x.bias + formats.w.bias - 5;
          if (x >= 0 && w >= 0) break;
        }
      }
    }
    ASSERT_GE(x, 0) << e.x;
    ASSERT_GE(w, 0) << e.w;
    const ProductTable table = MakeProductTable(Multiplier::Parse(e.multiplier), formats);
    EXPECT_EQ(static_cast<double>(table.at(x, w)) * table.unit, e.result)
        << e.multiplier << " " << e.x << " x " << e.w;
  }
}

// Zero times anything is zero, signs are those of the operands, tables depend on delta alone.
TEST(ApproxProduct, Properties) {
  for (const char* text : {"hw", "hw:d=3,overflow=wrap,underflow=keep", "hw:underflow=gradual",
                           "hw:s2n=off,underflow=wrap", "v9:d=3", "v9:clip=on", "qamaa", "exact"}) {
    const Multiplier multiplier = Multiplier::Parse(text);
    for (const auto& [e, m] : {std::pair{4, 3}, {3, 4}, {2, 5}, {2, 3}}) {
      const ProductFormats a{{e, m, true, 5}, {e, m, true, 8}, {e, m, true, 6}, 0};
      const ProductFormats b{{e, m, true, -1}, {e, m, true, 9}, {e, m, true, 1}, 0};
      const ProductTable ta = MakeProductTable(multiplier, a), tb = MakeProductTable(multiplier, b);
      EXPECT_EQ(ta.value, tb.value) << text;
      const int sign = 1 << (e + m);
      for (int x = 0; x < 2 * sign; ++x) {
        EXPECT_EQ(ta.at(x, 0), 0);
        EXPECT_EQ(ta.at(sign, x), 0);
        if (m == 5 && std::string_view(text) == "v9:d=3") continue;  // B12
        for (int w = 0; w < sign; ++w) ASSERT_EQ(ta.at(x, w), -ta.at(x ^ sign, w)) << text;
      }
      if (2 * sign < 256) {
        EXPECT_EQ(ta.at(2 * sign, 5), 0);  // no such code
      }
    }
  }
}

// Gradual underflow is the sum's number, on the grid: 2^(I / n) as Mitchell has it.
TEST(ApproxProduct, UnderflowsAsTold) {
  // bx + bw - br = 7: the product of codes 0x40 (e 4) and 0x3c (e 3, m 12) is the sum 12.
  const CodeFormat f{3, 4, true, 7};
  const ProductFormats formats{f, f, f, 0};
  const auto of = [&](const char* text, int x, int w) {
    return MakeProductTable(Multiplier::Parse(text), formats).at(x, w);
  };
  EXPECT_EQ(of("hw", 0x40, 0x3c), 12);                    // e = 0: no hidden bit
  EXPECT_EQ(of("hw:underflow=gradual", 0x40, 0x3c), 14);  // (16 + 12) / 2
  EXPECT_EQ(of("hw", 0x30, 0x3c), 0);                     // sum -4
  EXPECT_EQ(of("hw:underflow=keep", 0x30, 0x3c), 12);
  EXPECT_EQ(of("hw:underflow=gradual", 0x30, 0x3c), 7);
  EXPECT_EQ(of("hw:underflow=wrap", 0x30, 0x3c), 28 << 6);
  EXPECT_EQ(of("hw:overflow=saturate", 0x7f, 0x7f), 31 << 6);
  EXPECT_EQ(of("hw:overflow=wrap", 0x7f, 0x7f), 14 + 0);        // 254 - 112 = 142 -> 14
  EXPECT_EQ(of("hw:overflow=unbounded", 0x7f, 0x7f), 30 << 7);  // e 8, m 14
}

TEST(ApproxProduct, RefusesWhatMakesNoSense) {
  const CodeFormat e4m3{4, 3, true, 7}, e3m4{3, 4, true, 3};
  const Multiplier hw = Multiplier::Parse("hw");
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] {
        (void)MakeProductTable(hw, {e4m3, e3m4, e4m3, 0});
      },
      "3, 4 and 3", "one format");
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] {
        (void)MakeProductTable(hw, {{0, 7, true, 1}, e3m4, e3m4, 0});
      },
      "exponent");
  const CodeFormat e5m0{5, 0, true, 15};
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] {
        (void)MakeProductTable(hw, {e5m0, e5m0, e5m0, 0});
      },
      "exact");
  const CodeFormat e5m2{5, 2, true, 15}, low{5, 2, true, -30};
  ExpectError(
      ErrorCode::kUnsupported,
      [&] {
        (void)MakeProductTable(Multiplier::Parse("hw:overflow=unbounded"), {low, low, e5m2, 0});
      },
      "2^");
  EXPECT_EQ(MakeProductTable(hw, {low, low, e5m2, 0}).at(0x7f, 0x7f), int64_t{7} << 30);
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] { (void)CodeFormatOf(FloatFormat::Parse("e4m3"), 0.3F, "input of conv1"); }, "conv1",
      "bias=int");
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] { (void)CodeFormatOf(FloatFormat::Parse("e4m3fn"), 0.5F, "input of conv1"); }, "e4m3");
  EXPECT_EQ(CodeFormatOf(FloatFormat::Parse("e4m3"), 0.25F, "x").bias, 9);
}

TEST(Multiplier, TextRoundTrips) {
  for (const char* text :
       {"exact", "hw", "hw:d=3", "hw:d=5,overflow=wrap,underflow=keep,s2n=off",
        "hw:overflow=unbounded,underflow=gradual", "v9", "v9:d=3,s2nn2s=off,quant=off",
        "v9:approx=off,clip=on", "qamaa", "hw:e3m4", "v9:e2m5,d=3", "exact:e4m3",
        "qamaa:each_add=on", "table:a.npy", "table:dir/a.csv,x=uint8,w=e4m3,unit=0.0625"})
    EXPECT_EQ(Multiplier::Parse(text).Name(), text);
  EXPECT_EQ(Multiplier::Parse("hw:d=none,overflow=saturate").Name(), "hw");
  for (const char* text : {"table:a,b=1/c.npy", "table:a,b/c.csv,x=e4m3,w=e4m3", "table:a.csv.npy"})
    EXPECT_EQ(Multiplier::Parse(text).Name(), text);
  EXPECT_EQ(Multiplier::Parse("table:a,b=1/c.npy,unit=2").file, "a,b=1/c.npy");
  EXPECT_EQ(Multiplier::Parse("table:a.npy,unit=0.3").Name(), "table:a.npy,unit=0.3");
  const auto refused = [](const char* text, const char* word) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)Multiplier::Parse(text); }, text, word);
  };
  refused("", "expected exact");
  refused("hv:d=3", "unknown kind");
  refused("hw:d=9", "0 to 7");
  refused("hw:quant=on", "d, overflow, underflow, s2n");
  refused("hw:overflow", "no key=value");
  refused("v9:s2nn2s=yes", "on or off");
  refused("table:", "no file");
  refused("table:x=int8", "no file");
  refused("table:a.npy,unit=-1", "positive");
  refused("v9:quant=off,clip=on", "leaves out");
  refused("v9:approx=off,d=3", "no effect");
  refused("exact:d=3", "no keys");
  refused("hw:e9m9", "e9m9");
  refused("hw:e3m4,e4m3", "two formats, e3m4 and e4m3");
  refused("hw:int8,d=3", "hw multiplies codes of float formats, such as e4m3; of int8 bring a");
  refused("v9:e3m4:bias=int", "without a bias rule: e3m4");
  refused("qamaa:float7_e3m4", "bits do not add up");
  refused("table:a.npy,e4m3", "x=e4m3 or w=e4m3");
  refused("hw:d=3,overflow=wrap,d=4", "d is given twice");
  refused("table:a.npy,x=int8,x=uint8", "x is given twice");
}

// Ties go to the even multiple of the step, of both signs; what is beyond the largest to it.
TEST(GridRounding, IsNearestEven) {
  const GridRounding grid{3, 480};
  for (const auto& [value, rounded] : {std::pair{15.5, 16.0},
                                       {16.0, 16.0},
                                       {17.0, 16.0},
                                       {17.1, 18.0},
                                       {19.0, 20.0},
                                       {0.5, 0.0},
                                       {1.5, 2.0},
                                       {2.5, 2.0},
                                       {36.0, 36.0},
                                       {34.0, 32.0},
                                       {38.0, 40.0},
                                       {479.0, 480.0},
                                       {1e9, 480.0}}) {
    EXPECT_EQ(grid.Round(value), rounded) << value;
    EXPECT_EQ(grid.Round(-value), -rounded) << value;
  }
  const GridRounding powers{0, 64};
  EXPECT_EQ(powers.Round(3.0), 4.0);
  EXPECT_EQ(powers.Round(6.0), 8.0);
  EXPECT_EQ(powers.Round(5.0), 4.0);
}

}  // namespace
}  // namespace octet
