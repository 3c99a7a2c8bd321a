#include "quantize/batchnorm.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "graph/ops.h"
#include "numerics/extents.h"
#include "numerics/fixed_sum.h"
#include "quantize/calibration.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// Sums of one channel, of values less `shift`: the old mean, so that squares stay small.
struct Sums {
  FixedSum first, second;
};

struct Moments {
  std::vector<double> mean, variance;
};

// Of a graph's only output, rank 2 or more, by channels of axis 1.
Moments MomentsOf(const Graph& graph, const std::vector<Sample>& data, std::span<const float> shift,
                  const std::string& name) {
  const Executor executor(graph);
  std::mutex mutex;
  std::vector<Sums> sums(shift.size());
  int64_t count = 0;
  ParallelForEach(static_cast<int64_t>(data.size()), [&](int64_t i) {
    const std::vector<Tensor> outputs = executor.Run(data[static_cast<size_t>(i)].views());
    const auto x = outputs[0].data<float>();
    const Extents e = ExtentsOf(outputs[0].shape().dims(), 1);
    std::vector<double> first(shift.size()), second(shift.size());
    size_t at = 0;
    for (int64_t o = 0; o < e.outer; ++o) {
      for (size_t c = 0; c < shift.size(); ++c) {
        for (int64_t k = 0; k < e.inner; ++k, ++at) {
          const double v = static_cast<double>(x[at]) - static_cast<double>(shift[c]);
          first[c] += v;
          second[c] += v * v;
        }
      }
    }
    const std::lock_guard lock(mutex);
    for (size_t c = 0; c < shift.size(); ++c) {
      sums[c].first.Add(first[c]);
      sums[c].second.Add(second[c]);
    }
    count += e.outer * e.inner;
  });
  if (count < 2) {
    Fail(ErrorCode::kBadData, "reestimate_batchnorm: '", name, "' sees ", count,
         " values per channel; expected at least 2");
  }
  Moments m;
  for (size_t c = 0; c < shift.size(); ++c) {
    const double n = static_cast<double>(count), mean = sums[c].first.Value() / n;
    m.mean.push_back(static_cast<double>(shift[c]) + mean);
    m.variance.push_back(std::max(0.0, (sums[c].second.Value() - n * mean * mean) / (n - 1)));
  }
  return m;
}

Tensor Floats(const std::vector<double>& values) {
  Tensor t(DType::kFloat32, Shape{static_cast<int64_t>(values.size())});
  std::transform(values.begin(), values.end(), t.mutable_data<float>().begin(),
                 [](double v) { return static_cast<float>(v); });
  return t;
}

}  // namespace

int64_t ReestimateBatchNorm(Graph& graph, const Dataset& data, int threads,
                            const Progress& progress) {
  std::vector<std::string> names;
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (n.Is("BatchNormalization") && graph.ConstantOf(n.input(3)) != nullptr &&
        graph.ConstantOf(n.input(4)) != nullptr)
      names.push_back(n.name);
  }
  const ThreadScope scope(threads);
  std::vector<Sample> samples(static_cast<size_t>(std::min(kBatchNormSamples, data.size())));
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = data.Load(static_cast<int64_t>(i));
  ProgressMeter meter("estimate BatchNorm", static_cast<int64_t>(names.size()), progress);
  for (const std::string& name : names) {
    const Node node = graph.node(graph.FindNode(name));
    Graph part = graph;
    part.outputs = {node.inputs[0]};
    part.Compact();
    InferShapes(part, true);
    const Moments m =
        MomentsOf(part, samples, graph.ConstantOf(node.inputs[3])->data<float>(), name);
    const ValueId mean = graph.AddConstant(name + "/mean", Floats(m.mean));
    const ValueId variance = graph.AddConstant(name + "/variance", Floats(m.variance));
    Node& target = graph.node(graph.FindNode(name));
    target.inputs[3] = mean;
    target.inputs[4] = variance;
    meter.Advance();
  }
  graph.Compact();
  return static_cast<int64_t>(names.size());
}

}  // namespace octet
