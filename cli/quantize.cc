// octet calibrate, octet quantize.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "command.h"

namespace octet::cli {

Json ToJson(const QuantizeResult& r) {
  Json j;
  j["samples"] = r.samples;
  j["macs_int8_fraction"] = Number(r.macs_int8_fraction);
  j["macs_uncounted"] = r.macs_uncounted;
  j["float_difference"] = Number(r.float_difference);
  j["seconds"] = r.seconds;
  j["folded_batchnorm"] = r.folded_batchnorm.size();
  j["equalized_groups"] = r.equalized_groups;
  Json smoothing = Json::array();
  for (const auto& s : r.smoothing) {
    Json table = Json::array();
    for (size_t i = 0; i < s.alphas.size(); ++i) {
      table.push_back(
          {{"alpha", Number(static_cast<double>(s.alphas[i]))}, {"error", Number(s.errors[i])}});
    }
    smoothing.push_back({{"group", s.group},
                         {"producers", s.producers},
                         {"consumers", s.consumers},
                         {"round", s.round},
                         {"applied", s.applied},
                         {"alpha", Number(static_cast<double>(s.chosen))},
                         {"table", table}});
  }
  j["smoothing"] = smoothing;
  Json skipped = Json::array();
  for (const auto& s : r.not_smoothed) skipped.push_back({{"value", s.node}, {"reason", s.text}});
  j["not_smoothed"] = skipped;
  Json layers = Json::array();
  for (const auto& l : r.layers) {
    layers.push_back({{"node", l.node},
                      {"op", l.op},
                      {"format", l.format},
                      {"multiplier", l.multiplier},
                      {"result_scale", l.result_scale},
                      {"weight_scale_min", l.weight_scale_min},
                      {"weight_scale_max", l.weight_scale_max},
                      {"dead_channels", l.dead_channels},
                      {"raised_scales", l.raised_scales},
                      {"bias_shift", l.bias_shift}});
  }
  j["layers"] = layers;
  Json activations = Json::array();
  for (const auto& a : r.activations) {
    activations.push_back({{"value", a.value},
                           {"format", a.format},
                           {"lo", a.lo},
                           {"hi", a.hi},
                           {"scale", a.scale},
                           {"zero_point", a.zero_point},
                           {"method", a.method},
                           {"clipped", a.clipped_fraction}});
  }
  j["activations"] = activations;
  Json kept = Json::array();
  for (const auto& k : r.kept_float)
    kept.push_back({{"node", k.node}, {"op", k.op}, {"reason", k.text}});
  j["kept_float"] = kept;
  j["computed_products"] = r.computed_products;
  j["warnings"] = r.warnings;
  return j;
}

namespace {

std::string AlphaName(float alpha) {
  return std::isnan(alpha) ? "-" : fmt::format("{:.2f}", alpha);
}

// Errors at every α, a line per group: the curve that the choice was made from.
void PrintSmoothing(const QuantizeResult& r) {
  if (r.smoothing.empty()) return;
  fmt::print("smoothing: error of the readers' outputs (noise/signal, dB; lower is better)\n");
  std::vector<std::string> header = {"group", "round"};
  const SmoothingRow* longest = &r.smoothing[0];
  for (const auto& s : r.smoothing) {
    if (s.alphas.size() > longest->alphas.size()) longest = &s;
  }
  for (float a : longest->alphas)
    header.push_back(std::isnan(a) ? "none" : fmt::format("{:.2f}", a).substr(1));
  header.emplace_back("alpha");
  Table table(std::move(header));
  for (const auto& s : r.smoothing) {
    std::vector<std::string> row = {Shorten(s.group, 24), fmt::format("{}", s.round)};
    for (float a : longest->alphas) {
      std::string cell;
      for (size_t i = 0; i < s.alphas.size(); ++i) {
        if (s.alphas[i] == a || (std::isnan(a) && std::isnan(s.alphas[i]))) {
          cell = fmt::format("{:.0f}", 10 * std::log10(std::max(s.errors[i], 1e-12)));
        }
      }
      row.push_back(cell);
    }
    row.push_back(s.applied ? AlphaName(s.chosen) : "-");
    table.Add(std::move(row));
  }
  table.Print();
}

// Why no channels can be rescaled: the reason met most often, by its words without the names in
// quotes, as it is for the first input it was given for.
void PrintWhyNotSmoothed(const std::vector<LayerNote>& skipped) {
  std::vector<std::string> kinds;
  for (const auto& s : skipped) {
    std::string kind;
    bool quoted = false;
    for (char c : s.text) {
      if (c == '\'') quoted = !quoted;
      if (!quoted) kind += c;
    }
    kinds.push_back(std::move(kind));
  }
  size_t most = 0;
  std::ptrdiff_t times = 0;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const std::ptrdiff_t n = std::count(kinds.begin(), kinds.end(), kinds[i]);
    if (n > times) {
      most = i;
      times = n;
    }
  }
  fmt::print("nothing smoothed: {}", skipped[most].text);
  if (times > 1) fmt::print(" ({} of {} inputs alike)", times, skipped.size());
  fmt::print("{}\n", skipped.size() > 1 ? "; all reasons: --all" : "");
}

}  // namespace

void PrintQuantize(const QuantizeResult& r, bool all) {
  std::set<std::string> groups, applied;
  for (const auto& s : r.smoothing) {
    groups.insert(s.group);
    if (s.applied) applied.insert(s.group);
  }
  if (all) {
    PrintSmoothing(r);
    for (const auto& s : r.not_smoothed) fmt::print("not smoothed: {}: {}\n", s.node, s.text);
    Table table({"node", "op", "weight scales", "dead", "raised", "bias shift"}, {0, 1});
    for (const auto& l : r.layers) {
      table.Add({Shorten(l.node, 40), l.op,
                 fmt::format("{:.3g}..{:.3g}", l.weight_scale_min, l.weight_scale_max),
                 fmt::format("{}", l.dead_channels), fmt::format("{}", l.raised_scales),
                 fmt::format("{:.3g}", l.bias_shift)});
    }
    table.Print();
    Table ranges({"value", "range", "scale", "zero point", "estimator", "clipped"}, {0, 4});
    for (const auto& a : r.activations) {
      ranges.Add({Shorten(a.value, 40), fmt::format("{:.4g}..{:.4g}", a.lo, a.hi),
                  fmt::format("{:.4g}", a.scale), fmt::format("{}", a.zero_point), a.method,
                  fmt::format("{:.4f} %", 100 * a.clipped_fraction)});
    }
    ranges.Print();
  }
  fmt::print(
      "{} samples; {} BatchNorm folded; {} of {} channel groups smoothed ({} inputs not "
      "smoothable), {} equalized\n",
      r.samples, r.folded_batchnorm.size(), applied.size(), groups.size(), r.not_smoothed.size(),
      r.equalized_groups);
  if (groups.empty() && !r.not_smoothed.empty()) PrintWhyNotSmoothed(r.not_smoothed);
  int64_t dead = 0, raised = 0;
  for (const auto& l : r.layers) {
    dead += l.dead_channels;
    raised += l.raised_scales;
  }
  if (dead > 0) fmt::print("{} dead weight channels (absmax near 0)\n", dead);
  if (raised > 0) fmt::print("{} weight scales raised so that the int32 bias fits\n", raised);
  for (const auto& k : r.kept_float) fmt::print("stays float: {} '{}': {}\n", k.op, k.node, k.text);
  for (const auto& w : r.warnings) fmt::print("warning: {}\n", w);
  const std::string share =
      r.macs_int8_fraction
          ? fmt::format("{:.1f} % of the multiply-adds in INT8", 100 * *r.macs_int8_fraction)
          : "multiply-adds not counted (" + r.macs_uncounted + ")";
  fmt::print(
      "{} operators quantized, {}, in {:.1f} s; the float model moved by {:.2g} of its range\n",
      static_cast<int64_t>(r.layers.size()) + r.computed_products, share, r.seconds,
      r.float_difference);
}

namespace {

// What octet report draws.
Json ToJson(const std::vector<ActivationView>& views) {
  Json list = Json::array();
  for (const auto& v : views) {
    Json magnitudes = Json::array();
    for (size_t c = 0; c < v.channel_min.size(); ++c)
      magnitudes.push_back(Number(std::max(-v.channel_min[c], v.channel_max[c])));
    list.push_back({{"value", v.value},
                    {"lo", v.lo},
                    {"hi", v.hi},
                    {"absmax", magnitudes},
                    {"counts", v.counts}});
  }
  return list;
}

}  // namespace

Command AddCalibrate(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand("calibrate",
                                  "Activation statistics of a float model, as a mergeable file");
  app->footer(
      "Examples:\n  octet calibrate model.onnx --data photos/ --preset imagenet-torch -o "
      "stats.safetensors\n"
      "  octet calibrate --merge a.safetensors b.safetensors -o all.safetensors");
  struct Args {
    std::string model, output, recipe = "default";
    std::vector<std::string> merge;
    DataOptions data;
    int64_t batch = 1;
  };
  auto a = std::make_shared<Args>();
  auto* model = app->add_option("MODEL", a->model, "ONNX file");
  app->add_option("-o,--output", a->output, "Statistics file to write")->required();
  app->add_option("--recipe", a->recipe, "Preset or YAML file: decides which values are watched");
  app->add_option("--batch", a->batch, "Samples per run; the statistics do not depend on it")
      ->check(AboveZero());
  auto* merge = app->add_option("--merge", a->merge, "Statistics files to merge instead");
  merge->excludes(model);
  AddDataOptions(app, a->data, false);
  AddNoiseOption(app, a->data);
  return {
      app, [=, &common] {
        if (!a->merge.empty()) {
          MergeStatistics(a->merge, a->output);
          if (common.json) {
            PrintJson({{"output", a->output}, {"merged", a->merge.size()}});
          } else {
            fmt::print("{} files merged into {}\n", a->merge.size(), a->output);
          }
          return 0;
        }
        if (a->model.empty() || a->data.path.empty()) {
          throw Error(ErrorCode::kInvalidArgument,
                      "calibrate: expected MODEL and --data, or --merge");
        }
        CheckOutput(a->output, {a->model, a->recipe, a->data.path});
        RunOptions options{common.threads, TerminalProgress()};
        const CalibrateResult result = Calibrate(
            Model::Load(a->model), a->data, Recipe::Load(a->recipe), a->output, a->batch, options);
        if (common.json) {
          PrintJson(
              {{"output", a->output}, {"samples", result.samples}, {"warnings", result.warnings}});
        } else {
          for (const auto& w : result.warnings) fmt::print("warning: {}\n", w);
          fmt::print("statistics of {} samples in {}\n", result.samples, a->output);
        }
        return 0;
      }};
}

Command AddQuantize(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand("quantize", "Quantize a float ONNX model to a QDQ ONNX model");
  app->footer(
      "Examples:\n  octet quantize mobilenet.onnx --data photos/ --preset imagenet-tf --samples 64 "
      "-o mobilenet_int8.onnx\n"
      "  octet quantize resnet.onnx --data calib.npy --target tensorrt -o resnet_trt.onnx\n"
      "  octet quantize model.onnx --data photos/ --recipe my.yaml --save-stage smooth=smooth.onnx "
      "-o out.onnx\n"
      "  octet quantize model.onnx --data photos/ --target octet --set "
      "activation_format+weight_format=e3m4:bias=int --set multiplier=hw:d=3 -o approx.onnx\n"
      "Recipes: default, fast (no smoothing, analytic bias correction), naive (per-tensor "
      "minmax),\n"
      "or a YAML file; --print-recipe shows the effective one.");
  struct Args {
    std::string model, output, recipe = "default", target, statistics;
    std::vector<std::string> stages, settings;
    DataOptions data;
    bool print_recipe = false, all = false, views = false;
  };
  auto a = std::make_shared<Args>();
  app->add_option("MODEL", a->model, "Float ONNX file")->required();
  auto* output = app->add_option("-o,--output", a->output, "ONNX file to write");
  app->add_option("--recipe", a->recipe, "Preset or YAML file");
  app->add_option("--target", a->target, "octet, onnxruntime or tensorrt; overrides the recipe's");
  app->add_option("--set", a->settings,
                  "KEY=VALUE of the recipe; KEY+KEY=VALUE, layers.GLOB.KEY=VALUE; repeatable")
      ->allow_extra_args(false);
  app->add_option("--stats", a->statistics,
                  "Statistics of octet calibrate instead of running the data");
  app->add_option("--save-stage", a->stages,
                  "NAME=FILE.onnx: the graph after fold, equalize, smooth, quantize or lower");
  auto* print =
      app->add_flag("--print-recipe", a->print_recipe, "Print the effective recipe and stop");
  app->add_flag("--views", a->views,
                "With --json: channel extrema and histograms of the activations, for octet report");
  app->add_flag("--all", a->all, "Print every layer, range and the smoothing table");
  AddDataOptions(app, a->data, false);
  AddNoiseOption(app, a->data);
  return {
      app, [=, &common] {
        std::vector<std::string> settings = a->settings;
        if (!a->target.empty()) settings.push_back("target=" + a->target);
        const Recipe recipe = WithSettings(Recipe::Load(a->recipe), settings);
        recipe.Check();
        if (print->count() > 0) {
          fmt::print("{}", recipe.ToYaml());
          return 0;
        }
        if (a->data.path.empty() && a->statistics.empty()) {
          throw Error(ErrorCode::kInvalidArgument, "quantize: expected --data, or --stats");
        }
        if (output->count() == 0) {
          throw Error(ErrorCode::kInvalidArgument, "quantize: expected -o OUT.onnx");
        }
        QuantizeOptions options;
        options.threads = common.threads;
        options.progress = TerminalProgress();
        options.statistics = a->statistics;
        for (const std::string& s : a->stages) {
          const auto equals = s.find('=');
          if (equals == std::string::npos || equals + 1 == s.size()) {
            throw Error(ErrorCode::kInvalidArgument,
                        "--save-stage " + s + ": expected NAME=FILE.onnx");
          }
          options.stages.emplace_back(s.substr(0, equals), s.substr(equals + 1));
        }
        const std::vector<std::string> inputs = {a->model, a->statistics, a->recipe, a->data.path};
        CheckOutput(a->output, inputs);
        for (const auto& [stage, file] : options.stages) CheckOutput(file, inputs);
        const Model model = Model::Load(a->model);
        QuantizeViews views;
        if (a->views) options.views = &views;
        const auto [quantized, result] = Quantize(model, a->data, recipe, options);
        quantized.Save(a->output, {{"octet.manifest", ManifestOf(model, a->data, recipe, result)}});
        if (common.json) {
          Json j = ToJson(result);
          j["output"] = a->output;
          if (a->views)
            j["views"] = {{"before", ToJson(views.before)}, {"after", ToJson(views.after)}};
          PrintJson(j);
        } else {
          PrintQuantize(result, a->all);
          fmt::print("wrote {}\n", a->output);
        }
        return 0;
      }};
}

}  // namespace octet::cli
