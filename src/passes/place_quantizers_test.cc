#include "passes/place_quantizers.h"

#include <gmock/gmock.h>

#include "graph/graph_builder.h"
#include "passes/quantizers.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

std::vector<std::string> Quantized(const Graph& g, const QuantizerPlan& plan) {
  std::vector<std::string> names;
  for (const auto& a : plan.activations) names.push_back(g.value(a.value).name);
  return names;
}

// x -> c1 -> relu1 -> c2 -> add(relu1) -> relu2 -> head (output)
GraphBuilder Block() {
  GraphBuilder b;
  const ValueId r1 = b.Like("Relu", "relu1", b.Conv("c1", b.Input("x", {1, 3, 4, 4}), 4, 3));
  const ValueId r2 = b.Like("Relu", "relu2", b.Add("add", b.Conv("c2", r1, 4, 3), r1));
  b.Output(b.Conv("head", r2, 2, 1));
  return b;
}

TEST(PlanQuantizers, OnnxRuntimePutsThemBehindTheActivation) {
  GraphBuilder b = Block();
  const auto plan = PlanQuantizers(b.graph(), {});
  EXPECT_THAT(Quantized(b.graph(), plan), UnorderedElementsAre("x", "relu1", "c2", "relu2"));
  EXPECT_EQ(plan.weighted.size(), 3U);
}

TEST(PlanQuantizers, OutputsStayFloatUnlessAsked) {
  GraphBuilder b = Block();
  PlacementOptions options;
  options.quantize_outputs = true;
  EXPECT_THAT(Quantized(b.graph(), PlanQuantizers(b.graph(), options)),
              UnorderedElementsAre("x", "relu1", "c2", "relu2", "head"));
}

TEST(PlanQuantizers, TensorRtQuantizesInputsAndTheSkipConnection) {
  GraphBuilder b = Block();
  PlacementOptions options;
  options.target = Target::kTensorRt;
  const auto plan = PlanQuantizers(b.graph(), options);
  EXPECT_THAT(Quantized(b.graph(), plan), UnorderedElementsAre("x", "relu1", "relu2"));
  for (const auto& a : plan.activations) {
    if (b.graph().value(a.value).name != "relu1") continue;
    EXPECT_THAT(a.readers,
                UnorderedElementsAre(b.graph().FindNode("c2"), b.graph().FindNode("add")));
  }
}

TEST(PlanQuantizers, ConcatAndMaxPoolShareOneGrid) {
  GraphBuilder b;
  const ValueId x = b.Like("Relu", "r", b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1));
  const ValueId left = b.Like("Relu", "left", b.Conv("b", x, 4, 1));
  const ValueId right = b.Op("MaxPool", "right", {x}, {1, 4, 4, 4});
  const ValueId joined =
      b.Op("Concat", "joined", {left, right}, {1, 8, 4, 4}, {{"axis", int64_t{1}}});
  b.Output(b.Conv("c", joined, 2, 1));
  const auto plan = PlanQuantizers(b.graph(), {});
  std::map<std::string, int> grid;
  for (const auto& a : plan.activations) grid[b.graph().value(a.value).name] = a.grid;
  EXPECT_EQ(grid.at("left"), grid.at("joined"));
  EXPECT_EQ(grid.at("right"), grid.at("joined"));
  EXPECT_EQ(grid.at("r"), grid.at("joined"));
  EXPECT_NE(grid.at("x"), grid.at("joined"));
}

TEST(PlanQuantizers, ExcludedNodesStayFloat) {
  GraphBuilder b = Block();
  PlacementOptions options;
  options.excluded = {"c2"};
  const auto plan = PlanQuantizers(b.graph(), options);
  EXPECT_EQ(plan.weighted.size(), 2U);
  ASSERT_EQ(plan.skipped.size(), 1U);
  EXPECT_EQ(plan.skipped[0].node, "c2");
  options.excluded = {"nothing"};
  EXPECT_THROW((void)PlanQuantizers(b.graph(), options), Error);
}

TEST(InsertQuantizers, WeightsBiasesAndActivations) {
  GraphBuilder b;
  const ValueId x = b.Input("x", {1, 1, 1, 1});
  const ValueId w = b.Constant("w", {2, 1, 1, 1}, {127, -63.5F});
  const ValueId bias = b.Constant("b", {2}, {3, -5});
  b.Output(b.Op("Conv", "conv", {x, w, bias}, {1, 2, 1, 1}));
  Graph& g = b.graph();
  const auto plan = PlanQuantizers(g, {});
  QuantizerParams params;
  params.activations[x] = {0.5F, 128};
  params.weight_scales[g.FindNode("conv")] = {1.0F, 0.5F};
  InsertQuantizers(g, plan, params);
  g.Verify("after");
  const Node& conv = g.node(g.FindNode("conv"));
  const auto qx = DequantizerOf(g, conv.inputs[0]);
  ASSERT_TRUE(qx);
  EXPECT_EQ(qx->dtype, DType::kUint8);
  EXPECT_THAT(qx->zero_point, ElementsAre(128));
  const auto qw = DequantizerOf(g, conv.inputs[1]);
  ASSERT_TRUE(qw);
  EXPECT_EQ(qw->axis, 0);
  EXPECT_THAT(g.ConstantOf(qw->codes)->data<int8_t>(), ElementsAre(127, -127));
  const auto qb = DequantizerOf(g, conv.inputs[2]);
  ASSERT_TRUE(qb);
  EXPECT_THAT(qb->scale, ElementsAre(0.5F, 0.25F));
  EXPECT_THAT(g.ConstantOf(qb->codes)->data<int32_t>(), ElementsAre(6, -20));
}

}  // namespace
}  // namespace octet
