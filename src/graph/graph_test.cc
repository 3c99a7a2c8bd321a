// The intermediate representation: names, uses, removal, order, verification.
#include "graph/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ValueType Float(std::vector<int64_t> dims) { return {DType::kFloat32, true, std::move(dims), {}}; }

// x -> Relu -> a -> Add(a, c) -> y
struct Small {
  Graph graph;
  ValueId x, c, a, y;
  NodeId relu, add;

  Small() {
    graph.opsets[""] = 13;
    x = graph.AddInput("x", Float({2, 3}));
    c = graph.AddConstant("c", Tensor::Of<float>({3}, {1.0F, 2.0F, 3.0F}));
    a = graph.AddValue("a");
    y = graph.AddValue("y");
    // The consumer is added first: the order of nodes is not that of the table.
    add = graph.AddNode({"Add", "", "add", {a, c}, {y}, {}});
    relu = graph.AddNode({"Relu", "", "", {x}, {a}, {}});
    graph.outputs = {y};
  }
};

template <typename F>
void ExpectError(ErrorCode code, std::string_view words, F f) {
  try {
    f();
    FAIL() << "no error; expected one about " << words;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_THAT(e.what(), HasSubstr(std::string(words)));
  }
}

TEST(Graph, NamesAreUniqueAndFound) {
  Small s;
  const ValueId other = s.graph.AddValue("x");
  EXPECT_EQ(s.graph.value(other).name, "x_1");
  EXPECT_EQ(s.graph.Find("x"), s.x);
  EXPECT_EQ(s.graph.Find("nothing"), kNoValue);
  EXPECT_EQ(s.graph.node(s.relu).name, "a/Relu");
  EXPECT_EQ(s.graph.FindNode("a/Relu"), s.relu);
  s.graph.Rename(s.a, "b");
  EXPECT_EQ(s.graph.Find("b"), s.a);
  EXPECT_EQ(s.graph.Find("a"), kNoValue);
  ExpectError(ErrorCode::kInternal, "'y' is taken", [&] { s.graph.Rename(s.a, "y"); });
}

TEST(Graph, AConstantHasItsTensorsType) {
  Small s;
  EXPECT_EQ(s.graph.value(s.c).type.ToString(), "float32[3]");
  ASSERT_NE(s.graph.ConstantOf(s.c), nullptr);
  EXPECT_EQ(s.graph.ConstantOf(s.x), nullptr);
  EXPECT_EQ(s.graph.ConstantOf(kNoValue), nullptr);
}

TEST(Graph, UsesListEveryReadTwiceIfItIsReadTwice) {
  Small s;
  const ValueId z = s.graph.AddValue("z");
  const NodeId twice = s.graph.AddNode({"Mul", "", "twice", {s.a, s.a}, {z}, {}});
  const auto uses = s.graph.UsesOf(s.a);
  ASSERT_EQ(uses.size(), 3U);
  EXPECT_EQ(uses[0].node, s.add);
  EXPECT_EQ(uses[1].node, twice);
  EXPECT_EQ(uses[1].input, 0U);
  EXPECT_EQ(uses[2].input, 1U);
  EXPECT_EQ(s.graph.UseMap()[static_cast<size_t>(s.a)].size(), 3U);
  EXPECT_TRUE(s.graph.IsOutput(s.y));
  EXPECT_FALSE(s.graph.IsOutput(s.a));
}

TEST(Graph, ReplacingUsesReachesNodesAndOutputs) {
  Small s;
  s.graph.ReplaceUses(s.a, s.x);
  EXPECT_EQ(s.graph.node(s.add).inputs[0], s.x);
  s.graph.ReplaceUses(s.y, s.a);
  EXPECT_THAT(s.graph.outputs, ElementsAre(s.a));
}

TEST(Graph, OrderPutsProducersFirst) {
  Small s;
  EXPECT_THAT(s.graph.TopologicalOrder(), ElementsAre(s.relu, s.add));
  EXPECT_NO_THROW(s.graph.Verify("now"));
}

TEST(Graph, AValueIsProducedOnce) {
  Small s;
  ExpectError(ErrorCode::kBadFile, "'a' is produced twice", [&] {
    s.graph.AddNode({"Relu", "", "again", {s.x}, {s.a}, {}});
  });
  ExpectError(ErrorCode::kBadFile, "'c' is produced twice", [&] {
    s.graph.AddNode({"Relu", "", "again", {s.x}, {s.c}, {}});
  });
}

TEST(Graph, ACycleIsNamed) {
  Small s;
  s.graph.node(s.relu).inputs = {s.y};
  ExpectError(ErrorCode::kBadFile, "cycle", [&] { s.graph.Verify("after import"); });
}

TEST(Graph, RemovingLeavesAHoleAndCompactClosesIt) {
  Small s;
  const ValueId dead = s.graph.AddValue("dead");
  s.graph.AddNode({"Exp", "", "unused", {s.x}, {dead}, {}});
  const ValueId spare = s.graph.AddConstant("spare", Tensor::Scalar<float>(1.0F));
  s.graph.ReplaceUses(s.a, s.x);
  s.graph.RemoveNode(s.relu);
  EXPECT_TRUE(s.graph.node(s.relu).removed);
  EXPECT_EQ(s.graph.node_count(), 3U);
  EXPECT_EQ(s.graph.value(s.a).producer, kNoNode);
  EXPECT_NO_THROW(s.graph.Verify("with a hole"));
  EXPECT_NE(s.graph.Find("spare"), kNoValue);
  (void)spare;

  s.graph.Compact();
  EXPECT_NO_THROW(s.graph.Verify("compact"));
  EXPECT_EQ(s.graph.node_count(), 1U);
  EXPECT_EQ(s.graph.Find("spare"), kNoValue);
  EXPECT_EQ(s.graph.Find("dead"), kNoValue);
  const ValueId y = s.graph.Find("y");
  EXPECT_EQ(s.graph.node(s.graph.value(y).producer).op, "Add");
  EXPECT_THAT(s.graph.outputs, ElementsAre(y));
}

TEST(Graph, VerifyNamesWhatIsMissing) {
  Small s;
  s.graph.RemoveNode(s.relu);
  ExpectError(ErrorCode::kInternal, "'add' reads 'a'", [&] { s.graph.Verify("after a pass"); });
  ExpectError(ErrorCode::kBadFile, "'add' reads 'a'", [&] { s.graph.Verify("after import"); });
  Graph empty;
  ExpectError(ErrorCode::kBadFile, "no outputs", [&] { empty.Verify("after import"); });
  ExpectError(ErrorCode::kBadFile, "no ai.onnx operator set", [&] { (void)empty.opset(); });
}

TEST(Graph, CopiesShareConstants) {
  Small s;
  const Graph copy = s.graph;
  EXPECT_EQ(copy.ConstantOf(s.c), s.graph.ConstantOf(s.c));
  s.graph.RemoveNode(s.add);
  EXPECT_NO_THROW(copy.Verify("the copy"));
}

TEST(Node, AttributesOfAnotherTypeAreRefused) {
  const Node node{"Conv", "", "conv",
                  {},     {}, {{"group", int64_t{4}}, {"pads", std::vector<int64_t>{1, 2}}}};
  EXPECT_EQ(node.GetInt("group", 1), 4);
  EXPECT_EQ(node.GetInt("absent", 7), 7);
  EXPECT_THAT(node.GetInts("pads", {}), ElementsAre(1, 2));
  ExpectError(ErrorCode::kBadFile, "'group' is not a float",
              [&] { (void)node.GetFloat("group", 0.0F); });
  EXPECT_EQ(node.input(3), kNoValue);
}

TEST(ValueType, PrintsSymbolsAndWhatIsUnknown) {
  const ValueType type{DType::kInt8, true, {kUnknownDim, 3, kUnknownDim}, {"N", "", ""}};
  EXPECT_EQ(type.ToString(), "int8[N,3,?]");
  EXPECT_EQ(ValueType::Unranked(DType::kInt8).ToString(), "int8[...]");
  EXPECT_FALSE(type.is_static());
  EXPECT_EQ(ValueType::Of(DType::kInt8, {2, 3}).static_shape(), Shape({2, 3}));
}

}  // namespace
}  // namespace octet
