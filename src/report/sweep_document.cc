#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "report/document.h"
#include "sweep/database.h"

namespace octet {
namespace {

using nlohmann::ordered_json;

// Sets of activations in a page: some 100 KB each for a network of 30 layers.
constexpr size_t kMaxViews = 24;
// Channels drawn of a value; of more the largest of neighbours.
constexpr size_t kMaxChannels = 512;

ordered_json Positive(double v) { return v < 0 ? ordered_json(nullptr) : Rounded(v); }

ordered_json MetricsOf(const PointRecord& p) {
  ordered_json metrics = ordered_json::object();
  for (const auto& [name, m] : p.metrics)
    metrics[name] = {Rounded(m.value), Rounded(m.lo), Rounded(m.hi)};
  return metrics;
}

ordered_json RangesOf(const std::vector<QuantizeResult::Activation>& ranges) {
  ordered_json all = ordered_json::object();
  for (const auto& a : ranges) {
    all[a.value] = {{"lo", Rounded(static_cast<double>(a.lo))},
                    {"hi", Rounded(static_cast<double>(a.hi))},
                    {"scale", Rounded(static_cast<double>(a.scale))},
                    {"format", a.format},
                    {"method", a.method},
                    {"clipped", Rounded(a.clipped_fraction)}};
  }
  return all;
}

ordered_json SmoothingOf(const std::vector<SmoothingRow>& rows) {
  ordered_json all = ordered_json::array();
  for (const auto& r : rows) {
    ordered_json errors = ordered_json::array();
    for (size_t i = 0; i < r.alphas.size(); ++i)
      errors.push_back({Rounded(static_cast<double>(r.alphas[i])), Rounded(r.errors[i])});
    all.push_back({{"group", r.group},
                   {"round", r.round},
                   {"applied", r.applied},
                   {"alpha", Rounded(static_cast<double>(r.chosen))},
                   {"errors", errors}});
  }
  return all;
}

ordered_json ViewOf(const ActivationView& v) {
  const size_t channels = v.channel_min.size();
  const size_t joined = (channels + kMaxChannels - 1) / kMaxChannels;
  ordered_json magnitudes = ordered_json::array();
  for (size_t c = 0; c < channels; c += std::max<size_t>(1, joined)) {
    double largest = 0;
    for (size_t i = c; i < std::min(channels, c + joined); ++i) {
      const double m =
          std::max(-static_cast<double>(v.channel_min[i]), static_cast<double>(v.channel_max[i]));
      if (std::isfinite(m)) largest = std::max(largest, m);
    }
    magnitudes.push_back(Rounded(largest));
  }
  ordered_json counts = ordered_json::array();
  for (double c : v.counts) counts.push_back(Rounded(c));
  return {{"lo", Rounded(static_cast<double>(v.lo))},
          {"hi", Rounded(static_cast<double>(v.hi))},
          {"absmax", magnitudes},
          {"counts", counts}};
}

// The lines "key: value" of a recipe as Recipe::ToYaml writes them.
ordered_json RecipeValues(const std::string& yaml) {
  ordered_json values = ordered_json::object();
  size_t begin = 0;
  while (begin < yaml.size()) {
    const size_t end = std::min(yaml.find('\n', begin), yaml.size());
    const std::string line = yaml.substr(begin, end - begin);
    const auto colon = line.find(": ");
    if (colon != std::string::npos && line[0] != ' ')
      values[line.substr(0, colon)] = line.substr(colon + 2);
    begin = end + 1;
  }
  return values;
}

// Points whose activations go into the page: by top-1, or else by the divergence from float.
std::vector<const PointRecord*> BestFirst(const std::vector<PointRecord>& points) {
  std::vector<const PointRecord*> ranked;
  for (const auto& p : points) ranked.push_back(&p);
  const auto figure = [](const PointRecord& p, const char* name, double missing) {
    const auto it = p.metrics.find(name);
    return it == p.metrics.end() || std::isnan(it->second.value) ? missing : it->second.value;
  };
  std::stable_sort(ranked.begin(), ranked.end(), [&](const auto* a, const auto* b) {
    const double ta = figure(*a, "top1", -1), tb = figure(*b, "top1", -1);
    return ta != tb ? ta > tb : figure(*a, "kl", 1e300) < figure(*b, "kl", 1e300);
  });
  return ranked;
}

std::string Plural(size_t n, const std::string& what) {
  return Cat(n, " ", what, n == 1 ? "" : "s");
}

}  // namespace

ordered_json Rounded(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == 0) return 0;
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.5g", value);
  return ordered_json::parse(text);
}

ReportDocument DocumentOfSweep(const std::string& database_path) {
  const SweepDatabase database(database_path, SweepDatabase::Open::kExisting);
  const std::vector<PointRecord> records = database.Points();
  if (records.empty()) Fail(ErrorCode::kBadFile, "'", database_path, "' holds no points yet");

  std::map<std::string, int> view_index;
  ordered_json views = ordered_json::array();
  for (const PointRecord* p : BestFirst(records)) {
    for (const std::string& id : {p->views_before, p->views_after}) {
      if (id.empty() || view_index.contains(id) || views.size() >= kMaxViews) continue;
      const auto set = database.Views(id);
      if (!set) continue;
      ordered_json values = ordered_json::object();
      for (const auto& v : set->values) values[v.value] = ViewOf(v);
      view_index[id] = static_cast<int>(views.size());
      views.push_back(std::move(values));
    }
  }
  const auto index_of = [&](const std::string& id) {
    const auto it = view_index.find(id);
    return it == view_index.end() ? -1 : it->second;
  };

  ordered_json layer_sets = ordered_json::array();
  ordered_json points = ordered_json::array();
  std::set<std::string> models, versions, isas;
  for (const PointRecord& p : records) {
    models.insert(p.model);
    versions.insert(p.version);
    isas.insert(p.isa);
    ordered_json settings = ordered_json::object();
    for (const auto& [key, value] : p.settings) settings[key] = value;
    ordered_json names = ordered_json::array(), layers = ordered_json::array();
    for (const auto& l : database.Layers(p.id)) {
      names.push_back({{"node", l.node}, {"op", l.op}});
      layers.push_back({Rounded(l.local_sqnr_db), Rounded(l.accumulated_sqnr_db), Rounded(l.l1),
                        Rounded(l.cosine), Rounded(l.saturated)});
    }
    auto set = std::find(layer_sets.begin(), layer_sets.end(), names);
    if (set == layer_sets.end()) {
      layer_sets.push_back(names);
      set = layer_sets.end() - 1;
    }
    points.push_back({{"kind", p.kind},
                      {"model", p.model},
                      {"block", p.block},
                      {"label", p.label},
                      {"status", NameOf(p.status)},
                      {"error", p.error},
                      {"analyze_note", p.analyze_note},
                      {"warnings", p.warnings},
                      {"settings", settings},
                      {"recipe_values", RecipeValues(p.recipe)},
                      {"recipe", p.recipe},
                      {"metrics", MetricsOf(p)},
                      {"samples", p.samples},
                      {"seconds", Rounded(p.seconds)},
                      {"latency_s", Positive(p.latency_s)},
                      {"cost", Positive(p.cost)},
                      {"layer_set", set - layer_sets.begin()},
                      {"layers", layers},
                      {"ranges", RangesOf(database.Ranges(p.id))},
                      {"smoothing", SmoothingOf(database.Smoothing(p.id))},
                      {"before", index_of(p.views_before)},
                      {"after", index_of(p.views_after)}});
  }
  const auto joined = [](const std::set<std::string>& words) {
    std::string text;
    for (const auto& w : words) text += (text.empty() ? "" : ", ") + w;
    return text;
  };
  ReportDocument document;
  document.title = database.Meta("name").empty() ? "Sweep" : database.Meta("name");
  document.data = {
      {"kind", "sweep"},
      {"subtitle",
       Cat(Plural(records.size() - static_cast<size_t>(std::count_if(
                                       records.begin(), records.end(),
                                       [](const auto& p) { return p.kind == "float"; })),
                  "point"),
           " of ", Plural(models.size(), "model"), ": ", joined(models))},
      {"footer", Cat("Octet ", joined(versions), ", instruction set ", joined(isas),
                     ". Figures are rounded to five digits; the database holds them "
                     "in full.")},
      {"points", points},
      {"layer_sets", layer_sets},
      {"views", views}};
  return document;
}

}  // namespace octet
