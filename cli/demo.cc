// octet demo: the whole road on the network in demo/, in under a minute.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "command.h"

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kCalibration = 64;  // rows of labels.csv; the others judge
constexpr int kOutlierChannels = 3;
constexpr float kOutlierFactor = 60;

struct Row {
  std::string model, recipe;
  EvalResult eval;
};

double Metric(const EvalResult& e, const std::string& name) {
  const auto it = e.metrics.find(name);
  return it == e.metrics.end() ? 0 : it->second.value;
}

class Demo {
 public:
  Demo(fs::path from, fs::path to, const Common& common)
      : from_(std::move(from)), to_(std::move(to)), common_(common) {
    calibration_.path = from_.string();
    calibration_.preset = "imagenet-tf";
    calibration_.samples = kCalibration;
    judged_ = calibration_;
    judged_.samples = -1;
    judged_.skip = kCalibration;
  }

  int Run() {
    const auto start = std::chrono::steady_clock::now();
    std::error_code error;
    fs::create_directories(to_, error);
    if (error)
      throw Error(ErrorCode::kIo,
                  "cannot make the folder '" + to_.string() + "': " + error.message());

    const Model model = Model::Load((from_ / "model.onnx").string());
    const InspectResult inspected = Inspect(model);
    Say(
        fmt::format("1. The network: {}, {:.0f} M multiply-adds, {:.2f} M parameters, trained by "
                    "the project on drawn images",
                    (from_ / "model.onnx").string(), static_cast<double>(inspected.macs) / 1e6,
                    static_cast<double>(inspected.parameters) / 1e6));

    Say("2. Quantize it, and judge every version on images that calibration did not see");
    Judge("trained", "float32", model, nullptr);
    const Model naive = Quantized(model, Recipe::Preset("naive"), "naive.onnx");
    Judge("trained", "int8 naive", naive, &model);
    const Model best = Quantized(model, Recipe{}, "int8.onnx");
    Judge("trained", "int8 default", best, &model);

    Say(
        fmt::format("3. The same network with outliers: {} channels of every group times {:.0f} "
                    "where they are made, divided where read",
                    kOutlierChannels, kOutlierFactor));
    const Model outliers = InjectOutliers(model, kOutlierChannels, kOutlierFactor, 1);
    outliers.Save((to_ / "outliers.onnx").string());
    written_.push_back((to_ / "outliers.onnx").string());
    const Model outlier_model = Model::Load((to_ / "outliers.onnx").string());
    Judge("with outliers", "float32", outlier_model, &model);
    Judge("with outliers", "int8 naive",
          Quantized(outlier_model, Recipe::Preset("naive"), "outliers_naive.onnx"), &model);
    Recipe smooth = Recipe::Preset("naive");
    smooth.name = "naive + smoothing";
    smooth.smooth = Switch::kOn;
    Judge("with outliers", "int8 naive + smoothing",
          Quantized(outlier_model, smooth, "outliers_smoothed.onnx"), &model);
    const Model healed = Quantized(outlier_model, Recipe{}, "outliers_int8.onnx");
    Judge("with outliers", "int8 default", healed, &model);
    PrintRows();

    DataOptions few = judged_;
    few.samples = 16;
    Say("4. The layers that lose most, alone (signal to quantization noise)");
    const AnalyzeResult analyzed = Analyze(model, best, few, {common_.threads, {}});
    PrintWorst(analyzed);

    few.samples = 4;
    const VerifyResult verified = Verify(best, few, {common_.threads, {}});
    Say(fmt::format(
        "5. Simulated = real: {} of {} codes of the INT8 kernels differ from fake quantization, by "
        "at most {}; {}",
        verified.different, verified.elements, verified.max_difference,
        verified.holds ? "every one at a rounding tie" : "NOT all of them at a rounding tie"));

    Say("6. Speed, float32 and INT8 side by side");
    BenchOptions bench;
    bench.threads = common_.threads;
    bench.seconds = 1.5;
    const BenchResult timed = Bench(model, &best, bench);
    PrintBench(timed);

    Say("7. Files written");
    for (const auto& file : written_) {
      fmt::print("   {} ({:.0f} KiB)\n", file, static_cast<double>(fs::file_size(file)) / 1024);
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    Verdict(timed, verified, seconds);
    return verified.holds ? 0 : kExitCheckFailed;
  }

 private:
  static void Say(const std::string& text) { fmt::print("\n{}\n", text); }

  Model Quantized(const Model& model, const Recipe& recipe, const std::string& file) {
    QuantizeOptions options;
    options.threads = common_.threads;
    options.progress = TerminalProgress();
    auto [quantized, result] = octet::Quantize(model, calibration_, recipe, options);
    const std::string path = (to_ / file).string();
    quantized.Save(path, {{"octet.manifest", ManifestOf(model, calibration_, recipe, result)}});
    written_.push_back(path);
    return Model::Load(path);
  }

  void Judge(const std::string& name, const std::string& recipe, const Model& model,
             const Model* reference) {
    EvalOptions options;
    options.threads = common_.threads;
    options.progress = TerminalProgress();
    rows_.push_back({name, recipe, Evaluate(model, judged_, reference, options)});
  }

  void PrintRows() const {
    Table table({"model", "version", "top-1", "95 % interval", "KL to float", "agreement"}, {0, 1});
    for (const Row& r : rows_) {
      const bool compared = r.eval.metrics.contains("kl");
      const Interval top1 = r.eval.metrics.at("top1");
      table.Add({r.model, r.recipe, fmt::format("{:.3f}", top1.value),
                 fmt::format("{:.3f} .. {:.3f}", top1.lo, top1.hi),
                 compared ? fmt::format("{:.4f}", Metric(r.eval, "kl")) : "-",
                 compared ? fmt::format("{:.3f}", Metric(r.eval, "agreement")) : "-"});
    }
    fmt::print("\n");
    table.Print();
  }

  static void PrintWorst(const AnalyzeResult& r) {
    Table table({"layer", "op", "alone", "accumulated", "saturated"}, {0, 1});
    for (size_t i = 0; i < std::min<size_t>(5, r.ranking.size()); ++i) {
      const auto& l = r.layers[r.ranking[i]];
      table.Add({Shorten(l.node, 40), l.op, fmt::format("{:.1f} dB", l.local_sqnr_db),
                 fmt::format("{:.1f} dB", l.accumulated_sqnr_db),
                 fmt::format("{:.3f} %", 100 * l.saturated)});
    }
    table.Print();
  }

  void Verdict(const BenchResult& timed, const VerifyResult& verified, double seconds) const {
    const auto find = [&](const std::string& model, const std::string& recipe) {
      for (const Row& r : rows_) {
        if (r.model == model && r.recipe == recipe) return Metric(r.eval, "top1");
      }
      return 0.0;
    };
    fmt::print(
        "\nverdict: int8 {:.1f} % top-1 (float {:.1f} %), {}; with "
        "outliers naive int8 falls to "
        "{:.1f} %, smoothing gives {:.1f} %; simulated = real {}; {:.0f} s\n",
        100 * find("trained", "int8 default"), 100 * find("trained", "float32"),
        Speedup(timed, " on this CPU"), 100 * find("with outliers", "int8 naive"),
        100 * find("with outliers", "int8 naive + smoothing"),
        verified.holds ? "holds" : "DOES NOT HOLD", seconds);
  }

  fs::path from_, to_;
  const Common& common_;
  DataOptions calibration_, judged_;
  std::vector<Row> rows_;
  std::vector<std::string> written_;
};

}  // namespace

Command AddDemo(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "demo", "The whole road on a small network of the project's own, in under a minute");
  auto from = std::make_shared<std::string>(OCTET_DEMO_DIR);
  auto to = std::make_shared<std::string>("octet-demo");
  app->add_option("--from", *from, "Folder with model.onnx, labels.csv and images/");
  app->add_option("-o,--output-dir", *to, "Folder for the models it writes");
  return {app, [=, &common] { return Demo(*from, *to, common).Run(); }};
}

}  // namespace octet::cli
