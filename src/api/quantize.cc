#include "api/internal.h"
#include "base/cpu.h"
#include "base/error.h"
#include "calibrate/statistics.h"
#include "files/manifest.h"
#include "files/onnx_write.h"
#include "files/safetensors.h"
#include "graph/ops.h"
#include "nlohmann/json.hpp"
#include "octet/octet.h"
#include "passes/lower.h"
#include "quantize/road.h"

namespace octet {
namespace {

// Identity of statistics: what the numbers depend on besides the samples.
std::map<std::string, std::string> IdentityOf(const Model& model, const DataOptions& data) {
  const Preprocess preprocess = MakePreprocess({.preset = data.preset,
                                                .resize = data.resize,
                                                .crop = data.crop,
                                                .mean = data.mean,
                                                .std = data.std,
                                                .scale = data.scale,
                                                .order = data.order,
                                                .layout = data.layout});
  return {{"model", model.hash()},
          {"preprocess", preprocess.ToJson()},
          {"isa", std::string(IsaName(ActiveIsa()))}};
}

double Int8MacFraction(const Graph& quantized) {
  const InspectResult inspected = Inspect(Model(std::make_shared<const Graph>(quantized)));
  Graph lowered = quantized;
  const LoweringReport report = Lower(lowered, Evaluator());
  int64_t kept = 0;
  for (const auto& k : report.kept) {
    for (const auto& layer : inspected.layers) {
      if (layer.node == k.node) kept += layer.macs;
    }
  }
  return inspected.macs > 0 ? 1.0 - static_cast<double>(kept) / static_cast<double>(inspected.macs)
                            : 0.0;
}

class StageFiles {
 public:
  explicit StageFiles(const StageWriter& wanted) : wanted_(wanted) {
    for (const auto& [name, path] : wanted_) {
      static const std::vector<std::string> kStages = {"fold", "equalize", "smooth", "quantize",
                                                       "lower"};
      if (std::find(kStages.begin(), kStages.end(), name) == kStages.end()) {
        Fail(ErrorCode::kInvalidArgument, "unknown stage '", name,
             "'; expected fold, equalize, smooth, quantize or lower");
      }
    }
  }

  void Write(const std::string& stage, const Graph& graph) {
    for (const auto& [name, path] : wanted_) {
      if (name != stage) continue;
      WriteOnnx(graph, path, {});
      written_.push_back(name);
    }
  }

  // Stages that were asked for and did not take place.
  [[nodiscard]] std::vector<std::string> Missing() const {
    std::vector<std::string> missing;
    for (const auto& [name, path] : wanted_) {
      if (std::find(written_.begin(), written_.end(), name) == written_.end())
        missing.push_back(name);
    }
    return missing;
  }

 private:
  const StageWriter& wanted_;
  std::vector<std::string> written_;
};

}  // namespace

int64_t Calibrate(const Model& model, const DataOptions& data, const Recipe& recipe,
                  const std::string& output, int64_t batch, const RunOptions& options) {
  recipe.Check();
  Graph graph = model.graph();
  Prepare(graph, recipe.fold_batchnorm);
  const Dataset dataset = OpenData(graph, data);
  std::vector<std::string> warnings;
  Statistics statistics =
      CalibrateGraph(graph, dataset, recipe, batch, options.threads, options.progress, warnings);
  statistics.identity = IdentityOf(model, data);
  WriteSafetensors(output, statistics.ToTensors());
  return dataset.size();
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
  StageFiles stages(options.stages);
  RoadOptions road;
  road.threads = options.threads;
  road.progress = options.progress;
  road.on_stage = [&](const std::string& name, const Graph& g) { stages.Write(name, g); };
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
  result.macs_int8_fraction = Int8MacFraction(*graph);
  const bool wants_lowered = std::any_of(options.stages.begin(), options.stages.end(),
                                         [](const auto& s) { return s.first == "lower"; });
  if (wants_lowered) {
    Graph lowered = *graph;
    Lower(lowered, Evaluator());
    InferShapes(lowered, true);
    stages.Write("lower", lowered);
  }
  for (const std::string& stage : stages.Missing()) {
    result.warnings.push_back("stage '" + stage +
                              "' was not written: the recipe left nothing for it to do");
  }
  return {Model(std::move(graph)), std::move(result)};
}

std::string ManifestOf(const Model& source, const DataOptions& data, const Recipe& recipe,
                       const QuantizeResult& result) {
  nlohmann::ordered_json m;
  m["octet"] = Version();
  m["isa"] = IsaName(ActiveIsa());
  m["model_sha256"] = source.hash();
  if (!data.path.empty()) m["data_sha256"] = OpenData(source.graph(), data).ContentHash();
  m["preprocess"] = nlohmann::ordered_json::parse(IdentityOf(source, data).at("preprocess"));
  m["samples"] = result.samples;
  m["recipe"] = recipe.ToYaml();
  auto& activations = m["activations"];
  for (const auto& a : result.activations) {
    activations[a.value] = {{"scale", a.scale},
                            {"zero_point", a.zero_point},
                            {"lo", a.lo},
                            {"hi", a.hi},
                            {"method", a.method}};
  }
  auto& smoothed = m["smoothed"] = nlohmann::ordered_json::object();
  for (const auto& row : result.smoothing) {
    if (row.applied) smoothed[row.group] = row.chosen;
  }
  auto& kept = m["kept_float"] = nlohmann::ordered_json::object();
  for (const auto& k : result.kept_float) kept[k.node] = k.text;
  return m.dump();
}

}  // namespace octet
