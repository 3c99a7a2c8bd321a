#include "passes/prepare.h"

#include <gmock/gmock.h>

#include "graph/graph_builder.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;

std::vector<Tensor> NoEvaluation(const Graph&, const Node&, std::span<const Tensor* const>) {
  return {};
}

// Conv of weight 2 -> BatchNormalization (k = 3/4, (0 - 7) k + 5 = -1/4) -> Add of 10.
GraphBuilder ConvBatchNormAdd() {
  GraphBuilder b;
  const ValueId y =
      b.Op("Conv", "conv", {b.Input("x", {1, 1, 2, 2}), b.Constant("w", {1, 1, 1, 1}, {2})},
           {1, 1, 2, 2});
  const ValueId z = b.Op("BatchNormalization", "bn",
                         {y, b.Constant("gamma", {1}, {3}), b.Constant("beta", {1}, {5}),
                          b.Constant("mean", {1}, {7}), b.Constant("var", {1}, {15})},
                         {1, 1, 2, 2}, {{"epsilon", 1.0F}});
  b.Output(b.Op("Add", "add", {z, b.Constant("c", {1, 1, 1, 1}, {10})}, {1, 1, 2, 2}));
  return b;
}

TEST(SimplifyForQuantizers, FoldsTheAddThatABatchNormLeaves) {
  GraphBuilder b = ConvBatchNormAdd();
  Graph& g = b.graph();
  const auto folded = SimplifyForQuantizers(g, NoEvaluation);
  ASSERT_EQ(folded.size(), 2U);
  EXPECT_EQ(folded[1].node, "add");
  EXPECT_EQ(folded[1].into, "conv");
  ASSERT_EQ(g.TopologicalOrder().size(), 1U);
  const Node& conv = g.node(g.FindNode("conv"));
  EXPECT_THAT(g.ConstantOf(conv.inputs[1])->data<float>(), ElementsAre(FloatEq(1.5F)));
  EXPECT_THAT(g.ConstantOf(conv.inputs[2])->data<float>(), ElementsAre(FloatEq(9.75F)));
  EXPECT_EQ(g.value(g.outputs[0]).name, "add");
}

TEST(SimplifyForQuantizers, LeavesWhatItIsAskedTo) {
  GraphBuilder b = ConvBatchNormAdd();
  EXPECT_TRUE(SimplifyForQuantizers(b.graph(), NoEvaluation, {.fold_batchnorm = false}).empty());
  GraphBuilder c = ConvBatchNormAdd();
  const auto folded = SimplifyForQuantizers(
      c.graph(), NoEvaluation, {.keep = [](const Node& n) { return n.name == "add"; }});
  ASSERT_EQ(folded.size(), 1U);
  EXPECT_EQ(folded[0].node, "bn");
}

}  // namespace
}  // namespace octet
