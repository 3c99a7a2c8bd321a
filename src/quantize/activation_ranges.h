// From statistics to quantizers of activations: which formats the readers of a value ask for, and
// the range that the recipe's estimator takes for one of them. Values that share a grid (Concat,
// MaxPool, Reshape) get one format and the union of their ranges.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "calibrate/range.h"
#include "calibrate/statistics.h"
#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/recipe.h"
#include "passes/place_quantizers.h"
#include "quantize/layer_formats.h"

namespace octet {

struct GridChoice {
  NumberFormat format;
  float lo = 0, hi = 0;  // of all values together
  ScaleZero grid;
  float limit = 0;                  // of bias=int-round; 0: none
  std::vector<RangeChoice> ranges;  // value by value
  double error = 0;                 // sum of the values' expected squared errors
};

class ActivationRanges {
 public:
  // All outlive it. `data` may be null: then cross-entropy is refused.
  ActivationRanges(const Graph& graph, const QuantizerPlan& plan, const Recipe& recipe,
                   const Statistics& statistics, const Dataset* data, int threads);

  // Indices into the plan's activations, by grid.
  [[nodiscard]] const std::map<int, std::vector<size_t>>& grids() const { return grids_; }
  // All readers of a grid's values must ask for the same: throws kInvalidArgument. Less, of several
  // formats, those that cannot hold its values.
  [[nodiscard]] FormatRequest RequestOf(int grid) const;
  [[nodiscard]] GridChoice Choose(int grid, const NumberFormat& format) const;
  // Of least expected error of the values themselves; ties go to the first.
  [[nodiscard]] GridChoice Best(int grid, const std::vector<NumberFormat>& formats) const;

 private:
  [[nodiscard]] RangeEstimator EstimatorOf(ValueId v) const;
  [[nodiscard]] RangeChoice Range(ValueId v, const NumberFormat& format) const;
  [[nodiscard]] RangeChoice LogitsRange(ValueId v, const NumberFormat& format) const;
  [[nodiscard]] bool IsLogits(ValueId v) const;

  const Graph& graph_;
  const QuantizerPlan& plan_;
  const Recipe& recipe_;
  const Statistics& statistics_;
  const Dataset* data_;
  int threads_;
  std::map<int, std::vector<size_t>> grids_;
};

// Samples whose logits cross-entropy compares.
inline constexpr int64_t kLogitsSamples = 64;

}  // namespace octet
