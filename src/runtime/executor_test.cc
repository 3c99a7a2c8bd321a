#include "runtime/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "base/parallel.h"
#include "runtime/test_graph.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_graph;  // NOLINT

bool SameBits(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         std::memcmp(a.raw, b.raw, static_cast<size_t>(a.bytes())) == 0;
}

std::vector<float> Values(const Tensor& t) {
  return {t.data<float>().begin(), t.data<float>().end()};
}

// Convolution in double, NCHW: the definition, tap by tap.
std::vector<double> NaiveConv(const Tensor& x, const Tensor& w, const float* bias, int64_t group,
                              int64_t stride, int64_t pad, int64_t dilation) {
  const Shape& s = x.shape();
  const Shape& k = w.shape();
  const int64_t oc = k[0];
  const int64_t icg = k[1];
  const int64_t oh = (s[2] + 2 * pad - (k[2] - 1) * dilation - 1) / stride + 1;
  const int64_t ow = (s[3] + 2 * pad - (k[3] - 1) * dilation - 1) / stride + 1;
  std::vector<double> y;
  for (int64_t n = 0; n < s[0]; ++n) {
    for (int64_t o = 0; o < oc; ++o) {
      for (int64_t i = 0; i < oh; ++i) {
        for (int64_t j = 0; j < ow; ++j) {
          double sum = bias != nullptr ? static_cast<double>(bias[o]) : 0.0;
          for (int64_t c = 0; c < icg; ++c) {
            const int64_t ic = o / (oc / group) * icg + c;
            for (int64_t a = 0; a < k[2]; ++a) {
              for (int64_t b = 0; b < k[3]; ++b) {
                const int64_t h = i * stride - pad + a * dilation;
                const int64_t v = j * stride - pad + b * dilation;
                if (h < 0 || h >= s[2] || v < 0 || v >= s[3]) continue;
                sum += static_cast<double>(x.data<float>()[static_cast<size_t>(
                           ((n * s[1] + ic) * s[2] + h) * s[3] + v)]) *
                       static_cast<double>(w.data<float>()[static_cast<size_t>(
                           ((o * icg + c) * k[2] + a) * k[3] + b)]);
              }
            }
          }
          y.push_back(sum);
        }
      }
    }
  }
  return y;
}

// A small network with every kind of step: stem, depthwise, BatchNorm, residual, pooling, concat,
// classifier.
struct Network {
  TestGraph g;
  ValueId input, stem, before_norm, sum, logits;

  Network() {
    input = g.Input({-1, 3, 33, 31});
    const ValueId c1 =
        g.Op("Conv", {input, g.Constant(Noise({16, 3, 3, 3}, 1, 0.3F)), g.Constant(Noise({16}, 2))},
             {{"strides", std::vector<int64_t>{2, 2}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    stem = g.Op("Relu", {c1});
    before_norm = g.Op("Conv", {stem, g.Constant(Noise({16, 1, 3, 3}, 3, 0.3F))},
                       {{"group", int64_t{16}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    Tensor variance = Noise({16}, 6);
    for (float& v : variance.mutable_data<float>()) v = v * v + 0.5F;
    const ValueId bn = g.Op("BatchNormalization",
                            {before_norm, g.Constant(Noise({16}, 4)), g.Constant(Noise({16}, 5)),
                             g.Constant(Noise({16}, 7)), g.Constant(std::move(variance))});
    const ValueId clip =
        g.Op("Clip", {bn, g.Constant(Tensor::Scalar(0.0F)), g.Constant(Tensor::Scalar(6.0F))});
    const ValueId pw = g.Op("Conv", {clip, g.Constant(Noise({16, 16, 1, 1}, 8, 0.2F))});
    sum = g.Op("Relu", {g.Op("Add", {pw, stem})});
    const ValueId pool = g.Op("MaxPool", {sum},
                              {{"kernel_shape", std::vector<int64_t>{3, 3}},
                               {"strides", std::vector<int64_t>{2, 2}},
                               {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    const ValueId average = g.Op("AveragePool", {sum},
                                 {{"kernel_shape", std::vector<int64_t>{3, 3}},
                                  {"strides", std::vector<int64_t>{2, 2}},
                                  {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    const ValueId both = g.Op("Concat", {pool, average}, {{"axis", int64_t{1}}});
    const ValueId gated = g.Op("Mul", {both, g.Op("Sigmoid", {g.Op("GlobalAveragePool", {both})})});
    const ValueId flat = g.Op("Flatten", {g.Op("GlobalAveragePool", {gated})});
    logits = g.Op("Gemm", {flat, g.Constant(Noise({10, 32}, 9)), g.Constant(Noise({10}, 10))},
                  {{"transB", int64_t{1}}});
    g.Output(g.Op("Softmax", {logits}));
    g.Output(sum);
  }
};

TEST(Executor, ConvolutionOfOneColumnIsThatOfOneRow) {
  const auto run = [](bool column) {
    const auto image = [&](int64_t c, int64_t n) {
      return column ? Shape{2, c, n, 1} : Shape{2, c, 1, n};
    };
    const Tensor x = Noise(image(6, 50), 1);
    TestGraph g;
    const ValueId input =
        g.Input(column ? std::vector<int64_t>{2, 6, 50, 1} : std::vector<int64_t>{2, 6, 1, 50});
    const Tensor w = Noise(column ? Shape{8, 3, 5, 1} : Shape{8, 3, 1, 5}, 2);
    const auto axes = [&](int64_t along, int64_t across) {
      return column ? std::vector<int64_t>{along, across} : std::vector<int64_t>{across, along};
    };
    std::vector<int64_t> pads = axes(3, 0);
    for (int64_t p : axes(1, 0)) pads.push_back(p);
    g.Output(g.Op("Conv", {input, g.Constant(w.Clone()), g.Constant(Noise({8}, 3))},
                  {{"group", int64_t{2}},
                   {"strides", axes(2, 1)},
                   {"dilations", axes(2, 1)},
                   {"pads", pads}}));
    const Executor executor(g.graph);
    const std::vector<TensorView> inputs = {x.view()};
    return Values(executor.Run(inputs)[0]);
  };
  const auto column = run(true);
  ASSERT_EQ(column.size(), 2U * 8U * 23U);
  EXPECT_EQ(column, run(false));
}

TEST(Executor, SubnormalWeightsCountAsZero) {
  // 1e10 * 1e-40 would be a normal float: only weights that were flushed give zero.
  Tensor w =
      Floats(Shape{2, 4, 1, 1}, {1e-40F, -1e-40F, 1e-40F, 1e-40F, 1e-40F, 2.0F, 0.0F, -1e-40F});
  const Tensor x = Floats(Shape{1, 4, 1, 2}, std::vector<float>(8, 1e10F));
  TestGraph g;
  const ValueId input = g.Input({1, 4, 1, 2});
  g.Output(g.Op("Conv", {input, g.Constant(std::move(w))}));
  const Executor executor(g.graph);
  const std::vector<TensorView> inputs = {x.view()};
  EXPECT_THAT(Values(executor.Run(inputs)[0]), ElementsAre(0.0F, 0.0F, 2e10F, 2e10F));
  // The original is let go.
  const Graph& held = executor.graph();
  EXPECT_EQ(held.ConstantOf(held.node(0).inputs[1])->data<float>()[0], 0.0F);
}

TEST(Executor, SubnormalsThatAreNotOnlyFactorsStay) {
  const Tensor x = Floats(Shape{1, 2}, {1e30F, 1e30F});
  {  // the same constant is added to, multiplied with, returned and looked at
    TestGraph g;
    const ValueId input = g.Input({1, 2});
    const ValueId w = g.Constant(Floats(Shape{2, 2}, {1e-40F, 1, 2, 1e-41F}));
    g.Output(g.Op("MatMul", {input, w}));
    g.Output(g.Op("Mul", {input, w}));
    const Tensor z = std::move(g.Run({&x})[1]);
    EXPECT_THAT(Values(z), ElementsAre(1e-40F * 1e30F, 1e30F, 2e30F, 1e-41F * 1e30F));
  }
  const auto w_of = [](TestGraph& g) {
    const ValueId w = g.Constant(Floats(Shape{2, 1}, {1e-40F, 0}));
    g.Output(g.Op("MatMul", {g.Input({1, 2}), w}));
    return w;
  };
  {
    TestGraph g;
    g.Output(w_of(g));
    EXPECT_THAT(Values(g.Run({&x})[1]), ElementsAre(1e-40F, 0.0F));
  }
  {
    TestGraph g;
    const ValueId w = w_of(g);
    std::vector<float> seen;
    (void)g.Run({&x}, {{w}, false}, [&](ValueId, const TensorView& v) {
      seen.assign(static_cast<const float*>(v.raw), static_cast<const float*>(v.raw) + 2);
    });
    EXPECT_THAT(seen, ElementsAre(1e-40F, 0.0F));
  }
  {  // biases and states
    TestGraph g;
    const ValueId input = g.Input({1, 1, 1, 2});
    const ValueId conv = g.Op("Conv", {input, g.Constant(Floats(Shape{1, 1, 1, 1}, {0})),
                                       g.Constant(Floats(Shape{1}, {1e-40F}))});
    g.Output(conv);
    const ValueId sequence = g.Op("Reshape", {input, g.Constant(Ints({1, 1, 2}))});
    // Y = 0 x + 1 h0, through no function
    g.Output(g.Op("RNN",
                  {sequence, g.Constant(Floats(Shape{1, 1, 2}, {0, 0})),
                   g.Constant(Floats(Shape{1, 1, 1}, {1})), kNoValue, kNoValue,
                   g.Constant(Floats(Shape{1, 1, 1}, {1e-40F}))},
                  {{"activations", std::vector<std::string>{"Affine"}},
                   {"activation_alpha", std::vector<float>{1e20F}},
                   {"hidden_size", int64_t{1}}}));
    const Tensor image = Floats(Shape{1, 1, 1, 2}, {1, 1});
    const auto results = g.Run({&image});
    EXPECT_THAT(Values(results[0]), ElementsAre(1e-40F, 1e-40F));
    EXPECT_THAT(Values(results[1]), ElementsAre(1e-40F * 1e20F));
  }
}

TEST(Executor, ConvolutionsEqualTheDefinition) {
  struct Case {
    int64_t n, ic, h, w, oc, k, group, stride, pad, dilation;
  };
  for (const Case& c : {Case{1, 3, 9, 11, 8, 3, 1, 2, 1, 1}, Case{2, 16, 7, 5, 16, 3, 16, 1, 1, 1},
                        Case{1, 8, 6, 6, 20, 1, 1, 1, 0, 1}, Case{2, 12, 9, 8, 6, 3, 3, 1, 2, 2},
                        Case{1, 5, 13, 4, 7, 4, 1, 3, 2, 1}, Case{1, 6, 5, 5, 12, 3, 6, 2, 1, 1}}) {
    const Tensor x = Noise({c.n, c.ic, c.h, c.w}, 1);
    const Tensor w = Noise({c.oc, c.ic / c.group, c.k, c.k}, 2);
    const Tensor b = Noise({c.oc}, 3);
    const auto expected =
        NaiveConv(x, w, b.data<float>().data(), c.group, c.stride, c.pad, c.dilation);
    const Attributes attributes = {{"group", c.group},
                                   {"strides", std::vector<int64_t>{c.stride, c.stride}},
                                   {"pads", std::vector<int64_t>{c.pad, c.pad, c.pad, c.pad}},
                                   {"dilations", std::vector<int64_t>{c.dilation, c.dilation}}};
    // Sum of K products, each rounded: K eps times the largest possible partial sum; |x w| stays
    // below 16.
    const auto terms = static_cast<double>(c.ic / c.group * c.k * c.k);
    const double bound = terms * std::ldexp(1.0, -24) * terms * 16;
    for (const bool known : {true, false}) {
      TestGraph g;
      const ValueId in = g.Input({-1, c.ic, -1, -1});
      std::vector<const Tensor*> given = {&x};
      ValueId wi = kNoValue;
      if (known) {
        wi = g.Constant(w.Clone());
      } else {
        wi = g.Input({-1, -1, -1, -1});
        given.push_back(&w);
      }
      g.Output(g.Op("Conv", {in, wi, g.Constant(b.Clone())}, attributes));
      const Tensor y = std::move(g.Run(given)[0]);
      ASSERT_EQ(y.elements(), static_cast<int64_t>(expected.size()));
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(y.data<float>()[i]), expected[i], bound)
            << i << " known " << known;
      }
    }
  }
}

TEST(Executor, OneImageDependsNeitherOnTheBatchNorOnThreads) {
  const Network net;
  const Tensor batch = Noise({7, 3, 33, 31}, 42);
  const int64_t image = 3 * 33 * 31;
  const Executor executor(net.g.graph);
  std::vector<std::vector<Tensor>> together;
  for (int threads : {1, 2}) {
    const ThreadScope scope(threads);
    const TensorView view = batch.view();
    together.push_back(executor.Run({&view, 1}));
  }
  for (size_t k = 0; k < 2; ++k)
    EXPECT_TRUE(SameBits(together[0][k].view(), together[1][k].view()));
  for (int64_t i = 0; i < 7; ++i) {
    for (int threads : {1, 2}) {
      const ThreadScope scope(threads);
      const TensorView one = {DType::kFloat32, Shape{1, 3, 33, 31},
                              batch.data<float>().data() + i * image};
      const auto alone = executor.Run({&one, 1});
      for (size_t k = 0; k < 2; ++k) {
        const auto n = static_cast<size_t>(alone[k].elements());
        EXPECT_EQ(
            std::memcmp(alone[k].raw(),
                        together[0][k].data<float>().data() + static_cast<size_t>(i) * n, n * 4),
            0)
            << "image " << i << " output " << k << " threads " << threads;
      }
    }
  }
}

TEST(Executor, GemmRowsDoNotDependOnEachOther) {
  for (const auto& [k, n] : {std::pair<int64_t, int64_t>{100, 33}, {512, 10}, {1024, 1000}}) {
    TestGraph g;
    const ValueId in = g.Input({-1, k});
    g.Output(g.Op("Relu",
                  {g.Op("Gemm", {in, g.Constant(Noise({k, n}, 1)), g.Constant(Noise({n}, 2))})}));
    const Executor executor(g.graph);
    const Tensor x = Noise({67, k}, 3);
    for (int threads : {1, 2}) {
      const ThreadScope scope(threads);
      const TensorView all = x.view();
      const auto together = executor.Run({&all, 1});
      for (int64_t i : {0, 6, 31, 66}) {
        const ThreadScope one_thread(1);
        const TensorView row = {DType::kFloat32, Shape{1, k}, x.data<float>().data() + i * k};
        const auto alone = executor.Run({&row, 1});
        EXPECT_EQ(std::memcmp(alone[0].raw(), together[0].data<float>().data() + i * n,
                              static_cast<size_t>(n) * 4),
                  0);
      }
    }
  }
}

TEST(Executor, TapsSeePlainValuesOfTheirOwnTypeAndStopFusion) {
  const Network net;
  const Tensor x = Noise({2, 3, 33, 31}, 1);
  // A BatchNorm that is folded rounds elsewhere.
  const auto plain = net.g.Run({&x}, {.taps = {net.before_norm}, .explain = false}, [](auto...) {});
  std::vector<ValueId> all;
  for (size_t i = 0; i < net.g.graph.value_count(); ++i) all.push_back(static_cast<ValueId>(i));
  std::map<ValueId, Tensor> seen;
  const auto tapped =
      net.g.Run({&x}, {.taps = all, .explain = false}, [&](ValueId id, const TensorView& view) {
        EXPECT_FALSE(seen.contains(id)) << net.g.graph.value(id).name;
        seen[id] = Tensor::CopyOf(view);
      });
  EXPECT_EQ(seen.size(), all.size());
  // Relu and Clip give the same bits fused and alone. So does what follows but for the residual
  // sum, which oneDNN does before storing to memory in both cases: also the same.
  for (size_t k = 0; k < 2; ++k) EXPECT_TRUE(SameBits(plain[k].view(), tapped[k].view())) << k;
  EXPECT_TRUE(SameBits(seen[net.input].view(), x.view()));
  EXPECT_TRUE(SameBits(seen[net.sum].view(), plain[1].view()));
  // Relu of the tapped convolution is the tapped Relu, in logical order.
  const Node& relu = net.g.graph.node(net.g.graph.value(net.stem).producer);
  const auto before = seen[relu.inputs[0]].data<float>();
  const auto after = seen[net.stem].data<float>();
  for (size_t i = 0; i < before.size(); ++i) ASSERT_EQ(after[i], before[i] > 0 ? before[i] : 0.0F);
}

TEST(Executor, FusesAndReportsIt) {
  const Network net;
  const std::vector<Shape> shapes = {{1, 3, 33, 31}};
  const Executor fused(net.g.graph, {.taps = {}, .explain = true});
  std::vector<std::string> ops;
  int64_t macs = 0;
  for (const StepInfo& s : fused.Explain(shapes)) {
    ops.push_back(s.op);
    macs += s.macs;
  }
  EXPECT_THAT(ops, testing::Contains("Conv+Relu"));
  EXPECT_THAT(ops, testing::Contains("Conv+Add+Relu"));
  // 17x16 positions: stem 16*27, depthwise 16*9, pointwise 16*16; Gemm 32*10.
  EXPECT_EQ(macs, 17 * 16 * (16 * 27 + 16 * 9 + 16 * 16) + 320);
  const Executor tapped(net.g.graph,
                        {.taps = {net.g.graph.node(net.g.graph.value(net.stem).producer).inputs[0]},
                         .explain = false});
  std::vector<std::string> tapped_ops;
  for (const StepInfo& s : tapped.Explain(shapes)) tapped_ops.push_back(s.op);
  EXPECT_THAT(tapped_ops, testing::Not(testing::Contains("Conv+Relu")));
  const Tensor x = Noise({1, 3, 33, 31}, 1);
  const TensorView view = x.view();
  EXPECT_EQ(fused.Profile({&view, 1}).size(), ops.size());
}

TEST(Executor, FoldsBatchNormAndBiasUnlessWhatTheyReadIsTapped) {
  // Small integers, and scales that are powers of two: nothing is rounded, wherever it is folded.
  const auto whole = [](const Shape& shape, uint32_t seed) {
    Tensor t = Noise(shape, seed, 4);
    for (float& v : t.mutable_data<float>()) v = std::nearbyint(v);
    return t;
  };
  TestGraph g;
  const ValueId x = g.Input({1, 3, 9, 9});
  const ValueId conv = g.Op("Conv", {x, g.Constant(whole({4, 3, 3, 3}, 1))});
  const ValueId biased = g.Op("Add", {conv, g.Constant(whole({4, 1, 1}, 2))});
  const ValueId norm =
      g.Op("BatchNormalization",
           {biased, g.Constant(Floats(Shape{4}, {1, 2, -4, 0})), g.Constant(whole({4}, 3)),
            g.Constant(whole({4}, 4)), g.Constant(Floats(Shape{4}, {4, 1, 0.25F, 16}))},
           {{"epsilon", 0.0F}});
  g.Output(g.Op("Relu", {norm}));
  const auto ops = [&](std::vector<ValueId> taps) {
    const Executor executor(g.graph, {.taps = std::move(taps), .explain = false});
    std::string names;
    for (const StepInfo& s : executor.Explain(std::vector<Shape>{{1, 3, 9, 9}}))
      if (s.op != "reorder") names += s.op + " ";
    return names;
  };
  EXPECT_EQ(ops({}), "Conv+Relu ");
  EXPECT_EQ(ops({conv}), "Conv Add BatchNormalization Relu ");
  EXPECT_EQ(ops({biased}), "Conv BatchNormalization Relu ");
  EXPECT_EQ(ops({norm}), "Conv Relu ");
  const Tensor in = whole({1, 3, 9, 9}, 5);
  const auto folded = g.Run({&in});
  const auto apart =
      g.Run({&in}, {.taps = {conv, biased}, .explain = false}, [](ValueId, const TensorView&) {});
  EXPECT_TRUE(SameBits(folded[0].view(), apart[0].view()));
  EXPECT_GT(*std::ranges::max_element(folded[0].data<float>()), 1);
}

TEST(Executor, SaysWhichPartOfTheTimeAStepBelongsTo) {
  TestGraph g;
  const ValueId x = g.Input({1, 16, 8, 8});
  const ValueId scale = g.Constant(Tensor::Scalar(0.1F));
  const ValueId zero = g.Constant(Tensor::Scalar<uint8_t>(3));
  const ValueId codes = g.Op("QuantizeLinear", {x, scale, zero});
  const ValueId pooled = g.Op("MaxPool", {codes}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  Tensor w(DType::kInt8, Shape{4, 16, 1, 1});
  const ValueId conv = g.Op("QLinearConv", {pooled, scale, zero, g.Constant(std::move(w)), scale,
                                            g.Constant(Tensor::Scalar<int8_t>(0)), scale, zero});
  const ValueId real = g.Op("DequantizeLinear", {conv, scale, zero});
  g.Output(g.Op("Exp", {g.Op("Conv", {real, g.Constant(Noise({4, 4, 1, 1}, 1))})}));
  const Executor executor(g.graph);
  std::map<std::string, StepPart> parts;
  for (const StepInfo& s : executor.Explain(std::vector<Shape>{{1, 16, 8, 8}}))
    parts[s.op] = s.part;
  EXPECT_EQ(parts.at("QuantizeLinear"), StepPart::kConversion);
  EXPECT_EQ(parts.at("MaxPool"), StepPart::kOnCodes);
  EXPECT_EQ(parts.at("QLinearConv"), StepPart::kEightBitLayer);
  EXPECT_EQ(parts.at("DequantizeLinear"), StepPart::kConversion);
  EXPECT_EQ(parts.at("Conv"), StepPart::kFloatLayer);
  EXPECT_EQ(parts.at("Exp"), StepPart::kOther);
}

TEST(Executor, RunsFromSeveralThreads) {
  const Network net;
  const Executor executor(net.g.graph);
  std::vector<Tensor> inputs;
  std::vector<std::vector<Tensor>> expected;
  for (uint32_t i = 0; i < 4; ++i) {
    inputs.push_back(Noise({1, 3, 33, 31}, 100 + i));
    const ThreadScope scope(1);
    const TensorView view = inputs.back().view();
    expected.push_back(executor.Run({&view, 1}));
  }
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const ThreadScope scope(1);
      for (int round = 0; round < 5; ++round) {
        const TensorView view = inputs[i].view();
        const auto y = executor.Run({&view, 1});
        wrong[i] += SameBits(y[0].view(), expected[i][0].view()) ? 0 : 1;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(Executor, OutputsMayBeInputsConstantsOrTheSameValueTwice) {
  TestGraph g;
  const ValueId in = g.Input({2, 3});
  const ValueId shaped = g.Op("Reshape", {in, g.Constant(Ints({3, 2}))});
  const ValueId neg = g.Op("Neg", {shaped});
  g.Output(in);
  g.Output(shaped);
  g.Output(g.Constant(Floats({1}, {7})));
  g.Output(neg);
  g.Output(neg);
  g.Output(g.Op("Identity", {neg}));
  const Tensor x = Floats({2, 3}, {1, 2, 3, 4, 5, 6});
  const auto y = g.Run({&x});
  EXPECT_THAT(Values(y[0]), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(y[1].shape(), (Shape{3, 2}));
  EXPECT_THAT(Values(y[1]), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(Values(y[2]), ElementsAre(7));
  for (size_t i = 3; i < 6; ++i) EXPECT_THAT(Values(y[i]), ElementsAre(-1, -2, -3, -4, -5, -6));
}

TEST(Executor, InPlaceStepsDoNotHarmValuesStillNeeded) {
  TestGraph g;
  const ValueId in = g.Input({4});
  const ValueId a = g.Op("Neg", {in});
  const ValueId b = g.Op("Relu", {a});  // a is read again below
  const ValueId c = g.Op("Add", {a, b});
  const ValueId d = g.Op("Mul", {c, c});  // the same input twice
  g.Output(g.Op("Sub", {d, a}));
  const Tensor x = Floats({4}, {-1, 2, -3, 4});
  // a = 1 -2 3 -4; b = 1 0 3 0; c = 2 -2 6 -4; d = 4 4 36 16; d - a = 3 6 33 20
  EXPECT_THAT(Values(g.Run({&x})[0]), ElementsAre(3, 6, 33, 20));
}

TEST(Executor, ResidualThatIsReadAgainIsNotOverwritten) {
  TestGraph g;
  const ValueId in = g.Input({1, 4, 6, 6});
  const ValueId x2 = g.Op("Add", {in, in});
  const Tensor w = Noise({4, 4, 3, 3}, 2);
  const ValueId conv =
      g.Op("Conv", {x2, g.Constant(w.Clone())}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  g.Output(
      g.Op("Add", {conv, x2}));  // the residual is the convolution's own input, and both end here
  const Tensor x = Noise({1, 4, 6, 6}, 1);
  Tensor twice = x.Clone();
  for (float& v : twice.mutable_data<float>()) v += v;
  const auto conv_only = NaiveConv(twice, w, nullptr, 1, 1, 1, 1);
  const auto y = g.Run({&x});
  for (size_t i = 0; i < conv_only.size(); ++i) {
    // 36 products below 64 in size, each sum rounded.
    ASSERT_NEAR(static_cast<double>(y[0].data<float>()[i]),
                conv_only[i] + static_cast<double>(twice.data<float>()[i]),
                36 * 36 * 64 * std::ldexp(1.0, -24))
        << i;
  }
}

TEST(Executor, PlansPerShapeAndComputedShapesAreKnown) {
  TestGraph g;
  const ValueId in = g.Input({-1, 2, -1});
  const ValueId shape = g.Op("Shape", {in});
  const ValueId n = g.Op("Gather", {shape, g.Constant(Ints({0}))}, {{"axis", int64_t{0}}});
  const ValueId target = g.Op("Concat", {n, g.Constant(Ints({-1}))}, {{"axis", int64_t{0}}});
  g.Output(g.Op("Reshape", {in, target}));
  const Executor executor(g.graph);
  for (int64_t batch : {1, 3, 1}) {
    const Tensor x = Noise({batch, 2, 5}, 1);
    const TensorView view = x.view();
    const auto y = executor.Run({&view, 1});
    EXPECT_EQ(y[0].shape(), (Shape{batch, 10}));
    EXPECT_EQ(std::memcmp(y[0].raw(), x.raw(), static_cast<size_t>(x.bytes())), 0);
  }
}

TEST(Executor, ShapesThatDependOnDataEndAPart) {
  TestGraph g;
  const ValueId in = g.Input({2, 6});
  const ValueId target = g.Input({2}, DType::kInt64);
  const ValueId doubled = g.Op("Add", {in, in});
  const ValueId shaped = g.Op("Reshape", {doubled, target});
  const ValueId soft = g.Op("Relu", {shaped});
  g.Output(g.Op("Add", {soft, soft}));
  g.Output(doubled);
  const Tensor x = Floats({2, 6}, {1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6});
  for (const auto& dims : {std::vector<int64_t>{3, 4}, {4, 3}, {12, -1}}) {
    const Tensor t = Ints(dims);
    std::vector<ValueId> order;
    const auto y = g.Run({&x, &t}, {.taps = {doubled, shaped, soft}, .explain = false},
                         [&](ValueId id, const TensorView&) { order.push_back(id); });
    EXPECT_EQ(y[0].shape()[0], dims[0]);
    EXPECT_THAT(Values(y[0]), ElementsAre(4, 0, 8, 0, 12, 0, 16, 0, 20, 0, 24, 0));
    EXPECT_THAT(Values(y[1]), ElementsAre(2, -2, 4, -4, 6, -6, 8, -8, 10, -10, 12, -12));
    EXPECT_THAT(order, ElementsAre(doubled, shaped, soft));
  }
}

TEST(Executor, NamesEveryOperatorItCannotRun) {
  TestGraph g;
  const ValueId in = g.Input({1});
  g.Output(g.Op("Wobble", {g.Op("Frobnicate", {in}, {}, "acme")}));
  try {
    const Executor executor(g.graph);
    FAIL() << "expected an error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(e.what(),
                testing::AllOf(HasSubstr("Wobble"), HasSubstr("Frobnicate"), HasSubstr("'acme'"),
                               HasSubstr("opset 17"), HasSubstr("2 nodes")));
  }
}

TEST(Executor, RefusesInputsThatDoNotFit) {
  TestGraph g;
  const ValueId in = g.Input({-1, 3});
  g.Output(g.Op("Relu", {in}));
  const Executor executor(g.graph);
  const Tensor rank(DType::kFloat32, Shape{3});
  const Tensor size(DType::kFloat32, Shape{2, 4});
  const Tensor type(DType::kInt8, Shape{2, 3});
  for (const Tensor* t : {&rank, &size, &type}) {
    const TensorView view = t->view();
    try {
      (void)executor.Run({&view, 1});
      FAIL() << "expected an error";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadData);
      EXPECT_THAT(e.what(), HasSubstr("'input'"));
    }
  }
  EXPECT_THROW((void)executor.Run({}), Error);
}

TEST(Executor, EmptyBatch) {
  const Network net;
  const Tensor x(DType::kFloat32, Shape{0, 3, 33, 31});
  const auto y = net.g.Run({&x});
  EXPECT_EQ(y[0].shape(), (Shape{0, 10}));
}

// Weights behind a DequantizeLinear are packed, and their float copy is dropped: it is made again
// for another shape of the input.
TEST(Executor, FoldedWeightsAreNotKept) {
  TestGraph g;
  const ValueId x = g.Input({-1, 160});
  Tensor codes(DType::kInt8, Shape{160, 200});
  for (int64_t i = 0; i < codes.elements(); ++i)
    codes.mutable_data<int8_t>()[static_cast<size_t>(i)] = static_cast<int8_t>(i * 37);
  const ValueId weight =
      g.Op("DequantizeLinear", {g.Constant(std::move(codes)), g.Constant(Floats({}, {0.01F}))});
  g.Output(g.Op("MatMul", {x, weight}));
  const Executor executor(g.graph);
  for (const int64_t rows : {3, 5, 3}) {
    const Tensor input = Noise({rows, 160}, static_cast<uint32_t>(rows));
    const std::vector<TensorView> views = {input.view()};
    const std::vector<Shape> shapes = {input.shape()};
    const auto got = executor.Run(views);
    const auto want = Executor(g.graph).Run(views);
    ASSERT_EQ(got[0].shape(), (Shape{rows, 200}));
    const auto a = got[0].data<float>(), b = want[0].data<float>();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
    EXPECT_EQ(executor.ConstantBytes(shapes), 0);
    EXPECT_GT(executor.ActivationBytes(shapes), -1);
    EXPECT_GE(executor.Explain(shapes)[0].packed_bytes, 160 * 200 * 4);
  }
}

}  // namespace
}  // namespace octet
