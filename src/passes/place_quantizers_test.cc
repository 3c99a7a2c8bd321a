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

// A channel split whose parts are all quantized shares one grid with them; one whose part is read
// in float stays float.
TEST(PlanQuantizers, SplitSharesOneGridWhereAllPartsAreQuantized) {
  for (const bool all : {true, false}) {
    GraphBuilder b;
    Graph& g = b.graph();
    const ValueId x = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1);
    const ValueType half = ValueType::Of(DType::kFloat32, Shape{1, 2, 4, 4});
    const ValueId left = g.AddValue("left", half), right = g.AddValue("right", half);
    g.AddOp("Split", {x}, {left, right}, {{"axis", int64_t{1}}}, "split");
    b.Output(b.Conv("b", left, 2, 1));
    b.Output(all ? b.Conv("c", right, 2, 1) : b.Like("Erf", "c", right));
    const auto plan = PlanQuantizers(g, {});
    std::map<std::string, int> grid;
    for (const auto& a : plan.activations) grid[g.value(a.value).name] = a.grid;
    EXPECT_EQ(grid.count("a"), all ? 1U : 0U);
    EXPECT_EQ(grid.count("right"), all ? 1U : 0U);
    if (!all) continue;
    EXPECT_EQ(grid.at("a"), grid.at("left"));
    EXPECT_EQ(grid.at("a"), grid.at("right"));
  }
}

// Octet multiplies codes by a number for nothing, and adds one with a table.
TEST(PlanQuantizers, ArithmeticWithANumberLiesBetweenCodesForOctet) {
  for (const Target target : {Target::kOctet, Target::kOnnxRuntime}) {
    for (const char* op : {"Mul", "Add", "Sub", "Div"}) {
      GraphBuilder b;
      const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1);
      const ValueId y = b.Op(op, "y", {a, b.Constant("two", {}, {2})}, {1, 4, 4, 4});
      b.Output(b.Conv("b", y, 2, 1));
      PlacementOptions options;
      options.target = target;
      const auto names = Quantized(b.graph(), PlanQuantizers(b.graph(), options));
      if (target == Target::kOctet) {
        EXPECT_THAT(names, UnorderedElementsAre("x", "a", "y")) << op;
      } else {
        EXPECT_THAT(names, UnorderedElementsAre("x", "y")) << op;
      }
    }
  }
}

// GELU as exporters write it ends with a product with 0.5: a float chain that is fused, and not
// taken apart by quantizers.
// As rotary embedding adds: one quantizer behind the sum, none before it. Behind a layer there are
// two before it, for then it runs on codes.
TEST(PlanQuantizers, SumsOfFloatIslandsStayFloat) {
  for (const bool behind_a_layer : {false, true}) {
    GraphBuilder b;
    const ValueId x = b.Input("x", {2, 4});
    const ValueId left = b.Op("Mul", "left", {x, b.Noise("cos", {4})}, {2, 4});
    const ValueId right = behind_a_layer
                              ? b.Op("MatMul", "right", {x, b.Noise("v", {4, 4})}, {2, 4})
                              : b.Op("Mul", "right", {x, b.Noise("sin", {4})}, {2, 4});
    const ValueId sum = b.Op("Add", "sum", {left, right}, {2, 4});
    b.Output(b.Op("MatMul", "head", {sum, b.Noise("w", {4, 3})}, {2, 3}));
    const auto plan = PlanQuantizers(b.graph(), {});
    if (behind_a_layer) {
      EXPECT_THAT(Quantized(b.graph(), plan), UnorderedElementsAre("x", "left", "right", "sum"));
    } else {
      EXPECT_THAT(Quantized(b.graph(), plan), ElementsAre("sum"));
    }
  }
}

TEST(PlanQuantizers, ArithmeticWithANumberBehindFloatStaysFloat) {
  GraphBuilder b;
  const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1);
  const Shape shape{1, 4, 4, 4};
  const ValueId scaled = b.Op("Div", "scaled", {a, b.Constant("root", {}, {1.5F})}, shape);
  const ValueId one =
      b.Op("Add", "one", {b.Like("Erf", "erf", scaled), b.Constant("c", {}, {1})}, shape);
  const ValueId product = b.Op("Mul", "product", {a, one}, shape);
  const ValueId half = b.Op("Mul", "half", {product, b.Constant("d", {}, {0.5F})}, shape);
  b.Output(b.Conv("b", half, 2, 1));
  PlacementOptions options;
  options.target = Target::kOctet;
  EXPECT_THAT(Quantized(b.graph(), PlanQuantizers(b.graph(), options)),
              UnorderedElementsAre("x", "half"));
}

// Linear layers as exporters write them: MatMul, then Add with the bias first. x -> fc1 -> act ->
// fc2
// -> Softmax, `rank` dimensions, biases of shape [N] or [1,N].
GraphBuilder TwoLayers(size_t rank, const std::string& act, bool row_bias) {
  GraphBuilder b;
  const auto shape = [&](int64_t n) { return rank == 2 ? Shape{5, n} : Shape{1, 5, n}; };
  const auto bias = [&](int64_t n) { return row_bias ? Shape{1, n} : Shape{n}; };
  const auto linear = [&](const std::string& name, ValueId x, int64_t k, int64_t n) {
    const ValueId y = b.Op("MatMul", name, {x, b.Noise(name + ".w", {k, n})}, shape(n));
    return b.Op("Add", name + ".add", {b.Noise(name + ".b", bias(n), 0.5F), y}, shape(n));
  };
  const ValueId h = b.Like(act, "act", linear("fc1", b.Input("x", shape(4)), 4, 3));
  b.Output(b.Like("Softmax", "y", linear("fc2", h, 3, 2)));
  return b;
}

Graph Inserted(Graph g, const PlacementOptions& options) {
  const auto plan = PlanQuantizers(g, options);
  QuantizerParams params;
  for (const auto& a : plan.activations) params.activations[a.value] = {0.5F, 0};
  for (const auto& w : plan.weighted) params.weight_scales[w.node] = {0.25F};
  InsertQuantizers(g, plan, params);
  g.Verify("after");
  return g;
}

// What ONNX Runtime runs in INT8, found by its optimized models: a Gemm with an int32 bias (which
// it makes of MatMul and Add where x is a matrix or a quantizer follows), and a MatMul that stays
// apart from its Add, because the bias has as many dimensions as x.
TEST(InsertQuantizers, BiasesBehindMatMulAreWrittenAsOnnxRuntimeWantsThem) {
  for (const size_t rank : {2U, 3U}) {
    for (const char* act : {"Relu", "Erf"}) {
      for (const bool row_bias : {false, true}) {
        SCOPED_TRACE(std::string(act) + (row_bias ? " [1,N] " : " [N] ") + std::to_string(rank));
        const Graph g = Inserted(TwoLayers(rank, act, row_bias).graph(), {});
        const auto bias = [&](const char* add) { return g.node(g.FindNode(add)).inputs[0]; };
        const bool codes_follow = std::string_view(act) == "Relu";  // behind fc1
        for (const char* add : {"fc1.add", "fc2.add"}) {
          const auto q = DequantizerOf(g, bias(add));
          const bool codes = rank == 2 || (codes_follow && std::string_view(add) == "fc1.add");
          ASSERT_EQ(q.has_value(), codes) << add;
          if (codes) {
            EXPECT_EQ(q->dtype, DType::kInt32);
            EXPECT_THAT(q->scale, ElementsAre(0.125F));
            EXPECT_EQ(g.ConstantOf(q->codes)->shape().rank(), 1);
          } else {
            EXPECT_EQ(g.ConstantOf(bias(add))->shape().rank(), 3) << add;
          }
        }
        // No quantizer between Add and Relu.
        EXPECT_EQ(g.Find("fc1.add_quantized"), kNoValue);
      }
    }
  }
}

TEST(InsertQuantizers, BiasesBehindMatMulStayFloatWhereOctetAddsThem) {
  PlacementOptions options;
  options.target = Target::kOctet;
  const Graph g = Inserted(TwoLayers(3, "Relu", false).graph(), options);
  EXPECT_TRUE(DequantizerOf(g, g.node(g.FindNode("fc1.add")).inputs[0]));
  EXPECT_EQ(g.value(g.node(g.FindNode("fc2.add")).inputs[0]).name, "fc2.b");
  options.target = Target::kTensorRt;
  const Graph t = Inserted(TwoLayers(3, "Relu", false).graph(), options);
  EXPECT_EQ(t.value(t.node(t.FindNode("fc1.add")).inputs[0]).name, "fc1.b");
}

}  // namespace
}  // namespace octet
