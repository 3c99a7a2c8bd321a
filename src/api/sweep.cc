// octet::RunSweep: the points of src/sweep, each quantized by the road, judged and analyzed. What
// points have in common is done once: models and samples are loaded, the float model is run,
// statistics of the same float graph are collected.
#include "octet/sweep.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <set>
#include <shared_mutex>

#include "api/internal.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "evaluate/analyze.h"
#include "evaluate/bench.h"
#include "evaluate/eval.h"
#include "files/onnx_write.h"
#include "quantize/road.h"
#include "sweep/database.h"
#include "sweep/export.h"
#include "sweep/memo.h"
#include "sweep/schedule.h"
#include "sweep/spec.h"
#include "sweep/views.h"

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Decoded samples are kept while they are read again and again.
constexpr int64_t kKeptSamples = int64_t{2} << 30;
// Statistics are kept for so many float graphs; those of a MobileNet take some 3 MB.
constexpr size_t kKeptStatistics = 256;
// A graph larger than this is not hashed to see whether its statistics are known.
constexpr int64_t kHashedGraph = int64_t{1} << 30;

std::string Hash(const std::string& text) { return Sha256Hex(std::as_bytes(std::span(text))); }

struct OpenedData {
  Dataset data;
  std::string hash;  // of content and preprocessing
};

struct Collected {
  CalibrationResult result;
  ViewSet views;
};

int64_t ConstantBytes(const Graph& graph) {
  int64_t bytes = 0;
  for (size_t i = 0; i < graph.value_count(); ++i) {
    const auto& constant = graph.value(static_cast<ValueId>(i)).constant;
    if (constant != nullptr) bytes += constant->bytes();
  }
  return bytes;
}

class SweepRun {
 public:
  // Paths in recipes are relative to `folder`.
  SweepRun(const SweepSpec& spec, const SweepOptions& options, std::string folder,
           SweepDatabase& database)
      : spec_(spec), options_(options), folder_(std::move(folder)), database_(database) {}

  SweepSummary Run() {
    const auto start = Clock::now();
    summary_.points = static_cast<int64_t>(spec_.points.size());
    summary_.duplicates = spec_.duplicates;
    summary_.excluded = spec_.excluded;
    std::vector<const SweepPoint*> todo;
    for (const SweepPoint& point : spec_.points) {
      if (point.ordinal % options_.shards != options_.shard - 1) continue;
      ++summary_.in_shard;
      const auto status = database_.StatusOf(IdOf(point));
      if (status && !(*status == PointStatus::kFailed && options_.retry_failed)) {
        ++summary_.before;
      } else if (!point.refused.empty()) {
        Refuse(point);
      } else {
        todo.push_back(&point);
      }
    }
    for (const SweepPoint* point : todo) KeepFloatModel(*point);
    total_ = static_cast<int64_t>(todo.size());
    Report("sweep");
    summary_.jobs = RunBeside(
        total_, {options_.jobs, static_cast<int64_t>(options_.memory_gib * 1024 * 1024 * 1024)},
        [&](int64_t i, int threads) { Finish(*todo[static_cast<size_t>(i)], threads); });
    if (error_) std::rethrow_exception(error_);
    summary_.seconds = SecondsSince(start);
    return summary_;
  }

 private:
  // What a result depends on, besides what the point says itself.
  PointRecord Begin(const SweepPoint& point) {
    PointRecord record;
    record.ordinal = point.ordinal;
    record.sweep = spec_.name;
    record.block = point.block;
    record.model = point.model.name;
    record.label = point.Label();
    record.settings = point.settings;
    record.recipe = point.recipe;
    record.cost = point.cost;
    record.model_sha256 = ModelOf(point)->hash();
    record.calibration_sha256 = DataOf(point, point.calibration)->hash;
    record.evaluation_sha256 = DataOf(point, point.evaluation)->hash;
    record.version = Version();
    record.isa = IsaName(ActiveIsa());
    std::string metrics;
    for (const auto& m : spec_.metrics) metrics += m + " ";
    record.id =
        Hash(Cat("octet ", record.version, "\nmodel ", record.model_sha256, "\ncalibration ",
                 record.calibration_sha256, "\nevaluation ", record.evaluation_sha256, "\nmetrics ",
                 metrics, "\nanalyze ", spec_.analyze_samples, "\nbench ", spec_.bench_seconds,
                 "\nrecipe\n", record.recipe, point.refused.empty() ? TablesOf(point) : ""));
    return record;
  }

  Recipe RecipeOf(const SweepPoint& point) const {
    return Recipe::Parse(point.recipe, point.Label()).WithTablesIn(folder_);
  }

  // Hashes of the tables of products that its recipe names.
  std::string TablesOf(const SweepPoint& point) {
    std::string text;
    for (const std::string& file : RecipeOf(point).TableFiles())
      text += "table " + *tables_.Get(file, [&] { return Hash(ReadFile(file)); }) + "\n";
    return text;
  }

  std::string IdOf(const SweepPoint& point) { return Begin(point).id; }

  std::shared_ptr<const Model> ModelOf(const SweepPoint& point) {
    return models_.Get(point.model.path, [&] { return Model::Load(point.model.path); });
  }

  std::shared_ptr<const OpenedData> DataOf(const SweepPoint& point, const DataOptions& o) {
    const std::string key =
        Cat(point.model.path, '\n', o.path, '\n', o.preset, '\n', o.resize, '\n', o.crop, '\n',
            o.mean, '\n', o.std, '\n', o.scale, '\n', o.order, '\n', o.layout, '\n', o.labels, '\n',
            o.skip, '\n', o.samples, '\n', o.allow_noise);
    return data_.Get(key, [&] {
      const Dataset data = OpenData(ModelOf(point)->graph(), o);
      return OpenedData{data.InMemory(kKeptSamples),
                        Hash(Cat(data.ContentHash(), '\n', PreprocessOf(o).ToJson()))};
    });
  }

  std::shared_ptr<const ReferenceOutputs> ReferenceOf(const SweepPoint& point) {
    const auto data = DataOf(point, point.evaluation);
    return references_.Get(ModelOf(point)->hash() + data->hash, [&] {
      return RunReference(ModelOf(point)->graph(), data->data, options_.jobs);
    });
  }

  void Refuse(const SweepPoint& point) {
    PointRecord record = Begin(point);
    record.status = PointStatus::kRefused;
    record.error = point.refused;
    database_.Put(record);
    ++summary_.refused;
  }

  // The float model's own figures, for each set of samples it is judged on.
  void KeepFloatModel(const SweepPoint& point) {
    PointRecord record = Begin(point);
    record.kind = "float";
    record.block.clear();
    record.label = "float32";
    record.settings.clear();
    record.recipe.clear();
    record.cost = -1;
    record.calibration_sha256.clear();
    std::string metrics;
    std::vector<std::string> wanted;
    for (const auto& m : spec_.metrics) metrics += m + " ";
    record.id =
        Hash(Cat("octet float ", record.version, "\nmodel ", record.model_sha256, "\nevaluation ",
                 record.evaluation_sha256, "\nmetrics ", metrics, "\nbench ", spec_.bench_seconds));
    if (!seen_floats_.insert(record.id).second || database_.StatusOf(record.id)) return;
    const auto start = Clock::now();
    EvalRequest request;
    request.metrics = spec_.metrics;
    request.threads = options_.jobs;
    const auto reference = ReferenceOf(point);
    request.outputs = reference.get();
    const Model& model = *ModelOf(point);
    const EvalResult eval =
        EvaluateGraphs(model.graph(), nullptr, DataOf(point, point.evaluation)->data, request);
    record.metrics = eval.metrics;
    record.samples = eval.samples;
    record.evaluate_s = eval.seconds;
    if (spec_.bench_seconds > 0) Time(model, record);
    record.seconds = SecondsSince(start);
    database_.Put(record);
  }

  // On one thread, while nothing else of this sweep runs.
  void Time(const Model& model, PointRecord& record) const {
    BenchOptions bench;
    bench.threads = 1;
    bench.seconds = spec_.bench_seconds;
    const BenchResult result = Bench(model, nullptr, bench);
    record.latency_s = result.rows.at(0).median_s;
    record.latency_mad_s = result.rows.at(0).mad_s;
  }

  // Statistics of a float graph, which points that begin alike share. `otherwise`: their id where
  // they are too many or the graph is too large to be remembered.
  std::shared_ptr<const Collected> Collect(const Graph& graph, const std::vector<Watch>& watched,
                                           const OpenedData& data,
                                           const CalibrationOptions& calibration,
                                           const std::string& otherwise) {
    CalibrationOptions quiet = calibration;
    quiet.progress = {};
    const auto compute = [&](const std::string& id) {
      Collected collected{CollectStatistics(graph, watched, data.data, quiet), {}};
      if (spec_.views) collected.views = ViewsOf(id, collected.result.statistics);
      return collected;
    };
    if (ConstantBytes(graph) > kHashedGraph || statistics_.size() >= kKeptStatistics)
      return std::make_shared<const Collected>(compute(otherwise));
    std::string key = Hash(SerializeOnnx(graph)) + data.hash + Cat(calibration.allow_noise);
    for (const Watch& w : watched) key += Cat('\n', graph.value(w.value).name, ' ', w.channel_axis);
    const std::string id = Hash(key);
    return statistics_.Get(id, [&] { return compute(id); });
  }

  // Returns the network that was judged.
  Model Compute(const SweepPoint& point, int threads, PointRecord& record,
                std::vector<std::shared_ptr<const Collected>>& collected) {
    const std::shared_lock computing(machine_);
    const Model& model = *ModelOf(point);
    const auto calibration = DataOf(point, point.calibration);
    const auto evaluation = DataOf(point, point.evaluation);
    const Recipe recipe = RecipeOf(point);

    auto start = Clock::now();
    RoadOptions road;
    road.threads = threads;
    road.allow_noise = point.calibration.allow_noise;
    road.collect = [&](const Graph& graph, const std::vector<Watch>& watched, const Dataset&,
                       const CalibrationOptions& how) {
      collected.push_back(
          Collect(graph, watched, *calibration, how, Hash(Cat(record.id, '\n', collected.size()))));
      return collected.back()->result;
    };
    auto graph = std::make_shared<Graph>(model.graph());
    QuantizeResult result = QuantizeGraph(*graph, &calibration->data, recipe, road);
    record.quantize_s = SecondsSince(start);
    record.ranges = std::move(result.activations);
    record.smoothing = std::move(result.smoothing);
    record.warnings = std::move(result.warnings);
    const Int8Share share = Int8ShareOfMacs(*graph, ShapesOf(*graph, calibration->data));
    record.macs_int8_fraction = share.fraction.value_or(std::numeric_limits<double>::quiet_NaN());
    const Model quantized(std::move(graph));

    start = Clock::now();
    EvalRequest request;
    request.metrics = spec_.metrics;
    request.threads = threads;
    const auto reference = ReferenceOf(point);
    request.outputs = reference.get();
    const Model lowered = Lower(quantized).first;
    const EvalResult eval = EvaluateGraphs(lowered.graph(), nullptr, evaluation->data, request);
    record.metrics = eval.metrics;
    record.samples = eval.samples;
    record.evaluate_s = SecondsSince(start);

    start = Clock::now();
    AnalyzeLayers(model, quantized, evaluation->data, threads, record);
    record.analyze_s = SecondsSince(start);
    if (spec_.views && !collected.empty()) {
      record.views_before = collected.front()->views.id;
      if (collected.size() > 1) record.views_after = collected.back()->views.id;
    }
    return lowered;
  }

  // What cannot be compared is no failure of the point.
  void AnalyzeLayers(const Model& model, const Model& quantized, const Dataset& data, int threads,
                     PointRecord& record) const {
    if (spec_.analyze_samples == 0) return;
    try {
      AnalyzeRequest request;
      request.threads = threads;
      const int64_t samples = std::min(spec_.analyze_samples, data.size());
      Analysis analysis =
          AnalyzeGraphs(model.graph(), quantized.graph(), data.Select(0, samples), request);
      record.layers = std::move(analysis.result.layers);
    } catch (const Error& e) {
      record.analyze_note = e.what();
    }
  }

  // A point from its beginning to its row; never throws.
  void Finish(const SweepPoint& point, int threads) {
    if (Stopped()) return;
    try {
      const auto start = Clock::now();
      PointRecord record = Begin(point);
      std::vector<std::shared_ptr<const Collected>> collected;
      try {
        const Model judged = Compute(point, threads, record, collected);
        if (spec_.bench_seconds > 0) {
          const std::unique_lock alone(machine_);
          Time(judged, record);
        }
      } catch (const std::exception& e) {
        record.status = PointStatus::kFailed;
        record.error = e.what();
      }
      record.seconds = SecondsSince(start);
      std::vector<const ViewSet*> views;
      for (const auto& c : collected) {
        if (c->views.id == record.views_before || c->views.id == record.views_after)
          views.push_back(&c->views);
      }
      database_.Put(record, views);
      Tell(record);
    } catch (...) {  // the database: nothing more can be kept
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  bool Stopped() {
    const std::lock_guard lock(mutex_);
    return error_ != nullptr;
  }

  void Tell(const PointRecord& record) {
    const std::lock_guard lock(mutex_);
    ++finished_;
    ++(record.status == PointStatus::kDone ? summary_.done : summary_.failed);
    Report("sweep");
    if (!options_.on_point) return;
    options_.on_point({record.model, record.label, NameOf(record.status), record.error,
                       record.metrics, record.seconds, finished_, total_});
  }

  void Report(const std::string& stage) const {
    if (options_.progress && total_ > 0) options_.progress({stage, finished_, total_});
  }

  const SweepSpec& spec_;
  const SweepOptions& options_;
  std::string folder_;
  SweepDatabase& database_;
  Memo<std::string> tables_;  // hashes by path
  Memo<Model> models_;
  Memo<OpenedData> data_;
  Memo<ReferenceOutputs> references_;
  Memo<Collected> statistics_;
  std::set<std::string> seen_floats_;
  std::shared_mutex machine_;  // shared: points compute; alone: one is timed
  std::mutex mutex_;           // of what follows
  std::exception_ptr error_;
  int64_t finished_ = 0, total_ = 0;
  SweepSummary summary_;
};

void CheckOptions(const SweepOptions& options) {
  if (options.database.empty())
    Fail(ErrorCode::kInvalidArgument, "sweep: no database; expected the path of an SQLite file");
  if (options.shards < 1 || options.shard < 1 || options.shard > options.shards) {
    Fail(ErrorCode::kInvalidArgument, "sweep: shard ", options.shard, "/", options.shards,
         "; expected 1/n ... n/n");
  }
  if (options.jobs < 0 || !(options.memory_gib >= 0))
    Fail(ErrorCode::kInvalidArgument, "sweep: jobs and memory cannot be negative");
}

}  // namespace

SweepSummary RunSweep(const std::string& yaml_path, const SweepOptions& options) {
  CheckOptions(options);
  const RecipeReader read_recipe = [](const std::string& yaml, const std::string& origin) {
    return Recipe::Parse(yaml, origin).ToYaml();
  };
  const std::string folder = std::filesystem::path(yaml_path).parent_path().string();
  const SweepSpec spec = ParseSweep(ReadFile(yaml_path), folder, yaml_path, read_recipe);
  const bool is_new = !std::filesystem::exists(options.database);
  auto database = std::make_unique<SweepDatabase>(
      options.database,
      options.resume ? SweepDatabase::Open::kEither : SweepDatabase::Open::kCreate);
  try {
    database->SetMeta("name", spec.name);
    database->SetMeta("sweep", spec.text);
    return SweepRun(spec, options, folder, *database).Run();
  } catch (...) {
    const bool is_empty = database->IsEmpty();
    database.reset();
    std::error_code ignored;
    if (is_new && is_empty) std::filesystem::remove(options.database, ignored);
    throw;
  }
}

void MergeSweeps(const std::vector<std::string>& inputs, const std::string& output) {
  if (inputs.empty()) Fail(ErrorCode::kInvalidArgument, "sweep: no databases to merge");
  // Beside the output first: a merge that fails leaves nothing behind.
  const std::string temporary = output + ".merging";
  if (std::filesystem::exists(output))
    Fail(ErrorCode::kInvalidArgument, "'", output, "' exists; expected a new name for the merge");
  std::filesystem::remove(temporary);
  try {
    SweepDatabase merged(temporary, SweepDatabase::Open::kCreate);
    for (const std::string& input : inputs) merged.Merge(input);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  std::filesystem::rename(temporary, output);
}

std::string SweepCsv(const std::string& database) {
  return PointsAsCsv({database, SweepDatabase::Open::kExisting});
}

std::string SweepJson(const std::string& database) {
  return PointsAsJson({database, SweepDatabase::Open::kExisting});
}

}  // namespace octet
