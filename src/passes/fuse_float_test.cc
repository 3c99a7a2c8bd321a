#include "passes/fuse_float.h"

#include <gmock/gmock.h>

#include <cmath>

#include "graph/graph_builder.h"
#include "graph/ops.h"

namespace octet {
namespace {

using ::testing::UnorderedElementsAre;

std::vector<std::string> Ops(const Graph& g) {
  std::vector<std::string> ops;
  for (NodeId id : g.TopologicalOrder()) {
    const Node& n = g.node(id);
    ops.push_back(n.domain.empty() ? n.op : n.domain + "." + n.op);
  }
  return ops;
}

const Shape kShape{2, 3, 4};

ValueId Scalar(GraphBuilder& b, const std::string& name, float v) {
  return b.Constant(name, {}, {v});
}
ValueId Two(GraphBuilder& b, const std::string& op, const std::string& name, ValueId x, ValueId y) {
  return b.Op(op, name, {x, y}, kShape);
}

enum class Form { kHalfLast, kHalfFirst, kHalfOnErf };

// x -> GELU as exporters write it -> Relu; what lies between is named gelu/*.
GraphBuilder Gelu(Form form, bool divides, bool tanh = false) {
  GraphBuilder b;
  const ValueId x = b.Input("x", kShape);
  ValueId f = kNoValue;
  if (tanh) {
    const ValueId cube = Two(b, "Pow", "cube", x, Scalar(b, "three", 3));
    const ValueId scaled = Two(b, "Mul", "scaled", Scalar(b, "c", 0.044715F), cube);
    const ValueId sum = b.Add("sum", x, scaled);
    f = b.Like("Tanh", "f", Two(b, "Mul", "inner", sum, Scalar(b, "k", 0.7978846F)));
  } else {
    f = b.Like("Erf", "f",
               divides ? Two(b, "Div", "inner", x, Scalar(b, "k", 1.4142135F))
                       : Two(b, "Mul", "inner", x, Scalar(b, "k", 0.70710677F)));
  }
  const ValueId u = Two(b, "Add", "u", f, Scalar(b, "one", 1));
  const ValueId half = Scalar(b, "half", 0.5F);
  ValueId y = kNoValue;
  if (form == Form::kHalfLast) y = Two(b, "Mul", "y", Two(b, "Mul", "p", x, u), half);
  if (form == Form::kHalfFirst) y = Two(b, "Mul", "y", Two(b, "Mul", "p", half, x), u);
  if (form == Form::kHalfOnErf) y = Two(b, "Mul", "y", x, Two(b, "Mul", "p", u, half));
  b.Output(b.Like("Relu", "relu", y));
  return b;
}

TEST(FuseFloat, GeluInEveryForm) {
  for (const Form form : {Form::kHalfLast, Form::kHalfFirst, Form::kHalfOnErf})
    for (int kind = 0; kind < 3; ++kind) {
      GraphBuilder b = Gelu(form, kind == 0, kind == 2);
      EXPECT_EQ(FuseFloat(b.graph()), 1);
      EXPECT_THAT(Ops(b.graph()), UnorderedElementsAre("Gelu", "Relu"));
      const Node& gelu = b.graph().node(b.graph().FindNode("y"));
      EXPECT_EQ(gelu.GetString("approximate", "none"), kind == 2 ? "tanh" : "none");
      EXPECT_EQ(b.graph().value(gelu.outputs[0]).name, "y");
      EXPECT_EQ(b.graph().value(gelu.inputs[0]).name, "x");
    }
}

TEST(FuseFloat, LeavesWhatIsSeenAndWhatIsAlmostGelu) {
  for (const char* seen : {"inner", "f", "u", "p"}) {
    GraphBuilder b = Gelu(Form::kHalfLast, true);
    EXPECT_EQ(FuseFloat(b.graph(), {b.graph().Find(seen)}), 0) << seen;
    GraphBuilder read = Gelu(Form::kHalfLast, true);
    read.Output(read.Like("Neg", "neg", read.graph().Find(seen)));
    EXPECT_EQ(FuseFloat(read.graph()), 0) << seen;
  }
  GraphBuilder b = Gelu(Form::kHalfLast, true);
  b.graph().value(b.graph().Find("half")).constant =
      std::make_shared<const Tensor>(Tensor::Scalar(0.25F));
  EXPECT_EQ(FuseFloat(b.graph()), 0);
}

TEST(FuseFloat, Swish) {
  GraphBuilder b;
  const ValueId x = b.Input("x", kShape);
  b.Output(Two(b, "Mul", "y", b.Like("Sigmoid", "s", x), x));
  EXPECT_EQ(FuseFloat(b.graph()), 1);
  EXPECT_THAT(Ops(b.graph()), UnorderedElementsAre("Swish"));
}

// Behind Clip: the product with x (m), a sixth by Div (d) or Mul (s), in the order of `steps`.
GraphBuilder HardSwish(const std::string& steps, float three = 3, float six = 6) {
  GraphBuilder b;
  const ValueId x = b.Input("x", kShape);
  const ValueId shifted = b.Op("Add", "shifted", {x, Scalar(b, "three", three)}, kShape);
  ValueId v = b.Op("Clip", "gate", {shifted, Scalar(b, "zero", 0), Scalar(b, "six", six)}, kShape);
  for (const char step : steps) {
    const std::string name(1, step);
    if (step == 'm') v = Two(b, "Mul", name, x, v);
    if (step == 'd') v = Two(b, "Div", name, v, Scalar(b, "divisor", 6));
    if (step == 's') v = Two(b, "Mul", name, Scalar(b, "factor", 1.0F / 6), v);
  }
  b.Output(v);
  return b;
}

TEST(FuseFloat, HardSwishInEveryForm) {
  for (const char* steps : {"md", "dm", "ms", "sm"}) {
    GraphBuilder b = HardSwish(steps);
    const std::string output = b.graph().value(b.graph().outputs[0]).name;
    EXPECT_EQ(FuseFloat(b.graph()), 1) << steps;
    ASSERT_THAT(Ops(b.graph()), UnorderedElementsAre("HardSwish")) << steps;
    const Node& n = b.graph().node(b.graph().TopologicalOrder()[0]);
    EXPECT_EQ(b.graph().value(n.inputs[0]).name, "x");
    EXPECT_EQ(b.graph().value(n.outputs[0]).name, output);
  }
  GraphBuilder b;
  const ValueId x = b.Input("x", kShape);
  b.Output(Two(b, "Mul", "y",
               b.Op("HardSigmoid", "s", {x}, kShape, {{"alpha", 1.0F / 6}, {"beta", 0.5F}}), x));
  EXPECT_EQ(FuseFloat(b.graph()), 1);
  EXPECT_THAT(Ops(b.graph()), UnorderedElementsAre("HardSwish"));
}

TEST(FuseFloat, LeavesWhatIsAlmostHardSwish) {
  for (const char* steps : {"mm", "dd", "m", "d"})
    EXPECT_EQ(FuseFloat(HardSwish(steps).graph()), 0);
  EXPECT_EQ(FuseFloat(HardSwish("md", 2.5F).graph()), 0);
  EXPECT_EQ(FuseFloat(HardSwish("md", 3, 5).graph()), 0);
  for (const char* seen : {"shifted", "gate", "m"}) {
    GraphBuilder b = HardSwish("md");
    EXPECT_EQ(FuseFloat(b.graph(), {b.graph().Find(seen)}), 0) << seen;
  }
  GraphBuilder b;
  const ValueId x = b.Input("x", kShape);
  b.Output(Two(b, "Mul", "y", b.Op("HardSigmoid", "s", {x}, kShape), x));  // 0.2 x + 0.5
  EXPECT_EQ(FuseFloat(b.graph()), 0);
}

ValueId MeanOf(GraphBuilder& b, const std::string& name, ValueId x) {
  return b.Op("ReduceMean", name, {x}, {2, 3, 1}, {{"axes", std::vector<int64_t>{-1}}});
}

// centred: LayerNorm; else RMSNorm as Llama's exporter writes it.
ValueId Norm(GraphBuilder& b, ValueId x, bool centred, int64_t axis_of_variance = -1) {
  const ValueId d = centred ? b.Op("Sub", "d", {x, MeanOf(b, "mean", x)}, kShape) : x;
  const ValueId square = Two(b, "Pow", "square", d, Scalar(b, "two", 2));
  const ValueId variance = b.Op("ReduceMean", "variance", {square}, {2, 3, 1},
                                {{"axes", std::vector<int64_t>{axis_of_variance}}});
  const ValueId root =
      b.Op("Sqrt", "root", {b.Op("Add", "shifted", {variance, Scalar(b, "eps", 1e-6F)}, {2, 3, 1})},
           {2, 3, 1});
  const ValueId normal =
      centred
          ? b.Op("Div", "normal", {d, root}, kShape)
          : b.Op("Mul", "normal", {x, b.Op("Reciprocal", "inverse", {root}, {2, 3, 1})}, kShape);
  const ValueId scaled = Two(b, "Mul", "scaled", normal, b.Constant("gamma", {4}, {1, 2, 3, 4}));
  return centred ? b.Add("norm", scaled, b.Constant("beta", {4}, {1, 2, 3, 4})) : scaled;
}

TEST(FuseFloat, LayerNormChain) {
  GraphBuilder b;
  b.Output(Norm(b, b.Input("x", kShape), true));
  EXPECT_EQ(FuseFloat(b.graph()), 1);
  ASSERT_THAT(Ops(b.graph()), UnorderedElementsAre("LayerNormalization"));
  const Node& n = b.graph().node(b.graph().TopologicalOrder()[0]);
  EXPECT_EQ(n.GetFloat("epsilon", 0), 1e-6F);
  EXPECT_EQ(b.graph().value(n.inputs[2]).name, "beta");
}

TEST(FuseFloat, RmsNormChain) {
  GraphBuilder b;
  b.Output(Norm(b, b.Input("x", kShape), false));
  EXPECT_EQ(FuseFloat(b.graph()), 1);
  EXPECT_THAT(Ops(b.graph()), UnorderedElementsAre("octet.Norm"));
}

// `v` as a constant of four axes gives what it meets four axes, which the fused operator would not.
int FusedWithFourAxes(Graph g, const std::string& constant, float v) {
  g.value(g.Find(constant)).constant =
      std::make_shared<const Tensor>(Tensor::Of<float>({1, 1, 1, 1}, {v}));
  for (size_t i = 0; i < g.value_count(); ++i) {
    Value& value = g.value(static_cast<ValueId>(i));
    if (value.producer != kNoNode) value.type = ValueType::Unranked(DType::kFloat32);
    if (value.constant) value.type = ValueType::Of(DType::kFloat32, value.constant->shape());
  }
  InferShapes(g, true);
  return FuseFloat(g);
}

TEST(FuseFloat, LeavesConstantsThatAddAxes) {
  EXPECT_EQ(FusedWithFourAxes(HardSwish("md").graph(), "three", 3), 0);
  EXPECT_EQ(FusedWithFourAxes(HardSwish("md").graph(), "divisor", 6), 0);
  EXPECT_EQ(FusedWithFourAxes(HardSwish("sm").graph(), "factor", 1.0F / 6), 0);
  EXPECT_EQ(FusedWithFourAxes(HardSwish("md").graph(), "six", 6), 1);  // a bound adds none
  GraphBuilder norm;
  norm.Output(Norm(norm, norm.Input("x", kShape), true));
  EXPECT_EQ(FusedWithFourAxes(norm.graph(), "eps", 1e-6F), 0);
  for (const char* constant : {"k", "one", "half"}) {
    const float v = constant[0] == 'k' ? 1.4142135F : constant[0] == 'o' ? 1.0F : 0.5F;
    EXPECT_EQ(FusedWithFourAxes(Gelu(Form::kHalfLast, true).graph(), constant, v), 0) << constant;
  }
}

TEST(FuseFloat, NotOverAnotherAxis) {
  GraphBuilder b;
  b.Output(Norm(b, b.Input("x", kShape), true, 1));
  EXPECT_EQ(FuseFloat(b.graph()), 0);
}

// Add -> LayerNormalization -> {QuantizeLinear, Relu if `float_too`}; the sum is read if `sum_too`.
GraphBuilder Block(bool float_too, bool sum_too) {
  GraphBuilder b;
  const ValueId sum = b.Add("sum", b.Input("x", kShape), b.Input("r", kShape));
  const ValueId y =
      b.Op("LayerNormalization", "norm",
           {sum, b.Constant("g", {4}, {1, 1, 1, 1}), b.Constant("b", {4}, {0, 0, 0, 0})}, kShape);
  const ValueId zero =
      b.graph().AddConstant("zero", Tensor::Of<uint8_t>(Shape{}, std::vector<uint8_t>{128}));
  const ValueId codes = b.graph().AddValue("codes", ValueType::Of(DType::kUint8, kShape));
  b.graph().AddOp("QuantizeLinear", {y, Scalar(b, "scale", 0.1F), zero}, {codes}, {}, "q");
  b.Output(codes);
  if (float_too) b.Output(b.Like("Relu", "relu", y));
  if (sum_too) b.Output(b.Like("Neg", "neg", sum));
  return b;
}

TEST(FuseFloat, NormTakesInAdditionAndQuantizer) {
  for (const bool float_too : {false, true})
    for (const bool sum_too : {false, true}) {
      GraphBuilder b = Block(float_too, sum_too);
      EXPECT_EQ(FuseFloat(b.graph()), 1);
      b.graph().Verify("after fusing");
      const Node& n = b.graph().node(b.graph().FindNode("norm"));
      EXPECT_TRUE(n.Is("Norm", "octet"));
      ASSERT_EQ(n.outputs.size(), 3U);
      EXPECT_EQ(n.outputs[0] != kNoValue, float_too);
      EXPECT_EQ(n.outputs[1] != kNoValue, sum_too);
      EXPECT_EQ(b.graph().value(n.outputs[2]).name, "codes");
      EXPECT_EQ(n.inputs.size(), 6U);
    }
}

TEST(FuseFloat, KeepsTappedValues) {
  GraphBuilder b = Block(false, false);
  EXPECT_EQ(FuseFloat(b.graph(), {b.graph().Find("sum"), b.graph().Find("norm")}), 1);
  const Node& n = b.graph().node(b.graph().FindNode("norm"));
  EXPECT_EQ(b.graph().value(n.outputs[0]).name, "norm");
  EXPECT_EQ(b.graph().value(n.outputs[1]).name, "sum");
}

TEST(FuseFloat, AResidualOfCodes) {
  for (const bool read_elsewhere : {false, true}) {
    GraphBuilder b;
    const ValueId codes = b.graph().AddInput("codes", ValueType::Of(DType::kUint8, kShape));
    const ValueId zero =
        b.graph().AddConstant("zero", Tensor::Of<uint8_t>(Shape{}, std::vector<uint8_t>{7}));
    const ValueId r =
        b.Op("DequantizeLinear", "r", {codes, Scalar(b, "scale", 0.5F), zero}, kShape);
    const ValueId sum = b.Add("sum", r, b.Input("x", kShape));
    b.Output(b.Op("LayerNormalization", "norm", {sum, b.Constant("g", {4}, {1, 1, 1, 1})}, kShape));
    if (read_elsewhere) b.Output(b.Like("Neg", "neg", r));
    EXPECT_EQ(FuseFloat(b.graph()), 1);
    b.graph().Verify("after fusing");
    const Node& n = b.graph().node(b.graph().FindNode("norm"));
    ASSERT_TRUE(n.Is("Norm", "octet"));
    EXPECT_EQ(b.graph().value(n.inputs[1]).name, read_elsewhere ? "x" : "codes");
    EXPECT_EQ(n.GetInt("residual_zero_point", 0), read_elsewhere ? 0 : 7);
  }
}

TEST(FuseFloat, SoftmaxTakesAScale) {
  const auto scale = [](const std::string& op, float by, int64_t axis) {
    GraphBuilder b;
    const ValueId s = Two(b, op, "s", b.Input("x", kShape), Scalar(b, "by", by));
    b.Output(b.Op("Softmax", "y", {s}, kShape, {{"axis", axis}}));
    FuseFloat(b.graph());
    return b.graph().node(b.graph().FindNode("y")).GetFloat("scale", 0);
  };
  EXPECT_EQ(scale("Div", 8, -1), 0.125F);
  EXPECT_EQ(scale("Mul", 0.3F, 2), 0.3F);
  EXPECT_EQ(scale("Div", 3, -1), 0);  // a quotient is not a product
  EXPECT_EQ(scale("Mul", -1, -1), 0);
  EXPECT_EQ(scale("Mul", 2, 1), 0);
}

TEST(FuseFloat, ScoresBecomeWeightsInTheProduct) {
  for (const bool seen : {false, true}) {
    GraphBuilder b;
    const ValueId k = b.Op("Transpose", "k", {b.Input("z", {2, 5, 4})}, {2, 4, 5},
                           {{"perm", std::vector<int64_t>{0, 2, 1}}});
    const ValueId s = b.Op("MatMul", "s", {b.Input("q", {2, 3, 4}), k}, {2, 3, 5});
    const ValueId scaled = b.Op("Mul", "m", {s, Scalar(b, "by", 0.3F)}, {2, 3, 5});
    b.Output(b.Like("Softmax", "y", scaled));
    if (seen) b.Output(b.Like("Neg", "neg", s));
    FuseFloat(b.graph());
    b.graph().Verify("after fusing");
    const NodeId y = b.graph().FindNode(seen ? "y" : "s");
    EXPECT_EQ(b.graph().node(y).GetFloat("softmax_scale", 0), seen ? 0 : 0.3F);
    EXPECT_EQ(b.graph().node(y).op, seen ? "ScaledSoftmax" : "PermutedMatMul");
  }
}

TEST(FuseFloat, MatMulReadsTransposedKeys) {
  const auto attention = [](std::vector<int64_t> perm, const Shape& keys, bool seen) {
    GraphBuilder b;
    const ValueId q = b.Op("Transpose", "q", {b.Input("x", {1, 5, 3, 4})}, {1, 3, 5, 4},
                           {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    const ValueId k = b.Op("Transpose", "k", {b.Input("z", keys)}, {1, 3, 4, 5}, {{"perm", perm}});
    b.Output(b.Op("MatMul", "y", {q, k}, {1, 3, 5, 5}));
    if (seen) b.Output(b.Like("Neg", "neg", k));
    FuseFloat(b.graph());
    b.graph().Verify("after fusing");
    return Ops(b.graph());
  };
  EXPECT_THAT(attention({0, 2, 3, 1}, {1, 5, 3, 4}, false),
              UnorderedElementsAre("Transpose", "Transpose", "octet.PermutedMatMul"));
  EXPECT_THAT(attention({0, 1, 3, 2}, {1, 3, 5, 4}, false),
              UnorderedElementsAre("Transpose", "octet.PermutedMatMul"));
  EXPECT_THAT(attention({0, 2, 3, 1}, {1, 5, 3, 4}, true),
              UnorderedElementsAre("Transpose", "Transpose", "MatMul", "Neg"));
  EXPECT_THAT(attention({0, 2, 1, 3}, {1, 4, 3, 5}, false),
              UnorderedElementsAre("Transpose", "Transpose", "MatMul"));
}

TEST(FuseFloat, AnAdditionThatBroadcastsStays) {
  GraphBuilder b;
  const ValueId sum = b.Op("Add", "sum", {b.Input("x", kShape), b.Input("r", {1, 3, 4})}, kShape);
  b.Output(b.Op("LayerNormalization", "norm", {sum, b.Constant("g", {4}, {1, 1, 1, 1})}, kShape));
  EXPECT_EQ(FuseFloat(b.graph()), 0);
}

}  // namespace
}  // namespace octet
