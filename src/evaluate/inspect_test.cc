#include "evaluate/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "evaluate/test_models.h"
#include "passes/macs.h"

namespace octet {
namespace {

TEST(Inspect, CountsOperatorsWorkAndParametersForBatchOne) {
  const Graph g = test::Classifier();
  const InspectResult r = InspectGraph(g);
  EXPECT_EQ(r.operators.at("Conv"), 4);
  EXPECT_EQ(r.operators.at("Add"), 1);
  EXPECT_EQ(r.layers.size(), 12u);
  EXPECT_THAT(r.inputs, testing::ElementsAre("x: float32[?,3,12,12]"));
  // conv1 6x6x16x27, depthwise 36x16x9, conv2 36x16x16, conv3 3x3x24x144, fc 240.
  EXPECT_EQ(r.macs, 36 * 16 * 27 + 36 * 16 * 9 + 36 * 256 + 9 * 24 * 144 + 240);
  EXPECT_EQ(r.quantizable_macs, r.macs);
  // Weights, biases, the two bounds of Clip.
  EXPECT_EQ(r.parameters, (432 + 16) + (144 + 16) + (256 + 16) + (3456 + 24) + (240 + 10) + 2);
  EXPECT_TRUE(r.unsupported.empty());
  EXPECT_EQ(r.layers[0].shape, "float32[1,16,6,6]");
}

TEST(Inspect, SaysWhyALayerStaysFloatAndWhatCannotRun) {
  test::Net n({1, 3, 8, 8});
  const ValueId w = n.g.AddInput("w", ValueType::Of(DType::kFloat32, {4, 3, 1, 1}));
  const ValueId c = n.Op("Conv", "dynamic", {n.x, w});
  const ValueId y = n.g.AddValue("y", ValueType::Of(DType::kFloat32, {1, 4, 8, 8}));
  n.g.AddOp("Mystery", {c}, {y}, {}, "what", "acme");
  n.g.outputs = {y};
  const InspectResult r = InspectGraph(n.g);
  ASSERT_EQ(r.layers.size(), 2u);
  EXPECT_FALSE(r.layers[0].quantizable);
  EXPECT_EQ(r.layers[0].reason, "its weight is computed");
  EXPECT_THAT(r.unsupported, testing::ElementsAre("acme.Mystery (node 'what')"));
  EXPECT_EQ(r.quantizable_macs, 0);
  EXPECT_EQ(r.macs, 64 * 12);
}

TEST(Inspect, BatchScalesTheWork) {
  const Graph g = test::Classifier();
  const Graph four = WithBatch(g, 4);
  EXPECT_EQ(four.value(four.Find("conv1_out")).type.ToString(), "float32[4,16,6,6]");
}

Graph Detector() {
  test::Net n({1, 3, 32, 32});
  ValueType& type = n.g.value(n.x).type;
  type.dims = {kUnknownDim, 3, kUnknownDim, kUnknownDim};
  const ValueId pool =
      n.Op("MaxPool", "pool", {n.x}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  n.g.outputs = {n.Op("Relu", "relu", {n.Conv("conv", pool, {8, 3, 3, 3})})};
  return n.g;
}

TEST(Inspect, OpenSizesStayOpenUntilTheyAreGiven) {
  const Graph g = Detector();
  const InspectResult open = InspectGraph(g);
  EXPECT_THAT(open.open_inputs, testing::ElementsAre("x: float32[1,3,?,?]"));
  EXPECT_EQ(open.macs, 0);
  const InspectResult closed = InspectGraph(g, Target::kOnnxRuntime, {{"x", {1, 3, 20, 10}}});
  EXPECT_TRUE(closed.open_inputs.empty());
  EXPECT_GT(closed.macs, 0);
  EXPECT_EQ(InspectGraph(g, Target::kOnnxRuntime, {{"", {1, 3, 20, 10}}}).macs, closed.macs);
}

// x [B,S,4] and k [B,S,1], joined; z [?,4] has symbols of its own.
Graph SharedSymbols() {
  Graph g;
  g.opsets[""] = 17;
  const auto input = [&](const std::string& name, int64_t last) {
    return g.AddInput(name,
                      {DType::kFloat32, true, {kUnknownDim, kUnknownDim, last}, {"B", "S", ""}});
  };
  const ValueId x = input("x", 4), k = input("k", 1);
  const ValueId joined = g.AddValue("joined"), y = g.AddValue("y");
  g.AddOp("Concat", {x, k}, {joined}, {{"axis", int64_t{2}}}, "join");
  g.AddOp("MatMul", {joined, g.AddConstant("w", test::Random({5, 3}, -1, 1, 1))}, {y}, {},
          "linear");
  g.outputs = {y};
  InferShapes(g, true);
  return g;
}

TEST(Inspect, ASizeHoldsWhereverItsSymbolStands) {
  const Graph g = SharedSymbols();
  const InspectResult r = InspectGraph(g, Target::kOnnxRuntime, {{"x", {2, 7, 4}}});
  EXPECT_TRUE(r.open_inputs.empty());
  EXPECT_EQ(r.macs, 2 * 7 * 5 * 3);
  const Graph three = WithBatch(g, 3, {{"k", {3, 7, 1}}});
  EXPECT_EQ(three.value(three.Find("x")).type.ToString(), "float32[3,7,4]");
  try {
    (void)WithBatch(g, 1, {{"k", {3, 8, 1}}, {"x", {3, 7, 4}}});
    FAIL() << "S has two sizes";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_STREQ(
        e.what(),
        "shape of input 'x' is 3x7x4, expected float32[B,S,4]: its 'S' would be 7, which is "
        "8 by the shape of input 'k'");
  }
}

TEST(Inspect, SizesThatTheModelCannotHaveAreNoFaultOfTheFile) {
  Graph g = SharedSymbols();
  for (const ValueId v : g.inputs) g.value(v).type.symbols.clear();
  try {
    (void)InspectGraph(g, Target::kOnnxRuntime, {{"x", {2, 7, 4}}});
    FAIL() << "k is still a batch of 1";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(e.what(), testing::HasSubstr("x: float32[2,7,4], k: float32[1,?,1]: node 'join'"));
  }
}

TEST(Inspect, SaysWhatANodeWasFoldedInto) {
  test::Net n({1, 3, 8, 8});
  const ValueId addend = n.g.AddConstant("addend", test::Random({1, 4, 1, 1}, -1, 1, 5));
  const Graph g = n.Finish(n.Op("Add", "add", {n.Conv("conv", n.x, {4, 3, 3, 3}), addend}));
  const InspectResult r = InspectGraph(g);
  ASSERT_EQ(r.layers.size(), 2u);
  EXPECT_EQ(r.layers[1].reason, "folded into 'conv'");
}

TEST(Inspect, SeesThroughWhatPreparationRemoves) {
  test::Net n({1, 3, 8, 8});
  const ValueId w = n.g.AddConstant("w", test::Random({4, 3, 3, 3}, -1, 1, 5));
  const ValueId half = n.Op("Identity", "same", {w});
  const Graph g = n.Finish(n.Op("Conv", "conv", {n.x, n.Op("Neg", "minus", {half})}));
  const InspectResult r = InspectGraph(g);
  EXPECT_EQ(r.quantizable_macs, r.macs);  // its weight is computed, but of constants
}

TEST(Inspect, RefusesShapesThatDoNotFitTheModel) {
  const Graph g = Detector();
  for (const InputShapes& wrong :
       {InputShapes{{"y", {1, 3, 8, 8}}}, InputShapes{{"x", {1, 4, 8, 8}}},
        InputShapes{{"x", {1, 3, 8}}}, InputShapes{{"x", {1, 3, 8, 8}}, {"", {1, 3, 8, 8}}}}) {
    EXPECT_THROW((void)InspectGraph(g, Target::kOnnxRuntime, wrong), Error);
  }
}

}  // namespace
}  // namespace octet
