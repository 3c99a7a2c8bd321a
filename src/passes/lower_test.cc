#include "passes/lower.h"

#include <gmock/gmock.h>

#include "graph/graph_builder.h"
#include "passes/place_quantizers.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Every activation on the same grid, every weight with scale 1/64.
Graph QuantizedGraph(Graph g, const PlacementOptions& options = {}) {
  const auto plan = PlanQuantizers(g, options);
  QuantizerParams params;
  if (options.target == Target::kTensorRt) params.bias = BiasForm::kGridFloat;
  if (options.target == Target::kTensorRt) params.activation_format = kInt8;
  for (const auto& a : plan.activations)
    params.activations[a.value] = {0.25F, options.target == Target::kTensorRt ? 0 : 10};
  for (const auto& w : plan.weighted) params.weight_scales[w.node] = {1.0F / 64};
  InsertQuantizers(g, plan, params);
  return g;
}

EvaluateFn NoEvaluation() {
  return [](const Graph&, const Node&, std::span<const Tensor* const>) {
    return std::vector<Tensor>();
  };
}

std::map<std::string, int> Ops(const Graph& g) {
  std::map<std::string, int> ops;
  for (NodeId id : g.TopologicalOrder()) ++ops[g.node(id).op];
  return ops;
}

GraphBuilder Block() {
  GraphBuilder b;
  const ValueId r1 = b.Like("Relu", "relu1", b.Conv("c1", b.Input("x", {1, 3, 4, 4}), 4, 3));
  const ValueId r2 = b.Like("Relu", "relu2", b.Add("add", b.Conv("c2", r1, 4, 3), r1));
  b.Output(b.Conv("head", r2, 2, 1));
  return b;
}

TEST(Lower, ResidualBlockBecomesThreeOperators) {
  Graph g = QuantizedGraph(Block().graph());
  const auto report = Lower(g, NoEvaluation());
  g.Verify("after lower");
  EXPECT_TRUE(report.kept.empty());
  const auto ops = Ops(g);
  EXPECT_EQ(ops.at("QConv"), 3);
  EXPECT_EQ(ops.at("QuantizeLinear"), 1);  // of the input
  EXPECT_EQ(ops.size(), 2U);
  const Node& c2 = g.node(g.FindNode("c2"));
  ASSERT_EQ(c2.inputs.size(), 7U);
  EXPECT_EQ(c2.GetInt("mid_codes", -1), 1);
  EXPECT_EQ(c2.GetInt("residual_zero_point", -1), 10);
  EXPECT_EQ(c2.GetFloat("mid_ratio", 0), 1.0F);
  // Relu behind the Add: codes not below the zero point.
  EXPECT_THAT(g.ConstantOf(c2.inputs[4])->data<int32_t>(), ElementsAre(10));
  EXPECT_EQ(g.node(g.FindNode("head")).GetInt("output_dtype", 0), 1);
}

TEST(Lower, KeepCodesLeavesTheAddAlone) {
  Graph g = QuantizedGraph(Block().graph());
  Lower(g, NoEvaluation(), {.keep_codes = true});
  EXPECT_EQ(Ops(g).at("QAdd"), 1);
  EXPECT_NE(g.Find("c2_quantized"), kNoValue);
}

TEST(Lower, TensorRtResidualHasNoMiddleCodes) {
  PlacementOptions options;
  options.target = Target::kTensorRt;
  Graph g = QuantizedGraph(Block().graph(), options);
  const auto report = Lower(g, NoEvaluation());
  EXPECT_TRUE(report.kept.empty());
  const Node& c2 = g.node(g.FindNode("c2"));
  EXPECT_EQ(c2.GetInt("mid_codes", -1), 0);
  EXPECT_EQ(Ops(g).at("QConv"), 3);
}

TEST(Lower, SaysWhatStaysFloat) {
  PlacementOptions options;
  options.excluded = {"c2"};
  Graph g = QuantizedGraph(Block().graph(), options);
  const auto report = Lower(g, NoEvaluation());
  ASSERT_FALSE(report.kept.empty());
  EXPECT_EQ(report.kept[0].node, "c2");
  EXPECT_THAT(report.kept[0].reason, HasSubstr("weight is not quantized"));
}

// As exporters write a linear layer: MatMul, then Add with the bias first.
TEST(Lower, AFloatResultTakesItsBiasInFloat) {
  for (const bool quantized_behind : {false, true}) {
    GraphBuilder b;
    const ValueId w = b.Noise("w", {4, 3});
    const ValueId y = b.Op("MatMul", "linear", {b.Input("x", {1, 2, 4}), w}, {1, 2, 3});
    const ValueId z = b.Op("Add", "biased", {b.Constant("bias", {3}, {1, 2, 3}), y}, {1, 2, 3});
    b.Output(quantized_behind ? b.Op("MatMul", "next", {z, b.Noise("v", {3, 2})}, {1, 2, 2})
                              : b.Like("Softmax", "softmax", z));
    Graph g = QuantizedGraph(b.graph(), {});
    Lower(g, NoEvaluation());
    const Node& linear = g.node(g.FindNode("linear"));
    ASSERT_EQ(linear.op, "QGemm");
    EXPECT_EQ(Ops(g).count("Add"), quantized_behind ? 1U : 0U);
    ASSERT_EQ(linear.inputs.size(), quantized_behind ? 4U : 8U);
    if (!quantized_behind) {
      EXPECT_EQ(g.value(linear.inputs[7]).name, "bias");
    }
  }
}

TEST(Lower, PerChannelBoundsBecomeCodes) {
  GraphBuilder b;
  const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 2, 1);
  const ValueId bound = b.Constant("bound", {2, 1, 1}, {2, 1000});
  const ValueId r = b.Op("Min", "min", {b.Like("Relu", "relu", a), bound}, {1, 2, 4, 4});
  b.Output(b.Conv("b", r, 2, 1));
  PlacementOptions options;
  options.target = Target::kOctet;
  Graph g = QuantizedGraph(b.graph(), options);
  EXPECT_TRUE(Lower(g, NoEvaluation()).kept.empty());
  const Node& conv = g.node(g.FindNode("a"));
  EXPECT_THAT(g.ConstantOf(conv.inputs[4])->data<int32_t>(), ElementsAre(10));
  EXPECT_THAT(g.ConstantOf(conv.inputs[5])->data<int32_t>(),
              ElementsAre(18, 255));  // 2 / 0.25 + 10, saturated
}

}  // namespace
}  // namespace octet
