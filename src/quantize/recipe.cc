// Recipes from YAML and back. Every key is listed once, in Fields().
#include "octet/recipe.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iomanip>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "calibrate/range_search.h"
#include "numerics/approx_multiplier.h"
#include "passes/place_quantizers.h"
#include "quantize/layer_formats.h"
#include "quantize/layer_multiplier.h"

namespace octet {
namespace {

// Where in which file a value stands, for messages.
struct Place {
  std::string origin;
  std::string key;
  int line;
};

[[noreturn]] void Wrong(const Place& at, const std::string& got, const std::string& expected) {
  Fail(ErrorCode::kInvalidArgument, at.origin, ":", at.line + 1, ": '", at.key, "' is ", got,
       "; expected ", expected);
}

std::string Scalar(const YAML::Node& node, const Place& at, const std::string& expected) {
  if (!node.IsScalar())
    Wrong(at, node.IsMap() ? "a mapping" : node.IsSequence() ? "a list" : "empty", expected);
  return node.Scalar();
}

bool ReadBool(const YAML::Node& node, const Place& at) {
  const std::string text = Scalar(node, at, "true or false");
  if (text == "true" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "no" || text == "off") return false;
  Wrong(at, "'" + text + "'", "true or false");
}

Switch ReadSwitch(const YAML::Node& node, const Place& at) {
  const std::string text = Scalar(node, at, "on, off or auto");
  if (text == "auto") return Switch::kAuto;
  if (text == "true" || text == "yes" || text == "on") return Switch::kOn;
  if (text == "false" || text == "no" || text == "off") return Switch::kOff;
  Wrong(at, "'" + text + "'", "on, off or auto");
}

std::string SwitchName(Switch s) {
  return s == Switch::kOff ? "off" : s == Switch::kOn ? "on" : "auto";
}

std::string ReadChoice(const YAML::Node& node, const Place& at,
                       const std::vector<std::string>& choices) {
  std::string expected;
  for (const auto& c : choices) expected += (expected.empty() ? "" : ", ") + c;
  std::string text = Scalar(node, at, expected);
  if (std::find(choices.begin(), choices.end(), text) == choices.end())
    Wrong(at, "'" + text + "'", expected);
  return text;
}

float ReadAlpha(const YAML::Node& node, const Place& at) {
  const std::string text = Scalar(node, at, "a number from 0 to 1");
  float v = 0;
  if (!YAML::convert<float>::decode(node, v) || !(v >= 0 && v <= 1))
    Wrong(at, "'" + text + "'", "a number from 0 to 1");
  return v;
}

std::string ReadEstimator(const YAML::Node& node, const Place& at) {
  const std::string text = Scalar(node, at, "a range estimator");
  try {
    (void)RangeEstimator::Parse(text);
  } catch (const Error& e) {
    Wrong(at, "'" + text + "'", Cat("a range estimator (", e.what(), ")"));
  }
  return text;
}

std::string ReadWeightEstimator(const YAML::Node& node, const Place& at) {
  const std::string text = Scalar(node, at, "a range estimator");
  try {
    CheckWeightEstimator(RangeEstimator::Parse(text));
  } catch (const Error& e) {
    Wrong(at, "'" + text + "'", Cat("a range estimator of weights (", e.what(), ")"));
  }
  return text;
}

// Formats are checked as a whole in Check().
std::string ReadFormats(const YAML::Node& node, const Place& at) {
  const std::string text = Scalar(node, at, "a number format");
  try {
    (void)ParseFormats(text);
  } catch (const Error& e) {
    Wrong(at, "'" + text + "'", Cat("a number format (", e.what(), ")"));
  }
  return text;
}

std::string ReadMultiplier(const YAML::Node& node, const Place& at) {
  const std::string text = Scalar(node, at, "a multiplier");
  try {
    (void)Multiplier::Parse(text);
  } catch (const Error& e) {
    Wrong(at, "'" + text + "'", Cat("a multiplier (", e.what(), ")"));
  }
  return text;
}

const std::vector<std::string> kGranularities = {"channel", "tensor"};

struct Field {
  const char* key;
  std::function<void(Recipe&, const YAML::Node&, const Place&)> read;
  std::function<std::string(const Recipe&)> write;
};

// Nine digits: a float32 comes back as it was.
std::string Number(float value) {
  std::ostringstream text;
  text << std::setprecision(9) << value;
  return text.str();
}

std::string BoolName(bool b) { return b ? "true" : "false"; }

const std::vector<Field>& Fields() {
  using Y = const YAML::Node&;
  using P = const Place&;
  static const std::vector<Field> fields = {
      {"name", [](Recipe& r, Y n, P at) { r.name = Scalar(n, at, "a name"); },
       [](const Recipe& r) { return r.name; }},
      {"target",
       [](Recipe& r, Y n, P at) {
         r.target = ReadChoice(n, at, {"octet", "onnxruntime", "tensorrt"});
       },
       [](const Recipe& r) { return r.target; }},
      {"placement",
       [](Recipe& r, Y n, P at) {
         r.placement = ReadChoice(n, at, {"auto", "full", "compute"});
       },
       [](const Recipe& r) { return r.placement; }},
      {"matmul",
       [](Recipe& r, Y n, P at) {
         r.matmul = ReadChoice(n, at, {"weights", "all"});
       },
       [](const Recipe& r) { return r.matmul; }},
      {"activation_format",
       [](Recipe& r, Y n, P at) {
         r.activation_format = Scalar(n, at, "auto or a number format");
         if (r.activation_format == "auto") {
           r.activation_format.clear();
         } else {
           r.activation_format = ReadFormats(n, at);
         }
       },
       [](const Recipe& r) { return r.activation_format.empty() ? "auto" : r.activation_format; }},
      {"estimator", [](Recipe& r, Y n, P at) { r.estimator = ReadEstimator(n, at); },
       [](const Recipe& r) { return r.estimator; }},
      {"weight_format", [](Recipe& r, Y n, P at) { r.weight_format = ReadFormats(n, at); },
       [](const Recipe& r) { return r.weight_format; }},
      {"weight_estimator",
       [](Recipe& r, Y n, P at) { r.weight_estimator = ReadWeightEstimator(n, at); },
       [](const Recipe& r) { return r.weight_estimator; }},
      {"weight_granularity",
       [](Recipe& r, Y n, P at) { r.weight_granularity = ReadChoice(n, at, kGranularities); },
       [](const Recipe& r) { return r.weight_granularity; }},
      {"search_by",
       [](Recipe& r, Y n, P at) {
         r.search_by = ReadChoice(n, at, {"output", "tensor"});
       },
       [](const Recipe& r) { return r.search_by; }},
      {"multiplier", [](Recipe& r, Y n, P at) { r.multiplier = ReadMultiplier(n, at); },
       [](const Recipe& r) { return r.multiplier; }},
      {"result_range",
       [](Recipe& r, Y n, P at) {
         r.result_range = ReadChoice(n, at, {"minmax", "search"});
       },
       [](const Recipe& r) { return r.result_range; }},
      {"fold_batchnorm", [](Recipe& r, Y n, P at) { r.fold_batchnorm = ReadBool(n, at); },
       [](const Recipe& r) { return BoolName(r.fold_batchnorm); }},
      {"reestimate_batchnorm",
       [](Recipe& r, Y n, P at) { r.reestimate_batchnorm = ReadBool(n, at); },
       [](const Recipe& r) { return BoolName(r.reestimate_batchnorm); }},
      {"equalize", [](Recipe& r, Y n, P at) { r.equalize = ReadSwitch(n, at); },
       [](const Recipe& r) { return SwitchName(r.equalize); }},
      {"smooth", [](Recipe& r, Y n, P at) { r.smooth = ReadSwitch(n, at); },
       [](const Recipe& r) { return SwitchName(r.smooth); }},
      {"alpha",
       [](Recipe& r, Y n, P at) {
         if (n.IsScalar() && n.Scalar() == "sweep") {
           r.alpha.reset();
         } else {
           r.alpha = ReadAlpha(n, at);
         }
       },
       [](const Recipe& r) { return r.alpha ? Number(*r.alpha) : std::string("sweep"); }},
      {"bias_correction",
       [](Recipe& r, Y n, P at) {
         r.bias_correction = ReadChoice(n, at, {"none", "analytic", "empirical"});
       },
       [](const Recipe& r) { return r.bias_correction; }},
      {"quantize_outputs", [](Recipe& r, Y n, P at) { r.quantize_outputs = ReadBool(n, at); },
       [](const Recipe& r) { return BoolName(r.quantize_outputs); }},
  };
  return fields;
}

LayerRule ReadRule(const YAML::Node& node, const std::string& origin) {
  const Place whole{origin, "layers", node.Mark().line};
  if (!node.IsMap())
    Wrong(whole, "not a list of mappings", "entries such as {match: 'conv_dw_*', skip: true}");
  LayerRule rule;
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.Scalar();
    const Place at{origin, "layers." + key, entry.first.Mark().line};
    if (!seen.insert(key).second) Wrong(at, "given twice", "it once");
    if (key == "match") {
      rule.match = Scalar(entry.second, at, "a glob over node names");
    } else if (key == "skip") {
      rule.skip = ReadBool(entry.second, at);
    } else if (key == "estimator") {
      rule.estimator = ReadEstimator(entry.second, at);
    } else if (key == "activation_format") {
      rule.activation_format = ReadFormats(entry.second, at);
    } else if (key == "weight_format") {
      rule.weight_format = ReadFormats(entry.second, at);
    } else if (key == "weight_estimator") {
      rule.weight_estimator = ReadWeightEstimator(entry.second, at);
    } else if (key == "multiplier") {
      rule.multiplier = ReadMultiplier(entry.second, at);
    } else if (key == "weight_granularity") {
      rule.weight_granularity = ReadChoice(entry.second, at, kGranularities);
    } else if (key == "alpha") {
      rule.alpha = ReadAlpha(entry.second, at);
    } else {
      Wrong(at, "not a key of a layer rule",
            "match, skip, estimator, activation_format, weight_format, weight_estimator, "
            "weight_granularity, multiplier or alpha");
    }
  }
  if (rule.match.empty()) Wrong(whole, "a rule without 'match'", "a glob over node names");
  return rule;
}

void ReadInto(Recipe& recipe, const YAML::Node& root, const std::string& origin) {
  if (root.IsNull()) return;
  if (!root.IsMap()) Fail(ErrorCode::kInvalidArgument, origin, ": not a mapping of recipe keys");
  std::set<std::string> seen;
  for (const auto& entry : root) {
    if (!entry.first.IsScalar())
      Fail(ErrorCode::kInvalidArgument, origin, ": a key that is not a word");
    const std::string key = entry.first.Scalar();
    const Place at{origin, key, entry.first.Mark().line};
    if (!seen.insert(key).second) Wrong(at, "given twice", "it once");
    if (key == "preset") continue;  // taken before everything else
    if (key == "layers") {
      if (!entry.second.IsSequence()) Wrong(at, "not a list", "a list of rules");
      for (const auto& rule : entry.second) recipe.layers.push_back(ReadRule(rule, origin));
      continue;
    }
    const auto field = std::find_if(Fields().begin(), Fields().end(),
                                    [&](const Field& f) { return key == f.key; });
    if (field == Fields().end()) {
      std::string known = "preset, layers";
      for (const Field& f : Fields()) known += Cat(", ", f.key);
      Wrong(at, "not a recipe key", "one of " + known);
    }
    field->read(recipe, entry.second, at);
  }
}

std::string Quoted(const std::string& text) {
  // yaml-cpp writes a carriage return as it is, and reads it as the end of the line.
  const bool control =
      std::any_of(text.begin(), text.end(), [](char c) { return c >= 0 && c < ' '; });
  YAML::Emitter out;
  if (control) out << YAML::DoubleQuoted;
  out << text;
  return out.c_str();
}

[[noreturn]] void Refuse(const Recipe& recipe, const std::string& what, const std::string& why) {
  Fail(ErrorCode::kInvalidArgument, "recipe '", recipe.name, "': ", what, "; ", why);
}

void CheckForTarget(const Recipe& recipe, Target target, const NumberFormat& format,
                    const std::string& what) {
  if (target == Target::kOctet) return;
  const std::string named = Cat("target ", TargetName(target), " with ", what);
  if (!HasStandardQuantizer(format)) {
    Refuse(recipe, named,
           "ONNX has quantizers of int8, uint8, float8_e4m3fn, float8_e4m3fnuz, float8_e5m2 and "
           "float8_e5m2fnuz; other formats run with target octet");
  }
  if (target != Target::kTensorRt) return;
  if (format == NumberFormat(kUint8))
    Refuse(recipe, named, "TensorRT takes signed symmetric int8 only");
  if (format.is_float() && format.Name() != "e4m3fn")
    Refuse(recipe, named, "of the float8 types TensorRT takes float8_e4m3fn only");
}

// Either may be empty: not given here.
void CheckFormats(const Recipe& recipe, Target target, const std::string& activation,
                  const std::string& weight, const std::string& where) {
  if (!activation.empty()) {
    for (const NumberFormat& format : ParseFormats(activation).formats) {
      CheckForTarget(recipe, target, format, Cat("activation_format ", format.Name(), where));
      if (target == Target::kOnnxRuntime && recipe.placement == "full" && format.is_float()) {
        Refuse(recipe, Cat("placement full with activation_format float8_", format.Name(), where),
               "ONNX Runtime has no float8 operators to put between quantizers; use placement "
               "compute, or auto");
      }
    }
  }
  if (weight.empty()) return;
  for (const NumberFormat& format : ParseFormats(weight).formats) {
    const std::string what = Cat("weight_format ", format.Name(), where);
    CheckForTarget(recipe, target, format, what);
    if (!format.is_signed())
      Refuse(recipe, what, "weights are symmetric about 0 and need a signed format");
  }
}

void CheckEstimator(const Recipe& recipe, const std::string& text, const std::string& activation,
                    const std::string& where) {
  const RangeEstimator estimator = RangeEstimator::Parse(text);
  if (estimator.method == RangeMethod::kCrossEntropy && where.empty()) {
    Refuse(recipe, "estimator cross-entropy",
           "it is of logits alone; set it in a rule of the operator that reads them or, of a graph "
           "output, makes them");
  }
  if (estimator.method != RangeMethod::kMse2d || activation.empty()) return;
  for (const NumberFormat& format : ParseFormats(activation).formats) {
    if (format.is_float() || format.is_signed()) {
      Refuse(recipe, Cat("estimator mse-2d with activation_format ", format.Name(), where),
             "it searches for both ends of a grid with a zero point, which unsigned integers have");
    }
  }
}

// `activation` may be empty: auto.
void CheckMultiplier(const Recipe& recipe, Target target, const std::string& multiplier,
                     const std::string& activation, const std::string& weight,
                     const std::string& where) {
  const FormatRequest x = activation.empty() ? FormatRequest{{kUint8}} : ParseFormats(activation);
  CheckLayerMultiplier(recipe.name, target, {multiplier, x, ParseFormats(weight), where});
}

// Whether another rule sets what this one leaves open of a multiplier and its formats: then only
// the layers of a model tell what goes with what.
bool LeavesToOthers(const std::vector<LayerRule>& rules, const LayerRule& rule) {
  return std::any_of(rules.begin(), rules.end(), [&](const LayerRule& other) {
    return (!rule.multiplier && other.multiplier) ||
           (!rule.activation_format && other.activation_format) ||
           (!rule.weight_format && other.weight_format);
  });
}

}  // namespace

std::vector<std::string> Recipe::PresetNames() { return {"default", "fast", "naive"}; }

Recipe Recipe::Preset(const std::string& preset) {
  Recipe r;
  r.name = preset;
  if (preset == "default") return r;
  if (preset == "fast") {
    r.estimator = "minmax";
    r.smooth = Switch::kOff;
    r.equalize = Switch::kOff;
    r.bias_correction = "analytic";
    return r;
  }
  if (preset == "naive") {
    r.estimator = "minmax";
    r.weight_granularity = "tensor";
    r.smooth = Switch::kOff;
    r.equalize = Switch::kOff;
    r.bias_correction = "none";
    return r;
  }
  std::string known;
  for (const auto& p : PresetNames()) known += (known.empty() ? "" : ", ") + p;
  Fail(ErrorCode::kInvalidArgument, "unknown recipe preset '", preset, "'; expected ", known,
       " or a YAML file");
}

Recipe Recipe::Parse(const std::string& yaml, const std::string& origin) {
  // Enough for thousands of rules; keeps a hostile file from deep recursion in the YAML reader.
  if (yaml.size() > (1U << 20U))
    Fail(ErrorCode::kInvalidArgument, origin, ": a recipe of more than 1 MiB");
  try {
    const YAML::Node root = YAML::Load(yaml);
    Recipe recipe;
    if (root.IsMap() && root["preset"]) {
      const YAML::Node preset = root["preset"];
      recipe = Preset(Scalar(preset, {origin, "preset", preset.Mark().line}, "a preset's name"));
    }
    ReadInto(recipe, root, origin);
    recipe.Check();
    return recipe;
  } catch (const YAML::Exception& e) {
    Fail(ErrorCode::kInvalidArgument, origin, ": not valid YAML: ", e.what());
  }
}

Recipe Recipe::Load(const std::string& preset_or_path) {
  const auto names = PresetNames();
  if (std::find(names.begin(), names.end(), preset_or_path) != names.end())
    return Preset(preset_or_path);
  const std::filesystem::path path(preset_or_path);
  const bool is_word = !path.has_extension() && !path.has_parent_path();
  if (is_word && !std::filesystem::exists(path))
    return Preset(preset_or_path);  // throws, naming the presets
  return Parse(ReadFile(path), preset_or_path).WithTablesIn(path.parent_path().string());
}

std::vector<std::string> Recipe::TableFiles() const {
  std::vector<std::string> files;
  const auto add = [&](const std::string& text) {
    const Multiplier m = Multiplier::Parse(text);
    if (m.kind == MultiplierKind::kTable &&
        std::find(files.begin(), files.end(), m.file) == files.end())
      files.push_back(m.file);
  };
  add(multiplier);
  for (const LayerRule& rule : layers)
    if (rule.multiplier) add(*rule.multiplier);
  return files;
}

Recipe Recipe::WithTablesIn(const std::string& folder) const {
  const auto move = [&](std::string* text) {
    Multiplier m = Multiplier::Parse(*text);
    if (m.kind != MultiplierKind::kTable) return;
    m.file = (std::filesystem::path(folder) / m.file).string();
    *text = m.Name();
  };
  Recipe moved = *this;
  move(&moved.multiplier);
  for (LayerRule& rule : moved.layers)
    if (rule.multiplier) move(&*rule.multiplier);
  return moved;
}

std::string Recipe::ToYaml() const {
  std::string out;
  for (const Field& f : Fields()) out += Cat(f.key, ": ", Quoted(f.write(*this)), "\n");
  if (layers.empty()) return out;
  out += "layers:\n";
  for (const LayerRule& r : layers) {
    out += "  - match: " + Quoted(r.match) + "\n";
    if (r.skip) out += Cat("    skip: ", BoolName(*r.skip), "\n");
    if (r.estimator) out += Cat("    estimator: ", Quoted(*r.estimator), "\n");
    if (r.activation_format)
      out += Cat("    activation_format: ", Quoted(*r.activation_format), "\n");
    if (r.weight_format) out += Cat("    weight_format: ", Quoted(*r.weight_format), "\n");
    if (r.weight_estimator) out += Cat("    weight_estimator: ", *r.weight_estimator, "\n");
    if (r.weight_granularity) out += Cat("    weight_granularity: ", *r.weight_granularity, "\n");
    if (r.multiplier) out += Cat("    multiplier: ", Quoted(*r.multiplier), "\n");
    if (r.alpha) out += "    alpha: " + Number(*r.alpha) + "\n";
  }
  return out;
}

void Recipe::Check() const {
  const Target parsed = ParseTarget(target);
  CheckEstimator(*this, estimator, activation_format, "");
  CheckWeightEstimator(RangeEstimator::Parse(weight_estimator));
  if (reestimate_batchnorm && fold_batchnorm)
    Refuse(*this, "reestimate_batchnorm with fold_batchnorm",
           "folded BatchNorm has no statistics left; set 'fold_batchnorm: false'");
  CheckFormats(*this, parsed, activation_format, weight_format, "");
  CheckMultiplier(*this, parsed, multiplier, activation_format, weight_format, "");
  for (const LayerRule& rule : layers) {
    CheckEstimator(*this, rule.estimator.value_or(estimator),
                   rule.activation_format.value_or(activation_format),
                   Cat(" of the rule '", rule.match, "'"));
    if (rule.weight_estimator) CheckWeightEstimator(RangeEstimator::Parse(*rule.weight_estimator));
    CheckFormats(*this, parsed, rule.activation_format.value_or(""),
                 rule.weight_format.value_or(""), Cat(" of the rule '", rule.match, "'"));
    if (LeavesToOthers(layers, rule)) continue;
    CheckMultiplier(*this, parsed, rule.multiplier.value_or(multiplier),
                    rule.activation_format.value_or(activation_format),
                    rule.weight_format.value_or(weight_format),
                    Cat(" of the rule '", rule.match, "'"));
  }
  if (parsed == Target::kTensorRt && quantize_outputs) {
    Fail(
        ErrorCode::kInvalidArgument, "recipe '", name,
        "': target tensorrt with quantize_outputs; TensorRT wants no quantizer behind an operator");
  }
}

}  // namespace octet
