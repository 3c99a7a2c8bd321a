#include "evaluate/run_timer.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kSampleSeconds = 1e-3;
constexpr double kWarmUpSeconds = 20e-3;  // of a turn, then as long of samples
constexpr double kLongRunSeconds = 0.2;   // of which the warm-up would be a few per cent
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

}  // namespace

TimeSummary SummarizeTimes(std::span<const double> seconds) {
  OCTET_INVARIANT(!seconds.empty());
  const auto median = [](std::vector<double> v) {
    std::sort(v.begin(), v.end());
    const size_t n = v.size();
    return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
  };
  TimeSummary s;
  s.median = median({seconds.begin(), seconds.end()});
  std::vector<double> deviations;
  for (double t : seconds) deviations.push_back(std::fabs(t - s.median));
  s.mad = median(std::move(deviations));
  s.best = *std::min_element(seconds.begin(), seconds.end());
  return s;
}

RunTimer::RunTimer(std::function<void()> run) : run_(std::move(run)) {
  const auto start = Clock::now();
  int64_t runs = 0;
  while (runs == 0 || SecondsSince(start) < kWarmUpSeconds) {
    run_();
    ++runs;
  }
  run_seconds_ = SecondsSince(start) / static_cast<double>(runs);
  repeats_ = std::max<int64_t>(1, static_cast<int64_t>(kSampleSeconds / run_seconds_));
}

void RunTimer::TakeTurn() {
  const auto begin = Clock::now();
  while (run_seconds_ < kLongRunSeconds && SecondsSince(begin) < kWarmUpSeconds) run_();
  double turn = 0;
  while (turn < kWarmUpSeconds) {
    const int64_t before = Interruptions();
    const auto start = Clock::now();
    for (int64_t i = 0; i < repeats_; ++i) run_();
    const double seconds = SecondsSince(start);
    (Interruptions() == before ? clean_ : interrupted_)
        .push_back(seconds / static_cast<double>(repeats_));
    turn += seconds;
  }
  total_ += turn;
}

bool RunTimer::Done(double seconds) const {
  if (clean_.size() >= kLeastSamples) return total_ >= seconds;
  return clean_.size() + interrupted_.size() >= kLeastSamples && total_ >= seconds * kMostPatience;
}

RunTimer::Result RunTimer::Finish() const {
  std::vector<double> times = clean_;
  Result r;
  r.interrupted = static_cast<int64_t>(interrupted_.size());
  if (!clean_.empty()) r.best_alone = *std::min_element(clean_.begin(), clean_.end());
  if (clean_.size() < kLeastSamples) {
    times.insert(times.end(), interrupted_.begin(), interrupted_.end());
    r.disturbed = r.interrupted > 0;
  }
  r.seconds = SummarizeTimes(times);
  r.samples = static_cast<int64_t>(times.size());
  r.runs = r.samples * repeats_;
  return r;
}

void TakeTurns(std::span<RunTimer> timers, double seconds,
               const std::function<void(double, double)>& progress) {
  const double total = seconds * static_cast<double>(timers.size());
  for (bool more = !timers.empty(); more;) {
    more = false;
    double spent = 0;
    for (RunTimer& timer : timers) {
      if (!timer.Done(seconds)) timer.TakeTurn();
      more = more || !timer.Done(seconds);
      spent += std::min(timer.total(), seconds);
    }
    if (progress) progress(spent, total);
  }
}

}  // namespace octet
