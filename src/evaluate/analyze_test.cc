#include "evaluate/analyze.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "evaluate/rescaling.h"
#include "evaluate/test_models.h"
#include "octet/error.h"
#include "passes/channel_groups.h"
#include "passes/simplify.h"

namespace octet {
namespace {

const AnalyzeResult::Layer& LayerOf(const AnalyzeResult& r, const std::string& node) {
  for (const auto& l : r.layers) {
    if (l.node == node) return l;
  }
  throw std::runtime_error("no layer " + node);
}

TEST(Analyze, EightBitsGiveTheSqnrTheyShould) {
  const test::ScratchFolder folder("analyze");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 8);
  const Graph q = test::QuantizeByExtrema(g, data);
  const Analysis a = AnalyzeGraphs(g, q, data, {1, {}});
  EXPECT_TRUE(a.left_out.empty());
  EXPECT_TRUE(a.rescaled.empty());
  EXPECT_EQ(a.result.samples, 8);
  ASSERT_EQ(a.result.layers.size(), 7u);  // four convolutions, Add, GlobalAveragePool, Gemm
  for (const auto& l : a.result.layers) {
    SCOPED_TRACE(l.node);
    // Uniform noise of a step of 1/255 of the range: 10 log10(12 * 255^2 * signal power / range^2),
    // about 59 dB less the crest factor (below 20 dB here) and the weights' own noise.
    EXPECT_GT(l.local_sqnr_db, 30);
    EXPECT_LT(l.local_sqnr_db, 65);
    EXPECT_LE(l.accumulated_sqnr_db, l.local_sqnr_db + 3);
    EXPECT_GT(l.cosine, 0.999);
    // Extrema lose at most the half step by which the zero point was rounded, and what the layers
    // before did.
    EXPECT_LT(l.saturated, 0.02);
  }
  // The first layer's inputs are the float model's in both views.
  EXPECT_EQ(LayerOf(a.result, "conv1").local_sqnr_db,
            LayerOf(a.result, "conv1").accumulated_sqnr_db);
  EXPECT_EQ(LayerOf(a.result, "depthwise").value, "clip_out");
  const Analysis two = AnalyzeGraphs(g, q, data, {2, {}});
  EXPECT_EQ(two.result.layers[3].accumulated_sqnr_db, a.result.layers[3].accumulated_sqnr_db);
}

TEST(Analyze, RanksTheLayerThatWasSpoiledFirstAndOnlyThere) {
  const test::ScratchFolder folder("analyze_rank");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 4);
  Graph q = test::QuantizeByExtrema(g, data);
  // conv2's output grid a fifth as wide: it saturates.
  for (const char* name : {"conv2_out_scale"}) test::ScaleConstant(q, name, 0.2F);
  const Analysis a = AnalyzeGraphs(g, q, data, {1, {}});
  const auto& worst = a.result.layers[a.result.ranking[0]];
  EXPECT_EQ(worst.node, "conv2");
  EXPECT_GT(worst.saturated, 0.01);
  EXPECT_GT(LayerOf(a.result, "conv3").local_sqnr_db, 30);        // by itself it is fine
  EXPECT_LT(LayerOf(a.result, "conv3").accumulated_sqnr_db, 25);  // but its input is spoiled
}

// Factors that a constant took, of one number before or of one per channel, or a normalization.
// Channels by 2^-2 ... 2^2, over and over.
void ScaleByPowersOfTwo(Graph& graph, const std::vector<ChannelGroup>& groups) {
  for (const auto& group : groups) {
    std::vector<float> f;
    for (int64_t i = 0; i < group.channels; ++i)
      f.push_back(std::exp2(static_cast<float>(i % 5) - 2));
    ScaleChannels(graph, group, f);
  }
}

TEST(Analyze, FindsChannelFactorsOfConstantsAgain) {
  const test::ScratchFolder folder("analyze_constants");
  test::Net n({-1, 3, 12, 12});
  const ValueId c = n.g.AddConstant("c", test::Random({3, 1, 1}, 1, 2, 5));
  const ValueId scaled = n.Op("Mul", "mul", {c, n.Op("Sigmoid", "s", {n.x})});
  const ValueId a = n.Op("Tanh", "tanh", {n.Conv("c1", scaled, {8, 3, 3, 3})});
  const ValueId d = n.g.AddConstant("d", test::Random({1, 8, 1, 1}, 1, 2, 6));
  const ValueId e = n.Op("Tanh", "t2", {n.Conv("c2", n.Op("Div", "div", {a, d}), {12, 8, 1, 1})});
  const ValueId rows = n.Op("Transpose", "rows", {e}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  const ValueId sum = n.Op("ReduceMean", "mean", {rows}, {{"axes", std::vector<int64_t>{-1}}});
  const ValueId root = n.g.AddConstant("root", Tensor::Scalar(3.0F));
  const ValueId even = n.Op("Mul", "even", {n.Op("Sub", "centred", {rows, sum}), root});
  const ValueId w = n.g.AddConstant("fc.w", test::Random({12, 4}, -1, 1, 8));
  const ValueId gamma = n.g.AddConstant("gamma", test::Random({4}, 1, 2, 7));
  const ValueId norm = n.Op("LayerNormalization", "norm", {n.Op("MatMul", "fc", {even, w}), gamma});
  const ValueId last = n.g.AddConstant("last.w", test::Random({4, 5}, -1, 1, 9));
  const Graph g = n.Finish(n.Op("MatMul", "last", {norm, last}));
  const Dataset data = test::MakeData(folder, g, 4);

  Graph rescaled = g;
  const auto groups = FindChannelGroups(rescaled, false).groups;
  ASSERT_EQ(groups.size(), 4u);
  ScaleByPowersOfTwo(rescaled, groups);
  const Graph q = test::QuantizeByExtrema(rescaled, data);
  Graph aligned = g;
  EXPECT_EQ(AlignRescaling(aligned, q).size(), 4u);
  for (const char* node : {"c1", "c2", "fc", "last"}) {
    const auto weight = [&](const Graph& of) {
      return of.ConstantOf(of.node(of.FindNode(node)).inputs[1])->data<float>();
    };
    const auto got = weight(aligned), want = weight(rescaled);
    // Float factors are powers of two: found again to a few roundings.
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-6 * std::fabs(want[i]));
  }
}

TEST(Analyze, FindsChannelFactorsAgain) {
  const test::ScratchFolder folder("analyze_rescaled");
  test::Net n({-1, 3, 12, 12});
  const ValueId a = n.Op("Relu", "r1", {n.Conv("c1", n.x, {16, 3, 3, 3})});
  const ValueId b = n.Op("Relu", "r2", {n.Conv("dw", a, {16, 1, 3, 3}, 16)});
  const ValueId c = n.Op("Relu", "r3", {n.Conv("c2", b, {8, 16, 1, 1})});
  const Graph g = n.Finish(n.Op("GlobalAveragePool", "gap", {n.Conv("c3", c, {8, 8, 3, 3})}));
  const Dataset data = test::MakeData(folder, g, 4);

  Graph scaled = g;
  const auto groups = FindChannelGroups(scaled, false).groups;
  ASSERT_GE(groups.size(), 2u);
  ScaleByPowersOfTwo(scaled, groups);
  const Graph q = test::QuantizeByExtrema(scaled, data);
  Graph aligned = g;
  EXPECT_EQ(AlignRescaling(aligned, q).size(), groups.size());
  // The weights are what they were before quantization, but for the error of the estimate.
  for (const char* node : {"c1", "dw", "c2", "c3"}) {
    const auto got =
        aligned.ConstantOf(aligned.node(aligned.FindNode(node)).inputs[1])->data<float>();
    const auto want =
        scaled.ConstantOf(scaled.node(scaled.FindNode(node)).inputs[1])->data<float>();
    for (size_t i = 0; i < got.size(); ++i) {
      // Two factors, each to step / (sqrt(12) |w'|) = 1 / (127 sqrt(12)) or better for the largest
      // weight: six sigma.
      EXPECT_NEAR(got[i], want[i], 2 * 6 / (127 * std::sqrt(12.0)) * std::fabs(want[i]))
          << node << " " << i;
    }
  }
  const Analysis analysis = AnalyzeGraphs(g, q, data, {1, {}});
  EXPECT_EQ(analysis.rescaled.size(), groups.size());
  // Measured against the float model that was really quantized, the figures are the same.
  const Analysis direct = AnalyzeGraphs(scaled, q, data, {1, {}});
  EXPECT_TRUE(direct.rescaled.empty());
  ASSERT_EQ(analysis.result.layers.size(), direct.result.layers.size());
  for (size_t i = 0; i < direct.result.layers.size(); ++i) {
    const auto& got = analysis.result.layers[i];
    const auto& want = direct.result.layers[i];
    EXPECT_NEAR(got.local_sqnr_db, want.local_sqnr_db, 1) << got.node;
    EXPECT_NEAR(got.accumulated_sqnr_db, want.accumulated_sqnr_db, 1) << got.node;
  }
}

// Conv -> Add of a constant -> Relu -> Conv, whose weight is a sum of constants.
Graph TwoAdds() {
  test::Net n({-1, 3, 12, 12});
  const auto constant = [&](const std::string& name, const Shape& shape, uint32_t seed) {
    return n.g.AddConstant(name, test::Random(shape, -1, 1, seed));
  };
  const ValueId sum =
      n.Op("Add", "sum", {constant("p", {4, 8, 1, 1}, 1), constant("q", {4, 8, 1, 1}, 2)});
  const ValueId added =
      n.Op("Add", "add", {n.Conv("conv1", n.x, {8, 3, 3, 3}), constant("c", {8, 1, 1}, 3)});
  return n.Finish(n.Op("GlobalAveragePool", "gap",
                       {n.Op("Conv", "conv2", {n.Op("Relu", "relu", {added}), sum})}));
}

// Found with a model of ONNX Runtime's quantizer: it folds constants, but no biases.
TEST(Analyze, FoldsWhatTheQuantizedModelFoldedNodeByNode) {
  const test::ScratchFolder folder("analyze_folded");
  const Graph g = TwoAdds();
  const Dataset data = test::MakeData(folder, g, 4);
  Graph constants = g;
  FoldConstants(constants, EvaluateNode);
  const Graph kept = test::QuantizeByExtrema(constants, data);
  const Analysis a = AnalyzeGraphs(g, kept, data, {1, {}});
  EXPECT_TRUE(a.left_out.empty());
  EXPECT_EQ(LayerOf(a.result, "conv1").value, "conv1_out");
  // The same against the model that was quantized.
  const Analysis direct = AnalyzeGraphs(constants, kept, data, {1, {}});
  ASSERT_EQ(a.result.layers.size(), direct.result.layers.size());
  for (size_t i = 0; i < direct.result.layers.size(); ++i)
    EXPECT_EQ(a.result.layers[i].local_sqnr_db, direct.result.layers[i].local_sqnr_db);

  // As other programs rename nodes.
  Graph renamed = kept;
  Node add = renamed.node(renamed.FindNode("add"));
  renamed.RemoveNode(renamed.FindNode("add"));
  add.name = "another";
  renamed.AddNode(std::move(add));
  EXPECT_TRUE(AnalyzeGraphs(g, renamed, data, {1, {}}).left_out.empty());

  Graph folded = constants;
  ASSERT_EQ(FoldBias(folded).size(), 1u);
  const Analysis b = AnalyzeGraphs(g, test::QuantizeByExtrema(folded, data), data, {1, {}});
  EXPECT_TRUE(b.left_out.empty());
  EXPECT_EQ(LayerOf(b.result, "conv1").value, "relu_out");
}

TEST(Analyze, ModelsThatHaveNothingInCommonAreRefused) {
  const test::ScratchFolder folder("analyze_refuse");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 2);
  EXPECT_THROW((void)AnalyzeGraphs(g, g, data), Error);  // nothing quantized
  test::Net n({-1, 3, 12, 12});
  const Graph other = n.Finish(n.Conv("another", n.x, {4, 3, 3, 3}));
  EXPECT_THROW((void)AnalyzeGraphs(other, test::QuantizeByExtrema(g, data), data), Error);
}

}  // namespace
}  // namespace octet
