// ApproxLinear and ApproxConv: every kernel against sums of table entries, written out; the golden
// matrices and convolutions of the fork; threads; bad arguments.
#include "octet/approx.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "numerics/approx_product.h"
#include "numerics/test_golden.h"

namespace octet::kernels {
namespace {

using octet::testing::GoldenArray;
using testing::GuardedBuffer;

using Table = std::vector<int64_t>;

// Entries within +-most; symmetric: of codes with bit 7, the negative of those without.
Table RandomTable(int64_t most, bool symmetric, std::mt19937_64* rng) {
  Table table(65536);
  for (size_t x = 0; x < 256; ++x)
    for (size_t w = 0; w < 256; ++w) {
      int64_t& value = table[x * 256 + w];
      const auto span = static_cast<uint64_t>(2 * most + 1);
      value = (*rng)() % 7 == 0 ? ((*rng)() % 2 == 0 ? most : -most)
                                : static_cast<int64_t>((*rng)() % span) - most;
      if (symmetric && x >= 128) value = -table[(x - 128) * 256 + w];
    }
  return table;
}

struct Layer {
  int64_t m, n, k, x_stride, y_stride;
  ApproxMultiply multiply;
  std::vector<Table> tables;
  std::vector<uint8_t> x, weight;
  std::vector<float> bias;
};

Layer Make(int64_t m, int64_t n, int64_t k, int tables, int64_t most, bool symmetric, int x_bits,
           std::mt19937_64* rng) {
  Layer l{m, n, k, k + 5, n + 3, {}, {}, {}, {}, {}};
  for (int i = 0; i < tables; ++i) l.tables.push_back(RandomTable(most, symmetric, rng));
  for (const Table& t : l.tables) l.multiply.tables.push_back(t.data());
  l.multiply.x_bits = x_bits;
  for (int64_t i = 0; i < (m - 1) * l.x_stride + k; ++i)
    l.x.push_back(static_cast<uint8_t>((*rng)() % (1U << x_bits)));
  for (int64_t i = 0; i < n * k; ++i) l.weight.push_back(static_cast<uint8_t>((*rng)()));
  for (int64_t i = 0; i < n; ++i) {
    l.multiply.table_of_channel.push_back(
        static_cast<int32_t>((*rng)() % static_cast<uint64_t>(tables)));
    l.multiply.unit.push_back(std::ldexp(1.0F, static_cast<int>((*rng)() % 5) - 9));
    l.bias.push_back(static_cast<float>((*rng)() % 1000) / 16);
  }
  l.multiply.bias = l.bias.data();
  return l;
}

std::vector<float> Product(const Layer& l) {
  const GuardedBuffer x(static_cast<int64_t>(l.x.size())), y(((l.m - 1) * l.y_stride + l.n) * 4);
  std::memcpy(x.data(), l.x.data(), l.x.size());
  std::memset(y.data(), 0x5a, static_cast<size_t>(y.size()));
  auto* floats = reinterpret_cast<float*>(y.data());
  ApproxLinear({l.n, l.k, l.weight.data(), l.multiply})
      .Run(l.m, x.data(), l.x_stride, floats, l.y_stride);
  return {floats, floats + y.size() / 4};
}

int64_t Sum(const Layer& l, int64_t i, int64_t c) {
  const Table& table =
      l.tables[static_cast<size_t>(l.multiply.table_of_channel[static_cast<size_t>(c)])];
  int64_t sum = 0;
  for (int64_t k = 0; k < l.k; ++k)
    sum += table[static_cast<size_t>(l.x[static_cast<size_t>(i * l.x_stride + k)] * 256 +
                                     l.weight[static_cast<size_t>(c * l.k + k)])];
  return sum;
}

void ExpectDefined(const Layer& l, const std::string& kernel) {
  const std::vector<float> y = Product(l);
  for (int64_t i = 0; i < l.m; ++i)
    for (int64_t c = 0; c < l.n; ++c) {
      const auto at = static_cast<size_t>(c);
      const float expected = static_cast<float>(Sum(l, i, c)) * l.multiply.unit[at] + l.bias[at];
      ASSERT_EQ(y[static_cast<size_t>(i * l.y_stride + c)], expected)
          << kernel << " " << l.m << "x" << l.k << "x" << l.n << " row " << i << " channel " << c;
    }
}

// One plane to many, every group of digits, rows of 64 to 256 entries, lanes and depths with tails.
TEST(ApproxLinear, EveryKernelGivesTheDefinedSums) {
  std::mt19937_64 rng(71);
  for (const int64_t most :
       {int64_t{1}, int64_t{15}, int64_t{100}, int64_t{480}, int64_t{1984}, int64_t{8064},
        int64_t{30000}, int64_t{250000}, int64_t{70'000'000}, int64_t{1} << 45})
    for (const auto& [symmetric, x_bits] :
         {std::pair{true, 8}, {false, 8}, {false, 7}, {false, 6}}) {
      const int64_t m = std::array{1, 63, 64, 65, 200, 256, 300}[rng() % 7];
      const int64_t n = std::array{1, 3, 33}[rng() % 3];
      const int64_t k = std::array{1, 2, 7, 9, 64, 127, 128, 129, 300}[rng() % 9];
      const Layer l = Make(m, n, k, 1 + static_cast<int>(rng() % 3), most, symmetric, x_bits, &rng);
      for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxRows)) {
        const ForcedChoice forced(isa, kernel);
        ExpectDefined(l, kernel);
      }
    }
}

// Digits and sums at their extremes, for as deep as sums stay in 16 bits.
TEST(ApproxLinear, LargestDigitsEverywhere) {
  std::mt19937_64 rng(72);
  for (const int64_t most : {127, 63, 31, 15, 32512, 8064, 1984, 480})
    for (const bool symmetric : {true, false})
      for (const int64_t sign : {1, -1}) {
        Layer l = Make(130, 2, 257, 1, most, symmetric, 8, &rng);
        for (size_t x = 0; x < 256; ++x)
          for (size_t w = 0; w < 256; ++w)
            l.tables[0][x * 256 + w] = x >= 128 && symmetric ? -sign * most : sign * most;
        std::fill(l.x.begin(), l.x.end(), rng() % 2 == 0 ? uint8_t{0x85} : uint8_t{0x05});
        for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxRows)) {
          const ForcedChoice forced(isa, kernel);
          ExpectDefined(l, kernel);
        }
      }
}

// Lanes and channels enough for tables of lines, of channels and of lanes: entries and sums of
// every width, full and tail groups of steps, channels and lanes, every entry at the most that its
// width is chosen for.
TEST(ApproxLinear, LinesOfEveryWidth) {
  std::mt19937_64 rng(78);
  for (const int64_t most : {int64_t{100}, int64_t{4095}, int64_t{4096}, int64_t{536870911},
                             int64_t{536870912}, int64_t{1} << 45})
    for (const auto& [symmetric, x_bits] : {std::pair{true, 8}, {false, 8}, {false, 7}, {false, 6}})
      for (const auto& [m, n, tables, extreme] : {std::tuple{600, 45, 2, false},
                                                  {600, 45, 2, true},
                                                  {37, 530, 1, false},
                                                  {37, 530, 1, true}}) {
        Layer l = Make(m, n, 13, tables, most, symmetric, x_bits, &rng);
        if (extreme)
          for (Table& table : l.tables)
            for (size_t i = 0; i < table.size(); ++i)
              table[i] = symmetric && i >= 128 * 256 ? -most : most;
        if (extreme)
          for (uint8_t& code : l.x) code &= 0x3f;
        for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxRows)) {
          const ForcedChoice forced(isa, kernel);
          ExpectDefined(l, kernel);
        }
      }
}

// Codes without their highest bit take the shorter table.
TEST(ApproxLinear, NonNegativeCodesOfASymmetricTable) {
  std::mt19937_64 rng(73);
  Layer l = Make(100, 5, 150, 2, 2000, true, 8, &rng);
  for (uint8_t& code : l.x) code &= 0x7f;
  for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxRows)) {
    const ForcedChoice forced(isa, kernel);
    ExpectDefined(l, kernel);
  }
}

TEST(ApproxLinear, ThreadsDoNotChangeTheResult) {
  std::mt19937_64 rng(74);
  for (const auto& [m, n] : {std::pair{900, 40}, {20, 200}}) {
    const Layer l = Make(m, n, 200, 2, 1984, true, 8, &rng);
    std::vector<float> one;
    {
      const ThreadScope threads(1);
      one = Product(l);
    }
    const ThreadScope threads(5);
    EXPECT_EQ(Product(l), one);
    ExpectDefined(l, "threads");
  }
}

TEST(ApproxLinear, RoundsSums) {
  std::mt19937_64 rng(75);
  for (const bool each : {false, true})
    for (const int bits : {0, 3, 5})
      for (const double largest : {1000.0, 777.3, 1e9}) {
        Layer l = Make(70, 3, 60, 1, 500, true, 8, &rng);
        l.multiply.rounding = {true, each, bits, largest};
        const GridRounding rounding{bits, largest};
        const std::vector<float> y = Product(l);
        for (int64_t i = 0; i < l.m; ++i)
          for (int64_t c = 0; c < l.n; ++c) {
            const auto at = static_cast<size_t>(c);
            double sum = 0;
            for (int64_t k = 0; k < l.k; ++k) {
              sum += static_cast<double>(
                  l.tables[0]
                          [static_cast<size_t>(l.x[static_cast<size_t>(i * l.x_stride + k)]) * 256 +
                           l.weight[static_cast<size_t>(c * l.k + k)]]);
              if (each) sum = rounding.Round(sum);
            }
            const auto rounded = static_cast<float>(rounding.Round(sum));
            ASSERT_EQ(y[static_cast<size_t>(i * l.y_stride + c)],
                      rounded * l.multiply.unit[at] + l.bias[at]);
          }
      }
}

// A table whose entries are on the grid, small ones and those at its end among them.
Table GridTable(const GridRounding& grid, int bits, bool symmetric, std::mt19937_64* rng) {
  Table table(65536);
  for (size_t x = 0; x < 256; ++x)
    for (size_t w = 0; w < 256; ++w) {
      const double sign = (*rng)() % 2 == 0 ? 1 : -1;
      const auto exponent = static_cast<int>((*rng)() % static_cast<uint64_t>(bits));
      int64_t& value = table[x * 256 + w];
      value = static_cast<int64_t>(
          grid.Round(sign * std::ldexp(static_cast<double>((*rng)() % 256), exponent)));
      if (symmetric && x >= 128) value = -table[(x - 128) * 256 + w];
    }
  return table;
}

// Every mantissa, ranges that sums stay within and that they saturate at, lines and single products
// with tails of channels, lanes and steps. Two shapes at a time: each meets each of the four
// ranges, since in steps of four the first goes through all shapes of one parity, the second of the
// other.
TEST(ApproxLinear, EveryKernelRoundsEachSumAsDefined) {
  constexpr std::tuple<int, int, int, bool> kShapes[6] = {{300, 35, 8, true},  {200, 16, 7, false},
                                                          {512, 70, 8, false}, {70, 1, 8, true},
                                                          {9, 5, 6, false},    {40, 3, 8, true}};
  std::mt19937_64 rng(79);
  size_t turn = 0;
  for (int bits = 0; bits <= 7; ++bits)
    for (const auto& [largest, exponents] :
         {std::pair{777.3, 4}, {61440.0, 8}, {7516192768.0, 26}, {4.0e15, 40}}) {
      const size_t first = turn++ % 6;
      for (const auto& [m, n, x_bits, symmetric] : {kShapes[first], kShapes[(first + 3) % 6]}) {
        const GridRounding grid{bits, largest};
        Layer l = Make(m, n, 21, 2, 1, symmetric, x_bits, &rng);
        for (size_t t = 0; t < 2; ++t) {
          l.tables[t] = GridTable(grid, exponents, symmetric, &rng);
          l.multiply.tables[t] = l.tables[t].data();
        }
        l.multiply.rounding = {true, true, bits, largest};
        std::vector<float> expected;
        for (int64_t i = 0; i < l.m; ++i)
          for (int64_t c = 0; c < l.n; ++c) {
            const auto at = static_cast<size_t>(c);
            const Table& table = l.tables[static_cast<size_t>(l.multiply.table_of_channel[at])];
            double sum = 0;
            for (int64_t k = 0; k < l.k; ++k)
              sum = grid.Round(
                  sum +
                  static_cast<double>(
                      table[static_cast<size_t>(l.x[static_cast<size_t>(i * l.x_stride + k)]) *
                                256 +
                            l.weight[static_cast<size_t>(c * l.k + k)]]));
            expected.push_back(static_cast<float>(sum) * l.multiply.unit[at] + l.bias[at]);
          }
        for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxEachAdd)) {
          const ForcedChoice forced(isa, kernel);
          const std::vector<float> y = Product(l);
          for (int64_t i = 0; i < l.m; ++i)
            for (int64_t c = 0; c < l.n; ++c)
              ASSERT_EQ(y[static_cast<size_t>(i * l.y_stride + c)],
                        expected[static_cast<size_t>(i * l.n + c)])
                  << kernel << " " << bits << " bits, " << m << "x" << n << " row " << i
                  << " channel " << c;
        }
      }
    }
}

TEST(ApproxLinear, RefusesBadArguments) {
  const Table table(65536, 1), huge(65536, int64_t{3} << 60);
  const uint8_t weight[4] = {};
  ApproxLinearProblem p{2, 2, weight, {}};
  p.multiply.unit = {1.0F};
  EXPECT_THROW(ApproxLinear{p}, Error);  // no table
  p.multiply.tables = {nullptr};
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.multiply.tables = {huge.data()};
  EXPECT_THROW(ApproxLinear{p}, Error);  // 2 * 3 * 2^60
  p.multiply.tables = {table.data()};
  p.multiply.table_of_channel = {0, 1};
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.multiply.table_of_channel = {0};
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.multiply.table_of_channel = {};
  p.multiply.unit = {1.0F, std::numeric_limits<float>::infinity()};
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.multiply.unit = {1.0F};
  p.multiply.x_bits = 9;
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.multiply.x_bits = 8;
  p.multiply.rounding = {true, false, 3, 0.5};
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.multiply.rounding = {};
  p.k = 0;
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.k = 2;
  p.weight = nullptr;
  EXPECT_THROW(ApproxLinear{p}, Error);
  p.weight = weight;
  const ApproxLinear linear(p);
  const uint8_t x[2] = {};
  float y[2];
  linear.Run(1, x, 2, y, 2);
  EXPECT_EQ(y[1], 2.0F);
  EXPECT_THROW(linear.Run(1, x, 1, y, 2), Error);
  EXPECT_THROW(linear.Run(1, x, 2, y, 1), Error);
  EXPECT_THROW(linear.Run(-1, x, 2, y, 2), Error);
}

// The convolution written out, in int64.
std::vector<float> DefinedConv(const ApproxConvProblem& p, int64_t batch, int64_t height,
                               int64_t width, const std::vector<uint8_t>& x) {
  const ApproxConv conv(p);
  const int64_t oh = conv.OutHeight(height), ow = conv.OutWidth(width);
  const int64_t cg = p.in_channels / p.groups, og = p.out_channels / p.groups;
  std::vector<float> y;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t o = 0; o < p.out_channels; ++o)
      for (int64_t i = 0; i < oh * ow; ++i) {
        int64_t sum = 0;
        for (int64_t j = 0; j < cg * p.kernel_h * p.kernel_w; ++j) {
          const int64_t kx = j % p.kernel_w, ky = j / p.kernel_w % p.kernel_h;
          const int64_t c = o / og * cg + j / p.kernel_w / p.kernel_h;
          const int64_t row = i / ow * p.stride_h + ky * p.dilation_h - p.pad_top;
          const int64_t column = i % ow * p.stride_w + kx * p.dilation_w - p.pad_left;
          const bool inside = row >= 0 && row < height && column >= 0 && column < width;
          const uint8_t code = inside
                                   ? x[static_cast<size_t>(
                                         ((b * p.in_channels + c) * height + row) * width + column)]
                                   : p.pad_code;
          sum += p.multiply.tables[0][code * 256 + p.weight[o * cg * p.kernel_h * p.kernel_w + j]];
        }
        y.push_back(static_cast<float>(sum) * p.multiply.unit[0] +
                    p.multiply.bias[static_cast<size_t>(o)]);
      }
  return y;
}

TEST(ApproxConv, EveryShapeGivesTheDefinedSums) {
  std::mt19937_64 rng(76);
  for (int round = 0; round < 60; ++round) {
    const auto pick = [&](std::initializer_list<int64_t> of) {
      return *(of.begin() + rng() % of.size());
    };
    ApproxConvProblem p;
    p.groups = pick({1, 1, 2, 4});
    p.in_channels = p.groups * pick({1, 3});
    p.out_channels = p.groups * pick({1, 2, 35});
    p.kernel_h = pick({1, 2, 3, 5}), p.kernel_w = pick({1, 3, 4});
    p.stride_h = pick({1, 2, 3}), p.stride_w = pick({1, 1, 2, 3});
    p.dilation_h = pick({1, 2}), p.dilation_w = pick({1, 2, 3});
    p.pad_top = pick({0, 1, 2}), p.pad_left = pick({0, 1, 4});
    p.pad_bottom = pick({0, 1, 3}), p.pad_right = pick({0, 1, 7});
    p.pad_code = static_cast<uint8_t>(pick({0, 0, 0x83}));
    const int64_t batch = pick({1, 3}), height = pick({9, 11, 23}), width = pick({10, 17, 40});
    const Table table = RandomTable(1984, true, &rng);
    std::vector<uint8_t> x, weight;
    for (int64_t i = 0; i < batch * p.in_channels * height * width; ++i)
      x.push_back(static_cast<uint8_t>(rng() & (round % 2 == 0 ? 0x7f : 0xff)));
    for (int64_t i = 0; i < p.out_channels * p.in_channels / p.groups * p.kernel_h * p.kernel_w;
         ++i)
      weight.push_back(static_cast<uint8_t>(rng()));
    std::vector<float> bias(static_cast<size_t>(p.out_channels), 0.5F);
    p.weight = weight.data();
    p.multiply.tables = {table.data()};
    p.multiply.unit = {0.125F};
    p.multiply.bias = bias.data();
    const std::vector<float> expected = DefinedConv(p, batch, height, width, x);
    const GuardedBuffer guarded(static_cast<int64_t>(x.size()));
    std::memcpy(guarded.data(), x.data(), x.size());
    for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxRows)) {
      const ForcedChoice forced(isa, kernel);
      std::vector<float> y(expected.size(), -1.0F);
      ApproxConv(p).Run(batch, height, width, guarded.data(), y.data());
      ASSERT_EQ(y, expected) << kernel << " round " << round;
    }
  }
}

// A convolution of one group is a linear layer of its columns.
TEST(ApproxConv, ColumnsAreItsOperands) {
  std::mt19937_64 rng(77);
  const Table table = RandomTable(300, false, &rng);
  std::vector<uint8_t> x, weight;
  for (int i = 0; i < 2 * 3 * 7 * 9; ++i) x.push_back(static_cast<uint8_t>(rng()));
  for (int i = 0; i < 4 * 3 * 2 * 3; ++i) weight.push_back(static_cast<uint8_t>(rng()));
  ApproxConvProblem p;
  p.in_channels = 3, p.out_channels = 4, p.kernel_h = 2, p.kernel_w = 3;
  p.stride_w = 2, p.dilation_h = 2, p.pad_left = 1, p.pad_bottom = 2, p.pad_code = 9;
  p.weight = weight.data();
  p.multiply.tables = {table.data()};
  p.multiply.unit = {1.0F};
  const ApproxConv conv(p);
  const int64_t space = conv.OutHeight(7) * conv.OutWidth(9);
  std::vector<float> y(static_cast<size_t>(2 * 4 * space)), rows(y.size());
  conv.Run(2, 7, 9, x.data(), y.data());
  const std::vector<uint8_t> columns = conv.Columns(2, 7, 9, x.data());
  ASSERT_EQ(columns.size(), static_cast<size_t>(2 * space * 18));
  ApproxLinear({4, 18, weight.data(), p.multiply})
      .Run(2 * space, columns.data(), 18, rows.data(), 4);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t i = 0; i < space; ++i)
      for (int64_t o = 0; o < 4; ++o)
        EXPECT_EQ(rows[static_cast<size_t>((b * space + i) * 4 + o)],
                  y[static_cast<size_t>((b * 4 + o) * space + i)]);
}

TEST(ApproxConv, RefusesBadArguments) {
  const Table table(65536, 1);
  const uint8_t weight[64] = {};
  ApproxConvProblem p;
  p.in_channels = p.out_channels = 2;
  p.weight = weight;
  p.multiply.tables = {table.data()};
  p.multiply.unit = {1.0F};
  p.groups = 3;
  EXPECT_THROW(ApproxConv{p}, Error);
  p.groups = 1;
  p.stride_w = 0;
  EXPECT_THROW(ApproxConv{p}, Error);
  p.stride_w = 1;
  p.pad_left = -1;
  EXPECT_THROW(ApproxConv{p}, Error);
  p.pad_left = 0;
  p.kernel_h = 4;
  EXPECT_THROW((void)ApproxConv(p).OutHeight(3), Error);
  EXPECT_THROW(ApproxConv(p).Run(-1, 4, 4, weight, nullptr), Error);
  ApproxConv(p).Run(0, 4, 4, weight, nullptr);
}

// ---- Golden matrices and convolutions of the fork ----

// The code of a value that the format holds exactly.
uint8_t CodeOf(const CodeFormat& f, double value) {
  for (int c = 0; c < 1 << f.bits(); ++c)
    if (f.Decode(c) == value) return static_cast<uint8_t>(c);
  ADD_FAILURE() << value << " is no value of e" << f.exponent_bits << "m" << f.mantissa_bits
                << " at bias " << f.bias;
  return 0;
}

// Tables of distinct weight biases, and what a layer needs of them.
struct Tables {
  std::map<int, ProductTable> of_bias;
  ApproxMultiply multiply;
  Tables(const Multiplier& multiplier, const CodeFormat& x, const CodeFormat& result,
         const std::vector<int>& weight_bias) {
    std::map<int, int32_t> index;
    for (const int bias : weight_bias) {
      const CodeFormat w{x.exponent_bits, x.mantissa_bits, true, bias};
      auto [at, added] = of_bias.try_emplace(bias);
      if (added) {
        at->second = MakeProductTable(multiplier, {x, w, result, 0});
        index[bias] = static_cast<int32_t>(multiply.tables.size());
        multiply.tables.push_back(at->second.value.data());
      }
      multiply.table_of_channel.push_back(index[bias]);
      multiply.unit.push_back(static_cast<float>(at->second.unit));
    }
  }
};

struct Matrices {
  int e, m, bias_a;
  std::vector<int> bias_b;
  int bias_r;
};
// mm_*_bias.txt
const Matrices kMatrices[] = {
    {3, 4, 5, {8, 8, 10, 9, 9, 9, 10, 8, 9, 8, 9, 10}, 6},
    {4, 3, 11, {16, 14, 15, 15, 15, 14, 14, 15, 16, 16, 14, 16}, 10},
};

TEST(ApproxLinear, GoldenMatrices) {
  const auto golden = octet::testing::ReadGolden();
  int seen = 0;
  for (const Matrices& s : kMatrices) {
    const std::string name = Cat("mm_E", s.e, "M", s.m);
    const GoldenArray &a = golden.at(name + "_A"), &b = golden.at(name + "_B");
    const CodeFormat x{s.e, s.m, true, s.bias_a}, r{s.e, s.m, true, s.bias_r};
    std::vector<uint8_t> codes, weight;
    for (const double v : a.values) codes.push_back(CodeOf(x, v));
    for (int64_t n = 0; n < b.columns; ++n)
      for (int64_t k = 0; k < b.rows; ++k)
        weight.push_back(CodeOf({s.e, s.m, true, s.bias_b[static_cast<size_t>(n)]}, b.at(k, n)));
    for (const char* comp : {"nocomp", "comp3", "comp4"})
      for (const auto& [s2, q] : {std::pair{0, 1}, {1, 0}, {1, 1}}) {
        const auto found = golden.find(Cat(name, "_R_", comp, "_s2", s2, "_q", q));
        if (found == golden.end()) continue;
        Multiplier multiplier;
        multiplier.kind = MultiplierKind::kV9;
        multiplier.d = comp[0] == 'n' ? 0 : comp[4] - '0';
        multiplier.s2nn2s = s2 != 0;
        multiplier.quant = q != 0;
        const Tables tables(multiplier, x, r, s.bias_b);
        for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxRows)) {
          const ForcedChoice forced(isa, kernel);
          std::vector<float> y(found->second.values.size());
          ApproxLinear({b.columns, b.rows, weight.data(), tables.multiply})
              .Run(a.rows, codes.data(), a.columns, y.data(), b.columns);
          for (size_t i = 0; i < y.size(); ++i)
            ASSERT_EQ(static_cast<double>(y[i]), found->second.values[i])
                << found->first << " " << kernel;
        }
        ++seen;
      }
  }
  EXPECT_EQ(seen, 15);
}

// Products and the sum rounded by the fork's quantizer for a largest magnitude (qamaa_maxval.txt).
TEST(ApproxLinear, GoldenQuantizedSums) {
  const auto golden = octet::testing::ReadGolden();
  struct Case {
    int e, m;
    double largest;
    int bias_r;
    size_t matrices;
  };
  for (const Case& c : {Case{3, 4, 12.719503402709961, 4, 0}, {4, 3, 173.96620178222656, 8, 1}}) {
    EXPECT_EQ(RoundedBias(c.e, c.m, c.largest), c.bias_r);
    const Matrices& s = kMatrices[c.matrices];
    const std::string name = Cat("E", c.e, "M", c.m);
    const GoldenArray &a = golden.at("mm_" + name + "_A"), &b = golden.at("mm_" + name + "_B");
    const GoldenArray& expected = golden.at("qamaa_" + name + "_R");
    const CodeFormat x{c.e, c.m, true, s.bias_a};
    std::vector<uint8_t> codes;
    for (const double v : a.values) codes.push_back(CodeOf(x, v));
    std::vector<float> y(expected.values.size());
    for (int64_t n = 0; n < b.columns; ++n) {
      const CodeFormat w{c.e, c.m, true, s.bias_b[static_cast<size_t>(n)]};
      const ProductFormats formats{x, w, {c.e, c.m, true, c.bias_r}, c.largest};
      std::vector<uint8_t> weight;
      for (int64_t k = 0; k < b.rows; ++k) weight.push_back(CodeOf(w, b.at(k, n)));
      const ProductTable table = MakeProductTable(Multiplier::Parse("qamaa"), formats);
      const GridRounding rounding = RoundingOf(formats);
      ApproxMultiply multiply;
      multiply.tables = {table.value.data()};
      multiply.unit = {static_cast<float>(table.unit)};
      multiply.rounding = {true, false, rounding.mantissa_bits, rounding.largest};
      ApproxLinear({1, b.rows, weight.data(), multiply})
          .Run(a.rows, codes.data(), a.columns, y.data() + n, b.columns);
    }
    for (size_t i = 0; i < y.size(); ++i)
      EXPECT_EQ(static_cast<double>(y[i]), expected.values[i]) << name << " " << i;
  }
}

TEST(ApproxConv, GoldenConvolutions) {
  const auto golden = octet::testing::ReadGolden();
  struct Case {  // conv_meta.txt
    const char* name;
    int64_t batch, in, size, out, kernel, stride, pad, groups;
    std::vector<int> bias_w;
  };
  for (const Case& c : {Case{"conv3x3", 2, 3, 9, 4, 3, 2, 1, 1, {8, 10, 9, 9}},
                        Case{"conv1x1", 1, 8, 5, 6, 1, 1, 0, 1, {9, 8, 9, 9, 10, 9}},
                        Case{"depthwise", 1, 6, 7, 6, 3, 1, 1, 6, {8, 8, 9, 9, 8, 10}}}) {
    const CodeFormat xf{3, 4, true, 5}, rf{3, 4, true, 6};
    const auto &xa = golden.at(Cat(c.name, "_x")).values, &wa = golden.at(Cat(c.name, "_w")).values,
               &ya = golden.at(Cat(c.name, "_y")).values;
    std::vector<uint8_t> x, weight;
    for (const double v : xa) x.push_back(CodeOf(xf, v));
    for (size_t i = 0; i < wa.size(); ++i)
      weight.push_back(
          CodeOf({3, 4, true, c.bias_w[i * static_cast<size_t>(c.out) / wa.size()]}, wa[i]));
    const Tables tables(Multiplier::Parse("v9:d=3"), xf, rf, c.bias_w);
    ApproxConvProblem p;
    p.groups = c.groups;
    p.in_channels = c.in, p.out_channels = c.out;
    p.kernel_h = p.kernel_w = c.kernel;
    p.stride_h = p.stride_w = c.stride;
    p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = c.pad;
    p.weight = weight.data();
    p.multiply = tables.multiply;
    for (const auto& [isa, kernel] : testing::KernelsOf(Op::ApproxRows)) {
      const ForcedChoice forced(isa, kernel);
      std::vector<float> y(ya.size());
      ApproxConv(p).Run(c.batch, c.size, c.size, x.data(), y.data());
      for (size_t i = 0; i < y.size(); ++i)
        ASSERT_EQ(static_cast<double>(y[i]), ya[i]) << c.name << " " << kernel << " " << i;
    }
  }
}

}  // namespace
}  // namespace octet::kernels
