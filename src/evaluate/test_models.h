// Small networks, data and quantization for the tests of this folder.
#pragma once

#include <cmath>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "files/dataset.h"
#include "files/npy.h"
#include "graph/graph.h"
#include "graph/ops.h"
#include "numerics/qparams.h"
#include "passes/place_quantizers.h"
#include "runtime/executor.h"

namespace octet::test {

inline Tensor Random(const Shape& shape, float lo, float hi, uint32_t seed) {
  Tensor t(DType::kFloat32, shape);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(lo, hi);
  for (float& v : t.mutable_data<float>()) v = uniform(random);
  return t;
}

class Net {
 public:
  explicit Net(const std::vector<int64_t>& input) {
    g.opsets[""] = 17;
    ValueType type;
    type.dtype = DType::kFloat32;
    type.has_rank = true;
    type.dims = input;
    x = g.AddInput("x", type);
  }
  ValueId Op(const std::string& op, const std::string& name, std::vector<ValueId> in,
             std::map<std::string, Attribute> attributes = {}) {
    const ValueId y = g.AddValue(name + "_out");
    g.AddOp(op, std::move(in), {y}, std::move(attributes), name);
    return y;
  }
  ValueId Conv(const std::string& name, ValueId in, const Shape& w, int64_t group = 1,
               int64_t stride = 1) {
    const float bound = std::sqrt(3.0F / static_cast<float>(w.product(1, 4)));
    const ValueId weight = g.AddConstant(name + ".w", Random(w, -bound, bound, ++seed));
    const ValueId bias = g.AddConstant(name + ".b", Random(Shape{w[0]}, -0.3F, 0.3F, ++seed));
    const int64_t p = w[2] / 2;
    return Op("Conv", name, {in, weight, bias},
              {{"pads", std::vector<int64_t>{p, p, p, p}},
               {"strides", std::vector<int64_t>{stride, stride}},
               {"group", group}});
  }
  Graph Finish(ValueId output) {
    g.outputs = {output};
    InferShapes(g, true);
    return std::move(g);
  }

  Graph g;
  ValueId x = kNoValue;
  uint32_t seed = 100;
};

// Convolution, depthwise with Clip, residual Add, pooling, Gemm: one of each of what classifiers
// are made of.
inline Graph Classifier() {
  Net n({-1, 3, 12, 12});
  const ValueId a = n.Op("Relu", "relu1", {n.Conv("conv1", n.x, {16, 3, 3, 3}, 1, 2)});
  const ValueId lo = n.g.AddConstant("lo", Tensor::Scalar(0.0F)),
                hi = n.g.AddConstant("hi", Tensor::Scalar(6.0F));
  const ValueId b = n.Op("Clip", "clip", {n.Conv("depthwise", a, {16, 1, 3, 3}, 16), lo, hi});
  const ValueId c = n.Conv("conv2", b, {16, 16, 1, 1});
  const ValueId d = n.Op("Relu", "relu2", {n.Op("Add", "add", {c, a})});
  const ValueId e =
      n.Op("MaxPool", "pool", {d},
           {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  const ValueId f = n.Op("Flatten", "flatten",
                         {n.Op("GlobalAveragePool", "gap", {n.Conv("conv3", e, {24, 16, 3, 3})})});
  const ValueId w = n.g.AddConstant("fc.w", Random({24, 10}, -1, 1, 7));
  const ValueId bias = n.g.AddConstant("fc.b", Random({10}, -1, 1, 8));
  return n.Finish(n.Op("Gemm", "fc", {f, w, bias}));
}

// A folder of its own for a test; gone with the object.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& name)
      : path(std::filesystem::temp_directory_path() /
             ("octet_evaluate_" + name + "_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::filesystem::path path;
};

inline std::vector<InputSpec> SpecsOf(const Graph& g) {
  std::vector<InputSpec> specs;
  for (ValueId v : g.inputs)
    specs.push_back({g.value(v).name, g.value(v).type.dtype, g.value(v).type.dims});
  return specs;
}

// `samples` random inputs [samples, ...] in x.npy, and labels where there are any.
inline Dataset MakeData(const ScratchFolder& folder, const Graph& g, int64_t samples,
                        const std::vector<int64_t>& labels = {}) {
  std::vector<int64_t> dims = g.value(g.inputs[0]).type.dims;
  dims[0] = samples;
  WriteNpy(folder.path / "x.npy", Random(Shape(dims), -1, 1, 42).view());
  DatasetOptions options;
  if (!labels.empty()) {
    const Tensor t = Tensor::Of<int64_t>(Shape{static_cast<int64_t>(labels.size())}, labels);
    WriteNpy(folder.path / "labels.npy", t.view());
    options.labels = folder.path / "labels.npy";
  }
  return Dataset::Open(folder.path / "x.npy", SpecsOf(g), options);
}

// Quantized by the extrema of the data: per-channel weights.
inline Graph QuantizeByExtrema(Graph g, const Dataset& data, Target target = Target::kOnnxRuntime) {
  const QuantizerPlan plan = PlanQuantizers(g, {target, false, {}});
  ExecutorOptions options;
  for (const auto& a : plan.activations) options.taps.push_back(a.value);
  std::map<int, std::pair<float, float>> range;
  std::map<ValueId, int> grid;
  for (const auto& a : plan.activations) grid[a.value] = a.grid;
  const Executor run(g, options);
  for (int64_t i = 0; i < data.size(); ++i) {
    const Sample s = data.Load(i);
    const TensorView in = s.inputs[0].view();
    (void)run.Run({&in, 1}, [&](ValueId v, const TensorView& t) {
      auto& r = range[grid.at(v)];
      for (float e : t.data<float>()) r = {std::min(r.first, e), std::max(r.second, e)};
    });
  }
  QuantizerParams p;
  const bool symmetric = target == Target::kTensorRt;
  p.activation_format = symmetric ? kInt8 : kUint8;
  p.bias = symmetric ? BiasForm::kGridFloat : BiasForm::kInt32;
  for (const auto& a : plan.activations) {
    const auto [lo, hi] = range[a.grid];
    if (symmetric) {
      p.activations[a.value] = {std::max(-lo, hi) / 127.0F, 0};
    } else {
      const float scale = (hi - lo) / 255.0F;
      p.activations[a.value] = {scale, static_cast<int32_t>(std::nearbyint(-lo / scale))};
    }
  }
  for (const auto& w : plan.weighted) {
    const Tensor& t = *g.ConstantOf(g.node(w.node).inputs[1]);
    const Node& n = g.node(w.node);
    std::vector<float> scales =
        ChooseWeightScales(t.data<float>(), ExtentsOf(t.shape().dims(), w.axis), w.axis,
                           kInt8Narrow, n.name)
            .params.scale;
    if (const Tensor* b = g.ConstantOf(n.input(2)); b != nullptr && !symmetric) {
      RaiseScalesForBias(scales, p.activations.at(n.inputs[0]).scale, b->data<float>(), n.name);
    }
    p.weight_scales[w.node] = std::move(scales);
  }
  InsertQuantizers(g, plan, p);
  InferShapes(g, true);
  return g;
}

// Multiplies the elements of a float constant.
inline void ScaleConstant(Graph& g, const std::string& name, float factor) {
  Tensor t = g.ConstantOf(g.Find(name))->Clone();
  for (float& e : t.mutable_data<float>()) e *= factor;
  g.value(g.Find(name)).constant = std::make_shared<const Tensor>(std::move(t));
}

}  // namespace octet::test
