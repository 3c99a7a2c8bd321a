// `octet bench MODEL`: the time of one inference, float and quantized side by side.
//
// Outputs are compared before anything is timed. Both take turns (run_timer.h), so that whatever
// else the machine does falls on both; the median, the median absolute deviation (MAD) and the best
// are given, and rates by the work of the model as it was written, not of padded kernels. Samples
// in which another process took a core are left out where enough others remain; where they are not,
// medians give no ratio.
#pragma once

#include <optional>

#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

struct BenchRequest {
  // For every open leading dimension of the inputs; none: 1, where no shape says otherwise.
  std::optional<int64_t> batch;
  double seconds = 2;    // of timed runs per row
  bool steps = false;    // time every step
  bool explain = false;  // say which kernels were refused, and why
  int threads = 0;       // 0: all cores
  Progress progress;
  InputShapes shapes = {};  // for open dimensions
};

// `quantized` may be null; it is run as it is given (lowered, or not). Inputs are random from a
// fixed seed: over the range of the input's quantizer where the quantized graph has one, else in
// [-1, 1).
[[nodiscard]] BenchResult BenchGraphs(const Graph& model, const Graph* quantized,
                                      const BenchRequest& request = {});

// Fills in the ratios of two rows.
void CompareRows(BenchResult& result);

}  // namespace octet
