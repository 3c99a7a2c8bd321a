// Quantizers and integer operators against src/numerics/rounding.h, element by element: equality,
// no tolerance.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "numerics/rounding.h"
#include "runtime/test_graph.h"

namespace octet {
namespace {

using testing::ElementsAre;
using namespace testing_graph;  // NOLINT
using I = std::vector<int64_t>;

template <typename T>
Tensor Codes(const Shape& shape, uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<int> any(std::numeric_limits<T>::lowest(),
                                         std::numeric_limits<T>::max());
  Tensor t(DTypeOf<T>(), shape);
  for (T& v : t.mutable_data<T>()) v = static_cast<T>(any(engine));
  return t;
}

template <typename Q>
void CheckQuantizer(const Tensor& x, const std::vector<float>& scales,
                    const std::vector<int32_t>& zeros, int64_t axis) {
  const auto channels = static_cast<int64_t>(scales.size());
  std::vector<Q> zero(zeros.begin(), zeros.end());
  const Shape shape = channels == 1 ? Shape{} : Shape{channels};
  int64_t inner = 1;
  for (int d = static_cast<int>(axis) + 1; d < x.shape().rank(); ++d) inner *= x.shape()[d];
  constexpr int32_t kLo = std::numeric_limits<Q>::lowest();
  constexpr int32_t kHi = std::numeric_limits<Q>::max();
  enum class Mode { kPlain, kChannelsLast, kOntoImages };
  for (const Mode mode : {Mode::kPlain, Mode::kChannelsLast, Mode::kOntoImages}) {
    const bool channels_last = mode == Mode::kChannelsLast;
    TestGraph g(21);
    ValueId in = g.Input({x.shape().dims().begin(), x.shape().dims().end()});
    if (channels_last) in = g.Op("MaxPool", {in}, {{"kernel_shape", I{1, 1}}});
    const ValueId s = g.Constant(Tensor::Of<float>(shape, std::span<const float>(scales)));
    const ValueId z = g.Constant(Tensor::Of<Q>(shape, std::span<const Q>(zero)));
    const ValueId q = g.Op("QuantizeLinear", {in, s, z}, {{"axis", axis}});
    const ValueId dq = g.Op("DequantizeLinear", {q, s, z}, {{"axis", axis}});
    g.Output(q);
    g.Output(mode == Mode::kPlain ? dq : g.Op("GlobalMaxPool", {dq}));
    const auto y = g.Run({&x});
    for (int64_t i = 0; i < x.elements(); ++i) {
      const auto at = static_cast<size_t>(i);
      const auto c = static_cast<size_t>(channels == 1 ? 0 : i / inner % channels);
      const int32_t code = QuantizeOne(x.data<float>()[at], scales[c], zeros[c], kLo, kHi);
      ASSERT_EQ(int32_t{y[0].data<Q>()[at]}, code) << i << " of " << x.data<float>()[at];
      if (mode == Mode::kPlain) {
        const float real = DequantizeOne(code, scales[c], zeros[c]);
        ASSERT_EQ(y[1].data<float>()[at], real);
      }
    }
  }
}

TEST(Quantizers, EqualTheDefinition) {
  Tensor x = Noise({2, 5, 7, 9}, 1, 40.0F);
  auto d = x.mutable_data<float>();
  // Ties, the ends of the range, and values beyond it.
  const std::vector<float> edges = {0.25F, 0.75F,   -0.25F, -0.75F, 1.25F,    63.75F,
                                    64.0F, -64.25F, 1e30F,  -1e30F, INFINITY, -INFINITY,
                                    0.0F,  -0.0F,   1e-40F, NAN};
  std::copy(edges.begin(), edges.end(), d.begin());
  CheckQuantizer<int8_t>(x, {0.5F}, {3}, 1);
  CheckQuantizer<uint8_t>(x, {0.5F}, {128}, 1);
  CheckQuantizer<int16_t>(x, {0.01F}, {-7}, 1);
  CheckQuantizer<uint16_t>(x, {0.01F}, {40000}, 1);
  CheckQuantizer<int8_t>(x, {0.5F, 0.3F, 1.0F, 0.7F, 2.0F}, {0, 1, -2, 3, 127}, 1);
  CheckQuantizer<uint8_t>(x, {0.5F, 0.3F, 1.0F, 0.7F, 2.0F, 0.1F, 0.9F, 0.11F, 3.0F},
                          {0, 1, 2, 3, 4, 5, 6, 7, 255}, 3);
}

TEST(Quantizers, DynamicRange) {
  const auto run = [](std::vector<float> v) {
    const auto n = static_cast<int64_t>(v.size());
    std::vector<Tensor> in;
    in.push_back(Floats({n}, std::move(v)));
    return RunOp("DynamicQuantizeLinear", std::move(in), {}, 3);
  };
  const auto y = run({0, 2, -3, -2.5F, 1.34F, 0.5F});  // the operator's own example
  EXPECT_THAT(y[0].data<uint8_t>(), ElementsAre(153, 255, 0, 26, 221, 179));
  EXPECT_FLOAT_EQ(y[1].data<float>()[0], 0.0196078438F);
  EXPECT_EQ(y[2].data<uint8_t>()[0], 153);
  const auto zeros = run({0, 0});
  EXPECT_THAT(zeros[0].data<uint8_t>(), ElementsAre(0, 0));
  EXPECT_TRUE(std::isfinite(zeros[1].data<float>()[0]));
}

// Exact sums of (x - zx)(w - zw) over a 2-D convolution with equal pads.
std::vector<int64_t> ConvSums(const std::vector<int32_t>& x, const Shape& xs,
                              const std::vector<int32_t>& w, const Shape& ws, int64_t group,
                              int64_t stride, int64_t pad) {
  const int64_t oh = (xs[2] + 2 * pad - ws[2]) / stride + 1;
  const int64_t ow = (xs[3] + 2 * pad - ws[3]) / stride + 1;
  std::vector<int64_t> sums;
  for (int64_t n = 0; n < xs[0]; ++n) {
    for (int64_t o = 0; o < ws[0]; ++o) {
      for (int64_t p = 0; p < oh * ow; ++p) {
        int64_t sum = 0;
        for (int64_t k = 0; k < ws[1] * ws[2] * ws[3]; ++k) {
          const int64_t c = o / (ws[0] / group) * ws[1] + k / (ws[2] * ws[3]);
          const int64_t h = p / ow * stride - pad + k / ws[3] % ws[2];
          const int64_t v = p % ow * stride - pad + k % ws[3];
          if (h < 0 || h >= xs[2] || v < 0 || v >= xs[3]) continue;
          sum += int64_t{x[static_cast<size_t>(((n * xs[1] + c) * xs[2] + h) * xs[3] + v)]} *
                 w[static_cast<size_t>(o * ws[1] * ws[2] * ws[3] + k)];
        }
        sums.push_back(sum);
      }
    }
  }
  return sums;
}

template <typename T>
std::vector<int32_t> Centred(const Tensor& t, const std::vector<int32_t>& zeros, int64_t inner) {
  std::vector<int32_t> v;
  for (size_t i = 0; i < t.data<T>().size(); ++i) {
    const size_t c = zeros.size() == 1 ? 0 : i / static_cast<size_t>(inner) % zeros.size();
    v.push_back(int32_t{t.data<T>()[i]} - zeros[c]);
  }
  return v;
}

TEST(IntegerOps, QLinearConvIsExact) {
  const Shape xs = {2, 6, 7, 5};
  const Shape ws = {4, 3, 3, 3};
  const Tensor x = Codes<uint8_t>(xs, 1);
  const std::vector<float> w_scale = {0.01F, 0.02F, 0.005F, 0.03F};
  const Tensor bias = Tensor::Of<int32_t>(Shape{4}, {100, -2000, 0, 70000});
  const float x_scale = 0.1F;
  const float y_scale = 1.7F;
  const auto run = [&](const Tensor& w, const Tensor& w_zero, const std::vector<int32_t>& centred) {
    TestGraph g;
    const ValueId in = g.Input({2, 6, 7, 5}, DType::kUint8);
    g.Output(g.Op("QLinearConv",
                  {in, g.Constant(Tensor::Scalar(x_scale)), g.Constant(Tensor::Scalar<uint8_t>(77)),
                   g.Constant(w.Clone()),
                   g.Constant(Tensor::Of<float>(Shape{4}, std::span<const float>(w_scale))),
                   g.Constant(w_zero.Clone()), g.Constant(Tensor::Scalar(y_scale)),
                   g.Constant(Tensor::Scalar<uint8_t>(120)), g.Constant(bias.Clone())},
                  {{"group", int64_t{2}}, {"strides", I{2, 2}}, {"pads", I{1, 1, 1, 1}}}));
    const auto y = g.Run({&x});
    const auto sums = ConvSums(Centred<uint8_t>(x, {77}, 1), xs, centred, ws, 2, 2, 1);
    ASSERT_EQ(y[0].elements(), static_cast<int64_t>(sums.size()));
    for (size_t i = 0; i < sums.size(); ++i) {
      const size_t c = i / static_cast<size_t>(y[0].shape()[2] * y[0].shape()[3]) % 4;
      const auto acc = static_cast<int32_t>(sums[i] + bias.data<int32_t>()[c]);
      ASSERT_EQ(int32_t{y[0].data<uint8_t>()[i]},
                RequantizeOne(acc, x_scale * w_scale[c] / y_scale, 120, 0, 255))
          << i;
    }
  };
  const Tensor w = Codes<int8_t>(ws, 2);
  run(w, Tensor::Scalar<int8_t>(0), Centred<int8_t>(w, {0}, 1));
  // uint8 weights whose centred values need nine bits.
  const Tensor wide = Codes<uint8_t>(ws, 3);
  run(wide, Tensor::Of<uint8_t>(Shape{4}, {0, 255, 128, 3}),
      Centred<uint8_t>(wide, {0, 255, 128, 3}, 27));
}

TEST(IntegerOps, MatMulIntegerWithZeroPoints) {
  const Tensor a = Codes<uint8_t>({3, 7}, 1);
  const Tensor b = Codes<int8_t>({7, 5}, 2);
  for (const bool dynamic : {false, true}) {
    TestGraph g;
    const ValueId ai = g.Input({3, 7}, DType::kUint8);
    const Tensor zero = Tensor::Scalar<uint8_t>(200);
    std::vector<const Tensor*> given = {&a};
    const ValueId zi = dynamic ? g.Input({}, DType::kUint8) : g.Constant(zero.Clone());
    if (dynamic) given.push_back(&zero);
    g.Output(g.Op("MatMulInteger", {ai, g.Constant(b.Clone()), zi,
                                    g.Constant(Tensor::Of<int8_t>(Shape{5}, {0, 1, -2, 3, 4}))}));
    const auto y = g.Run(given);
    const std::vector<int32_t> bz = {0, 1, -2, 3, 4};
    for (size_t i = 0; i < 15; ++i) {
      int32_t sum = 0;
      for (size_t k = 0; k < 7; ++k) {
        sum += (int32_t{a.data<uint8_t>()[i / 5 * 7 + k]} - 200) *
               (int32_t{b.data<int8_t>()[k * 5 + i % 5]} - bz[i % 5]);
      }
      EXPECT_EQ(y[0].data<int32_t>()[i], sum);
    }
  }
}

TEST(IntegerOps, LoweredConvWithResidualIsExact) {
  const Shape xs = {2, 8, 5, 6};
  const Shape ws = {8, 8, 3, 3};
  const Tensor x = Codes<uint8_t>(xs, 1);
  const Tensor w = Codes<int8_t>(ws, 2);
  const Tensor r = Codes<uint8_t>(xs, 3);
  std::vector<float> m;
  for (int c = 0; c < 8; ++c) m.push_back(0.0007F * static_cast<float>(c + 1));
  TestGraph g;
  const ValueId xi = g.Input({-1, 8, 5, 6}, DType::kUint8);
  const ValueId ri = g.Input({-1, 8, 5, 6}, DType::kUint8);
  const ValueId conv = g.Op("QConv",
                            {xi, g.Constant(w.Clone()), kNoValue,
                             g.Constant(Tensor::Of<float>(Shape{8}, std::span<const float>(m))),
                             g.Constant(Tensor::Of<int32_t>(Shape{1}, {128})), kNoValue, ri},
                            {{"pads", I{1, 1, 1, 1}},
                             {"x_zero_point", int64_t{3}},
                             {"y_zero_point", int64_t{128}},
                             {"output_dtype", int64_t{2}},
                             {"residual_zero_point", int64_t{9}},
                             {"residual_ratio", 0.5F},
                             {"mid_codes", int64_t{1}},
                             {"mid_zero_point", int64_t{100}},
                             {"mid_lo", int64_t{0}},
                             {"mid_hi", int64_t{255}},
                             {"mid_ratio", 1.25F}},
                            "octet");
  g.Output(conv);
  g.Output(g.Op("QAdd", {conv, ri},
                {{"a_zero_point", int64_t{128}},
                 {"b_zero_point", int64_t{9}},
                 {"y_zero_point", int64_t{50}},
                 {"a_ratio", 0.3F},
                 {"b_ratio", 0.7F}},
                "octet"));
  const auto y = g.Run({&x, &r});
  const auto sums =
      ConvSums(Centred<uint8_t>(x, {3}, 1), xs, Centred<int8_t>(w, {0}, 1), ws, 1, 1, 1);
  for (size_t i = 0; i < sums.size(); ++i) {
    const int32_t mid = RequantizeOne(static_cast<int32_t>(sums[i]), m[i / 30 % 8], 100, 0, 255);
    const int32_t residual = int32_t{r.data<uint8_t>()[i]};
    const float sum =
        static_cast<float>(mid - 100) * 1.25F + static_cast<float>(residual - 9) * 0.5F;
    const int32_t code = RoundClamped(sum, 0.0F, 127.0F) + 128;
    ASSERT_EQ(int32_t{y[0].data<uint8_t>()[i]}, code) << i;
    ASSERT_EQ(int32_t{y[1].data<uint8_t>()[i]},
              AddCodesOne(code, 128, 0.3F, residual, 9, 0.7F, 50, 0, 255))
        << i;
  }
}

TEST(IntegerOps, LookupAndConcatOfGrids) {
  Tensor table(DType::kUint8, Shape{256});
  for (size_t i = 0; i < 256; ++i) table.mutable_data<uint8_t>()[i] = static_cast<uint8_t>(255 - i);
  std::vector<Tensor> in;
  in.push_back(Tensor::Of<int8_t>(Shape{3}, {-1, 0, 127}));
  TestGraph g;
  const ValueId x = g.Input({3}, DType::kInt8);
  g.Output(
      g.Op("QLookup", {x, g.Constant(std::move(table))}, {{"output_dtype", int64_t{3}}}, "octet"));
  EXPECT_THAT(g.Run({&in[0]})[0].data<int8_t>(), ElementsAre(0, -1, -128));

  TestGraph h;
  const ValueId a = h.Input({2}, DType::kUint8);
  const auto scalar = [&](float v) { return h.Constant(Tensor::Scalar(v)); };
  const auto code = [&](uint8_t v) { return h.Constant(Tensor::Scalar(v)); };
  h.Output(h.Op("QLinearConcat",
                {scalar(0.5F), code(10), a, scalar(0.5F), code(10), a, scalar(1.0F), code(0)},
                {{"axis", int64_t{0}}}, "com.microsoft"));
  const Tensor v = Tensor::Of<uint8_t>(Shape{2}, {10, 200});
  EXPECT_THAT(h.Run({&v})[0].data<uint8_t>(), ElementsAre(10, 200, 30, 255));
}

}  // namespace
}  // namespace octet
