// A sample is one run that is not timed, which brings the row's data back into the caches after the
// other rows' turns, and as many that are as take about a millisecond. Rows take turns sample by
// sample, so that what the machine does besides falls on all of them. Samples in which the system
// took a core away from this process are left out, and more are taken, if enough others remain.
#include "evaluate/bench_ops/measure.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/bench.h"
#include "evaluate/peak.h"

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;
using ResultRow = OperatorBenchResult::Row;

constexpr double kSampleSeconds = 1e-3;
constexpr double kWarmUpSeconds = 5e-3;
constexpr size_t kLeastSamples = 7;
constexpr double kMostPatience = 4;  // times the seconds asked for, waiting for clean samples

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// How often a thread of this process lost its core to another process.
int64_t Interruptions() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

class Timer {
 public:
  explicit Timer(const BenchRow& row) : run_(row.run) {
    const auto start = Clock::now();
    int64_t runs = 0;
    while (runs == 0 || SecondsSince(start) < kWarmUpSeconds) {
      run_();
      ++runs;
    }
    const double one = SecondsSince(start) / static_cast<double>(runs);
    repeats_ = std::max<int64_t>(1, static_cast<int64_t>(kSampleSeconds / one));
  }

  void Sample() {
    if (repeats_ > 1) run_();  // a long run warms itself
    const int64_t before = Interruptions();
    const auto start = Clock::now();
    for (int64_t i = 0; i < repeats_; ++i) run_();
    const double seconds = SecondsSince(start);
    (Interruptions() == before ? clean_ : interrupted_)
        .push_back(seconds / static_cast<double>(repeats_));
    total_ += seconds;
  }
  [[nodiscard]] bool Done(double seconds) const {
    if (clean_.size() >= kLeastSamples) return total_ >= seconds;
    return samples() >= kLeastSamples && total_ >= seconds * kMostPatience;
  }
  [[nodiscard]] double total() const { return total_; }

  void Report(ResultRow& row) const {
    std::vector<double> times = clean_;
    row.interrupted = static_cast<int64_t>(interrupted_.size());
    if (clean_.size() < kLeastSamples) {
      times.insert(times.end(), interrupted_.begin(), interrupted_.end());
      row.disturbed = row.interrupted > 0;
    }
    const TimeSummary t = SummarizeTimes(times);
    row.median_s = t.median;
    row.mad_s = t.mad;
    row.best_s = t.best;
    row.samples = static_cast<int64_t>(times.size());
  }

 private:
  std::function<void()> run_;
  int64_t repeats_ = 1;
  std::vector<double> clean_, interrupted_;
  double total_ = 0;

  [[nodiscard]] size_t samples() const { return clean_.size() + interrupted_.size(); }
};

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
    const auto ours = best.find(row.data);
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
  std::vector<Timer> timers;
  std::vector<const BenchRow*> timed;
  for (const BenchRow& row : rows) {
    if (!row.missing.empty()) continue;
    timers.emplace_back(row);
    timed.push_back(&row);
  }
  auto last = Clock::now();
  const double total = seconds * static_cast<double>(timers.size());
  for (bool more = !timers.empty(); more;) {
    more = false;
    double spent = 0;
    for (Timer& timer : timers) {
      timer.Sample();
      more = more || !timer.Done(seconds);
      spent += std::min(timer.total(), seconds);
    }
    if (progress && (SecondsSince(last) > 0.25 || !more)) {
      last = Clock::now();
      progress({"bench", static_cast<int64_t>(spent * 1000), static_cast<int64_t>(total * 1000)});
    }
  }
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
    if (row.missing.empty()) timers[next++].Report(r);
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
