// The fused float operators give the bits of the operators they stand for.
#include <gtest/gtest.h>

#include "runtime/test_graph.h"

namespace octet {
namespace {

using namespace testing_graph;  // NOLINT

template <typename T>
std::vector<T> Values(const Tensor& t) {
  return {t.data<T>().begin(), t.data<T>().end()};
}

// A post-norm block: sum, LayerNormalization, quantizer; GELU, quantizer. With taps on what lies
// between nothing is fused across it.
struct Blocks {
  TestGraph g;
  ValueId sum, norm, gelu;

  Blocks() {
    const Shape shape{2, 5, 40};
    const ValueId x = g.Input({2, 5, 40}), r = g.Input({2, 5, 40});
    sum = g.Op("Add", {x, r});
    norm =
        g.Op("LayerNormalization", {sum, g.Constant(Noise({40}, 3)), g.Constant(Noise({40}, 4))});
    const auto quantize = [&](ValueId v) {
      return g.Op("QuantizeLinear",
                  {v, g.Constant(Floats({}, {0.03F})),
                   g.Constant(Tensor::Of<uint8_t>(Shape{}, std::vector<uint8_t>{119}))});
    };
    g.Output(quantize(norm));
    gelu = g.Op("Gelu", {g.Op("Neg", {sum})});
    g.Output(quantize(gelu));
    g.Output(g.Op("Neg", {norm}));
  }
  size_t Steps(const std::vector<ValueId>& taps) const {
    const std::vector<Shape> shapes = {{2, 5, 40}, {2, 5, 40}};
    return Executor(g.graph, {taps, false}).Explain(shapes).size();
  }
};

TEST(Fused, TheSameBitsAsUnfused) {
  const Blocks b;
  const Tensor x = Noise({2, 5, 40}, 1), r = Noise({2, 5, 40}, 2, 3.0F);
  EXPECT_EQ(b.Steps({}), 4U);  // Norm, Neg, QMap, Neg
  EXPECT_EQ(b.Steps({b.gelu}), 5U);
  std::vector<std::vector<uint8_t>> codes;
  std::vector<std::vector<float>> floats;
  for (const std::vector<ValueId>& taps :
       std::vector<std::vector<ValueId>>{{}, {b.sum}, {b.sum, b.norm, b.gelu}}) {
    const auto y = b.g.Run({&x, &r}, {taps, false}, [](ValueId, const TensorView&) {});
    codes.push_back(Values<uint8_t>(y[0]));
    const auto more = Values<uint8_t>(y[1]);
    codes.back().insert(codes.back().end(), more.begin(), more.end());
    floats.push_back(Values<float>(y[2]));
  }
  EXPECT_EQ(codes[0], codes[1]);
  EXPECT_EQ(codes[0], codes[2]);
  EXPECT_EQ(floats[0], floats[1]);
  EXPECT_EQ(floats[0], floats[2]);
}

TEST(Fused, ResidualOfCodes) {
  TestGraph g;
  const ValueId codes = g.Input({3, 40}, DType::kInt8), x = g.Input({3, 40});
  const ValueId r =
      g.Op("DequantizeLinear", {codes, g.Constant(Floats({}, {0.03F})),
                                g.Constant(Tensor::Of<int8_t>(Shape{}, std::vector<int8_t>{-9}))});
  g.Output(g.Op("LayerNormalization", {g.Op("Add", {r, x}), g.Constant(Noise({40}, 3))}));
  Tensor q(DType::kInt8, Shape{3, 40});
  for (size_t i = 0; i < 120; ++i) q.mutable_data<int8_t>()[i] = static_cast<int8_t>(i * 37);
  const Tensor f = Noise({3, 40}, 2);
  EXPECT_EQ(Values<float>(g.Run({&q, &f})[0]),
            Values<float>(g.Run({&q, &f}, {{r}, false}, [](ValueId, const TensorView&) {})[0]));
  EXPECT_EQ(Executor(g.graph).Explain(std::vector<Shape>{{3, 40}, {3, 40}}).size(), 1U);
}

// Attention as exporters write it: keys transposed twice over, scores scaled.
TEST(Fused, AttentionReadsWhatIsTransposed) {
  for (const bool broadcast : {false, true}) {
    TestGraph g;
    const int64_t batch = broadcast ? 1 : 2;
    const ValueId x = g.Input({2, 5, 3, 4}), z = g.Input({batch, 7, 3, 4});
    const ValueId q = g.Op("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    const ValueId k = g.Op("Transpose", {z}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
    const ValueId scores = g.Op("MatMul", {q, k});
    const ValueId scaled = g.Op("Div", {scores, g.Constant(Floats({}, {2}))});
    g.Output(g.Op("Softmax", {scaled}, {{"axis", int64_t{-1}}}));
    const Tensor a = Noise({2, 5, 3, 4}, 1), b = Noise({batch, 7, 3, 4}, 2);
    const auto fused = Values<float>(g.Run({&a, &b})[0]);
    const auto plain = Values<float>(
        g.Run({&a, &b}, {{q, k, scores, scaled}, false}, [](ValueId, const TensorView&) {})[0]);
    ASSERT_EQ(fused.size(), plain.size());
    // Sums of 4 products of numbers up to 4, in two orders; softmax passes differences on.
    for (size_t i = 0; i < fused.size(); ++i) EXPECT_NEAR(fused[i], plain[i], 64 * 6e-8F);
  }
}

// Exporters' linear layers: the bias is added in the product's own pass.
TEST(Fused, MatMulTakesItsBias) {
  TestGraph g;
  const ValueId x = g.Input({2, 5, 16});
  const ValueId product = g.Op("MatMul", {x, g.Constant(Noise({16, 24}, 3))});
  g.Output(g.Op("Relu", {g.Op("Add", {g.Constant(Noise({24}, 4)), product})}));
  const Tensor t = Noise({2, 5, 16}, 1);
  const auto fused = Values<float>(g.Run({&t})[0]);
  const auto plain =
      Values<float>(g.Run({&t}, {{product}, false}, [](ValueId, const TensorView&) {})[0]);
  for (size_t i = 0; i < fused.size(); ++i) EXPECT_NEAR(fused[i], plain[i], 16 * 16 * 6e-8F);
  EXPECT_EQ(Executor(g.graph).Explain(std::vector<Shape>{{2, 5, 16}}).size(), 1U);
}

TEST(Fused, AnyBatch) {
  TestGraph g;
  const ValueId x = g.Input({-1, 8});
  g.Output(g.Op("LayerNormalization", {g.Op("Add", {x, x}), g.Constant(Noise({8}, 3))}));
  for (const int64_t batch : {0, 1, 3}) {
    const Tensor t = Noise({batch, 8}, 5);
    EXPECT_EQ(g.Run({&t})[0].shape(), (Shape{batch, 8}));
  }
}

}  // namespace
}  // namespace octet
