#include <algorithm>
#include <set>

#include "api/internal.h"
#include "base/cpu.h"
#include "base/error.h"
#include "calibrate/statistics.h"
#include "files/onnx_write.h"
#include "files/safetensors.h"
#include "graph/ops.h"
#include "octet/octet.h"
#include "passes/lower.h"
#include "passes/macs.h"
#include "passes/place_quantizers.h"
#include "quantize/manifest.h"
#include "quantize/road.h"
#include "sweep/views.h"

namespace octet {
namespace {

// Identity of statistics: what the numbers depend on besides the samples.
std::map<std::string, std::string> IdentityOf(const Model& model, const DataOptions& data) {
  return {{"model", model.hash()},
          {"preprocess", PreprocessOf(data).ToJson()},
          {"isa", std::string(IsaName(ActiveIsa()))}};
}

void CheckStages(const StageWriter& stages) {
  static const std::vector<std::string> known = {"fold", "equalize", "smooth", "quantize", "lower"};
  for (const auto& [name, path] : stages) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      Fail(ErrorCode::kInvalidArgument, "unknown stage '", name,
           "'; expected fold, equalize, smooth, quantize or lower");
    }
  }
}

void WriteStage(const StageWriter& stages, const std::string& stage, const Graph& graph) {
  for (const auto& [name, path] : stages) {
    if (name == stage) WriteOnnx(graph, path, {});
  }
}

}  // namespace

InputShapes ShapesOf(const Graph& graph, const Dataset& data) {
  InputShapes shapes;
  if (data.size() == 0 || OpenInputs(WithBatch(graph, 1)).empty()) return shapes;
  const Sample sample = data.Load(0);
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    const auto dims = sample.inputs[i].shape().dims();
    shapes[data.inputs()[i].name] = {dims.begin(), dims.end()};
  }
  return shapes;
}

Int8Share Int8ShareOfMacs(const Graph& quantized, const InputShapes& shapes) {
  Graph sized;
  try {
    sized = WithBatch(quantized, 1, shapes);
  } catch (const Error& e) {
    return {std::nullopt, e.what()};  // the graph cannot have these sizes
  }
  std::string open;
  for (const std::string& input : OpenInputs(sized)) open += (open.empty() ? "" : ", ") + input;
  if (!open.empty()) return {std::nullopt, "open sizes: " + open};
  Graph lowered = quantized;
  std::set<std::string> kept;
  for (const auto& k : Lower(lowered, Evaluator()).kept) kept.insert(k.node);
  int64_t all = 0, in_float = 0;
  for (NodeId id : sized.TopologicalOrder()) {
    const Node& n = sized.node(id);
    const int64_t macs = MacsOf(sized, n);
    all += macs;
    // Lowering does not consider what has no INT8 form.
    if (kept.contains(n.name) || HasNoInt8Form(n.op)) in_float += macs;
  }
  if (all == 0) return {std::nullopt, "the model has none"};
  return {1.0 - static_cast<double>(in_float) / static_cast<double>(all), ""};
}

CalibrateResult Calibrate(const Model& model, const DataOptions& data, const Recipe& recipe,
                          const std::string& output, int64_t batch, const RunOptions& options) {
  recipe.Check();
  Graph graph = model.graph();
  Prepare(graph, recipe.fold_batchnorm);
  const Dataset dataset = OpenData(graph, data);
  CalibrationResult result = CalibrateGraph(graph, dataset, recipe,
                                            {.batch = batch,
                                             .threads = options.threads,
                                             .allow_noise = data.allow_noise,
                                             .progress = options.progress});
  result.statistics.identity = IdentityOf(model, data);
  WriteSafetensors(output, result.statistics.ToTensors());
  return {dataset.size(), std::move(result.warnings)};
}

void MergeStatistics(const std::vector<std::string>& inputs, const std::string& output) {
  if (inputs.empty()) Fail(ErrorCode::kInvalidArgument, "merge: no statistics files were given");
  Statistics merged;
  for (const std::string& path : inputs) {
    try {
      const Statistics next = Statistics::FromTensors(ReadSafetensors(path));
      merged.Merge(next);
    } catch (const Error& e) {
      Fail(e.code(), "merge: '", path, "': ", e.what());
    }
  }
  WriteSafetensors(output, merged.ToTensors());
}

std::pair<Model, QuantizeResult> Quantize(const Model& model, const DataOptions& data,
                                          const Recipe& recipe, const QuantizeOptions& options) {
  auto graph = std::make_shared<Graph>(model.graph());
  CheckStages(options.stages);
  RoadOptions road;
  road.threads = options.threads;
  road.progress = options.progress;
  road.allow_noise = data.allow_noise;
  road.on_stage = [&](const std::string& name, const Graph& g) {
    WriteStage(options.stages, name, g);
  };
  if (options.views != nullptr) {
    road.collect = [&](const Graph& g, const std::vector<Watch>& watched, const Dataset& samples,
                       const CalibrationOptions& how) {
      CalibrationResult collected = CollectStatistics(g, watched, samples, how);
      // First of the model as it is, then of the smoothed one.
      auto& views = options.views->before.empty() ? options.views->before : options.views->after;
      views = ViewsOf({}, collected.statistics).values;
      return collected;
    };
  }
  Statistics statistics;
  if (!options.statistics.empty()) {
    statistics = Statistics::FromTensors(ReadSafetensors(options.statistics));
    const auto it = statistics.identity.find("model");
    if (it == statistics.identity.end() || it->second != model.hash()) {
      Fail(ErrorCode::kInvalidArgument, "'", options.statistics,
           "' holds the statistics of another model than '", model.origin(), "'");
    }
    road.statistics = &statistics;
  }
  std::optional<Dataset> dataset;
  if (!data.path.empty()) dataset = OpenData(*graph, data);
  QuantizeResult result = QuantizeGraph(*graph, dataset ? &*dataset : nullptr, recipe, road);
  const Int8Share share =
      Int8ShareOfMacs(*graph, dataset ? ShapesOf(*graph, *dataset) : InputShapes{});
  result.macs_int8_fraction = share.fraction;
  result.macs_uncounted = share.uncounted;
  const bool wants_lowered = std::any_of(options.stages.begin(), options.stages.end(),
                                         [](const auto& s) { return s.first == "lower"; });
  if (wants_lowered) {
    Graph lowered = *graph;
    Lower(lowered, Evaluator());
    InferShapes(lowered, true);
    WriteStage(options.stages, "lower", lowered);
  }
  return {Model(std::move(graph)), std::move(result)};
}

std::string ManifestOf(const Model& source, const DataOptions& data, const Recipe& recipe,
                       const QuantizeResult& result) {
  ManifestOrigin origin;
  origin.version = Version();
  origin.isa = IsaName(ActiveIsa());
  origin.model_sha256 = source.hash();
  origin.preprocess_json = PreprocessOf(data).ToJson();
  if (!data.path.empty()) origin.data_sha256 = OpenData(source.graph(), data).ContentHash();
  return ManifestJson(origin, recipe, result);
}

}  // namespace octet
