#include "passes/simplify.h"

#include <gmock/gmock.h>

#include <cmath>

#include "graph/graph_builder.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;

// y = conv1x1(x) by w = 2, b = 1 -> BN(gamma 3, beta 5, mean 7, var 15, eps 1): k = 3/4.
GraphBuilder ConvBatchNorm(bool with_bias) {
  GraphBuilder b;
  const ValueId x = b.Input("x", {1, 1, 2, 2});
  std::vector<ValueId> inputs = {x, b.Constant("w", {1, 1, 1, 1}, {2})};
  if (with_bias) inputs.push_back(b.Constant("b", {1}, {1}));
  const ValueId y = b.Op("Conv", "conv", inputs, {1, 1, 2, 2});
  const ValueId z = b.Op("BatchNormalization", "bn",
                         {y, b.Constant("gamma", {1}, {3}), b.Constant("beta", {1}, {5}),
                          b.Constant("mean", {1}, {7}), b.Constant("var", {1}, {15})},
                         {1, 1, 2, 2}, {{"epsilon", 1.0F}});
  b.Output(z);
  return b;
}

TEST(FoldBatchNorm, FoldsIntoWeightAndBias) {
  for (bool with_bias : {false, true}) {
    GraphBuilder b = ConvBatchNorm(with_bias);
    Graph& g = b.graph();
    const auto folded = FoldBatchNorm(g);
    ASSERT_EQ(folded.size(), 1U);
    EXPECT_EQ(folded[0].node, "bn");
    EXPECT_EQ(folded[0].op, "BatchNormalization");
    EXPECT_EQ(folded[0].into, "conv");
    g.Verify("after fold");
    ASSERT_EQ(g.TopologicalOrder().size(), 1U);
    const Node& conv = g.node(g.FindNode("conv"));
    EXPECT_THAT(g.ConstantOf(conv.inputs[1])->data<float>(), ElementsAre(FloatEq(1.5F)));
    const float expected = ((with_bias ? 1.0F : 0.0F) - 7.0F) * 0.75F + 5.0F;
    EXPECT_THAT(g.ConstantOf(conv.inputs[2])->data<float>(), ElementsAre(FloatEq(expected)));
    EXPECT_EQ(g.value(g.outputs[0]).name, "bn");
  }
}

TEST(FoldBatchNorm, LeavesTrainingForTheExecutorToRefuse) {
  GraphBuilder b = ConvBatchNorm(true);
  b.graph().node(b.graph().FindNode("bn")).attributes["training_mode"] = int64_t{1};
  EXPECT_TRUE(FoldBatchNorm(b.graph()).empty());
}

TEST(FoldBias, JoinsAConstantPerChannel) {
  struct Case {
    Shape shape;
    bool folds;
  };
  for (const Case& c : {Case{{1, 2, 1, 1}, true}, Case{{2, 1, 1}, true}, Case{{}, true},
                        Case{{1}, true}, Case{{1, 1, 1, 2}, false}, Case{{2}, false}}) {
    for (const bool with_bias : {false, true}) {
      GraphBuilder b;
      std::vector<ValueId> inputs = {b.Input("x", {1, 1, 2, 2}),
                                     b.Constant("w", {2, 1, 1, 1}, {2, 3})};
      if (with_bias) inputs.push_back(b.Constant("b", {2}, {10, 20}));
      const ValueId y = b.Op("Conv", "conv", inputs, {1, 2, 2, 2});
      const ValueId addend = c.shape.elements() == 1 ? b.Constant("c", c.shape, {5})
                                                     : b.Constant("c", c.shape, {5, 7});
      b.Output(b.Op("Add", "add", {addend, y}, {1, 2, 2, 2}));
      Graph& g = b.graph();
      ASSERT_EQ(FoldBias(g).size(), c.folds ? 1U : 0U) << c.shape.ToString();
      g.Verify("after fold");
      if (!c.folds) continue;
      const Node& conv = g.node(g.FindNode("conv"));
      const float second = c.shape.elements() == 1 ? 5.0F : 7.0F;
      EXPECT_THAT(g.ConstantOf(conv.inputs[2])->data<float>(),
                  ElementsAre(FloatEq(5.0F + (with_bias ? 10.0F : 0.0F)),
                              FloatEq(second + (with_bias ? 20.0F : 0.0F))));
      EXPECT_EQ(g.value(g.outputs[0]).name, "add");
    }
  }
}

TEST(FoldBias, LeavesWhatOthersRead) {
  GraphBuilder b;
  const ValueId y =
      b.Op("Conv", "conv", {b.Input("x", {1, 1, 2, 2}), b.Constant("w", {2, 1, 1, 1}, {2, 3})},
           {1, 2, 2, 2});
  b.Output(b.Op("Add", "add", {y, b.Constant("c", {2, 1, 1}, {5, 7})}, {1, 2, 2, 2}));
  b.Output(y);
  EXPECT_TRUE(FoldBias(b.graph()).empty());
}

TEST(RemoveIdentities, DropoutOnlyOutsideOfTraining) {
  const auto removed = [](bool is_constant, bool training) {
    GraphBuilder b;
    const ValueId x = b.Input("x", {1, 4});
    Tensor mode(DType::kBool, Shape{});
    mode.mutable_data<bool>()[0] = training;
    const ValueId ratio = b.Constant("ratio", {}, {0.5F});
    const ValueId t = is_constant ? b.graph().AddConstant("t", std::move(mode))
                                  : b.graph().AddInput("t", ValueType::Of(DType::kBool, Shape{}));
    const ValueId y = b.Op("Dropout", "drop", {x, ratio, t}, {1, 4});
    b.Output(b.Like("Relu", "relu", y));
    return RemoveIdentities(b.graph());
  };
  EXPECT_EQ(removed(true, false), 1);
  EXPECT_EQ(removed(true, true), 0);
  EXPECT_EQ(removed(false, false), 0);
}

TEST(FoldBatchNorm, LeavesAValueThatIsSeen) {
  GraphBuilder b = ConvBatchNorm(true);
  b.Output(b.graph().Find("conv"));
  EXPECT_TRUE(FoldBatchNorm(b.graph()).empty());
  EXPECT_EQ(b.graph().TopologicalOrder().size(), 2U);
}

TEST(RemoveIdentities, KeepsTheNameOfAnOutput) {
  GraphBuilder b;
  const ValueId x = b.Input("x", {1, 4});
  const ValueId y = b.Like("Relu", "relu", b.Like("Identity", "inner", x));
  b.Output(b.Like("Identity", "out", y));
  EXPECT_EQ(RemoveIdentities(b.graph()), 2);
  b.graph().Verify("after");
  EXPECT_EQ(b.graph().TopologicalOrder().size(), 1U);
  EXPECT_EQ(b.graph().value(b.graph().outputs[0]).name, "out");
}

TEST(FoldConstants, EvaluatesConstantsAndLeavesQuantizers) {
  GraphBuilder b;
  const ValueId x = b.Input("x", {2});
  const ValueId c = b.Op("Neg", "neg", {b.Constant("c", {2}, {1, 2})}, {2});
  b.Output(b.Add("sum", x, c));
  const auto negate = [](const Graph&, const Node& n, std::span<const Tensor* const> in) {
    EXPECT_EQ(n.op, "Neg");
    Tensor t = in[0]->Clone();
    for (float& v : t.mutable_data<float>()) v = -v;
    std::vector<Tensor> out;
    out.push_back(std::move(t));
    return out;
  };
  EXPECT_EQ(FoldConstants(b.graph(), negate), 1);
  const Node& sum = b.graph().node(b.graph().FindNode("sum"));
  EXPECT_THAT(b.graph().ConstantOf(sum.inputs[1])->data<float>(), ElementsAre(-1, -2));
}

}  // namespace
}  // namespace octet
