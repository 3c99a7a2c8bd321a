// What is kept of one point of a sweep.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "octet/results.h"
#include "octet/views.h"

namespace octet {

// The activations of one float graph over one set of samples. Points that calibrate on the same
// graph share it.
struct ViewSet {
  std::string id;  // hash of graph and samples
  std::vector<ActivationView> values;
};

enum class PointStatus { kDone, kFailed, kRefused };
[[nodiscard]] std::string NameOf(PointStatus status);

struct PointRecord {
  // What was asked for. The id is a hash of all that the result depends on.
  std::string id;
  std::string kind = "point";  // or "float": the model itself
  int64_t ordinal = 0;
  std::string sweep, block, model, label;
  std::vector<std::pair<std::string, std::string>> settings;
  std::string recipe;
  std::string model_sha256, calibration_sha256, evaluation_sha256, version, isa;
  double cost = -1;  // -1: none

  // What came of it.
  PointStatus status = PointStatus::kDone;
  std::string error;
  std::string analyze_note;  // why there are no errors of layers
  std::map<std::string, Interval> metrics;
  std::vector<AnalyzeResult::Layer> layers;
  std::vector<QuantizeResult::Activation> ranges;
  std::vector<SmoothingRow> smoothing;
  std::vector<std::string> warnings;
  std::string views_before, views_after;  // ids of ViewSets; empty: none
  int64_t samples = 0;                    // judged
  double macs_int8_fraction = 0;
  double quantize_s = 0, evaluate_s = 0, analyze_s = 0, seconds = 0;
  double latency_s = -1, latency_mad_s = -1;  // of one sample on one thread; -1: not measured
};

}  // namespace octet
