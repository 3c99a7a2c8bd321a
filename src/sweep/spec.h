// What a sweep file says: blocks of grids over recipe keys, spread out into points. The keys are
// those of a recipe, whatever a recipe knows: a point's recipe is the base with keys replaced, as
// YAML text, and is checked by the reader of recipes. Format: docs/sweeps.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "octet/data.h"

namespace octet {

// From the text of a recipe to the whole effective recipe as YAML; throws kInvalidArgument saying
// what is wrong. The second argument goes into messages.
using RecipeReader = std::function<std::string(const std::string&, const std::string&)>;

struct SweepModel {
  std::string name;  // unique in the sweep
  std::string path;
};

struct SweepPoint {
  int64_t ordinal = 0;  // place in the sweep
  SweepModel model;
  DataOptions calibration, evaluation;
  std::string block;
  std::vector<std::pair<std::string, std::string>> settings;  // keys that vary, with their values
  std::string recipe;   // effective, as YAML; as written where it is refused
  double cost = -1;     // by the file's `cost`; -1: none given
  std::string refused;  // why this combination makes no sense; empty: it does

  [[nodiscard]] std::string Label() const;  // "estimator=mse alpha=0.5"
};

struct SweepSpec {
  std::string name;
  std::vector<std::string> metrics;  // empty: all that the data allow
  int64_t analyze_samples = 16;      // for the errors of the layers; 0: none
  double bench_seconds = 0;          // time every point so long; 0: not at all
  bool views = true;                 // keep channel extrema and histograms of the activations
  std::vector<SweepPoint> points;    // in order, each once
  int64_t duplicates = 0, excluded = 0;
  std::string text;  // of the file
};

// Paths in it are relative to `folder`. Throws kInvalidArgument with the line of what is wrong.
[[nodiscard]] SweepSpec ParseSweep(const std::string& yaml, const std::string& folder,
                                   const std::string& origin, const RecipeReader& read_recipe);

}  // namespace octet
