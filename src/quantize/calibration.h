// Runs the float model over the samples and keeps the statistics of the values that are asked for.
#pragma once

#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

struct Watch {
  ValueId value;
  int channel_axis;  // -1: no channels
};

struct CalibrationOptions {
  int64_t batch = 1;
  int threads = 0;           // 0: all cores
  bool allow_noise = false;  // images whose neighbouring pixels are uncorrelated are taken as well
  Progress progress = {};
  std::string stage = "calibrate";  // for the progress
};

struct CalibrationResult {
  Statistics statistics;
  std::vector<std::string> warnings;
};

// Samples run one by one (or `batch` at a time), one per thread, single-threaded inside: the
// statistics are the same bytes whatever the batch and the threads.
[[nodiscard]] CalibrationResult CollectStatistics(const Graph& graph,
                                                  const std::vector<Watch>& watched,
                                                  const Dataset& data,
                                                  const CalibrationOptions& options);

// The input specs of a graph, as Dataset::Open wants them.
[[nodiscard]] std::vector<InputSpec> InputSpecs(const Graph& graph);

// Reports progress at most ten times a second, from any thread.
class ProgressMeter {
 public:
  ProgressMeter(std::string stage, int64_t total, const Progress& progress);
  ~ProgressMeter();
  ProgressMeter(const ProgressMeter&) = delete;
  ProgressMeter& operator=(const ProgressMeter&) = delete;
  void Advance(int64_t n = 1);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace octet
