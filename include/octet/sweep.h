// Sweeps: one model or several, quantized by every point of a grid over the keys of a recipe,
// judged and kept in an SQLite database (docs/sweeps.md).
//
//   octet::RunSweep("sweep.yaml", {.database = "runs/sweep.db"});
//   octet::WriteText("sweep.csv", octet::SweepCsv("runs/sweep.db"));
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "octet/results.h"

namespace octet {

// A point that has just been finished.
struct SweepEvent {
  std::string model;
  std::string label;   // "estimator=mse alpha=0.5"
  std::string status;  // done, failed
  std::string error;   // of a failed one
  std::map<std::string, Interval> metrics;
  double seconds = 0;
  int64_t finished = 0, total = 0;  // of those that this run computes
};

struct SweepOptions {
  std::string database;       // SQLite file; its folder is made where it is missing
  bool resume = false;        // go on with a database that exists
  bool retry_failed = false;  // compute points again that failed before
  int shard = 1, shards = 1;  // takes every shards-th point, from the shard-th on (1-based)
  int jobs = 0;               // points at once; 0: as many as cores and memory allow
  double memory_gib = 0;      // for all of them; 0: what the system has free
  std::function<void(const SweepEvent&)> on_point;  // from one thread at a time
  Progress progress;
};

struct SweepSummary {
  int64_t points = 0;      // of the sweep, without those that are given twice
  int64_t duplicates = 0;  // given twice: same model, data and effective recipe
  int64_t excluded = 0;
  int64_t in_shard = 0;
  int64_t before = 0;   // were in the database already
  int64_t done = 0;     // computed now
  int64_t failed = 0;   // now; the database says why
  int64_t refused = 0;  // combinations that make no sense (`skip_invalid: true`)
  int jobs = 0;         // points at once
  double seconds = 0;
};

// Runs what the YAML file says. Results do not depend on jobs, shards or where it was interrupted.
// Throws kInvalidArgument, before anything runs, for a file that is wrong, a combination that makes
// no sense (unless it says skip_invalid), and a database that exists already (unless resume).
[[nodiscard]] SweepSummary RunSweep(const std::string& yaml_path, const SweepOptions& options);

// Joins the databases of shards: all their points, each once.
void MergeSweeps(const std::vector<std::string>& inputs, const std::string& output);

// A row per point: settings, metrics with their intervals, seconds, error.
[[nodiscard]] std::string SweepCsv(const std::string& database);
// The same and the errors of the layers, as JSON.
[[nodiscard]] std::string SweepJson(const std::string& database);

}  // namespace octet
