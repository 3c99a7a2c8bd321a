#include "quantize/calibration.h"

#include <chrono>
#include <mutex>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "runtime/executor.h"

namespace octet {

struct ProgressMeter::State {
  std::mutex mutex;
  std::string stage;
  int64_t done = 0;
  int64_t total = 0;
  const Progress& progress;
  std::chrono::steady_clock::time_point last;
};

ProgressMeter::ProgressMeter(std::string stage, int64_t total, const Progress& progress)
    : state_(new State{{}, std::move(stage), 0, total, progress, {}}) {}

ProgressMeter::~ProgressMeter() = default;

void ProgressMeter::Advance(int64_t n) {
  if (!state_->progress) return;
  const std::lock_guard lock(state_->mutex);
  state_->done += n;
  const auto now = std::chrono::steady_clock::now();
  if (state_->done < state_->total && now - state_->last < std::chrono::milliseconds(100)) return;
  state_->last = now;
  state_->progress({state_->stage, state_->done, state_->total});
}

namespace {

std::string HashOf(const Sample& sample) {
  std::string text = sample.name;
  for (const Tensor& t : sample.inputs) {
    text += Sha256Hex({static_cast<const std::byte*>(t.raw()), static_cast<size_t>(t.bytes())});
  }
  return Sha256Hex(std::as_bytes(std::span(text)));
}

}  // namespace

std::vector<InputSpec> InputSpecs(const Graph& graph) {
  std::vector<InputSpec> specs;
  for (ValueId v : graph.inputs) {
    const Value& value = graph.value(v);
    specs.push_back({value.name, value.type.dtype, value.type.dims});
  }
  return specs;
}

CalibrationResult CollectStatistics(const Graph& graph, const std::vector<Watch>& watched,
                                    const Dataset& data, const CalibrationOptions& options) {
  const int64_t batch = options.batch;
  if (data.size() == 0) Fail(ErrorCode::kBadData, "calibration: the data set is empty");
  if (batch < 1)
    Fail(ErrorCode::kInvalidArgument, "calibration: batch is ", batch, "; expected at least 1");
  ExecutorOptions executor_options;
  std::map<ValueId, int> axes;
  for (const Watch& w : watched) {
    if (axes.emplace(w.value, w.channel_axis).second) executor_options.taps.push_back(w.value);
  }
  const Executor executor(graph, executor_options);
  const ThreadScope scope(options.threads);

  DataCheck check(InputSpecs(graph), options.allow_noise);
  // One accumulator per sample in flight; merging is exact, so which sample went where does not
  // matter.
  std::mutex mutex;
  std::vector<Statistics> free;
  ProgressMeter meter(options.stage, data.size(), options.progress);
  const int64_t batches = (data.size() + batch - 1) / batch;
  ParallelForEach(batches, [&](int64_t b) {
    const int64_t begin = b * batch;
    const int64_t count = std::min(batch, data.size() - begin);
    Statistics mine;
    {
      const std::lock_guard lock(mutex);
      if (!free.empty()) {
        mine = std::move(free.back());
        free.pop_back();
      }
    }
    std::vector<Tensor> joined;
    for (int64_t i = begin; i < begin + count; ++i) {
      Sample sample = data.Load(i);
      check.Observe(sample);
      mine.AddSample(HashOf(sample));
      if (count == 1) joined = std::move(sample.inputs);
    }
    if (count > 1) joined = data.LoadBatch(begin, count).inputs;
    std::vector<TensorView> inputs;
    for (const Tensor& t : joined) inputs.push_back(t.view());
    (void)executor.Run(inputs, [&](ValueId v, const TensorView& view) {
      if (view.dtype != DType::kFloat32) return;
      mine.Observe(graph.value(v).name, view, axes.at(v), count);
    });
    const std::lock_guard lock(mutex);
    free.push_back(std::move(mine));
    meter.Advance(count);
  });

  CalibrationResult result;
  for (const Statistics& s : free) result.statistics.Merge(s);
  for (const auto& [name, value] : result.statistics.values()) {
    if (value.non_finite() > 0) {
      Fail(ErrorCode::kBadData, "calibration: value '", name, "' has ", value.non_finite(),
           " elements that are NaN or infinite; the float model does not compute finite numbers on "
           "this data");
    }
  }
  result.warnings = check.Finish();
  return result;
}

}  // namespace octet
