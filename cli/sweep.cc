// octet sweep.
#include "octet/sweep.h"

#include <fmt/core.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>

#include "command.h"

namespace octet::cli {
namespace {

std::pair<int, int> ParseShard(const std::string& text) {
  int shard = 0, shards = 0;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, shard);
  const bool has_slash = first.ec == std::errc() && first.ptr != end && *first.ptr == '/';
  const auto second = has_slash ? std::from_chars(first.ptr + 1, end, shards) : first;
  if (!has_slash || second.ec != std::errc() || second.ptr != end)
    throw Error(ErrorCode::kInvalidArgument, "--shard " + text + ": expected I/N, such as 2/4");
  return {shard, shards};
}

// A folder gets the database under its usual name.
std::string DatabaseIn(const std::string& output) {
  const std::filesystem::path path(output);
  const bool is_file = path.extension() == ".db" || path.extension() == ".sqlite";
  return is_file ? output : (path / "sweep.db").string();
}

void PrintPoint(const SweepEvent& e) {
  const bool bar = isatty(STDERR_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  std::string figures;
  for (const char* name : {"top1", "kl", "cross-entropy"}) {
    const auto it = e.metrics.find(name);
    if (it != e.metrics.end()) figures += fmt::format("  {} {:.4f}", name, it->second.value);
  }
  if (e.metrics.contains("psnr") && figures.empty())
    figures = fmt::format("  psnr {:.2f}", e.metrics.at("psnr").value);
  if (!e.error.empty()) figures = "  " + e.status + ": " + e.error;
  fmt::print("{}[{}/{}] {} {}{}  ({})\n", bar ? "\r\033[K" : "", e.finished, e.total, e.model,
             e.label, figures, Seconds(e.seconds));
  std::fflush(stdout);
}

Json ToJson(const SweepSummary& s, const std::string& database) {
  return {{"database", database},   {"points", s.points},     {"duplicates", s.duplicates},
          {"excluded", s.excluded}, {"in_shard", s.in_shard}, {"before", s.before},
          {"done", s.done},         {"failed", s.failed},     {"refused", s.refused},
          {"jobs", s.jobs},         {"seconds", s.seconds}};
}

void PrintSummary(const SweepSummary& s, const std::string& database) {
  fmt::print("{} points", s.points);
  if (s.in_shard != s.points) fmt::print(", {} in this shard", s.in_shard);
  if (s.before > 0) fmt::print(", {} there before", s.before);
  fmt::print(": {} done", s.done);
  if (s.failed > 0) fmt::print(", {} failed", s.failed);
  if (s.refused > 0) fmt::print(", {} refused", s.refused);
  if (s.excluded > 0) fmt::print("; {} excluded", s.excluded);
  if (s.duplicates > 0) fmt::print("; {} were given twice", s.duplicates);
  fmt::print("; {} at once, {}\n", s.jobs, Seconds(s.seconds));
  fmt::print("octet report {} -o report.html shows them\n", database);
}

}  // namespace

Command AddSweep(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "sweep", "Quantize by every point of a grid over recipe keys, and judge each");
  app->footer(
      "Examples:\n  octet sweep sweep.yaml -o runs/formats\n"
      "  octet sweep sweep.yaml -o runs/formats --resume --csv points.csv\n"
      "  octet sweep sweep.yaml -o part2.db --shard 2/4\n"
      "  octet sweep --merge part1.db part2.db -o all.db\n"
      "docs/sweeps.md says what the YAML file may hold. A point that fails is recorded with its\n"
      "reason, and the others go on.");
  struct Args {
    std::string spec, output, shard = "1/1", csv;
    std::vector<std::string> merge;
    SweepOptions options;
  };
  auto a = std::make_shared<Args>();
  auto* spec = app->add_option("SWEEP", a->spec, "YAML file");
  app->add_option("-o,--output", a->output, "Database (.db), or a folder for sweep.db")->required();
  app->add_flag("--resume", a->options.resume, "Go on where an earlier run ended");
  app->add_flag("--retry-failed", a->options.retry_failed,
                "With --resume: points that failed once more");
  app->add_option("--shard", a->shard, "I/N: the I-th of N parts");
  app->add_option("--jobs", a->options.jobs, "Points at once; 0: as cores and memory allow")
      ->check(NotNegative());
  app->add_option("--memory", a->options.memory_gib, "GiB for all points at once; 0: what is free")
      ->check(NotNegative());
  app->add_option("--csv", a->csv, "Write the points of the database as CSV, too");
  app->add_option("--merge", a->merge, "Databases of shards to join instead")->excludes(spec);
  return {app, [=, &common] {
            const std::string database = DatabaseIn(a->output);
            SweepSummary summary;
            if (!a->merge.empty()) {
              MergeSweeps(a->merge, database);
            } else {
              if (a->spec.empty())
                throw Error(ErrorCode::kInvalidArgument, "sweep: expected SWEEP.yaml, or --merge");
              SweepOptions options = a->options;
              options.database = database;
              if (options.jobs == 0) options.jobs = common.threads;
              std::tie(options.shard, options.shards) = ParseShard(a->shard);
              options.progress = TerminalProgress();
              if (!common.json) options.on_point = PrintPoint;
              summary = RunSweep(a->spec, options);
            }
            if (!a->csv.empty()) WriteText(a->csv, SweepCsv(database));
            if (common.json) {
              Json j = Json::parse(SweepJson(database));
              j["summary"] = ToJson(summary, database);
              PrintJson(j);
            } else if (a->merge.empty()) {
              PrintSummary(summary, database);
            } else {
              fmt::print("{} databases merged into {}\n", a->merge.size(), database);
            }
            return summary.failed > 0 && summary.done == 0 && summary.before == 0 ? kExitCheckFailed
                                                                                  : 0;
          }};
}

}  // namespace octet::cli
