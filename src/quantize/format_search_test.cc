// Formats by what they do to outputs, where that and what they do to the tensor disagree.
#include "quantize/format_search.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/test_folder.h"
#include "files/npy.h"
#include "graph/graph_builder.h"
#include "graph/ops.h"
#include "numerics/error_stats.h"
#include "quantize/road.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// A linear layer of two inputs: a large one that it multiplies by next to nothing, and one a
// thousand times smaller that it makes its outputs of. int8 suits the tensor, whose power is in the
// first; the outputs want exponents.
class SmallInputsDecide : public ::testing::Test {
 protected:
  SmallInputsDecide() {
    GraphBuilder b(3);
    const ValueId x = b.Input("x", {1, 32});
    Tensor w(DType::kFloat32, Shape{32, 8});
    for (int64_t k = 0; k < 32; ++k) {
      for (int64_t n = 0; n < 8; ++n)
        w.mutable_data<float>()[static_cast<size_t>(k * 8 + n)] = k < 16 ? 1e-6F : b.Next();
    }
    const ValueId weight = b.graph().AddConstant("w", std::move(w));
    b.Output(b.Op("MatMul", "layer", {x, weight}, {1, 8}));
    graph_ = b.graph();
    Tensor data(DType::kFloat32, Shape{16, 32});
    for (size_t i = 0; i < 16 * 32; ++i)
      data.mutable_data<float>()[i] = b.Next() * (i % 32 < 16 ? 100.0F : 0.1F);
    WriteNpy(folder_.path() / "x.npy", data.view());
    data_ = Dataset::Open(folder_.path() / "x.npy", InputSpecs(graph_));
  }

  QuantizeResult Quantize(const std::string& recipe, Graph* graph) const {
    *graph = graph_;
    RoadOptions options;
    options.threads = 1;
    options.allow_noise = true;
    return QuantizeGraph(*graph, &*data_, Recipe::Parse("preset: naive\ntarget: octet\n" + recipe),
                         options);
  }

  double SqnrDb(const Graph& quantized) const {
    const Executor a(graph_), b(quantized);
    ErrorStats stats;
    for (int64_t i = 0; i < data_->size(); ++i) {
      const Sample s = data_->Load(i);
      const std::vector<TensorView> inputs = {s.inputs[0].view()};
      stats.Add(a.Run(inputs)[0].data<float>(), b.Run(inputs)[0].data<float>());
    }
    return stats.SqnrDb();
  }

  TestFolder folder_;
  Graph graph_;
  std::optional<Dataset> data_;
};

TEST_F(SmallInputsDecide, WhatOutputsLose) {
  const std::string search = "activation_format: 'search:int8,e5m2'\nweight_format: int8\n";
  Graph by_output, by_tensor;
  const QuantizeResult output = Quantize(search + "search_by: output\n", &by_output);
  const QuantizeResult tensor = Quantize(search + "search_by: tensor\n", &by_tensor);
  EXPECT_EQ(output.activations.at(0).format, "e5m2");
  EXPECT_EQ(tensor.activations.at(0).format, "int8");
  EXPECT_GT(SqnrDb(by_output), SqnrDb(by_tensor) + 10);
  EXPECT_EQ(Recipe().search_by, "output");
}

// Both at once: the pair that is best together, as running every pair shows.
TEST_F(SmallInputsDecide, PairsOfFormats) {
  const std::vector<std::string> names = {"int8", "e5m2", "e3m4"};
  double best = -1000;
  std::string best_x, best_w;
  for (const std::string& x : names) {
    for (const std::string& w : names) {
      Graph graph;
      (void)Quantize("activation_format: " + x + "\nweight_format: " + w + "\n", &graph);
      const double got = SqnrDb(graph);
      if (got > best) {
        best = got;
        best_x = x;
        best_w = w;
      }
    }
  }
  Graph graph;
  const QuantizeResult found = Quantize(
      "activation_format: 'search:int8,e5m2,e3m4'\nweight_format: 'search:int8,e5m2,e3m4'\n",
      &graph);
  EXPECT_EQ(found.activations.at(0).format, best_x);
  EXPECT_EQ(found.layers.at(0).format, best_w);
}

// With nothing to search, or one side float32, everything else is as it was.
TEST_F(SmallInputsDecide, Float32IsNotQuantized) {
  Graph graph;
  QuantizeResult r = Quantize("activation_format: float32\nweight_format: int8\n", &graph);
  EXPECT_TRUE(r.activations.empty());
  EXPECT_EQ(r.layers.size(), 1U);
  EXPECT_GT(SqnrDb(graph), 40);
  r = Quantize("activation_format: int8\nweight_format: float32\n", &graph);
  EXPECT_EQ(r.activations.size(), 1U);
  EXPECT_TRUE(r.layers.empty());
  r = Quantize("activation_format: float32\nweight_format: 'search:int4,e2m1'\n", &graph);
  EXPECT_TRUE(r.activations.empty());
  EXPECT_EQ(r.layers.size(), 1U);
  ExpectError(
      ErrorCode::kUnsupported,
      [&] { (void)Quantize("activation_format: float32\nweight_format: float32\n", &graph); },
      "layer", "float32 by the recipe");
}

TEST_F(SmallInputsDecide, VotesAndStatisticsAlone) {
  Graph graph;
  QuantizeResult r =
      Quantize("activation_format: 'vote:e4m3'\nweight_format: 'vote:e4m3'\n", &graph);
  // Uniform numbers want mantissas: spec/fp8.md 10.2.
  EXPECT_EQ(r.activations.at(0).format, "e1m6");
  // Floats without a sign are out where values are negative.
  r = Quantize("activation_format: 'search:ue2m6,e4m3'\nweight_format: int8\n", &graph);
  EXPECT_EQ(r.activations.at(0).format, "e4m3");
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] { (void)Quantize("activation_format: 'search:ue2m6,ue3m5'\n", &graph); }, "cannot hold");
  // Statistics alone: by tensors, and says so.
  const Recipe recipe =
      Recipe::Parse("preset: naive\ntarget: octet\nactivation_format: 'search:int8,e5m2'\n");
  CalibrationOptions options;
  options.allow_noise = true;
  const Statistics statistics = CalibrateGraph(graph_, *data_, recipe, options).statistics;
  RoadOptions road;
  road.statistics = &statistics;
  graph = graph_;
  r = QuantizeGraph(graph, nullptr, recipe, road);
  EXPECT_EQ(r.activations.at(0).format, "int8");
  ASSERT_EQ(r.warnings.size(), 1U);
  EXPECT_NE(r.warnings[0].find("statistics alone"), std::string::npos);
}

// What no grid with one end, or no logits, can be asked for.
TEST_F(SmallInputsDecide, EstimatorsThatMakeNoSense) {
  Graph graph;
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] { (void)Quantize("activation_format: int8\nestimator: mse-2d\n", &graph); }, "mse-2d",
      "zero point");
  // Of what the rule's operator makes; what it reads goes by the recipe.
  const QuantizeResult r = Quantize(
      "quantize_outputs: true\nlayers: [{match: layer, estimator: cross-entropy}]\n", &graph);
  ASSERT_EQ(r.activations.size(), 2U);
  EXPECT_EQ(r.activations[0].method, "minmax");
  EXPECT_EQ(r.activations[1].method, "cross-entropy");
  EXPECT_EQ(Quantize("activation_format: int8\nestimator: golden-section\n", &graph)
                .activations.at(0)
                .method,
            "golden-section");
}

}  // namespace
}  // namespace octet
