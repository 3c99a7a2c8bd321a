// Smoothing is right: it leaves the float function alone, outliers collapse per-tensor INT8, and it
// heals them.
#include "quantize/rescale.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "calibrate/smoothing_factors.h"
#include "files/npy.h"
#include "graph/graph_builder.h"
#include "graph/ops.h"
#include "numerics/error_stats.h"
#include "quantize/calibration.h"
#include "quantize/road.h"
#include "runtime/executor.h"

namespace octet {
namespace {

constexpr int64_t kSamples = 6;
constexpr int64_t kSide = 9;

// Normalization over the last axis of [1,T,C] as exporters write it out: x / sqrt(mean(x^2) + eps)
// times a constant; `centred`, of x - mean(x), plus a constant.
ValueId Norm(GraphBuilder& b, const std::string& name, ValueId x, bool centred) {
  const Shape shape = b.graph().value(x).type.static_shape();
  const Shape column{shape[0], shape[1], 1};
  const auto mean = [&](const std::string& of, ValueId v) {
    return b.Op("ReduceMean", name + of, {v}, column, {{"axes", std::vector<int64_t>{-1}}});
  };
  if (centred) x = b.Op("Sub", name + "/centred", {x, mean("/mean", x)}, shape);
  const ValueId square =
      b.Op("Pow", name + "/square", {x, b.Constant(name + ".two", {}, {2})}, shape);
  const ValueId shifted =
      b.Op("Add", name + "/eps",
           {mean("/variance", square), b.Constant(name + ".eps", {}, {1e-5F})}, column);
  const ValueId normal =
      b.Op("Div", name + "/normal", {x, b.Op("Sqrt", name + "/root", {shifted}, column)}, shape);
  const ValueId scaled =
      b.Op("Mul", name + "/gamma", {b.Noise(name + ".gamma", {shape[2]}), normal}, shape);
  return centred ? b.Add(name + "/beta", scaled, b.Noise(name + ".beta", {shape[2]})) : scaled;
}

// [1,T,K] by noise (K,n).
ValueId Linear(GraphBuilder& b, const std::string& name, ValueId x, int64_t n) {
  const Shape in = b.graph().value(x).type.static_shape();
  return b.Op("MatMul", name, {x, b.Noise(name + ".w", {in[2], n}, 0.3F)}, {in[0], in[1], n});
}

// A transformer block of one head with RMSNorm written out, and a last layer.
void AddBlock(GraphBuilder& b) {
  const Shape shape{1, 5, 32};
  const ValueId x = b.Input("x", shape);
  const ValueId h = Norm(b, "norm1", x, false);
  const ValueId keys = b.Op("Transpose", "kt", {Linear(b, "k", h, 32)}, {1, 32, 5},
                            {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId scores = b.Op("MatMul", "qk", {Linear(b, "q", h, 32), keys}, {1, 5, 5});
  const ValueId mixed =
      b.Op("MatMul", "mixed", {b.Like("Softmax", "weights", scores), Linear(b, "v", h, 32)}, shape);
  const ValueId stream = b.Add("sum1", x, Linear(b, "o", mixed, 32));
  const ValueId up = Linear(b, "up", Norm(b, "norm2", stream, false), 48);
  const ValueId sum = b.Add("sum2", stream, Linear(b, "down", b.Like("Relu", "act", up), 32));
  b.Output(Linear(b, "head", Norm(b, "norm3", sum, false), 16));
}

// The pairs of the issue: two convolutions, a depthwise one, a grouped one, two linear layers. Each
// ends in a last operator, so that the pair's activation is quantized on both sides. And a
// transformer block.
enum class Pair { kConv, kDepthwise, kGrouped, kLinear, kBlock };

GraphBuilder MakePair(Pair pair) {
  GraphBuilder b(7);
  if (pair == Pair::kBlock) {
    AddBlock(b);
    return b;
  }
  if (pair == Pair::kLinear) {
    const ValueId x = b.Input("x", {1, 24});
    const ValueId h =
        b.Like("Relu", "h",
               b.Op("Gemm", "first", {x, b.Noise("w1", {24, 32}, 0.3F), b.Noise("b1", {32}, 0.1F)},
                    {1, 32}));
    b.Output(b.Op("Gemm", "second", {h, b.Noise("w2", {32, 16}, 0.3F), b.Noise("b2", {16}, 0.1F)},
                  {1, 16}));
    return b;
  }
  const ValueId x = b.Input("x", {1, 4, kSide, kSide});
  const ValueId h = b.Like("Relu", "h", b.Conv("first", x, 16, 3));
  const int64_t groups = pair == Pair::kConv ? 1 : pair == Pair::kDepthwise ? 16 : 4;
  const ValueId second = b.Conv("second", h, 16, 3, groups);
  b.Output(b.Conv("last", b.Like("Relu", "r", second), 8, 1));
  return b;
}

// Two channels times 80 where they are made, divided by it where they are read.
Graph WithOutliers(Graph graph, const std::string& only = {}) {
  const auto found = FindChannelGroups(graph, false);
  EXPECT_FALSE(found.groups.empty());
  for (const ChannelGroup& g : found.groups) {
    if (!only.empty() && g.name != only) continue;
    std::vector<float> factors(static_cast<size_t>(g.channels), 1.0F);
    factors[1] = factors[static_cast<size_t>(g.channels) - 2] = 1.0F / 80;
    ScaleChannels(graph, g, factors);
  }
  graph.Compact();
  InferShapes(graph, true);
  return graph;
}

// A pair, data for it, and what quantizing it does.
class PairWorld {
 protected:
  explicit PairWorld(Pair pair) {
    GraphBuilder b = MakePair(pair);
    plain_ = b.graph();
    Shape shape = plain_.value(plain_.inputs[0]).type.static_shape();
    shape.set(0, kSamples);
    Tensor x(DType::kFloat32, shape);
    for (float& v : x.mutable_data<float>()) v = b.Next();
    path_ = std::filesystem::path(::testing::TempDir()) /
            ("smoothing_" + std::to_string(static_cast<int>(pair)) + ".npy");
    WriteNpy(path_, x.view());
    data_ = Dataset::Open(path_, InputSpecs(plain_));
  }

  ErrorStats Compare(const Graph& reference, const Graph& test) const {
    const Executor a(reference);
    const Executor b(test);
    ErrorStats stats;
    for (int64_t i = 0; i < data_->size(); ++i) {
      const Sample s = data_->Load(i);
      const std::vector<TensorView> inputs = {s.inputs[0].view()};
      stats.Add(a.Run(inputs)[0].data<float>(), b.Run(inputs)[0].data<float>());
    }
    return stats;
  }

  Graph Quantized(Graph graph, Switch smooth, QuantizeResult* result = nullptr) const {
    Recipe recipe = Recipe::Preset("naive");
    recipe.smooth = smooth;
    RoadOptions options;
    options.threads = 1;
    options.allow_noise = true;
    auto r = QuantizeGraph(graph, &*data_, recipe, options);
    if (result != nullptr) *result = std::move(r);
    return graph;
  }

  Graph plain_;
  std::filesystem::path path_;
  std::optional<Dataset> data_;
};

class Smoothing : public ::testing::TestWithParam<Pair>, public PairWorld {
 protected:
  Smoothing() : PairWorld(GetParam()) {}
};

class ConvMaxima : public ::testing::Test, public PairWorld {
 protected:
  ConvMaxima() : PairWorld(Pair::kConv) {}
};

TEST_P(Smoothing, OutliersLeaveTheFunctionAlone) {
  const ErrorStats stats = Compare(plain_, WithOutliers(plain_));
  // Each factor is divided out again with one rounding on either side: relative 2^-23 a term.
  EXPECT_GT(stats.SqnrDb(), 110);
}

TEST_P(Smoothing, HealsWhatOutliersBreak) {
  const Graph outliers = WithOutliers(plain_);
  const double sound = Compare(plain_, Quantized(plain_, Switch::kOff)).SqnrDb();
  const double broken = Compare(plain_, Quantized(outliers, Switch::kOff)).SqnrDb();
  QuantizeResult result;
  const double healed = Compare(plain_, Quantized(outliers, Switch::kOn, &result)).SqnrDb();
  // A factor of 80 costs log2(80) = 6.3 of 8 bits, 38 dB; a part of the signal survives in the
  // outliers themselves.
  EXPECT_LT(broken, sound - 12);
  EXPECT_GT(healed, sound - 3);
  EXPECT_LT(result.float_difference, 1e-5);
  for (const SmoothingRow& row : result.smoothing) {
    EXPECT_TRUE(row.applied);
    if (row.round > 1) continue;
    ASSERT_EQ(row.alphas.size(), 20U);  // none, 0.05 ... 0.95
    EXPECT_TRUE(std::isnan(row.alphas[0]));
    EXPECT_FLOAT_EQ(row.alphas[1], 0.05F);
    EXPECT_FLOAT_EQ(row.alphas[19], 0.95F);
    for (size_t i = 1; i < row.errors.size(); ++i) EXPECT_GE(row.errors[i], row.errors[0] * 1e-6);
  }
}

// spec smoothquant.md §5.0: maxima of view(-1, C) on NCHW mix all channels; factors made of them
// equalize nothing.
TEST_F(ConvMaxima, MixedOverChannelsHealNothing) {
  Graph outliers = WithOutliers(plain_, "h");
  const ChannelGroup group = FindChannelGroups(outliers, false).groups.at(0);
  const ValueId h = outliers.Find("h");
  const auto collected =
      CollectStatistics(outliers, {{h, 1}}, *data_, {.threads = 1, .allow_noise = true});
  const auto right = collected.statistics.At("h").ChannelAbsMax();
  ExecutorOptions options;
  options.taps = {h};
  std::vector<float> wrong(right.size(), 0.0F);
  const Executor executor(outliers, options);
  for (int64_t i = 0; i < data_->size(); ++i) {
    const Sample s = data_->Load(i);
    const std::vector<TensorView> inputs = {s.inputs[0].view()};
    (void)executor.Run(inputs, [&](ValueId, const TensorView& v) {
      const auto x = v.data<float>();
      for (size_t f = 0; f < x.size(); ++f)
        wrong[f % wrong.size()] = std::max(wrong[f % wrong.size()], std::fabs(x[f]));
    });
  }
  const auto w = ConsumerWeightAbsMax(outliers, group);
  const auto spread = [](const std::vector<float>& v) {
    return *std::max_element(v.begin(), v.end()) / *std::min_element(v.begin(), v.end());
  };
  // The outliers stand 80 times above the others; the mixed maxima all see them.
  EXPECT_GT(spread(right), 20);
  EXPECT_LT(spread(wrong), 4);

  const auto error = [&](const std::vector<float>& activation) {
    Graph g = outliers;
    SmoothingOptions smoothing;
    ScaleChannels(g, group, SmoothingFactors(activation, w, smoothing));
    g.Compact();
    InferShapes(g, true);
    return Compare(plain_, Quantized(g, Switch::kOff)).SqnrDb();
  };
  EXPECT_GT(error(right), error(wrong) + 6);
}

std::string PairName(const ::testing::TestParamInfo<Pair>& info) {
  static const char* kNames[] = {"Conv", "Depthwise", "Grouped", "Linear", "Block"};
  return kNames[static_cast<size_t>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Pairs, Smoothing,
                         ::testing::Values(Pair::kConv, Pair::kDepthwise, Pair::kGrouped,
                                           Pair::kLinear, Pair::kBlock),
                         PairName);

// Every group times 2^-3 ... 2^4 by channels, over and over, and the function is the same: powers
// of two round nothing away, and sums of the readers have the order they had.
void ExpectScaledTheSame(GraphBuilder b, size_t groups) {
  const Graph& plain = b.graph();
  Graph scaled = plain;
  const auto found = FindChannelGroups(scaled, false);
  ASSERT_EQ(found.groups.size(), groups) << (found.skipped.empty() ? "" : found.skipped[0].reason);
  for (const ChannelGroup& g : found.groups) {
    std::vector<float> factors;
    for (int64_t c = 0; c < g.channels; ++c)
      factors.push_back(std::exp2(static_cast<float>(c % 8) - 3));
    ScaleChannels(scaled, g, factors);
  }
  scaled.Compact();
  InferShapes(scaled, true);
  scaled.Verify("after ScaleChannels");
  std::vector<Tensor> inputs;
  std::vector<TensorView> views;
  for (ValueId id : plain.inputs) {
    inputs.emplace_back(DType::kFloat32, plain.value(id).type.static_shape());
    for (float& v : inputs.back().mutable_data<float>()) v = b.Next();
  }
  for (const Tensor& t : inputs) views.push_back(t.view());
  const auto before = Executor(plain).Run(views), after = Executor(scaled).Run(views);
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].shape(), after[i].shape());
    const auto was = before[i].data<float>(), is = after[i].data<float>();
    for (size_t k = 0; k < was.size(); ++k) ASSERT_EQ(was[k], is[k]) << i << " " << k;
  }
}

TEST(ScaleChannels, NormalizationWrittenOut) {
  for (bool centred : {false, true}) {
    GraphBuilder b(3);
    const ValueId x = b.Input("x", {1, 5, 16});
    const ValueId h = Norm(b, "norm", x, centred);
    b.Output(b.Add("sum", x, Linear(b, "a", h, 16)));
    b.Output(Linear(b, "b", h, 7));
    ExpectScaledTheSame(b, 1);
  }
}

TEST(ScaleChannels, RmsNormalization) {
  GraphBuilder b(3);
  b.graph().opsets[""] = 23;
  const ValueId x = b.Input("x", {1, 5, 16});
  const ValueId sum = b.Add("sum", x, b.Like("Tanh", "tanh", x));
  b.Output(Linear(b, "a",
                  b.Op("RMSNormalization", "norm", {sum, b.Noise("gamma", {16})}, {1, 5, 16}), 16));
  ExpectScaledTheSame(b, 1);
}

TEST(ScaleChannels, OneNumberBehindNormalizationIsSpread) {
  GraphBuilder b(3);
  const ValueId x = b.Input("x", {1, 5, 16});
  const ValueId norm =
      b.Op("Div", "normal",
           {x, b.Op("ReduceL2", "length", {x}, {1, 5, 1}, {{"axes", std::vector<int64_t>{-1}}})},
           {1, 5, 16});
  const ValueId h = b.Op("Mul", "h", {norm, b.Constant("four", {1, 1, 1}, {4})}, {1, 5, 16});
  b.Output(Linear(b, "a", b.Op("Sub", "s", {b.Constant("one", {}, {1}), h}, {1, 5, 16}), 6));
  ExpectScaledTheSame(b, 1);
}

// One constant for both operators, either side of them, of more dimensions than what they read.
TEST(ScaleChannels, FactorOnEitherSide) {
  for (const char* op : {"Mul", "Div"}) {
    for (bool constant_first : {false, true}) {
      if (op == std::string("Div") && constant_first) continue;
      GraphBuilder b(5);
      const ValueId x = b.Like("Tanh", "tanh", b.Input("x", {5, 16}));
      const ValueId c = b.Noise("c", {1, 1, 16});
      const auto side = constant_first ? std::vector{c, x} : std::vector{x, c};
      const ValueId h = b.Op(op, "h", side, {1, 5, 16});
      b.Output(Linear(b, "a", h, 6));
      b.Output(Linear(b, "b", h, 8));
      b.Output(b.Op(op, "other", side, {1, 5, 16}));
      ExpectScaledTheSame(b, 1);
    }
  }
}

TEST(ScaleChannels, FactorOfImages) {
  GraphBuilder b(5);
  const ValueId x = b.Like("Sigmoid", "sigmoid", b.Input("x", {2, 6, 5, 4}));
  const ValueId h = b.Op("Mul", "h", {x, b.Noise("c", {1, 6, 1, 1})}, {2, 6, 5, 4});
  const ValueId shifted =
      b.Op("Sub", "shifted", {h, b.Constant("mean", {6, 1, 1}, {1, 2, 3, 4, 5, 6})}, {2, 6, 5, 4});
  b.Output(b.Conv("conv", shifted, 4, 3));
  b.Output(b.Conv("depthwise", shifted, 6, 1, 6));
  ExpectScaledTheSame(b, 1);
}

// down(silu(gate) * up): up carries the scaling.
TEST(ScaleChannels, GatedLinearUnit) {
  for (bool up_first : {false, true}) {
    GraphBuilder b(7);
    const ValueId x = b.Input("x", {1, 5, 12});
    const ValueId gate = Linear(b, "gate", x, 16);
    const ValueId silu =
        b.Op("Mul", "silu", {gate, b.Like("Sigmoid", "sigmoid", gate)}, {1, 5, 16});
    const ValueId up = b.Add("biased", Linear(b, "up", x, 16), b.Noise("bias", {16}));
    const auto sides = up_first ? std::vector{up, silu} : std::vector{silu, up};
    b.Output(Linear(b, "down", b.Op("Mul", "product", sides, {1, 5, 16}), 12));
    ExpectScaledTheSame(b, 1);
  }
}

// An image times its gate, which reads it, too.
TEST(ScaleChannels, SqueezeAndExcite) {
  GraphBuilder b(7);
  const ValueId x = b.Like("Relu", "relu", b.Conv("stem", b.Input("x", {1, 3, 6, 5}), 16, 3));
  const ValueId mean = b.Op("GlobalAveragePool", "mean", {x}, {1, 16, 1, 1});
  const ValueId less = b.Like("Relu", "less", b.Conv("squeeze", mean, 8, 1));
  const ValueId gate = b.Like("Sigmoid", "gate", b.Conv("excite", less, 16, 1));
  b.Output(b.Conv("head", b.Op("Mul", "product", {x, gate}, {1, 16, 6, 5}), 4, 1));
  ExpectScaledTheSame(b, 2);
}

TEST(Equalize, LeavesNormalizationAlone) {
  GraphBuilder b(3);
  b.Output(Linear(b, "a", Norm(b, "norm", b.Input("x", {1, 5, 16}), true), 16));
  EXPECT_EQ(Equalize(b.graph(), false), 0);
}

TEST(Equalize, LeavesTheFunctionAloneAndEvensRanges) {
  GraphBuilder b = MakePair(Pair::kDepthwise);
  Graph scaled = WithOutliers(b.graph());
  EXPECT_EQ(Equalize(scaled, false), 2);
  const auto found = FindChannelGroups(scaled, false);
  for (const ChannelGroup& g : found.groups) {
    const auto produced = ProducerWeightAbsMax(scaled, g);
    const auto consumed = ConsumerWeightAbsMax(scaled, g);
    for (size_t c = 0; c < produced.size(); ++c) EXPECT_NEAR(produced[c] / consumed[c], 1.0F, 0.5F);
  }
}

}  // namespace
}  // namespace octet
