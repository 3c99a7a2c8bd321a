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
