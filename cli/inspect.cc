#include <fmt/core.h>

#include "command.h"

namespace octet::cli {
namespace {

Json ToJson(const InspectResult& r) {
  Json layers = Json::array();
  for (const auto& l : r.layers) {
    layers.push_back({{"node", l.node},
                      {"op", l.op},
                      {"shape", l.shape},
                      {"macs", l.macs},
                      {"parameters", l.parameters},
                      {"quantizable", l.quantizable},
                      {"reason", l.reason}});
  }
  return {{"name", r.name},
          {"opset", r.opset},
          {"inputs", r.inputs},
          {"outputs", r.outputs},
          {"operators", r.operators},
          {"macs", r.macs},
          {"quantizable_macs", r.quantizable_macs},
          {"parameters", r.parameters},
          {"unsupported", r.unsupported},
          {"open_inputs", r.open_inputs},
          {"layers", layers}};
}

void Print(const InspectResult& r) {
  for (const auto& i : r.inputs) fmt::print("input   {}\n", i);
  for (const auto& o : r.outputs) fmt::print("output  {}\n", o);
  std::string operators;
  for (const auto& [op, n] : r.operators)
    operators += fmt::format("{}{} {}", operators.empty() ? "" : ", ", n, op);
  fmt::print("opset {}; {}\n\n", r.opset, operators);
  Table table({"node", "op", "output", "MACs", "parameters", "int8"}, {0, 1, 2, 5});
  for (const auto& l : r.layers) {
    if (l.macs == 0 && l.reason.empty()) continue;
    table.Add({Shorten(l.node, 40), l.op, l.shape,
               l.macs > 0 ? fmt::format("{:.2f} M", static_cast<double>(l.macs) / 1e6) : "",
               l.parameters > 0 ? fmt::format("{}", l.parameters) : "",
               l.quantizable ? "yes" : "no: " + l.reason});
  }
  table.Print();
  fmt::print("\n{:.1f} M multiply-adds, {:.1f} % of them quantizable; {:.2f} M parameters\n",
             static_cast<double>(r.macs) / 1e6,
             r.macs > 0
                 ? 100.0 * static_cast<double>(r.quantizable_macs) / static_cast<double>(r.macs)
                 : 0.0,
             static_cast<double>(r.parameters) / 1e6);
  PrintOpenInputs(r.open_inputs);
  for (const auto& u : r.unsupported) fmt::print("cannot run: {}\n", u);
}

}  // namespace

Command AddInspect(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "inspect", "Layers, shapes, multiply-adds, what can be quantized and why not");
  app->footer(
      "Examples:\n  octet inspect mobilenet.onnx\n  octet inspect detector.onnx --shape "
      "input=1x3x320x320");
  struct Args {
    std::string model;
    InputShapes shapes;
  };
  auto a = std::make_shared<Args>();
  app->add_option("MODEL", a->model, "ONNX file")->required();
  AddShapeOption(app, a->shapes);
  return {app, [=, &common] {
            const InspectResult result = Inspect(Model::Load(a->model), a->shapes);
            if (common.json) {
              PrintJson(ToJson(result));
            } else {
              Print(result);
            }
            return 0;
          }};
}

Command AddInfo(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand("info", "Version, CPU, instruction sets");
  return {app, [&common] {
            const SystemInfo i = GetSystemInfo();
            if (common.json) {
              PrintJson({{"version", i.version},
                         {"cpu", i.cpu},
                         {"isa", i.isa},
                         {"supported_isas", i.supported_isas},
                         {"cores", i.cores},
                         {"compiler", i.compiler},
                         {"onednn", i.onednn}});
              return 0;
            }
            std::string isas;
            for (const auto& s : i.supported_isas) isas += " " + s;
            fmt::print(
                "octet {}\ncpu       {} ({} cores)\nkernels   {} (this CPU has{})\ncompiler  "
                "{}\noneDNN    {}\n",
                i.version, i.cpu, i.cores, i.isa, isas, i.compiler, i.onednn);
            return 0;
          }};
}

}  // namespace octet::cli
