#include "sweep/spec.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <set>
#include <sstream>

#include "base/error.h"

namespace octet {
namespace {

using Settings = std::vector<std::pair<std::string, YAML::Node>>;

constexpr size_t kMaxPoints = 100000;

std::string Flow(const YAML::Node& node) {
  if (node.IsScalar()) return node.Scalar();
  YAML::Emitter out;
  out.SetMapFormat(YAML::Flow);
  out.SetSeqFormat(YAML::Flow);
  out << node;
  return out.c_str();
}

std::string Trim(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// "a + b": keys that change together. Keys of layer rules hold globs, and stand alone.
std::vector<std::string> SplitKeys(const std::string& key) {
  if (key.starts_with("layers.")) return {key};
  std::vector<std::string> keys;
  std::istringstream in(key);
  for (std::string part; std::getline(in, part, '+');) keys.push_back(Trim(part));
  return keys;
}

std::optional<double> AsNumber(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool SameValue(const std::string& a, const std::string& b) {
  if (a == b) return true;
  const auto x = AsNumber(a);
  const auto y = AsNumber(b);
  return x && y && *x == *y;
}

class Reader {
 public:
  Reader(std::string folder, std::string origin, const RecipeReader& read_recipe)
      : folder_(std::move(folder)), origin_(std::move(origin)), read_recipe_(read_recipe) {}

  SweepSpec Read(const std::string& yaml) {
    spec_.text = yaml;
    if (yaml.size() > (1U << 20U))
      Fail(ErrorCode::kInvalidArgument, origin_, ": a sweep of more than 1 MiB");
    const YAML::Node root = YAML::Load(yaml);
    CheckKeys(root, {"name", "models", "data", "metrics", "analyze", "bench", "views", "base",
                     "grid", "points", "exclude", "blocks", "skip_invalid", "cost"});
    spec_.name =
        root["name"] ? Text(root["name"], "name") : std::filesystem::path(origin_).stem().string();
    ReadModels(root["models"]);
    ReadData(root["data"]);
    for (const auto& m : List(root["metrics"], "metrics"))
      spec_.metrics.push_back(Text(m, "metrics"));
    if (root["analyze"]) spec_.analyze_samples = Count(root["analyze"], "analyze");
    if (root["bench"]) spec_.bench_seconds = BenchSeconds(root["bench"]);
    if (root["views"]) spec_.views = Bool(root["views"], "views");
    if (root["skip_invalid"]) skip_invalid_ = Bool(root["skip_invalid"], "skip_invalid");
    if (root["cost"]) ReadCost(root["cost"]);
    ReadBlock(root, YAML::Node(YAML::NodeType::Map), spec_.name, !root["blocks"]);
    const YAML::Node base = BaseOf(root, YAML::Node(YAML::NodeType::Map));
    int number = 0;
    for (const auto& block : List(root["blocks"], "blocks")) {
      CheckKeys(block, {"name", "base", "grid", "points", "exclude"});
      const std::string name =
          block["name"] ? Text(block["name"], "blocks.name") : Cat("block ", ++number);
      ReadBlock(block, base, name, true);
    }
    Finish();
    return std::move(spec_);
  }

 private:
  [[noreturn]] void Wrong(const YAML::Node& at, const std::string& key, const std::string& got,
                          const std::string& expected) const {
    Fail(ErrorCode::kInvalidArgument, origin_, ":", at.Mark().line + 1, ": '", key, "' is ", got,
         "; expected ", expected);
  }

  void CheckKeys(const YAML::Node& map, const std::vector<std::string>& known) const {
    std::string names;
    for (const auto& k : known) names += (names.empty() ? "" : ", ") + k;
    if (!map.IsMap()) Wrong(map, "the sweep", "not a mapping", "one with some of " + names);
    std::set<std::string> seen;
    for (const auto& entry : map) {
      const std::string key = Flow(entry.first);
      if (std::find(known.begin(), known.end(), key) == known.end())
        Wrong(entry.first, key, "not a key of a sweep here", "one of " + names);
      if (!seen.insert(key).second) Wrong(entry.first, key, "given twice", "it once");
    }
  }

  std::string Text(const YAML::Node& node, const std::string& key) const {
    if (!node.IsScalar() || node.Scalar().empty()) Wrong(node, key, "not a word", "a word");
    return node.Scalar();
  }

  bool Bool(const YAML::Node& node, const std::string& key) const {
    bool value = false;
    if (!node.IsScalar() || !YAML::convert<bool>::decode(node, value))
      Wrong(node, key, "'" + Flow(node) + "'", "true or false");
    return value;
  }

  int64_t Count(const YAML::Node& node, const std::string& key) const {
    int64_t value = 0;
    if (!node.IsScalar() || !YAML::convert<int64_t>::decode(node, value) || value < 0)
      Wrong(node, key, "'" + Flow(node) + "'", "a whole number, 0 or above");
    return value;
  }

  double Figure(const YAML::Node& node, const std::string& key) const {
    double value = 0;
    if (!node.IsScalar() || !YAML::convert<double>::decode(node, value) || !std::isfinite(value))
      Wrong(node, key, "'" + Flow(node) + "'", "a number");
    return value;
  }

  double BenchSeconds(const YAML::Node& node) const {
    bool wanted = false;
    if (node.IsScalar() && YAML::convert<bool>::decode(node, wanted)) return wanted ? 0.5 : 0;
    const double seconds = Figure(node, "bench");
    if (seconds < 0) Wrong(node, "bench", Flow(node), "true, false or seconds");
    return seconds;
  }

  std::vector<YAML::Node> List(const YAML::Node& node, const std::string& key) const {
    std::vector<YAML::Node> items;
    if (!node || node.IsNull()) return items;
    if (node.IsScalar()) return {node};
    if (!node.IsSequence()) Wrong(node, key, "a mapping", "a list");
    for (const auto& item : node) items.push_back(item);
    return items;
  }

  std::string PathOf(const std::string& path) const {
    const std::filesystem::path p(path);
    if (p.is_absolute() || folder_.empty()) return path;
    return (std::filesystem::path(folder_) / p).lexically_normal().string();
  }

  void ReadModels(const YAML::Node& node) {
    std::set<std::string> names;
    for (const auto& item : List(node, "models")) {
      SweepModel model;
      if (item.IsMap()) {
        for (const auto& e : item) {
          if (Flow(e.first) != "name" && Flow(e.first) != "path")
            Wrong(e.first, "models." + Flow(e.first), "not a key", "path and name");
        }
        if (!item["path"]) Wrong(item, "models", "an entry without a path", "path: MODEL.onnx");
        model.path = Text(item["path"], "models.path");
      } else {
        model.path = Text(item, "models");
      }
      model.name = item.IsMap() && item["name"] ? Text(item["name"], "models.name")
                                                : std::filesystem::path(model.path).stem().string();
      model.path = PathOf(model.path);
      if (!names.insert(model.name).second) {
        Wrong(item, "models", "two models named '" + model.name + "'",
              "names that differ: {path: ..., name: ...}");
      }
      models_.push_back(std::move(model));
    }
    if (models_.empty())
      Fail(ErrorCode::kInvalidArgument, origin_, ": no 'models'; expected a list of ONNX files");
  }

  void ReadDataInto(const YAML::Node& node, const std::string& where, DataOptions& data) const {
    if (node.IsScalar()) {
      data.path = PathOf(Text(node, where));
      return;
    }
    const std::vector<std::pair<std::string, std::string*>> texts = {
        {"path", &data.path},    {"preset", &data.preset}, {"resize", &data.resize},
        {"crop", &data.crop},    {"mean", &data.mean},     {"std", &data.std},
        {"scale", &data.scale},  {"order", &data.order},   {"layout", &data.layout},
        {"labels", &data.labels}};
    for (const auto& entry : node) {
      const std::string key = Flow(entry.first);
      if (key == "calibration" || key == "evaluation") continue;  // of the outer mapping
      const std::string name = Cat(where, ".", key);
      const auto text =
          std::find_if(texts.begin(), texts.end(), [&](const auto& t) { return t.first == key; });
      if (text != texts.end()) {
        *text->second = Text(entry.second, name);
        if (key == "path" || key == "labels") *text->second = PathOf(*text->second);
      } else if (key == "samples") {
        data.samples = Count(entry.second, name);
      } else if (key == "skip") {
        data.skip = Count(entry.second, name);
      } else if (key == "allow_noise") {
        data.allow_noise = Bool(entry.second, name);
      } else {
        Wrong(entry.first, name, "not a key of data",
              "path, preset, samples, skip, labels, resize, crop, mean, std, scale, order, layout, "
              "allow_noise, calibration or evaluation");
      }
    }
  }

  void ReadData(const YAML::Node& node) {
    if (!node || !(node.IsMap() || node.IsScalar())) {
      Fail(ErrorCode::kInvalidArgument, origin_,
           ": no 'data'; expected a path, or {path, preset, calibration: {...}, evaluation: "
           "{...}}");
    }
    ReadDataInto(node, "data", calibration_);
    evaluation_ = calibration_;
    if (node.IsMap() && node["calibration"])
      ReadDataInto(node["calibration"], "data.calibration", calibration_);
    if (node.IsMap() && node["evaluation"])
      ReadDataInto(node["evaluation"], "data.evaluation", evaluation_);
    if (calibration_.path.empty() || evaluation_.path.empty())
      Wrong(node, "data", "without a path", "a path for calibration and evaluation");
  }

  void ReadCost(const YAML::Node& node) {
    if (!node.IsMap()) Wrong(node, "cost", "not a mapping", "recipe key: {value: number}");
    for (const auto& key : node) {
      if (!key.second.IsMap()) Wrong(key.second, "cost", "not a mapping", "{value: number}");
      for (const auto& value : key.second)
        costs_[Flow(key.first)][Flow(value.first)] = Figure(value.second, "cost");
    }
  }

  // The base of a block: a preset's name, or recipe keys over the outer base.
  YAML::Node BaseOf(const YAML::Node& block, const YAML::Node& outer) const {
    YAML::Node base = YAML::Clone(outer);
    const YAML::Node own = block["base"];
    if (!own) return base;
    if (own.IsScalar()) {
      base = YAML::Node(YAML::NodeType::Map);
      base["preset"] = Text(own, "base");
      return base;
    }
    if (!own.IsMap()) Wrong(own, "base", "a list", "a preset's name or recipe keys");
    for (const auto& entry : own) base[Flow(entry.first)] = YAML::Clone(entry.second);
    return base;
  }

  // {from: 0.05, to: 0.95, step: 0.05}, both ends included.
  std::vector<YAML::Node> Range(const YAML::Node& node, const std::string& key) const {
    for (const auto& e : node) {
      const std::string k = Flow(e.first);
      if (k != "from" && k != "to" && k != "step")
        Wrong(e.first, key, "a mapping with '" + k + "'", "a list, or {from, to, step}");
    }
    if (!node["from"] || !node["to"] || !node["step"])
      Wrong(node, key, "a mapping", "a list, or {from, to, step}");
    const double from = Figure(node["from"], key);
    const double to = Figure(node["to"], key);
    const double step = Figure(node["step"], key);
    const double steps = std::floor((to - from) / step + 1e-6);
    if (!(step > 0) || !(steps >= 0) || steps > 10000)
      Wrong(node, key, Flow(node), "from <= to, step > 0 and at most 10000 values");
    std::vector<YAML::Node> values;
    for (int i = 0; i <= static_cast<int>(steps); ++i) {
      std::ostringstream text;  // six digits: 0.15, not 0.15000000000000002
      text << std::setprecision(6) << from + i * step;
      values.emplace_back(text.str());
    }
    return values;
  }

  // One choice of a key, or of several coupled ones, as the settings it stands for.
  Settings Choice(const std::string& key, const YAML::Node& value) const {
    const auto keys = SplitKeys(key);
    Settings settings;
    if (keys.size() == 1) return {{keys[0], value}};
    if (value.IsSequence() && value.size() != keys.size()) {
      Wrong(value, key, Cat(value.size(), " values"), Cat(keys.size(), ", one for each key"));
    }
    for (size_t i = 0; i < keys.size(); ++i)
      settings.emplace_back(keys[i], value.IsSequence() ? value[i] : value);
    return settings;
  }

  std::vector<Settings> Spread(const YAML::Node& grid) const {
    std::vector<Settings> all = {{}};
    if (!grid.IsMap()) Wrong(grid, "grid", "not a mapping", "recipe key: [values]");
    for (const auto& entry : grid) {
      const std::string key = Flow(entry.first);
      const auto values =
          entry.second.IsMap() ? Range(entry.second, key) : List(entry.second, "grid." + key);
      if (values.empty()) Wrong(entry.first, "grid." + key, "empty", "a list of values");
      std::vector<Settings> next;
      if (all.size() * values.size() > kMaxPoints)
        Wrong(entry.first, "grid", "too large", Cat("at most ", kMaxPoints, " points"));
      for (const Settings& before : all) {
        for (const auto& value : values) {
          Settings s = before;
          for (auto& setting : Choice(key, value)) s.push_back(std::move(setting));
          next.push_back(std::move(s));
        }
      }
      all = std::move(next);
    }
    return all;
  }

  void ReadBlock(const YAML::Node& block, const YAML::Node& outer, const std::string& name,
                 bool alone) {
    const YAML::Node base = BaseOf(block, outer);
    std::vector<Settings> all;
    const YAML::Node grid = block["grid"];
    if (grid && grid.IsSequence()) {
      for (const auto& g : grid) {
        for (auto& s : Spread(g)) all.push_back(std::move(s));
      }
    } else if (grid) {
      all = Spread(grid);
    }
    for (const auto& point : List(block["points"], "points")) {
      if (!point.IsMap()) Wrong(point, "points", "not a mapping", "{recipe key: value, ...}");
      Settings settings;
      for (const auto& entry : point) {
        for (auto& s : Choice(Flow(entry.first), entry.second)) settings.push_back(std::move(s));
      }
      all.push_back(std::move(settings));
    }
    if (all.empty() && alone) all.emplace_back();  // the base itself
    for (const SweepModel& model : models_) {
      for (const Settings& settings : all)
        AddPoint(model, base, settings, name, List(block["exclude"], "exclude"));
    }
  }

  void AddPoint(const SweepModel& model, const YAML::Node& base, const Settings& settings,
                const std::string& block, const std::vector<YAML::Node>& exclude) {
    SweepPoint point;
    point.model = model;
    point.block = block;
    point.calibration = calibration_;
    point.evaluation = evaluation_;
    YAML::Node recipe = YAML::Clone(base);
    for (const auto& [key, value] : settings) {
      const auto known = [&, k = key](const auto& s) { return s.first == k; };
      if (std::any_of(point.settings.begin(), point.settings.end(), known))
        Wrong(value, key, "set twice in one point", "it once");
      point.settings.emplace_back(key, Flow(value));
      Apply(recipe, point, key, value);
    }
    YAML::Emitter out;
    out << recipe;
    try {
      point.recipe = read_recipe_(out.c_str(), Cat(origin_, ": point ", point.Label()));
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kInvalidArgument && e.code() != ErrorCode::kUnsupported) throw;
      point.recipe = out.c_str();
      point.refused = e.what();
    }
    const auto effective = Effective(point);
    const auto excludes = [&](const YAML::Node& rule) { return Matches(rule, effective); };
    if (std::any_of(exclude.begin(), exclude.end(), excludes)) {
      ++spec_.excluded;
      return;
    }
    point.cost = CostOf(effective);
    if (!point.refused.empty() && !skip_invalid_) {
      Fail(ErrorCode::kInvalidArgument, point.refused,
           "\n('exclude' leaves such points out, 'skip_invalid: true' records them as refused)");
    }
    spec_.points.push_back(std::move(point));
    if (spec_.points.size() > kMaxPoints)
      Fail(ErrorCode::kInvalidArgument, origin_, ": more than ", kMaxPoints, " points");
  }

  void Apply(YAML::Node& recipe, SweepPoint& point, const std::string& key,
             const YAML::Node& value) const {
    if (key == "calibration.samples") {
      point.calibration.samples = Count(value, key);
    } else if (key == "calibration.skip") {
      point.calibration.skip = Count(value, key);
    } else if (key == "evaluation.samples") {
      point.evaluation.samples = Count(value, key);
    } else if (key == "evaluation.skip") {
      point.evaluation.skip = Count(value, key);
    } else if (key.starts_with("layers.")) {
      const auto dot = key.rfind('.');
      if (dot <= 7) Wrong(value, key, "incomplete", "layers.GLOB.KEY");
      YAML::Node rule;
      rule["match"] = key.substr(7, dot - 7);
      rule[key.substr(dot + 1)] = YAML::Clone(value);
      recipe["layers"].push_back(rule);
    } else if (key == "preset") {
      // A preset among the values starts the recipe anew; what is set besides it stays.
      recipe["preset"] = YAML::Clone(value);
    } else {
      recipe[key] = YAML::Clone(value);
    }
  }

  // What exclusions and costs look at: the effective recipe, the point's settings, the model.
  std::map<std::string, std::string> Effective(const SweepPoint& point) const {
    std::map<std::string, std::string> values;
    const YAML::Node recipe = YAML::Load(point.recipe);
    if (recipe.IsMap()) {
      for (const auto& entry : recipe) values[Flow(entry.first)] = Flow(entry.second);
    }
    for (const auto& [key, value] : point.settings) values[key] = value;
    values["model"] = point.model.name;
    return values;
  }

  bool Matches(const YAML::Node& rule, const std::map<std::string, std::string>& values) const {
    if (!rule.IsMap() || rule.size() == 0)
      Wrong(rule, "exclude", "not a mapping", "{recipe key: value or [values], ...}");
    for (const auto& entry : rule) {
      const auto it = values.find(Flow(entry.first));
      if (it == values.end()) return false;
      const auto wanted = List(entry.second, "exclude");
      if (std::none_of(wanted.begin(), wanted.end(),
                       [&](const YAML::Node& w) { return SameValue(Flow(w), it->second); }))
        return false;
    }
    return true;
  }

  double CostOf(const std::map<std::string, std::string>& values) const {
    double cost = 0;
    bool any = false;
    for (const auto& [key, by_value] : costs_) {
      const auto it = values.find(key);
      if (it == values.end()) continue;
      for (const auto& [value, figure] : by_value) {
        if (!SameValue(value, it->second)) continue;
        cost += figure;
        any = true;
      }
    }
    return any ? cost : -1;
  }

  void Finish() {
    std::set<std::string> seen;
    std::vector<SweepPoint> once;
    for (SweepPoint& p : spec_.points) {
      const std::string key =
          Cat(p.model.path, '\n', p.calibration.samples, ' ', p.calibration.skip, ' ',
              p.evaluation.samples, ' ', p.evaluation.skip, '\n', p.recipe);
      if (!seen.insert(key).second) {
        ++spec_.duplicates;
        continue;
      }
      p.ordinal = static_cast<int64_t>(once.size());
      once.push_back(std::move(p));
    }
    spec_.points = std::move(once);
    if (spec_.points.empty())
      Fail(ErrorCode::kInvalidArgument, origin_, ": the sweep has no point");
    const bool all_refused = std::all_of(spec_.points.begin(), spec_.points.end(),
                                         [](const auto& p) { return !p.refused.empty(); });
    if (all_refused) {
      Fail(ErrorCode::kInvalidArgument, origin_,
           ": every point is refused; the first: ", spec_.points[0].refused);
    }
  }

  std::string folder_, origin_;
  const RecipeReader& read_recipe_;
  SweepSpec spec_;
  std::vector<SweepModel> models_;
  DataOptions calibration_, evaluation_;
  std::map<std::string, std::map<std::string, double>> costs_;
  bool skip_invalid_ = false;
};

}  // namespace

std::string SweepPoint::Label() const {
  std::string label;
  for (const auto& [key, value] : settings) label += (label.empty() ? "" : " ") + key + "=" + value;
  return label.empty() ? "base" : label;
}

SweepSpec ParseSweep(const std::string& yaml, const std::string& folder, const std::string& origin,
                     const RecipeReader& read_recipe) {
  try {
    return Reader(folder, origin, read_recipe).Read(yaml);
  } catch (const YAML::Exception& e) {
    Fail(ErrorCode::kInvalidArgument, origin, ": not valid YAML: ", e.what());
  }
}

}  // namespace octet
