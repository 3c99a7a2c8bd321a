// `octet bench linear | conv2d | quantize`: verifies all rows of a problem, then times them in
// turn.
#pragma once

#include "evaluate/bench_ops/problem.h"
#include "evaluate/bench_ops/rows.h"
#include "octet/results.h"

namespace octet {

struct OperatorRequest {
  std::vector<int> threads = {0};  // a table each; 0: all cores
  double seconds = 0.2;            // of timed runs per row
  bool peers = true;
  Progress progress;
};

[[nodiscard]] std::vector<OperatorBenchResult> BenchProblem(const OperatorProblem& problem,
                                                            const OperatorRequest& request);

// Runs and verifies every row, then times them: the body of BenchProblem, on rows as given. Fills
// in the result's rows but for what depends on peaks and other rows.
[[nodiscard]] std::vector<OperatorBenchResult::Row> TimeRows(const std::vector<BenchRow>& rows,
                                                             double seconds,
                                                             const Progress& progress = {});

}  // namespace octet
