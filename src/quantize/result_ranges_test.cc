// Approximate products in the road: the range they are rounded on, and biases corrected with them.
#include "quantize/result_ranges.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/test_folder.h"
#include "files/npy.h"
#include "graph/graph_builder.h"
#include "quantize/calibration.h"
#include "quantize/road.h"
#include "runtime/executor.h"

namespace octet {
namespace {

class ApproximateConv : public ::testing::Test {
 protected:
  ApproximateConv() {
    GraphBuilder b(5);
    b.Output(b.Conv("layer", b.Input("x", {1, 8, 6, 6}), 4, 3));
    graph_ = b.graph();
    Tensor data(DType::kFloat32, Shape{6, 8, 6, 6});
    for (float& v : data.mutable_data<float>()) v = std::fabs(b.Next());
    WriteNpy(folder_.path() / "x.npy", data.view());
    data_ = Dataset::Open(folder_.path() / "x.npy", InputSpecs(graph_));
  }

  // Mean of each channel's error, and the squared error of a pixel.
  struct Outcome {
    float result_scale = 0;
    std::vector<double> mean = std::vector<double>(4);
    double squares = 0;
  };
  Outcome Quantize(const std::string& more) const {
    Graph graph = graph_;
    RoadOptions options;
    options.threads = 1;
    options.allow_noise = true;
    const QuantizeResult result = QuantizeGraph(
        graph, &*data_,
        Recipe::Parse("preset: naive\ntarget: octet\nactivation_format: 'e3m4:bias=int'\n"
                      "weight_format: 'e3m4:bias=int'\n" +
                      more),
        options);
    Outcome outcome;
    outcome.result_scale = result.layers.at(0).result_scale;
    const Executor a(graph_), b(graph);
    constexpr size_t kPixels = 36;
    const auto n = static_cast<double>(kPixels * static_cast<size_t>(data_->size()));
    double squares = 0;
    for (int64_t i = 0; i < data_->size(); ++i) {
      const Sample s = data_->Load(i);
      const std::vector<TensorView> inputs = {s.inputs[0].view()};
      const auto x = a.Run(inputs), y = b.Run(inputs);
      for (size_t k = 0; k < 4 * kPixels; ++k) {
        const double e =
            static_cast<double>(y[0].data<float>()[k]) - static_cast<double>(x[0].data<float>()[k]);
        outcome.mean[k / kPixels] += e / n;
        squares += e * e / n;
      }
    }
    outcome.squares = squares;
    return outcome;
  }

  TestFolder folder_;
  Graph graph_;
  std::optional<Dataset> data_;
};

// 72 products make a result: most of them are small, and lost on its range.
TEST_F(ApproximateConv, FindsASmallerRange) {
  for (const char* multiplier : {"hw:d=3", "v9:d=3"}) {
    const std::string by = "multiplier: '" + std::string(multiplier) + "'\nresult_range: ";
    const Outcome whole = Quantize(by + "minmax\n");
    const Outcome found = Quantize(by + "search\n");
    EXPECT_LT(found.result_scale, whole.result_scale) << multiplier;
    int exponent = 0;
    EXPECT_EQ(std::frexp(found.result_scale / whole.result_scale, &exponent), 0.5F);
    EXPECT_LT(found.squares, whole.squares) << multiplier;
  }
  EXPECT_EQ(Quantize("result_range: search\n").result_scale, 0);
}

// An adder without compensation makes every product too small (spec/fp8.md 6.1): the biases that
// are corrected with it give back the mean, which the analytic way knows nothing of.
TEST_F(ApproximateConv, BiasesGiveBackTheMean) {
  const std::string hw = "multiplier: hw\nbias_correction: ";
  const Outcome analytic = Quantize(hw + "analytic\n");
  const Outcome empirical = Quantize(hw + "empirical\n");
  for (size_t c = 0; c < 4; ++c) {
    EXPECT_GT(std::fabs(analytic.mean[c]), 1e-3) << c;
    // The samples are those of the correction; what is left is the rounding of float32.
    EXPECT_LT(std::fabs(empirical.mean[c]), 1e-5) << c;
  }
}

// What rules leave to each other is refused layer by layer, before a sample runs, and by the names
// that the model has.
TEST_F(ApproximateConv, RefusesALayerByAllItsRules) {
  RoadOptions options;
  options.collect = [](const Graph&, const std::vector<Watch>&, const Dataset&,
                       const CalibrationOptions&) -> CalibrationResult {
    ADD_FAILURE() << "calibrated";
    return {};
  };
  GraphBuilder b(5);
  b.Output(b.Conv("wide", b.Input("x", {1, 8, 6, 6}), 65, 1));
  const Graph wide = b.graph();
  const auto expect = [&](const Graph& of, const std::string& recipe,
                          std::initializer_list<std::string_view> parts) {
    Graph graph = of;
    const Recipe read = Recipe::Parse("preset: naive\ntarget: octet\n" + recipe);
    const auto error = ErrorOf([&] { (void)QuantizeGraph(graph, &*data_, read, options); });
    ASSERT_TRUE(error) << recipe;
    for (const std::string_view part : parts)
      EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos)
          << "'" << part << "' is not in: " << error->what();
  };
  expect(graph_,
         "layers:\n  - {match: 'l*', multiplier: 'hw:d=3', weight_format: 'e3m4:bias=int'}\n"
         "  - {match: '*r', activation_format: 'e4m3:bias=int'}\n",
         {"of layer 'layer' with activations in e4m3:bias=int and weights in e3m4:bias=int",
          "write e4m3:bias=int or e3m4:bias=int for both"});
  expect(graph_,
         "activation_format: int8\nweight_format: int8\n"
         "multiplier: 'table:/nowhere.npy,x=int8,w=int8'\n",
         {"/nowhere.npy"});
  const std::string qamaa =
      "activation_format: e3m4\nweight_format: e3m4\nmultiplier: qamaa\nweight_granularity: ";
  expect(wide, qamaa + "channel\n",
         {"layer 'wide'", "at most 64, and has 65", "weight_format e3m4:bias=int"});
}

}  // namespace
}  // namespace octet
