// Old operator sets: that each rule gives today's operator with today's inputs.
#include "files/onnx_upgrade.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "files/onnx_testing.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using namespace testing_models;
using P = onnx::TensorProto;

// The node that makes "y".
const Node& Last(const Graph& g) { return g.node(g.value(g.Find("y")).producer); }

std::vector<int64_t> Ints(const Graph& g, ValueId id) {
  const auto data = g.ConstantOf(id)->data<int64_t>();
  return {data.begin(), data.end()};
}

std::string TypeOfY(const Graph& g) { return g.value(g.Find("y")).type.ToString(); }

TEST(OnnxUpgrade, OperatorSetBecomes13AndNewerOnesAreLeftAlone) {
  ModelBuilder b(9);
  b.Node("Relu", {"x"}, {"y"});
  EXPECT_EQ(b.Read().opset(), 13);
  b.model.mutable_opset_import(0)->set_version(17);
  EXPECT_EQ(b.Read().opset(), 17);
}

TEST(OnnxUpgrade, ClipBoundsBecomeInputs) {
  ModelBuilder b(9);
  auto* node = b.Node("Clip", {"x"}, {"y"});
  SetFloat(node, "max", 6.0F);  // no lower bound
  const Graph g = b.Read();
  EXPECT_EQ(Last(g).input(1), kNoValue);
  EXPECT_EQ(g.ConstantOf(Last(g).input(2))->data<float>()[0], 6.0F);
  EXPECT_TRUE(Last(g).attributes.empty());
}

TEST(OnnxUpgrade, AxesBecomeInputs) {
  for (const auto& [op, shape] :
       {std::pair("Squeeze", "float32[2,3]"), std::pair("Unsqueeze", "float32[1,1,2,3]"),
        std::pair("ReduceSum", "float32[1,2,3]")}) {
    ModelBuilder b(11, {1, 2, 3});
    SetInts(b.Node(op, {"x"}, {"y"}), "axes", {0});
    const Graph g = b.Read();
    EXPECT_THAT(Ints(g, Last(g).input(1)), ElementsAre(0)) << op;
    EXPECT_FALSE(Last(g).Has("axes"));
    EXPECT_EQ(TypeOfY(g), shape);
  }
}

TEST(OnnxUpgrade, SliceSplitPadTopKReshape) {
  ModelBuilder slice(9, {4, 5});
  auto* node = slice.Node("Slice", {"x"}, {"y"});
  SetInts(node, "starts", {1});
  SetInts(node, "ends", {-1});
  SetInts(node, "axes", {1});
  EXPECT_EQ(TypeOfY(slice.Read()), "float32[4,3]");

  ModelBuilder split(11, {4, 5});
  node = split.Node("Split", {"x"}, {"y", "z"});
  SetInts(node, "split", {1, 4});
  SetInt(node, "axis", 1);
  EXPECT_EQ(TypeOfY(split.Read()), "float32[4,1]");

  ModelBuilder pad(2, {4, 5});
  node = pad.Node("Pad", {"x"}, {"y"});
  SetInts(node, "pads", {1, 0, 0, 2});
  SetFloat(node, "value", 0.5F);
  const Graph padded = pad.Read();
  EXPECT_EQ(TypeOfY(padded), "float32[5,7]");
  EXPECT_EQ(padded.ConstantOf(Last(padded).input(2))->data<float>()[0], 0.5F);

  ModelBuilder top(9, {4, 5});
  SetInt(top.Node("TopK", {"x"}, {"y", "i"}), "k", 2);
  EXPECT_EQ(TypeOfY(top.Read()), "float32[4,2]");

  ModelBuilder reshape(4, {4, 5});
  SetInts(reshape.Node("Reshape", {"x"}, {"y"}), "shape", {2, -1});
  EXPECT_EQ(TypeOfY(reshape.Read()), "float32[2,10]");
}

TEST(OnnxUpgrade, SoftmaxOfTheLastAxisStays) {
  ModelBuilder b(9, {2, 3});
  b.Node("Softmax", {"x"}, {"y"});
  const Graph last = b.Read();
  EXPECT_EQ(Last(last).op, "Softmax");
  EXPECT_EQ(Last(last).GetInt("axis", 99), 1);

  ModelBuilder ones(9, {2, 3, 1, 1});  // what follows the axis is 1: nothing more is summed
  ones.Node("Softmax", {"x"}, {"y"});
  const Graph channels = ones.Read();
  EXPECT_EQ(Last(channels).op, "Softmax");
  EXPECT_EQ(Last(channels).GetInt("axis", 99), 1);
}

TEST(OnnxUpgrade, SoftmaxOverSeveralAxesIsTakenAsAMatrix) {
  ModelBuilder b(9, {2, 3, 4});
  b.Node("LogSoftmax", {"x"}, {"y"});
  const Graph g = b.Read();
  EXPECT_EQ(Last(g).op, "Reshape");
  EXPECT_EQ(TypeOfY(g), "float32[2,3,4]");
  const Node& softmax = g.node(g.value(Last(g).input(0)).producer);
  EXPECT_EQ(softmax.op, "LogSoftmax");
  EXPECT_EQ(softmax.GetInt("axis", 99), 1);
  EXPECT_EQ(g.value(softmax.input(0)).type.ToString(), "float32[2,12]");
}

TEST(OnnxUpgrade, OldBroadcastingIsMadeExplicit) {
  ModelBuilder b(6, {2, 3, 4, 5});
  auto* c = b.Initializer("c", P::FLOAT, {3});
  for (int i = 0; i < 3; ++i) c->add_float_data(1.0F);
  auto* node = b.Node("Add", {"x", "c"}, {"y"});
  SetInt(node, "broadcast", 1);
  SetInt(node, "axis", 1);
  const Graph g = b.Read();
  EXPECT_EQ(g.value(Last(g).input(1)).type.ToString(), "float32[3,1,1]");
  EXPECT_EQ(TypeOfY(g), "float32[2,3,4,5]");
}

TEST(OnnxUpgrade, PReluSlopesArePerChannel) {
  ModelBuilder b(6, {2, 3, 4, 3});  // numpy's broadcasting would take the last axis
  auto* c = b.Initializer("c", P::FLOAT, {3});
  for (int i = 0; i < 3; ++i) c->add_float_data(0.1F);
  b.Node("PRelu", {"x", "c"}, {"y"});
  const Graph g = b.Read();
  EXPECT_EQ(g.value(Last(g).input(1)).type.ToString(), "float32[3,1,1]");
}

TEST(OnnxUpgrade, UpsampleBecomesResize) {
  ModelBuilder b(9, {1, 2, 3, 4});
  auto* scales = b.Initializer("s", P::FLOAT, {4});
  for (const float s : {1.0F, 1.0F, 2.0F, 3.0F}) scales->add_float_data(s);
  SetString(b.Node("Upsample", {"x", "s"}, {"y"}), "mode", "nearest");
  const Graph g = b.Read();
  EXPECT_EQ(Last(g).op, "Resize");
  EXPECT_EQ(Last(g).GetString("coordinate_transformation_mode", ""), "asymmetric");
  EXPECT_EQ(Last(g).GetString("nearest_mode", ""), "floor");
  EXPECT_EQ(Last(g).input(1), kNoValue);
  EXPECT_EQ(TypeOfY(g), "float32[1,2,6,12]");

  b.model.mutable_opset_import(0)->set_version(10);
  b.model.mutable_graph()->mutable_node(0)->set_op_type("Resize");
  scales->set_float_data(2, 0.5F);
  ExpectErrorSaying(ErrorCode::kUnsupported, "shrinks along one axis", [&] { (void)b.Read(); });
  scales->set_float_data(3, 0.5F);
  const Graph down = b.Read();
  EXPECT_EQ(Last(down).GetString("nearest_mode", ""), "ceil");
}

TEST(OnnxUpgrade, TrainingRemnantsGo) {
  ModelBuilder b(6, {1, 2, 3, 3});
  auto* c = b.Initializer("c", P::FLOAT, {2});
  c->add_float_data(1.0F);
  c->add_float_data(1.0F);
  auto* norm = b.Node("BatchNormalization", {"x", "c", "c", "c", "c"}, {"n", "mean", "var"});
  SetInt(norm, "is_test", 1);
  SetInts(norm, "consumed_inputs", {0, 0, 0, 1, 1});
  auto* dropout = b.Node("Dropout", {"n"}, {"y"});
  SetFloat(dropout, "ratio", 0.5F);
  const Graph g = b.Read();
  EXPECT_TRUE(Last(g).attributes.empty());
  const Node& bn = g.node(g.value(Last(g).input(0)).producer);
  EXPECT_EQ(bn.outputs.size(), 1U);
  EXPECT_TRUE(bn.attributes.empty());
  norm->clear_attribute();
  SetInt(norm, "spatial", 0);
  ExpectErrorSaying(ErrorCode::kUnsupported, "'spatial' is 0", [&] { (void)b.Read(); });
}

TEST(OnnxUpgrade, WithoutARuleTheOperatorIsNamed) {
  ModelBuilder b(6);
  b.Node("LSTM", {"x", "x", "x"}, {"y"})->set_name("cell");
  ExpectErrorSaying(ErrorCode::kUnsupported,
                    "'cell' (LSTM of operator set 6) cannot be raised to operator set 13",
                    [&] { (void)b.Read(); });
  ModelBuilder old(1);
  old.Node("ImageScaler", {"x"}, {"y"});
  ExpectErrorSaying(ErrorCode::kUnsupported, "ImageScaler", [&] { (void)old.Read(); });
}

// Found by fuzzing: rules met nodes whose first input is omitted.
TEST(OnnxUpgrade, OmittedInputsAreRefused) {
  for (const std::string op :
       {"Pad", "Softmax", "Clip", "Slice", "TopK", "Squeeze", "Upsample", "PRelu", "Add"}) {
    ModelBuilder b(6);
    auto* node = b.Node(op,
                        op == "PRelu" || op == "Add" ? std::vector<std::string>{"", ""}
                                                     : std::vector<std::string>{},
                        {"y"});
    SetInts(node, "pads", {0, 0, 0, 0});
    SetFloat(node, "value", 1.0F);
    SetInt(node, "broadcast", 1);
    SetInt(node, "axis", 1);
    EXPECT_THROW((void)b.Read(), Error) << op;
  }
}

}  // namespace
}  // namespace octet
