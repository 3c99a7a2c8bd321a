// Layers with approximate multipliers against their definition: what kernels give passes, one bit
// of one result does not; figures beside sums written out; operands that are dumped, replayed.
#include "evaluate/check_products.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "evaluate/test_models.h"
#include "passes/approximate.h"

namespace octet {
namespace {

constexpr const char* kFormat = "e3m4:bias=int";
constexpr float kInputScale = 0x1p-4F;

// A convolution with stride and padding, a depthwise one, a linear layer; weights of biases of
// their own channel by channel.
Graph Network() {
  test::Net n({1, 2, 7, 6});
  const ValueId a = n.Op("Relu", "relu", {n.Conv("conv", n.x, {4, 2, 3, 3}, 1, 2)});
  const ValueId b = n.Conv("depthwise", a, {4, 1, 3, 3}, 4);
  const ValueId w = n.g.AddConstant("fc.w", test::Random({48, 5}, -1, 1, 7));
  return n.Finish(n.Op("MatMul", "fc", {n.Op("Flatten", "flatten", {b}), w}));
}

Graph Approximate(const std::string& multiplier) {
  Graph g = Network();
  const NumberFormat format = NumberFormat::Parse(kFormat);
  const QuantizerPlan plan = PlanQuantizers(g, {Target::kOctet, false, {}});
  QuantizerParams p;
  p.activation_format = p.weight_format = format;
  for (const auto& a : plan.activations) p.activations[a.value] = {kInputScale, 0};
  std::map<std::string, ApproximateLayer> layers;
  for (const auto& w : plan.weighted) {
    const Tensor& t = *g.ConstantOf(g.node(w.node).inputs[1]);
    const Node& n = g.node(w.node);
    p.weight_scales[w.node] =
        ChooseWeightScales(t.data<float>(), ExtentsOf(t.shape().dims(), w.axis), w.axis, format,
                           n.name)
            .params.scale;
    layers[n.name] = {multiplier, format, 0x1p-3F, 0, {}};
  }
  InsertQuantizers(g, plan, p);
  ApproximateLayers(g, layers);
  InferShapes(g, true);
  return g;
}

class Products : public ::testing::TestWithParam<const char*> {
 protected:
  Products() : graph_(Approximate(GetParam())), data_(test::MakeData(folder_, Network(), 3)) {}

  [[nodiscard]] std::vector<Tensor> Run(const ProductChecker& checker, int64_t sample) const {
    const Executor executor(checker.graph());
    return executor.Run(data_.Load(sample).views());
  }

  test::ScratchFolder folder_{"products"};
  Graph graph_;
  Dataset data_;
};

TEST_P(Products, WhatKernelsGivePasses) {
  const std::vector<VerifyResult::Products> rows = CheckProducts(graph_, data_, {});
  ASSERT_EQ(rows.size(), 3U);
  const std::map<std::string, int64_t> pixels = {{"conv", 48}, {"depthwise", 48}, {"fc", 5}};
  for (const VerifyResult::Products& p : rows) {
    SCOPED_TRACE(p.node);
    EXPECT_EQ(p.multiplier, GetParam());
    EXPECT_EQ(p.op, p.node == "fc" ? "octet.ApproxMatMul" : "octet.ApproxConv");
    EXPECT_EQ(p.x_format, kFormat);
    EXPECT_EQ(p.elements, 3 * pixels.at(p.node));
    EXPECT_EQ(p.different, 0);
    EXPECT_GT(p.sqnr_db, 3);
  }
  EXPECT_TRUE(CheckProducts(Network(), data_, {}).empty());
}

// One bit of one result, anywhere, in any layer, and in no other.
TEST_P(Products, AWrongResultIsFound) {
  for (size_t wrong = 0; wrong < 3; ++wrong)
    for (const bool last : {false, true}) {
      ProductChecker checker(graph_);
      std::vector<Tensor> outputs = Run(checker, 0);
      // Beside the graph's own output: codes and results of each layer.
      ASSERT_EQ(outputs.size(), 7U);
      const auto y = outputs[2 + 2 * wrong].mutable_data<float>();
      float& result = last ? y.back() : y.front();
      result = std::bit_cast<float>(std::bit_cast<uint32_t>(result) ^ 1U);
      checker.Add(outputs);
      checker.Add(Run(checker, 1));
      const auto rows = checker.Results();
      for (size_t l = 0; l < 3; ++l)
        EXPECT_EQ(rows[l].different, l == wrong ? 1 : 0) << rows[l].node << " of " << wrong;
    }
}

// A code that the layer did not read: its results are those of another input.
TEST_P(Products, AWrongCodeIsFound) {
  ProductChecker checker(graph_);
  std::vector<Tensor> outputs = Run(checker, 0);
  auto* codes = static_cast<uint8_t*>(outputs[1].mutable_raw());
  // Pixel (3,2) of the first channel, which windows of stride 2 and padding 1 see once or more.
  codes[3 * 6 + 2] = static_cast<uint8_t>(codes[3 * 6 + 2] ^ 0x40U);
  checker.Add(outputs);
  EXPECT_GT(checker.Results()[0].different, 0);
}

INSTANTIATE_TEST_SUITE_P(Multipliers, Products,
                         ::testing::Values("hw:d=3", "v9:d=3", "qamaa", "qamaa:each_add=on"));

// Against exact products of the same codes, and shares of codes: written out for the linear layer.
TEST(ProductFigures, AreThoseOfTheCodes) {
  const test::ScratchFolder folder("figures");
  const Graph g = Approximate("hw:d=3");
  const Dataset data = test::MakeData(folder, Network(), 1);
  ProductChecker checker(g);
  const Executor executor(checker.graph());
  const std::vector<Tensor> outputs = executor.Run(data.Load(0).views());
  checker.Add(outputs);
  const VerifyResult::Products p = checker.Results()[2];
  ASSERT_EQ(p.node, "fc");

  const Node& node = g.node(g.FindNode("fc"));
  const FloatFormat f = FloatFormat::Parse(kFormat);
  const auto* x = static_cast<const uint8_t*>(outputs[5].raw());
  const auto* w = static_cast<const uint8_t*>(g.ConstantOf(node.inputs[2])->raw());  // (48,5)
  const auto scales = g.ConstantOf(node.inputs[3])->data<float>();
  const auto y = outputs[6].data<float>();
  double sum = 0, largest = 0, noise = 0, signal = 0;
  for (size_t c = 0; c < 5; ++c) {
    double exact = 0;
    for (size_t i = 0; i < 48; ++i)
      exact += static_cast<double>(f.Decode(x[i])) * static_cast<double>(f.Decode(w[i * 5 + c]));
    exact *= static_cast<double>(kInputScale) * static_cast<double>(scales[c]);
    const double error = static_cast<double>(y[c]) - exact;
    sum += error;
    largest = std::max(largest, std::fabs(error));
    noise += error * error;
    signal += exact * exact;
  }
  // Scales are powers of two: every product and sum here is exact in double.
  EXPECT_DOUBLE_EQ(p.mean_error, sum / 5);
  EXPECT_DOUBLE_EQ(p.max_error, largest);
  EXPECT_DOUBLE_EQ(p.rmse, std::sqrt(noise / 5));
  EXPECT_DOUBLE_EQ(p.exact_rms, std::sqrt(signal / 5));
  EXPECT_NEAR(p.sqnr_db, 10 * std::log10(signal / noise), 1e-9);
  int zeros = 0, subnormals = 0;
  for (size_t i = 0; i < 48; ++i) {
    zeros += (x[i] & 0x7f) == 0 ? 1 : 0;
    subnormals += (x[i] & 0x70) == 0 && (x[i] & 0x0f) != 0 ? 1 : 0;
  }
  EXPECT_DOUBLE_EQ(p.x_zero, zeros / 48.0);
  EXPECT_DOUBLE_EQ(p.x_subnormal, subnormals / 48.0);
}

// The files of a layer give its results again, and its codes are those of the input.
TEST(DumpOperands, CanBeReplayed) {
  const test::ScratchFolder folder("dump");
  const Graph g = Approximate("hw:d=3");
  const Dataset data = test::MakeData(folder, Network(), 1);
  for (const std::string layer : {"conv", "depthwise", "fc"}) {
    SCOPED_TRACE(layer);
    const auto files = DumpOperands(g, data, layer, folder.path / "out", OperandFiles::kNpy);
    EXPECT_GE(files.size(), 9U);
    const auto read = [&](const std::string& what) {
      return ReadNpy(folder.path / "out" / (layer + "." + what + ".npy"));
    };
    const auto about =
        nlohmann::json::parse(ReadFile((folder.path / "out" / (layer + ".json")).string()));
    const auto n = about["n"].get<size_t>(), k = about["k"].get<size_t>(),
               rows = about["rows"].get<size_t>(), groups = about["groups"].get<size_t>();
    EXPECT_EQ(groups, layer == "depthwise" ? 4U : 1U);
    EXPECT_EQ(about["x"]["exponent_bias"][0], 3 + 4);  // the format's own, and the scale's
    const Tensor x = read("x"), w = read("w"), of = read("table_of_channel"), sum = read("sum"),
                 unit = read("unit"), bias = read("bias"), y = read("y");
    ASSERT_EQ(x.shape(), (Shape{static_cast<int64_t>(rows), static_cast<int64_t>(groups * k)}));
    std::vector<Tensor> tables;
    for (size_t t = 0; t < about["tables"].get<size_t>(); ++t)
      tables.push_back(read("table" + std::to_string(t)));
    const auto product = [&](size_t channel, uint8_t a, uint8_t b) -> int64_t {
      const Tensor& t = tables[static_cast<size_t>(of.data<int32_t>()[channel])];
      const size_t at = size_t{a} * 256 + b;
      return t.dtype() == DType::kInt64 ? t.data<int64_t>()[at] : t.data<int32_t>()[at];
    };
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < n; ++c) {
        int64_t defined = 0;
        for (size_t i = 0; i < k; ++i)
          defined += product(c, x.data<uint8_t>()[r * groups * k + c / (n / groups) * k + i],
                             w.data<uint8_t>()[c * k + i]);
        ASSERT_EQ(sum.data<int64_t>()[r * n + c], defined);
        ASSERT_EQ(y.data<float>()[r * n + c],
                  static_cast<float>(defined) * unit.data<float>()[c] + bias.data<float>()[c]);
      }
    if (layer != "conv") continue;
    // Pixels of the input, in their windows: stride 2, one pixel of padding.
    const Sample sample = data.Load(0);
    const auto pixels = sample.inputs[0].view().data<float>();
    const FloatFormat format = FloatFormat::Parse(kFormat);
    for (size_t r = 0; r < rows; ++r)
      for (size_t i = 0; i < k; ++i) {
        const size_t row = r / 3 * 2 + i / 3 % 3, column = r % 3 * 2 + i % 3;  // plus padding
        const bool inside = row >= 1 && row <= 7 && column >= 1 && column <= 6;
        const uint8_t code =
            inside ? format.Encode(pixels[(i / 9 * 7 + row - 1) * 6 + column - 1] / kInputScale)
                   : uint8_t{0};
        ASSERT_EQ(x.data<uint8_t>()[r * k + i], code) << r << " " << i;
      }
  }
}

TEST(DumpOperands, NamesTheLayersThereAre) {
  const test::ScratchFolder folder("dump_none");
  const Dataset data = test::MakeData(folder, Network(), 1);
  try {
    (void)DumpOperands(Approximate("hw"), data, "relu", folder.path / "out", OperandFiles::kNpy);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("conv, depthwise, fc"), std::string::npos) << e.what();
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path / "out"));
}

}  // namespace
}  // namespace octet
