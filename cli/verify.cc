// octet verify, octet audit.
#include <fmt/core.h>

#include "command.h"

namespace octet::cli {

Command AddVerify(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "verify", "Is what was simulated what runs? Fake quantization against the INT8 kernels");
  app->footer("Example:\n  octet verify int8.onnx --data photos/ --preset imagenet-tf --samples 8");
  struct Args {
    std::string model;
    DataOptions data;
  };
  auto a = std::make_shared<Args>();
  app->add_option("QUANT", a->model, "QDQ ONNX file")->required();
  AddDataOptions(app, a->data, true);
  return {app, [=, &common] {
            const VerifyResult r =
                Verify(Model::Load(a->model), a->data, {common.threads, TerminalProgress()});
            if (common.json) {
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
              Json kept = Json::array();
              for (const auto& k : r.kept_float)
                kept.push_back({{"node", k.node}, {"op", k.op}, {"reason", k.text}});
              PrintJson({{"holds", r.holds},
                         {"samples", r.samples},
                         {"elements", r.elements},
                         {"different", r.different},
                         {"max_difference", r.max_difference},
                         {"unexplained", r.unexplained},
                         {"output_max_difference", Number(r.output_max_difference)},
                         {"kept_float", kept},
                         {"layers", layers}});
            } else {
              Table table({"node", "op", "codes", "different", "largest", "not at a tie"}, {0, 1});
              for (const auto& l : r.layers) {
                table.Add({Shorten(l.node, 40), l.op, fmt::format("{}", l.elements),
                           fmt::format("{}", l.different), fmt::format("{}", l.max_difference),
                           fmt::format("{}", l.unexplained)});
              }
              table.Print();
              for (const auto& k : r.kept_float)
                fmt::print("runs in float: {} '{}': {}\n", k.op, k.node, k.text);
              fmt::print(
                  "{}: {} of {} codes differ ({:.4f} %), by at most {}; {} not explained by a "
                  "rounding tie; {} samples\n",
                  r.holds ? "holds" : "DOES NOT HOLD", r.different, r.elements,
                  r.elements > 0
                      ? 100.0 * static_cast<double>(r.different) / static_cast<double>(r.elements)
                      : 0.0,
                  r.max_difference, r.unexplained, r.samples);
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
  };
  auto a = std::make_shared<Args>();
  app->add_option("QUANT", a->model, "QDQ ONNX file")->required();
  app->add_option("--target", a->target, "octet, onnxruntime or tensorrt")->required();
  return {app, [=, &common] {
            const AuditResult r = Audit(Model::Load(a->model), a->target);
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
                         {"findings", findings}});
            } else {
              for (const auto& f : r.findings) {
                fmt::print("{} {} '{}': {} [{}]\n",
                           f.fatal ? "WILL NOT LOAD" : "not in INT8:", f.op, f.node, f.text,
                           f.rule);
              }
              fmt::print("{}: {} of {} operators in INT8, {:.1f} % of the multiply-adds\n",
                         a->target, r.int8_operators, r.operators, 100 * r.int8_mac_fraction);
            }
            return fatal ? kExitCheckFailed : 0;
          }};
}

}  // namespace octet::cli
