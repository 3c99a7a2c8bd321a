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

// A post-norm block: sum, LayerNormalization or RMSNormalization, quantizer; GELU, quantizer. With
// taps on what lies between nothing is fused across it.
struct Blocks {
  TestGraph g;
  ValueId sum, norm, gelu;

  explicit Blocks(bool rms) {
    const Shape shape{2, 5, 40};
    const ValueId x = g.Input({2, 5, 40}), r = g.Input({2, 5, 40});
    sum = g.Op("Add", {x, r});
    const ValueId gamma = g.Constant(Noise({40}, 3));
    norm = rms ? g.Op("RMSNormalization", {sum, gamma})
               : g.Op("LayerNormalization", {sum, gamma, g.Constant(Noise({40}, 4))});
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

class FusedNorm : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Kinds, FusedNorm, ::testing::Bool());

TEST_P(FusedNorm, TheSameBitsAsUnfused) {
  const Blocks b(GetParam());
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

// A mask of the scores' last axis, in every shape that broadcasts; and none.
const std::vector<std::vector<int64_t>> kMasks = {{}, {7}, {1, 1, 1, 7}, {2, 1, 5, 7}, {3, 1, 7}};

// Attention as exporters write it: keys transposed twice over, scores scaled and masked.
TEST(Fused, AttentionReadsWhatIsTransposed) {
  for (const bool broadcast : {false, true}) {
    for (const auto& mask : kMasks) {
      TestGraph g;
      const int64_t batch = broadcast ? 1 : 2;
      const ValueId x = g.Input({2, 5, 3, 4}), z = g.Input({batch, 7, 3, 4});
      const ValueId q = g.Op("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
      const ValueId k = g.Op("Transpose", {z}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
      const ValueId scores = g.Op("MatMul", {q, k});
      const ValueId scaled = g.Op("Div", {scores, g.Constant(Floats({}, {2}))});
      const ValueId masked =
          mask.empty() ? scaled : g.Op("Add", {g.Constant(Noise(Shape(mask), 5, 9.0F)), scaled});
      g.Output(g.Op("Softmax", {masked}, {{"axis", int64_t{-1}}}));
      const Tensor a = Noise({2, 5, 3, 4}, 1), b = Noise({batch, 7, 3, 4}, 2);
      const std::vector<Shape> shapes = {a.shape(), b.shape()};
      EXPECT_LE(Executor(g.graph).Explain(shapes).size(), 3U);  // two Transposes and the product
      const auto fused = Values<float>(g.Run({&a, &b})[0]);
      const auto plain = Values<float>(g.Run({&a, &b}, {{q, k, scores, scaled, masked}, false},
                                             [](ValueId, const TensorView&) {})[0]);
      ASSERT_EQ(fused.size(), plain.size());
      // Sums of 4 products of numbers up to 4, in two orders; softmax passes differences on.
      for (size_t i = 0; i < fused.size(); ++i) EXPECT_NEAR(fused[i], plain[i], 64 * 6e-8F);
    }
  }
}

// The same on codes, every head in its place, and the context written where the next layer reads
// it. All bits are those of the operators one by one; these are compared with float32.
void CheckAttentionOfCodes(bool broadcast, const std::vector<int64_t>& mask) {
  TestGraph g;
  const int64_t batch = broadcast ? 1 : 2;
  const auto transpose = [&](ValueId v, std::vector<int64_t> perm) {
    return g.Op("Transpose", {v}, {{"perm", std::move(perm)}});
  };
  const auto product = [&](ValueId a, ValueId b, int64_t zero, float multiplier, int64_t dtype) {
    return g.Op("QMatMul", {a, b},
                {{"a_zero_point", zero},
                 {"multiplier", multiplier},
                 {"y_zero_point", dtype == 1 ? 0 : int64_t{-5}},
                 {"output_dtype", dtype}},
                "octet");
  };
  const ValueId x = g.Input({2, 5, 3, 20}, DType::kUint8),
                z = g.Input({batch, 7, 3, 20}, DType::kInt8),
                v = g.Input({batch, 7, 3, 20}, DType::kInt8);
  const ValueId q = transpose(x, {0, 2, 1, 3}), k = transpose(z, {0, 2, 3, 1}),
                values = transpose(v, {0, 2, 1, 3});
  const ValueId scores = product(q, k, 131, 0.0004F, 1);
  const ValueId scaled = g.Op("Mul", {scores, g.Constant(Floats({}, {0.3F}))});
  const ValueId masked =
      mask.empty() ? scaled : g.Op("Add", {scaled, g.Constant(Noise(Shape(mask), 5, 9.0F))});
  const ValueId weights = g.Op("Softmax", {masked}, {{"axis", int64_t{-1}}});
  const ValueId codes =
      g.Op("QuantizeLinear", {weights, g.Constant(Floats({}, {1.0F / 255})),
                              g.Constant(Tensor::Of<uint8_t>(Shape{}, std::vector<uint8_t>{3}))});
  const ValueId context = product(codes, values, 3, 0.01F, 3);
  g.Output(transpose(context, {0, 2, 1, 3}));
  std::vector<Tensor> inputs;
  for (const ValueId i : {x, z, v}) {
    const ValueType& type = g.graph.value(i).type;
    inputs.emplace_back(type.dtype, Shape(type.dims));
    auto* raw = static_cast<uint8_t*>(inputs.back().mutable_raw());
    for (int64_t e = 0; e < inputs.back().elements(); ++e)
      raw[e] = static_cast<uint8_t>(e * 37 + e / 11 + i);
  }
  const std::vector<const Tensor*> all = {&inputs[0], &inputs[1], &inputs[2]};
  std::vector<Shape> shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  EXPECT_EQ(Executor(g.graph).Explain(shapes).size(), 2U);
  const std::vector<ValueId> taps = {q, k, values, scores, scaled, masked, weights, codes, context};
  std::vector<float> seen;
  const auto plain =
      Values<int8_t>(g.Run(all, {taps, false}, [&](ValueId value, const TensorView& view) {
        if (value == scores) seen = {view.data<float>().begin(), view.data<float>().end()};
      })[0]);
  EXPECT_EQ(Values<int8_t>(g.Run(all)[0]), plain);
  // Softmax alone, with its codes seen.
  EXPECT_EQ(Values<int8_t>(g.Run(all, {{weights}, false}, [](ValueId, const TensorView&) {})[0]),
            plain);
  ASSERT_EQ(seen.size(), 2U * 3 * 5 * 7);
  // The score of query 4 and key 6 of head 2 of image 1.
  int32_t sum = 0;
  for (int64_t i = 0; i < 20; ++i) {
    const int64_t at_q = ((5 + 4) * 3 + 2) * 20 + i;
    const int64_t at_k = ((broadcast ? 0 : 7) + 6) * 60 + 40 + i;
    sum += (inputs[0].data<uint8_t>()[static_cast<size_t>(at_q)] - 131) *
           inputs[1].data<int8_t>()[static_cast<size_t>(at_k)];
  }
  EXPECT_EQ(seen.back(), static_cast<float>(sum) * 0.0004F);
}
TEST(Fused, AttentionOfCodes) {
  for (const bool broadcast : {false, true})
    for (const auto& mask : kMasks) CheckAttentionOfCodes(broadcast, mask);
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
