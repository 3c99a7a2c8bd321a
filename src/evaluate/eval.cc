#include "evaluate/eval.h"

#include <chrono>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/metrics.h"
#include "evaluate/progress.h"
#include "evaluate/run_samples.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// A graph ready to be judged by its first output.
struct Judged {
  Judged(const Graph& graph, const Dataset& data, std::string_view what)
      : executor(graph), order(MatchInputs(graph, data, what)) {
    if (graph.outputs.empty())
      Fail(ErrorCode::kInvalidArgument, "evaluate: ", what, " has no outputs");
    output = {graph.value(graph.outputs[0]).name, KindOfOutput(graph, graph.outputs[0])};
  }
  [[nodiscard]] Tensor Run(const Sample& sample) const {
    return std::move(executor.Run(InputViews(sample, order)).at(0));
  }

  Executor executor;
  std::vector<size_t> order;
  ScoredOutput output;
};

// Why the metric cannot be had, or empty.
std::string Missing(const MetricInfo& m, const Dataset& data, bool has_reference,
                    const Shape& output, const std::string& name) {
  if (m.needs_labels && !data.has_labels())
    return Cat("labels, but '", data.path().string(), "' has none");
  if (m.needs_reference && !has_reference)
    return "a float model to compare with, but none was given";
  const int64_t classes = ClassesOf(output);
  const bool one_row = classes == output.elements();
  if ((m.needs_classes && classes == 0) || (m.needs_one_row && !one_row)) {
    return Cat("an output of shape [1, classes", m.needs_one_row ? "" : ", or rows before them",
               "], but output '", name, "' is ", output.ToString());
  }
  return {};
}

std::vector<MetricInfo> ChooseMetrics(const EvalRequest& request, const Dataset& data,
                                      bool has_reference, const Shape& output,
                                      const std::string& name) {
  std::vector<MetricInfo> chosen;
  if (request.metrics.empty()) {
    for (const MetricInfo& m : AllMetrics()) {
      if (Missing(m, data, has_reference, output, name).empty()) chosen.push_back(m);
    }
    if (chosen.empty()) {
      Fail(ErrorCode::kInvalidArgument, "evaluate: '", data.path().string(),
           "' has no labels that fit the output, and no float model was given: there is nothing to "
           "judge by");
    }
    return chosen;
  }
  for (const std::string& wanted : request.metrics) {
    const MetricInfo& m = FindMetric(wanted);
    if (const std::string why = Missing(m, data, has_reference, output, name); !why.empty()) {
      Fail(ErrorCode::kInvalidArgument, "evaluate: metric '", wanted, "' needs ", why);
    }
    chosen.push_back(m);
  }
  return chosen;
}

}  // namespace

ReferenceOutputs RunReference(const Graph& reference, const Dataset& data, int threads,
                              const Progress& progress) {
  RequireSamples(data, "evaluate");
  const ThreadScope scope(threads);
  const Judged judged(reference, data, "the float model");
  ReferenceOutputs result{std::vector<Tensor>(static_cast<size_t>(data.size())), judged.output};
  ProgressMeter meter(progress, "float model", data.size());
  ParallelForEach(data.size(), [&](int64_t i) {
    result.outputs[static_cast<size_t>(i)] = judged.Run(data.Load(i));
    meter.Step();
  });
  return result;
}

EvalResult EvaluateGraphs(const Graph& model, const Graph* reference, const Dataset& data,
                          const EvalRequest& request) {
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& wanted : request.metrics) (void)FindMetric(wanted);
  RequireSamples(data, "evaluate");
  const ThreadScope threads(request.threads);
  const Judged judged(model, data, "the model");
  const bool has_reference = reference != nullptr || request.outputs != nullptr;
  if (request.outputs != nullptr) {
    OCTET_INVARIANT(reference == nullptr &&
                    request.outputs->outputs.size() == static_cast<size_t>(data.size()));
  }
  std::optional<Judged> against;
  if (reference != nullptr) against.emplace(*reference, data, "the float model");

  // The first sample tells the shape of the output, before all the others are run for nothing.
  const Shape shape = [&] {
    const ThreadScope one(1);  // as all the others run: no plan for more threads is made
    return judged.Run(data.Load(0)).shape();
  }();
  const auto metrics = ChooseMetrics(request, data, has_reference, shape, judged.output.name);
  bool use_labels = false;
  for (const MetricInfo& m : metrics) use_labels = use_labels || m.needs_labels;
  if (use_labels) data.CheckLabels(ClassesOf(shape));

  std::vector<SampleScores> scores(static_cast<size_t>(data.size()));
  ProgressMeter meter(request.progress, "evaluate", data.size());
  ParallelForEach(data.size(), [&](int64_t i) {
    const Sample sample = data.Load(i);
    const Tensor y = judged.Run(sample);
    const auto label = use_labels ? sample.label : std::nullopt;
    if (request.outputs != nullptr) {
      const TensorView view = request.outputs->outputs[static_cast<size_t>(i)].view();
      scores[static_cast<size_t>(i)] =
          ScoreSample(y.view(), judged.output, &view, request.outputs->info, label, sample.name);
    } else if (against) {
      const Tensor r = against->Run(sample);
      const TensorView view = r.view();
      scores[static_cast<size_t>(i)] =
          ScoreSample(y.view(), judged.output, &view, against->output, label, sample.name);
    } else {
      scores[static_cast<size_t>(i)] =
          ScoreSample(y.view(), judged.output, nullptr, {}, label, sample.name);
    }
    meter.Step();
  });

  EvalResult result;
  result.samples = data.size();
  result.has_labels = data.has_labels();
  result.has_reference = has_reference;
  for (const MetricInfo& m : metrics)
    result.metrics[std::string(m.name)] = Summarize(m.metric, scores);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace octet
