// octet verify, octet audit.
#include <fmt/core.h>

#include <cmath>

#include "command.h"

namespace octet::cli {

namespace {

Json ToJson(const VerifyResult& r) {
  Json layers = Json::array();
  for (const auto& l : r.layers) {
    layers.push_back({{"node", l.node},
                      {"op", l.op},
                      {"elements", l.elements},
                      {"different", l.different},
                      {"max_difference", l.max_difference},
                      {"unexplained", l.unexplained},
                      {"max_tie_distance", Number(l.max_tie_distance)}});
  }
  Json products = Json::array();
  for (const auto& p : r.products) {
    products.push_back({{"node", p.node},
                        {"op", p.op},
                        {"multiplier", p.multiplier},
                        {"x_format", p.x_format},
                        {"w_format", p.w_format},
                        {"elements", p.elements},
                        {"different", p.different},
                        {"mean_error", Number(p.mean_error)},
                        {"max_error", Number(p.max_error)},
                        {"rmse", Number(p.rmse)},
                        {"exact_rms", Number(p.exact_rms)},
                        {"sqnr_db", Number(p.sqnr_db)},
                        {"x_subnormal", Number(p.x_subnormal)},
                        {"x_zero", Number(p.x_zero)},
                        {"w_subnormal", Number(p.w_subnormal)},
                        {"w_zero", Number(p.w_zero)}});
  }
  Json kept = Json::array();
  for (const auto& k : r.kept_float)
    kept.push_back({{"node", k.node}, {"op", k.op}, {"reason", k.text}});
  return {{"holds", r.holds},
          {"samples", r.samples},
          {"elements", r.elements},
          {"different", r.different},
          {"max_difference", r.max_difference},
          {"unexplained", r.unexplained},
          {"output_max_difference", Number(r.output_max_difference)},
          {"kept_float", kept},
          {"layers", layers},
          {"products", products}};
}

void PrintLayers(const VerifyResult& r) {
  Table table({"node", "op", "codes", "different", "largest", "not at a tie"}, {0, 1});
  for (const auto& l : r.layers) {
    table.Add({Shorten(l.node, 40), l.op, fmt::format("{}", l.elements),
               fmt::format("{}", l.different), fmt::format("{}", l.max_difference),
               fmt::format("{}", l.unexplained)});
  }
  table.Print();
  for (const auto& k : r.kept_float)
    fmt::print("runs in float: {} '{}': {}\n", k.op, k.node, k.text);
}

void PrintProducts(const VerifyResult& r) {
  fmt::print(
      "Approximate multipliers: results against the definition, and their errors against exact "
      "products\n");
  Table table({"node", "multiplier", "x", "w", "results", "unlike", "SQNR dB", "mean error",
               "max error", "exact RMS", "x subnormal", "x zero"},
              {0, 1, 2, 3});
  for (const auto& p : r.products) {
    table.Add({Shorten(p.node, 32), Shorten(p.multiplier, 32), p.x_format, p.w_format,
               fmt::format("{}", p.elements), fmt::format("{}", p.different),
               std::isfinite(p.sqnr_db) ? fmt::format("{:.2f}", p.sqnr_db) : "exact",
               fmt::format("{:.3g}", p.mean_error), fmt::format("{:.3g}", p.max_error),
               fmt::format("{:.3g}", p.exact_rms), fmt::format("{:.1f} %", 100 * p.x_subnormal),
               fmt::format("{:.1f} %", 100 * p.x_zero)});
  }
  table.Print();
}

void PrintVerdict(const VerifyResult& r) {
  if (r.elements > 0) {
    fmt::print(
        "{}: {} of {} codes differ ({:.4f} %), by at most {}; {} not explained by a rounding tie; "
        "{} samples\n",
        r.holds ? "holds" : "DOES NOT HOLD", r.different, r.elements,
        100.0 * static_cast<double>(r.different) / static_cast<double>(r.elements),
        r.max_difference, r.unexplained, r.samples);
  }
  if (r.products.empty()) return;
  int64_t results = 0, different = 0;
  for (const auto& p : r.products) {
    results += p.elements;
    different += p.different;
  }
  fmt::print(
      "{}: {} of {} results of approximate multipliers differ from their definition; {} "
      "samples\n",
      r.holds ? "holds" : "DOES NOT HOLD", different, results, r.samples);
}

}  // namespace

Command AddVerify(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand("verify",
                                  "Is what was simulated what runs? Fake quantization against the "
                                  "INT8 kernels, approximate multipliers against their definition");
  app->footer(
      "Examples:\n  octet verify int8.onnx --data photos/ --preset imagenet-tf --samples 8\n"
      "  octet verify approx.onnx --data photos/ --preset imagenet-tf --samples 2 --json\n"
      "  octet verify approx.onnx --data photos/ --preset imagenet-tf --layer conv_1 --dump "
      "operands/\n"
      "Layers with approximate multipliers: results are compared, bit for bit, with int64 sums "
      "over\n"
      "the table, and with exact products of the same codes. --dump writes what a layer "
      "multiplies\n"
      "in the first sample: codes of x and w, tables, sums and results, to be replayed elsewhere.");
  struct Args {
    std::string model, layer, dump;
    bool csv = false;
    DataOptions data;
  };
  auto a = std::make_shared<Args>();
  app->add_option("QUANT", a->model, "Quantized ONNX file")->required();
  auto* dump = app->add_option("--dump", a->dump, "Folder for the operands of --layer");
  auto* layer =
      app->add_option("--layer", a->layer, "The layer to dump: a node's name")->needs(dump);
  dump->needs(layer);
  app->add_flag("--csv", a->csv, "Dump as .csv rather than .npy")->needs(dump);
  AddDataOptions(app, a->data, true);
  return {app, [=, &common] {
            const Model model = Model::Load(a->model);
            std::vector<std::string> files;
            if (!a->dump.empty()) files = DumpOperands(model, a->data, a->layer, a->dump, a->csv);
            const VerifyResult r = Verify(model, a->data, {common.threads, TerminalProgress()});
            if (common.json) {
              Json j = ToJson(r);
              if (!files.empty()) j["files"] = files;
              PrintJson(j);
            } else {
              for (const auto& file : files) fmt::print("wrote {}\n", file);
              if (r.elements > 0 || !r.kept_float.empty()) PrintLayers(r);
              if (!r.products.empty()) PrintProducts(r);
              PrintVerdict(r);
            }
            return r.holds ? 0 : kExitCheckFailed;
          }};
}

Command AddAudit(CLI::App& root, Common& common) {
  auto* app =
      root.add_subcommand("audit", "What will not load or not run in INT8 in a target, and why");
  app->footer("Example:\n  octet audit int8.onnx --target onnxruntime");
  struct Args {
    std::string model, target = "onnxruntime";
    InputShapes shapes;
  };
  auto a = std::make_shared<Args>();
  app->add_option("QUANT", a->model, "QDQ ONNX file")->required();
  app->add_option("--target", a->target, "octet, onnxruntime or tensorrt")->required();
  AddShapeOption(app, a->shapes);
  return {
      app, [=, &common] {
        const AuditResult r = Audit(Model::Load(a->model), a->target, a->shapes);
        bool fatal = false;
        for (const auto& f : r.findings) fatal = fatal || f.fatal;
        if (common.json) {
          Json findings = Json::array();
          for (const auto& f : r.findings) {
            findings.push_back({{"node", f.node},
                                {"op", f.op},
                                {"fatal", f.fatal},
                                {"rule", f.rule},
                                {"text", f.text}});
          }
          PrintJson({{"target", a->target},
                     {"operators", r.operators},
                     {"int8_operators", r.int8_operators},
                     {"int8_mac_fraction", Number(r.int8_mac_fraction)},
                     {"open_inputs", r.open_inputs},
                     {"findings", findings}});
        } else {
          for (const auto& f : r.findings) {
            fmt::print("{} {} '{}': {} [{}]\n", f.fatal ? "WILL NOT LOAD" : "not in INT8:", f.op,
                       f.node, f.text, f.rule);
          }
          fmt::print("{}: {} of {} operators in INT8", a->target, r.int8_operators, r.operators);
          if (r.int8_mac_fraction)
            fmt::print(", {:.1f} % of the multiply-adds", 100 * *r.int8_mac_fraction);
          fmt::print("\n");
          PrintOpenInputs(r.open_inputs);
        }
        return fatal ? kExitCheckFailed : 0;
      }};
}

}  // namespace octet::cli
