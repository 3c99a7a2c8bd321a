// Float and data-movement operators on small inputs, against values worked out by hand or by a loop
// in double.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/test_graph.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::FloatEq;
using testing::Pointwise;
using namespace testing_graph;  // NOLINT

template <typename T = float>
std::vector<T> Values(const Tensor& t) {
  return {t.data<T>().begin(), t.data<T>().end()};
}
using I = std::vector<int64_t>;

std::vector<Tensor> Two(Tensor a, Tensor b) {
  std::vector<Tensor> v;
  v.push_back(std::move(a));
  v.push_back(std::move(b));
  return v;
}
std::vector<Tensor> One(Tensor a) {
  std::vector<Tensor> v;
  v.push_back(std::move(a));
  return v;
}

TEST(FloatOps, BroadcastingInEveryPosition) {
  const auto add = [](Tensor a, Tensor b) {
    return Values(RunOp("Add", Two(std::move(a), std::move(b)))[0]);
  };
  EXPECT_THAT(add(Floats({2, 2}, {1, 2, 3, 4}), Floats({}, {10})), ElementsAre(11, 12, 13, 14));
  EXPECT_THAT(add(Floats({2, 2}, {1, 2, 3, 4}), Floats({2}, {10, 20})),
              ElementsAre(11, 22, 13, 24));
  EXPECT_THAT(add(Floats({2, 1}, {1, 2}), Floats({1, 3}, {10, 20, 30})),
              ElementsAre(11, 21, 31, 12, 22, 32));
  EXPECT_THAT(add(Floats({3}, {1, 2, 3}), Floats({2, 1}, {10, 20})),
              ElementsAre(11, 12, 13, 21, 22, 23));
}

TEST(FloatOps, OneHot) {
  const auto hot = [](Tensor indices, int64_t axis) {
    std::vector<Tensor> inputs = Two(std::move(indices), Ints({3}));
    inputs.push_back(Floats({2}, {5, 7}));
    return Values(RunOp("OneHot", std::move(inputs), {{"axis", axis}})[0]);
  };
  // Negative ones count from the end; 3 and -4 are out of range.
  EXPECT_THAT(hot(Floats({5}, {0, 2, -1, 3, -4}), -1),
              ElementsAre(7, 5, 5, 5, 5, 7, 5, 5, 7, 5, 5, 5, 5, 5, 5));
  EXPECT_THAT(hot(Floats({2}, {1, -3}), 0), ElementsAre(5, 7, 7, 5, 5, 5));
  EXPECT_THAT(hot(Floats({2}, {1, NAN}), 1), ElementsAre(5, 7, 5, 5, 5, 5));
}

// The same graph with a convolution in front (so that data are channels-last) and without.
TEST(FloatOps, LayoutsDoNotChangeResults) {
  const Tensor x = Noise({2, 6, 5, 4}, 1);
  Tensor identity(DType::kFloat32, Shape{6, 6, 1, 1});
  for (size_t c = 0; c < 6; ++c) identity.mutable_data<float>()[c * 7] = 1.0F;
  struct Case {
    std::string op;
    std::vector<Tensor> more;
    Attributes attributes;
    size_t outputs = 1;
  };
  std::vector<Case> cases;
  auto add = [&](std::string op, std::vector<Tensor> more = {}, Attributes attributes = {},
                 size_t outputs = 1) {
    cases.push_back({std::move(op), std::move(more), std::move(attributes), outputs});
  };
  add("Mul", One(Noise({6, 1, 1}, 2)));
  add("Mul", One(Noise({1, 6, 1, 1}, 2)));
  add("Sub", One(Noise({2, 6, 5, 4}, 3)));
  add("Sub", One(Noise({4}, 3)));
  add("Add", One(Noise({6, 5, 4}, 3)));
  add("Add", One(Noise({2, 1, 5, 1}, 3)));
  add("PRelu", One(Noise({6, 1, 1}, 4)));
  add("Max", Two(Noise({1, 6, 1, 1}, 4), Noise({2, 6, 5, 4}, 5)));
  add("LeakyRelu");
  add("HardSwish");
  add("Sigmoid");
  add("MaxPool", {}, {{"kernel_shape", I{3, 2}}, {"pads", I{1, 0, 0, 1}}, {"strides", I{2, 1}}});
  add("MaxPool", {},
      {{"kernel_shape", I{2, 2}}, {"dilations", I{2, 2}}, {"ceil_mode", int64_t{1}}});
  add("MaxPool", {}, {{"kernel_shape", I{3, 3}}, {"strides", I{2, 2}}}, 2);
  add("AveragePool", {},
      {{"kernel_shape", I{3, 3}}, {"pads", I{1, 1, 1, 1}}, {"strides", I{2, 2}}});
  add("AveragePool", {},
      {{"kernel_shape", I{3, 3}},
       {"pads", I{1, 1, 1, 1}},
       {"count_include_pad", int64_t{1}},
       {"ceil_mode", int64_t{1}},
       {"strides", I{3, 3}}});
  add("GlobalAveragePool");
  add("GlobalMaxPool");
  add("Transpose", {}, {{"perm", I{0, 2, 3, 1}}});
  add("Transpose", {}, {{"perm", I{3, 1, 0, 2}}});
  add("Concat", One(Noise({2, 3, 5, 4}, 5)), {{"axis", int64_t{1}}});
  add("Concat", One(Noise({2, 6, 2, 4}, 5)), {{"axis", int64_t{-2}}});
  add("Split", One(Ints({1, 5})), {{"axis", int64_t{1}}}, 2);
  add("Split", One(Ints({3, 2})), {{"axis", int64_t{2}}}, 2);
  add("Flatten");
  add("Reshape", One(Ints({0, 3, -1})));
  add("DepthToSpace", {}, {{"blocksize", int64_t{1}}});
  add("ReduceMean", {}, {{"axes", I{2, 3}}});
  add("ReduceMax", {}, {{"axes", I{1}}, {"keepdims", int64_t{0}}});
  add("Softmax", {}, {{"axis", int64_t{1}}});
  add("LRN", {}, {{"size", int64_t{3}}});
  add("InstanceNormalization", Two(Noise({6}, 1), Noise({6}, 2)));
  add("Resize", {}, {});
  for (Case& c : cases) {
    if (c.op == "Resize") {
      c.more.emplace_back();
      c.more.push_back(Floats({4}, {1, 1, 1.5F, 2}));
      c.attributes = {{"mode", std::string("linear")}};
    }
    std::vector<std::vector<Tensor>> results;
    for (const bool with_conv : {false, true}) {
      TestGraph g;
      const ValueId in = g.Input({2, 6, 5, 4});
      std::vector<ValueId> inputs = {with_conv ? g.Op("Conv", {in, g.Constant(identity.Clone())})
                                               : in};
      for (const Tensor& t : c.more)
        inputs.push_back(t.dtype() == DType::kUndefined ? kNoValue : g.Constant(t.Clone()));
      for (ValueId id : g.Nodes(c.op, inputs, c.attributes, c.outputs)) g.Output(id);
      results.push_back(g.Run({&x}));
    }
    for (size_t i = 0; i < c.outputs; ++i) {
      ASSERT_EQ(results[0][i].shape(), results[1][i].shape()) << c.op;
      if (results[0][i].dtype() == DType::kInt64) {
        EXPECT_EQ(Values<int64_t>(results[0][i]), Values<int64_t>(results[1][i])) << c.op;
      } else {
        EXPECT_THAT(Values(results[0][i]), Pointwise(FloatEq(), Values(results[1][i]))) << c.op;
      }
    }
  }
}

TEST(FloatOps, PoolingByHand) {
  const Tensor x = Floats({1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  const Attributes window = {
      {"kernel_shape", I{2, 2}}, {"pads", I{1, 1, 0, 0}}, {"strides", I{2, 2}}};
  EXPECT_THAT(Values(RunOp("MaxPool", One(x.Clone()), window)[0]), ElementsAre(1, 3, 7, 9));
  EXPECT_THAT(Values(RunOp("AveragePool", One(x.Clone()), window)[0]),
              ElementsAre(1, 2.5F, 5.5F, 7));
  Attributes padded = window;
  padded["count_include_pad"] = int64_t{1};
  EXPECT_THAT(Values(RunOp("AveragePool", One(x.Clone()), padded)[0]),
              ElementsAre(0.25F, 1.25F, 2.75F, 7));
  // The last window reaches past the end padding: that part is not counted.
  EXPECT_THAT(Values(RunOp("AveragePool", One(Floats({1, 1, 1, 4}, {1, 2, 3, 4})),
                           {{"kernel_shape", I{1, 3}},
                            {"strides", I{1, 3}},
                            {"pads", I{0, 0, 0, 1}},
                            {"ceil_mode", int64_t{1}},
                            {"count_include_pad", int64_t{1}}})[0]),
              ElementsAre(2, 2));
  const auto with_indices = RunOp("MaxPool", One(x.Clone()), window, 2);
  EXPECT_THAT(Values<int64_t>(with_indices[1]), ElementsAre(0, 2, 6, 8));
}

TEST(FloatOps, MaxPoolOfCodes) {
  const Tensor x = Tensor::Of<int8_t>(Shape{1, 1, 2, 2}, {-128, -5, -7, -9});
  const auto y = RunOp("MaxPool", One(x.Clone()),
                       {{"kernel_shape", I{2, 2}}, {"pads", I{1, 1, 0, 0}}, {"strides", I{1, 1}}});
  EXPECT_THAT(Values<int8_t>(y[0]), ElementsAre(-128, -5, -7, -5));  // padding never wins
}

TEST(FloatOps, GemmWithEveryOption) {
  // A' = [[1,2],[3,4]], B' = [[5,6],[7,8]]: the product is [[19,22],[43,50]].
  for (const bool known : {true, false}) {
    for (const int64_t ta : {0, 1}) {
      for (const int64_t tb : {0, 1}) {
        TestGraph g;
        const Tensor a = ta != 0 ? Floats({2, 2}, {1, 3, 2, 4}) : Floats({2, 2}, {1, 2, 3, 4});
        const Tensor b = tb != 0 ? Floats({2, 2}, {5, 7, 6, 8}) : Floats({2, 2}, {5, 6, 7, 8});
        const Tensor c = Floats({2}, {10, 20});
        std::vector<const Tensor*> given = {&a};
        const ValueId in = g.Input({-1, 2});
        const ValueId bi = known ? g.Constant(b.Clone()) : g.Input({2, 2});
        if (!known) given.push_back(&b);
        g.Output(g.Op("Gemm", {in, bi, g.Constant(c.Clone())},
                      {{"transA", ta}, {"transB", tb}, {"alpha", 2.0F}, {"beta", 0.5F}}));
        EXPECT_THAT(Values(g.Run(given)[0]), ElementsAre(43, 54, 91, 110)) << ta << tb << known;
      }
    }
  }
}

TEST(FloatOps, MatMulBatchesBroadcast) {
  const Tensor a = Noise({2, 1, 3, 4}, 1);
  const Tensor b = Noise({5, 4, 2}, 2);
  const auto y = RunOp("MatMul", Two(a.Clone(), b.Clone()));
  ASSERT_EQ(y[0].shape(), (Shape{2, 5, 3, 2}));
  for (size_t i = 0; i < 60; ++i) {
    const size_t n = i % 2;
    const size_t m = i / 2 % 3;
    const size_t q = i / 6 % 5;
    const size_t p = i / 30;
    double sum = 0;
    for (size_t k = 0; k < 4; ++k) {
      sum += static_cast<double>(a.data<float>()[(p * 3 + m) * 4 + k]) *
             static_cast<double>(b.data<float>()[(q * 4 + k) * 2 + n]);
    }
    EXPECT_NEAR(static_cast<double>(y[0].data<float>()[i]), sum, 4 * 32 * std::ldexp(1.0, -24))
        << i;
  }
}

TEST(FloatOps, ConvTransposeByHand) {
  // Each input spreads [1,2;3,4] with stride 2; a pad of one at the start; one more row and column
  // at the end.
  const auto y =
      RunOp("ConvTranspose",
            Two(Floats({1, 1, 2, 2}, {1, 10, 100, 1000}), Floats({1, 1, 2, 2}, {1, 2, 3, 4})),
            {{"strides", I{2, 2}}, {"pads", I{1, 1, 0, 0}}, {"output_padding", I{1, 1}}});
  ASSERT_EQ(y[0].shape(), (Shape{1, 1, 4, 4}));
  EXPECT_THAT(Values(y[0]),
              ElementsAre(4, 30, 40, 0, 200, 1000, 2000, 0, 400, 3000, 4000, 0, 0, 0, 0, 0));
}

TEST(FloatOps, SoftmaxBeforeAndSinceOperatorSet13) {
  const Tensor x(DType::kFloat32, Shape{1, 2, 2});
  EXPECT_THAT(Values(RunOp("Softmax", One(x.Clone()), {{"axis", int64_t{1}}}, 1, "", 11)[0]),
              testing::Each(0.25F));
  EXPECT_THAT(Values(RunOp("Softmax", One(x.Clone()), {{"axis", int64_t{1}}}, 1, "", 13)[0]),
              testing::Each(0.5F));
}

TEST(FloatOps, UnaryAgainstTheStandardLibrary) {
  const Tensor x = Noise({1000}, 1, 3.0F);
  const auto check = [&](const std::string& op, double (*f)(double), Attributes attributes = {}) {
    const Tensor y = std::move(RunOp(op, One(x.Clone()), std::move(attributes), 1, "", 20)[0]);
    for (size_t i = 0; i < 1000; ++i) {
      const auto v = static_cast<double>(x.data<float>()[i]);
      const double expected = f(v);
      // A few roundings of numbers of the size of x or of 1: GELU is x times 1 + erf.
      EXPECT_NEAR(static_cast<double>(y.data<float>()[i]), expected,
                  std::ldexp(1 + std::abs(v), -21))
          << op << " " << i;
    }
  };
  check("Sigmoid", [](double v) { return 1 / (1 + std::exp(-v)); });
  check("Tanh", [](double v) { return std::tanh(v); });
  check("Elu", [](double v) { return v < 0 ? std::expm1(v) : v; });
  check("Erf", [](double v) { return std::erf(v); });
  check("Gelu", [](double v) { return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0))); });
  check("HardSigmoid",
        [](double v) { return std::clamp(static_cast<double>(0.2F) * v + 0.5, 0.0, 1.0); });
  check("HardSwish", [](double v) { return v * std::clamp(v / 6 + 0.5, 0.0, 1.0); });
  check("Softplus", [](double v) { return std::log1p(std::exp(v)); });
  check("Round", [](double v) { return std::nearbyint(v); });
}

TEST(FloatOps, CastEdges) {
  const Tensor x = Floats({6}, {-1.7F, 300.5F, NAN, 2.9F, -INFINITY, 65520.0F});
  const auto cast = [&](int64_t to) { return RunOp("Cast", One(x.Clone()), {{"to", to}}); };
  EXPECT_THAT(Values<uint8_t>(cast(2)[0]), ElementsAre(0, 255, 0, 2, 0, 255));
  EXPECT_THAT(Values<int32_t>(cast(6)[0]), ElementsAre(-1, 300, 0, 2, INT32_MIN, 65520));
  const Tensor half = std::move(cast(10)[0]);
  const auto* bits = static_cast<const uint16_t*>(half.raw());
  EXPECT_EQ(bits[1], 0x5CB2);  // 300.5 = 1.173828125 * 2^8
  EXPECT_EQ(bits[5], 0x7C00);  // rounds to infinity
}

TEST(FloatOps, MovementByHand) {
  const Tensor x = Floats({2, 3}, {1, 2, 3, 4, 5, 6});
  std::vector<Tensor> slice = One(x.Clone());
  for (auto& v : {I{-1, 0}, I{-9, 3}, I{0, 1}, I{-1, 2}}) slice.push_back(Ints(v));
  EXPECT_THAT(Values(RunOp("Slice", std::move(slice))[0]), ElementsAre(4, 6, 1, 3));
  EXPECT_THAT(Values(RunOp("Tile", Two(x.Clone(), Ints({1, 2})))[0]),
              ElementsAre(1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6));
  EXPECT_THAT(Values(RunOp("Pad", Two(x.Clone(), Ints({0, 2, 0, 1})),
                           {{"mode", std::string("reflect")}})[0]),
              ElementsAre(3, 2, 1, 2, 3, 2, 6, 5, 4, 5, 6, 5));
  EXPECT_THAT(Values(RunOp("Pad", Two(x.Clone(), Ints({1, 0, 0, -1})))[0]),
              ElementsAre(0, 0, 1, 2, 4, 5));
  EXPECT_THAT(Values(RunOp("Gather", Two(x.Clone(), Ints({-1, 0})), {{"axis", int64_t{1}}})[0]),
              ElementsAre(3, 1, 6, 4));
  EXPECT_THAT(Values(RunOp("Expand", Two(Floats({2, 1}, {1, 2}), Ints({2, 2})))[0]),
              ElementsAre(1, 1, 2, 2));
  EXPECT_THAT(Values(RunOp("CumSum", Two(x.Clone(), Ints({1})), {{"reverse", int64_t{1}}})[0]),
              ElementsAre(6, 5, 3, 15, 11, 6));
  const auto top = RunOp("TopK", Two(Floats({4}, {2, 3, 3, 1}), Ints({3})), {}, 2);
  EXPECT_THAT(Values(top[0]), ElementsAre(3, 3, 2));
  EXPECT_THAT(Values<int64_t>(top[1]), ElementsAre(1, 2, 0));
  EXPECT_THROW((void)RunOp("Gather", Two(x.Clone(), Ints({3})), {{"axis", int64_t{1}}}), Error);
}

TEST(FloatOps, RefusesWhatItDoesNotDo) {
  const Tensor x(DType::kFloat64, Shape{1, 1, 2, 2});
  const Tensor w(DType::kFloat64, Shape{1, 1, 1, 1});
  try {
    (void)RunOp("Conv", Two(x.Clone(), w.Clone()));
    FAIL() << "expected an error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(e.what(),
                testing::AllOf(testing::HasSubstr("(Conv)"), testing::HasSubstr("float64")));
  }
}

}  // namespace
}  // namespace octet
