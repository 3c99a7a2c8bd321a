// Dynamically quantized layers as one operator each: the bits of the operators they stand for.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/test_graph.h"

namespace octet {
namespace {

using namespace testing_graph;  // NOLINT

Tensor Codes(const Shape& shape, uint32_t seed) {
  std::mt19937 engine(seed);
  Tensor t(DType::kInt8, shape);
  for (int8_t& v : t.mutable_data<int8_t>()) v = static_cast<int8_t>(engine());
  return t;
}

// What quantize_dynamic writes for a layer: codes of `x` times int8 weights, scaled, plus a bias.
struct Layer {
  TestGraph g;
  std::vector<ValueId> between;  // values that are fused away
  ValueId x = kNoValue, scaled = kNoValue;

  std::vector<ValueId> Quantize(std::vector<int64_t> dims) {
    x = g.Input(std::move(dims));
    return g.Nodes("DynamicQuantizeLinear", {x}, {}, 3);
  }
  ValueId Scale(const std::string& op, const std::vector<ValueId>& q, Tensor weight,
                Tensor weight_scale, Attributes attributes = {}) {
    const ValueId zero = g.Constant(Tensor::Of<int8_t>(Shape{}, std::vector<int8_t>{0}));
    const ValueId acc =
        g.Op(op, {q[0], g.Constant(std::move(weight)), q[2], zero}, std::move(attributes));
    const ValueId cast = g.Op("Cast", {acc}, {{"to", int64_t{1}}});
    const ValueId scales = g.Op("Mul", {q[1], g.Constant(std::move(weight_scale))});
    scaled = g.Op("Mul", {cast, scales});
    between = {acc, cast, scales};
    return scaled;
  }
  [[nodiscard]] int64_t Count(const std::string& op, const std::vector<ValueId>& taps,
                              const Shape& shape) const {
    const std::vector<Shape> shapes = {shape};
    const auto steps = Executor(g.graph, {taps, false}).Explain(shapes);
    return std::count_if(steps.begin(), steps.end(), [&](const StepInfo& s) { return s.op == op; });
  }
  // Every value of every output, fused and not.
  void ExpectSameBits(const Tensor& input, const std::string& fused, int64_t count) {
    EXPECT_EQ(Count(fused, {}, input.shape()), count);
    const auto want = g.Run({&input}, {between, false}, [](ValueId, const TensorView&) {});
    EXPECT_LT(Count(fused, {between[0]}, input.shape()), count);
    const auto got = g.Run({&input});
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      const auto a = got[i].data<float>(), b = want[i].data<float>();
      EXPECT_EQ(std::vector<float>(a.begin(), a.end()), std::vector<float>(b.begin(), b.end()));
    }
  }
};

TEST(Grid, LinearLayers) {
  for (const bool per_channel : {false, true})
    for (const bool bias : {false, true})
      for (const bool clip : {false, true}) {
        Layer l;
        const auto q = l.Quantize({2, 7, 40});
        const Tensor scale = per_channel ? Noise({24}, 5, 0.01F) : Floats({}, {0.0123F});
        ValueId y = l.Scale("MatMulInteger", q, Codes({40, 24}, 6), scale.Clone());
        if (bias) {
          l.between.push_back(y);
          y = l.g.Op("Add", {l.g.Constant(Noise({24}, 7)), y});
        }
        if (clip) {
          l.between.push_back(y);
          y = l.g.Op("Clip", {y, l.g.Constant(Floats({}, {-0.5F})), l.g.Constant(Floats({}, {2}))});
        }
        l.g.Output(y);
        l.ExpectSameBits(Noise({2, 7, 40}, 8), "octet.GridGemm", 1);
      }
}

// The bias of a convolution comes through a Reshape; padding is real 0, not code 0.
TEST(Grid, Convolutions) {
  for (const int64_t groups : {1, 8}) {
    Layer l;
    const auto q = l.Quantize({1, 8, 9, 11});
    const ValueId scaled =
        l.Scale("ConvInteger", q, Codes({8, 8 / groups, 3, 3}, 9), Floats({1}, {0.004F}),
                {{"group", groups}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    const ValueId bias =
        l.g.Op("Reshape", {l.g.Constant(Noise({8}, 10)), l.g.Constant(Ints({1, -1, 1, 1}))});
    const ValueId sum = l.g.Op("Add", {scaled, bias});
    l.between.insert(l.between.end(), {scaled, sum});
    l.g.Output(l.g.Op("Relu", {sum}));
    l.ExpectSameBits(Noise({1, 8, 9, 11}, 11), "octet.GridConv", 1);
  }
}

// Query, key and value quantize one tensor, seen through Reshapes of their own: once is enough.
TEST(Grid, EqualQuantizersAreMerged) {
  Layer l;
  l.x = l.g.Input({1, 6, 16});
  for (uint32_t i = 0; i < 3; ++i) {
    const ValueId rows = l.g.Op("Reshape", {l.x, l.g.Constant(Ints({i < 2 ? 6 : -1, 16}))});
    const auto q = l.g.Nodes("DynamicQuantizeLinear", {rows}, {}, 3);
    l.g.Output(l.Scale("MatMulInteger", q, Codes({16, 8}, 20 + i), Floats({}, {0.01F})));
  }
  EXPECT_EQ(l.Count("DynamicQuantizeLinear", {}, {1, 6, 16}), 2);
  l.ExpectSameBits(Noise({1, 6, 16}, 12), "octet.GridGemm", 3);
}

// A number, or a row, of four axes gives the result four axes.
TEST(Grid, LeavesConstantsThatAddAxes) {
  const Tensor x = Noise({4, 8}, 16);
  for (const bool row : {false, true}) {
    Layer l;
    ValueId y = l.Scale("MatMulInteger", l.Quantize({4, 8}), Codes({8, 8}, 15),
                        row ? Floats({}, {0.01F}) : Floats({1, 1, 1, 1}, {0.01F}));
    if (row) y = l.g.Op("Add", {y, l.g.Constant(Noise({1, 1, 1, 8}, 17))});
    l.g.Output(y);
    EXPECT_EQ(l.Count("octet.GridGemm", {}, x.shape()), row ? 1 : 0);
    EXPECT_EQ(l.g.Run({&x})[0].shape(), Shape({1, 1, 4, 8}));
  }
}

// A residual where the bias would be, a scale that is read elsewhere, weights of uint8.
TEST(Grid, LeavesWhatIsAnotherThing) {
  Layer l;
  const auto q = l.Quantize({4, 8});
  const ValueId y = l.Scale("MatMulInteger", q, Codes({8, 8}, 13), Floats({}, {0.01F}));
  l.g.Output(l.g.Op("Add", {y, l.x}));
  l.g.Output(l.g.Op("Neg", {q[1]}));
  l.ExpectSameBits(Noise({4, 8}, 14), "octet.GridGemm", 1);
  EXPECT_EQ(l.Count("Add", {}, {4, 8}), 1);

  Layer u;
  const auto r = u.Quantize({4, 8});
  Tensor weight(DType::kUint8, {8, 8});
  for (uint8_t& v : weight.mutable_data<uint8_t>()) v = 200;
  const ValueId acc = u.g.Op("MatMulInteger", {r[0], u.g.Constant(std::move(weight)), r[2]});
  u.g.Output(u.g.Op("Mul", {u.g.Op("Cast", {acc}, {{"to", int64_t{1}}}),
                            u.g.Op("Mul", {r[1], u.g.Constant(Floats({}, {0.01F}))})}));
  EXPECT_EQ(u.Count("octet.GridGemm", {}, {4, 8}), 0);
}

}  // namespace
}  // namespace octet
