// Octet: 8-bit post-training quantization of ONNX models, and the runtime of the result.
//
//   auto model = octet::Model::Load("resnet.onnx");
//   const octet::DataOptions data{.path = "photos/", .preset = "imagenet-torch"};
//   auto [quantized, report] = octet::Quantize(model, data, {});
//   quantized.Save("resnet_int8.onnx");
//
// Every function throws octet::Error and nothing else of its own; none prints. Objects may be read
// from several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "octet/data.h"
#include "octet/error.h"
#include "octet/recipe.h"
#include "octet/results.h"
#include "octet/views.h"

namespace octet {

class Graph;

// A model in memory: a graph with its constants. Copies are cheap.
class Model {
 public:
  [[nodiscard]] static Model Load(const std::string& onnx_path);
  explicit Model(std::shared_ptr<const Graph> graph, std::string origin = {},
                 std::string hash = {});

  // Writes ONNX, whole or not at all. `metadata` goes into metadata_props.
  void Save(const std::string& onnx_path,
            const std::vector<std::pair<std::string, std::string>>& metadata = {}) const;

  [[nodiscard]] const Graph& graph() const { return *graph_; }
  [[nodiscard]] const std::string& origin() const {
    return origin_;
  }                                                                // path it came from, or empty
  [[nodiscard]] const std::string& hash() const { return hash_; }  // SHA-256 of the file, or empty

 private:
  std::shared_ptr<const Graph> graph_;
  std::string origin_;
  std::string hash_;
};

struct RunOptions {
  int threads = 0;  // 0: all cores
  Progress progress;
};

// Writes the graph as it is after a stage: fold, equalize, smooth, quantize, lower.
using StageWriter = std::vector<std::pair<std::string, std::string>>;  // stage name, ONNX path

struct QuantizeOptions : RunOptions {
  std::string
      statistics;  // a file of Calibrate(); used instead of the data's where nothing was rescaled
  StageWriter stages;
  QuantizeViews* views = nullptr;  // not null: filled with the activations, for reports
};

// A recipe with keys replaced: "multiplier=hw:d=3", several at once
// ("activation_format+weight_format=e3m4:bias=int"), or for some layers
// ("layers.conv_*.alpha=0.5"). Throws kInvalidArgument for what is no key or value, and for
// combinations that make no sense, saying why.
[[nodiscard]] Recipe WithSettings(const Recipe& recipe, const std::vector<std::string>& settings);

[[nodiscard]] InspectResult Inspect(const Model& model, const InputShapes& shapes = {});

// Statistics of the float model's values, into a mergeable file.
CalibrateResult Calibrate(const Model& model, const DataOptions& data, const Recipe& recipe,
                          const std::string& output, int64_t batch = 1,
                          const RunOptions& options = {});
// Merges statistics files exactly; the order does not matter.
void MergeStatistics(const std::vector<std::string>& inputs, const std::string& output);

[[nodiscard]] std::pair<Model, QuantizeResult> Quantize(const Model& model, const DataOptions& data,
                                                        const Recipe& recipe,
                                                        const QuantizeOptions& options = {});

// The manifest of a quantized model as JSON: hashes, versions, effective recipe, parameters.
[[nodiscard]] std::string ManifestOf(const Model& source, const DataOptions& data,
                                     const Recipe& recipe, const QuantizeResult& result);

// The model with its quantizers fused into INT8 operators of domain "octet"; notes say what stays
// float. `keep_codes`: nothing is fused across a quantized value, so that all of QuantizedValues()
// can be looked at.
[[nodiscard]] std::pair<Model, std::vector<LayerNote>> Lower(const Model& model,
                                                             bool keep_codes = false);
// Names of the outputs of all QuantizeLinear nodes, in execution order.
[[nodiscard]] std::vector<std::string> QuantizedValues(const Model& model);

// Metrics: top1, top5, cross-entropy, kl, agreement, psnr, cosine. `reference` is the float model
// for those that compare. `lower`: run QDQ models on the INT8 kernels rather than as fake
// quantization.
struct EvalOptions : RunOptions {
  std::vector<std::string> metrics;  // empty: all that the data and the reference allow
  bool lower = true;
};
[[nodiscard]] EvalResult Evaluate(const Model& model, const DataOptions& data,
                                  const Model* reference = nullptr,
                                  const EvalOptions& options = {});

[[nodiscard]] AnalyzeResult Analyze(const Model& reference, const Model& quantized,
                                    const DataOptions& data, const RunOptions& options = {});
[[nodiscard]] VerifyResult Verify(const Model& quantized, const DataOptions& data,
                                  const RunOptions& options = {});
// What a layer with an approximate multiplier multiplies in the first sample, as files to replay it
// from (docs/multipliers.md): LAYER.json and arrays, .npy or .csv. Returns their paths.
std::vector<std::string> DumpOperands(const Model& quantized, const DataOptions& data,
                                      const std::string& layer, const std::string& folder,
                                      bool csv = false);
[[nodiscard]] AuditResult Audit(const Model& quantized, const std::string& target,
                                const InputShapes& shapes = {});

// Times models beside each other, interleaved, after checking that their outputs agree as far as
// they should.
struct BenchOptions : RunOptions {
  std::optional<int64_t> batch;  // none: 1, where no shape says otherwise
  InputShapes shapes;
  double seconds = 2;    // per row
  bool steps = false;    // time every step
  bool explain = false;  // say why kernels were refused
};
// `quantized` may be null: then the float model alone.
[[nodiscard]] BenchResult Bench(const Model& model, const Model* quantized,
                                const BenchOptions& options = {});

// Times one operator on random data, ours in every number format and the peers that are linked in.
// `problem`: "linear MxKxN", "conv2d NxCxHxW OC KHxKW [stride=S pad=P dilation=D groups=G]",
// "bmm BxMxKxN", "quantize NxCxHxW", "layernorm MxN"; the first two take "zero-point=Z" of the
// input. Numbers of two dimensions are written 2 or 2x1. Throws kCheckFailed where a result is
// wrong: then nothing is timed.
struct OperatorBenchOptions {
  std::vector<int> threads = {0};  // one table each; 0: all cores
  double seconds = 0.2;            // per row
  bool peers = true;
  Progress progress;
};
[[nodiscard]] std::vector<OperatorBenchResult> BenchOperator(
    const std::string& problem, const OperatorBenchOptions& options = {});
// The problems of a suite; names: BenchSuiteNames().
[[nodiscard]] std::vector<std::string> BenchSuite(const std::string& name);
[[nodiscard]] std::vector<std::string> BenchSuiteNames();

// Runs a model on arrays.
struct Array {
  std::string name;
  std::string dtype;  // "float32", "uint8", ...
  std::vector<int64_t> shape;
  std::vector<unsigned char> bytes;  // row-major, little endian
};
class Session {
 public:
  // taps: values to give besides the outputs, by name.
  explicit Session(const Model& model, const std::vector<std::string>& taps = {}, int threads = 0);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  // Inputs by name, any order; the results are the outputs in order, then the taps. Thread-safe.
  [[nodiscard]] std::vector<Array> Run(const std::vector<Array>& inputs) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
[[nodiscard]] Array ReadNpyArray(const std::string& path);
void WriteNpyArray(const std::string& path, const Array& array);
// A file of text, whole or not at all.
void WriteText(const std::string& path, const std::string& text);

// A copy of the model with outlier channels that leave its function as it is: `count` channels of
// every group that allows it are multiplied by `factor` where they are made and divided where they
// are read. To see what per-tensor INT8 makes of outliers, and what smoothing makes of that. Throws
// kUnsupported where no group does.
[[nodiscard]] Model InjectOutliers(const Model& model, int count, float factor, uint64_t seed);

[[nodiscard]] std::string Version();
struct SystemInfo {
  std::string version, cpu, isa, compiler, onednn;
  std::vector<std::string> supported_isas;
  int cores = 0;
};
[[nodiscard]] SystemInfo GetSystemInfo();

}  // namespace octet
