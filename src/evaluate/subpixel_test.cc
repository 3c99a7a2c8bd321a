// The pass against the runtime's ConvTranspose: the function stays, whatever is behind.
#include "passes/subpixel.h"

#include <gtest/gtest.h>

#include "evaluate/test_models.h"
#include "graph/ops.h"
#include "runtime/executor.h"

namespace octet {
namespace {

using Attributes = std::map<std::string, Attribute>;

struct Decoder {
  test::Net net{{2, 3, 5, 4}};
  Tensor x = test::Random(Shape{2, 3, 5, 4}, -1, 1, 7);

  Decoder(int64_t kernel, bool bias, const std::vector<std::string>& behind,
          Attributes attributes) {
    std::vector<ValueId> in = {
        net.x, net.g.AddConstant("w", test::Random({3, 4, kernel, kernel}, -1, 1, 1))};
    if (bias) in.push_back(net.g.AddConstant("b", test::Random(Shape{4}, -1, 1, 2)));
    ValueId v = net.Op("ConvTranspose", "up", in, std::move(attributes));
    for (size_t i = 0; i < behind.size(); ++i) v = net.Op(behind[i], Cat("behind", i), {v});
    net.g.outputs = {v};
    InferShapes(net.g, true);
  }
  std::vector<float> Run() const {
    const Executor executor(net.g);
    const std::vector<TensorView> inputs = {x.view()};
    const auto y = executor.Run(inputs);
    return {y[0].data<float>().begin(), y[0].data<float>().end()};
  }
};

TEST(SplitTransposedConvolutions, KeepsTheFunction) {
  for (const int64_t k : {2, 3}) {
    for (const bool bias : {false, true}) {
      for (const auto& behind : {std::vector<std::string>{}, {"Relu"}, {"LeakyRelu", "Sigmoid"}}) {
        Decoder d(k, bias, behind, {{"strides", std::vector<int64_t>{k, k}}});
        const auto expected = d.Run();
        Graph& g = d.net.g;
        const std::string output = g.value(g.outputs[0]).name;
        ASSERT_EQ(SplitTransposedConvolutions(g), std::vector<std::string>{"up"});
        g.Verify("after split");
        InferShapes(g, true);
        EXPECT_EQ(g.value(g.outputs[0]).name, output);
        EXPECT_TRUE(g.node(g.FindNode("up")).Is("Conv"));
        const auto got = d.Run();
        ASSERT_EQ(got.size(), expected.size());
        // Three products and a bias of size 1: sums in another order.
        for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-6F) << i;
      }
    }
  }
}

TEST(SplitTransposedConvolutions, LeavesWindowsThatOverlapOrArePadded) {
  for (const Attributes& attributes :
       {Attributes{{"strides", std::vector<int64_t>{1, 1}}},
        Attributes{{"strides", std::vector<int64_t>{2, 1}}},
        Attributes{{"strides", std::vector<int64_t>{2, 2}},
                   {"pads", std::vector<int64_t>{0, 0, 1, 0}}},
        Attributes{{"strides", std::vector<int64_t>{2, 2}},
                   {"output_padding", std::vector<int64_t>{1, 0}}}}) {
    Decoder d(2, true, {}, attributes);
    EXPECT_TRUE(SplitTransposedConvolutions(d.net.g).empty());
  }
}

}  // namespace
}  // namespace octet
