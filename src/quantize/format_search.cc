#include "quantize/format_search.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/parallel.h"
#include "quantize/calibration.h"
#include "quantize/probe.h"

namespace octet {
namespace {

constexpr int kNoGrid = -1;

// An operator that reads a value, and what it may read it in.
struct Reader {
  NodeId node = kNoNode;     // none: the value itself
  ValueId value = kNoValue;  // none: its input stays float
  int grid = kNoGrid;
  int channel_axis = -1;
  const QuantizerPlan::Weighted* weighted = nullptr;
  std::vector<NumberFormat> activations;  // never none: of a float input, one that is not used
  std::vector<FormatRequest> weights;     // the same
  std::vector<double> error;              // activations x weights

  [[nodiscard]] double& Error(size_t a, size_t w) { return error[a * weights.size() + w]; }
  [[nodiscard]] size_t BestWeight(size_t a) const {
    const auto row = error.begin() + static_cast<ptrdiff_t>(a * weights.size());
    return static_cast<size_t>(std::min_element(row, row + static_cast<ptrdiff_t>(weights.size())) -
                               row);
  }
};

class Search {
 public:
  Search(const Graph& graph, const QuantizerPlan& plan, const ActivationRanges& ranges,
         const Recipe& recipe)
      : graph_(graph), plan_(plan), ranges_(ranges), recipe_(recipe) {
    for (const auto& [grid, members] : ranges.grids()) {
      FormatRequest request = ranges.RequestOf(grid);
      // A tensor is one channel: its vote is the least of its own error.
      if (request.choice == FormatRequest::Choice::kVote)
        request.formats = {ranges.Best(grid, request.formats).format};
      for (size_t i : members) AddReaders(plan.activations[i], request.formats);
    }
    for (const auto& w : plan.weighted) {
      const bool known = std::any_of(readers_.begin(), readers_.end(),
                                     [&](const Reader& r) { return r.weighted == &w; });
      if (known) continue;
      Reader reader;
      reader.node = w.node;
      reader.activations = {NumberFormat()};
      AddReader(std::move(reader));
    }
    std::erase_if(readers_, [&](const Reader& r) {
      return r.activations.size() == 1 && r.weights.size() == 1;
    });
  }

  FormatSearchResult Run(const Dataset& data, const Progress& progress) {
    size_t activations = 1, weights = 1;
    for (const Reader& r : readers_) {
      activations = std::max(activations, r.activations.size());
      weights = std::max(weights, r.weights.size());
    }
    ProgressMeter meter("search formats", static_cast<int64_t>(activations * weights), progress);
    for (size_t a = 0; a < activations; ++a) {
      for (size_t w = 0; w < weights; ++w) {
        Measure(a, w, data);
        meter.Advance();
      }
    }
    return Choose();
  }

 private:
  void AddReaders(const QuantizerPlan::Activation& a, const std::vector<NumberFormat>& formats) {
    Reader reader;
    reader.value = a.value;
    reader.grid = a.grid;
    reader.channel_axis = a.channel_axis;
    reader.activations = formats;
    bool read = false;
    for (const Graph::Use& use : graph_.UsesOf(a.value)) {
      const Node& n = graph_.node(use.node);
      const bool wanted = a.readers.empty() || std::find(a.readers.begin(), a.readers.end(),
                                                         use.node) != a.readers.end();
      if (!wanted || graph_.value(n.outputs[0]).type.dtype != DType::kFloat32) continue;
      reader.node = use.node;
      AddReader(reader);
      read = true;
    }
    reader.node = kNoNode;
    if (!read) AddReader(reader);
  }

  void AddReader(Reader reader) {
    reader.weights = {{}};
    for (const auto& w : plan_.weighted) {
      if (reader.node == kNoNode || w.node != reader.node) continue;
      reader.weighted = &w;
      const FormatRequest request = WeightFormats(recipe_, graph_.node(w.node).name);
      reader.weights = {request};
      if (request.choice == FormatRequest::Choice::kSearch) {
        reader.weights.clear();
        for (const NumberFormat& f : request.formats) reader.weights.push_back({{f}, {}});
      }
    }
    reader.error.assign(reader.activations.size() * reader.weights.size(), 0.0);
    readers_.push_back(std::move(reader));
  }

  const GridChoice& GridOf(int grid, const NumberFormat& format) {
    std::optional<GridChoice>& known = grid_choices_[{grid, format.Name()}];
    if (!known) known = ranges_.Choose(grid, format);
    return *known;
  }

  const WeightScaleChoice& WeightOf(const Reader& r, size_t w) {
    std::optional<WeightScaleChoice>& known = weight_choices_[{r.node, w}];
    if (!known) {
      const Node& n = graph_.node(r.node);
      known = ChooseWeight(recipe_, n.name, *graph_.ConstantOf(n.inputs[1]), r.weighted->axis,
                           graph_.value(n.inputs[1]).name, r.weights[w]);
    }
    return *known;
  }

  void Measure(size_t a, size_t w, const Dataset& data) {
    Probe probe(graph_);
    std::vector<Reader*> measured;
    for (Reader& r : readers_) {
      if (a >= r.activations.size() || w >= r.weights.size()) continue;
      const NodeId twin = r.node == kNoNode ? probe.AddTwinOf(r.value) : probe.AddTwin(r.node);
      QuantizerPlan plan;
      QuantizerParams params;
      params.bias = BiasForm::kFloat;
      if (r.grid != kNoGrid) {
        const GridChoice& choice = GridOf(r.grid, r.activations[a]);
        plan.activations.push_back({r.value, 0, r.channel_axis, {twin}});
        params.activations[r.value] = choice.grid;
        params.activation_format = choice.format;
        if (choice.limit > 0) params.activation_limits[r.value] = choice.limit;
      }
      if (r.weighted != nullptr) {
        const WeightScaleChoice& choice = WeightOf(r, w);
        plan.weighted.push_back({twin, r.weighted->axis});
        params.weight_scales[twin] = choice.params.scale;
        params.weight_format = choice.params.format;
        if (!choice.params.limit.empty()) params.weight_limits[twin] = choice.params.limit;
      }
      InsertQuantizersInPlace(probe.graph(), plan, params);
      measured.push_back(&r);
    }
    if (measured.empty()) return;
    const std::vector<ErrorStats> stats = probe.Measure(data, kProbeSamples);
    for (size_t i = 0; i < stats.size(); ++i) measured[i]->Error(a, w) = RelativeError(stats[i]);
  }

  FormatSearchResult Choose() {
    FormatSearchResult result;
    std::map<int, std::vector<double>> totals;  // by grid: of each format of its values
    for (const Reader& r : readers_) {
      if (r.grid == kNoGrid) continue;
      std::vector<double>& total = totals[r.grid];
      total.resize(r.activations.size());
      for (size_t a = 0; a < total.size(); ++a)
        total[a] += r.error[a * r.weights.size() + r.BestWeight(a)];
    }
    for (const Reader& r : readers_) {
      size_t a = 0;
      if (r.grid != kNoGrid) {
        const std::vector<double>& total = totals.at(r.grid);
        a = static_cast<size_t>(std::min_element(total.begin(), total.end()) - total.begin());
        result.activations[r.grid] = r.activations[a];
      }
      if (r.weights.size() > 1) result.weights[r.node] = r.weights[r.BestWeight(a)].formats[0];
    }
    return result;
  }

  const Graph& graph_;
  const QuantizerPlan& plan_;
  const ActivationRanges& ranges_;
  const Recipe& recipe_;
  std::vector<Reader> readers_;
  std::map<std::pair<int, std::string>, std::optional<GridChoice>> grid_choices_;
  std::map<std::pair<NodeId, size_t>, std::optional<WeightScaleChoice>> weight_choices_;
};

}  // namespace

FormatSearchResult SearchFormats(const Graph& graph, const QuantizerPlan& plan,
                                 const ActivationRanges& ranges, const Recipe& recipe,
                                 const Dataset& data, int threads, const Progress& progress) {
  const ThreadScope scope(threads);
  return Search(graph, plan, ranges, recipe).Run(data, progress);
}

}  // namespace octet
