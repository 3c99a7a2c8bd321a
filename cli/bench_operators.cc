// octet bench linear | conv2d | bmm | quantize | layernorm | suite: one operator at one shape, or a
// list of them.
#include <fmt/core.h>

#include <cmath>
#include <map>

#include "command.h"

namespace octet::cli {
namespace {

struct Args {
  std::string shape, out_channels, kernel, suite, only;
  // Options of the problem's text, by key: "stride", "pad", ...
  std::map<std::string, std::string> problem_options;
  OperatorBenchOptions options;
  bool explain = false, no_peers = false, list = false;
};

Json ToJson(const OperatorBenchResult& r) {
  Json rows = Json::array();
  for (const auto& row : r.rows) {
    Json j = {{"name", row.name}, {"data", row.data}, {"peer", row.peer}, {"kernel", row.kernel}};
    if (!row.missing.empty()) {
      j["missing"] = row.missing;
      rows.push_back(std::move(j));
      continue;
    }
    j["median_s"] = row.median_s;
    j["mad_s"] = row.mad_s;
    j["best_s"] = row.best_s;
    j["samples"] = row.samples;
    j["interrupted"] = row.interrupted;
    j["disturbed"] = row.disturbed;
    j["rate"] = Number(row.rate);
    if (!row.peak.empty()) {
      j["peak"] = row.peak;
      j["peak_fraction"] = Number(row.peak_fraction);
    }
    if (row.times_float32 > 0) j["times_float32"] = Number(row.times_float32);
    if (row.octet_speed > 0) j["octet_speed"] = Number(row.octet_speed);
    if (row.packed_bytes >= 0) j["packed_bytes"] = row.packed_bytes;
    if (row.scratch_bytes >= 0) j["scratch_bytes"] = row.scratch_bytes;
    j["refused"] = row.refused;
    rows.push_back(std::move(j));
  }
  Json peaks = Json::object();
  for (const auto& peak : r.peaks) peaks[peak.instruction] = peak.gops;
  return {{"problem", r.problem}, {"threads", r.threads}, {"macs", r.macs}, {"unit", r.unit},
          {"cpu", r.cpu},         {"isa", r.isa},         {"peaks", peaks}, {"rows", rows}};
}

std::string Bytes(int64_t bytes) {
  if (bytes < 0) return "";
  if (bytes < 1 << 20) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string Times(double ratio) { return ratio > 0 ? fmt::format("{:.2f}x", ratio) : ""; }

void Print(const OperatorBenchResult& r, bool explain) {
  std::string peaks;
  for (const auto& peak : r.peaks)
    peaks += fmt::format("{}{} {:.0f}", peaks.empty() ? "" : ", ", peak.instruction, peak.gops);
  fmt::print("{}: {} thread{}, {}; peaks measured now, GOP/s: {}\n", r.problem, r.threads,
             r.threads == 1 ? "" : "s", r.isa, peaks);
  const bool computes = r.macs > 0;
  std::vector<std::string> header = {"", "data", "median", "+- MAD", r.unit, "octet is"};
  if (computes) header.insert(header.end(), {"of peak", "vs float32", "weights", "scratch"});
  header.push_back("kernel");
  Table table(header, {0, 1, header.size() - 1});
  for (const auto& row : r.rows) {
    std::vector<std::string> cells = {row.name, row.data};
    cells.resize(header.size());
    if (!row.missing.empty()) {
      cells.back() = "not here: " + row.missing;
      table.Add(cells);
      continue;
    }
    cells[2] = Seconds(row.median_s);
    cells[3] = Seconds(row.mad_s);
    cells[4] = fmt::format("{:.1f}", row.rate);
    cells[5] = Times(row.octet_speed);
    if (computes) {
      cells[6] = row.peak.empty() ? "" : fmt::format("{:.1f} %", 100 * row.peak_fraction);
      cells[7] = Times(row.times_float32);
      cells[8] = Bytes(row.packed_bytes);
      cells[9] = Bytes(row.scratch_bytes);
    }
    cells.back() = row.kernel;
    table.Add(cells);
  }
  table.Print();
  for (const auto& row : r.rows) {
    PrintDisturbance(row.name + ", " + row.data, row.disturbed, row.interrupted, row.samples);
  }
  for (const auto& row : r.rows) {
    if (!explain) break;
    for (const std::string& why : row.refused) fmt::print("{} refused {}\n", row.name, why);
  }
  fmt::print("\n");
}

// Octet beside each peer over all problems: the wins and the losses.
class Summary {
 public:
  void Add(const OperatorBenchResult& r) {
    for (const auto& row : r.rows) {
      if (!(row.octet_speed > 0)) continue;
      auto& line = lines_[{row.name + ", " + row.data, r.threads}];
      line.log_sum += std::log(row.octet_speed);
      if (line.rows++ == 0 || row.octet_speed < line.worst) {
        line.worst = row.octet_speed;
        line.worst_problem = r.problem;
      }
      line.slower += row.octet_speed < 1 ? 1 : 0;
    }
  }
  void Print() const {
    if (lines_.empty()) return;
    Table table({"octet beside", "threads", "rows", "geometric mean", "slower on", "worst", ""},
                {0, 6});
    for (const auto& [key, line] : lines_) {
      table.Add({key.first, fmt::format("{}", key.second), fmt::format("{}", line.rows),
                 Times(std::exp(line.log_sum / line.rows)), fmt::format("{}", line.slower),
                 Times(line.worst), line.worst_problem});
    }
    table.Print();
  }

 private:
  struct Line {
    double log_sum = 0, worst = 0;
    int rows = 0, slower = 0;
    std::string worst_problem;
  };
  std::map<std::pair<std::string, int>, Line> lines_;
};

int Run(const Args& args, const std::vector<std::string>& problems, bool json) {
  OperatorBenchOptions options = args.options;
  if (options.threads.empty()) {
    options.threads = {1};
    if (const int cores = GetSystemInfo().cores; cores > 1) options.threads.push_back(cores);
  }
  options.peers = !args.no_peers;
  options.progress = TerminalProgress();
  Json all = Json::array();
  Summary summary;
  for (const std::string& problem : problems) {
    if (problem.find(args.only) == std::string::npos) continue;
    for (const OperatorBenchResult& r : BenchOperator(problem, options)) {
      summary.Add(r);
      if (json) {
        all.push_back(ToJson(r));
      } else {
        Print(r, args.explain);
      }
    }
  }
  if (json) {
    PrintJson(all);
  } else if (problems.size() > 1) {
    summary.Print();
  }
  return 0;
}

int List(const std::vector<std::string>& problems, bool json) {
  if (json) {
    PrintJson(problems);
  } else {
    for (const std::string& problem : problems) fmt::print("{}\n", problem);
  }
  return 0;
}

CLI::App* AddOperator(CLI::App& bench, const std::string& name, const std::string& what,
                      const std::string& examples, const std::shared_ptr<Args>& a) {
  auto* app = bench.add_subcommand(name, what);
  app->footer(
      "Rows of equal data compete: \"octet is\" says how many times as fast as a peer "
      "Octet's best row is.\nResults are verified first; a wrong one ends with exit code 7.\n\n"
      "Examples:\n" +
      examples);
  app->fallthrough();
  a->options.threads.clear();
  app->add_option("--threads", a->options.threads,
                  "Numbers of threads, by comma; 0: all cores (1,0)")
      ->delimiter(',')
      ->check(NotNegative());
  app->add_option("--seconds", a->options.seconds, "Timed runs per row")->check(AboveZero());
  app->add_flag("--explain", a->explain, "Why other kernels were refused");
  app->add_flag("--no-peers", a->no_peers, "Octet's rows alone");
  return app;
}

void AddProblemOption(CLI::App* app, const std::shared_ptr<Args>& a, const std::string& key,
                      const std::string& help) {
  app->add_option("--" + key, a->problem_options[key], help);
}

std::string WithOptions(std::string problem, const Args& a) {
  for (const auto& [key, value] : a.problem_options) {
    if (!value.empty()) problem += " " + key + "=" + value;
  }
  return problem;
}

}  // namespace

std::vector<Command> AddOperatorBenches(CLI::App& bench, Common& common) {
  std::vector<Command> commands;
  {
    auto a = std::make_shared<Args>();
    auto* app = AddOperator(bench, "linear", "y (M,N) = x (M,K) w (N,K)^T",
                            "  octet bench linear 512x960x960\n"
                            "  octet bench linear 1x768x768 --threads 1 --explain",
                            a);
    app->add_option("MxKxN", a->shape, "Rows, depth, output channels")->required();
    AddProblemOption(app, a, "zero-point", "Of the uint8 input (0)");
    AddProblemOption(app, a, "multiplier", "Approximate multipliers to time, M+M+...");
    commands.push_back({app, [=, &common] {
                          return Run(*a, {WithOptions("linear " + a->shape, *a)}, common.json);
                        }});
  }
  {
    auto a = std::make_shared<Args>();
    auto* app = AddOperator(bench, "conv2d", "A convolution with OC filters of KHxKW",
                            "  octet bench conv2d 1x512x64x64 512 3x3\n"
                            "  octet bench conv2d 1x3x224x224 64 7x7 --stride 2 --pad 3\n"
                            "  octet bench conv2d 1x32x112x112 32 3x3 --pad 1 --groups 32\n"
                            "  octet bench conv2d 8x64x56x56 64 3x3 --pad 1 --multiplier "
                            "hw:e3m4,d=3+v9:e3m4,d=3",
                            a);
    app->add_option("NxCxHxW", a->shape, "Input")->required();
    app->add_option("OC", a->out_channels, "Output channels")->required();
    app->add_option("KHxKW", a->kernel, "Filter")->required();
    AddProblemOption(app, a, "stride", "S or SHxSW (1)");
    AddProblemOption(app, a, "pad", "P or PHxPW, on both sides (0)");
    AddProblemOption(app, a, "dilation", "D or DHxDW (1)");
    AddProblemOption(app, a, "groups", "Groups (1)");
    AddProblemOption(app, a, "zero-point", "Of the uint8 input (0)");
    AddProblemOption(app, a, "multiplier", "Approximate multipliers to time, M+M+...");
    commands.push_back(
        {app, [=, &common] {
           return Run(
               *a,
               {WithOptions("conv2d " + a->shape + " " + a->out_channels + " " + a->kernel, *a)},
               common.json);
         }});
  }
  {
    auto a = std::make_shared<Args>();
    auto* app = AddOperator(bench, "bmm", "y (B,M,N) = a (B,M,K) b (B,N,K)^T, both int8",
                            "  octet bench bmm 12x128x64x128   (BERT-base: queries times keys)", a);
    app->add_option("BxMxKxN", a->shape, "Batch, rows, depth, columns")->required();
    commands.push_back({app, [=, &common] { return Run(*a, {"bmm " + a->shape}, common.json); }});
  }
  {
    auto a = std::make_shared<Args>();
    auto* app = AddOperator(bench, "quantize", "float32 to uint8 codes, and back",
                            "  octet bench quantize 512x960\n"
                            "  octet bench quantize 1x512x64x64   (NCHW to NHWC)",
                            a);
    app->add_option("SHAPE", a->shape, "NxCxHxW, MxK or N")->required();
    AddProblemOption(app, a, "zero-point", "Of the codes (0)");
    commands.push_back({app, [=, &common] {
                          return Run(*a, {WithOptions("quantize " + a->shape, *a)}, common.json);
                        }});
  }
  {
    auto a = std::make_shared<Args>();
    auto* app = AddOperator(bench, "layernorm", "LayerNorm over rows, alone and fused",
                            "  octet bench layernorm 512x12288", a);
    app->add_option("MxN", a->shape, "Rows and their length")->required();
    commands.push_back(
        {app, [=, &common] { return Run(*a, {"layernorm " + a->shape}, common.json); }});
  }
  {
    auto a = std::make_shared<Args>();
    std::string names;
    for (const std::string& name : BenchSuiteNames()) names += (names.empty() ? "" : ", ") + name;
    auto* app = AddOperator(bench, "suite", "Real layers: " + names,
                            "  octet bench suite torch-quantizer\n"
                            "  octet bench suite resnet50 --only 1x1 --threads 1",
                            a);
    app->add_option("NAME", a->suite, names)->required();
    app->add_option("--only", a->only, "Problems whose text has this in it");
    app->add_flag("--list", a->list, "Name the problems and stop");
    commands.push_back({app, [=, &common] {
                          const std::vector<std::string> problems = BenchSuite(a->suite);
                          return a->list ? List(problems, common.json)
                                         : Run(*a, problems, common.json);
                        }});
  }
  return commands;
}

}  // namespace octet::cli
