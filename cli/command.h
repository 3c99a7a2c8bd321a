// What the subcommands share: options, progress, tables, exit codes. The command line sees only
// octet/*.h.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "octet/octet.h"

namespace octet::cli {

using Json = nlohmann::ordered_json;

struct Common {
  bool json = false;
  int threads = 0;
};

// A subcommand: its options are declared by Add...(), its work is done by what that returns; the
// result is the process's exit code.
struct Command {
  CLI::App* app;
  std::function<int()> run;
};

Command AddInspect(CLI::App& root, Common& common);
Command AddCalibrate(CLI::App& root, Common& common);
Command AddQuantize(CLI::App& root, Common& common);
Command AddEval(CLI::App& root, Common& common);
Command AddAnalyze(CLI::App& root, Common& common);
Command AddVerify(CLI::App& root, Common& common);
Command AddAudit(CLI::App& root, Common& common);
Command AddBench(CLI::App& root, Common& common);
// octet bench linear, conv2d, quantize, suite.
std::vector<Command> AddOperatorBenches(CLI::App& bench, Common& common);
Command AddFormat(CLI::App& root, Common& common);
Command AddMultiplier(CLI::App& root, Common& common);
Command AddSweep(CLI::App& root, Common& common);
Command AddReport(CLI::App& root, Common& common);
Command AddRun(CLI::App& root, Common& common);
Command AddDemo(CLI::App& root, Common& common);
Command AddInfo(CLI::App& root, Common& common);

void AddCommonOptions(CLI::App* app, Common& common);
// --data, --preset, --samples, --skip, --resize, ...
void AddDataOptions(CLI::App* app, DataOptions& data, bool required);
// --shape NAME=1x3x224x224, for models with open sizes, and what to say where they stay open.
void AddShapeOption(CLI::App* app, InputShapes& shapes);
void PrintOpenInputs(const std::vector<std::string>& open_inputs);
// --allow-noise, for what calibrates.
void AddNoiseOption(CLI::App* app, DataOptions& data);

// Checks of numbers that name their one bound, not the largest of the type beside it.
[[nodiscard]] CLI::Validator AtLeast(int64_t least);
[[nodiscard]] CLI::Validator NotNegative();
[[nodiscard]] CLI::Validator AboveZero();

// Throws kInvalidArgument where the file to write is one of those read: it would be lost.
void CheckOutput(const std::string& output, const std::vector<std::string>& inputs);

inline constexpr int kExitCheckFailed = 7;
[[nodiscard]] int ExitCodeOf(ErrorCode code);
[[nodiscard]] std::string ExitCodeHelp();

// A bar with an estimate of the time left on a terminal; nothing elsewhere.
[[nodiscard]] Progress TerminalProgress();

// Columns aligned by their longest cell; the first column to the left, numbers (all others) to the
// right unless `left` says otherwise.
class Table {
 public:
  explicit Table(std::vector<std::string> header, std::vector<size_t> left = {0});
  void Add(std::vector<std::string> row);
  void Print() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<size_t> left_;
};

void PrintJson(const Json& json);
// A number as JSON: NaN and infinities become null.
[[nodiscard]] Json Number(double value);
[[nodiscard]] Json Number(const std::optional<double>& value);  // null where there is none

[[nodiscard]] std::string Shorten(const std::string& text, size_t width);
[[nodiscard]] std::string Seconds(double seconds);  // "1.23 ms"
[[nodiscard]] Json ToJson(const EvalResult& result);
void PrintEval(const EvalResult& result);
// A line where other processes took cores in so many samples that these had to count.
void PrintDisturbance(const std::string& row, bool disturbed, int64_t interrupted, int64_t samples);
// "2.50x as fast" + `as`; where other processes took cores, what can be said instead.
[[nodiscard]] std::string Speedup(const BenchResult& result, const std::string& as);
[[nodiscard]] Json ToJson(const BenchResult& result);
void PrintBench(const BenchResult& result);
[[nodiscard]] Json ToJson(const QuantizeResult& result);
void PrintQuantize(const QuantizeResult& result, bool all);

}  // namespace octet::cli
