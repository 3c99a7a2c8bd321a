#include "passes/audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "graph/ops.h"
#include "passes/macs.h"
#include "passes/place_quantizers.h"

namespace octet {
namespace {

using testing::HasSubstr;

Tensor Ramp(const Shape& shape) {
  Tensor t(DType::kFloat32, shape);
  auto d = t.mutable_data<float>();
  for (size_t i = 0; i < d.size(); ++i)
    d[i] = static_cast<float>(static_cast<int>(i % 7) - 3) / 8.0F;
  return t;
}

// x -> conv1 -> relu1 -> conv2 -> add(relu1) -> relu2 -> gap -> flatten -> fc: 8 channels, 6x6.
Graph Residual() {
  Graph g;
  g.opsets[""] = 17;
  const ValueId x = g.AddInput("x", ValueType::Of(DType::kFloat32, {1, 3, 6, 6}));
  const auto conv = [&](const std::string& name, ValueId in, const Shape& w) {
    const ValueId weight = g.AddConstant(name + ".w", Ramp(w));
    const ValueId bias = g.AddConstant(name + ".b", Ramp(Shape{w[0]}));
    const ValueId y = g.AddValue(name + "_out");
    g.AddOp("Conv", {in, weight, bias}, {y}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}, name);
    return y;
  };
  const auto op = [&](const std::string& kind, const std::string& name, std::vector<ValueId> in) {
    const ValueId y = g.AddValue(name + "_out");
    g.AddOp(kind, std::move(in), {y}, {}, name);
    return y;
  };
  const ValueId r1 = op("Relu", "relu1", {conv("conv1", x, {8, 3, 3, 3})});
  const ValueId c2 = conv("conv2", r1, {8, 8, 3, 3});
  const ValueId r2 = op("Relu", "relu2", {op("Add", "add", {c2, r1})});
  const ValueId flat = op("Flatten", "flatten", {op("GlobalAveragePool", "gap", {r2})});
  const ValueId w = g.AddConstant("fc.w", Ramp({8, 5}));
  const ValueId b = g.AddConstant("fc.b", Ramp({5}));
  const ValueId y = g.AddValue("y");
  g.AddOp("Gemm", {flat, w, b}, {y}, {}, "fc");
  g.outputs = {y};
  InferShapes(g, true);
  return g;
}

Graph Quantized(Target target) {
  Graph g = Residual();
  const QuantizerPlan plan = PlanQuantizers(g, {target, false, {}});
  QuantizerParams p;
  const bool trt = target == Target::kTensorRt;
  p.activation_format = trt ? kInt8 : kUint8;
  p.bias = trt ? BiasForm::kGridFloat : BiasForm::kInt32;
  for (const auto& a : plan.activations) {
    const bool relu = g.value(a.value).name.starts_with("relu");
    p.activations[a.value] = {0.05F, trt || relu ? 0 : 128};
  }
  for (const auto& w : plan.weighted) {
    const Tensor& t = *g.ConstantOf(g.node(w.node).inputs[1]);
    p.weight_scales[w.node] = std::vector<float>(static_cast<size_t>(t.shape()[w.axis]), 0.01F);
  }
  InsertQuantizers(g, plan, p);
  return g;
}

std::vector<Tensor> NoEvaluation(const Graph&, const Node&, std::span<const Tensor* const>) {
  return {};
}

const AuditResult::Finding* FindingFor(const AuditResult& r, const std::string& node) {
  for (const auto& f : r.findings) {
    if (f.node == node) return &f;
  }
  return nullptr;
}

// Sets every element of the constant behind a value.
template <typename T>
void SetConstant(Graph& g, const std::string& name, T v) {
  Tensor t = g.ConstantOf(g.Find(name))->Clone();
  for (T& e : t.mutable_data<T>()) e = v;
  g.value(g.Find(name)).constant = std::make_shared<const Tensor>(std::move(t));
}

TEST(Macs, CountsByShape) {
  const Graph g = Residual();
  EXPECT_EQ(MacsOf(g, g.node(g.FindNode("conv1"))), 36 * 8 * 27);
  EXPECT_EQ(MacsOf(g, g.node(g.FindNode("fc"))), 40);
  EXPECT_EQ(MacsOf(g, g.node(g.FindNode("add"))), 0);
}

TEST(Audit, WellPlacedQuantizersFuseEverywhere) {
  for (Target t : {Target::kOctet, Target::kOnnxRuntime, Target::kTensorRt}) {
    const Graph g = Quantized(t);
    const AuditResult r = AuditGraph(g, t, NoEvaluation);
    for (const auto& f : r.findings) {
      EXPECT_FALSE(f.fatal) << TargetName(t) << " " << f.node << " " << f.text;
    }
    EXPECT_EQ(r.operators, 5) << TargetName(t);
    EXPECT_EQ(r.int8_mac_fraction, 1.0) << TargetName(t);
    // TensorRT: the pool between Add and Flatten is quantized behind the Flatten.
    EXPECT_EQ(r.int8_operators, t == Target::kTensorRt ? 4 : 5) << TargetName(t);
  }
}

TEST(Audit, OpenSizesLeaveTheShareUncounted) {
  for (Target t : {Target::kOctet, Target::kOnnxRuntime}) {
    Graph g = Quantized(t);
    g.value(g.inputs[0]).type.dims = {kUnknownDim, 3, kUnknownDim, kUnknownDim};
    const AuditResult open = AuditGraph(g, t, NoEvaluation);
    EXPECT_EQ(open.int8_operators, 5);
    EXPECT_THAT(open.open_inputs, testing::ElementsAre("x: float32[1,3,?,?]"));
    EXPECT_FALSE(open.int8_mac_fraction.has_value());
    const AuditResult closed = AuditGraph(g, t, NoEvaluation, {{"x", {1, 3, 6, 6}}});
    EXPECT_TRUE(closed.open_inputs.empty());
    EXPECT_EQ(closed.int8_mac_fraction, 1.0);
  }
}

TEST(Audit, FloatGraphHasNothingInInt8) {
  for (Target t : {Target::kOctet, Target::kOnnxRuntime, Target::kTensorRt}) {
    const AuditResult r = AuditGraph(Residual(), t, NoEvaluation);
    EXPECT_EQ(r.int8_operators, 0) << TargetName(t);
    EXPECT_EQ(r.findings.size(), 5u);
    EXPECT_EQ(r.int8_mac_fraction, 0);
  }
}

TEST(Audit, OnnxRuntimeNeedsTheLowestZeroPointBehindRelu) {
  Graph g = Quantized(Target::kOnnxRuntime);
  SetConstant<uint8_t>(g, "relu1_out_zero_point", 3);
  const AuditResult r = AuditGraph(g, Target::kOnnxRuntime, NoEvaluation);
  const auto* f = FindingFor(r, "conv1");
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->rule, "relu-zero-point");
  EXPECT_THAT(f->text, HasSubstr("expected the lowest code 0"));
  EXPECT_LT(r.int8_mac_fraction.value(), 1.0);
}

// ONNX Runtime turns int8 activations into uint8 where a value has one reader, and fuses no others
// on x86-64: found by comparing with its optimized models.
TEST(Audit, OnnxRuntimeDoesNotFuseInt8ActivationsWithSeveralReaders) {
  Graph g = Residual();
  const QuantizerPlan plan = PlanQuantizers(g, {Target::kOnnxRuntime, false, {}});
  QuantizerParams p;
  p.activation_format = kInt8;
  for (const auto& a : plan.activations) {
    p.activations[a.value] = {0.05F, g.value(a.value).name.starts_with("relu") ? -128 : 0};
  }
  for (const auto& w : plan.weighted) p.weight_scales[w.node] = {0.01F};
  InsertQuantizers(g, plan, p);
  const AuditResult r = AuditGraph(g, Target::kOnnxRuntime, NoEvaluation);
  // relu1's codes go to conv2 and to the Add: conv1 makes them, so three operators touch them.
  ASSERT_NE(FindingFor(r, "conv2"), nullptr);
  EXPECT_EQ(FindingFor(r, "conv2")->rule, "int8-activation");
  ASSERT_NE(FindingFor(r, "add"), nullptr);
  EXPECT_EQ(FindingFor(r, "add")->rule, "int8-activation");
  ASSERT_NE(FindingFor(r, "conv1"), nullptr);
  EXPECT_EQ(FindingFor(r, "conv1")->rule, "types");
  EXPECT_EQ(FindingFor(r, "gap"), nullptr);
  EXPECT_EQ(FindingFor(r, "fc"), nullptr);
}

TEST(Audit, OnnxRuntimeNeedsOneQuantizerBehindConv) {
  Graph g = Quantized(Target::kOnnxRuntime);
  g.outputs.push_back(g.Find("conv2_out"));
  const AuditResult r = AuditGraph(g, Target::kOnnxRuntime, NoEvaluation);
  ASSERT_NE(FindingFor(r, "conv2"), nullptr);
  EXPECT_EQ(FindingFor(r, "conv2")->rule, "graph-output");
}

TEST(Audit, OnnxRuntimeSaysWhichAxisIsWrong) {
  Graph g = Quantized(Target::kOnnxRuntime);
  for (size_t i = 0; i < g.node_count(); ++i) {
    Node& n = g.node(static_cast<NodeId>(i));
    if (n.name == "conv2.w_DequantizeLinear") n.attributes["axis"] = int64_t{1};
  }
  const AuditResult r = AuditGraph(g, Target::kOnnxRuntime, NoEvaluation);
  ASSERT_NE(FindingFor(r, "conv2"), nullptr);
  EXPECT_EQ(FindingFor(r, "conv2")->rule, "weight-axis");
}

TEST(Audit, OnnxRuntimeQuantizesFloatWeightsOnTheQuiet) {
  Graph g = Quantized(Target::kOnnxRuntime);
  const NodeId id = g.FindNode("conv2");
  g.node(id).inputs[1] = g.AddConstant("float_w", Ramp({8, 8, 3, 3}));
  const AuditResult r = AuditGraph(g, Target::kOnnxRuntime, NoEvaluation);
  ASSERT_NE(FindingFor(r, "conv2"), nullptr);
  EXPECT_EQ(FindingFor(r, "conv2")->rule, "float-weight-quantized");
  EXPECT_EQ(r.int8_mac_fraction, 1.0);
}

TEST(Audit, ClipIsRedundantWhereTheGridEndsAtItsBounds) {
  const auto audit = [](float scale, float hi) {
    Graph g;
    g.opsets[""] = 17;
    const ValueId x = g.AddInput("x", ValueType::Of(DType::kFloat32, {1, 4, 3, 3}));
    const ValueId w = g.AddConstant("w", Ramp({4, 4, 1, 1}));
    const ValueId c = g.AddValue("c"), y = g.AddValue("y"), z = g.AddValue("z");
    const ValueId lo = g.AddConstant("lo", Tensor::Scalar(0.0F)),
                  high = g.AddConstant("hi", Tensor::Scalar(hi));
    g.AddOp("Conv", {x, w}, {c}, {}, "conv");
    g.AddOp("Clip", {c, lo, high}, {y}, {}, "clip");
    g.AddOp("Conv", {y, w}, {z}, {}, "last");
    g.outputs = {z};
    InferShapes(g, true);
    const QuantizerPlan plan = PlanQuantizers(g, {});
    QuantizerParams p;
    p.activations[x] = {0.02F, 128};
    p.activations[y] = {scale, 0};
    for (const auto& weighted : plan.weighted) p.weight_scales[weighted.node] = {0.01F};
    InsertQuantizers(g, plan, p);
    return AuditGraph(g, Target::kOnnxRuntime, NoEvaluation);
  };
  EXPECT_EQ(FindingFor(audit(6.0F / 255.0F, 6.0F), "conv"), nullptr);
  EXPECT_EQ(FindingFor(audit(5.0F / 255.0F, 6.0F), "conv"), nullptr);
  const AuditResult r = audit(7.0F / 255.0F, 6.0F);
  ASSERT_NE(FindingFor(r, "conv"), nullptr);
  EXPECT_EQ(FindingFor(r, "conv")->rule, "clip-range");
}

// x (1,5,4) -> MatMul -> Add -> Softmax; `batch` -1 is open.
struct LinearLayer {
  explicit LinearLayer(const Shape& bias, int64_t batch = 1, bool matrix = false) {
    graph.opsets[""] = 17;
    ValueType type = ValueType::Of(DType::kFloat32, matrix ? Shape{5, 4} : Shape{1, 5, 4});
    if (batch < 0) type.dims[0] = kUnknownDim;
    const ValueId x = graph.AddInput("x", type);
    const ValueId y = graph.AddValue("y"), z = graph.AddValue("z"), s = graph.AddValue("s");
    graph.AddOp("MatMul", {x, graph.AddConstant("w", Ramp({4, 3}))}, {y}, {}, "linear");
    graph.AddOp("Add", {graph.AddConstant("b", Ramp(bias)), y}, {z}, {}, "bias");
    graph.AddOp("Softmax", {z}, {s}, {}, "softmax");
    graph.outputs = {s};
    InferShapes(graph, true);
  }
  AuditResult Audit(bool as_planned) {
    QuantizerPlan plan = PlanQuantizers(graph, {});
    if (!as_planned) plan.added_biases.clear();
    QuantizerParams p;
    for (const auto& a : plan.activations) p.activations[a.value] = {0.05F, 128};
    for (const auto& w : plan.weighted) p.weight_scales[w.node] = {0.01F};
    InsertQuantizers(graph, plan, p);
    return AuditGraph(graph, Target::kOnnxRuntime, NoEvaluation);
  }
  Graph graph;
};

// Found by comparing with ONNX Runtime's optimized models: MatMul and Add become a Gemm before
// quantizers are looked at, and that Gemm is float if its bias is.
TEST(Audit, OnnxRuntimeMakesAGemmOfMatMulAndAdd) {
  const auto rule = [](LinearLayer layer) {
    const AuditResult r = layer.Audit(false);
    EXPECT_EQ(r.operators, 1);  // the Add is no operator of its own
    const auto* f = FindingFor(r, "linear");
    return f == nullptr ? std::string() : f->rule;
  };
  EXPECT_EQ(rule(LinearLayer({3})), "float-bias");
  EXPECT_EQ(rule(LinearLayer({3}, -1)), "");  // reshaping needs all dimensions
  EXPECT_EQ(rule(LinearLayer({1, 3})), "");   // of three dimensions, only [N]
  EXPECT_EQ(rule(LinearLayer({1, 1, 3})), "");
  EXPECT_EQ(rule(LinearLayer({3}, 1, true)), "float-bias");
  EXPECT_EQ(rule(LinearLayer({3}, -1, true)), "float-bias");
  EXPECT_EQ(rule(LinearLayer({1, 3}, 1, true)), "float-bias");
  for (const bool matrix : {false, true}) {
    for (const Shape& bias : {Shape{3}, Shape{1, 3}}) {
      const AuditResult r = LinearLayer(bias, 1, matrix).Audit(true);
      EXPECT_EQ(r.int8_operators, 1) << bias.ToString();
      EXPECT_TRUE(r.findings.empty()) << bias.ToString();
    }
  }
  const AuditResult r = LinearLayer({3}).Audit(false);
  EXPECT_THAT(FindingFor(r, "linear")->text, HasSubstr("together with Add 'bias' it becomes"));
}

TEST(Audit, TensorRtRefusesWhatOnnxRuntimeWants) {
  const AuditResult r =
      AuditGraph(Quantized(Target::kOnnxRuntime), Target::kTensorRt, NoEvaluation);
  std::map<std::string, int> rules;
  for (const auto& f : r.findings) {
    if (f.fatal) ++rules[f.rule];
  }
  EXPECT_EQ(rules["integer-bias"], 3);
  EXPECT_GT(rules["unsigned"], 0);
  EXPECT_TRUE(r.findings.front().fatal);
}

TEST(Audit, TensorRtRefusesZeroPointsAndIntegerOperators) {
  Graph g = Quantized(Target::kTensorRt);
  SetConstant<int8_t>(g, "x_zero_point", 1);
  const AuditResult r = AuditGraph(g, Target::kTensorRt, NoEvaluation);
  ASSERT_FALSE(r.findings.empty());
  EXPECT_EQ(r.findings[0].rule, "zero-point");
  Graph i;
  i.opsets[""] = 17;
  const ValueId x = i.AddInput("x", ValueType::Of(DType::kInt8, {1, 4}));
  const ValueId w = i.AddInput("w", ValueType::Of(DType::kInt8, {4, 2}));
  const ValueId y = i.AddValue("y");
  i.AddOp("MatMulInteger", {x, w}, {y}, {}, "mm");
  i.outputs = {y};
  const AuditResult ri = AuditGraph(i, Target::kTensorRt, NoEvaluation);
  ASSERT_FALSE(ri.findings.empty());
  EXPECT_EQ(ri.findings[0].rule, "unsupported-operator");
  EXPECT_EQ(ri.int8_operators, 0);
  EXPECT_EQ(AuditGraph(i, Target::kOnnxRuntime, NoEvaluation).int8_operators, 1);
}

TEST(Audit, OthersDoNotKnowOurDomainAndOldOperatorSets) {
  Graph g = Quantized(Target::kOnnxRuntime);
  g.opsets[""] = 12;
  const AuditResult r = AuditGraph(g, Target::kOnnxRuntime, NoEvaluation);
  ASSERT_FALSE(r.findings.empty());
  EXPECT_TRUE(r.findings[0].fatal);
  EXPECT_EQ(r.findings[0].rule, "opset");
  Graph h;
  h.opsets = {{"", 17}, {"octet", 1}};
  const ValueId a = h.AddInput("a", ValueType::Of(DType::kUint8, {1, 4}));
  const ValueId y = h.AddValue("y");
  h.AddOp("QAdd", {a, a}, {y}, {}, "add", "octet");
  h.outputs = {y};
  EXPECT_TRUE(AuditGraph(h, Target::kOnnxRuntime, NoEvaluation).findings.at(0).fatal);
  EXPECT_TRUE(AuditGraph(h, Target::kTensorRt, NoEvaluation).findings.at(0).fatal);
  EXPECT_EQ(AuditGraph(h, Target::kOctet, NoEvaluation).int8_operators, 1);
}

TEST(Audit, OctetGivesLoweringsReason) {
  Graph g = Quantized(Target::kOnnxRuntime);
  g.node(g.FindNode("conv2")).inputs[1] = g.AddConstant("float_w", Ramp({8, 8, 3, 3}));
  const AuditResult r = AuditGraph(g, Target::kOctet, NoEvaluation);
  ASSERT_NE(FindingFor(r, "conv2"), nullptr);
  EXPECT_THAT(FindingFor(r, "conv2")->text, HasSubstr("the weight is not quantized"));
}

}  // namespace
}  // namespace octet
