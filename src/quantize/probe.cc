#include "quantize/probe.h"

#include <algorithm>

#include "base/parallel.h"
#include "runtime/executor.h"

namespace octet {

NodeId Probe::AddTwin(NodeId original) {
  Node twin = graph_.node(original);
  twin.name += "/probe";
  const ValueId reference = twin.outputs[0];
  for (ValueId& out : twin.outputs) {
    if (out == kNoValue) continue;
    const ValueType type = graph_.value(out).type;
    out = graph_.AddValue(graph_.value(out).name + "/probe", type);
  }
  graph_.outputs.push_back(reference);
  graph_.outputs.push_back(twin.outputs[0]);
  return graph_.AddNode(std::move(twin));
}

NodeId Probe::AddTwinOf(ValueId value) {
  const ValueType type = graph_.value(value).type;
  const std::string name = graph_.value(value).name + "/probe";
  const ValueId out = graph_.AddValue(name, type);
  graph_.outputs.push_back(value);
  graph_.outputs.push_back(out);
  return graph_.AddOp("Identity", {value}, {out}, {}, name);
}

std::vector<ErrorStats> Probe::Measure(const Dataset& data, int64_t samples) const {
  const Executor executor(graph_);
  samples = std::min(samples, data.size());
  std::vector<std::vector<ErrorStats>> by_sample(static_cast<size_t>(samples),
                                                 std::vector<ErrorStats>(size()));
  ParallelForEach(samples, [&](int64_t i) {
    const Sample sample = data.Load(i);
    const auto outputs = executor.Run(sample.views());
    for (size_t b = 0; b < size(); ++b) {
      by_sample[static_cast<size_t>(i)][b].Add(outputs[2 * b].data<float>(),
                                               outputs[2 * b + 1].data<float>());
    }
  });
  std::vector<ErrorStats> all(size());
  for (const auto& one : by_sample) {
    for (size_t b = 0; b < size(); ++b) all[b].Merge(one[b]);
  }
  return all;
}

double RelativeError(const ErrorStats& stats) {
  return stats.reference_sq > 0 ? stats.error_sq / stats.reference_sq : 0.0;
}

}  // namespace octet
