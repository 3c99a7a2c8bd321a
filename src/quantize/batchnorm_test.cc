#include "quantize/batchnorm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "files/npy.h"
#include "graph/graph_builder.h"
#include "quantize/calibration.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// Two of them, with running statistics that are far off: afterwards what the second one makes has
// mean beta and deviation gamma, whatever the samples' order.
TEST(ReestimateBatchNorm, NormalizesWhatItSees) {
  constexpr int64_t kCount = 5, kChannels = 3, kSide = 4;
  GraphBuilder b(11);
  const ValueId x = b.Input("x", {1, kChannels, kSide, kSide});
  const auto constant = [&](const std::string& name, std::vector<float> v) {
    return b.graph().AddConstant(name, Tensor::Of<float>(Shape{kChannels}, v));
  };
  const auto norm = [&](const std::string& name, ValueId v) {
    return b.Op("BatchNormalization", name,
                {v, constant(name + "g", {1, 2, 3}), constant(name + "b", {0, -1, 4}),
                 constant(name + "m", {9, -7, 5}), constant(name + "v", {0.01F, 30, 2})},
                {1, kChannels, kSide, kSide});
  };
  b.Output(norm("second", b.Conv("conv", norm("first", x), kChannels, 1)));
  Graph graph = b.graph();
  Tensor data(DType::kFloat32, Shape{kCount, kChannels, kSide, kSide});
  for (float& v : data.mutable_data<float>()) v = 100 + 8 * b.Next();
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / "batchnorm.npy";
  WriteNpy(path, data.view());
  const Dataset set = Dataset::Open(path, InputSpecs(graph));

  EXPECT_EQ(ReestimateBatchNorm(graph, set, 1, {}), 2);
  const Executor executor(graph);
  std::vector<double> sum(kChannels), squares(kChannels);
  for (int64_t i = 0; i < kCount; ++i) {
    const Sample sample = set.Load(i);
    const TensorView in = sample.inputs[0].view();
    const auto y = executor.Run({&in, 1});
    for (size_t k = 0; k < static_cast<size_t>(kChannels * kSide * kSide); ++k) {
      const auto v = static_cast<double>(y[0].data<float>()[k]);
      sum[k / (kSide * kSide)] += v;
      squares[k / (kSide * kSide)] += v * v;
    }
  }
  const double n = kCount * kSide * kSide;
  for (size_t c = 0; c < kChannels; ++c) {
    const double mean = sum[c] / n, deviation = std::sqrt((squares[c] - n * mean * mean) / (n - 1));
    // Float32 about values near 100: errors of 1e-5, over deviations near 1.
    EXPECT_NEAR(mean, (std::vector<double>{0, -1, 4}[c]), 1e-3) << c;
    EXPECT_NEAR(deviation, static_cast<double>(c + 1), 1e-3) << c;
  }
}

}  // namespace
}  // namespace octet
