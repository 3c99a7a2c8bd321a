// octet eval, octet analyze.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "command.h"

namespace octet::cli {

Json ToJson(const EvalResult& r) {
  Json j;
  j["samples"] = r.samples;
  for (const auto& [name, m] : r.metrics) j[name] = Number(m.value);
  Json intervals;
  for (const auto& [name, m] : r.metrics) intervals[name] = {Number(m.lo), Number(m.hi)};
  j["intervals"] = intervals;
  j["seconds"] = r.seconds;
  return j;
}

void PrintEval(const EvalResult& r) {
  Table table({"metric", "value", "95 % interval"});
  for (const auto& [name, m] : r.metrics) {
    table.Add({name, fmt::format("{:.4f}", m.value), fmt::format("{:.4f} .. {:.4f}", m.lo, m.hi)});
  }
  table.Print();
  fmt::print("{} samples in {}\n", r.samples, Seconds(r.seconds));
}

Command AddEval(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand("eval", "Accuracy on data, alone or against the float model");
  app->footer(
      "Examples:\n  octet eval mobilenet.onnx --data photos/ --preset imagenet-tf --metric "
      "top1,top5\n"
      "  octet eval int8.onnx --against float.onnx --data photos/ --preset imagenet-tf --skip 64\n"
      "Metrics: top1, top5, cross-entropy (labels); kl, agreement, psnr, cosine (--against);\n"
      "top1-change, top5-change, cross-entropy-change (both, paired). Default: all that are "
      "possible.\n"
      "A quantized model runs on the INT8 kernels; --fake runs its quantizers in float.");
  struct Args {
    std::string model, against;
    std::vector<std::string> metrics;
    DataOptions data;
    bool fake = false, int8 = false;
  };
  auto a = std::make_shared<Args>();
  app->add_option("MODEL", a->model, "ONNX file, float or quantized")->required();
  app->add_option("--metric", a->metrics, "Metrics by comma")->delimiter(',');
  app->add_option("--against", a->against, "Float model to compare with");
  auto* fake =
      app->add_flag("--fake", a->fake, "Fake quantization: quantizers in float, no INT8 kernels");
  app->add_flag("--int8", a->int8, "INT8 kernels (the default for a quantized model)")
      ->excludes(fake);
  AddDataOptions(app, a->data, true);
  return {app, [=, &common] {
            const Model model = Model::Load(a->model);
            std::optional<Model> reference;
            if (!a->against.empty()) reference = Model::Load(a->against);
            EvalOptions options;
            options.threads = common.threads;
            options.progress = TerminalProgress();
            options.metrics = a->metrics;
            options.lower = !a->fake;
            const EvalResult result =
                Evaluate(model, a->data, reference ? &*reference : nullptr, options);
            if (common.json) {
              PrintJson(ToJson(result));
            } else {
              PrintEval(result);
            }
            return 0;
          }};
}

Command AddAnalyze(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "analyze", "Which layers lose accuracy: error of each, alone and accumulated");
  app->footer(
      "Example:\n  octet analyze float.onnx int8.onnx --data photos/ --preset imagenet-tf "
      "--samples 32");
  struct Args {
    std::string reference, quantized;
    DataOptions data;
    size_t top = 0;
  };
  auto a = std::make_shared<Args>();
  app->add_option("FLOAT", a->reference, "Float ONNX file")->required();
  app->add_option("QUANT", a->quantized, "Its quantized version")->required();
  app->add_option("--top", a->top, "Only the N worst layers, worst first; 0: all, in order");
  AddDataOptions(app, a->data, true);
  return {
      app, [=, &common] {
        const AnalyzeResult r = Analyze(Model::Load(a->reference), Model::Load(a->quantized),
                                        a->data, {common.threads, TerminalProgress()});
        if (common.json) {
          Json layers = Json::array();
          for (const auto& l : r.layers) {
            layers.push_back({{"node", l.node},
                              {"op", l.op},
                              {"value", l.value},
                              {"local_sqnr_db", Number(l.local_sqnr_db)},
                              {"accumulated_sqnr_db", Number(l.accumulated_sqnr_db)},
                              {"l1", Number(l.l1)},
                              {"cosine", Number(l.cosine)},
                              {"saturated", Number(l.saturated)}});
          }
          PrintJson({{"samples", r.samples}, {"layers", layers}, {"ranking", r.ranking}});
          return 0;
        }
        Table table({"node", "op", "local dB", "", "accumulated dB", "L1", "cosine", "saturated"},
                    {0, 1, 3});
        std::vector<size_t> rows(r.layers.size());
        for (size_t i = 0; i < rows.size(); ++i) rows[i] = i;
        if (a->top > 0) {
          rows = r.ranking;
          rows.resize(std::min(rows.size(), a->top));
        }
        for (size_t i : rows) {
          const auto& l = r.layers[i];
          // One # per 5 dB that are missing to 50 dB: long bars are bad layers.
          const double missing = std::clamp((50 - l.local_sqnr_db) / 5, 0.0, 10.0);
          table.Add({Shorten(l.node, 36), l.op, fmt::format("{:.1f}", l.local_sqnr_db),
                     std::string(static_cast<size_t>(missing), '#'),
                     fmt::format("{:.1f}", l.accumulated_sqnr_db), fmt::format("{:.4g}", l.l1),
                     fmt::format("{:.5f}", l.cosine), fmt::format("{:.3f} %", 100 * l.saturated)});
        }
        table.Print();
        for (const auto& l : r.left_out)
          fmt::print("left out: {} '{}': {}\n", l.op, l.node, l.text);
        if (!r.ranking.empty()) {
          fmt::print("worst alone: {} ({:.1f} dB), over {} samples\n", r.layers[r.ranking[0]].node,
                     r.layers[r.ranking[0]].local_sqnr_db, r.samples);
        }
        return 0;
      }};
}

}  // namespace octet::cli
