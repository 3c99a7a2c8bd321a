#include <cmath>
#include <random>

#include "api/internal.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "files/onnx_read.h"
#include "files/onnx_write.h"
#include "graph/ops.h"
#include "octet/octet.h"
#include "passes/channel_groups.h"
#include "passes/lower.h"
#include "passes/simplify.h"
#include "quantize/calibration.h"
#include "quantize/road.h"
#include "runtime/onednn_version.h"

namespace octet {

Model::Model(std::shared_ptr<const Graph> graph, std::string origin, std::string hash)
    : graph_(std::move(graph)), origin_(std::move(origin)), hash_(std::move(hash)) {}

Model Model::Load(const std::string& onnx_path) {
  auto graph = std::make_shared<Graph>(ReadOnnx(onnx_path));
  return Model(std::move(graph), onnx_path, Sha256HexOfFile(onnx_path));
}

void Model::Save(const std::string& onnx_path,
                 const std::vector<std::pair<std::string, std::string>>& metadata) const {
  OnnxWriteOptions options;
  for (const auto& [key, value] : metadata) options.metadata[key] = value;
  WriteOnnx(*graph_, onnx_path, options);
}

Preprocess PreprocessOf(const DataOptions& options) {
  return MakePreprocess({.preset = options.preset,
                         .resize = options.resize,
                         .crop = options.crop,
                         .mean = options.mean,
                         .std = options.std,
                         .scale = options.scale,
                         .order = options.order,
                         .layout = options.layout});
}

Dataset OpenData(const Graph& graph, const DataOptions& options) {
  DatasetOptions dataset;
  dataset.preprocess = PreprocessOf(options);
  dataset.labels = options.labels;
  Dataset data = Dataset::Open(options.path, InputSpecs(graph), dataset);
  if (options.skip == 0 && options.samples < 0) return data;
  return data.Select(options.skip, options.samples);
}

std::pair<Model, std::vector<LayerNote>> Lower(const Model& model, bool keep_codes) {
  auto graph = std::make_shared<Graph>(model.graph());
  InferShapes(*graph, true);
  LoweringOptions options;
  options.keep_codes = keep_codes;
  const LoweringReport report = Lower(*graph, Evaluator(), options);
  InferShapes(*graph, true);
  graph->Verify("after lower");
  std::vector<LayerNote> notes;
  for (const auto& k : report.kept) notes.push_back({k.node, k.op, k.reason});
  return {Model(std::move(graph), model.origin(), model.hash()), std::move(notes)};
}

std::vector<std::string> QuantizedValues(const Model& model) {
  const Graph& graph = model.graph();
  std::vector<std::string> names;
  for (NodeId id : graph.TopologicalOrder()) {
    if (graph.node(id).Is("QuantizeLinear"))
      names.push_back(graph.value(graph.node(id).outputs[0]).name);
  }
  return names;
}

Model InjectOutliers(const Model& model, int count, float factor, uint64_t seed) {
  if (count < 1 || !(factor > 0) || !std::isfinite(factor)) {
    Fail(ErrorCode::kInvalidArgument, "outliers: count ", count, " and factor ", factor,
         "; expected at least 1 and a positive number");
  }
  auto graph = std::make_shared<Graph>(model.graph());
  RemoveIdentities(*graph);
  FoldConstants(*graph, Evaluator());
  InferShapes(*graph, true);
  const GroupSearch search = FindChannelGroups(*graph, false);
  if (search.groups.empty()) {
    std::string why;
    for (const auto& s : search.skipped) why += "\n  " + s.value + ": " + s.reason;
    Fail(ErrorCode::kUnsupported, "outliers: no channels of this model can be rescaled:", why);
  }
  std::mt19937_64 random(seed);
  for (const ChannelGroup& group : search.groups) {
    std::vector<float> factors(static_cast<size_t>(group.channels), 1.0F);
    for (int i = 0; i < count; ++i) factors[random() % factors.size()] = 1.0F / factor;
    ScaleChannels(*graph, group, factors);
  }
  graph->Compact();
  InferShapes(*graph, true);
  graph->Verify("after outliers");
  return Model(std::move(graph));
}

std::string Version() { return OCTET_VERSION; }

SystemInfo GetSystemInfo() {
  SystemInfo info;
  info.version = Version();
  info.cpu = CpuModelName();
  info.isa = IsaName(ActiveIsa());
  for (Isa isa : SupportedIsas()) info.supported_isas.emplace_back(IsaName(isa));
  info.compiler = __VERSION__;
  info.onednn = OneDnnVersion();
  info.cores = HardwareThreads();
  return info;
}

}  // namespace octet
