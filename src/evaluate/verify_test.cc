#include "evaluate/verify.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "evaluate/exact_element.h"
#include "evaluate/test_models.h"
#include "octet/error.h"
#include "passes/lower.h"

namespace octet {
namespace {

TEST(ExactElement, ConvolutionByHandAndItsTie) {
  // x = 2 (q - 10), w = 0.5 * {1, 3}; y = x0 * 0.5 + x1 * 1.5 + 0.25 on a grid of 0.5 with zero
  // point 7.
  Graph g;
  g.opsets[""] = 17;
  const ValueId q = g.AddInput("q", ValueType::Of(DType::kUint8, {1, 2, 1, 1}));
  const ValueId s2 = g.AddConstant("s2", Tensor::Scalar(2.0F)),
                z10 = g.AddConstant("z10", Tensor::Scalar<uint8_t>(10));
  const ValueId sh = g.AddConstant("sh", Tensor::Scalar(0.5F)),
                z7 = g.AddConstant("z7", Tensor::Scalar<uint8_t>(7));
  const ValueId wq = g.AddConstant("wq", Tensor::Of<int8_t>({1, 2, 1, 1}, {1, 3}));
  const ValueId b = g.AddConstant("b", Tensor::Of<float>({1}, {0.25F}));
  const ValueId x = g.AddValue("x"), w = g.AddValue("w"), y = g.AddValue("y"), c = g.AddValue("c");
  g.AddOp("DequantizeLinear", {q, s2, z10}, {x});
  g.AddOp("DequantizeLinear", {wq, sh}, {w});
  g.AddOp("Conv", {x, w, b}, {y});
  g.AddOp("QuantizeLinear", {y, sh, z7}, {c});
  g.outputs = {c};
  InferShapes(g, true);
  const Tensor codes = Tensor::Of<uint8_t>({1, 2, 1, 1}, {13, 12});
  const TensorView in = codes.view();
  // x = {6, 4}: 3 + 6 + 0.25 = 9.25 -> 18.5 steps + 7: a tie.
  const CodeCandidates tie = ExactElement(g, {&in, 1}).Quantized(c, 0);
  ASSERT_EQ(tie.codes.size(), 1u);
  EXPECT_DOUBLE_EQ(tie.codes[0].value, 25.5);
  // The bias is a quarter of the accumulator's unit: the INT8 run rounds it away, and may go either
  // way.
  EXPECT_EQ(tie.possible, (std::vector<int32_t>{25, 26}));
  const Tensor other = Tensor::Of<uint8_t>({1, 2, 1, 1}, {14, 12});
  const TensorView in2 = other.view();
  EXPECT_EQ(ExactElement(g, {&in2, 1}).Quantized(c, 0).codes[0].value, 27.5);
}

TEST(ExactElement, AwayFromATieThereIsOneCode) {
  Graph g;
  g.opsets[""] = 17;
  const ValueId x = g.AddInput("x", ValueType::Of(DType::kFloat32, {4}));
  const ValueId s = g.AddConstant("s", Tensor::Scalar(0.1F)),
                z = g.AddConstant("z", Tensor::Scalar<int8_t>(0));
  const ValueId r = g.AddValue("r"), c = g.AddValue("c");
  g.AddOp("Relu", {x}, {r});
  g.AddOp("QuantizeLinear", {r, s, z}, {c});
  g.outputs = {c};
  InferShapes(g, true);
  const Tensor values = Tensor::Of<float>({4}, {0.26F, -3.0F, 100.0F, 0.25F});
  const TensorView in = values.view();
  const ExactElement exact(g, {&in, 1});
  EXPECT_EQ(exact.Quantized(c, 0).possible, (std::vector<int32_t>{3}));
  EXPECT_EQ(exact.Quantized(c, 1).possible, (std::vector<int32_t>{0}));
  EXPECT_EQ(exact.Quantized(c, 2).possible, (std::vector<int32_t>{127}));
  EXPECT_EQ(exact.Quantized(c, 3).possible,
            (std::vector<int32_t>{2, 3}));  // 0.25 / 0.1F = 2.49999996
}

TEST(Verify, FakeEqualsReal) {
  const test::ScratchFolder folder("verify");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 12);
  for (Target target : {Target::kOnnxRuntime, Target::kTensorRt}) {
    const Graph q = test::QuantizeByExtrema(g, data, target);
    const VerifyResult r = VerifyGraph(q, data, {1, {}});
    for (const auto& l : r.layers) {
      SCOPED_TRACE(l.node + " " + l.op);
      EXPECT_EQ(l.unexplained, 0);
      EXPECT_LE(l.max_difference, 1);
      EXPECT_GT(l.elements, 0);
    }
    EXPECT_TRUE(r.holds);
    EXPECT_EQ(r.samples, 12);
    EXPECT_GE(r.layers.size(), target == Target::kTensorRt ? 5u : 7u);
    EXPECT_LT(r.output_max_difference, 0.05);
    const VerifyResult two = VerifyGraph(q, data, {2, {}});
    EXPECT_EQ(two.different, r.different);
    EXPECT_EQ(two.output_max_difference, r.output_max_difference);
  }
}

// What a fault of the lowering or of a kernel would look like.
TEST(Verify, FaultsAreNotTies) {
  const test::ScratchFolder folder("verify_faults");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 4);
  const Graph q = test::QuantizeByExtrema(g, data);
  Graph good = q;
  Lower(good, EvaluateNode);
  EXPECT_TRUE(VerifyLowered(q, good, data).holds);
  const auto unexplained = [&](const std::function<void(Graph&)>& spoil) {
    Graph bad = good;
    spoil(bad);
    const VerifyResult r = VerifyLowered(q, bad, data, {1, {}});
    EXPECT_FALSE(r.holds);
    int64_t elsewhere = 0;
    for (const auto& l : r.layers) {
      if (l.node != "conv3" && l.node != "gap") elsewhere += l.different;
    }
    EXPECT_EQ(elsewhere, 0);  // only the layer at fault is blamed
    return r.unexplained;
  };
  EXPECT_GT(unexplained([](Graph& b) { test::ScaleConstant(b, "conv3.multiplier", 1.02F); }), 0);
  EXPECT_GT(unexplained([](Graph& b) {
              b.node(b.FindNode("conv3")).attributes["y_zero_point"] = int64_t{90};
            }),
            0);
  EXPECT_GT(unexplained([](Graph& b) {
              b.node(b.FindNode("conv3")).attributes["x_zero_point"] = int64_t{1};
            }),
            0);
  EXPECT_GT(unexplained([](Graph& b) { b.node(b.FindNode("gap")).attributes["ratio"] = 1.05F; }),
            0);
  // A bias thirty accumulator steps off: far below a code, yet it moves some elements across their
  // tie.
  EXPECT_GT(unexplained([](Graph& b) {
              Node& n = b.node(b.FindNode("conv3"));
              Tensor bias = b.ConstantOf(n.inputs[2])->Clone();
              for (int32_t& v : bias.mutable_data<int32_t>()) v += 30;
              n.inputs[2] = b.AddConstant("spoiled", std::move(bias));
            }),
            0);
}

TEST(Verify, NothingQuantizedIsAnError) {
  const test::ScratchFolder folder("verify_float");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 2);
  EXPECT_THROW((void)VerifyGraph(g, data), Error);
}

}  // namespace
}  // namespace octet
