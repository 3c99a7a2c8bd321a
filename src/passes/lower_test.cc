#include "passes/lower.h"

#include <gmock/gmock.h>

#include <cmath>

#include "graph/graph_builder.h"
#include "numerics/rounding.h"
#include "passes/place_quantizers.h"
#include "passes/quantizers.h"

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

// Sigmoid of every number it is handed.
EvaluateFn Sigmoids() {
  return [](const Graph&, const Node& n, std::span<const Tensor* const> inputs) {
    EXPECT_EQ(n.op, "Sigmoid");
    Tensor y(DType::kFloat32, inputs[0]->shape());
    const auto x = inputs[0]->data<float>();
    for (size_t i = 0; i < x.size(); ++i)
      y.mutable_data<float>()[i] = 1.0F / (1.0F + std::exp(-x[i]));
    std::vector<Tensor> result;
    result.push_back(std::move(y));
    return result;
  };
}

// x Sigmoid(x) is one table whether or not a quantizer stands between; its entries are what the
// operators give, code by code.
TEST(Lower, ProductsOfOneValueAreTables) {
  for (const Target target : {Target::kOctet, Target::kOnnxRuntime}) {
    GraphBuilder b;
    const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1);
    const ValueId s = b.Like("Sigmoid", "s", a);
    b.Output(b.Conv("b", b.Op("Mul", "silu", {s, a}, {1, 4, 4, 4}), 2, 1));
    PlacementOptions options;
    options.target = target;
    Graph g = QuantizedGraph(b.graph(), options);
    EXPECT_EQ(Ops(g).at("QuantizeLinear"), target == Target::kOctet ? 3 : 4);
    EXPECT_TRUE(Lower(g, Sigmoids()).kept.empty());
    const auto ops = Ops(g);
    EXPECT_EQ(ops.at("QLookup"), 1);
    EXPECT_EQ(ops.at("QConv"), 2);
    EXPECT_EQ(ops.size(), 3U);  // and the quantizer of the input
    for (NodeId id : g.TopologicalOrder()) {
      if (!g.node(id).Is("QLookup", "octet")) continue;
      const auto table = g.ConstantOf(g.node(id).inputs[1])->data<uint8_t>();
      for (int code = 0; code < 256; ++code) {
        const float x = static_cast<float>(code - 10) * 0.25F;
        float gate = 1.0F / (1.0F + std::exp(-x));
        if (target == Target::kOnnxRuntime) gate = std::nearbyint(gate / 0.25F) * 0.25F;
        const float y = std::nearbyint(x * gate / 0.25F) + 10;
        EXPECT_EQ(table[static_cast<size_t>(code)], std::min(std::max(y, 0.0F), 255.0F)) << code;
      }
    }
  }
}

// The gate of squeeze and excitation, either way round; a mean over the image; a nearest Resize.
TEST(Lower, GatesMeansAndResizesRunOnCodes) {
  for (const bool gate_first : {false, true}) {
    GraphBuilder b;
    const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 4, 1);
    const ValueId mean = b.Op("ReduceMean", "mean", {a}, {1, 4, 1, 1},
                              {{"axes", std::vector<int64_t>{-1, 2}}, {"keepdims", int64_t{1}}});
    const ValueId gate = b.Conv("gate", mean, 4, 1);
    const ValueId y =
        b.Op("Mul", "mul", gate_first ? std::vector{gate, a} : std::vector{a, gate}, {1, 4, 4, 4});
    const ValueId wide =
        b.Op("Resize", "wide", {y, kNoValue, b.Constant("scales", {4}, {1, 1, 2, 2})}, {1, 4, 8, 8},
             {{"mode", std::string("nearest")}});
    b.Output(b.Conv("b", wide, 2, 1));
    PlacementOptions options;
    options.target = Target::kOctet;
    Graph g = QuantizedGraph(b.graph(), options);
    EXPECT_TRUE(Lower(g, NoEvaluation()).kept.empty());
    const auto ops = Ops(g);
    EXPECT_EQ(ops.at("QMul"), 1);
    EXPECT_EQ(ops.at("QGlobalAveragePool"), 1);
    EXPECT_EQ(ops.at("Resize"), 1);
    EXPECT_EQ(ops.count("DequantizeLinear"), 0U);
    const Node& mul = g.node(g.FindNode("mul"));
    EXPECT_EQ(g.value(mul.inputs[1]).name, "gate_quantized");  // the gate is second
    EXPECT_EQ(mul.GetFloat("a_scale", 0), 0.25F);
    EXPECT_EQ(mul.GetInt("b_zero_point", 0), 10);
  }
}

// As exporters write a linear layer: MatMul, then Add with the bias first. A float bias is added to
// a float result, with the bounds behind it; codes of the accumulator's grid belong to the product.
TEST(Lower, MatMulTakesTheBiasBehindIt) {
  for (const bool codes : {false, true}) {
    for (const bool quantized_behind : {false, true}) {
      SCOPED_TRACE(codes);
      SCOPED_TRACE(quantized_behind);
      GraphBuilder b;
      const ValueId w = b.Noise("w", {4, 3});
      const ValueId y = b.Op("MatMul", "linear", {b.Input("x", {1, 2, 4}), w}, {1, 2, 3});
      const ValueId z = b.Op("Add", "biased", {b.Constant("bias", {3}, {1, 2, 3}), y}, {1, 2, 3});
      const ValueId r = b.Like("Relu", "relu", z);
      b.Output(quantized_behind ? b.Op("MatMul", "next", {r, b.Noise("v", {3, 2})}, {1, 2, 2})
                                : b.Like("Softmax", "softmax", r));
      Graph g = QuantizedGraph(b.graph(), {});
      const NodeId add = g.FindNode("biased");
      if (!codes) {
        g.node(add).inputs[0] = g.AddConstant("float_bias", Tensor::Of<float>(Shape{3}, {1, 2, 3}));
      } else if (!quantized_behind) {  // float, as it is planned
        Tensor q = Tensor::Of<int32_t>(Shape{3}, {256, 512, 768});
        const ValueId s = g.AddConstant("s", Tensor::Scalar(0.25F / 64));
        g.node(add).inputs[0] = g.AddValue("d", ValueType::Of(DType::kFloat32, Shape{3}));
        g.AddOp("DequantizeLinear", {g.AddConstant("q", std::move(q)), s}, {g.node(add).inputs[0]},
                {}, "dq");
      }
      Lower(g, NoEvaluation());
      g.Verify("after lower");
      const Node& linear = g.node(g.FindNode("linear"));
      ASSERT_EQ(linear.op, "QGemm");
      const auto ops = Ops(g);
      EXPECT_EQ(ops.count("Add") + ops.count("Relu") + ops.count("DequantizeLinear"), 0U);
      const bool codes_out = codes && quantized_behind;
      EXPECT_EQ(linear.GetInt("output_dtype", 0), codes_out ? 2 : 1);
      EXPECT_EQ(ops.at("QuantizeLinear"), quantized_behind && !codes ? 2 : 1);
      if (codes) {
        EXPECT_THAT(g.ConstantOf(linear.inputs[2])->data<int32_t>(), ElementsAre(256, 512, 768));
      } else {
        EXPECT_EQ(linear.input(2), kNoValue);
        EXPECT_EQ(g.value(linear.inputs[7]).name, "float_bias");
        EXPECT_EQ(linear.GetFloat("float_lo", -1), 0.0F);
      }
    }
  }
}

// Codes on another grid than the accumulator's are not the product's bias.
TEST(Lower, LeavesABiasOnAnotherGrid) {
  GraphBuilder b;
  const ValueId y = b.Op("MatMul", "linear", {b.Input("x", {2, 4}), b.Noise("w", {4, 3})}, {2, 3});
  const ValueId z = b.Op("Add", "biased", {b.Constant("bias", {3}, {1, 2, 3}), y}, {2, 3});
  b.Output(b.Like("Softmax", "softmax", z));
  Graph g = QuantizedGraph(b.graph(), {});
  const auto q = DequantizerOf(g, g.node(g.FindNode("biased")).inputs[0]);
  ASSERT_TRUE(q);
  g.node(q->node).inputs[1] = g.AddConstant("other", Tensor::Scalar(0.5F / 64));
  Lower(g, NoEvaluation());
  EXPECT_EQ(Ops(g).at("Add"), 1);
  EXPECT_EQ(g.node(g.FindNode("linear")).input(2), kNoValue);
}

// Attention: both operands are computed. The second must be int8 about 0; what is so quantized
// keeps its codes through Reshape and Transpose.
TEST(Lower, ProductsOfComputedOperands) {
  for (const bool int8 : {true, false}) {
    GraphBuilder b;
    const ValueId x = b.Input("x", {1, 4, 6});
    const ValueId q = b.Op("MatMul", "q", {x, b.Noise("wq", {6, 8})}, {1, 4, 8});
    const ValueId k = b.Op("MatMul", "k", {x, b.Noise("wk", {6, 8})}, {1, 4, 8});
    const ValueId kt = b.Op("Transpose", "kt", {k}, {1, 8, 4});
    b.graph().node(b.graph().value(kt).producer).attributes["perm"] = std::vector<int64_t>{0, 2, 1};
    b.Output(b.Like("Softmax", "softmax", b.Op("MatMul", "scores", {q, kt}, {1, 4, 4})));
    PlacementOptions options;
    EXPECT_EQ(PlanQuantizers(b.graph(), options).skipped.at(0).node, "scores");
    options.computed_products = true;
    Graph g = b.graph();
    const auto plan = PlanQuantizers(g, options);
    EXPECT_TRUE(plan.skipped.empty());
    QuantizerParams params;
    for (const auto& a : plan.activations) {
      const std::string& name = g.value(a.value).name;
      EXPECT_EQ(a.second_operand, name == "kt");
      const bool key = name == "kt" || name == "k";
      params.activations[a.value] = {0.25F, key && int8 ? 0 : 10};
      params.activation_formats[a.value] = key && int8 ? kInt8 : kUint8;
    }
    for (const auto& w : plan.weighted) params.weight_scales[w.node] = {1.0F / 64};
    InsertQuantizers(g, plan, params);
    const auto report = Lower(g, NoEvaluation());
    g.Verify("after lower");
    const Node& scores = g.node(g.FindNode("scores"));
    if (!int8) {
      ASSERT_EQ(report.kept.size(), 1U);
      EXPECT_THAT(report.kept[0].reason, HasSubstr("second operand"));
      EXPECT_EQ(scores.op, "MatMul");
      continue;
    }
    EXPECT_TRUE(report.kept.empty());
    EXPECT_EQ(scores.op, "QMatMul");
    EXPECT_EQ(scores.GetInt("a_zero_point", 0), 10);
    EXPECT_EQ(scores.GetFloat("multiplier", 0), 0.0625F);
    EXPECT_EQ(scores.GetInt("output_dtype", 0), 1);
    const auto ops = Ops(g);
    EXPECT_EQ(ops.at("QuantizeLinear"), 1);  // of x
    EXPECT_EQ(ops.count("DequantizeLinear"), 0U);
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

TEST(Lower, BoundsThatAddAxesAreNotTaken) {
  GraphBuilder b;
  const ValueId a = b.Conv("a", b.Input("x", {1, 3, 4, 4}), 2, 1);
  const ValueId bound = b.Constant("bound", {1, 1, 1, 1, 1}, {2});
  b.Output(b.Op("Neg", "y", {b.Op("Min", "min", {a, bound}, {1, 1, 2, 4, 4})}, {1, 1, 2, 4, 4}));
  Graph g = QuantizedGraph(b.graph());
  Lower(g, NoEvaluation());
  EXPECT_EQ(Ops(g).at("QConv"), 1);
  EXPECT_EQ(Ops(g).at("Min"), 1);
}

// A quantizer and its DequantizeLinear behind `v`.
ValueId Requantize(Graph& g, ValueId v, float scale, uint8_t zero_point) {
  const std::string name = g.value(v).name;
  const ValueType type = g.value(v).type;
  ValueType code_type = type;
  code_type.dtype = DType::kUint8;
  const ValueId s = g.AddConstant(name + "_s", Tensor::Scalar(scale));
  const ValueId z = g.AddConstant(name + "_z", Tensor::Scalar(zero_point));
  const ValueId codes = g.AddValue(name + "_quantized", code_type);
  const ValueId real = g.AddValue(name + "_real", type);
  g.AddOp("QuantizeLinear", {v, s, z}, {codes}, {}, name + "_q");
  g.AddOp("DequantizeLinear", {codes, s, z}, {real}, {}, name + "_dq");
  return real;
}

// The operators of arithmetic with numbers.
EvaluateFn Arithmetic() {
  return [](const Graph&, const Node& n, std::span<const Tensor* const> inputs) {
    const bool number_first = inputs[0]->elements() == 1;
    const float c = inputs[number_first ? 0 : 1]->data<float>()[0];
    const auto x = inputs[number_first ? 1 : 0]->data<float>();
    Tensor y(DType::kFloat32, Shape{256});
    for (size_t i = 0; i < x.size(); ++i) {
      const float a = number_first ? c : x[i], b = number_first ? x[i] : c;
      y.mutable_data<float>()[i] =
          n.op == "Mul" ? a * b : (n.op == "Add" ? a + b : (n.op == "Sub" ? a - b : a / b));
    }
    std::vector<Tensor> result;
    result.push_back(std::move(y));
    return result;
  };
}

struct WithNumber {
  const char* op;
  float number;
  bool first;
  float scale;  // of the quantizer behind, zero point 10; before: 0.25, 10
  bool codes_stay;
};

// x * 2 on a grid twice as wide has the codes of x. Everything else with a number is a table, and
// the table is the operator, code by code.
TEST(Lower, ArithmeticWithANumberIsATableOrNothing) {
  for (const WithNumber& t : {WithNumber{"Mul", 2.0F, false, 0.5F, true},
                              {"Mul", 0.3F, true, 0.075F, true},
                              {"Div", 4.0F, false, 0.0625F, true},
                              {"Add", 0.0F, true, 0.25F, true},
                              {"Mul", 2.0F, true, 0.25F, false},
                              {"Mul", -1.0F, true, 0.25F, false},
                              {"Add", 1.0F, false, 0.25F, false},
                              {"Sub", 3.0F, true, 0.25F, false},
                              {"Div", 3.0F, true, 0.25F, false}}) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1, 1}}) {
      SCOPED_TRACE(std::string(t.op) + shape.ToString());
      GraphBuilder b;
      Graph& g = b.graph();
      const ValueId x = Requantize(g, b.Input("x", {2, 3, 4}), 0.25F, 10);
      const ValueId c = g.AddConstant("c", Tensor::Of<float>(shape, {t.number}));
      const ValueId y = b.Op(t.op, "y", t.first ? std::vector{c, x} : std::vector{x, c}, {2, 3, 4});
      b.Output(b.Like("Softmax", "out", Requantize(g, y, t.scale, 10)));
      EXPECT_TRUE(Lower(g, Arithmetic()).kept.empty());
      g.Verify("after lower");
      const auto ops = Ops(g);
      EXPECT_EQ(ops.count(t.op), 0U);
      EXPECT_EQ(ops.count("QLookup"), t.codes_stay ? 0U : 1U);
      EXPECT_EQ(ops.at("DequantizeLinear"), 1);
      if (t.codes_stay) continue;
      const auto table = g.ConstantOf(g.Find("y_quantized_table"))->data<uint8_t>();
      for (int32_t code = 0; code < 256; ++code) {
        const float real = static_cast<float>(code - 10) * 0.25F;
        const float v = std::string(t.op) == "Mul"   ? real * t.number
                        : std::string(t.op) == "Add" ? real + t.number
                        : std::string(t.op) == "Sub" ? t.number - real
                                                     : t.number / real;
        EXPECT_EQ(table[static_cast<size_t>(code)], QuantizeOne(v, t.scale, 10, 0, 255)) << code;
      }
    }
  }
}

// More than one number is no function of one code; nor is what a number's shape makes larger.
TEST(Lower, LeavesArithmeticWithSeveralNumbers) {
  for (const Shape& shape : {Shape{4}, Shape{1, 1, 1, 1}}) {
    GraphBuilder b;
    Graph& g = b.graph();
    const ValueId x = Requantize(g, b.Input("x", {2, 3, 4}), 0.25F, 10);
    const Shape out = shape.rank() == 4 ? Shape{1, 2, 3, 4} : Shape{2, 3, 4};
    const ValueId y = b.Op("Mul", "y", {x, b.Noise("c", shape)}, out);
    b.Output(b.Like("Softmax", "out", Requantize(g, y, 0.5F, 10)));
    Lower(g, Arithmetic());
    EXPECT_EQ(Ops(g).at("Mul"), 1);
  }
}

TEST(Lower, SplitMovesCodes) {
  GraphBuilder b;
  Graph& g = b.graph();
  const ValueId x = Requantize(g, b.Input("x", {2, 6}), 0.25F, 10);
  std::vector<ValueId> parts;
  for (const char* name : {"same", "other", "real"})
    parts.push_back(g.AddValue(name, ValueType::Of(DType::kFloat32, Shape{2, 2})));
  const ValueId sizes = g.AddConstant("sizes", Tensor::Of<int64_t>(Shape{3}, {2, 2, 2}));
  g.AddOp("Split", {x, sizes}, parts, {{"axis", int64_t{1}}}, "split");
  b.Output(b.Like("Softmax", "a", Requantize(g, parts[0], 0.25F, 10)));
  b.Output(b.Like("Softmax", "b", Requantize(g, parts[1], 0.5F, 10)));
  b.Output(b.Like("Softmax", "c", parts[2]));
  EXPECT_TRUE(Lower(g, Arithmetic()).kept.empty());
  g.Verify("after lower");
  const Node& split = g.node(g.FindNode("split"));
  EXPECT_EQ(g.value(split.inputs[0]).name, "x_quantized");
  EXPECT_EQ(split.inputs.size(), 2U);
  EXPECT_EQ(split.GetInt("axis", 0), 1);
  EXPECT_EQ(g.value(split.outputs[0]).name, "same_quantized");
  EXPECT_EQ(g.node(g.value(g.Find("other_quantized")).producer).op, "QLookup");
  const auto real = DequantizerOf(g, g.Find("real"));
  ASSERT_TRUE(real);
  EXPECT_EQ(real->codes, split.outputs[2]);
  EXPECT_THAT(real->scale, ElementsAre(0.25F));
  EXPECT_THAT(real->zero_point, ElementsAre(10));
  const auto ops = Ops(g);
  EXPECT_EQ(ops.at("QuantizeLinear"), 1);
  EXPECT_EQ(ops.at("DequantizeLinear"), 3);
}

TEST(Lower, LeavesASplitWhoseReadersAreFloat) {
  GraphBuilder b;
  Graph& g = b.graph();
  const ValueId x = Requantize(g, b.Input("x", {2, 6}), 0.25F, 10);
  const ValueId a = g.AddValue("a", ValueType::Of(DType::kFloat32, Shape{2, 3}));
  const ValueId c = g.AddValue("c", ValueType::Of(DType::kFloat32, Shape{2, 3}));
  g.AddOp("Split", {x}, {a, c}, {{"axis", int64_t{1}}}, "split");
  b.Output(b.Add("sum", a, c));
  const auto report = Lower(g, Arithmetic());
  ASSERT_FALSE(report.kept.empty());
  EXPECT_EQ(report.kept[0].node, "split");
}

}  // namespace
}  // namespace octet
