#include "evaluate/bench_ops/measure.h"

#include <algorithm>
#include <map>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/peak.h"
#include "evaluate/run_timer.h"

namespace octet {
namespace {

using ResultRow = OperatorBenchResult::Row;

using Peaks = std::map<PeakKind, OperatorBenchResult::Peak>;

void TakePeak(Peaks& peaks, PeakKind kind, const std::string& instruction, double gops) {
  if (gops <= 0) return;
  OperatorBenchResult::Peak& peak = peaks[kind];
  peak = {instruction, std::max(peak.gops, gops)};
}

// Taken before and after the rows: a shared or throttled machine is not the same for long. Bursts
// are shorter where rows are, too.
void TakePeaks(Peaks& peaks, int threads, double row_seconds) {
  const PeakRates now = MeasurePeak(threads, std::min(0.003, row_seconds / 50));
  TakePeak(peaks, PeakKind::kInt8, now.int8_instruction, now.int8_gops);
  TakePeak(peaks, PeakKind::kAmxInt8, now.amx_instruction, now.amx_gops);
  TakePeak(peaks, PeakKind::kFloat, now.float_instruction, now.float_gops);
}

// What rows are to each other: to float32, and peers to Octet's best on the same data.
void Compare(std::vector<ResultRow>& rows) {
  std::map<std::string, double> best;
  double float32 = 0;
  for (const ResultRow& row : rows) {
    if (row.peer || !row.missing.empty()) continue;
    if (row.name == "float32") float32 = row.median_s;
    const auto [at, fresh] = best.emplace(row.data, row.median_s);
    if (!fresh) at->second = std::min(at->second, row.median_s);
  }
  for (ResultRow& row : rows) {
    if (!row.missing.empty()) continue;
    if (float32 > 0) row.times_float32 = float32 / row.median_s;
    auto ours = best.find(row.data);
    // Octet's one row has no AMX in it already.
    if (ours == best.end() && row.data.ends_with(kWithoutAmx))
      ours = best.find(row.data.substr(0, row.data.size() - std::string(kWithoutAmx).size()));
    if (row.peer && ours != best.end()) row.octet_speed = row.median_s / ours->second;
  }
}

}  // namespace

std::vector<ResultRow> TimeRows(const std::vector<BenchRow>& rows, double seconds,
                                const Progress& progress) {
  for (const BenchRow& row : rows) {
    if (!row.missing.empty()) continue;
    row.run();
    row.verify();
  }
  std::vector<RunTimer> timers;
  for (const BenchRow& row : rows) {
    if (row.missing.empty()) timers.emplace_back(row.run);
  }
  TakeTurns(timers, seconds, [&](double spent, double of) {
    if (progress)
      progress({"bench", static_cast<int64_t>(spent * 1000), static_cast<int64_t>(of * 1000)});
  });
  std::vector<ResultRow> results;
  size_t next = 0;
  for (const BenchRow& row : rows) {
    ResultRow& r = results.emplace_back();
    r.name = row.name;
    r.data = row.data;
    r.peer = row.peer;
    r.kernel = row.kernel;
    r.missing = row.missing;
    r.packed_bytes = row.packed_bytes;
    r.scratch_bytes = row.scratch_bytes;
    r.refused = row.refused;
    if (!row.missing.empty()) continue;
    const RunTimer::Result t = timers[next++].Finish();
    r.median_s = t.seconds.median;
    r.mad_s = t.seconds.mad;
    r.best_s = t.seconds.best;
    r.samples = t.samples;
    r.interrupted = t.interrupted;
    r.disturbed = t.disturbed;
  }
  return results;
}

namespace {

OperatorBenchResult BenchInThreads(const DataPtr& data, int threads,
                                   const OperatorRequest& request) {
  const OperatorProblem& problem = data->problem;
  const ThreadScope scope(threads);
  const std::vector<BenchRow> rows = RowsOf(data, request.peers);
  OperatorBenchResult result;
  Peaks peaks;
  TakePeaks(peaks, threads, request.seconds);
  result.rows = TimeRows(rows, request.seconds, request.progress);
  TakePeaks(peaks, threads, request.seconds);
  Compare(result.rows);

  const bool computes = problem.macs() > 0;
  result.problem = problem.text;
  result.unit = computes ? "GOP/s" : "GB/s";
  result.cpu = CpuModelName();
  result.isa = IsaName(ActiveIsa());
  result.threads = MaxThreads();
  result.macs = problem.macs();
  for (size_t i = 0; i < rows.size(); ++i) {
    ResultRow& row = result.rows[i];
    if (!row.missing.empty()) continue;
    row.rate = (computes ? 2.0 * static_cast<double>(problem.macs()) : rows[i].bytes) /
               row.median_s * 1e-9;
    const auto peak = peaks.find(rows[i].peak);
    if (peak == peaks.end()) continue;
    row.peak = peak->second.instruction;
    row.peak_fraction = row.rate / peak->second.gops;
  }
  for (const auto& [kind, peak] : peaks) result.peaks.push_back(peak);
  return result;
}

}  // namespace

std::vector<OperatorBenchResult> BenchProblem(const OperatorProblem& problem,
                                              const OperatorRequest& request) {
  if (!(request.seconds > 0)) {
    Fail(ErrorCode::kInvalidArgument, "bench: seconds is ", request.seconds,
         ", expected more than 0");
  }
  const auto data = MakeOperatorData(problem);
  std::vector<OperatorBenchResult> results;
  for (int threads : request.threads) results.push_back(BenchInThreads(data, threads, request));
  return results;
}

}  // namespace octet
