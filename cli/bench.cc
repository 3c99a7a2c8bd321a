#include <fmt/core.h>

#include "command.h"

namespace octet::cli {
namespace {

constexpr size_t kOperatorsShown = 3;

std::string MiB(int64_t bytes) {
  return fmt::format("{:.2f} MiB", static_cast<double>(bytes) / (1 << 20));
}

// Where the time of each row goes; of the last one, the operators that take most.
void PrintParts(const BenchResult& r) {
  std::vector<std::string> header = {"where the time goes"};
  for (const auto& row : r.rows) header.push_back(row.name);
  header.insert(header.end(), {"share", "mostly"});
  Table table(header, {0, header.size() - 1});
  const BenchResult::Row& last = r.rows.back();
  double sum = 0;
  for (const auto& part : last.parts) sum += part.seconds;
  for (size_t i = 0; i < last.parts.size(); ++i) {
    std::vector<std::string> line = {last.parts[i].name};
    int64_t steps = 0;
    for (const auto& row : r.rows) {
      steps += row.parts[i].steps;
      line.push_back(row.parts[i].steps > 0 ? Seconds(row.parts[i].seconds) : "");
    }
    if (steps == 0) continue;
    line.push_back(sum > 0 ? fmt::format("{:.0f} %", 100 * last.parts[i].seconds / sum) : "");
    const auto& operators = last.parts[i].operators;
    std::string most;
    for (size_t k = 0; k < std::min(kOperatorsShown, operators.size()); ++k) {
      most += fmt::format("{}{} {}", k > 0 ? ", " : "", operators[k].first,
                          Seconds(operators[k].second));
    }
    line.push_back(most);
    table.Add(line);
  }
  fmt::print("\n");
  table.Print();
}

// Seconds of layers, and of everything else.
std::pair<double, double> LayersAndRest(const BenchResult::Row& row) {
  double layers = 0, rest = 0;
  for (const auto& part : row.parts) (part.is_layers ? layers : rest) += part.seconds;
  return {layers, rest};
}

}  // namespace

void PrintDisturbance(const std::string& row, bool disturbed, int64_t interrupted,
                      int64_t samples) {
  if (!disturbed) return;
  fmt::print("{}: other processes took cores in {} of {} samples; read with care\n", row,
             interrupted, samples);
}

std::string Speedup(const BenchResult& r, const std::string& as) {
  if (r.speedup > 0) return fmt::format("{:.2f}x as fast{}", r.speedup, as);
  if (r.best_speedup > 0) {
    return fmt::format(
        "{:.2f}x as fast{}, best undisturbed round against best (other processes "
        "took cores: medians are not compared)",
        r.best_speedup, as);
  }
  return "of unknown speed: other processes took cores in every round (try --threads 1)";
}

Json ToJson(const BenchResult& r) {
  Json rows = Json::array();
  for (const auto& row : r.rows) {
    Json steps = Json::array();
    for (const auto& s : row.steps) {
      steps.push_back({{"node", s.node},
                       {"op", s.op},
                       {"kernel", s.kernel},
                       {"shape", s.shape},
                       {"macs", s.macs},
                       {"seconds", Number(s.seconds)},
                       {"refused", s.refused}});
    }
    Json parts = Json::array();
    for (const auto& p : row.parts) {
      Json operators = Json::object();
      for (const auto& [op, seconds] : p.operators) operators[op] = Number(seconds);
      parts.push_back({{"name", p.name},
                       {"layers", p.is_layers},
                       {"steps", p.steps},
                       {"seconds", Number(p.seconds)},
                       {"operators", operators}});
    }
    rows.push_back({{"name", row.name},
                    {"median_s", row.median_s},
                    {"mad_s", row.mad_s},
                    {"best_s", row.best_s},
                    {"runs", row.runs},
                    {"samples", row.samples},
                    {"interrupted", row.interrupted},
                    {"disturbed", row.disturbed},
                    {"gops", Number(row.gops)},
                    {"peak_fraction", Number(row.peak_fraction)},
                    {"load_s", row.load_s},
                    {"packed_bytes", row.packed_bytes},
                    {"constant_bytes", row.constant_bytes},
                    {"activation_bytes", row.activation_bytes},
                    {"parts", parts},
                    {"steps", steps}});
  }
  return {{"cpu", r.cpu},
          {"isa", r.isa},
          {"threads", r.threads},
          {"macs", r.macs},
          {"rows", rows},
          {"speedup", r.speedup > 0 ? Number(r.speedup) : Json()},
          {"best_speedup", r.best_speedup > 0 ? Number(r.best_speedup) : Json()},
          {"int8_peak_gops", Number(r.int8_peak_gops)},
          {"int8_peak_instruction", r.int8_peak_instruction},
          {"float_peak_gops", Number(r.float_peak_gops)},
          {"output_max_difference", Number(r.output_max_difference)}};
}

void PrintBench(const BenchResult& r) {
  fmt::print("{}, {}, {} thread{}; peaks measured now: {:.0f} G int8-op/s ({}), {:.0f} GFLOP/s\n",
             r.cpu, r.isa, r.threads, r.threads == 1 ? "" : "s", r.int8_peak_gops,
             r.int8_peak_instruction, r.float_peak_gops);
  Table table({"", "median", "+- MAD", "best", "GOP/s", "of peak", "runs", "load and pack",
               "weights", "activations"});
  for (const auto& row : r.rows) {
    table.Add({row.name, Seconds(row.median_s), Seconds(row.mad_s), Seconds(row.best_s),
               fmt::format("{:.0f}", row.gops), fmt::format("{:.0f} %", 100 * row.peak_fraction),
               fmt::format("{}", row.runs), Seconds(row.load_s),
               MiB(row.packed_bytes + row.constant_bytes), MiB(row.activation_bytes)});
  }
  table.Print();
  for (const auto& row : r.rows)
    PrintDisturbance(row.name, row.disturbed, row.interrupted, row.samples);
  for (const auto& row : r.rows) {
    if (row.steps.empty()) continue;
    fmt::print("\n{}\n", row.name);
    Table steps({"node", "op", "kernel", "output", "MACs", "time", "GOP/s"}, {0, 1, 2, 3});
    for (const auto& s : row.steps) {
      steps.Add({Shorten(s.node, 32), s.op, s.kernel, s.shape,
                 s.macs > 0 ? fmt::format("{:.2f} M", static_cast<double>(s.macs) / 1e6) : "",
                 Seconds(s.seconds),
                 s.macs > 0 && s.seconds > 0
                     ? fmt::format("{:.0f}", 2e-9 * static_cast<double>(s.macs) / s.seconds)
                     : ""});
      for (const auto& why : s.refused) steps.Add({"", "", "refused: " + why});
    }
    steps.Print();
  }
  PrintParts(r);
  if (r.rows.size() > 1) {
    const bool alike = r.rows[0].name == r.rows[1].name;
    fmt::print("\n{} is {}", alike ? "the second" : "INT8",
               Speedup(r, alike ? " as the first" : " as float32"));
    const auto [layers, rest] = LayersAndRest(r.rows[0]);
    const auto [layers8, rest8] = LayersAndRest(r.rows[1]);
    if (r.speedup > 0 && layers8 > 0 && rest8 > 0)
      fmt::print(": layers {:.2f}x, everything else {:.2f}x", layers / layers8, rest / rest8);
    fmt::print("\n");
    const auto& second = r.rows[1].parts;
    if (!alike && std::any_of(second.begin(), second.end(), [](const BenchResult::Part& p) {
          return p.steps > 0 && p.name == "float layers";
        }))
      fmt::print("which layers stay float, and why: octet audit QUANT --target octet\n");
    fmt::print(
        "on random inputs, outputs differ by up to {:.3g} of their range; what accuracy is "
        "lost on data, octet eval tells\n",
        r.output_max_difference);
  }
}

Command AddBench(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "bench", "Time a model, or an operator in every number format beside its peers, interleaved");
  app->footer(
      "Examples:\n  octet bench int8.onnx\n"
      "  octet bench float.onnx int8.onnx --threads 1 --steps\n"
      "  octet bench detector.onnx --shape input=1x3x320x320\n"
      "  octet bench linear 512x960x960\n"
      "  octet bench conv2d 1x64x56x56 64 3x3 --pad 1 --threads 1\n"
      "  octet bench suite resnet50 --json\n\n"
      "Inputs are random numbers, over the range of the input's quantizer where QUANT has one:\n"
      "what outputs differ by is no measure of accuracy. For that:\n"
      "octet eval QUANT --data ... --against MODEL\n\n"
      "A model whose file is named like a subcommand is given with its folder: ./linear");
  struct Args {
    std::string model, quantized;
    BenchOptions options;
  };
  auto a = std::make_shared<Args>();
  app->add_option("MODEL", a->model, "ONNX file; a quantized one runs on the INT8 kernels");
  app->add_option("QUANT", a->quantized, "Quantized version of MODEL, to time beside it");
  app->add_option("--batch", a->options.batch, "Batch size; 1 where no --shape says otherwise")
      ->check(AboveZero());
  AddShapeOption(app, a->options.shapes);
  app->add_option("--seconds", a->options.seconds, "Time per row")->check(AboveZero());
  app->add_flag("--steps", a->options.steps, "Time of every step and the kernel it runs on");
  app->add_flag("--explain", a->options.explain, "With --steps: why other kernels were refused");
  const std::vector<Command> operators = AddOperatorBenches(*app, common);
  return {app, [=, &common] {
            for (const Command& command : operators) {
              if (command.app->parsed()) return command.run();
            }
            if (a->model.empty()) {
              throw Error(
                  ErrorCode::kInvalidArgument,
                  "bench: expected a MODEL or one of linear, conv2d, quantize, layernorm, suite");
            }
            BenchOptions options = a->options;
            options.threads = common.threads;
            options.progress = TerminalProgress();
            const Model model = Model::Load(a->model);
            std::optional<Model> quantized;
            if (!a->quantized.empty()) quantized = Model::Load(a->quantized);
            const BenchResult r = Bench(model, quantized ? &*quantized : nullptr, options);
            if (common.json) {
              PrintJson(ToJson(r));
            } else {
              PrintBench(r);
            }
            return 0;
          }};
}

}  // namespace octet::cli
