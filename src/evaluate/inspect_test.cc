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

TEST(Inspect, RefusesShapesThatDoNotFitTheModel) {
  const Graph g = Detector();
  for (const InputShapes& wrong :
       {InputShapes{{"y", {1, 3, 8, 8}}}, InputShapes{{"x", {1, 4, 8, 8}}},
        InputShapes{{"x", {1, 3, 8}}}}) {
    EXPECT_THROW((void)InspectGraph(g, Target::kOnnxRuntime, wrong), Error);
  }
}

}  // namespace
}  // namespace octet
