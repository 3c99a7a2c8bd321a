#include "passes/channel_groups.h"

#include <gmock/gmock.h>

#include "graph/graph_builder.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

std::vector<std::string> Names(const Graph& g, const std::vector<NodeId>& ids) {
  std::vector<std::string> names;
  for (NodeId id : ids) names.push_back(g.node(id).name);
  return names;
}

TEST(ChannelGroups, ConvReluPoolConv) {
  GraphBuilder b;
  ValueId x = b.Conv("a", b.Input("x", {1, 3, 8, 8}), 4, 3);
  x = b.Op("MaxPool", "pool", {b.Like("Relu", "relu", x)}, {1, 4, 4, 4});
  b.Output(b.Conv("b", x, 5, 1));
  const auto found = FindChannelGroups(b.graph(), false);
  ASSERT_THAT(found.groups, SizeIs(1));
  EXPECT_EQ(found.groups[0].channels, 4);
  EXPECT_THAT(Names(b.graph(), found.groups[0].producers), ElementsAre("a"));
  EXPECT_THAT(Names(b.graph(), found.groups[0].consumers), ElementsAre("b"));
  ASSERT_THAT(found.skipped, SizeIs(1));
  EXPECT_THAT(found.skipped[0].reason, HasSubstr("graph input"));
}

TEST(ChannelGroups, ResidualStreamIsOneGroup) {
  GraphBuilder b;
  const ValueId stem = b.Like("Relu", "r0", b.Conv("stem", b.Input("x", {1, 3, 4, 4}), 4, 3));
  const ValueId inner = b.Like("Relu", "r1", b.Conv("c1", stem, 6, 1));
  const ValueId sum = b.Like("Relu", "r2", b.Add("add", b.Conv("c2", inner, 4, 3), stem));
  b.Output(b.Conv("head", sum, 2, 1));
  const auto found = FindChannelGroups(b.graph(), false);
  ASSERT_THAT(found.groups, SizeIs(2));
  EXPECT_THAT(Names(b.graph(), found.groups[0].producers), UnorderedElementsAre("stem", "c2"));
  EXPECT_THAT(Names(b.graph(), found.groups[0].consumers), UnorderedElementsAre("c1", "head"));
  EXPECT_THAT(Names(b.graph(), found.groups[1].producers), ElementsAre("c1"));
}

TEST(ChannelGroups, DepthwiseEndsOneGroupAndBeginsTheNext) {
  GraphBuilder b;
  const ValueId a = b.Like("Relu", "r", b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1));
  const ValueId d = b.Like("Relu", "rd", b.Conv("dw", a, 4, 3, 4));
  b.Output(b.Conv("pw", d, 2, 1));
  const auto found = FindChannelGroups(b.graph(), false);
  ASSERT_THAT(found.groups, SizeIs(2));
  EXPECT_THAT(Names(b.graph(), found.groups[0].consumers), ElementsAre("dw"));
  EXPECT_THAT(Names(b.graph(), found.groups[1].producers), ElementsAre("dw"));
}

TEST(ChannelGroups, ClipNeedsPerChannelBounds) {
  GraphBuilder b;
  const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1);
  const ValueId lo = b.Constant("zero", {}, {0});
  const ValueId hi = b.Constant("six", {}, {6});
  b.Output(b.Conv("b", b.Op("Clip", "clip", {a, lo, hi}, {1, 4, 4, 4}), 2, 1));
  const auto standard = FindChannelGroups(b.graph(), false);
  EXPECT_TRUE(standard.groups.empty());
  ASSERT_THAT(standard.skipped, SizeIs(2));
  EXPECT_THAT(standard.skipped[1].reason, HasSubstr("per-channel bounds"));

  const auto ours = FindChannelGroups(b.graph(), true);
  ASSERT_THAT(ours.groups, SizeIs(1));
  ScaleChannels(b.graph(), ours.groups[0], std::vector<float>{1, 2, 3, 6});
  const NodeId min = b.graph().FindNode("clip/Min");
  ASSERT_NE(min, kNoNode);
  EXPECT_NE(b.graph().FindNode("clip/Relu"), kNoNode);
  const Tensor& bounds = *b.graph().ConstantOf(b.graph().node(min).inputs[1]);
  EXPECT_EQ(bounds.shape(), (Shape{4, 1, 1}));
  EXPECT_THAT(bounds.data<float>(), ElementsAre(6, 3, 2, 1));
}

TEST(ChannelGroups, ReaderThatWouldSeeTheScalingBlocks) {
  GraphBuilder b;
  const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1);
  b.Output(b.Conv("b", a, 2, 1));
  b.Output(b.Like("Sigmoid", "s", a));
  const auto found = FindChannelGroups(b.graph(), false);
  EXPECT_TRUE(found.groups.empty());
  EXPECT_THAT(found.skipped[1].reason, HasSubstr("Sigmoid 's'"));
}

// spec smoothquant.md §5.0: the maximum is per input channel of the operator, of its own group
// only.
TEST(ChannelGroups, WeightMaximaAreTakenOnTheContractedAxis) {
  GraphBuilder b;
  const ValueId a = b.Conv("a", b.Input("x", {1, 2, 2, 2}), 4, 1);
  // 2 groups of 2 channels; (OC 2, IC/g 2, 1, 2).
  const ValueId w = b.Constant("w", {2, 2, 1, 2}, {1, -2, 3, 0.5F, -4, 1, 0, 5});
  b.Output(b.Op("Conv", "grouped", {a, w}, {1, 2, 2, 1}, {{"group", int64_t{2}}}));
  const auto found = FindChannelGroups(b.graph(), false);
  ASSERT_THAT(found.groups, SizeIs(1));
  EXPECT_THAT(ConsumerWeightAbsMax(b.graph(), found.groups[0]), ElementsAre(2, 3, 4, 5));
}

TEST(ChannelGroups, FlattenRepeatsEachChannel) {
  GraphBuilder b;
  const ValueId a = b.Conv("a", b.Input("x", {1, 3, 2, 1}), 2, 1);
  const ValueId flat = b.Op("Flatten", "flat", {a}, {1, 4});
  const ValueId w = b.Constant("w", {4, 1}, {1, 2, 3, 4});
  b.Output(b.Op("Gemm", "fc", {flat, w}, {1, 1}));
  const auto found = FindChannelGroups(b.graph(), false);
  ASSERT_THAT(found.groups, SizeIs(1));
  EXPECT_EQ(found.groups[0].channels, 2);
  EXPECT_THAT(ConsumerWeightAbsMax(b.graph(), found.groups[0]), ElementsAre(2, 4));
  ScaleChannels(b.graph(), found.groups[0], std::vector<float>{2, 10});
  const Node& fc = b.graph().node(b.graph().FindNode("fc"));
  EXPECT_THAT(b.graph().ConstantOf(fc.inputs[1])->data<float>(), ElementsAre(2, 4, 30, 40));
}

// x (1,2,4) times `factor`.
ValueId Scaled(GraphBuilder& b, const std::string& name, ValueId x, ValueId factor) {
  return b.Op("Mul", name, {factor, x}, {1, 2, 4});
}

ValueId Linear(GraphBuilder& b, const std::string& name, ValueId x) {
  return b.Op("MatMul", name, {x, b.Noise(name + ".w", {4, 3})}, {1, 2, 3});
}

TEST(ChannelGroups, MulByAConstantTakesTheScaling) {
  GraphBuilder b;
  const ValueId x = b.Like("Tanh", "tanh", b.Input("x", {1, 2, 4}));
  const ValueId c = b.Constant("c", {4}, {2, 4, 6, 8});
  const ValueId h = Scaled(b, "h", x, c);
  b.Output(Linear(b, "a", h));
  b.Output(Linear(b, "b", h));
  b.Output(Scaled(b, "other", x, c));
  const auto found = FindChannelGroups(b.graph(), false);
  ASSERT_THAT(found.groups, SizeIs(1));
  EXPECT_THAT(Names(b.graph(), found.groups[0].producers), ElementsAre("h"));
  EXPECT_THAT(Names(b.graph(), found.groups[0].consumers), UnorderedElementsAre("a", "b"));
  ScaleChannels(b.graph(), found.groups[0], std::vector<float>{1, 2, 3, 4});
  const auto factor = [&](const char* name) {
    return b.graph().ConstantOf(b.graph().node(b.graph().FindNode(name)).inputs[0])->data<float>();
  };
  EXPECT_THAT(factor("h"), ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(factor("other"), ElementsAre(2, 4, 6, 8));  // the same constant, not in the group
}

TEST(ChannelGroups, DivisorTakesTheScaling) {
  GraphBuilder b;
  const ValueId x = b.Like("Tanh", "tanh", b.Input("x", {1, 2, 4}));
  const ValueId c = b.Constant("c", {4}, {1, 1, 2, 2});
  const ValueId minus = b.Op(
      "Sub", "minus", {b.Op("Div", "h", {x, c}, {1, 2, 4}), b.Constant("one", {}, {1})}, {1, 2, 4});
  b.Output(Linear(b, "a", minus));
  b.Output(Linear(b, "b", b.Op("Div", "inverse", {c, x}, {1, 2, 4})));
  const auto found = FindChannelGroups(b.graph(), false);
  ASSERT_THAT(found.groups, SizeIs(1));
  ScaleChannels(b.graph(), found.groups[0], std::vector<float>{1, 2, 4, 8});
  const auto constant = [&](const char* name) {
    return b.graph().ConstantOf(b.graph().node(b.graph().FindNode(name)).inputs[1])->data<float>();
  };
  EXPECT_THAT(constant("h"), ElementsAre(1, 2, 8, 16));
  EXPECT_THAT(constant("minus"), ElementsAre(1, 0.5F, 0.25F, 0.125F));
  ASSERT_THAT(found.skipped, SizeIs(1));
  EXPECT_THAT(found.skipped[0].reason, HasSubstr("comes from Div 'inverse'"));
}

TEST(ChannelGroups, FactorAnotherReaderWouldSeeBlocks) {
  for (bool output : {false, true}) {
    GraphBuilder b;
    const ValueId x = b.Like("Tanh", "tanh", b.Input("x", {1, 2, 4}));
    const ValueId h = Scaled(b, "h", x, b.Constant("c", {4}, {2, 4, 6, 8}));
    b.Output(Linear(b, "a", h));
    b.Output(output ? h : b.Like("Sigmoid", "s", h));
    const auto found = FindChannelGroups(b.graph(), false);
    EXPECT_TRUE(found.groups.empty());
    EXPECT_THAT(found.skipped.at(0).reason, HasSubstr(output ? "graph output" : "Sigmoid 's'"));
  }
}

TEST(ChannelGroups, FactorOfTheOtherAxisBlocks) {
  GraphBuilder b;
  const ValueId x = b.Like("Tanh", "tanh", b.Input("x", {1, 2, 4}));
  b.Output(Linear(b, "a", Scaled(b, "h", x, b.Constant("c", {2, 1}, {2, 4}))));
  const auto found = FindChannelGroups(b.graph(), false);
  EXPECT_TRUE(found.groups.empty());
  EXPECT_THAT(found.skipped.at(0).reason, HasSubstr("the constant of Mul 'h' is not per channel"));
}

TEST(ChannelGroups, OneFactorOfAProductCarriesTheScaling) {
  const auto reason = [](const auto& make) {
    GraphBuilder b;
    const ValueId x = b.Input("x", {1, 2, 4});
    const auto linear = [&](const std::string& name) {
      return b.Op("MatMul", name, {x, b.Noise(name + ".w", {4, 4})}, {1, 2, 4});
    };
    const auto [first, second] = make(b, linear);
    b.Output(Linear(b, "a", b.Op("Mul", "product", {first, second}, {1, 2, 4})));
    const auto found = FindChannelGroups(b.graph(), false);
    EXPECT_TRUE(found.groups.empty());
    return found.skipped.back().reason;
  };
  EXPECT_THAT(reason([](auto&, const auto& linear) { return std::pair(linear("l"), linear("r")); }),
              HasSubstr("both of whose factors come from weights"));
  EXPECT_THAT(reason([](auto& b, const auto& linear) {
                return std::pair(b.Like("Tanh", "l", linear("u")),
                                 b.Like("Tanh", "r", linear("v")));
              }),
              HasSubstr("none of whose factors comes from weights"));
  EXPECT_THAT(reason([](auto& b, const auto& linear) {
                const ValueId u = linear("u");
                b.Output(Linear(b, "other", u));
                return std::pair(u, b.Like("LeakyRelu", "r", u));
              }),
              HasSubstr("both factors of Mul 'product' would carry the scaling"));
}

// GELU written out: half of x (1 + erf(x / sqrt 2)) is one operator where it runs, or a table.
TEST(ChannelGroups, FunctionsOfOneValueStayWhole) {
  GraphBuilder b;
  const ValueId x = b.Input("x", {1, 2, 4});
  const ValueId u = b.Op("Div", "u", {x, b.Constant("root", {}, {1.4142135F})}, {1, 2, 4});
  const ValueId e =
      b.Op("Add", "e", {b.Like("Erf", "erf", u), b.Constant("one", {}, {1})}, {1, 2, 4});
  const ValueId product = b.Op("Mul", "product", {x, e}, {1, 2, 4});
  const ValueId half = b.Constant("half", {}, {0.5F});
  b.Output(Linear(b, "a", Scaled(b, "gelu", product, half)));
  const auto found = FindChannelGroups(b.graph(), false);
  EXPECT_TRUE(found.groups.empty());
  EXPECT_THAT(found.skipped.at(0).reason, HasSubstr("one number"));
}

}  // namespace
}  // namespace octet
